/**
 * The directory /proc/PID of each simulated process, and its files.
 *
 * A row's object is the Task; a file that is still open when its process has exited fails with
 * ESRCH. The order of the files is that of tgid_base_stuff. Linux: fs/proc/base.c.
 */
import { EINVAL, ESRCH } from '../../lib/errno.ts';
import type { FileRow, RowContext, RowDirectory } from '../../lib/file_row.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import type { MmStruct, Task } from '../../mm/mm_types.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { type Shown, type StatusLine, show_stat, show_statm, show_status } from './array.ts';
import {
  type PagemapFormat,
  pagemap_read,
  type SmapLine,
  show_maps,
  show_numa_map,
  show_smap,
} from './task_mmu.ts';

/** What a kernel decides about the files of a process. */
export interface ProcPidFormat {
  /** Permissions of the page of vsyscalls in maps. */
  readonly gate_vma: string;
  readonly smaps: readonly SmapLine[];
  readonly status: readonly StatusLine[];
  /** What stat has behind the guest time: a space and numbers, or nothing. */
  stat_tail(m: Machine, mm: MmStruct): string;
  readonly pagemap: PagemapFormat;
}

const DIR = '/proc/{pid}';

/** A row's show for processes that still have their memory. */
function shown(show: (seq: SeqFile, of: Shown) => void) {
  return (seq: SeqFile, m: Machine, ctx: RowContext): number => {
    const task = ctx.object as Task;
    const { mm } = task;
    if (mm === null) return -ESRCH;
    show(seq, { m, task, mm });
    return 0;
  };
}

const rows = (format: ProcPidFormat): readonly FileRow<Machine>[] => [
  {
    path: `${DIR}/status`,
    mode: 0o444,
    show: shown((seq, of) => show_status(seq, of, format.status)),
    doc: 'name, state, sizes in KiB',
  },
  {
    path: `${DIR}/comm`,
    mode: 0o644,
    show: shown((seq, { task }) => seq.puts(`${task.comm}\n`)),
    // Only a process itself may change it.
    store: () => -EINVAL,
    doc: 'name of the process',
  },
  {
    path: `${DIR}/cmdline`,
    mode: 0o444,
    show: shown((seq, { task }) => seq.puts(`${task.cmdline.split(' ').join('\0')}\0`)),
    doc: 'what was spawned, words separated by NUL',
  },
  {
    path: `${DIR}/stat`,
    mode: 0o444,
    show: shown((seq, of) => show_stat(seq, of, format.stat_tail(of.m, of.mm))),
    doc: 'the same in one line of numbers',
  },
  {
    path: `${DIR}/statm`,
    mode: 0o444,
    show: shown(show_statm),
    doc: 'sizes in pages: total, resident, file, text, 0, data, 0',
  },
  {
    path: `${DIR}/maps`,
    mode: 0o444,
    show: shown((seq, { m, mm }) => show_maps(seq, m, mm, format.gate_vma)),
    doc: 'areas of the address space',
  },
  {
    path: `${DIR}/numa_maps`,
    mode: 0o444,
    show: shown((seq, { m, mm }) => {
      for (const vma of mm.mmap) show_numa_map(seq, m, vma);
    }),
    when: (m) => m.shape.numa,
    doc: 'areas with memory policy and pages per node',
  },
  {
    path: `${DIR}/smaps`,
    mode: 0o444,
    show: shown((seq, { m, mm }) => {
      for (const vma of mm.mmap) show_smap(seq, m, vma, format.smaps);
    }),
    doc: 'areas with resident, shared, private and swapped sizes',
  },
  {
    path: `${DIR}/pagemap`,
    mode: 0o400,
    read_at(m, pos, buf, ctx) {
      const { mm } = ctx.object as Task;
      return mm === null ? -ESRCH : pagemap_read(m, mm, pos, buf, format.pagemap);
    },
    doc: 'a 64-bit entry for each virtual page: frame or swap slot',
  },
];

/** /proc/PID of all simulated processes, as a kernel prints it. */
export const proc_pid_directory = (format: ProcPidFormat): RowDirectory<Machine> => ({
  path: DIR,
  mode: 0o555,
  names: (m) => [...m.tasks.keys()].sort((a, b) => a - b).map(String),
  find(m, name) {
    if (!/^[1-9][0-9]{0,5}$/.test(name)) return null;
    return m.tasks.get(Number(name)) ?? null;
  },
  rows: rows(format),
});
