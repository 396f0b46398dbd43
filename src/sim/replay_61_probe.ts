/**
 * Replays recorded reads and writes of control files of 6.1: modes, what opening, reading and writing
 * returns, what a file holds afterwards, and whether a compaction was started.
 *
 * The files are those of a freshly booted machine with as many nodes, so of a text that depends on
 * memory only the mode is compared. One record is one check. Schema: debian-6.1/verbatim, probe.jsonl.
 */
import { EACCES, EINVAL, EIO } from '../lib/errno.ts';
import type { FileRow, RowContext } from '../lib/file_row.ts';
import { is_job, run_job } from '../lib/kthread.ts';
import { SeqFile } from '../lib/seq_file.ts';
import { boot } from '../machine.ts';
import type { KernelProfile, Machine, Shape } from '../mm/mmzone.ts';
import { COMPACTMIGRATE_SCANNED } from '../mm/vmstat.ts';
import type { Tally } from './replay.ts';

interface Probe {
  t: 'read' | 'write';
  path: string;
  /** Octal digits. */
  mode?: string;
  /** Why it could not be opened. */
  open?: string;
  data?: string;
  /** Bytes taken, or an errno's name. */
  write?: number | string;
  before?: string;
  after?: string;
  compaction_ran?: boolean;
}

const ERRNO: Record<string, number> = { EACCES, EINVAL, EIO };

/** True when the first record of a file is a probe of a control file. */
export function is_probe_61(first: Record<string, unknown>): boolean {
  const t = first['t'];
  return (t === 'read' || t === 'write') && typeof first['path'] === 'string' && 'mode' in first;
}

function context(id: number): RowContext {
  return { id, object: null, caller: { uid: 0, gid: 0, pid: 1 }, pos: 0, data: null };
}

function find_row(m: Machine, path: string): { row: FileRow<Machine> | undefined; id: number } {
  const node = /\/node(\d+)\//.exec(path);
  const generic = path.replace(/\/node\d+\//, '/node{nid}/');
  const row = m.kernel.files.find((file) => file.path === generic);
  return { row, id: node === null ? -1 : Number(node[1]) };
}

function text_of(m: Machine, row: FileRow<Machine>, id: number): string {
  const seq = new SeqFile();
  row.show!(seq, m, context(id));
  return seq.text();
}

function check_read(probe: Probe, row: FileRow<Machine>): string | null {
  const mode = row.mode.toString(8);
  if (probe.mode !== undefined && mode !== probe.mode)
    return `mode: recorded ${probe.mode}, ours ${mode}`;
  // Even root is refused by a mode that lets nobody read.
  const refused = (row.mode & 0o400) === 0 ? 'EACCES' : undefined;
  return refused === probe.open ? null : `open: recorded ${probe.open}, ours ${refused}`;
}

function check_write(m: Machine, probe: Probe, row: FileRow<Machine>, id: number): string | null {
  const scanned = m.vm_events[COMPACTMIGRATE_SCANNED]!;
  if (row.store === undefined) {
    // What then is returned is decided by the kind of file (fs/kernfs.ts).
    const refused = probe.open !== undefined || typeof probe.write === 'string';
    return refused ? null : 'recorded as writable, ours is not';
  }
  const result = row.store(m, probe.data ?? '', context(id));
  const ours = is_job(result) ? run_job(result) : result;
  const recorded = typeof probe.write === 'string' ? -ERRNO[probe.write]! : probe.write;
  if (ours !== recorded) return `write: recorded ${probe.write}, ours ${ours}`;
  const ran = m.vm_events[COMPACTMIGRATE_SCANNED]! > scanned;
  if (probe.compaction_ran !== undefined && ran !== probe.compaction_ran) {
    return `compaction: recorded ${probe.compaction_ran}, ours ${ran}`;
  }
  if (probe.after === undefined || row.show === undefined) return null;
  const after = text_of(m, row, id);
  // A pool that cannot be as large as asked has what memory gives.
  const asked = Number(probe.data);
  if (asked > 0 && Number(probe.after) < asked && Number(after) < asked) return null;
  return after === probe.after ? null : `afterwards: recorded ${probe.after}, ours ${after}`;
}

export function verify_probes_61(
  records: readonly Record<string, unknown>[],
  _kernel: KernelProfile,
  _shape: Shape,
  tally: Tally,
): void {
  const m = boot({ kernel: '6.1', memory: 768 * 2 ** 20, nodes: 2 });
  records.forEach((r, i) => {
    const probe = r as unknown as Probe;
    const { row, id } = find_row(m, probe.path);
    let diff: string | null = 'there is no such file';
    if (row !== undefined) {
      diff = probe.t === 'read' ? check_read(probe, row) : check_write(m, probe, row, id);
    }
    tally.check(`record ${i + 1} ${probe.path}`, diff);
  });
}
