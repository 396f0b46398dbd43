/**
 * Memory compaction of 6.1.
 *
 * Two scanners walk a zone towards each other, as in 2.6.35. What is new: both remember where they
 * were (cached positions, apart for asynchronous and synchronous runs) and which pageblocks are not
 * worth a look (skip bits); requests for an order first search the free lists for a good source and
 * good targets; a pageblock that gave a batch is then taken as a whole (rescan); the run ends as soon
 * as the request could be served, or when a freed block is captured for it.
 *
 *     zone start                                                              zone end
 *        | migrate scanner  >>>>>>>>                 <<<<<<<<  free scanner      |
 *
 * Started by /proc/sys/vm/compact_memory and nodeN/compact (synchronous, all hints ignored), by the
 * allocator (page_alloc.ts), by kcompactd (kcompactd.ts). Each rule is in the events of the recordings
 * debian-6.1/g3-compaction, g3-direct and g4-hugepages.
 * Linux: mm/compaction.c (v6.1.192). Differs: no CMA, no movable pages beside those on LRU lists, no
 * contended locks, no signals.
 */

import { EINVAL, ENOMEM } from '../../lib/errno.ts';
import type { Job } from '../../lib/kthread.ts';
import { type Links, list_add, list_add_tail, list_del, list_empty } from '../../lib/list.ts';
import { MIGRATE_FALLBACK } from '../../mm/address_space.ts';
import { free_list_head } from '../../mm/buddy.ts';
import {
  __GFP_FS,
  __GFP_IO,
  allocflags_to_migratetype,
  GFP_KERNEL,
  MIGRATE_MOVABLE,
  MIGRATE_UNMOVABLE,
} from '../../mm/gfp.ts';
import {
  del_page_from_lru_list,
  lru_add_drain,
  lru_add_drain_all,
  page_lru,
} from '../../mm/lru.ts';
import {
  CaptureControl,
  type Machine,
  PAGE_ALLOC_COSTLY_ORDER,
  page_zone,
  pfn_valid,
  WMARK_LOW,
  WMARK_MIN,
  type Zone,
  zone_end_pfn,
} from '../../mm/mmzone.ts';
import {
  compound_order,
  get_page_unless_zero,
  type nid_t,
  type order_t,
  PageAnon,
  PageCompound,
  PageSwapCache,
  PageUnevictable,
  PageWriteback,
  page_is_file_cache,
  page_mapcount,
  type pfn_t,
} from '../../mm/page.ts';
import { PG_buddy, PG_dirty, PG_lru } from '../../mm/page_flags.ts';
import { page_mapping } from '../../mm/page_writeback.ts';
import { get_pageblock_migratetype } from '../../mm/pageblock.ts';
import {
  COMPACTFREE_SCANNED,
  COMPACTISOLATED,
  COMPACTMIGRATE_SCANNED,
  count_vm_events,
  fill_contig_page_info,
  fragmentation_index,
  NR_ACTIVE_ANON,
  NR_ACTIVE_FILE,
  NR_FREE_PAGES,
  NR_INACTIVE_ANON,
  NR_INACTIVE_FILE,
  NR_ISOLATED_ANON,
  NR_ISOLATED_FILE,
} from '../../mm/vmstat.ts';
import {
  __reset_isolation_suitable,
  block_end_pfn,
  block_start_pfn,
  compaction_defer_reset,
  compaction_deferred,
  compaction_restarting,
  defer_compaction,
  get_pageblock_skip,
  pageblock_aligned,
  pageblock_end_pfn,
  pageblock_skip_persistent,
  pageblock_start_pfn,
  reset_cached_positions,
  set_pageblock_skip,
} from './compaction_hints.ts';
import {
  MIGRATE_ASYNC,
  MIGRATE_SYNC,
  MIGRATE_SYNC_LIGHT,
  migrate_pages,
  putback_movable_pages,
} from './migrate.ts';
import { __isolate_free_page, drain_local_pages, find_suitable_fallback } from './rmqueue.ts';
import {
  __zone_watermark_ok,
  ALLOC_WMARK_MASK,
  wmark_pages,
  zone_watermark_ok,
} from './watermark.ts';

// Results, worst first: the result over several zones is the largest (linux/compaction.h).
export const COMPACT_NOT_SUITABLE_ZONE = 0;
export const COMPACT_SKIPPED = 1;
export const COMPACT_DEFERRED = 2;
export const COMPACT_NO_SUITABLE_PAGE = 3;
export const COMPACT_CONTINUE = 4;
export const COMPACT_COMPLETE = 5;
export const COMPACT_PARTIAL_SKIPPED = 6;
export const COMPACT_CONTENDED = 7;
export const COMPACT_SUCCESS = 8;

/** Their names in traces, by number. */
export const compact_result_names: readonly string[] = [
  'not_suitable_zone',
  'skipped',
  'deferred',
  'no_suitable_page',
  'continue',
  'complete',
  'partial_skipped',
  'contended',
  'success',
];

// How hard to try; lower is harder.
export const COMPACT_PRIO_SYNC_FULL = 0;
export const COMPACT_PRIO_SYNC_LIGHT = 1;
export const COMPACT_PRIO_ASYNC = 2;
export const MIN_COMPACT_PRIORITY = COMPACT_PRIO_SYNC_FULL;
export const MIN_COMPACT_COSTLY_PRIORITY = COMPACT_PRIO_SYNC_LIGHT;
export const DEF_COMPACT_PRIORITY = COMPACT_PRIO_SYNC_LIGHT;
export const INIT_COMPACT_PRIORITY = COMPACT_PRIO_ASYNC;

export const COMPACT_CLUSTER_MAX = 32;

/** fast_start_pfn when the restart that it allows has been used. */
const FAST_START_USED = -1;

/** Above every pfn. */
const NO_PFN = 2 ** 31;

// What isolate_migratepages ended with.
const ISOLATE_ABORT = 0;
const ISOLATE_NONE = 1;
const ISOLATE_SUCCESS = 2;

export interface CompactOptions {
  order: order_t | -1;
  gfp: number;
  mode: number;
  alloc_flags?: number;
  highest_zoneidx?: number;
  whole_zone?: boolean;
  ignore_skip_hint?: boolean;
  ignore_block_suitable?: boolean;
  direct_compaction?: boolean;
  /** Of kcompactd on its own account: until the zone's score is low enough. */
  proactive_compaction?: boolean;
}

/** One run over one zone (mm/internal.h: struct compact_control). */
export class CompactControl {
  readonly zone: Zone;
  /** Head rows of the isolated free pages and of the pages to migrate. */
  freepages = 0;
  migratepages = 0;
  nr_freepages = 0;
  nr_migratepages = 0;
  free_pfn: pfn_t = 0;
  migrate_pfn: pfn_t = 0;
  /** Lowest pfn that the fast search for sources found; 0: none, FAST_START_USED. */
  fast_start_pfn: pfn_t = 0;
  total_migrate_scanned = 0;
  total_free_scanned = 0;
  /** Fast searches that failed in a row: each halves the next. */
  fast_search_fail = 0;
  /** Where the fast search for targets starts. */
  search_order: number;
  readonly gfp: number;
  /** The request's order, -1 for a run over everything. */
  readonly order: number;
  readonly migratetype: number;
  readonly alloc_flags: number;
  readonly highest_zoneidx: number;
  readonly mode: number;
  readonly ignore_skip_hint: boolean;
  readonly ignore_block_suitable: boolean;
  readonly direct_compaction: boolean;
  readonly proactive_compaction: boolean;
  whole_zone: boolean;
  /** The pageblock gave a batch already: take the rest of it at once. */
  rescan = false;

  constructor(m: Machine, zone: Zone, o: CompactOptions) {
    this.zone = zone;
    this.order = o.order;
    this.search_order = o.order;
    this.gfp = o.gfp;
    this.migratetype = m.page_group_by_mobility_disabled
      ? MIGRATE_UNMOVABLE
      : allocflags_to_migratetype(o.gfp);
    this.alloc_flags = o.alloc_flags ?? 0;
    this.highest_zoneidx = o.highest_zoneidx ?? 0;
    this.mode = o.mode;
    this.whole_zone = o.whole_zone ?? false;
    this.ignore_skip_hint = o.ignore_skip_hint ?? false;
    this.ignore_block_suitable = o.ignore_block_suitable ?? false;
    this.direct_compaction = o.direct_compaction ?? false;
    this.proactive_compaction = o.proactive_compaction ?? false;
  }
}

/** Whether the run may look at the pageblock (compaction.c). */
function isolation_suitable(m: Machine, cc: CompactControl, pfn: pfn_t): boolean {
  return cc.ignore_skip_hint || !get_pageblock_skip(m, cc.zone, pfn);
}

/**
 * Claims a pageblock for this run when its first page is isolated; true when another had done so
 * before. (compaction.c: test_and_set_skip)
 */
function test_and_set_skip(m: Machine, cc: CompactControl, pfn: pfn_t): boolean {
  if (cc.ignore_skip_hint || !pageblock_aligned(m, pfn)) return false;
  const skip = get_pageblock_skip(m, cc.zone, pfn);
  if (!skip) set_pageblock_skip(m, cc.zone, pfn);
  return skip;
}

/** The next run need not look before the end of this pageblock (compaction.c). */
function update_cached_migrate(m: Machine, cc: CompactControl, pfn: pfn_t): void {
  const cached = cc.zone.compact_cached_migrate_pfn;
  pfn = pageblock_end_pfn(m, pfn);
  if (pfn > cached[0]!) cached[0] = pfn;
  if (cc.mode !== MIGRATE_ASYNC && pfn > cached[1]!) cached[1] = pfn;
}

/** The free scanner has seen the whole pageblock (compaction.c: update_pageblock_skip). */
function update_pageblock_skip(m: Machine, cc: CompactControl, pfn: pfn_t): void {
  set_pageblock_skip(m, cc.zone, pfn);
  if (pfn < cc.zone.compact_cached_free_pfn) cc.zone.compact_cached_free_pfn = pfn;
}

/**
 * True when [start, end) lies in the zone and in present memory (compaction.h:
 * pageblock_pfn_to_page).
 */
function pageblock_in_zone(m: Machine, zone: Zone, start: pfn_t, end: pfn_t): boolean {
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

/** Whether the migrate scanner may take pages of the pageblock that starts here (compaction.c). */
function suitable_migration_source(m: Machine, cc: CompactControl, pfn: pfn_t): boolean {
  if (pageblock_skip_persistent(m, pfn)) return false;
  // An asynchronous request does the least that may help it: pageblocks of its own type.
  if (cc.mode !== MIGRATE_ASYNC || !cc.direct_compaction) return true;
  return get_pageblock_migratetype(m, cc.zone, pfn) === cc.migratetype;
}

/** Whether the free scanner may take pages of the pageblock that starts here (compaction.c). */
function suitable_migration_target(m: Machine, cc: CompactControl, pfn: pfn_t): boolean {
  const p = m.memmap;
  if ((p.flags[pfn]! & PG_buddy) !== 0 && p.private_[pfn]! >= m.shape.pageblock_order) return false;
  if (cc.ignore_block_suitable) return true;
  return get_pageblock_migratetype(m, cc.zone, pfn) === MIGRATE_MOVABLE;
}

/** Entries of free lists that a fast search looks at (compaction.c). */
function freelist_scan_limit(cc: CompactControl): number {
  return (COMPACT_CLUSTER_MAX >> Math.min(31, cc.fast_search_fail)) + 1;
}

/** True when both scanners are in one pageblock, or past each other (compaction.c). */
function compact_scanners_met(m: Machine, cc: CompactControl): boolean {
  const order = m.shape.pageblock_order;
  return cc.free_pfn >>> order <= cc.migrate_pfn >>> order;
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
function move_freelist_tail(l: Links, head: number, pfn: pfn_t): void {
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
function compaction_alloc(m: Machine, cc: CompactControl): pfn_t {
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
function compaction_free(m: Machine, cc: CompactControl, pfn: pfn_t): void {
  list_add(m.memmap, pfn, cc.freepages);
  cc.nr_freepages++;
}

/** More pages isolated than half of those on LRU lists (compaction.c). */
function too_many_isolated(m: Machine, zone: Zone): boolean {
  let on_lists = 0;
  let isolated = 0;
  for (const z of m.nodes[zone.nid]!.zones) {
    const stat = z.vm_stat;
    on_lists += stat[NR_INACTIVE_FILE]! + stat[NR_INACTIVE_ANON]!;
    on_lists += stat[NR_ACTIVE_FILE]! + stat[NR_ACTIVE_ANON]!;
    isolated += stat[NR_ISOLATED_FILE]! + stat[NR_ISOLATED_ANON]!;
  }
  return isolated > Math.floor(on_lists / 2);
}

/** Whether migration could take the page: nobody else holds it, nothing to wait for (compaction.c). */
function can_isolate(m: Machine, cc: CompactControl, pfn: pfn_t): boolean {
  const p = m.memmap;
  const anon = PageAnon(p, pfn) && !PageSwapCache(p, pfn);
  // One reference is ours by now; a pinned anonymous page has more than its mappings.
  if ((anon || p.mapping[pfn] === 0) && p._count[pfn]! - 1 > page_mapcount(p, pfn)) return false;
  if ((cc.gfp & __GFP_FS) === 0 && !anon) return false;
  if (PageUnevictable(p, pfn) && m.sysctl['compact_unevictable_allowed'] === 0) return false;
  if (cc.mode === MIGRATE_SYNC) return true;
  if (PageWriteback(p, pfn)) return false;
  if ((p.flags[pfn]! & PG_dirty) === 0) return true;
  // Only mappings that move pages by themselves do so without writing them first; swap does.
  const mapping = page_mapping(m, pfn);
  return mapping === null || mapping.migratepage !== MIGRATE_FALLBACK;
}

/**
 * Takes pages off the LRU lists, from `low_pfn` to `end_pfn` of one pageblock: a batch of 32, or all
 * of them in a rescan. An asynchronous request works in chunks of its order: a page that cannot be
 * taken makes it give the chunk's pages back and go on with the next chunk. False to abort the run.
 * (compaction.c: isolate_migratepages_block)
 */
function isolate_migratepages_block(
  m: Machine,
  cc: CompactControl,
  low_pfn: pfn_t,
  end_pfn: pfn_t,
): boolean {
  const { zone } = cc;
  const p = m.memmap;
  const start_pfn = low_pfn;
  const skip_on_failure = cc.direct_compaction && cc.mode === MIGRATE_ASYNC;
  let next_skip_pfn = skip_on_failure ? block_end_pfn(low_pfn, cc.order) : 0;
  let nr_scanned = 0;
  let nr_isolated = 0;
  let skip_updated = false;
  let valid_page = -1;
  cc.migrate_pfn = low_pfn;
  // Nobody else runs here while this task works: pages that others isolated stay isolated.
  if (too_many_isolated(m, zone)) return false;
  m.kernel.cond_resched?.(m);

  for (; low_pfn < end_pfn; low_pfn++) {
    if (skip_on_failure && low_pfn >= next_skip_pfn) {
      if (nr_isolated > 0) break;
      next_skip_pfn = block_end_pfn(low_pfn, cc.order);
    }
    nr_scanned++;
    if (valid_page < 0 && pageblock_aligned(m, low_pfn)) {
      if (!isolation_suitable(m, cc, low_pfn)) {
        low_pfn = end_pfn;
        break;
      }
      valid_page = low_pfn;
    }
    const flags = p.flags[low_pfn]!;
    if ((flags & PG_buddy) !== 0) {
      low_pfn += (1 << p.private_[low_pfn]!) - 1;
      continue;
    }
    let taken = false;
    if (PageCompound(p, low_pfn)) {
      const order = compound_order(p, low_pfn);
      if (order < m.shape.max_order) low_pfn += (1 << order) - 1;
    } else if ((flags & PG_lru) !== 0 && get_page_unless_zero(p, low_pfn)) {
      if (can_isolate(m, cc, low_pfn)) {
        if (!skip_updated) {
          skip_updated = true;
          if (test_and_set_skip(m, cc, low_pfn)) {
            p._count[low_pfn]!--;
            break;
          }
        }
        taken = true;
      } else {
        p._count[low_pfn]!--;
      }
    }
    if (taken) {
      p.flags[low_pfn]! &= ~PG_lru;
      del_page_from_lru_list(m, zone, low_pfn, page_lru(p, low_pfn));
      zone.vm_stat[page_is_file_cache(p, low_pfn) ? NR_ISOLATED_FILE : NR_ISOLATED_ANON]!++;
      list_add(p, low_pfn, cc.migratepages);
      cc.nr_migratepages++;
      nr_isolated++;
      if (cc.nr_migratepages >= COMPACT_CLUSTER_MAX && !cc.rescan) {
        low_pfn++;
        break;
      }
      continue;
    }
    if (!skip_on_failure) continue;
    // The chunk cannot become free: what was taken of it need not move.
    if (nr_isolated > 0) {
      putback_movable_pages(m, cc.migratepages);
      cc.nr_migratepages = 0;
      nr_isolated = 0;
    }
    if (low_pfn < next_skip_pfn) {
      low_pfn = next_skip_pfn - 1;
      next_skip_pfn += 1 << cc.order;
    }
  }
  if (low_pfn > end_pfn) low_pfn = end_pfn;

  if (low_pfn === end_pfn && (nr_isolated === 0 || cc.rescan)) {
    if (valid_page >= 0 && !skip_updated) set_pageblock_skip(m, zone, valid_page);
    update_cached_migrate(m, cc, low_pfn);
  }
  if (m.trace.mm_compaction_isolate_migratepages.enabled) {
    m.trace.mm_compaction_isolate_migratepages.emit(start_pfn, low_pfn, nr_scanned, nr_isolated);
  }
  cc.total_migrate_scanned += nr_scanned;
  if (nr_isolated > 0) count_vm_events(m, COMPACTISOLATED, nr_isolated);
  cc.migrate_pfn = low_pfn;
  return true;
}

function update_fast_start_pfn(cc: CompactControl, pfn: pfn_t): void {
  if (cc.fast_start_pfn === FAST_START_USED) return;
  if (cc.fast_start_pfn === 0 || pfn < cc.fast_start_pfn) cc.fast_start_pfn = pfn;
}

/** Once a run, the linear scan starts where the fast search found its lowest page (compaction.c). */
function reinit_migrate_pfn(cc: CompactControl): pfn_t {
  if (cc.fast_start_pfn === 0 || cc.fast_start_pfn === FAST_START_USED) return cc.migrate_pfn;
  cc.migrate_pfn = cc.fast_start_pfn;
  cc.fast_start_pfn = FAST_START_USED;
  return cc.migrate_pfn;
}

/**
 * Looks for a pageblock that is partly free already, on the movable free lists below the request's
 * order, in the lower part of what is between the scanners. It sets the skip bit of what it finds, so
 * that the scan which follows leaves at once: a defect of 6.1, recorded in g3-direct as scans of a
 * single page. (compaction.c: fast_find_migrateblock)
 */
function fast_find_migrateblock(m: Machine, cc: CompactControl): pfn_t {
  const { zone } = cc;
  const p = m.memmap;
  let pfn = cc.migrate_pfn;
  if (cc.ignore_skip_hint) return pfn;
  if (pfn !== zone.zone_start_pfn && !pageblock_aligned(m, pfn)) return pfn;
  if (cc.order <= PAGE_ALLOC_COSTLY_ORDER) return pfn;
  if (cc.direct_compaction && cc.migratetype !== MIGRATE_MOVABLE) return pfn;
  const limit = freelist_scan_limit(cc);
  let distance = (cc.free_pfn - cc.migrate_pfn) >> 1;
  if (cc.migrate_pfn !== zone.zone_start_pfn) distance >>= 2;
  const high_pfn = pageblock_start_pfn(m, cc.migrate_pfn + distance);
  let nr_scanned = 0;
  let found = false;
  for (
    let order = cc.order - 1;
    order >= PAGE_ALLOC_COSTLY_ORDER && !found && nr_scanned < limit;
    order--
  ) {
    if (zone.nr_free[order] === 0) continue;
    const head = free_list_head(zone, order, MIGRATE_MOVABLE);
    for (let at = p.next[head]!; at !== head; at = p.next[at]!) {
      if (nr_scanned++ >= limit) {
        move_freelist_tail(p, head, at);
        break;
      }
      if (at >= high_pfn || get_pageblock_skip(m, zone, at)) continue;
      move_freelist_tail(p, head, at);
      update_fast_start_pfn(cc, at);
      pfn = Math.max(pageblock_start_pfn(m, at), zone.zone_start_pfn);
      cc.fast_search_fail = 0;
      found = true;
      set_pageblock_skip(m, zone, at);
      break;
    }
  }
  cc.total_migrate_scanned += nr_scanned;
  if (found) return pfn;
  cc.fast_search_fail++;
  return reinit_migrate_pfn(cc);
}

/** Finds the next pageblock worth a scan and scans it (compaction.c: isolate_migratepages). */
function isolate_migratepages(m: Machine, cc: CompactControl): number {
  const { zone } = cc;
  let low_pfn = fast_find_migrateblock(m, cc);
  let block_start = Math.max(pageblock_start_pfn(m, low_pfn), zone.zone_start_pfn);
  // Its skip bit was clear when the fast search found it.
  let fast_find_block = low_pfn !== cc.migrate_pfn && cc.fast_search_fail === 0;
  let block_end = pageblock_end_pfn(m, low_pfn);
  while (block_end <= cc.free_pfn) {
    if (
      pageblock_in_zone(m, zone, block_start, block_end) &&
      (!pageblock_aligned(m, low_pfn) || fast_find_block || isolation_suitable(m, cc, block_start))
    ) {
      if (suitable_migration_source(m, cc, block_start)) {
        if (!isolate_migratepages_block(m, cc, low_pfn, block_end)) return ISOLATE_ABORT;
        break;
      }
      update_cached_migrate(m, cc, block_end);
    }
    fast_find_block = false;
    cc.migrate_pfn = low_pfn = block_start = block_end;
    block_end += 1 << m.shape.pageblock_order;
  }
  return cc.nr_migratepages > 0 ? ISOLATE_SUCCESS : ISOLATE_NONE;
}

/** Percentage of the zone's free memory that is not in free huge pages (compaction.c). */
export function fragmentation_score_zone(m: Machine, zone: Zone): number {
  const order = m.shape.pageblock_order;
  const info = fill_contig_page_info(zone.nr_free, order);
  if (info.free_pages === 0) return 0;
  const unusable = info.free_pages - info.free_blocks_suitable * (1 << order);
  return Math.floor((unusable * 100) / info.free_pages);
}

/** The scores of a node's zones, weighted by their size (compaction.c). */
export function fragmentation_score_node(m: Machine, nid: nid_t): number {
  let present = 0;
  for (const zone of m.nodes[nid]!.zones) present += zone.ram_pages;
  let score = 0;
  for (const zone of m.nodes[nid]!.zones) {
    score += Math.floor((zone.ram_pages * fragmentation_score_zone(m, zone)) / (present + 1));
  }
  return score;
}

/** Scores above the high mark start a proactive compaction, at the low one it ends (compaction.c). */
export function fragmentation_score_wmark(m: Machine, low: boolean): number {
  const wmark_low = Math.max(100 - (m.sysctl['compaction_proactiveness'] ?? 20), 5);
  return low ? wmark_low : Math.min(wmark_low + 10, 100);
}

/** Whether to go on, and if not, why (compaction.c: __compact_finished). */
function __compact_finished(m: Machine, cc: CompactControl): number {
  const { zone } = cc;
  if (compact_scanners_met(m, cc)) {
    reset_cached_positions(m, zone);
    if (cc.direct_compaction) zone.compact_blockskip_flush = true;
    return cc.whole_zone ? COMPACT_COMPLETE : COMPACT_PARTIAL_SKIPPED;
  }
  if (cc.proactive_compaction) {
    const low = fragmentation_score_wmark(m, true);
    return fragmentation_score_zone(m, zone) > low ? COMPACT_CONTINUE : COMPACT_SUCCESS;
  }
  if (cc.order < 0) return COMPACT_CONTINUE;
  // A pageblock is finished first, so that the next request finds it as free as can be.
  if (!pageblock_aligned(m, cc.migrate_pfn)) return COMPACT_CONTINUE;
  for (let order = cc.order; order < m.shape.max_order; order++) {
    if (!list_empty(m.memmap, free_list_head(zone, order, cc.migratetype))) return COMPACT_SUCCESS;
    if (find_suitable_fallback(m, zone, order, cc.migratetype, true) >= 0) return COMPACT_SUCCESS;
  }
  return COMPACT_NO_SUITABLE_PAGE;
}

function compact_finished(m: Machine, cc: CompactControl): number {
  const ret = __compact_finished(m, cc);
  if (m.trace.mm_compaction_finished.enabled) {
    m.trace.mm_compaction_finished.emit(cc.zone.id, cc.order, ret);
  }
  return ret === COMPACT_NO_SUITABLE_PAGE ? COMPACT_CONTINUE : ret;
}

/** Room that a compaction for this order needs, in pages (compaction.h). */
export function compact_gap(order: order_t): number {
  return 2 << order;
}

/**
 * Whether compaction could help: SUCCESS when the request could be served as it is, SKIPPED when too
 * few pages are free, else CONTINUE. (compaction.c: __compaction_suitable)
 */
export function __compaction_suitable(
  m: Machine,
  zone: Zone,
  order: number,
  alloc_flags: number,
  highest_zoneidx: number,
  free_pages: number,
): number {
  if (order < 0) return COMPACT_CONTINUE;
  let mark = wmark_pages(zone, alloc_flags & ALLOC_WMARK_MASK);
  if (zone_watermark_ok(m, zone, order, mark, highest_zoneidx, alloc_flags)) return COMPACT_SUCCESS;
  mark = wmark_pages(zone, order > PAGE_ALLOC_COSTLY_ORDER ? WMARK_LOW : WMARK_MIN);
  mark += compact_gap(order);
  if (!__zone_watermark_ok(m, zone, 0, mark, highest_zoneidx, 0, free_pages)) {
    return COMPACT_SKIPPED;
  }
  return COMPACT_CONTINUE;
}

/** The same, and for large orders the fragmentation index must say so too (compaction.c). */
export function compaction_suitable(
  m: Machine,
  zone: Zone,
  order: number,
  alloc_flags: number,
  highest_zoneidx: number,
): number {
  const free = zone.vm_stat[NR_FREE_PAGES]!;
  let ret = __compaction_suitable(m, zone, order, alloc_flags, highest_zoneidx, free);
  if (ret === COMPACT_CONTINUE && order > PAGE_ALLOC_COSTLY_ORDER) {
    const fragindex = fragmentation_index(zone, order);
    if (fragindex >= 0 && fragindex <= m.sysctl['extfrag_threshold']!) {
      ret = COMPACT_NOT_SUITABLE_ZONE;
    }
  }
  if (m.trace.mm_compaction_suitable.enabled) {
    m.trace.mm_compaction_suitable.emit(zone.id, order, ret);
  }
  return ret === COMPACT_NOT_SUITABLE_ZONE ? COMPACT_SKIPPED : ret;
}

/** Gives the free pages that no migration used back; returns the highest of them (compaction.c). */
function release_freepages(m: Machine, head: number): pfn_t {
  const p = m.memmap;
  let high = 0;
  while (!list_empty(p, head)) {
    const pfn = p.next[head]!;
    list_del(p, pfn);
    m.kernel.__free_pages(m, pfn, 0);
    if (pfn > high) high = pfn;
  }
  return high;
}

/** Where a run starts: at the cached positions, or at the zone's ends (compaction.c: compact_zone). */
function set_start_positions(m: Machine, cc: CompactControl): void {
  const { zone } = cc;
  const start = zone.zone_start_pfn;
  const end = zone_end_pfn(zone);
  const last_block = pageblock_start_pfn(m, end - 1);
  cc.migrate_pfn = start;
  cc.free_pfn = last_block;
  if (cc.whole_zone) return;
  const cached = zone.compact_cached_migrate_pfn;
  cc.migrate_pfn = cached[cc.mode === MIGRATE_ASYNC ? 0 : 1]!;
  cc.free_pfn = zone.compact_cached_free_pfn;
  if (cc.free_pfn < start || cc.free_pfn >= end) {
    cc.free_pfn = zone.compact_cached_free_pfn = last_block;
  }
  if (cc.migrate_pfn < start || cc.migrate_pfn >= end) {
    cc.migrate_pfn = start;
    cached.fill(start);
  }
  if (cc.migrate_pfn <= zone.compact_init_migrate_pfn) cc.whole_zone = true;
}

/** Compacts one zone until compact_finished says so; returns its COMPACT_ code (compaction.c). */
export function* compact_zone(
  m: Machine,
  cc: CompactControl,
  capc: CaptureControl | null = null,
): Job {
  const { zone } = cc;
  cc.total_migrate_scanned = 0;
  cc.total_free_scanned = 0;
  let ret = compaction_suitable(m, zone, cc.order, cc.alloc_flags, cc.highest_zoneidx);
  if (ret !== COMPACT_CONTINUE) return ret;
  if (compaction_restarting(zone, cc.order)) __reset_isolation_suitable(m, zone);
  const heads = m.list_heads.take();
  cc.freepages = heads;
  cc.migratepages = heads + 1;
  set_start_positions(m, cc);
  const sync = cc.mode !== MIGRATE_ASYNC;
  const cached = zone.compact_cached_migrate_pfn;
  let last_migrated_pfn = 0;
  // Until a pageblock has something to isolate, both modes have learned the same.
  let update_cached = !sync && cached[0] === cached[1];
  if (m.trace.mm_compaction_begin.enabled) {
    m.trace.mm_compaction_begin.emit(cc.migrate_pfn, cc.free_pfn, sync ? 1 : 0, 0, zone.id);
  }
  lru_add_drain(m);

  for (;;) {
    ret = compact_finished(m, cc);
    if (ret !== COMPACT_CONTINUE) break;
    yield;
    const iteration_start = cc.migrate_pfn;
    cc.rescan =
      pageblock_start_pfn(m, last_migrated_pfn) === pageblock_start_pfn(m, iteration_start);
    const isolated = isolate_migratepages(m, cc);
    if (isolated === ISOLATE_ABORT) {
      ret = COMPACT_CONTENDED;
      putback_movable_pages(m, cc.migratepages);
      cc.nr_migratepages = 0;
      break;
    }
    if (isolated === ISOLATE_NONE) {
      if (update_cached) cached[1] = cached[0]!;
    } else {
      update_cached = false;
      last_migrated_pfn = iteration_start;
      const result = migrate_pages(
        m,
        cc.migratepages,
        compaction_alloc,
        compaction_free,
        cc,
        cc.mode,
      );
      if (m.trace.mm_compaction_migratepages.enabled) {
        const failed = cc.nr_migratepages - result.nr_succeeded;
        m.trace.mm_compaction_migratepages.emit(result.nr_succeeded, failed);
      }
      cc.nr_migratepages = 0;
      if (result.err !== 0) {
        putback_movable_pages(m, cc.migratepages);
        if (result.err === -ENOMEM && !compact_scanners_met(m, cc)) {
          ret = COMPACT_CONTENDED;
          break;
        }
        // A page of the chunk stayed, so the rest of it need not move.
        if (cc.direct_compaction && !sync) {
          cc.migrate_pfn = block_end_pfn(cc.migrate_pfn - 1, cc.order);
          last_migrated_pfn = 0;
        }
      }
    }
    // Pages freed behind the scanner's back merge before the end is tested.
    if (cc.order > 0 && last_migrated_pfn !== 0) {
      if (last_migrated_pfn < block_start_pfn(cc.migrate_pfn, cc.order)) {
        lru_add_drain(m);
        drain_local_pages(m, zone);
        last_migrated_pfn = 0;
      }
    }
    if (capc !== null && capc.page >= 0) {
      ret = COMPACT_SUCCESS;
      break;
    }
  }

  if (cc.nr_freepages > 0) {
    const free_pfn = pageblock_start_pfn(m, release_freepages(m, cc.freepages));
    cc.nr_freepages = 0;
    if (free_pfn > zone.compact_cached_free_pfn) zone.compact_cached_free_pfn = free_pfn;
  }
  count_vm_events(m, COMPACTMIGRATE_SCANNED, cc.total_migrate_scanned);
  count_vm_events(m, COMPACTFREE_SCANNED, cc.total_free_scanned);
  if (m.trace.mm_compaction_end.enabled) {
    m.trace.mm_compaction_end.emit(cc.migrate_pfn, cc.free_pfn, sync ? 1 : 0, ret, zone.id);
  }
  m.list_heads.give_back(heads);
  return ret;
}

/** Direct compaction of one zone, with capture (compaction.c). Returns the code; see captured. */
function* compact_zone_order(
  m: Machine,
  zone: Zone,
  order: order_t,
  gfp: number,
  prio: number,
  alloc_flags: number,
  highest_zoneidx: number,
  captured: { page: pfn_t | -1 },
): Job {
  const hardest = prio === MIN_COMPACT_PRIORITY;
  const cc = new CompactControl(m, zone, {
    order,
    gfp,
    mode: prio === COMPACT_PRIO_ASYNC ? MIGRATE_ASYNC : MIGRATE_SYNC_LIGHT,
    alloc_flags,
    highest_zoneidx,
    direct_compaction: true,
    whole_zone: hardest,
    ignore_skip_hint: hardest,
    ignore_block_suitable: hardest,
  });
  const capc = new CaptureControl(zone, order);
  m.capture_control = capc;
  const ret = yield* compact_zone(m, cc, capc);
  m.capture_control = null;
  captured.page = capc.page;
  return capc.page >= 0 ? COMPACT_SUCCESS : ret;
}

/**
 * Direct compaction: the zones of the zonelist in turn, until one could serve the request. Zones
 * where that failed lately are passed over, except at the highest priority. Returns the largest
 * COMPACT_ code; a captured block is left in `captured`. Requests without IO never compact.
 * (compaction.c: try_to_compact_pages)
 */
export function* try_to_compact_pages(
  m: Machine,
  zonelist: readonly Zone[],
  highest_zoneidx: number,
  order: order_t,
  gfp: number,
  alloc_flags: number,
  prio: number,
  captured: { page: pfn_t | -1 },
): Job {
  if ((gfp & __GFP_IO) === 0) return COMPACT_SKIPPED;
  if (m.trace.mm_compaction_try_to_compact_pages.enabled) {
    m.trace.mm_compaction_try_to_compact_pages.emit(order, gfp, prio);
  }
  let rc = COMPACT_SKIPPED;
  for (const zone of zonelist) {
    if (zone.zone_idx > highest_zoneidx) continue;
    if (prio > MIN_COMPACT_PRIORITY && compaction_deferred(m, zone, order)) {
      rc = Math.max(COMPACT_DEFERRED, rc);
      continue;
    }
    const status = yield* compact_zone_order(
      m,
      zone,
      order,
      gfp,
      prio,
      alloc_flags,
      highest_zoneidx,
      captured,
    );
    rc = Math.max(status, rc);
    if (status === COMPACT_SUCCESS) {
      compaction_defer_reset(m, zone, order, false);
      break;
    }
    if (
      prio !== COMPACT_PRIO_ASYNC &&
      (status === COMPACT_COMPLETE || status === COMPACT_PARTIAL_SKIPPED)
    ) {
      defer_compaction(m, zone, order);
    }
  }
  return rc;
}

/** Compacts every zone of a node, whole. 0 or -EINVAL without such a node (compaction.c). */
export function* compact_node(m: Machine, nid: nid_t): Job {
  const node = m.nodes[nid];
  if (node === undefined) return -EINVAL;
  for (const zone of node.zones) {
    const cc = new CompactControl(m, zone, {
      order: -1,
      gfp: GFP_KERNEL,
      mode: MIGRATE_SYNC,
      whole_zone: true,
      ignore_skip_hint: true,
    });
    yield* compact_zone(m, cc);
  }
  return 0;
}

/** compaction.c: compact_nodes, for compact_memory. */
export function* compact_nodes(m: Machine): Job {
  lru_add_drain_all(m);
  for (const node of m.nodes) yield* compact_node(m, node.nid);
  return 0;
}

/** compaction.c: compact_store, for nodeN/compact. 0 or -EINVAL without such a node. */
export function* compact_store(m: Machine, nid: nid_t): Job {
  lru_add_drain_all(m);
  return yield* compact_node(m, nid);
}
