/**
 * All virtual files of 6.1 under /proc and /sys, in the order of their directories.
 *
 * Linux: mm/swapfile.c (proc_swaps_operations).
 */
import { pages_kb } from '../../fs/proc/meminfo.ts';
import { type MiscFormat, misc_files } from '../../fs/proc/misc.ts';
import { proc_page_files } from '../../fs/proc/page.ts';
import { trace_files } from '../../fs/tracefs/trace_files.ts';
import type { FileRow } from '../../lib/file_row.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { transparent_hugepage_files } from './huge_memory_files.ts';
import { hugepage_files, node_hugepage_files } from './hugetlb_files.ts';
import { ksm_files_6_1 } from './ksm.ts';
import { meminfo_files } from './meminfo.ts';
import { node_files } from './node.ts';
import { ipc_sysctl_files, sysctl_files } from './sysctl.ts';
import { trace_6_1 } from './trace_events.ts';
import { vmstat_files } from './vmstat.ts';

/** mm/swapfile.c: swap_show. */
function swaps_show(seq: SeqFile, m: Machine): void {
  seq.puts('Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n');
  for (const area of m.swap_info) {
    seq.put_left(area.path, Math.max(40, area.path.length + 1)).puts('partition\t');
    const size = String(pages_kb(m, area.pages));
    const used = String(pages_kb(m, area.inuse_pages));
    seq.puts(size).puts(size.length < 8 ? '\t\t' : '\t');
    seq.puts(used).puts(used.length < 8 ? '\t\t' : '\t');
    seq.put_dec(area.prio).puts('\n');
  }
}

const misc_format: MiscFormat = {
  version: 'Linux version 6.1.0-56-amd64 (pageblock@pageblock) (emulated) #1 SMP PREEMPT_DYNAMIC\n',
  slabinfo_mode: 0o400,
  show_swaps: swaps_show,
};

/** KernelProfile.files of 6.1. */
export const files_6_1: readonly FileRow<Machine>[] = [
  ...vmstat_files,
  ...meminfo_files,
  ...proc_page_files,
  ...misc_files(misc_format),
  ...sysctl_files,
  ...ipc_sysctl_files,
  ...node_files,
  ...node_hugepage_files,
  ...hugepage_files,
  ...transparent_hugepage_files,
  ...ksm_files_6_1,
  ...trace_files(trace_6_1),
];
