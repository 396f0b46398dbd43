/**
 * The half of the page allocator that knows no watermarks: buddy lists with fallback and stealing,
 * per-CPU lists, and freeing.
 *
 * A type that has no block takes the largest block of another type and, if that is large, the free
 * rest of its pageblock with it. Single pages go through this CPU's three lists, refilled and
 * drained `batch` at a time. High orders go straight to the buddy lists.
 * Linux: mm/page_alloc.c, from __rmqueue_fallback to buffered_rmqueue. Split off page_alloc.ts so
 * that compaction, which takes free pages, does not import the slow path, which compacts.
 */

import { list_add, list_add_tail, list_del, list_empty } from '../../lib/list.ts';
import {
  __free_one_page,
  __rmqueue_smallest,
  del_page_from_free_list,
  expand,
  free_list_head,
  move_freepages_block,
} from '../../mm/buddy.ts';
import {
  __GFP_COLD,
  MIGRATE_ISOLATE,
  MIGRATE_MOVABLE,
  MIGRATE_PCPTYPES,
  MIGRATE_RECLAIMABLE,
  MIGRATE_RESERVE,
  MIGRATE_UNMOVABLE,
} from '../../mm/gfp.ts';
import {
  type Machine,
  type PerCpuPages,
  page_zone,
  WMARK_LOW,
  type Zone,
} from '../../mm/mmzone.ts';
import { type order_t, type pfn_t, put_page_testzero } from '../../mm/page.ts';
import { free_pages_prepare, prep_new_page, zone_statistics } from '../../mm/page_alloc.ts';
import { PG_buddy, PG_mlocked } from '../../mm/page_flags.ts';
import {
  change_pageblock_range,
  get_pageblock_migratetype,
  set_pageblock_migratetype,
} from '../../mm/pageblock.ts';
import {
  count_vm_event,
  NR_MLOCK,
  PGALLOC,
  PGFREE,
  UNEVICTABLE_MLOCKFREED,
} from '../../mm/vmstat.ts';
import { mod_nr_free_pages, zone_watermark_ok } from './watermark.ts';

/** Where a type that has nothing looks, in this order; RESERVE is never fallen back to here. */
const fallbacks: readonly (readonly number[])[] = [
  [MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE],
  [MIGRATE_UNMOVABLE, MIGRATE_MOVABLE],
  [MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE],
];

/**
 * Takes the largest block of another type. A block of at least half a pageblock's order, or any
 * block for a RECLAIMABLE request, brings the free rest of its pageblock along, and the pageblock
 * changes type when at least half of it was free. (page_alloc.c: __rmqueue_fallback)
 */
function __rmqueue_fallback(
  m: Machine,
  zone: Zone,
  order: order_t,
  start_migratetype: number,
): pfn_t | -1 {
  const p = m.memmap;
  const pageblock_order = m.shape.pageblock_order;
  const grouping_off = m.page_group_by_mobility_disabled;
  const types = fallbacks[start_migratetype]!;
  for (let current = m.shape.max_order - 1; current >= order; current--) {
    for (let i = 0; i < types.length; i++) {
      let migratetype = types[i]!;
      const head = free_list_head(zone, current, migratetype);
      const pfn = p.next[head]!;
      if (pfn === head) continue;

      if (
        current >= pageblock_order >> 1 ||
        start_migratetype === MIGRATE_RECLAIMABLE ||
        grouping_off
      ) {
        const pages = move_freepages_block(m, zone, pfn, start_migratetype);
        if (pages >= 1 << (pageblock_order - 1) || grouping_off) {
          set_pageblock_migratetype(m, zone, pfn, start_migratetype);
        }
        migratetype = start_migratetype;
      }
      del_page_from_free_list(m, zone, pfn);
      if (current >= pageblock_order) {
        change_pageblock_range(m, zone, pfn, current, start_migratetype);
      }
      expand(m, zone, pfn, order, current, migratetype);
      if (m.trace.mm_page_alloc_extfrag.enabled) {
        m.trace.mm_page_alloc_extfrag.emit(pfn, order, current, start_migratetype, migratetype);
      }
      return pfn;
    }
  }
  return -1;
}

/** One block from the buddy lists: own type, then others, then the RESERVE (page_alloc.c). */
export function __rmqueue(m: Machine, zone: Zone, order: order_t, migratetype: number): pfn_t | -1 {
  let pfn = __rmqueue_smallest(m, zone, order, migratetype);
  if (pfn < 0 && migratetype !== MIGRATE_RESERVE) {
    pfn = __rmqueue_fallback(m, zone, order, migratetype);
    if (pfn < 0) {
      migratetype = MIGRATE_RESERVE;
      pfn = __rmqueue_smallest(m, zone, order, migratetype);
    }
  }
  if (m.trace.mm_page_alloc_zone_locked.enabled) {
    m.trace.mm_page_alloc_zone_locked.emit(pfn, order, migratetype, order === 0 ? 1 : 0);
  }
  return pfn;
}

/**
 * Refills a per-CPU list with up to `count` single pages, kept in the order in which they came
 * (cold: reversed), and stamps them with the requested type. (page_alloc.c: rmqueue_bulk)
 */
function rmqueue_bulk(
  m: Machine,
  zone: Zone,
  count: number,
  list: number,
  migratetype: number,
  cold: boolean,
): number {
  const p = m.memmap;
  let got = 0;
  for (; got < count; got++) {
    const pfn = __rmqueue(m, zone, 0, migratetype);
    if (pfn < 0) break;
    if (cold) list_add_tail(p, pfn, list);
    else list_add(p, pfn, list);
    p.private_[pfn] = migratetype;
    list = pfn;
  }
  mod_nr_free_pages(m, zone, -got);
  return got;
}

/**
 * Gives `count` pages of a CPU back to the buddy lists: round robin over its lists, from their
 * tails, taking more at a time the more lists were found empty. (page_alloc.c: free_pcppages_bulk)
 */
export function free_pcppages_bulk(m: Machine, zone: Zone, count: number, pcp: PerCpuPages): void {
  const p = m.memmap;
  const trace = m.trace.mm_page_pcpu_drain;
  zone.all_unreclaimable = 0;
  zone.pages_scanned = 0;
  mod_nr_free_pages(m, zone, count);
  let migratetype = 0;
  let batch_free = 0;
  while (count > 0) {
    let list: number;
    do {
      batch_free++;
      if (++migratetype === MIGRATE_PCPTYPES) migratetype = 0;
      list = pcp.lists + migratetype;
    } while (list_empty(p, list));
    do {
      const pfn = p.prev[list]!;
      const type = p.private_[pfn]!;
      list_del(p, pfn);
      p.private_[pfn] = 0;
      __free_one_page(m, zone, pfn, 0, type);
      // Linux reads the type back from page->private, which by now is the order of the free block
      // if the page heads one; the recordings show that number as the type.
      if (trace.enabled)
        trace.emit(pfn, 0, (p.flags[pfn]! & PG_buddy) !== 0 ? p.private_[pfn]! : type);
    } while (--count > 0 && --batch_free > 0 && !list_empty(p, list));
  }
}

/** page_alloc.c: free_one_page. */
export function free_one_page(
  m: Machine,
  zone: Zone,
  pfn: pfn_t,
  order: order_t,
  migratetype: number,
): void {
  zone.all_unreclaimable = 0;
  zone.pages_scanned = 0;
  __free_one_page(m, zone, pfn, order, migratetype);
  mod_nr_free_pages(m, zone, 1 << order);
}

/** A page that is freed while mlocked gives its accounting back (page_alloc.c: free_page_mlock). */
function free_page_mlock(m: Machine, zone: Zone, pfn: pfn_t): void {
  m.memmap.flags[pfn]! &= ~PG_mlocked;
  zone.vm_stat[NR_MLOCK]!--;
  count_vm_event(m, UNEVICTABLE_MLOCKFREED);
}

/** Frees a block straight into the buddy lists (page_alloc.c: __free_pages_ok). */
export function __free_pages_ok(m: Machine, pfn: pfn_t, order: order_t): void {
  const zone = page_zone(m, pfn);
  if ((m.memmap.flags[pfn]! & PG_mlocked) !== 0) free_page_mlock(m, zone, pfn);
  free_pages_prepare(m, pfn, order);
  m.vm_events[PGFREE]! += 1 << order;
  free_one_page(m, zone, pfn, order, get_pageblock_migratetype(m, zone, pfn));
}

/**
 * Frees a single page to this CPU's list: hot pages to the head, cold ones to the tail; a list that
 * got too long gives one batch back. RESERVE pages lie on the MOVABLE list but remember what they
 * are. (page_alloc.c: free_hot_cold_page)
 */
export function free_hot_cold_page(m: Machine, pfn: pfn_t, cold: boolean): void {
  const p = m.memmap;
  const zone = page_zone(m, pfn);
  if ((p.flags[pfn]! & PG_mlocked) !== 0) free_page_mlock(m, zone, pfn);
  free_pages_prepare(m, pfn, 0);
  m.vm_events[PGFREE]!++;
  let migratetype = get_pageblock_migratetype(m, zone, pfn);
  p.private_[pfn] = migratetype;
  if (migratetype >= MIGRATE_PCPTYPES) {
    if (migratetype === MIGRATE_ISOLATE) {
      p.private_[pfn] = 0;
      free_one_page(m, zone, pfn, 0, migratetype);
      return;
    }
    migratetype = MIGRATE_MOVABLE;
  }
  const pcp = zone.pageset[m.this_cpu]!;
  if (cold) list_add_tail(p, pfn, pcp.lists + migratetype);
  else list_add(p, pfn, pcp.lists + migratetype);
  pcp.count++;
  if (pcp.count >= pcp.high) {
    const batch = Math.min(pcp.batch, pcp.count);
    free_pcppages_bulk(m, zone, batch, pcp);
    pcp.count -= batch;
  }
}

/** Drops a reference to a block and frees it when that was the last (page_alloc.c: __free_pages). */
export function __free_pages(m: Machine, pfn: pfn_t, order: order_t): void {
  if (!put_page_testzero(m.memmap, pfn)) return;
  if (order === 0) free_hot_cold_page(m, pfn, false);
  else __free_pages_ok(m, pfn, order);
}

/**
 * All lists of one CPU back to the buddy lists, in every zone (page_alloc.c: drain_pages). Where
 * there is nothing to give back, the zone counts as reclaimable again all the same: each attempt to
 * compact and each direct reclaim of a block does that to all zones, and kswapd minds (golden t1,
 * t1-i386pae: `final` has no DMA zone that is all_unreclaimable, though none has pages to reclaim).
 */
export function drain_pages(m: Machine, cpu: number): void {
  for (const zone of m.populated_zones) {
    const pcp = zone.pageset[cpu]!;
    free_pcppages_bulk(m, zone, pcp.count, pcp);
    pcp.count = 0;
  }
}

export function drain_local_pages(m: Machine): void {
  drain_pages(m, m.this_cpu);
}

/**
 * Takes a whole free block out as single pages with a reference each, for compaction. Refused (0)
 * when the zone would fall below low + the block. A block of at least half a pageblock makes the
 * pageblocks it touches MOVABLE. (page_alloc.c: split_free_page)
 */
export function split_free_page(m: Machine, zone: Zone, pfn: pfn_t): number {
  const p = m.memmap;
  const order = p.private_[pfn]!;
  const watermark = zone.watermark[WMARK_LOW]! + (1 << order);
  if (!zone_watermark_ok(zone, 0, watermark, 0, 0)) return 0;
  del_page_from_free_list(m, zone, pfn);
  mod_nr_free_pages(m, zone, -(1 << order));
  const end = pfn + (1 << order);
  for (let i = pfn; i < end; i++) p._count[i] = 1;
  if (order >= m.shape.pageblock_order - 1) {
    const block = 1 << m.shape.pageblock_order;
    for (let i = pfn; i < end; i += block) {
      set_pageblock_migratetype(m, zone, i, MIGRATE_MOVABLE);
    }
  }
  return end - pfn;
}

/** One block from this zone, watermarks apart; -1 when its lists are empty (page_alloc.c). */
export function buffered_rmqueue(
  m: Machine,
  preferred_zone: Zone,
  zone: Zone,
  order: order_t,
  gfp: number,
  migratetype: number,
): pfn_t | -1 {
  const p = m.memmap;
  const cold = (gfp & __GFP_COLD) !== 0;
  let pfn: pfn_t;
  if (order === 0) {
    const pcp = zone.pageset[m.this_cpu]!;
    const list = pcp.lists + migratetype;
    if (list_empty(p, list)) {
      pcp.count += rmqueue_bulk(m, zone, pcp.batch, list, migratetype, cold);
      if (list_empty(p, list)) return -1;
    }
    pfn = cold ? p.prev[list]! : p.next[list]!;
    list_del(p, pfn);
    pcp.count--;
  } else {
    pfn = __rmqueue(m, zone, order, migratetype);
    if (pfn < 0) return -1;
    mod_nr_free_pages(m, zone, -(1 << order));
  }
  m.vm_events[PGALLOC + zone.zone_idx]! += 1 << order;
  if (m.shape.numa) zone_statistics(m, preferred_zone, zone);
  prep_new_page(m, pfn, order, gfp);
  return pfn;
}
