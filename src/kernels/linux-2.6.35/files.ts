/**
 * All virtual files of 2.6.35 under /proc and /sys, in the order of their directories.
 *
 * The small ones without a file of their own are here. Linux: fs/proc/{version,uptime}.c,
 * mm/swapfile.c (proc_swaps_operations). Differs: /proc/uptime's idle time is that of CPUs which
 * never do anything.
 */
import type { FileRow } from '../../lib/file_row.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { meminfo_files, pages_kb } from './meminfo.ts';
import { node_files } from './node.ts';
import { proc_page_files } from './proc_page.ts';
import { sysctl_files } from './sysctl.ts';
import { vmstat_files } from './vmstat.ts';

/** Seconds with two decimals, cut off: `12.34`. */
function put_seconds(seq: SeqFile, ms: number): void {
  const hundredths = Math.floor(ms / 10);
  seq.put_dec(Math.floor(hundredths / 100)).puts('.');
  seq.puts(String(hundredths % 100).padStart(2, '0'));
}

/** mm/swapfile.c: swap_show. */
function swaps_show(seq: SeqFile, m: Machine): void {
  seq.puts('Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n');
  for (const area of m.swap_info) {
    seq.put_left(area.path, Math.max(40, area.path.length + 1)).puts('partition\t');
    seq.put_dec(pages_kb(m, area.pages)).puts('\t');
    seq.put_dec(pages_kb(m, area.inuse_pages)).puts('\t').put_dec(area.prio).puts('\n');
  }
}

const misc_files: readonly FileRow<Machine>[] = [
  {
    path: '/proc/swaps',
    mode: 0o444,
    show: swaps_show,
    doc: 'swap areas: size, use in KiB, priority',
  },
  {
    path: '/proc/uptime',
    mode: 0o444,
    show(seq, m) {
      put_seconds(seq, m.clock.now_ms);
      seq.puts(' ');
      put_seconds(seq, m.clock.now_ms * m.shape.nr_cpus);
      seq.puts('\n');
    },
    doc: 'seconds since boot on the virtual clock, and idle seconds of all CPUs',
  },
  {
    path: '/proc/version',
    mode: 0o444,
    show(seq) {
      seq.puts('Linux version 2.6.35 (pageblock@pageblock) (emulated) #1 SMP\n');
    },
    doc: 'which kernel this is',
  },
];

/** KernelProfile.files of 2.6.35. */
export const files_2_6_35: readonly FileRow<Machine>[] = [
  ...vmstat_files,
  ...meminfo_files,
  ...proc_page_files,
  ...misc_files,
  ...sysctl_files,
  ...node_files,
];
