/**
 * What a write to a file of /proc/sys/vm returns in 6.1, against recorded cases: of 6.1 itself
 * (probe.jsonl), and of a current kernel (host-6.18) for the entries that have not changed since.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hugetlb_init } from '../../src/kernels/linux-6.1/hugetlb.ts';
import { linux_6_1 } from '../../src/kernels/linux-6.1/profile.ts';
import { init_sysctls } from '../../src/kernels/linux-6.1/sysctl.ts';
import { init_lowmem_reserve_ratio } from '../../src/kernels/linux-6.1/watermark.ts';
import { EINVAL, ENOMEM, ERANGE } from '../../src/lib/errno.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { SeqFile } from '../../src/lib/seq_file.ts';
import { add_to_free_list } from '../../src/mm/buddy.ts';
import { MIGRATE_MOVABLE } from '../../src/mm/gfp.ts';
import { assemble_machine } from '../../src/mm/mm_init.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { COMPACTMIGRATE_SCANNED, NR_FREE_PAGES } from '../../src/mm/vmstat.ts';
import { SHAPE_61 } from '../../src/sim/replay_61_state.ts';
import { read_lines, read_records } from '../golden/recordings.ts';

const ERRNO: Record<string, number> = { EINVAL, ENOMEM, ERANGE };
const NODE_PAGES = 65536;

/** Two nodes with nothing in use. */
function machine(): Machine {
  const m = assemble_machine({
    shape: SHAPE_61,
    kernel: linux_6_1,
    zones: [0, 1].map((nid) => ({
      nid,
      zone_idx: SHAPE_61.ZONE_NORMAL,
      start_pfn: (1 + nid) * NODE_PAGES,
      spanned_pages: NODE_PAGES,
      present_pages: NODE_PAGES,
    })),
  });
  for (const zone of m.populated_zones) {
    for (let pfn = zone.zone_start_pfn; pfn < zone.zone_start_pfn + NODE_PAGES; pfn += 1024) {
      add_to_free_list(m, zone, pfn, 10, MIGRATE_MOVABLE, true);
    }
    zone.vm_stat[NR_FREE_PAGES] = NODE_PAGES;
  }
  hugetlb_init(m);
  init_lowmem_reserve_ratio(m);
  init_sysctls(m);
  m.sysctl['min_free_kbytes'] = 35508;
  m.kernel.setup_per_zone_wmarks(m);
  return m;
}

interface Case {
  t?: string;
  path: string;
  /** probe.jsonl: what is written; the outcome in `write`. */
  data?: string;
  write: string | number | { rle: [string, number][] };
  /** host-6.18: what is written in `write`, the outcome here. */
  ret?: number;
  errno?: string;
  offset?: number;
  before?: string;
  after?: string;
  compaction_ran?: boolean;
  open?: string;
}

/** Long texts are recorded as runs of one character. */
function text_of(data: Case['write']): string {
  if (typeof data !== 'object') return String(data);
  return data.rle.map(([c, n]) => c.repeat(n)).join('');
}

/** The row for a path, and the node in it. */
function find_row(m: Machine, path: string) {
  const node = /\/node(\d+)\//.exec(path);
  const generic = path.replace(/\/node\d+\//, '/node{nid}/');
  const row = m.kernel.files.find((file) => file.path === generic);
  return { row, id: node === null ? -1 : Number(node[1]) };
}

function context(id: number, pos: number) {
  return { id, object: null, caller: { uid: 0, gid: 0, pid: 1 }, pos, data: null };
}

/** What write(2) returns. */
function write(m: Machine, path: string, text: string, pos = 0): number {
  const { row, id } = find_row(m, path);
  assert.ok(row?.store !== undefined, `${path} cannot be written`);
  const result = row.store(m, text, context(id, pos));
  return is_job(result) ? run_job(result) : result;
}

function cat(m: Machine, path: string): string {
  const { row, id } = find_row(m, path);
  const seq = new SeqFile();
  row!.show!(seq, m, context(id, 0));
  return seq.text();
}

test('every recorded write to control files of 6.1', () => {
  const m = machine();
  let checked = 0;
  for (const probe of read_records('debian-6.1/verbatim/probe.jsonl') as Case[]) {
    if (probe.t !== 'write' || probe.open !== undefined) continue;
    const { row } = find_row(m, probe.path);
    if (row?.store === undefined) continue; // read-only: fs/kernfs.ts knows what that returns
    const label = `${probe.path} ${JSON.stringify(probe.data)}`;
    const scanned = m.vm_events[COMPACTMIGRATE_SCANNED]!;
    const expected =
      typeof probe.write === 'string' ? -ERRNO[probe.write]! : (probe.write as number);
    assert.equal(write(m, probe.path, probe.data!), expected, label);
    if (probe.compaction_ran !== undefined) {
      assert.equal(m.vm_events[COMPACTMIGRATE_SCANNED]! > scanned, probe.compaction_ran, label);
    }
    // How large a pool gets depends on the machine.
    if (probe.after !== undefined && probe.data !== '100000\n') {
      assert.equal(cat(m, probe.path), probe.after, label);
    }
    checked++;
  }
  assert.ok(checked > 40, `${checked} checked`);
});

/** Entries that 6.1 lacks, or that behave in another way (reference 9.4, 9.6). */
const CHANGED = ['defrag_mode', 'vfs_cache_pressure_denom'];

test('the cases of a current kernel, for the entries that are the same', () => {
  const m = machine();
  let checked = 0;
  let path = '';
  for (const c of read_records('host-6.18/errno_proc_sys_vm.jsonl') as Case[]) {
    const name = c.path.slice('/proc/sys/vm/'.length);
    if (CHANGED.includes(name)) continue;
    if (c.path !== path) {
      path = c.path;
      // The cases write the host's own value, which each begins with.
      const { row } = find_row(m, path);
      assert.ok(row !== undefined, `${path} is absent`);
    }
    const text = text_of(c.write);
    // The recorder put the old value back after each case.
    if (c.before !== undefined) write(m, c.path, c.before);
    const expected = c.errno !== undefined ? -ERRNO[c.errno]! : c.ret!;
    const label = `${c.path} ${JSON.stringify(text.slice(0, 60))} at ${c.offset ?? 0}`;
    assert.equal(write(m, c.path, text, c.offset ?? 0), expected, label);
    if (c.after !== undefined && !name.startsWith('nr_hugepages')) {
      const after = c.after.endsWith('\n') ? c.after : c.after + '\n';
      assert.equal(cat(m, c.path), after, label);
    }
    checked++;
  }
  assert.ok(checked > 900, `${checked} checked`);
});

test('the cases of a current kernel for the pool of 2 MiB pages', () => {
  const m = machine();
  let checked = 0;
  for (const c of read_records('host-6.18/errno_sysfs_mm.jsonl') as Case[]) {
    if (!c.path.includes('/hugepages-2048kB/') || c.open !== undefined) continue;
    const { row } = find_row(m, c.path);
    const text = text_of(c.write);
    // Of no text, or more than a page, fs/kernfs.ts knows what happens.
    if (row?.store === undefined || text.length === 0 || text.length > 4096) continue;
    if (c.before !== undefined) write(m, c.path, c.before);
    const expected = c.errno !== undefined ? -ERRNO[c.errno]! : c.ret!;
    const label = `${c.path} ${JSON.stringify(text.slice(0, 60))}`;
    assert.equal(write(m, c.path, text, c.offset ?? 0), expected, label);
    if (c.after !== undefined) assert.equal(cat(m, c.path), c.after, label);
    checked++;
  }
  assert.ok(checked > 40, `${checked} checked`);
});

/** Files of KSM that 6.1 does not have yet (reference 10.4). */
const NEWER_KSM =
  /\/(advisor_|smart_scan|general_profit|ksm_zero_pages|pages_scanned|pages_skipped)/;

test('the cases of a current kernel for the files of KSM, and their values and modes', () => {
  const m = machine();
  let checked = 0;
  for (const c of read_records('host-6.18/errno_sysfs_mm.jsonl') as Case[]) {
    if (!c.path.includes('/mm/ksm/') || NEWER_KSM.test(c.path) || c.open !== undefined) continue;
    const { row } = find_row(m, c.path);
    const text = text_of(c.write);
    if (row?.store === undefined || text.length === 0 || text.length > 4096) continue;
    const expected = c.errno !== undefined ? -ERRNO[c.errno]! : c.ret!;
    const label = `${c.path} ${JSON.stringify(text.slice(0, 60))}`;
    assert.equal(write(m, c.path, text, c.offset ?? 0), expected, label);
    if (c.after !== undefined) {
      assert.equal(cat(m, c.path), c.after, label);
      write(m, c.path, c.before!);
    }
    checked++;
  }
  assert.ok(checked > 130, `${checked} checked`);
  const fresh = machine();
  const rows = fresh.kernel.files.filter((row) => row.path.startsWith('/sys/kernel/mm/ksm/'));
  const ours = rows.map((row) => {
    const value = JSON.stringify(cat(fresh, row.path));
    return `0${row.mode.toString(8)} f ${row.path} size=4096 ${value}`;
  });
  const recorded = read_lines('host-6.18/ksm_tree.txt').slice(1);
  assert.deepEqual(ours.sort(), recorded.filter((line) => !NEWER_KSM.test(line)).sort());
});

test('every entry of a booted 6.1 has its recorded value', () => {
  const m = machine();
  const values = read_lines('debian-6.1/verbatim/sys-vm.values');
  for (const line of values) {
    const [path, value] = line.split(' = ') as [string, string];
    // Depend on the machine, or cannot be read.
    if (/min_free_kbytes|user_reserve_kbytes|stat_refresh/.test(path)) continue;
    if (value.startsWith('cat:')) continue;
    assert.equal(cat(m, path), value.replace(/\|$/, '\n'), path);
  }
});

test('limits of shared memory: none to speak of', () => {
  const m = machine();
  assert.equal(cat(m, '/proc/sys/kernel/shmmax'), '18446744073692774399\n');
  assert.equal(cat(m, '/proc/sys/kernel/shmmni'), '4096\n');
  assert.equal(write(m, '/proc/sys/kernel/shmmax', '1234\n'), 5);
  assert.equal(cat(m, '/proc/sys/kernel/shmmax'), '1234\n');
});

test('the modes are the recorded ones, and no entry is missing', () => {
  const m = machine();
  const rows = m.kernel.files.filter((row) => row.path.startsWith('/proc/sys/vm/'));
  const modes = new Map<string, string>();
  for (const line of read_lines('debian-6.1/verbatim/sys-vm.ls')) {
    const fields = /^(\S+).* (\S+)$/.exec(line)!;
    if (line.startsWith('total')) continue;
    modes.set(fields[2]!, fields[1]!);
  }
  const text = (mode: number): string =>
    '-' + [...'rwxrwxrwx'].map((c, i) => ((mode >> (8 - i)) & 1 ? c : '-')).join('');
  const ours = new Map(rows.map((row) => [row.path.slice(13), text(row.mode)]));
  assert.deepEqual([...ours].sort(), [...modes].sort());
});
