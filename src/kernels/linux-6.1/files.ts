/** All virtual files of 6.1 under /proc and /sys, in the order of their directories. */
import type { FileRow } from '../../lib/file_row.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { hugepage_files, node_hugepage_files } from './hugetlb_files.ts';
import { meminfo_files } from './meminfo.ts';
import { node_files } from './node.ts';
import { sysctl_files } from './sysctl.ts';
import { vmstat_files } from './vmstat.ts';

/** KernelProfile.files of 6.1. */
export const files_6_1: readonly FileRow<Machine>[] = [
  ...vmstat_files,
  ...meminfo_files,
  ...sysctl_files,
  ...node_files,
  ...node_hugepage_files,
  ...hugepage_files,
];
