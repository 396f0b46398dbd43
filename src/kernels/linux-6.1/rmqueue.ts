/**
 * The half of the page allocator that knows no watermarks: buddy lists with fallback and stealing,
 * HIGHATOMIC reserves, per-CPU lists of orders 0 to 3, and freeing.
 *
 * A type that has no block takes over a pageblock of another one: it moves the free blocks of that
 * pageblock to its own lists and looks there again, so the block that is returned need not be the
 * one that was found. Who cannot take over (a movable request that finds only small blocks) takes the
 * smallest one instead. Recordings: debian-6.1/g1-buddy, g1-buddy-user (README, "Fallback").
 * Linux: mm/page_alloc.c, from __free_one_page to rmqueue.
 */

import { BUG_ON } from '../../lib/bug.ts';
import { list_add, list_add_tail, list_del, list_empty } from '../../lib/list.ts';
import {
  __rmqueue_smallest,
  add_to_free_list,
  del_page_from_free_list,
  free_list_head,
  move_freepages_block,
  page_is_buddy,
} from '../../mm/buddy.ts';
import {
  MIGRATE_ISOLATE,
  MIGRATE_MOVABLE,
  MIGRATE_PCPTYPES,
  MIGRATE_RECLAIMABLE,
  MIGRATE_UNMOVABLE,
} from '../../mm/gfp.ts';
import {
  type CaptureControl,
  type Machine,
  PAGE_ALLOC_COSTLY_ORDER,
  type PerCpuPages,
  page_zone,
  WMARK_MIN,
  type Zone,
} from '../../mm/mmzone.ts';
import { type order_t, type pfn_t, put_page_testzero } from '../../mm/page.ts';
import { free_pages_prepare, prep_new_page, zone_statistics } from '../../mm/page_alloc.ts';
import { PG_buddy, PG_lru, PG_mlocked } from '../../mm/page_flags.ts';
import {
  change_pageblock_range,
  get_pageblock_migratetype,
  set_pageblock_migratetype,
} from '../../mm/pageblock.ts';
import {
  count_vm_events,
  NR_FREE_PAGES,
  NR_MLOCK,
  PGALLOC,
  PGFREE,
  UNEVICTABLE_PGCLEARED,
} from '../../mm/vmstat.ts';
import { MIGRATE_HIGHATOMIC, migratetype_is_mergeable, migratetype_nr } from './gfp.ts';
import {
  ALLOC_HIGHATOMIC,
  ALLOC_KSWAPD,
  ALLOC_NOFRAGMENT,
  ALLOC_NON_BLOCK,
  ALLOC_OOM,
  boost_watermark,
  zone_watermark_ok,
} from './watermark.ts';

/** Where a type that has nothing looks, in this order; HIGHATOMIC is never fallen back to here. */
const fallbacks: readonly (readonly number[])[] = [
  [MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE],
  [MIGRATE_UNMOVABLE, MIGRATE_MOVABLE],
  [MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE],
];

/** What waits for a block of this zone, if anything does (page_alloc.c: task_capc). */
function task_capc(m: Machine, zone: Zone): CaptureControl | null {
  const capc = m.capture_control;
  return capc !== null && capc.page < 0 && capc.zone === zone ? capc : null;
}

/**
 * Hands a block that fits to the direct compaction that waits for it. Not from ISOLATE blocks, and
 * no small block of a movable pageblock. (page_alloc.c: compaction_capture)
 */
function compaction_capture(
  m: Machine,
  capc: CaptureControl,
  pfn: pfn_t,
  order: order_t,
  migratetype: number,
): boolean {
  if (order !== capc.order || migratetype === MIGRATE_ISOLATE) return false;
  if (order < m.shape.pageblock_order && migratetype === MIGRATE_MOVABLE) return false;
  capc.page = pfn;
  return true;
}

/**
 * Frees a block: merges it with its buddies as far as they are free, then puts the result on the
 * list of `type`; to the tail when the next merge is likely, or when asked. HIGHATOMIC and ISOLATE pageblocks do
 * not merge with others. Counts the pages free. (page_alloc.c: __free_one_page)
 *
 * Preconditions: pfn is aligned to 2^order, count 0, not PG_buddy, on no list.
 */
export function __free_one_page(
  m: Machine,
  zone: Zone,
  pfn: pfn_t,
  order: order_t,
  type: number,
  to_tail = false,
): void {
  const p = m.memmap;
  const top = m.shape.max_order - 1;
  const pageblock_order = m.shape.pageblock_order;
  BUG_ON((pfn & ((1 << order) - 1)) !== 0, '__free_one_page: the block is not aligned');
  BUG_ON((p.flags[pfn]! & PG_buddy) !== 0, '__free_one_page: the block is free already');
  const capc = m.capture_control === null ? null : task_capc(m, zone);
  if (type !== MIGRATE_ISOLATE) zone.vm_stat[NR_FREE_PAGES]! += 1 << order;
  while (order < top) {
    if (capc !== null && compaction_capture(m, capc, pfn, order, type)) {
      zone.vm_stat[NR_FREE_PAGES]! -= 1 << order;
      return;
    }
    const buddy = pfn ^ (1 << order);
    if (!page_is_buddy(p, zone, buddy, order)) break;
    if (order >= pageblock_order) {
      const buddy_type = get_pageblock_migratetype(m, zone, buddy);
      if (
        type !== buddy_type &&
        !(migratetype_is_mergeable(type) && migratetype_is_mergeable(buddy_type))
      ) {
        break;
      }
    }
    del_page_from_free_list(m, zone, buddy);
    pfn &= ~(1 << order);
    order++;
  }
  // buddy_merge_likely: when the buddy of the next larger block is free as a whole.
  const parent = pfn & ~(1 << order);
  const tail =
    to_tail || (order < top - 1 && page_is_buddy(p, zone, parent ^ (1 << (order + 1)), order + 1));
  add_to_free_list(m, zone, pfn, order, type, tail);
}

/** Pages of the pageblock that are on LRU lists, as far as it lies in the zone. */
function count_movable_pages(m: Machine, zone: Zone, pfn: pfn_t): number {
  const flags = m.memmap.flags;
  const block = 1 << m.shape.pageblock_order;
  const start = pfn - (pfn % block);
  let movable = 0;
  for (let i = Math.max(start, zone.zone_start_pfn); i < start + block; i++) {
    if ((flags[i]! & PG_lru) !== 0) movable++;
  }
  return movable;
}

/** True when a fallback to blocks of this order may take whole pageblocks (page_alloc.c). */
function can_steal_fallback(m: Machine, order: order_t, start_migratetype: number): boolean {
  return (
    order >= m.shape.pageblock_order >> 1 ||
    start_migratetype === MIGRATE_RECLAIMABLE ||
    start_migratetype === MIGRATE_UNMOVABLE ||
    m.page_group_by_mobility_disabled
  );
}

/**
 * The first type with a block of this order that a type may fall back to; -1 without one, or with
 * `only_stealable` when pageblocks cannot be taken at this order.
 * (page_alloc.c: find_suitable_fallback)
 */
export function find_suitable_fallback(
  m: Machine,
  zone: Zone,
  order: order_t,
  migratetype: number,
  only_stealable: boolean,
): number {
  if (zone.nr_free[order] === 0) return -1;
  const types = fallbacks[migratetype]!;
  for (let i = 0; i < types.length; i++) {
    if (list_empty(m.memmap, free_list_head(zone, order, types[i]!))) continue;
    if (!only_stealable || can_steal_fallback(m, order, migratetype)) return types[i]!;
  }
  return -1;
}

/**
 * Makes the found block, and if `whole_block` its pageblock, available to the type: moves free blocks
 * to its lists, and gives it the pageblock when half of that is free or of its kind.
 * (page_alloc.c: steal_suitable_fallback)
 */
function steal_suitable_fallback(
  m: Machine,
  zone: Zone,
  pfn: pfn_t,
  alloc_flags: number,
  start_type: number,
  whole_block: boolean,
): void {
  const p = m.memmap;
  const order = p.private_[pfn]!;
  const pageblock_order = m.shape.pageblock_order;
  const old_block_type = get_pageblock_migratetype(m, zone, pfn);
  if (old_block_type !== MIGRATE_HIGHATOMIC) {
    if (order >= pageblock_order) {
      change_pageblock_range(m, zone, pfn, order, start_type);
    } else {
      if (boost_watermark(m, zone) && (alloc_flags & ALLOC_KSWAPD) !== 0) {
        zone.boosted_watermark = true;
      }
      const free_pages = whole_block ? move_freepages_block(m, zone, pfn, start_type, true) : 0;
      if (free_pages > 0) {
        // Pages of another kind than the request's: for an unmovable one whatever is not movable
        // is assumed to be alike.
        const num_movable = count_movable_pages(m, zone, pfn);
        let alike_pages = 0;
        if (start_type === MIGRATE_MOVABLE) alike_pages = num_movable;
        else if (old_block_type === MIGRATE_MOVABLE) {
          alike_pages = (1 << pageblock_order) - (free_pages + num_movable);
        }
        if (
          free_pages + alike_pages >= 1 << (pageblock_order - 1) ||
          m.page_group_by_mobility_disabled
        ) {
          set_pageblock_migratetype(m, zone, pfn, start_type);
        }
        return;
      }
    }
  }
  list_del(p, pfn);
  list_add_tail(p, pfn, free_list_head(zone, order, start_type));
}

/**
 * Brings blocks of another type to the lists of this one. The largest block is taken, from the
 * largest order down, unless the request is movable and only small blocks are left: splitting the
 * smallest then does least harm. True when there is a block now. (page_alloc.c: __rmqueue_fallback)
 */
function __rmqueue_fallback(
  m: Machine,
  zone: Zone,
  order: order_t,
  start_migratetype: number,
  alloc_flags: number,
): boolean {
  const pageblock_order = m.shape.pageblock_order;
  const top = m.shape.max_order - 1;
  const min_order =
    order < pageblock_order && (alloc_flags & ALLOC_NOFRAGMENT) !== 0 ? pageblock_order : order;
  let current = top;
  let fallback = -1;
  for (; current >= min_order; current--) {
    fallback = find_suitable_fallback(m, zone, current, start_migratetype, false);
    if (fallback >= 0) break;
  }
  if (fallback < 0) return false;
  let can_steal = can_steal_fallback(m, current, start_migratetype);
  if (!can_steal && start_migratetype === MIGRATE_MOVABLE && current > order) {
    for (current = order; current <= top; current++) {
      fallback = find_suitable_fallback(m, zone, current, start_migratetype, false);
      if (fallback >= 0) break;
    }
    BUG_ON(fallback < 0, '__rmqueue_fallback: the block is gone');
    can_steal = can_steal_fallback(m, current, start_migratetype);
  }
  const pfn = m.memmap.next[free_list_head(zone, current, fallback)]!;
  steal_suitable_fallback(m, zone, pfn, alloc_flags, start_migratetype, can_steal);
  const trace = m.trace.mm_page_alloc_extfrag;
  if (trace.enabled) trace.emit(pfn, order, current, start_migratetype, fallback);
  return true;
}

/** One block from the buddy lists: own type, then others (page_alloc.c). */
export function __rmqueue(
  m: Machine,
  zone: Zone,
  order: order_t,
  migratetype: number,
  alloc_flags: number,
): pfn_t | -1 {
  let pfn = __rmqueue_smallest(m, zone, order, migratetype);
  while (pfn < 0 && __rmqueue_fallback(m, zone, order, migratetype, alloc_flags)) {
    pfn = __rmqueue_smallest(m, zone, order, migratetype);
  }
  if (pfn >= 0 && m.trace.mm_page_alloc_zone_locked.enabled) {
    const pcp = pcp_allowed_order(m, order) && migratetype < MIGRATE_PCPTYPES;
    m.trace.mm_page_alloc_zone_locked.emit(pfn, order, migratetype, pcp ? 1 : 0);
  }
  return pfn;
}

/** Orders that go through the per-CPU lists: 0 to 3, and that of a huge page (page_alloc.c). */
export function pcp_allowed_order(m: Machine, order: order_t): boolean {
  return order <= PAGE_ALLOC_COSTLY_ORDER || order === m.shape.pageblock_order;
}

/** Lists of a PerCpuPages: three types of orders 0 to 3, then huge pages, movable and not. */
export const NR_PCP_LISTS = MIGRATE_PCPTYPES * (PAGE_ALLOC_COSTLY_ORDER + 1) + 2;

function order_to_pindex(migratetype: number, order: order_t): number {
  if (order > PAGE_ALLOC_COSTLY_ORDER) {
    return NR_PCP_LISTS - 2 + (migratetype === MIGRATE_MOVABLE ? 1 : 0);
  }
  return MIGRATE_PCPTYPES * order + migratetype_nr[migratetype]!;
}

/** The order of the blocks on a per-CPU list (page_alloc.c: pindex_to_order). */
export function pindex_to_order(m: Machine, pindex: number): order_t {
  if (pindex >= NR_PCP_LISTS - 2) return m.shape.pageblock_order;
  return Math.floor(pindex / MIGRATE_PCPTYPES);
}

/**
 * Refills a per-CPU list with up to `count` blocks, kept in the order in which they came. Returns
 * how many came. (page_alloc.c: rmqueue_bulk)
 */
function rmqueue_bulk(
  m: Machine,
  zone: Zone,
  order: order_t,
  count: number,
  list: number,
  migratetype: number,
  alloc_flags: number,
): number {
  const p = m.memmap;
  let got = 0;
  for (; got < count; got++) {
    const pfn = __rmqueue(m, zone, order, migratetype, alloc_flags);
    if (pfn < 0) break;
    list_add_tail(p, pfn, list);
    p.private_[pfn] = migratetype;
  }
  zone.vm_stat[NR_FREE_PAGES]! -= got << order;
  return got;
}

/**
 * Gives `count` pages of a CPU back to the buddy lists: the given list first, from its tail, then
 * the others in turn, each as a whole. (page_alloc.c: free_pcppages_bulk)
 */
function free_pcppages_bulk(
  m: Machine,
  zone: Zone,
  count: number,
  pcp: PerCpuPages,
  pindex: number,
): void {
  const p = m.memmap;
  const trace = m.trace.mm_page_pcpu_drain;
  count = Math.min(pcp.count, count);
  let min = 0;
  let max = NR_PCP_LISTS - 1;
  pindex--;
  while (count > 0) {
    let list: number;
    for (;;) {
      if (++pindex > max) pindex = min;
      list = pcp.lists + pindex;
      if (!list_empty(p, list)) break;
      if (pindex === max) max--;
      if (pindex === min) min++;
    }
    const order = pindex_to_order(m, pindex);
    const nr_pages = 1 << order;
    do {
      const pfn = p.prev[list]!;
      const type = p.private_[pfn]!;
      list_del(p, pfn);
      p.private_[pfn] = 0;
      count -= nr_pages;
      pcp.count -= nr_pages;
      __free_one_page(m, zone, pfn, order, type);
      if (trace.enabled) trace.emit(pfn, order, type);
    } while (count > 0 && !list_empty(p, list));
  }
}

/** A page that is freed while mlocked gives its accounting back (page_alloc.c). */
function free_mlocked_page(m: Machine, zone: Zone, pfn: pfn_t, order: order_t): void {
  m.memmap.flags[pfn]! &= ~PG_mlocked;
  zone.vm_stat[NR_MLOCK]! -= 1 << order;
  count_vm_events(m, UNEVICTABLE_PGCLEARED, 1 << order);
}

/** Frees a block straight into the buddy lists (page_alloc.c: __free_pages_ok). */
export function __free_pages_ok(m: Machine, pfn: pfn_t, order: order_t): void {
  const zone = page_zone(m, pfn);
  if ((m.memmap.flags[pfn]! & PG_mlocked) !== 0) free_mlocked_page(m, zone, pfn, order);
  free_pages_prepare(m, pfn, order);
  m.vm_events[PGFREE]! += 1 << order;
  __free_one_page(m, zone, pfn, order, get_pageblock_migratetype(m, zone, pfn));
}

/** Pages that a CPU's lists may hold now; 0 while they are switched off (page_alloc.c). */
function nr_pcp_high(pcp: PerCpuPages, free_high: boolean): number {
  return pcp.high === 0 || free_high ? 0 : pcp.high;
}

/** How many pages to give back: more the longer nothing was allocated (page_alloc.c). */
function nr_pcp_free(pcp: PerCpuPages, high: number, free_high: boolean): number {
  if (free_high) return pcp.count;
  // Lists that are switched off never keep anything.
  if (high < pcp.batch) return 1;
  // Leave at least a batch on the lists, so that the next allocation finds one.
  const min_nr_free = pcp.batch;
  const max_nr_free = high - pcp.batch;
  let batch = pcp.batch << pcp.free_factor;
  if (batch < max_nr_free) pcp.free_factor++;
  batch = Math.min(Math.max(batch, min_nr_free), max_nr_free);
  return batch;
}

/**
 * Frees a block of a per-CPU order to the head of this CPU's list; lists that got too long give
 * some back, this one first. HIGHATOMIC blocks lie on the MOVABLE list but remember what they are.
 * (page_alloc.c: free_unref_page)
 */
export function free_unref_page(m: Machine, pfn: pfn_t, order: order_t): void {
  const p = m.memmap;
  const zone = page_zone(m, pfn);
  if ((m.memmap.flags[pfn]! & PG_mlocked) !== 0) free_mlocked_page(m, zone, pfn, order);
  free_pages_prepare(m, pfn, order);
  m.vm_events[PGFREE]! += 1 << order;
  let migratetype = get_pageblock_migratetype(m, zone, pfn);
  if (migratetype === MIGRATE_ISOLATE) {
    __free_one_page(m, zone, pfn, order, migratetype);
    return;
  }
  p.private_[pfn] = migratetype;
  if (migratetype >= MIGRATE_PCPTYPES) migratetype = MIGRATE_MOVABLE;
  const pcp = zone.pageset[m.this_cpu]!;
  const pindex = order_to_pindex(migratetype, order);
  list_add(p, pfn, pcp.lists + pindex);
  pcp.count += 1 << order;
  const free_high = pcp.free_factor > 0 && order > 0 && order <= PAGE_ALLOC_COSTLY_ORDER;
  const high = nr_pcp_high(pcp, free_high);
  if (pcp.count >= high) {
    free_pcppages_bulk(m, zone, nr_pcp_free(pcp, high, free_high), pcp, pindex);
  }
}

/** Frees a single page; 6.1 makes no difference between hot and cold ones any more. */
export function free_hot_cold_page(m: Machine, pfn: pfn_t, _cold: boolean): void {
  free_unref_page(m, pfn, 0);
}

/** Frees a block whose count is 0 already (page_alloc.c: free_the_page). */
export function free_the_page(m: Machine, pfn: pfn_t, order: order_t): void {
  if (pcp_allowed_order(m, order)) free_unref_page(m, pfn, order);
  else __free_pages_ok(m, pfn, order);
}

/** Drops a reference to a block and frees it when that was the last (page_alloc.c: __free_pages). */
export function __free_pages(m: Machine, pfn: pfn_t, order: order_t): void {
  if (put_page_testzero(m.memmap, pfn)) free_the_page(m, pfn, order);
}

/** One zone's lists of one CPU back to the buddy lists (page_alloc.c: drain_pages_zone). */
export function drain_pages_zone(m: Machine, cpu: number, zone: Zone): void {
  const pcp = zone.pageset[cpu]!;
  if (pcp.count > 0) free_pcppages_bulk(m, zone, pcp.count, pcp, 0);
}

/** All lists of one CPU back to the buddy lists, in every zone (page_alloc.c: drain_pages). */
export function drain_pages(m: Machine, cpu: number): void {
  for (const zone of m.populated_zones) drain_pages_zone(m, cpu, zone);
}

/** This CPU's lists, of one zone or of all (page_alloc.c: drain_local_pages). */
export function drain_local_pages(m: Machine, zone: Zone | null = null): void {
  if (zone !== null) drain_pages_zone(m, m.this_cpu, zone);
  else drain_pages(m, m.this_cpu);
}

/**
 * Takes a whole free block out for compaction, without a reference yet. Refused (0) when the zone
 * would fall to min + the block (recorded: "free scanner" in the README). A block of at least half a
 * pageblock makes the mergeable pageblocks it touches MOVABLE. (page_alloc.c: __isolate_free_page)
 */
export function __isolate_free_page(m: Machine, zone: Zone, pfn: pfn_t, order: order_t): number {
  const mt = get_pageblock_migratetype(m, zone, pfn);
  if (mt !== MIGRATE_ISOLATE) {
    const watermark = zone.watermark[WMARK_MIN]! + (1 << order);
    if (!zone_watermark_ok(m, zone, 0, watermark, 0, 0)) return 0;
    zone.vm_stat[NR_FREE_PAGES]! -= 1 << order;
  }
  del_page_from_free_list(m, zone, pfn);
  if (order >= m.shape.pageblock_order - 1) {
    const block = 1 << m.shape.pageblock_order;
    for (let i = pfn; i < pfn + (1 << order); i += block) {
      if (migratetype_is_mergeable(get_pageblock_migratetype(m, zone, i))) {
        set_pageblock_migratetype(m, zone, i, MIGRATE_MOVABLE);
      }
    }
  }
  return 1 << order;
}

/** From this CPU's list, refilled when it is empty; -1 when that fails (page_alloc.c). */
function rmqueue_pcplist(
  m: Machine,
  zone: Zone,
  order: order_t,
  migratetype: number,
  alloc_flags: number,
): pfn_t | -1 {
  const p = m.memmap;
  const pcp = zone.pageset[m.this_cpu]!;
  pcp.free_factor >>= 1;
  const list = pcp.lists + order_to_pindex(migratetype, order);
  if (list_empty(p, list)) {
    // A batch of 1 means that nothing may be kept; else high orders come in smaller batches.
    const batch = pcp.batch > 1 ? Math.max(pcp.batch >> order, 2) : pcp.batch;
    const got = rmqueue_bulk(m, zone, order, batch, list, migratetype, alloc_flags);
    pcp.count += got << order;
    if (list_empty(p, list)) return -1;
  }
  const pfn = p.next[list]!;
  list_del(p, pfn);
  pcp.count -= 1 << order;
  return pfn;
}

/** From the buddy lists, HIGHATOMIC first for who may, and last for who cannot wait (page_alloc.c). */
function rmqueue_buddy(
  m: Machine,
  zone: Zone,
  order: order_t,
  migratetype: number,
  alloc_flags: number,
): pfn_t | -1 {
  let pfn = -1;
  if ((alloc_flags & ALLOC_HIGHATOMIC) !== 0) {
    pfn = __rmqueue_smallest(m, zone, order, MIGRATE_HIGHATOMIC);
  }
  if (pfn < 0) pfn = __rmqueue(m, zone, order, migratetype, alloc_flags);
  if (pfn < 0 && (alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK)) !== 0) {
    pfn = __rmqueue_smallest(m, zone, order, MIGRATE_HIGHATOMIC);
  }
  if (pfn >= 0) zone.vm_stat[NR_FREE_PAGES]! -= 1 << order;
  return pfn;
}

/** One block from this zone, watermarks apart; -1 when its lists are empty (page_alloc.c). */
export function rmqueue(
  m: Machine,
  preferred_zone: Zone,
  zone: Zone,
  order: order_t,
  gfp: number,
  alloc_flags: number,
  migratetype: number,
): pfn_t | -1 {
  let pfn = -1;
  if (pcp_allowed_order(m, order)) {
    pfn = rmqueue_pcplist(m, zone, order, migratetype, alloc_flags);
  }
  if (pfn < 0) pfn = rmqueue_buddy(m, zone, order, migratetype, alloc_flags);
  if (pfn < 0) return -1;
  m.vm_events[PGALLOC + zone.zone_idx]! += 1 << order;
  if (m.shape.numa) zone_statistics(m, preferred_zone, zone);
  prep_new_page(m, pfn, order, gfp);
  return pfn;
}

/**
 * Keeps the pageblock of a high-order atomic allocation for others of its kind, as long as no more
 * than one pageblock and a hundredth of the zone are kept so.
 * (page_alloc.c: reserve_highatomic_pageblock)
 */
export function reserve_highatomic_pageblock(m: Machine, zone: Zone, pfn: pfn_t): void {
  const block = 1 << m.shape.pageblock_order;
  const max_managed = Math.floor(zone.present_pages / 100) + block;
  if (zone.nr_reserved_highatomic >= max_managed) return;
  if (!migratetype_is_mergeable(get_pageblock_migratetype(m, zone, pfn))) return;
  zone.nr_reserved_highatomic += block;
  set_pageblock_migratetype(m, zone, pfn, MIGRATE_HIGHATOMIC);
  move_freepages_block(m, zone, pfn, MIGRATE_HIGHATOMIC, true);
}

/**
 * Gives a reserved pageblock with a free block to the request's type, when reclaim made progress
 * but the request still failed. Without `force` one pageblock is kept. True when a block moved.
 * (page_alloc.c: unreserve_highatomic_pageblock)
 */
export function unreserve_highatomic_pageblock(
  m: Machine,
  zonelist: readonly Zone[],
  highest_zoneidx: number,
  migratetype: number,
  force: boolean,
): boolean {
  const p = m.memmap;
  const block = 1 << m.shape.pageblock_order;
  for (const zone of zonelist) {
    if (zone.zone_idx > highest_zoneidx) continue;
    if (!force && zone.nr_reserved_highatomic <= block) continue;
    for (let order = 0; order < m.shape.max_order; order++) {
      const head = free_list_head(zone, order, MIGRATE_HIGHATOMIC);
      const pfn = p.next[head]!;
      if (pfn === head) continue;
      if (get_pageblock_migratetype(m, zone, pfn) === MIGRATE_HIGHATOMIC) {
        zone.nr_reserved_highatomic -= Math.min(block, zone.nr_reserved_highatomic);
      }
      set_pageblock_migratetype(m, zone, pfn, migratetype);
      if (move_freepages_block(m, zone, pfn, migratetype, true) > 0) return true;
    }
  }
  return false;
}
