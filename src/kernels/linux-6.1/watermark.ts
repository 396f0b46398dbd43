/**
 * Watermarks, their boost, lowmem reserves and per-CPU list sizes of 6.1.
 *
 * min_free_kbytes is split over the zones by their managed pages; low and high are at least
 * watermark_scale_factor ten-thousandths of the zone above. A fallback that mixes types in a
 * pageblock boosts all three for a while. For a high order it is enough that one block is free.
 * Linux: mm/page_alloc.c (__zone_watermark_ok, zone_watermark_fast, boost_watermark,
 * __setup_per_zone_wmarks, setup_per_zone_lowmem_reserve, zone_batchsize, zone_highsize).
 * In the stable 6.1.y the flags of non-blocking requests are those of 6.3, by backports.
 */

import { list_empty } from '../../lib/list.ts';
import { int_sqrt } from '../../lib/math.ts';
import { MIGRATE_TYPES } from '../../mm/gfp.ts';
import {
  type Machine,
  type PerCpuPages,
  WMARK_HIGH,
  WMARK_LOW,
  WMARK_MIN,
  type Zone,
} from '../../mm/mmzone.ts';
import type { order_t } from '../../mm/page.ts';
import { NR_FREE_PAGES } from '../../mm/vmstat.ts';
import { MIGRATE_HIGHATOMIC } from './gfp.ts';

// The low bits of alloc_flags name the watermark (mm/internal.h).
export const ALLOC_WMARK_MASK = 0x03;
export const ALLOC_NO_WATERMARKS = 0x04;
export const ALLOC_OOM = 0x08;
/** Cannot block. */
export const ALLOC_NON_BLOCK = 0x10;
/** __GFP_HIGH: may use half of the min watermark. */
export const ALLOC_MIN_RESERVE = 0x20;
export const ALLOC_CPUSET = 0x40;
/** Rather another zone than mixing types in a pageblock. */
export const ALLOC_NOFRAGMENT = 0x100;
/** May take, and make, HIGHATOMIC pageblocks. */
export const ALLOC_HIGHATOMIC = 0x200;
export const ALLOC_KSWAPD = 0x800;
/** Any of those that may dip into reserves. */
export const ALLOC_RESERVES = ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_OOM;

/** A watermark as everybody but the boost itself reads it (mmzone.h: wmark_pages). */
export function wmark_pages(zone: Zone, wmark: number): number {
  return zone.watermark[wmark]! + zone.watermark_boost;
}

/** Pages that this request may not count as free (page_alloc.c: __zone_watermark_unusable_free). */
function unusable_free(zone: Zone, order: order_t, alloc_flags: number): number {
  const unusable = (1 << order) - 1;
  return (alloc_flags & ALLOC_RESERVES) !== 0 ? unusable : unusable + zone.nr_reserved_highatomic;
}

/**
 * True when taking a block of `order` leaves `free_pages` above `mark`, and such a block is there:
 * on a list of an ordinary type, or HIGHATOMIC for who may use that.
 * (page_alloc.c: __zone_watermark_ok)
 */
export function __zone_watermark_ok(
  m: Machine,
  zone: Zone,
  order: order_t,
  mark: number,
  highest_zoneidx: number,
  alloc_flags: number,
  free_pages: number,
): boolean {
  let min = mark;
  free_pages -= unusable_free(zone, order, alloc_flags);
  if ((alloc_flags & ALLOC_RESERVES) !== 0) {
    if ((alloc_flags & ALLOC_MIN_RESERVE) !== 0) {
      min -= Math.trunc(min / 2);
      // Only who has __GFP_HIGH gets more for not blocking: GFP_NOWAIT alone does not.
      if ((alloc_flags & ALLOC_NON_BLOCK) !== 0) min -= Math.trunc(min / 4);
    }
    if ((alloc_flags & ALLOC_OOM) !== 0) min -= Math.trunc(min / 2);
  }
  if (free_pages <= min + zone.lowmem_reserve[highest_zoneidx]!) return false;
  if (order === 0) return true;
  const p = m.memmap;
  for (let o = order; o < zone.nr_free.length; o++) {
    if (zone.nr_free[o] === 0) continue;
    const heads = zone.free_list + o * MIGRATE_TYPES;
    for (let type = 0; type < MIGRATE_HIGHATOMIC; type++) {
      if (!list_empty(p, heads + type)) return true;
    }
    if (
      (alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_OOM)) !== 0 &&
      !list_empty(p, heads + MIGRATE_HIGHATOMIC)
    ) {
      return true;
    }
  }
  return false;
}

/** page_alloc.c: zone_watermark_ok. */
export function zone_watermark_ok(
  m: Machine,
  zone: Zone,
  order: order_t,
  mark: number,
  highest_zoneidx: number,
  alloc_flags: number,
): boolean {
  const free = zone.vm_stat[NR_FREE_PAGES]!;
  return __zone_watermark_ok(m, zone, order, mark, highest_zoneidx, alloc_flags, free);
}

/**
 * The test of the allocation path: as zone_watermark_ok, and single pages of __GFP_HIGH requests
 * may ignore the boost at the min watermark. (page_alloc.c: zone_watermark_fast)
 */
export function zone_watermark_fast(
  m: Machine,
  zone: Zone,
  order: order_t,
  mark: number,
  highest_zoneidx: number,
  alloc_flags: number,
): boolean {
  if (zone_watermark_ok(m, zone, order, mark, highest_zoneidx, alloc_flags)) return true;
  if (
    order === 0 &&
    (alloc_flags & ALLOC_MIN_RESERVE) !== 0 &&
    zone.watermark_boost > 0 &&
    (alloc_flags & ALLOC_WMARK_MASK) === WMARK_MIN
  ) {
    const min = zone.watermark[WMARK_MIN]!;
    return zone_watermark_ok(m, zone, order, min, highest_zoneidx, alloc_flags);
  }
  return false;
}

/**
 * Raises the watermarks by a pageblock, up to watermark_boost_factor ten-thousandths of high, so
 * that kswapd makes room and the next fallback is less likely. True unless the machine or the zone
 * does without. (page_alloc.c: boost_watermark)
 */
export function boost_watermark(m: Machine, zone: Zone): boolean {
  const factor = m.sysctl['watermark_boost_factor'] ?? 0;
  if (factor === 0) return false;
  const block = 1 << m.shape.pageblock_order;
  // Small zones hold a few pageblocks: reclaim would not produce one.
  if (block * 4 > zone.present_pages) return false;
  const high = zone.watermark[WMARK_HIGH]!;
  const max_boost = Math.floor((high * factor) / 10000);
  if (max_boost === 0) return false;
  zone.watermark_boost = Math.min(zone.watermark_boost + block, Math.max(block, max_boost));
  return true;
}

/** The size of one refill of a per-CPU list, by the zone's size (page_alloc.c: zone_batchsize). */
export function zone_batchsize(managed_pages: number, page_shift: number): number {
  let batch = Math.min(managed_pages >>> 10, 2 ** (20 - page_shift));
  batch = Math.floor(batch / 4);
  if (batch < 1) batch = 1;
  return 2 ** (31 - Math.clz32(batch + Math.floor(batch / 2))) - 1;
}

/**
 * How many pages a CPU may keep: its share of the pages up to the low watermark, or of the fraction
 * that percpu_pagelist_high_fraction names; at least four batches. (page_alloc.c: zone_highsize)
 */
export function zone_highsize(m: Machine, zone: Zone, batch: number): number {
  const fraction = m.sysctl['percpu_pagelist_high_fraction'] ?? 0;
  const total =
    fraction === 0 ? wmark_pages(zone, WMARK_LOW) : Math.floor(zone.present_pages / fraction);
  const cpus = Math.max(1, m.nodes[zone.nid]?.cpus.length ?? 1);
  return Math.max(Math.floor(total / cpus), batch * 4);
}

/** page_alloc.c: zone_set_pageset_high_and_batch. */
export function setup_pageset(m: Machine, zone: Zone, pcp: PerCpuPages): void {
  pcp.batch = Math.max(1, zone_batchsize(zone.present_pages, m.shape.page_shift));
  pcp.high = zone_highsize(m, zone, pcp.batch);
}

/** No highmem on the machines of this kernel: only the Movable zone has its own rule. */
export function is_highmem(m: Machine, zone: Zone): boolean {
  return zone.zone_idx === m.shape.ZONE_MOVABLE;
}

/** Pages of low memory above the HIGH watermarks, if all were free (page_alloc.c). */
export function nr_free_buffer_pages(m: Machine): number {
  let sum = 0;
  for (const zone of m.populated_zones) {
    if (zone.zone_idx > m.shape.ZONE_NORMAL) continue;
    sum += Math.max(0, zone.present_pages - wmark_pages(zone, WMARK_HIGH));
  }
  return sum;
}

/** Where m.sysctl keeps what the user wrote to min_free_kbytes. */
export const USER_MIN_FREE_KBYTES = 'min_free_kbytes.user';

/**
 * min_free_kbytes of its own accord: the square root of 16 times the low memory in KiB, between 128
 * and 262144, unless the user has asked for more. (page_alloc.c)
 */
export function calculate_min_free_kbytes(m: Machine): void {
  const lowmem_kbytes = nr_free_buffer_pages(m) * 2 ** (m.shape.page_shift - 10);
  const min_free = int_sqrt(lowmem_kbytes * 16);
  if (min_free <= (m.sysctl[USER_MIN_FREE_KBYTES] ?? -1)) return;
  m.sysctl['min_free_kbytes'] = Math.min(262144, Math.max(128, min_free));
}

/** At boot, with everything that follows from it (page_alloc.c: init_per_zone_wmark_min). */
export function init_per_zone_wmark_min(m: Machine): void {
  calculate_min_free_kbytes(m);
  setup_per_zone_wmarks(m);
  setup_per_zone_lowmem_reserve(m);
}

/**
 * Recomputes the watermarks, which ends all boosts, the per-CPU list sizes and totalreserve from
 * min_free_kbytes and watermark_scale_factor. (page_alloc.c: setup_per_zone_wmarks)
 */
export function setup_per_zone_wmarks(m: Machine): void {
  const pages_min = Math.floor(m.sysctl['min_free_kbytes']! / 2 ** (m.shape.page_shift - 10));
  const scale = m.sysctl['watermark_scale_factor'] ?? 10;
  let lowmem_pages = 0;
  for (const zone of m.populated_zones) {
    if (!is_highmem(m, zone)) lowmem_pages += zone.present_pages;
  }
  for (const zone of m.populated_zones) {
    const share = Math.floor((pages_min * zone.present_pages) / lowmem_pages);
    let min = share;
    if (is_highmem(m, zone)) {
      min = Math.min(128, Math.max(32, Math.floor(zone.present_pages / 1024)));
    }
    const step = Math.max(share >> 2, Math.floor((zone.present_pages * scale) / 10000));
    zone.watermark_boost = 0;
    zone.watermark[WMARK_MIN] = min;
    zone.watermark[WMARK_LOW] = min + step;
    zone.watermark[WMARK_HIGH] = min + 2 * step;
  }
  for (const zone of m.populated_zones) {
    for (const pcp of zone.pageset) setup_pageset(m, zone, pcp);
  }
  calculate_totalreserve_pages(m);
}

/** page_alloc.c: setup_per_zone_lowmem_reserve. A ratio below 1 switches the reserve off. */
export function setup_per_zone_lowmem_reserve(m: Machine): void {
  const nr_zones = m.shape.zone_names.length;
  for (const node of m.nodes) {
    for (let i = 0; i < nr_zones - 1; i++) {
      const zone = m.zones[node.nid * nr_zones + i];
      if (zone === undefined) continue;
      const ratio = m.sysctl[lowmem_reserve_ratio_key(i)]!;
      const clear = ratio === 0 || zone.present_pages === 0;
      let managed = 0;
      for (let j = i + 1; j < nr_zones; j++) {
        managed += m.zones[node.nid * nr_zones + j]?.present_pages ?? 0;
        zone.lowmem_reserve[j] = clear ? 0 : Math.floor(managed / ratio);
      }
    }
  }
  calculate_totalreserve_pages(m);
}

/** Where m.sysctl keeps the ratio of the zone with this index. */
export function lowmem_reserve_ratio_key(zone_idx: number): string {
  return `lowmem_reserve_ratio.${zone_idx}`;
}

/** The ratios of a booting kernel: 256 for DMA and DMA32, 32 for Normal, 0 above. */
export function init_lowmem_reserve_ratio(m: Machine): void {
  for (let i = 0; i < m.shape.zone_names.length; i++) {
    const dma = i === m.shape.ZONE_DMA || i === m.shape.ZONE_DMA32;
    m.sysctl[lowmem_reserve_ratio_key(i)] = dma ? 256 : i === m.shape.ZONE_NORMAL ? 32 : 0;
  }
}

/** page_alloc.c: calculate_totalreserve_pages. */
export function calculate_totalreserve_pages(m: Machine): void {
  let total = 0;
  for (const zone of m.populated_zones) {
    let max = 0;
    for (let j = zone.zone_idx; j < m.shape.zone_names.length; j++) {
      max = Math.max(max, zone.lowmem_reserve[j]!);
    }
    total += Math.min(zone.present_pages, max + wmark_pages(zone, WMARK_HIGH));
  }
  m.totalreserve_pages = total;
}
