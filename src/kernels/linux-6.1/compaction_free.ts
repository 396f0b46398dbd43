/**
 * The free scanner of 6.1's compaction: where pages are moved to.
 *
 * It walks down from the zone's end and takes whole free blocks of pageblocks that are good targets, as
 * single pages. A request for an order first looks through the free lists, from a large order down,
 * for a block in the upper part of what is left, and puts what it passed over to the list's end.
 * Linux: mm/compaction.c (isolate_freepages_block, fast_isolate_freepages, isolate_freepages,
 * compaction_alloc).
 */
import { type Links, list_add, list_add_tail, list_del, list_empty } from '../../lib/list.ts';
import { free_list_head } from '../../mm/buddy.ts';
import { MIGRATE_MOVABLE } from '../../mm/gfp.ts';
import { type Machine, page_zone, pfn_valid, type Zone, zone_end_pfn } from '../../mm/mmzone.ts';
import { compound_order, type order_t, PageCompound, type pfn_t } from '../../mm/page.ts';
import { PG_buddy } from '../../mm/page_flags.ts';
import { get_pageblock_migratetype } from '../../mm/pageblock.ts';
import { COMPACTISOLATED, count_vm_events } from '../../mm/vmstat.ts';
import {
  COMPACT_CLUSTER_MAX,
  type CompactControl,
  freelist_scan_limit,
  isolation_suitable,
  NO_PFN,
  update_pageblock_skip,
} from './compaction_control.ts';
import { pageblock_end_pfn, pageblock_start_pfn, set_pageblock_skip } from './compaction_hints.ts';
import { MIGRATE_ASYNC } from './migrate.ts';
import { __isolate_free_page } from './rmqueue.ts';

/**
 * True when [start, end) lies in the zone and in present memory (compaction.h:
 * pageblock_pfn_to_page).
 */
export function pageblock_in_zone(m: Machine, zone: Zone, start: pfn_t, end: pfn_t): boolean {
  if (!pfn_valid(m, start) || !pfn_valid(m, end - 1)) return false;
  return page_zone(m, start) === zone && end - 1 < zone_end_pfn(zone);
}

/**
 * Takes free blocks from `start` on, every stride-th frame being looked at, until there are as many
 * free pages as pages to migrate; each goes as a whole to the end of freepages. Returns the pfn where
 * it stopped, which is `end` when it saw everything. A refused block (watermark) ends it as well.
 * (compaction.c: isolate_freepages_block)
 */
function isolate_freepages_block(
  m: Machine,
  cc: CompactControl,
  start: pfn_t,
  end: pfn_t,
  stride: number,
): pfn_t {
  const p = m.memmap;
  let nr_scanned = 0;
  let total_isolated = 0;
  let pfn = start;
  for (; pfn < end; pfn += stride) {
    nr_scanned++;
    if (PageCompound(p, pfn)) {
      const order = compound_order(p, pfn);
      if (order < m.shape.max_order) pfn += (1 << order) - 1;
      continue;
    }
    if ((p.flags[pfn]! & PG_buddy) === 0) continue;
    const order = p.private_[pfn]!;
    const isolated = __isolate_free_page(m, cc.zone, pfn, order);
    if (isolated === 0) break;
    take_free_block(m, cc, pfn, order);
    nr_scanned += isolated - 1;
    total_isolated += isolated;
    if (cc.nr_migratepages <= cc.nr_freepages) {
      pfn += isolated;
      break;
    }
    pfn += isolated - 1;
  }
  if (pfn > end) pfn = end;
  if (m.trace.mm_compaction_isolate_freepages.enabled) {
    m.trace.mm_compaction_isolate_freepages.emit(start, pfn, nr_scanned, total_isolated);
  }
  cc.total_free_scanned += nr_scanned;
  if (total_isolated > 0) count_vm_events(m, COMPACTISOLATED, total_isolated);
  return pfn;
}

/** Puts a block that has left the buddy lists on freepages; its order waits in private_. */
function take_free_block(m: Machine, cc: CompactControl, pfn: pfn_t, order: order_t): void {
  m.memmap.private_[pfn] = order;
  cc.nr_freepages += 1 << order;
  list_add_tail(m.memmap, pfn, cc.freepages);
}

/** Splits the new blocks into pages with a reference each, the last page first (compaction.c). */
function split_map_pages(m: Machine, head: number): void {
  const p = m.memmap;
  let pfn = p.next[head]!;
  while (pfn !== head) {
    const next = p.next[pfn]!;
    const order = p.private_[pfn]!;
    list_del(p, pfn);
    p.private_[pfn] = 0;
    // To the front, which this walk has left behind.
    for (let i = pfn; i < pfn + (1 << order); i++) {
      p._count[i] = 1;
      list_add(p, i, head);
    }
    pfn = next;
  }
}

/** Whether the free scanner may take pages of the pageblock that starts here (compaction.c). */
function suitable_migration_target(m: Machine, cc: CompactControl, pfn: pfn_t): boolean {
  const p = m.memmap;
  if ((p.flags[pfn]! & PG_buddy) !== 0 && p.private_[pfn]! >= m.shape.pageblock_order) return false;
  if (cc.ignore_block_suitable) return true;
  return get_pageblock_migratetype(m, cc.zone, pfn) === MIGRATE_MOVABLE;
}

/** Moves the entries before x to the end of the list: x becomes the first. */
function rotate_to_front(l: Links, head: number, x: number): void {
  if (l.next[head] === x) return;
  list_del(l, head);
  // An empty head again, put in right before x.
  const prev = l.prev[x]!;
  l.next[prev] = head;
  l.prev[head] = prev;
  l.next[head] = x;
  l.prev[x] = head;
}

/** What was not yet seen, before `pfn`, is seen first next time, from the end (compaction.c). */
function move_freelist_head(l: Links, head: number, pfn: pfn_t): void {
  rotate_to_front(l, head, pfn);
}

/** What was seen, up to `pfn`, goes to the end (compaction.c). */
export function move_freelist_tail(l: Links, head: number, pfn: pfn_t): void {
  const next = l.next[pfn]!;
  if (next !== head) rotate_to_front(l, head, next);
}

/** Looks for more around a page that a fast search found (compaction.c). */
function fast_isolate_around(m: Machine, cc: CompactControl, pfn: pfn_t): void {
  if (cc.nr_freepages >= cc.nr_migratepages) return;
  if (cc.direct_compaction && cc.mode === MIGRATE_ASYNC) return;
  const start = Math.max(pageblock_start_pfn(m, pfn), cc.zone.zone_start_pfn);
  const end = Math.min(pageblock_end_pfn(m, pfn), zone_end_pfn(cc.zone));
  if (!pageblock_in_zone(m, cc.zone, start, end)) return;
  isolate_freepages_block(m, cc, start, end, 1);
  if (cc.nr_freepages < cc.nr_migratepages) set_pageblock_skip(m, cc.zone, start);
}

/** Orders in turn, downwards; -1 when all were searched (compaction.c). */
function next_search_order(cc: CompactControl, order: number): number {
  order--;
  if (order < 0) order = cc.order - 1;
  if (order !== cc.search_order) return order;
  cc.search_order--;
  if (cc.search_order < 0) cc.search_order = cc.order - 1;
  return -1;
}

/**
 * Looks for a target on the movable free lists, from their tails: best in the top quarter of what is
 * between the scanners, else the highest in the top half. What it finds goes to freepages; without
 * success it may at least move the free scanner. (compaction.c: fast_isolate_freepages)
 */
function fast_isolate_freepages(m: Machine, cc: CompactControl): void {
  if (cc.order <= 0) return;
  const { zone } = cc;
  const p = m.memmap;
  let limit = Math.max(1, freelist_scan_limit(cc) >> 1);
  let nr_scanned = 0;
  let highest = 0;
  let page = -1;
  let scan_start = false;
  if (cc.free_pfn >= zone.compact_init_free_pfn) {
    limit = (1 << m.shape.pageblock_order) >> 1;
    scan_start = true;
  }
  const distance = cc.free_pfn - cc.migrate_pfn;
  // Once the free scanner has passed the other one, the unsigned distance of Linux wraps around and
  // no page is high enough (recorded: g4-hugepages H001, its last batch).
  const passed = distance < 0;
  const low_pfn = passed ? NO_PFN : pageblock_start_pfn(m, cc.free_pfn - (distance >> 2));
  const min_pfn = passed ? NO_PFN : pageblock_start_pfn(m, cc.free_pfn - (distance >> 1));

  cc.search_order = Math.min(cc.order - 1, cc.search_order);
  for (let order = cc.search_order; page < 0 && order >= 0; order = next_search_order(cc, order)) {
    if (zone.nr_free[order] === 0) continue;
    const head = free_list_head(zone, order, MIGRATE_MOVABLE);
    let order_scanned = 0;
    let high_pfn = 0;
    let at = p.prev[head]!;
    for (; at !== head; at = p.prev[at]!) {
      order_scanned++;
      nr_scanned++;
      if (at >= highest) highest = Math.max(pageblock_start_pfn(m, at), zone.zone_start_pfn);
      if (at >= low_pfn) {
        cc.fast_search_fail = 0;
        cc.search_order = order;
        page = at;
        break;
      }
      if (at >= min_pfn && at > high_pfn) {
        high_pfn = at;
        limit >>= 1;
      }
      if (order_scanned >= limit) break;
    }
    if (page < 0 && high_pfn > 0) page = at = high_pfn;
    if (at !== head) move_freelist_head(p, head, at);
    if (page >= 0) {
      const isolated = __isolate_free_page(m, zone, page, order);
      if (isolated > 0) {
        take_free_block(m, cc, page, order);
        nr_scanned += isolated - 1;
        count_vm_events(m, COMPACTISOLATED, isolated);
      } else {
        order = cc.search_order + 1;
        page = -1;
      }
    }
    if (order_scanned >= limit) limit = Math.max(1, limit >> 1);
  }

  if (page < 0) {
    cc.fast_search_fail++;
    if (scan_start) {
      if (highest >= min_pfn) {
        page = highest;
        cc.free_pfn = highest;
      } else if (cc.direct_compaction && pfn_valid(m, min_pfn)) {
        const end = Math.min(pageblock_end_pfn(m, min_pfn), zone_end_pfn(zone));
        if (pageblock_in_zone(m, zone, min_pfn, end)) page = min_pfn;
        cc.free_pfn = min_pfn;
      }
    }
  }
  if (highest > 0 && highest >= zone.compact_cached_free_pfn) {
    zone.compact_cached_free_pfn = highest - (1 << m.shape.pageblock_order);
  }
  cc.total_free_scanned += nr_scanned;
  if (page >= 0) fast_isolate_around(m, cc, page);
}

/**
 * Fills freepages for the batch: by a fast search, else by moving the free scanner down. Stops as
 * soon as there is enough, also inside a pageblock; pageblocks that had nothing make it look at fewer
 * frames of the next ones. (compaction.c: isolate_freepages)
 */
function isolate_freepages(m: Machine, cc: CompactControl): void {
  const { zone } = cc;
  const block = 1 << m.shape.pageblock_order;
  fast_isolate_freepages(m, cc);
  if (cc.nr_freepages === 0) {
    let start = cc.free_pfn;
    let block_start = pageblock_start_pfn(m, start);
    let block_end = Math.min(block_start + block, zone_end_pfn(zone));
    const low_pfn = pageblock_end_pfn(m, cc.migrate_pfn);
    let stride = cc.mode === MIGRATE_ASYNC ? COMPACT_CLUSTER_MAX : 1;
    while (block_start >= low_pfn) {
      if (
        pageblock_in_zone(m, zone, block_start, block_end) &&
        suitable_migration_target(m, cc, block_start) &&
        isolation_suitable(m, cc, block_start)
      ) {
        const before = cc.nr_freepages;
        start = isolate_freepages_block(m, cc, start, block_end, stride);
        if (start === block_end) update_pageblock_skip(m, cc, block_start);
        if (cc.nr_freepages >= cc.nr_migratepages) {
          if (start >= block_end) start = block_start - block;
          break;
        }
        if (start < block_end) break;
        stride = cc.nr_freepages > before ? 1 : Math.min(COMPACT_CLUSTER_MAX, stride << 1);
      }
      block_end = block_start;
      block_start -= block;
      start = block_start;
    }
    cc.free_pfn = start;
  }
  split_map_pages(m, cc.freepages);
}

/** A target for one page, -1 when there is none any more (compaction.c). */
export function compaction_alloc(m: Machine, cc: CompactControl): pfn_t {
  const p = m.memmap;
  if (list_empty(p, cc.freepages)) {
    isolate_freepages(m, cc);
    if (list_empty(p, cc.freepages)) return -1;
  }
  const pfn = p.next[cc.freepages]!;
  list_del(p, pfn);
  cc.nr_freepages--;
  return pfn;
}

/** Takes an unused target back (compaction.c: compaction_free). */
export function compaction_free(m: Machine, cc: CompactControl, pfn: pfn_t): void {
  list_add(m.memmap, pfn, cc.freepages);
  cc.nr_freepages++;
}
