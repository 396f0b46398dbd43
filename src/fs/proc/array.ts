/**
 * /proc/PID/{status,stat,statm}: a simulated process in words and in numbers.
 *
 * A kernel lists the lines of its status; STATUS_LINES knows those of every kernel. Linux:
 * fs/proc/array.c, fs/proc/task_mmu.c (task_mem). Differs: what is not modelled (signals, CPU time,
 * capabilities of ordinary users, name spaces) prints what an idle process of root shows.
 */
import type { SeqFile } from '../../lib/seq_file.ts';
import {
  EXIT_ZOMBIE,
  get_mm_rss,
  MM_ANONPAGES,
  MM_FILEPAGES,
  MM_SWAPENTS,
  type MmStruct,
  TASK_RUNNING,
  type Task,
} from '../../mm/mm_types.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { PTRS_PER_PTE } from '../../mm/page_table.ts';
import { pages_kb } from './task_mmu.ts';

/** `%*pb` of the first `n` bits: 32-bit groups, all of them on a kernel for up to 64. */
function mask_text(bits: number): string {
  let text = '';
  for (let low = Math.max(0, Math.ceil(bits / 32) - 1) * 32; low >= 0; low -= 32) {
    const width = Math.min(32, bits - low);
    const group = width === 32 ? 0xffffffff : 2 ** width - 1;
    text += (text === '' ? '' : ',') + group.toString(16).padStart(text === '' ? 1 : 8, '0');
  }
  return text;
}

const list_text = (bits: number): string => (bits === 1 ? '0' : `0-${bits - 1}`);

const state_text = (task: Task): string =>
  task.state === TASK_RUNNING
    ? 'R (running)'
    : task.state === EXIT_ZOMBIE
      ? 'Z (zombie)'
      : 'S (sleeping)';

/** A task that still has its memory. */
export interface Shown {
  readonly m: Machine;
  readonly task: Task;
  readonly mm: MmStruct;
}

const code_kb = ({ m, mm }: Shown): number => pages_kb(m, mm.end_code - mm.start_code);
const constant = (text: string) => (): string => text;
const pid = ({ task }: Shown): string => `${task.pid}`;
const SIGNALS_NONE = constant('0'.repeat(16));

/** What stands behind each label of status; a number is a size in KiB. */
const STATUS_LINES = {
  Name: ({ task }: Shown) => task.comm,
  Umask: constant('0022'),
  State: ({ task }: Shown) => state_text(task),
  Tgid: pid,
  Ngid: constant('0'),
  Pid: pid,
  PPid: ({ task }: Shown) => `${task.ppid}`,
  TracerPid: constant('0'),
  Uid: constant('0\t0\t0\t0'),
  Gid: constant('0\t0\t0\t0'),
  FDSize: constant('64'),
  Groups: constant(''),
  NStgid: pid,
  NSpid: pid,
  NSpgid: pid,
  NSsid: pid,
  VmPeak: ({ m, mm }: Shown) => pages_kb(m, Math.max(mm.hiwater_vm, mm.total_vm)),
  VmSize: ({ m, mm }: Shown) => pages_kb(m, mm.total_vm),
  VmLck: ({ m, mm }: Shown) => pages_kb(m, mm.locked_vm),
  VmPin: () => 0,
  VmHWM: ({ m, mm }: Shown) => pages_kb(m, Math.max(mm.hiwater_rss, get_mm_rss(mm))),
  VmRSS: ({ m, mm }: Shown) => pages_kb(m, get_mm_rss(mm)),
  RssAnon: ({ m, mm }: Shown) => pages_kb(m, mm.rss_stat[MM_ANONPAGES]!),
  RssFile: ({ m, mm }: Shown) => pages_kb(m, mm.rss_stat[MM_FILEPAGES]!),
  RssShmem: () => 0,
  VmData: ({ m, mm }: Shown) => pages_kb(m, mm.total_vm - mm.shared_vm - mm.stack_vm),
  VmStk: ({ m, mm }: Shown) => pages_kb(m, mm.stack_vm),
  VmExe: code_kb,
  VmLib: (shown: Shown) => pages_kb(shown.m, shown.mm.exec_vm) - code_kb(shown),
  VmPTE: ({ mm }: Shown) => (PTRS_PER_PTE * 8 * mm.nr_ptes) / 1024,
  VmSwap: ({ m, mm }: Shown) => pages_kb(m, mm.rss_stat[MM_SWAPENTS]!),
  HugetlbPages: ({ m, mm }: Shown) => pages_kb(m, mm.hugetlb_usage),
  CoreDumping: constant('0'),
  THP_enabled: constant('1'),
  Threads: constant('1'),
  SigQ: ({ m }: Shown) => `0/${Math.floor(m.totalram_pages / 8 / 2)}`,
  SigPnd: SIGNALS_NONE,
  ShdPnd: SIGNALS_NONE,
  SigBlk: SIGNALS_NONE,
  SigIgn: SIGNALS_NONE,
  SigCgt: SIGNALS_NONE,
  CapInh: SIGNALS_NONE,
  CapPrm: constant('f'.repeat(16)),
  CapEff: constant('f'.repeat(16)),
  CapBnd: constant('f'.repeat(16)),
  CapAmb: SIGNALS_NONE,
  NoNewPrivs: constant('0'),
  Seccomp: constant('0'),
  Seccomp_filters: constant('0'),
  Speculation_Store_Bypass: constant('thread vulnerable'),
  SpeculationIndirectBranch: constant('conditional enabled'),
  Cpus_allowed: ({ m }: Shown) => mask_text(m.shape.nr_cpus),
  Cpus_allowed_list: ({ m }: Shown) => list_text(m.shape.nr_cpus),
  Mems_allowed: ({ m }: Shown) => mask_text(m.nodes.length),
  Mems_allowed_list: ({ m }: Shown) => list_text(m.nodes.length),
  voluntary_ctxt_switches: constant('0'),
  nonvoluntary_ctxt_switches: constant('0'),
} satisfies Record<string, (shown: Shown) => number | string>;

/** A label, or a label and what this kernel prints behind it for an idle process of root. */
export type StatusLine = keyof typeof STATUS_LINES | readonly [keyof typeof STATUS_LINES, string];

/** fs/proc/array.c: proc_pid_status. */
export function show_status(seq: SeqFile, shown: Shown, lines: readonly StatusLine[]): void {
  for (const line of lines) {
    const label = typeof line === 'string' ? line : line[0];
    const value = typeof line === 'string' ? STATUS_LINES[line](shown) : line[1];
    seq.puts(`${label}:\t`);
    if (typeof value === 'number') seq.put_dec(value, 8).puts(' kB\n');
    else seq.puts(`${value}\n`);
  }
}

/** fs/proc/array.c: do_task_stat. `tail` is what later kernels print behind guest time. */
export function show_stat(seq: SeqFile, { m, task, mm }: Shown, tail: string): void {
  const page = 2 ** m.shape.page_shift;
  const state = state_text(task)[0]!;
  seq.puts(`${task.pid} (${task.comm}) ${state} ${task.ppid} ${task.pid} ${task.pid} 0 -1 0 `);
  seq.puts(`${task.min_flt} 0 ${task.maj_flt} 0 0 0 0 0 20 0 1 0 `);
  // Start time in clock ticks of 10 ms, whatever HZ is.
  seq.puts(`${Math.floor(task.start_time / 10)} ${mm.total_vm * page} ${get_mm_rss(mm)} `);
  seq.puts(`18446744073709551615 ${mm.start_code * page} ${mm.end_code * page} `);
  seq.puts(`${mm.start_stack * page} 0 0 0 0 0 0 0 0 0 17 ${m.this_cpu} 0 0 0 0 0${tail}\n`);
}

/** Pages: size, resident, file, text, 0, data, 0 (fs/proc/array.c: proc_pid_statm). */
export function show_statm(seq: SeqFile, { mm }: Shown): void {
  const shared = mm.rss_stat[MM_FILEPAGES]!;
  seq.puts(`${mm.total_vm} ${shared + mm.rss_stat[MM_ANONPAGES]!} ${shared} `);
  seq.puts(`${mm.end_code - mm.start_code} 0 ${mm.total_vm - mm.shared_vm} 0\n`);
}
