/**
 * The page allocator of 6.1 from the watermarks up: zonelist walk, fast path, slow path.
 *
 * A request walks its zonelist at the LOW watermark; in a Normal zone with a DMA32 zone below it first
 * tries without mixing types in a pageblock. The slow path tries MIN with what reserves the request
 * may use, and NO_WATERMARKS for who is about to free memory.
 * Linux: mm/page_alloc.c, from get_page_from_freelist to __alloc_pages.
 */

import { run_job } from '../../lib/kthread.ts';
import {
  __GFP_FS,
  __GFP_HARDWALL,
  __GFP_HIGH,
  __GFP_IO,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_REPEAT,
  __GFP_THISNODE,
  __GFP_WAIT,
  MIGRATE_MOVABLE,
} from '../../mm/gfp.ts';
import {
  gfp_zone,
  type Machine,
  PAGE_ALLOC_COSTLY_ORDER,
  page_zone,
  WMARK_HIGH,
  WMARK_LOW,
  WMARK_MIN,
  type Zone,
} from '../../mm/mmzone.ts';
import type { nid_t, order_t, pfn_t } from '../../mm/page.ts';
import {
  drain_all_pages,
  first_zones_zonelist,
  gfp_migratetype,
  node_zonelist,
  prep_new_page,
} from '../../mm/page_alloc.ts';
import { PF_MEMALLOC } from '../../mm/reclaim_def.ts';
import { zone_reclaimable_pages } from '../../mm/vmscan.ts';
import {
  COMPACTFAIL,
  COMPACTSTALL,
  COMPACTSUCCESS,
  count_vm_event,
  NR_FREE_PAGES,
} from '../../mm/vmstat.ts';
import {
  __compaction_suitable,
  COMPACT_CONTINUE,
  COMPACT_DEFERRED,
  COMPACT_SKIPPED,
  COMPACT_SUCCESS,
  DEF_COMPACT_PRIORITY,
  INIT_COMPACT_PRIORITY,
  MIN_COMPACT_COSTLY_PRIORITY,
  MIN_COMPACT_PRIORITY,
  try_to_compact_pages,
} from './compaction.ts';
import { compaction_defer_reset } from './compaction_hints.ts';
import { __GFP_MEMALLOC, __GFP_NO_KSWAPD } from './gfp.ts';
import { kswapd_cond_resched, wake_all_kswapds, wakeup_kswapd } from './kswapd.ts';
import { node_reclaim, node_reclaim_enabled } from './node_reclaim.ts';
import { out_of_memory } from './oom_kill.ts';
import {
  reserve_highatomic_pageblock,
  rmqueue,
  unreserve_highatomic_pageblock,
} from './rmqueue.ts';
import { try_to_free_pages, wait_for_writes } from './vmscan.ts';
import {
  __zone_watermark_ok,
  ALLOC_CPUSET,
  ALLOC_HIGHATOMIC,
  ALLOC_KSWAPD,
  ALLOC_MIN_RESERVE,
  ALLOC_NO_WATERMARKS,
  ALLOC_NOFRAGMENT,
  ALLOC_NON_BLOCK,
  ALLOC_OOM,
  ALLOC_WMARK_MASK,
  wmark_pages,
  zone_watermark_fast,
  zone_watermark_ok,
} from './watermark.ts';

/** Rounds without progress before the last reserve is given up, and rounds of compaction. */
const MAX_RECLAIM_RETRIES = 16;
const MAX_COMPACT_RETRIES = 16;

/** What stays the same through one request (mm/internal.h: struct alloc_context). */
export interface AllocContext {
  readonly zonelist: readonly Zone[];
  readonly preferred_zone: Zone;
  readonly highest_zoneidx: number;
  readonly migratetype: number;
}

/**
 * One walk of the zonelist at one watermark. Without success and with ALLOC_NOFRAGMENT it walks
 * again without, at once when it comes to another node: being near is worth more than unmixed
 * pageblocks. (page_alloc.c: get_page_from_freelist)
 */
export function get_page_from_freelist(
  m: Machine,
  gfp: number,
  order: order_t,
  alloc_flags: number,
  ac: AllocContext,
): pfn_t | -1 {
  const { zonelist, preferred_zone } = ac;
  for (;;) {
    const no_fallback = (alloc_flags & ALLOC_NOFRAGMENT) !== 0;
    for (let i = 0; i < zonelist.length; i++) {
      const zone = zonelist[i]!;
      if (zone.zone_idx > ac.highest_zoneidx) continue;
      if (no_fallback && zone.nid !== preferred_zone.nid) break;
      if ((alloc_flags & ALLOC_NO_WATERMARKS) === 0) {
        const mark = wmark_pages(zone, alloc_flags & ALLOC_WMARK_MASK);
        const highest = ac.highest_zoneidx;
        if (!zone_watermark_fast(m, zone, order, mark, highest, alloc_flags)) {
          if (!node_reclaim_enabled(m)) continue;
          if (node_reclaim(m, m.nodes[zone.nid]!, gfp, order, highest) < 0) continue;
          if (!zone_watermark_ok(m, zone, order, mark, highest, alloc_flags)) continue;
        }
      }
      const pfn = rmqueue(m, preferred_zone, zone, order, gfp, alloc_flags, ac.migratetype);
      if (pfn < 0) continue;
      if (zone.boosted_watermark && (alloc_flags & ALLOC_KSWAPD) !== 0) {
        zone.boosted_watermark = false;
        wakeup_kswapd(m, zone, 0, 0, zone.zone_idx);
      }
      if ((alloc_flags & ALLOC_HIGHATOMIC) !== 0) reserve_highatomic_pageblock(m, zone, pfn);
      return pfn;
    }
    if (!no_fallback) return -1;
    alloc_flags &= ~ALLOC_NOFRAGMENT;
  }
}

/** page_alloc.c: alloc_flags_nofragment. */
function alloc_flags_nofragment(m: Machine, zone: Zone, gfp: number): number {
  const flags = (gfp & __GFP_NO_KSWAPD) === 0 ? ALLOC_KSWAPD : 0;
  if (zone.zone_idx !== m.shape.ZONE_NORMAL) return flags;
  // A machine with one node is taken to have a lower zone without looking.
  const lower = m.zones[zone.id - 1];
  if (m.nodes.length > 1 && (lower === undefined || lower.present_pages === 0)) return flags;
  return flags | ALLOC_NOFRAGMENT;
}

/**
 * What a slow-path request may do, from its mask. Not blocking alone opens HIGHATOMIC blocks only as
 * a last resort; first choice, and the right to reserve more of them, needs __GFP_HIGH too (recorded:
 * g1-buddy B010 and B053 against B007). (page_alloc.c: gfp_to_alloc_flags)
 */
function gfp_to_alloc_flags(gfp: number, order: order_t): number {
  let alloc_flags = WMARK_MIN | ALLOC_CPUSET;
  if ((gfp & __GFP_HIGH) !== 0) alloc_flags |= ALLOC_MIN_RESERVE;
  if ((gfp & __GFP_NO_KSWAPD) === 0) alloc_flags |= ALLOC_KSWAPD;
  if ((gfp & __GFP_WAIT) === 0) {
    if ((gfp & __GFP_NOMEMALLOC) === 0) {
      alloc_flags |= ALLOC_NON_BLOCK;
      if (order > 0 && (alloc_flags & ALLOC_MIN_RESERVE) !== 0) alloc_flags |= ALLOC_HIGHATOMIC;
    }
    if ((alloc_flags & ALLOC_MIN_RESERVE) !== 0) alloc_flags &= ~ALLOC_CPUSET;
  }
  return alloc_flags;
}

/** True for a request of a process that the OOM killer chose (oom_kill.c: tsk_is_oom_victim). */
function is_oom_victim(m: Machine): boolean {
  return (m.current_mm ?? m.current?.mm ?? null)?.oom_victim === true;
}

/** Which reserves a request may use because of who makes it (page_alloc.c). */
function __gfp_pfmemalloc_flags(m: Machine, gfp: number): number {
  if ((gfp & __GFP_NOMEMALLOC) !== 0) return 0;
  if ((gfp & __GFP_MEMALLOC) !== 0) return ALLOC_NO_WATERMARKS;
  if ((m.current_flags & PF_MEMALLOC) !== 0) return ALLOC_NO_WATERMARKS;
  return is_oom_victim(m) ? ALLOC_OOM : 0;
}

/** Where a slow-path request stands with compaction: changes from round to round. */
class CompactProgress {
  result = COMPACT_SKIPPED;
  priority = DEF_COMPACT_PRIORITY;
  retries = 0;
}

/**
 * Compacts for one request, then takes the block that was captured, or one from the lists. A try that
 * was not skipped in every zone counts as a stall. (page_alloc.c: __alloc_pages_direct_compact)
 */
function __alloc_pages_direct_compact(
  m: Machine,
  gfp: number,
  order: order_t,
  alloc_flags: number,
  ac: AllocContext,
  prio: number,
  progress: CompactProgress,
): pfn_t | -1 {
  if (order === 0 || !m.shape.compaction) return -1;
  const captured = { page: -1 };
  const flags = m.current_flags;
  m.current_flags |= PF_MEMALLOC;
  progress.result = run_job(
    try_to_compact_pages(
      m,
      ac.zonelist,
      ac.highest_zoneidx,
      order,
      gfp,
      alloc_flags,
      prio,
      captured,
    ),
  );
  m.current_flags = flags;
  if (progress.result === COMPACT_SKIPPED) return -1;
  count_vm_event(m, COMPACTSTALL);
  let pfn = captured.page;
  if (pfn >= 0) prep_new_page(m, pfn, order, gfp);
  else pfn = get_page_from_freelist(m, gfp, order, alloc_flags, ac);
  if (pfn < 0) {
    count_vm_event(m, COMPACTFAIL);
    kswapd_cond_resched(m);
    return -1;
  }
  const zone = page_zone(m, pfn);
  zone.compact_blockskip_flush = false;
  compaction_defer_reset(m, zone, order, true);
  count_vm_event(m, COMPACTSUCCESS);
  return pfn;
}

/**
 * Reclaims for one request, then tries the lists, once more after pages on per-CPU lists and one
 * reserved pageblock were given back. (page_alloc.c: __alloc_pages_direct_reclaim)
 */
function __alloc_pages_direct_reclaim(
  m: Machine,
  gfp: number,
  order: order_t,
  alloc_flags: number,
  ac: AllocContext,
): { pfn: pfn_t | -1; did_some_progress: number } {
  const flags = m.current_flags;
  m.current_flags |= PF_MEMALLOC;
  const did_some_progress = try_to_free_pages(m, ac.zonelist, ac.highest_zoneidx, order, gfp);
  m.current_flags = flags;
  if (did_some_progress === 0) return { pfn: -1, did_some_progress };
  let pfn = get_page_from_freelist(m, gfp, order, alloc_flags, ac);
  if (pfn < 0) {
    unreserve_highatomic_pageblock(m, ac.zonelist, ac.highest_zoneidx, ac.migratetype, false);
    drain_all_pages(m);
    pfn = get_page_from_freelist(m, gfp, order, alloc_flags, ac);
  }
  return { pfn, did_some_progress };
}

/** True while reclaiming all there is could serve the request (page_alloc.c). */
function should_reclaim_retry(
  m: Machine,
  order: order_t,
  ac: AllocContext,
  alloc_flags: number,
  no_progress_loops: number,
): boolean {
  if (no_progress_loops > MAX_RECLAIM_RETRIES) {
    const { zonelist, highest_zoneidx, migratetype } = ac;
    return unreserve_highatomic_pageblock(m, zonelist, highest_zoneidx, migratetype, true);
  }
  for (const zone of ac.zonelist) {
    if (zone.zone_idx > ac.highest_zoneidx) continue;
    const available = zone_reclaimable_pages(m, zone) + zone.vm_stat[NR_FREE_PAGES]!;
    const min = wmark_pages(zone, WMARK_MIN);
    if (__zone_watermark_ok(m, zone, order, min, ac.highest_zoneidx, alloc_flags, available)) {
      return true;
    }
  }
  return false;
}

/** Whether some zone would have room for compaction if reclaim freed a share (compaction.c). */
function compaction_zonelist_suitable(
  m: Machine,
  ac: AllocContext,
  order: order_t,
  alloc_flags: number,
): boolean {
  for (const zone of ac.zonelist) {
    if (zone.zone_idx > ac.highest_zoneidx) continue;
    const reclaimable = Math.floor(zone_reclaimable_pages(m, zone) / order);
    const available = reclaimable + zone.vm_stat[NR_FREE_PAGES]!;
    const suitable = __compaction_suitable(
      m,
      zone,
      order,
      alloc_flags,
      ac.highest_zoneidx,
      available,
    );
    if (suitable === COMPACT_CONTINUE) return true;
  }
  return false;
}

/**
 * Whether to go round again for compaction's sake: a few times after a success that somebody else
 * used up, else only with more effort than before. (page_alloc.c: should_compact_retry)
 */
function should_compact_retry(
  m: Machine,
  order: order_t,
  ac: AllocContext,
  alloc_flags: number,
  progress: CompactProgress,
): boolean {
  if (order === 0) return false;
  const costly = order > PAGE_ALLOC_COSTLY_ORDER;
  if (progress.result === COMPACT_SUCCESS) progress.retries++;
  if (progress.result === COMPACT_SKIPPED) {
    return compaction_zonelist_suitable(m, ac, order, alloc_flags);
  }
  if (progress.result === COMPACT_SUCCESS) {
    const max_retries = costly ? MAX_COMPACT_RETRIES / 4 : MAX_COMPACT_RETRIES;
    if (progress.retries <= max_retries) return true;
  }
  const floor = costly ? MIN_COMPACT_COSTLY_PRIORITY : MIN_COMPACT_PRIORITY;
  if (progress.priority <= floor) return false;
  progress.priority--;
  progress.retries = 0;
  return true;
}

/** Rounds after a kill, or where the killer may not act, before the request fails. */
const MAX_OOM_ROUNDS = 16;
/** Somebody was killed: try again. */
const OOM_PROGRESS = -2;

/**
 * The last resort of small requests: at the HIGH watermark, then by killing somebody. A frame, -1, or
 * OOM_PROGRESS. (page_alloc.c: __alloc_pages_may_oom)
 */
function __alloc_pages_may_oom(m: Machine, gfp: number, order: order_t, ac: AllocContext): pfn_t {
  const flags = WMARK_HIGH | ALLOC_CPUSET;
  const pfn = get_page_from_freelist(m, gfp | __GFP_HARDWALL, order, flags, ac);
  if (pfn >= 0) return pfn;
  // Killing gives pages, not contiguous ones, and not those of one node.
  if (order > PAGE_ALLOC_COSTLY_ORDER) return -1;
  if ((gfp & (__GFP_REPEAT | __GFP_THISNODE)) !== 0) return -1;
  if (ac.highest_zoneidx < m.shape.ZONE_NORMAL) return -1;
  // Reclaim may still find something for others than a file system.
  if ((gfp & __GFP_FS) === 0) {
    wait_for_writes(m, gfp);
    return OOM_PROGRESS;
  }
  return out_of_memory(m) ? OOM_PROGRESS : -1;
}

/**
 * A request that the LOW watermark refused: MIN and reserves, compaction, reclaim, in rounds that
 * end by the rules of its order and mask. (page_alloc.c: __alloc_pages_slowpath)
 */
function __alloc_pages_slowpath(
  m: Machine,
  gfp: number,
  order: order_t,
  ac: AllocContext,
): pfn_t | -1 {
  const can_direct_reclaim = (gfp & __GFP_WAIT) !== 0;
  const can_compact = (gfp & __GFP_IO) !== 0 && m.shape.compaction;
  const costly = order > PAGE_ALLOC_COSTLY_ORDER;
  const reserve_flags = __gfp_pfmemalloc_flags(m, gfp);
  const progress = new CompactProgress();
  let alloc_flags = gfp_to_alloc_flags(gfp, order);
  let no_progress_loops = 0;
  let oom_rounds = 0;
  if ((alloc_flags & ALLOC_KSWAPD) !== 0) {
    wake_all_kswapds(m, gfp, order, ac.zonelist, ac.highest_zoneidx);
  }
  let pfn = get_page_from_freelist(m, gfp, order, alloc_flags, ac);
  if (pfn >= 0) return pfn;

  // For a large block compaction is the better bet, and a cheap one at first.
  if (
    can_direct_reclaim &&
    can_compact &&
    (costly || (order > 0 && ac.migratetype !== MIGRATE_MOVABLE)) &&
    reserve_flags === 0
  ) {
    const prio = INIT_COMPACT_PRIORITY;
    pfn = __alloc_pages_direct_compact(m, gfp, order, alloc_flags, ac, prio, progress);
    if (pfn >= 0) return pfn;
    if (costly && (gfp & __GFP_NORETRY) !== 0) {
      if (progress.result === COMPACT_SKIPPED || progress.result === COMPACT_DEFERRED) return -1;
      progress.priority = INIT_COMPACT_PRIORITY;
    }
  }
  if (reserve_flags !== 0) alloc_flags = reserve_flags | (alloc_flags & ALLOC_KSWAPD);
  for (;;) {
    if ((alloc_flags & ALLOC_KSWAPD) !== 0) {
      wake_all_kswapds(m, gfp, order, ac.zonelist, ac.highest_zoneidx);
    }
    pfn = get_page_from_freelist(m, gfp, order, alloc_flags, ac);
    if (pfn >= 0 || !can_direct_reclaim) return pfn;
    // A reclaimer does not reclaim for itself.
    if ((m.current_flags & PF_MEMALLOC) !== 0) return -1;
    kswapd_cond_resched(m);
    const reclaim = __alloc_pages_direct_reclaim(m, gfp, order, alloc_flags, ac);
    if (reclaim.pfn >= 0) return reclaim.pfn;
    const prio = progress.priority;
    pfn = __alloc_pages_direct_compact(m, gfp, order, alloc_flags, ac, prio, progress);
    if (pfn >= 0 || (gfp & __GFP_NORETRY) !== 0) return pfn;
    if (costly && (!can_compact || (gfp & __GFP_REPEAT) === 0)) return -1;
    const some_progress = reclaim.did_some_progress > 0;
    no_progress_loops = some_progress && !costly ? 0 : no_progress_loops + 1;
    if (should_reclaim_retry(m, order, ac, alloc_flags, no_progress_loops)) {
      wait_for_writes(m, gfp);
      continue;
    }
    if (some_progress && can_compact && should_compact_retry(m, order, ac, alloc_flags, progress)) {
      continue;
    }
    pfn = __alloc_pages_may_oom(m, gfp, order, ac);
    if (pfn !== OOM_PROGRESS) return pfn;
    // Linux goes round for ever; here nobody else could free anything.
    if (++oom_rounds > MAX_OOM_ROUNDS) return -1;
    if ((alloc_flags & ALLOC_OOM) !== 0 && is_oom_victim(m)) return -1;
    alloc_flags = __gfp_pfmemalloc_flags(m, gfp) || gfp_to_alloc_flags(gfp, order);
    no_progress_loops = 0;
  }
}

/** The heart of the allocator: one block from a zonelist, or -1 (page_alloc.c: __alloc_pages). */
export function __alloc_pages(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
): pfn_t | -1 {
  if (order >= m.shape.max_order) return -1;
  const highest_zoneidx = gfp_zone(m.shape, gfp);
  const migratetype = gfp_migratetype(m, gfp);
  const preferred_zone = first_zones_zonelist(zonelist, highest_zoneidx);
  if (preferred_zone === undefined) return -1;
  const ac: AllocContext = { zonelist, preferred_zone, highest_zoneidx, migratetype };
  const alloc_flags = WMARK_LOW | alloc_flags_nofragment(m, preferred_zone, gfp);
  let pfn = get_page_from_freelist(m, gfp | __GFP_HARDWALL, order, alloc_flags, ac);
  if (pfn < 0) pfn = __alloc_pages_slowpath(m, gfp, order, ac);
  if (m.trace.mm_page_alloc.enabled) m.trace.mm_page_alloc.emit(pfn, order, gfp, migratetype);
  return pfn;
}

/** A block for a request of node `nid` (the current CPU's when negative) (gfp.h: alloc_pages_node). */
export function alloc_pages(m: Machine, gfp: number, order: order_t, nid: nid_t = -1): pfn_t | -1 {
  return __alloc_pages(m, gfp, order, node_zonelist(m, gfp, nid));
}
