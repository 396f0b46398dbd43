/**
 * Memory compaction of 6.1: whether it can help, a run over a zone, and who starts one.
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
 * The scanners are in compaction_migrate.ts and compaction_free.ts, what a run and a zone remember in
 * compaction_control.ts and compaction_hints.ts.
 * Linux: mm/compaction.c (v6.1.192). Differs: no CMA, no movable pages beside those on LRU lists, no
 * contended locks, no signals.
 */
import { EINVAL, ENOMEM } from '../../lib/errno.ts';
import type { Job } from '../../lib/kthread.ts';
import { list_del, list_empty } from '../../lib/list.ts';
import { free_list_head } from '../../mm/buddy.ts';
import { __GFP_IO, GFP_KERNEL } from '../../mm/gfp.ts';
import { lru_add_drain, lru_add_drain_all } from '../../mm/lru.ts';
import {
  CaptureControl,
  type Machine,
  PAGE_ALLOC_COSTLY_ORDER,
  WMARK_LOW,
  WMARK_MIN,
  type Zone,
  zone_end_pfn,
} from '../../mm/mmzone.ts';
import type { nid_t, order_t, pfn_t } from '../../mm/page.ts';
import {
  COMPACTFREE_SCANNED,
  COMPACTMIGRATE_SCANNED,
  count_vm_events,
  fill_contig_page_info,
  fragmentation_index,
  NR_FREE_PAGES,
} from '../../mm/vmstat.ts';
import { CompactControl, compact_scanners_met } from './compaction_control.ts';
import { compaction_alloc, compaction_free } from './compaction_free.ts';
import {
  __reset_isolation_suitable,
  block_end_pfn,
  block_start_pfn,
  compaction_defer_reset,
  compaction_deferred,
  compaction_restarting,
  defer_compaction,
  pageblock_aligned,
  pageblock_start_pfn,
  reset_cached_positions,
} from './compaction_hints.ts';
import { ISOLATE_ABORT, ISOLATE_NONE, isolate_migratepages } from './compaction_migrate.ts';
import {
  MIGRATE_ASYNC,
  MIGRATE_SYNC,
  MIGRATE_SYNC_LIGHT,
  migrate_pages,
  putback_movable_pages,
} from './migrate.ts';
import { drain_local_pages, find_suitable_fallback } from './rmqueue.ts';
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
