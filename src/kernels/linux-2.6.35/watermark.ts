/**
 * Watermarks, lowmem reserves, per-CPU list sizes and the RESERVE blocks of 2.6.35.
 *
 * min_free_kbytes is split over the zones by their present pages; low and high follow from min. A
 * request that could have used a higher zone must leave lowmem_reserve pages in a lower one. Up to
 * two of the lowest movable pageblocks of each zone are kept as MIGRATE_RESERVE.
 * Linux: mm/page_alloc.c (init_per_zone_wmark_min, setup_per_zone_wmarks, zone_watermark_ok,
 * setup_per_zone_lowmem_reserve, setup_zone_migrate_reserve, zone_batchsize, setup_pageset).
 */

import { HZ } from '../../lib/clock.ts';
import { int_sqrt } from '../../lib/math.ts';
import { move_freepages_block } from '../../mm/buddy.ts';
import { MIGRATE_MOVABLE, MIGRATE_RESERVE } from '../../mm/gfp.ts';
import { REMOTE_DISTANCE } from '../../mm/mm_init.ts';
import {
  type Machine,
  type PerCpuPages,
  pfn_valid,
  WMARK_HIGH,
  WMARK_LOW,
  WMARK_MIN,
  type Zone,
  zone_end_pfn,
} from '../../mm/mmzone.ts';
import { type order_t, PageReserved } from '../../mm/page.ts';
import { get_pageblock_migratetype, set_pageblock_migratetype } from '../../mm/pageblock.ts';
import { calculate_threshold, NR_FREE_PAGES } from '../../mm/vmstat.ts';

// The low bits of alloc_flags name the watermark (page_alloc.c).
export const ALLOC_WMARK_MASK = 0x03;
export const ALLOC_NO_WATERMARKS = 0x04;
export const ALLOC_HARDER = 0x10;
export const ALLOC_HIGH = 0x20;
export const ALLOC_CPUSET = 0x40;

/** From now on CPUs keep small changes to themselves (vmstat.c: refresh_zone_stat_thresholds). */
export function refresh_zone_stat_thresholds(m: Machine): void {
  for (const zone of m.populated_zones) zone.stat_threshold = calculate_threshold(m, zone);
}

/** Once in stat_interval every CPU gives up its share (vmstat.c: refresh_cpu_vm_stats). */
function refresh_cpu_vm_stats(m: Machine): void {
  for (const zone of m.populated_zones) {
    zone.nr_free_diff.fill(0);
    zone.nr_free_unfolded = 0;
  }
  const interval_ms = Math.max(1, (m.sysctl['stat_interval'] ?? HZ) / HZ) * 1000;
  m.vmstat_due_ms = m.clock.now_ms + interval_ms;
}

/**
 * Adds to a zone's free pages. A CPU keeps the change to itself until it is more than the threshold
 * (vmstat.c: __mod_zone_page_state).
 */
export function mod_nr_free_pages(m: Machine, zone: Zone, delta: number): void {
  zone.vm_stat[NR_FREE_PAGES]! += delta;
  if (m.clock.now_ms >= m.vmstat_due_ms) refresh_cpu_vm_stats(m);
  const before = zone.nr_free_diff[m.this_cpu]!;
  let diff = before + delta;
  if (diff > zone.stat_threshold || diff < -zone.stat_threshold) diff = 0;
  zone.nr_free_diff[m.this_cpu] = diff;
  zone.nr_free_unfolded += diff - before;
}

/**
 * True when taking a block of `order` leaves the zone above `mark`: free pages beyond mark and
 * reserve, and of each lower order at least a shrinking share in larger blocks.
 * Free blocks count whatever their type. The number of free pages is what the CPUs have told of it,
 * those of blocks are exact: a single block may so pass or not. (page_alloc.c: zone_watermark_ok)
 */
export function zone_watermark_ok(
  zone: Zone,
  order: order_t,
  mark: number,
  classzone_idx: number,
  alloc_flags: number,
): boolean {
  let min = mark;
  let free_pages = zone.vm_stat[NR_FREE_PAGES]! - zone.nr_free_unfolded - (1 << order) + 1;
  if ((alloc_flags & ALLOC_HIGH) !== 0) min -= Math.trunc(min / 2);
  if ((alloc_flags & ALLOC_HARDER) !== 0) min -= Math.trunc(min / 4);
  if (free_pages <= min + zone.lowmem_reserve[classzone_idx]!) return false;
  const nr_free = zone.nr_free;
  for (let o = 0; o < order; o++) {
    free_pages -= nr_free[o]! << o;
    min >>= 1;
    if (free_pages <= min) return false;
  }
  return true;
}

/** The size of one refill of a per-CPU list, by the zone's size (page_alloc.c: zone_batchsize). */
export function zone_batchsize(present_pages: number, page_shift: number): number {
  const page_size = 1 << page_shift;
  let batch = Math.floor(present_pages / 1024);
  if (batch * page_size > 512 * 1024) batch = Math.floor((512 * 1024) / page_size);
  batch = Math.floor(batch / 4);
  if (batch < 1) batch = 1;
  return 2 ** (31 - Math.clz32(batch + Math.floor(batch / 2))) - 1;
}

/** page_alloc.c: setup_pageset; with percpu_pagelist_fraction set, setup_pagelist_highmark. */
export function setup_pageset(m: Machine, zone: Zone, pcp: PerCpuPages): void {
  const batch = zone_batchsize(zone.present_pages, m.shape.page_shift);
  pcp.high = 6 * batch;
  pcp.batch = Math.max(1, batch);
  const fraction = m.sysctl['percpu_pagelist_fraction'] ?? 0;
  if (fraction !== 0) setup_pagelist_highmark(m, pcp, Math.floor(zone.present_pages / fraction));
}

/** page_alloc.c: setup_pagelist_highmark. */
export function setup_pagelist_highmark(m: Machine, pcp: PerCpuPages, high: number): void {
  pcp.high = high;
  pcp.batch = Math.max(1, Math.floor(high / 4));
  if (Math.floor(high / 4) > m.shape.page_shift * 8) pcp.batch = m.shape.page_shift * 8;
}

export function is_highmem(m: Machine, zone: Zone): boolean {
  if (m.shape.ZONE_HIGHMEM < 0) return false;
  return zone.zone_idx === m.shape.ZONE_HIGHMEM || zone.zone_idx === m.shape.ZONE_MOVABLE;
}

/**
 * min_free_kbytes of a machine at boot: the square root of 16 times the low memory in KiB, between
 * 128 and 65536; then everything that follows from it. (page_alloc.c: init_per_zone_wmark_min)
 */
export function init_per_zone_wmark_min(m: Machine): void {
  let lowmem = 0;
  for (const zone of m.nodes[m.cpu_to_node[0]!]!.node_zonelists[0]!) {
    if (zone.zone_idx > m.shape.ZONE_NORMAL) continue;
    lowmem += Math.max(0, zone.present_pages - zone.watermark[WMARK_HIGH]!);
  }
  const lowmem_kbytes = lowmem * 2 ** (m.shape.page_shift - 10);
  const min_free = int_sqrt(lowmem_kbytes * 16);
  m.sysctl['min_free_kbytes'] = Math.min(65536, Math.max(128, min_free));
  setup_per_zone_wmarks(m);
  setup_per_zone_lowmem_reserve(m);
  for (const zone of m.populated_zones) calculate_zone_inactive_ratio(m, zone);
}

function calculate_zone_inactive_ratio(m: Machine, zone: Zone): void {
  const gb = Math.floor(zone.present_pages / 2 ** (30 - m.shape.page_shift));
  zone.inactive_ratio = gb > 0 ? int_sqrt(10 * gb) : 1;
}

/**
 * Recomputes the watermarks, the RESERVE blocks and totalreserve from min_free_kbytes.
 * (page_alloc.c: setup_per_zone_wmarks)
 */
export function setup_per_zone_wmarks(m: Machine): void {
  const pages_min = Math.floor(m.sysctl['min_free_kbytes']! / 2 ** (m.shape.page_shift - 10));
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
    zone.watermark[WMARK_MIN] = min;
    zone.watermark[WMARK_LOW] = min + Math.floor(share / 4);
    zone.watermark[WMARK_HIGH] = min + Math.floor(share / 2);
    setup_zone_migrate_reserve(m, zone);
  }
  calculate_totalreserve_pages(m);
}

/** page_alloc.c: setup_per_zone_lowmem_reserve. Ratios below 1 act as 1 and are stored so. */
export function setup_per_zone_lowmem_reserve(m: Machine): void {
  const nr_zones = m.shape.zone_names.length;
  for (const node of m.nodes) {
    for (let j = 0; j < nr_zones; j++) {
      let present = m.zones[node.nid * nr_zones + j]?.present_pages ?? 0;
      for (let i = j - 1; i >= 0; i--) {
        const key = lowmem_reserve_ratio_key(i);
        if (m.sysctl[key]! < 1) m.sysctl[key] = 1;
        const lower = m.zones[node.nid * nr_zones + i];
        if (lower !== undefined) {
          lower.lowmem_reserve[j] = Math.floor(present / m.sysctl[key]!);
          present += lower.present_pages;
        }
      }
    }
  }
  calculate_totalreserve_pages(m);
}

/** Where m.sysctl keeps the ratio of the zone with this index. */
export function lowmem_reserve_ratio_key(zone_idx: number): string {
  return `lowmem_reserve_ratio.${zone_idx}`;
}

/** The ratios of a booting kernel: 256 for DMA and DMA32, 32 above (sysctl_lowmem_reserve_ratio). */
export function init_lowmem_reserve_ratio(m: Machine): void {
  for (let i = 0; i < m.shape.zone_names.length - 1; i++) {
    const dma = i === m.shape.ZONE_DMA || i === m.shape.ZONE_DMA32;
    m.sysctl[lowmem_reserve_ratio_key(i)] = dma ? 256 : 32;
  }
}

/** page_alloc.c: calculate_totalreserve_pages. */
function calculate_totalreserve_pages(m: Machine): void {
  let total = 0;
  for (const zone of m.populated_zones) {
    let max = 0;
    for (let j = zone.zone_idx; j < m.shape.zone_names.length; j++) {
      max = Math.max(max, zone.lowmem_reserve[j]!);
    }
    total += Math.min(zone.present_pages, max + zone.watermark[WMARK_HIGH]!);
  }
  m.totalreserve_pages = total;
}

/**
 * Makes the lowest movable pageblocks of the zone the RESERVE, as many as the min watermark covers
 * but at most two, and gives surplus RESERVE blocks back. (page_alloc.c: setup_zone_migrate_reserve)
 */
export function setup_zone_migrate_reserve(m: Machine, zone: Zone): void {
  const block = 1 << m.shape.pageblock_order;
  let reserve = Math.min(2, Math.ceil(zone.watermark[WMARK_MIN]! / block));
  const end = zone_end_pfn(zone);
  for (let pfn = zone.zone_start_pfn; pfn < end; pfn += block) {
    if (!pfn_valid(m, pfn)) continue;
    if (PageReserved(m.memmap, pfn)) continue;
    const type = get_pageblock_migratetype(m, zone, pfn);
    if (reserve > 0 && type === MIGRATE_RESERVE) {
      reserve--;
    } else if (reserve > 0 && type === MIGRATE_MOVABLE) {
      set_pageblock_migratetype(m, zone, pfn, MIGRATE_RESERVE);
      move_freepages_block(m, zone, pfn, MIGRATE_RESERVE);
      reserve--;
    } else if (type === MIGRATE_RESERVE) {
      set_pageblock_migratetype(m, zone, pfn, MIGRATE_MOVABLE);
      move_freepages_block(m, zone, pfn, MIGRATE_MOVABLE);
    }
  }
}

/**
 * Bytes of one of the tables that are sized by memory: one entry, a pointer, for 2^scale bytes of low
 * memory, `limit` entries at most (page_alloc.c: alloc_large_system_hash).
 */
export function large_system_hash_bytes(m: Machine, scale: number, limit = 2 ** 31): number {
  let kernel_pages = 0;
  for (const zone of m.populated_zones) {
    if (zone.zone_idx <= m.shape.ZONE_NORMAL) kernel_pages += zone.present_pages;
  }
  const mib = 2 ** (20 - m.shape.page_shift);
  kernel_pages = Math.ceil(kernel_pages / mib) * mib;
  const wanted = Math.max(16, Math.floor(kernel_pages / 2 ** (scale - m.shape.page_shift)));
  const entries = Math.min(limit, 2 ** Math.ceil(Math.log2(wanted)));
  return entries * (m.shape.machine === 'x86' ? 4 : 8);
}

/** Distance above which a node's own memory is reclaimed before another's is used (asm/topology.h). */
const RECLAIM_DISTANCE = 20;
const RECLAIM_DISTANCE_PPC64 = 10;

/**
 * Making zonelists turns zone reclaim on where another node is far: with two nodes always on ppc64,
 * never on x86-64, whose remote distance here is 20 (page_alloc.c: build_zonelists).
 */
export function set_zone_reclaim_mode(m: Machine): void {
  const far = m.shape.machine === 'ppc64' ? RECLAIM_DISTANCE_PPC64 : RECLAIM_DISTANCE;
  if (m.shape.numa && m.nodes.length > 1 && REMOTE_DISTANCE > far) {
    m.sysctl['zone_reclaim_mode'] = 1;
  }
}
