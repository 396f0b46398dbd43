/**
 * What compaction of 6.1 remembers of a zone from run to run.
 *
 * Skip bits mark pageblocks that gave nothing, cached positions where the scanners were; when the
 * scanners of a direct compaction have met, the next chance (kswapd before it sleeps, or a retry after
 * the longest deferral) takes a sample of every pageblock and forgets what is no longer true. Deferral
 * backs off from a zone whose compaction failed, by order.
 * Linux: mm/compaction.c, first part. Split off so that kswapd, which compaction lets run where Linux
 * calls cond_resched, can reset them.
 */
import { MIGRATE_MOVABLE } from '../../mm/gfp.ts';
import {
  type Machine,
  PAGE_ALLOC_COSTLY_ORDER,
  page_zone,
  pfn_valid,
  type Zone,
  zone_end_pfn,
} from '../../mm/mmzone.ts';
import {
  compound_order,
  type nid_t,
  type order_t,
  PageCompound,
  type pfn_t,
} from '../../mm/page.ts';
import { PG_buddy, PG_lru } from '../../mm/page_flags.ts';
import { get_pageblock_migratetype } from '../../mm/pageblock.ts';

const COMPACT_MAX_DEFER_SHIFT = 6;

/** compaction.c: defer_compaction. Half as many attempts from now on, down to one in 64. */
export function defer_compaction(m: Machine, zone: Zone, order: order_t): void {
  zone.compact_considered = 0;
  zone.compact_defer_shift = Math.min(zone.compact_defer_shift + 1, COMPACT_MAX_DEFER_SHIFT);
  if (order < zone.compact_order_failed) zone.compact_order_failed = order;
  if (m.trace.mm_compaction_defer_compaction.enabled) {
    emit_defer(m.trace.mm_compaction_defer_compaction, zone, order);
  }
}

function emit_defer(
  trace: Machine['trace']['mm_compaction_deferred'],
  zone: Zone,
  order: order_t,
): void {
  trace.emit(
    zone.id,
    order,
    zone.compact_order_failed,
    zone.compact_considered,
    zone.compact_defer_shift,
  );
}

/** True while attempts at this order are to be skipped; counts the visit (compaction.c). */
export function compaction_deferred(m: Machine, zone: Zone, order: order_t): boolean {
  if (order < zone.compact_order_failed) return false;
  const limit = 1 << zone.compact_defer_shift;
  if (++zone.compact_considered >= limit) {
    zone.compact_considered = limit;
    return false;
  }
  if (m.trace.mm_compaction_deferred.enabled) {
    emit_defer(m.trace.mm_compaction_deferred, zone, order);
  }
  return true;
}

/** After a success; the back-off itself ends only when the allocation succeeded (compaction.c). */
export function compaction_defer_reset(
  m: Machine,
  zone: Zone,
  order: order_t,
  alloc_success: boolean,
): void {
  if (alloc_success) {
    zone.compact_considered = 0;
    zone.compact_defer_shift = 0;
  }
  if (order >= zone.compact_order_failed) zone.compact_order_failed = order + 1;
  if (m.trace.mm_compaction_defer_reset.enabled) {
    emit_defer(m.trace.mm_compaction_defer_reset, zone, order);
  }
}

/** True when a zone was deferred for the longest time and is tried again now (compaction.c). */
export function compaction_restarting(zone: Zone, order: order_t): boolean {
  if (order < zone.compact_order_failed) return false;
  const shift = zone.compact_defer_shift;
  return shift === COMPACT_MAX_DEFER_SHIFT && zone.compact_considered >= 1 << shift;
}

/** The first frame of the pageblock that holds pfn. */
export const pageblock_start_pfn = (m: Machine, pfn: pfn_t): pfn_t =>
  pfn - (pfn % (1 << m.shape.pageblock_order));
/** One past the pageblock that holds pfn: an aligned pfn has a whole block before its end. */
export const pageblock_end_pfn = (m: Machine, pfn: pfn_t): pfn_t =>
  pageblock_start_pfn(m, pfn) + (1 << m.shape.pageblock_order);
export const pageblock_aligned = (m: Machine, pfn: pfn_t): boolean =>
  pfn % (1 << m.shape.pageblock_order) === 0;
export const block_start_pfn = (pfn: pfn_t, order: number): pfn_t => pfn - (pfn % (1 << order));
export const block_end_pfn = (pfn: pfn_t, order: number): pfn_t =>
  block_start_pfn(pfn, order) + (1 << order);

export function skip_index(m: Machine, zone: Zone, pfn: pfn_t): number {
  return (pfn - zone.pageblock_base) >>> m.shape.pageblock_order;
}

export function get_pageblock_skip(m: Machine, zone: Zone, pfn: pfn_t): boolean {
  return zone.pageblock_skip[skip_index(m, zone, pfn)] !== 0;
}

export function set_pageblock_skip(m: Machine, zone: Zone, pfn: pfn_t): void {
  zone.pageblock_skip[skip_index(m, zone, pfn)] = 1;
}

/** compaction.c: reset_cached_positions. */
export function reset_cached_positions(m: Machine, zone: Zone): void {
  zone.compact_cached_migrate_pfn.fill(zone.zone_start_pfn);
  zone.compact_cached_free_pfn = pageblock_start_pfn(m, zone_end_pfn(zone) - 1);
}

/** A pageblock that is one compound page: never worth a look (compaction.c). */
export function pageblock_skip_persistent(m: Machine, pfn: pfn_t): boolean {
  const p = m.memmap;
  return PageCompound(p, pfn) && compound_order(p, pfn) >= m.shape.pageblock_order;
}

/**
 * Whether the pageblock that holds pfn may be a source, or a target: a sample of every eighth page
 * finds one on an LRU list, or a free one. Clears its skip bit then.
 * (compaction.c: __reset_isolation_pfn)
 */
function __reset_isolation_pfn(
  m: Machine,
  zone: Zone,
  pfn: pfn_t,
  check_source: boolean,
  check_target: boolean,
): boolean {
  const p = m.memmap;
  if (!pfn_valid(m, pfn) || page_zone(m, pfn) !== zone) return false;
  if (pageblock_skip_persistent(m, pfn)) return false;
  if (check_source && check_target && !get_pageblock_skip(m, zone, pfn)) return true;
  if (
    !check_source &&
    check_target &&
    get_pageblock_migratetype(m, zone, pfn) !== MIGRATE_MOVABLE
  ) {
    return false;
  }
  const last = Math.min(pageblock_end_pfn(m, pfn), zone_end_pfn(zone)) - 1;
  const first = Math.max(pageblock_start_pfn(m, pfn), zone.zone_start_pfn);
  for (let i = first; i <= last; i += 1 << PAGE_ALLOC_COSTLY_ORDER) {
    const flags = p.flags[i]!;
    if ((check_source && (flags & PG_lru) !== 0) || (check_target && (flags & PG_buddy) !== 0)) {
      zone.pageblock_skip[skip_index(m, zone, i)] = 0;
      return true;
    }
  }
  return false;
}

/**
 * Clears the skip bits that a sample of pages speaks against, and puts the cached positions to the
 * outermost pageblocks so found; only after the scanners met. (compaction.c)
 */
export function __reset_isolation_suitable(m: Machine, zone: Zone): void {
  if (!zone.compact_blockskip_flush) return;
  zone.compact_blockskip_flush = false;
  const block = 1 << m.shape.pageblock_order;
  let migrate_pfn = zone.zone_start_pfn;
  let free_pfn = zone_end_pfn(zone) - 1;
  let reset_migrate = free_pfn;
  let reset_free = migrate_pfn;
  let source_set = false;
  let free_set = false;
  for (; migrate_pfn < free_pfn; migrate_pfn += block, free_pfn -= block) {
    if (
      __reset_isolation_pfn(m, zone, migrate_pfn, true, source_set) &&
      migrate_pfn < reset_migrate
    ) {
      source_set = true;
      reset_migrate = migrate_pfn;
      zone.compact_init_migrate_pfn = migrate_pfn;
      zone.compact_cached_migrate_pfn.fill(migrate_pfn);
    }
    if (__reset_isolation_pfn(m, zone, free_pfn, free_set, true) && free_pfn > reset_free) {
      free_set = true;
      reset_free = free_pfn;
      zone.compact_init_free_pfn = free_pfn;
      zone.compact_cached_free_pfn = free_pfn;
    }
  }
  if (reset_migrate >= reset_free) {
    zone.compact_cached_migrate_pfn.fill(migrate_pfn);
    zone.compact_cached_free_pfn = free_pfn;
  }
}

/** kswapd, before it sleeps, makes the next compaction of its zones look again (compaction.c). */
export function reset_isolation_suitable(m: Machine, nid: nid_t): void {
  for (const zone of m.nodes[nid]!.zones) {
    if (zone.compact_blockskip_flush) __reset_isolation_suitable(m, zone);
  }
}
