/**
 * Memory compaction, as merged for 2.6.35.
 *
 * Two scanners walk a zone towards each other. The migrate scanner starts at the bottom and takes
 * pages off the LRU lists, 32 at a time; the free scanner starts at the top and takes free pages
 * out of movable pageblocks, as targets. Each batch is migrated; when the scanners meet, free memory
 * lies together at the bottom. It is started by /proc/sys/vm/compact_memory, by nodeN/compact, and
 * by an allocation of order > 3 that failed (before direct reclaim), behind a fragmentation index
 * and an exponential back-off.
 *
 *     zone start                                                              zone end
 *        | migrate scanner  >>>>>>>>                 <<<<<<<<  free scanner      |
 *
 * Linux: mm/compaction.c, include/linux/compaction.h (v2.6.35), with its defects, except D1: a
 * migrate scanner at the zone's end stops instead of walking into the next zone.
 */
import { BUG_ON } from '../../lib/bug.ts';
import { EINVAL } from '../../lib/errno.ts';
import type { Job } from '../../lib/kthread.ts';
import { list_add, list_del, list_empty } from '../../lib/list.ts';
import { free_list_head } from '../../mm/buddy.ts';
import {
  __GFP_FS,
  __GFP_IO,
  allocflags_to_migratetype,
  MIGRATE_ISOLATE,
  MIGRATE_MOVABLE,
  MIGRATE_RESERVE,
  MIGRATE_UNMOVABLE,
} from '../../mm/gfp.ts';
import {
  __isolate_lru_page,
  del_page_from_lru_list,
  ISOLATE_BOTH,
  lru_add_drain,
  lru_add_drain_all,
  page_lru,
} from '../../mm/lru.ts';
import {
  type Machine,
  PAGE_ALLOC_COSTLY_ORDER,
  page_zone,
  pfn_valid,
  WMARK_LOW,
  type Zone,
  zone_end_pfn,
} from '../../mm/mmzone.ts';
import { type nid_t, type order_t, page_is_file_cache, type pfn_t } from '../../mm/page.ts';
import { PG_buddy } from '../../mm/page_flags.ts';
import { get_pageblock_migratetype } from '../../mm/pageblock.ts';
import {
  COMPACTBLOCKS,
  COMPACTFREE_SCANNED,
  COMPACTMIGRATE_SCANNED,
  COMPACTPAGES,
  COMPACTSTALL,
  count_vm_event,
  count_vm_events,
  fragmentation_index,
  NR_INACTIVE_ANON,
  NR_INACTIVE_FILE,
  NR_ISOLATED_ANON,
  NR_ISOLATED_FILE,
} from '../../mm/vmstat.ts';
import { migrate_pages, NEED_RESCHED } from './migrate.ts';
import { split_free_page } from './rmqueue.ts';
import { zone_watermark_ok } from './watermark.ts';

// Return codes of compact_zone and try_to_compact_pages.
export const COMPACT_SKIPPED = 0;
export const COMPACT_CONTINUE = 1;
export const COMPACT_PARTIAL = 2;
export const COMPACT_COMPLETE = 3;

export const COMPACT_CLUSTER_MAX = 32;
const COMPACT_MAX_DEFER_SHIFT = 6;

/** Frames that the free scanner looks at before it lets other work run, about a third of a ms. */
const FREE_SCAN_FRAMES = 128 * 1024;

/** One run over one zone (compaction.c: struct compact_control). */
export class CompactControl {
  /** Head rows of the isolated free pages and of the pages to migrate. */
  freepages = 0;
  migratepages = 0;
  nr_freepages = 0;
  nr_migratepages = 0;
  free_pfn: pfn_t = 0;
  migrate_pfn: pfn_t = 0;
  /** Pages of the last batch by kind, for the isolated counters. */
  nr_anon = 0;
  nr_file = 0;
  /** The request's order, -1 for an explicit compaction. */
  order: number;
  /** The request's type (direct compaction only). */
  migratetype: number;
  readonly zone: Zone;
  /** Frames seen by the current call of isolate_freepages since it last paused; -1: not scanning. */
  scanned = -1;
  scan_pfn: pfn_t = 0;
  scan_low: pfn_t = 0;
  scan_high: pfn_t = 0;
  scan_n = 0;

  constructor(zone: Zone, order: number, migratetype: number) {
    this.zone = zone;
    this.order = order;
    this.migratetype = migratetype;
  }
}

/**
 * Takes every free block of one pageblock that the watermark lets go, as single pages, each pushed
 * on the head of freepages. Returns the number taken. (compaction.c: isolate_freepages_block)
 */
function isolate_freepages_block(m: Machine, cc: CompactControl, block_pfn: pfn_t): number {
  const p = m.memmap;
  const flags = p.flags;
  const end = Math.min(block_pfn + (1 << m.shape.pageblock_order), zone_end_pfn(cc.zone));
  count_vm_events(m, COMPACTFREE_SCANNED, end - block_pfn);
  let total = 0;
  for (let pfn = block_pfn; pfn < end; pfn++) {
    if ((flags[pfn]! & PG_buddy) === 0) continue;
    const isolated = split_free_page(m, cc.zone, pfn);
    total += isolated;
    for (let i = 0; i < isolated; i++) list_add(p, pfn + i, cc.freepages);
    // A refused block is walked through frame by frame, like anything else.
    if (isolated > 0) pfn += isolated - 1;
  }
  return total;
}

/** Whether the free scanner may take pages of the pageblock that starts here (compaction.c). */
function suitable_migration_target(m: Machine, zone: Zone, pfn: pfn_t): boolean {
  const p = m.memmap;
  const migratetype = get_pageblock_migratetype(m, zone, pfn);
  if (migratetype === MIGRATE_ISOLATE || migratetype === MIGRATE_RESERVE) return false;
  if ((p.flags[pfn]! & PG_buddy) !== 0 && p.private_[pfn]! >= m.shape.pageblock_order) return true;
  return migratetype === MIGRATE_MOVABLE;
}

/**
 * Moves the free scanner down until there are as many free pages as pages to migrate. Always takes
 * all it can of the last pageblock, so it may overshoot. The next scan begins at the highest block
 * that had something. (compaction.c: isolate_freepages)
 *
 * Returns false when it paused to let other work run; call it again to go on.
 */
function isolate_freepages(m: Machine, cc: CompactControl): boolean {
  const zone = cc.zone;
  const block = 1 << m.shape.pageblock_order;
  if (cc.scanned < 0) {
    cc.scan_pfn = cc.free_pfn;
    cc.scan_low = cc.migrate_pfn + block;
    cc.scan_high = cc.scan_low;
    cc.scan_n = cc.nr_freepages;
  }
  cc.scanned = 0;
  while (cc.scan_pfn > cc.scan_low && cc.nr_migratepages > cc.scan_n) {
    if (cc.scanned >= FREE_SCAN_FRAMES) return false;
    const pfn = cc.scan_pfn;
    cc.scan_pfn -= block;
    // The frame at an aligned zone end may have a memmap and be in no zone at all.
    if (pfn >= zone_end_pfn(zone) || !pfn_valid(m, pfn) || page_zone(m, pfn) !== zone) continue;
    if (!suitable_migration_target(m, zone, pfn)) continue;
    cc.scanned += block;
    const isolated = isolate_freepages_block(m, cc, pfn);
    cc.scan_n += isolated;
    if (isolated > 0) cc.scan_high = Math.max(cc.scan_high, pfn);
  }
  cc.free_pfn = cc.scan_high;
  cc.nr_freepages = cc.scan_n;
  cc.scanned = -1;
  return true;
}

/** Adds the batch to the isolated counters (compaction.c: acct_isolated). */
function acct_isolated(m: Machine, cc: CompactControl): void {
  const p = m.memmap;
  cc.nr_anon = 0;
  cc.nr_file = 0;
  for (let pfn = p.next[cc.migratepages]!; pfn !== cc.migratepages; pfn = p.next[pfn]!) {
    if (page_is_file_cache(p, pfn)) cc.nr_file++;
    else cc.nr_anon++;
  }
  cc.zone.vm_stat[NR_ISOLATED_ANON]! += cc.nr_anon;
  cc.zone.vm_stat[NR_ISOLATED_FILE]! += cc.nr_file;
}

/** More pages isolated than are inactive: reclaim or another compaction is at it (compaction.c). */
function too_many_isolated(zone: Zone): boolean {
  const stat = zone.vm_stat;
  const inactive = stat[NR_INACTIVE_FILE]! + stat[NR_INACTIVE_ANON]!;
  const isolated = stat[NR_ISOLATED_FILE]! + stat[NR_ISOLATED_ANON]!;
  return isolated > inactive;
}

/**
 * Takes up to 32 pages off the LRU lists, from the migrate scanner on to the end of its pageblock
 * (of the next one when it starts inside a block). A full batch stops on its last page, which is
 * looked at again next time. Returns the number taken. (compaction.c: isolate_migratepages)
 */
function isolate_migratepages(m: Machine, cc: CompactControl): number {
  const p = m.memmap;
  const zone = cc.zone;
  const flags = p.flags;
  const block = 1 << m.shape.pageblock_order;
  let pfn = Math.max(cc.migrate_pfn, zone.zone_start_pfn);
  const end = Math.ceil((pfn + block) / block) * block;
  if (end > cc.free_pfn || !pfn_valid(m, pfn) || pfn >= zone_end_pfn(zone)) {
    cc.migrate_pfn = end;
    return 0;
  }
  const limit = Math.min(end, zone_end_pfn(zone));
  const first = pfn;
  for (; pfn < limit; pfn++) {
    // A free block is walked through frame by frame: its order is not used in this version.
    if ((flags[pfn]! & PG_buddy) !== 0) continue;
    if (__isolate_lru_page(m, pfn, ISOLATE_BOTH, false) !== 0) continue;
    del_page_from_lru_list(m, zone, pfn, page_lru(p, pfn));
    list_add(p, pfn, cc.migratepages);
    if (++cc.nr_migratepages === COMPACT_CLUSTER_MAX) break;
  }
  acct_isolated(m, cc);
  // Counted for who wants to know the work; the kernel counts and shows these from 3.8 on.
  count_vm_events(m, COMPACTMIGRATE_SCANNED, pfn - first);
  cc.migrate_pfn = pfn;
  return cc.nr_migratepages;
}

/**
 * The next target frame: the head of freepages, refilled by the free scanner. -1 when the scanners
 * have met, NEED_RESCHED when the free scanner paused. (compaction.c: compaction_alloc)
 */
function compaction_alloc(m: Machine, cc: CompactControl): pfn_t {
  const p = m.memmap;
  if (list_empty(p, cc.freepages)) {
    if (!isolate_freepages(m, cc)) return NEED_RESCHED;
    if (list_empty(p, cc.freepages)) return -1;
  }
  const pfn = p.next[cc.freepages]!;
  list_del(p, pfn);
  cc.nr_freepages--;
  return pfn;
}

/** Whether to go on, and if not, why (compaction.c: compact_finished). */
function compact_finished(m: Machine, cc: CompactControl): number {
  const zone = cc.zone;
  const p = m.memmap;
  if (cc.free_pfn <= cc.migrate_pfn) return COMPACT_COMPLETE;
  // An explicit compaction runs until the scanners meet: both outcomes of the watermark test below
  // are "continue" then.
  if (cc.order < 0) return COMPACT_CONTINUE;
  const watermark = zone.watermark[WMARK_LOW]! + (1 << cc.order);
  if (!zone_watermark_ok(zone, cc.order, watermark, 0, 0)) return COMPACT_CONTINUE;
  for (let order = cc.order; order < m.shape.max_order; order++) {
    if (!list_empty(p, free_list_head(zone, order, cc.migratetype))) return COMPACT_PARTIAL;
    if (order >= m.shape.pageblock_order && zone.nr_free[order]! > 0) return COMPACT_PARTIAL;
  }
  return COMPACT_CONTINUE;
}

/** Gives the free pages that no migration used back, as hot single pages (compaction.c). */
function release_freepages(m: Machine, head: number): void {
  const p = m.memmap;
  while (!list_empty(p, head)) {
    const pfn = p.next[head]!;
    list_del(p, pfn);
    m.kernel.__free_pages(m, pfn, 0);
  }
}

/** Compacts one zone until compact_finished says so; returns its COMPACT_ code. */
export function* compact_zone(m: Machine, zone: Zone, cc: CompactControl): Job {
  const heads = m.list_heads.take();
  cc.freepages = heads;
  cc.migratepages = heads + 1;
  cc.migrate_pfn = zone.zone_start_pfn;
  const end = zone_end_pfn(zone);
  cc.free_pfn = end - (end % (1 << m.shape.pageblock_order));
  const { mm_compaction_begin, mm_compaction_end } = m.trace;
  if (mm_compaction_begin.enabled) mm_compaction_begin.emit(cc.migrate_pfn, cc.free_pfn, 1);
  lru_add_drain(m); // migrate_prep_local: once, not per batch

  let ret = compact_finished(m, cc);
  for (; ret === COMPACT_CONTINUE; ret = compact_finished(m, cc)) {
    yield;
    if (too_many_isolated(zone)) {
      // Linux naps for 100 ms at a time until the others have put their pages back.
      if (cc.order < 0) continue;
      // Here nobody else runs while an allocation waits: as if a fatal signal had come.
      ret = COMPACT_PARTIAL;
      break;
    }
    if (isolate_migratepages(m, cc) === 0) continue;
    const nr_migrate = cc.nr_migratepages;
    yield* migrate_pages(m, cc.migratepages, compaction_alloc, cc, false);
    // Linux counts both lists again here (update_nr_listpages). One is empty: migrate_pages puts
    // everything back itself. So nothing ever remains, pages_moved counts whatever was isolated,
    // and pagemigrate_failed stays 0 (fixed in 2.6.37). The other was counted down as it was used.
    BUG_ON(!list_empty(m.memmap, cc.migratepages), 'compact_zone: migrate_pages left pages');
    cc.nr_migratepages = 0;
    count_vm_event(m, COMPACTBLOCKS);
    count_vm_events(m, COMPACTPAGES, nr_migrate);
  }
  release_freepages(m, cc.freepages);
  m.list_heads.give_back(heads);
  if (mm_compaction_end.enabled) mm_compaction_end.emit(cc.migrate_pfn, cc.free_pfn, 1, ret);
  return ret;
}

/**
 * Direct compaction: each zone of the zonelist that has enough free memory, too fragmented for the
 * request, is compacted until the request could succeed. Returns the best COMPACT_ code.
 * Orders up to 3 and requests without FS or IO never compact. (compaction.c: try_to_compact_pages)
 */
export function* try_to_compact_pages(
  m: Machine,
  zonelist: readonly Zone[],
  high_zoneidx: number,
  order: order_t,
  gfp: number,
): Job {
  if (order <= PAGE_ALLOC_COSTLY_ORDER) return COMPACT_SKIPPED;
  if ((gfp & __GFP_FS) === 0 || (gfp & __GFP_IO) === 0) return COMPACT_SKIPPED;
  count_vm_event(m, COMPACTSTALL);
  let rc = COMPACT_SKIPPED;
  for (const zone of zonelist) {
    if (zone.zone_idx > high_zoneidx) continue;
    const watermark = zone.watermark[WMARK_LOW]! + (2 << order);
    if (!zone_watermark_ok(zone, 0, watermark, 0, 0)) continue;
    const fragindex = fragmentation_index(zone, order);
    if (fragindex >= 0 && fragindex <= m.sysctl['extfrag_threshold']!) continue;
    // Meant for "a block is there already", which is -1000: with -1 it never matches (D3).
    if (fragindex === -1 && zone_watermark_ok(zone, order, watermark, 0, 0)) {
      return COMPACT_PARTIAL;
    }
    const migratetype = m.page_group_by_mobility_disabled
      ? MIGRATE_UNMOVABLE
      : allocflags_to_migratetype(gfp);
    const status = yield* compact_zone(m, zone, new CompactControl(zone, order, migratetype));
    rc = Math.max(rc, status);
    if (zone_watermark_ok(zone, order, watermark, 0, 0)) break;
  }
  return rc;
}

/** True while attempts for this zone are to be skipped; counts the visit (compaction.h). */
export function compaction_deferred(zone: Zone): boolean {
  const limit = 1 << zone.compact_defer_shift;
  if (++zone.compact_considered > limit) zone.compact_considered = limit;
  return zone.compact_considered < limit;
}

/** An attempt did not lead to a page: twice as many visits are skipped next time (compaction.h). */
export function defer_compaction(zone: Zone): void {
  zone.compact_considered = 0;
  if (zone.compact_defer_shift < COMPACT_MAX_DEFER_SHIFT) zone.compact_defer_shift++;
}

/** Compacts every zone of a node, whole. 0 or -EINVAL without such a node (compaction.c). */
export function* compact_node(m: Machine, nid: nid_t): Job {
  const node = m.nodes[nid];
  if (node === undefined) return -EINVAL;
  lru_add_drain_all(m);
  for (const zone of node.zones) {
    yield* compact_zone(m, zone, new CompactControl(zone, -1, MIGRATE_UNMOVABLE));
  }
  return 0;
}

/** Compacts every node; always COMPACT_COMPLETE, which the sysctl hands to the writer (D4). */
export function* compact_nodes(m: Machine): Job {
  for (const node of m.nodes) yield* compact_node(m, node.nid);
  return COMPACT_COMPLETE;
}
