/**
 * Linux 2.6.35 as a table: what the shared mechanics ask of the kernel that runs.
 */

import { ksm_ops } from '../../mm/ksm_rmap.ts';
import { ksmd_tick } from '../../mm/ksmd.ts';
import type { KernelProfile } from '../../mm/mmzone.ts';
import { files_2_6_35 } from './files.ts';
import { hugetlb_ops } from './hugetlb.ts';
import { kswapd_tick } from './kswapd.ts';
import { alloc_pages } from './page_alloc.ts';
import { proc_pid } from './proc_pid.ts';
import { __free_pages, __free_pages_ok, drain_pages, free_hot_cold_page } from './rmqueue.ts';
import {
  setup_pageset,
  setup_per_zone_lowmem_reserve,
  setup_per_zone_wmarks,
} from './watermark.ts';

export const linux_2_6_35: KernelProfile = {
  name: '2.6.35',
  nr_pcp_lists: 3,
  tail_insert_margin: 1,
  bh_lru_size: 8,
  setup_pageset,
  alloc_pages,
  __free_pages,
  __free_pages_ok,
  free_hot_cold_page,
  drain_pages,
  kswapd_tick,
  hugetlb: hugetlb_ops,
  ksmd_tick,
  ksm: ksm_ops,
  setup_per_zone_wmarks,
  setup_per_zone_lowmem_reserve,
  files: files_2_6_35,
  file_directories: [proc_pid],
};
