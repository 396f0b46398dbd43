/**
 * Linux 6.1 as a table: what the shared mechanics ask of the kernel that runs.
 */
import { ksm_ops } from '../../mm/ksm_rmap.ts';
import { ksmd_tick } from '../../mm/ksmd.ts';
import type { KernelProfile } from '../../mm/mmzone.ts';
import { files_6_1 } from './files.ts';
import { thp_ops } from './huge_memory.ts';
import { hugetlb_ops } from './hugetlb.ts';
import { kcompactd_tick } from './kcompactd.ts';
import { khugepaged_tick } from './khugepaged.ts';
import { kswapd_cond_resched, kswapd_tick } from './kswapd.ts';
import { alloc_pages } from './page_alloc.ts';
import { proc_pid } from './proc_pid.ts';
import {
  __free_pages,
  drain_pages,
  free_hot_cold_page,
  free_the_page,
  NR_PCP_LISTS,
  pindex_to_order,
} from './rmqueue.ts';
import {
  setup_pageset,
  setup_per_zone_lowmem_reserve,
  setup_per_zone_wmarks,
} from './watermark.ts';

export const linux_6_1: KernelProfile = {
  name: '6.1',
  nr_pcp_lists: NR_PCP_LISTS,
  pcp_list_order: pindex_to_order,
  tail_insert_margin: 2,
  pageblocks_stay_apart: true,
  bh_lru_size: 16,
  lru_drain_bh_lrus: true,
  kpageflags_of_tails: true,
  setup_pageset,
  alloc_pages,
  __free_pages,
  __free_pages_ok: free_the_page,
  free_hot_cold_page,
  drain_pages,
  setup_per_zone_wmarks,
  setup_per_zone_lowmem_reserve,
  cond_resched: kswapd_cond_resched,
  kswapd_tick,
  kcompactd_tick,
  khugepaged_tick,
  thp: thp_ops,
  ksmd_tick,
  ksm: ksm_ops,
  hugetlb: hugetlb_ops,
  sysfs_takes_whole_pages: true,
  files: files_6_1,
  file_directories: [proc_pid],
};
