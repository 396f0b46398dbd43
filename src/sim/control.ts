/**
 * The files under /sys/kernel/debug/pageblock by which a machine is steered: with echo and cat, by
 * `pageblock spawn` and by library callers alike.
 *
 * Differs from anything in Linux: these files are ours. Reading `spawn` at offset 0 gives the pids
 * that the last write started, one a line; before the first write, what can be written; after a
 * failed one, why it failed.
 */
import { EINVAL, ESRCH } from '../lib/errno.ts';
import type { FileRow } from '../lib/file_row.ts';
import type { Job } from '../lib/kthread.ts';
import { do_exit_job } from '../mm/fork.ts';
import { get_mm_rss, MM_SWAPENTS, PID_MAX_DEFAULT, type Task } from '../mm/mm_types.ts';
import type { Machine } from '../mm/mmzone.ts';
import { global_page_state, NR_FREE_PAGES } from '../mm/vmstat.ts';
import { open_for_map } from './open_for_map.ts';
import { spawn_workload, WORKLOAD_HELP } from './workload.ts';

const DIR = '/sys/kernel/debug/pageblock';

function* spawn_store(m: Machine, text: string): Job {
  const err = yield* spawn_workload(m, text.trim(), open_for_map);
  return err < 0 ? err : text.length;
}

function spawn_text(m: Machine): string {
  if (m.spawn.error !== '') return `error: ${m.spawn.error}\n`;
  if (m.spawn.pids.length === 0) return WORKLOAD_HELP;
  return m.spawn.pids.map((pid) => `${pid}\n`).join('');
}

/** The processes whose pids the text lists, all of which must exist; or -EINVAL, -ESRCH. */
function parse_pids(m: Machine, text: string): Task[] | number {
  const tasks: Task[] = [];
  for (const word of text.trim().split(/\s+/)) {
    if (!/^\d+$/.test(word) || Number(word) > PID_MAX_DEFAULT) return -EINVAL;
    const task = m.tasks.get(Number(word));
    if (task === undefined) return -ESRCH;
    tasks.push(task);
  }
  return tasks;
}

const SIGKILL = 9;

function* kill_store(m: Machine, text: string): Job {
  const tasks = parse_pids(m, text);
  if (typeof tasks === 'number') return tasks;
  for (const task of tasks) yield* do_exit_job(m, task, SIGKILL);
  return text.length;
}

const kb = (m: Machine, pages: number): number => pages * 2 ** (m.shape.page_shift - 10);

function process_line(m: Machine, task: Task): string {
  const mm = task.mm!;
  const numbers = [
    task.pid,
    task.ppid,
    kb(m, mm.total_vm),
    kb(m, get_mm_rss(mm)),
    kb(m, mm.locked_vm),
    kb(m, mm.rss_stat[MM_SWAPENTS]!),
    task.min_flt,
    task.maj_flt,
  ];
  return `${numbers.map((n) => String(n).padStart(9)).join(' ')} ${task.comm}\n`;
}

function processes_text(m: Machine): string {
  const titles = ['pid', 'ppid', 'size_kb', 'rss_kb', 'locked_kb', 'swap_kb', 'minflt', 'majflt'];
  let text = `${titles.map((title) => title.padStart(9)).join(' ')} name\n`;
  for (const task of [...m.tasks.values()].sort((a, b) => a.pid - b.pid)) {
    if (task.mm !== null) text += process_line(m, task);
  }
  return text;
}

function status_text(m: Machine): string {
  const { shape } = m;
  const free = kb(m, global_page_state(m, NR_FREE_PAGES));
  let text = `kernel: ${m.kernel.name}${shape.compaction ? '' : ' without compaction'}\n`;
  text += `machine: ${shape.machine}, ${m.nodes.length} node${m.nodes.length === 1 ? '' : 's'}, `;
  text += `${shape.nr_cpus} CPU${shape.nr_cpus === 1 ? '' : 's'}, `;
  text += `${2 ** (shape.page_shift - 10)} KiB pages\n`;
  text += `memory: ${kb(m, m.totalram_pages)} kB, ${free} kB free\n`;
  text += `uptime: ${(m.clock.now_ms / 1000).toFixed(3)} s\n`;
  text += `processes: ${m.tasks.size}\n`;
  if (m.spawn.error !== '') text += `spawn_error: ${m.spawn.error}\n`;
  return text;
}

/** Rows that src/mount_root.ts adds to the kernel's. */
export const control_files: readonly FileRow<Machine>[] = [
  {
    path: `${DIR}/spawn`,
    mode: 0o600,
    show: (seq, m) => void seq.puts(spawn_text(m)),
    store: spawn_store,
    doc: 'a line starts a simulated process; reading gives the pids started last',
  },
  {
    path: `${DIR}/kill`,
    mode: 0o200,
    store: kill_store,
    doc: 'pids of simulated processes to end',
  },
  {
    path: `${DIR}/processes`,
    mode: 0o444,
    show: (seq, m) => void seq.puts(processes_text(m)),
    doc: 'simulated processes: sizes in KiB, faults, name',
  },
  {
    path: `${DIR}/status`,
    mode: 0o444,
    show: (seq, m) => void seq.puts(status_text(m)),
    doc: 'the machine, its uptime, why the last spawn failed',
  },
];
