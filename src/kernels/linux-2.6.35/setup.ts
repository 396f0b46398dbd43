/**
 * The part of booting that 2.6.35 decides: from free memory to a running kernel.
 *
 * Zonelists and mobility grouping first, then the first allocations (large hash tables, slab
 * caches, kernel threads), last the watermarks, as init calls do it: the RESERVE blocks are
 * therefore the lowest movable blocks that the first allocations left.
 * Linux: init/main.c (start_kernel, kernel_init), mm/page_alloc.c (alloc_large_system_hash).
 */
import { GFP_KERNEL } from '../../mm/gfp.ts';
import { build_all_zonelists } from '../../mm/mm_init.ts';
import { type Machine, WMARK_HIGH } from '../../mm/mmzone.ts';
import { init_sysctls } from './sysctl.ts';
import { init_lowmem_reserve_ratio, init_per_zone_wmark_min } from './watermark.ts';

/** Kernel threads of an idle machine with one CPU (recorded: 27 stacks of 8 KiB). */
export const KERNEL_THREADS = 27;

/** Runs the kernel's own initialisation. Precondition: boot memory has been freed. */
export function kernel_boot(m: Machine): void {
  init_sysctls(m);
  init_lowmem_reserve_ratio(m);
  build_all_zonelists(m);
  set_page_group_by_mobility(m);
  alloc_large_system_hashes(m);
  init_per_zone_wmark_min(m);
}

/** Small machines do without grouping by mobility (page_alloc.c: build_all_zonelists). */
export function set_page_group_by_mobility(m: Machine): void {
  let vm_total_pages = 0;
  for (const zone of m.populated_zones) {
    vm_total_pages += Math.max(0, zone.present_pages - zone.watermark[WMARK_HIGH]!);
  }
  m.page_group_by_mobility_disabled = vm_total_pages < 2 ** m.shape.pageblock_order * 5;
}

/** The dentry and inode hash tables: 8 bytes an entry, spread over the nodes (hashdist). */
function alloc_large_system_hashes(m: Machine): void {
  let kernel_pages = 0;
  for (const zone of m.populated_zones) {
    if (zone.zone_idx <= m.shape.ZONE_NORMAL) kernel_pages += zone.present_pages;
  }
  const mib = 2 ** (20 - m.shape.page_shift);
  kernel_pages = Math.ceil(kernel_pages / mib) * mib;
  let nid = 0;
  for (const scale of [13, 14]) {
    const wanted = kernel_pages / 2 ** (scale - m.shape.page_shift);
    const bytes = 2 ** Math.ceil(Math.log2(wanted)) * 8;
    for (let i = 0; i < bytes / 2 ** m.shape.page_shift; i++) {
      if (m.kernel.alloc_pages(m, GFP_KERNEL, 0, nid) < 0) return;
      nid = (nid + 1) % m.nodes.length;
    }
  }
}
