/**
 * The migrate scanner of 6.1's compaction: which pages move.
 *
 * It walks up from the zone's start, a pageblock at a time, and isolates up to 32 pages that are on LRU
 * lists and that migration could take. A request for an order first looks through the free lists for
 * pageblocks that are partly free already: those become whole with the least work.
 * Linux: mm/compaction.c (isolate_migratepages_block, fast_find_migrateblock, isolate_migratepages).
 */
import { list_add } from '../../lib/list.ts';
import { MIGRATE_FALLBACK } from '../../mm/address_space.ts';
import { free_list_head } from '../../mm/buddy.ts';
import { __GFP_FS, MIGRATE_MOVABLE } from '../../mm/gfp.ts';
import { del_page_from_lru_list, page_lru } from '../../mm/lru.ts';
import { type Machine, PAGE_ALLOC_COSTLY_ORDER, type Zone } from '../../mm/mmzone.ts';
import {
  compound_order,
  get_page_unless_zero,
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
  COMPACTISOLATED,
  count_vm_events,
  NR_ACTIVE_ANON,
  NR_ACTIVE_FILE,
  NR_INACTIVE_ANON,
  NR_INACTIVE_FILE,
  NR_ISOLATED_ANON,
  NR_ISOLATED_FILE,
} from '../../mm/vmstat.ts';
import {
  COMPACT_CLUSTER_MAX,
  type CompactControl,
  FAST_START_USED,
  freelist_scan_limit,
  isolation_suitable,
  test_and_set_skip,
  update_cached_migrate,
} from './compaction_control.ts';
import { move_freelist_tail, pageblock_in_zone } from './compaction_free.ts';
import {
  block_end_pfn,
  get_pageblock_skip,
  pageblock_aligned,
  pageblock_end_pfn,
  pageblock_skip_persistent,
  pageblock_start_pfn,
  set_pageblock_skip,
} from './compaction_hints.ts';
import { MIGRATE_ASYNC, MIGRATE_SYNC, putback_movable_pages } from './migrate.ts';

// What isolate_migratepages ended with.
export const ISOLATE_ABORT = 0;
export const ISOLATE_NONE = 1;
const ISOLATE_SUCCESS = 2;

/** Whether the migrate scanner may take pages of the pageblock that starts here (compaction.c). */
function suitable_migration_source(m: Machine, cc: CompactControl, pfn: pfn_t): boolean {
  if (pageblock_skip_persistent(m, pfn)) return false;
  // An asynchronous request does the least that may help it: pageblocks of its own type.
  if (cc.mode !== MIGRATE_ASYNC || !cc.direct_compaction) return true;
  return get_pageblock_migratetype(m, cc.zone, pfn) === cc.migratetype;
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
export function isolate_migratepages(m: Machine, cc: CompactControl): number {
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
