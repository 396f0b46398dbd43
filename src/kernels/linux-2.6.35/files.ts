/**
 * All virtual files of 2.6.35 under /proc and /sys, in the order of their directories.
 *
 * Linux: mm/swapfile.c (proc_swaps_operations).
 */
import { pages_kb } from '../../fs/proc/meminfo.ts';
import { type MiscFormat, misc_files } from '../../fs/proc/misc.ts';
import { proc_page_files } from '../../fs/proc/page.ts';
import { ksm_files } from '../../fs/sysfs/ksm.ts';
import { trace_files } from '../../fs/tracefs/trace_files.ts';
import type { FileRow } from '../../lib/file_row.ts';
import { strict_strtoul } from '../../lib/kstrto.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { hugepage_files } from './hugetlb_files.ts';
import { iomem_files } from './iomem.ts';
import { meminfo_files } from './meminfo.ts';
import { node_files } from './node.ts';
import { ipc_sysctl_files, sysctl_files } from './sysctl.ts';
import { trace_2_6_35 } from './trace_events.ts';
import { vmstat_files } from './vmstat.ts';

/** mm/swapfile.c: swap_show. */
function swaps_show(seq: SeqFile, m: Machine): void {
  seq.puts('Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n');
  for (const area of m.swap_info) {
    seq.put_left(area.path, Math.max(40, area.path.length + 1)).puts('partition\t');
    seq.put_dec(pages_kb(m, area.pages)).puts('\t');
    seq.put_dec(pages_kb(m, area.inuse_pages)).puts('\t').put_dec(area.prio).puts('\n');
  }
}

const misc_format: MiscFormat = {
  version: 'Linux version 2.6.35 (pageblock@pageblock) (emulated) #1 SMP\n',
  slabinfo_mode: 0o444,
  show_swaps: swaps_show,
};

/** KernelProfile.files of 2.6.35. */
export const files_2_6_35: readonly FileRow<Machine>[] = [
  ...vmstat_files,
  ...meminfo_files,
  ...proc_page_files,
  ...misc_files(misc_format),
  ...iomem_files,
  ...sysctl_files,
  ...ipc_sysctl_files,
  ...node_files,
  ...hugepage_files,
  ...ksm_files((text) => strict_strtoul(text, 10)),
  ...trace_files(trace_2_6_35),
];
