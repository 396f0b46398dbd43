/**
 * The page allocator of 2.6.35 from the watermarks up: zonelist walk, fast path, slow path.
 *
 * A request walks its zonelist at the LOW watermark. If no zone serves it, the slow path wakes
 * kswapd and tries MIN, then direct compaction (orders above 3, behind the deferral of the
 * preferred zone), then direct reclaim, then the OOM killer; it goes round again by the rules of
 * its order and mask.
 * Linux: mm/page_alloc.c, from get_page_from_freelist to __alloc_pages_nodemask. Differs: no
 * zonelist cache (it only saves time). One call runs at a time: where the kernel would wait for
 * others, write-back that would have ended by then is ended, kswapd has its turn, and no time
 * passes. Where it would wait for ever because nobody makes progress, the request fails
 * (MAX_FRUITLESS passes).
 */

import { BUG_ON } from '../../lib/bug.ts';
import { type Job, run_job } from '../../lib/kthread.ts';
import { congestion_wait } from '../../mm/backing_dev.ts';
import {
  __GFP_FS,
  __GFP_HARDWALL,
  __GFP_HIGH,
  __GFP_IO,
  __GFP_NOFAIL,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_REPEAT,
  __GFP_THISNODE,
  __GFP_WAIT,
  GFP_THISNODE,
} from '../../mm/gfp.ts';
import {
  gfp_zone,
  type Machine,
  PAGE_ALLOC_COSTLY_ORDER,
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
} from '../../mm/page_alloc.ts';
import { PF_MEMALLOC } from '../../mm/reclaim_def.ts';
import {
  COMPACTFAIL,
  COMPACTSUCCESS,
  count_vm_event,
  NR_ISOLATED_ANON,
  NR_ISOLATED_FILE,
} from '../../mm/vmstat.ts';
import {
  COMPACT_SKIPPED,
  compaction_deferred,
  defer_compaction,
  try_to_compact_pages,
} from './compaction.ts';
import { run_kswapd, wakeup_kswapd } from './kswapd.ts';
import { out_of_memory } from './oom_kill.ts';
import { buffered_rmqueue, drain_local_pages } from './rmqueue.ts';
import { try_to_free_pages } from './vmscan.ts';
import {
  ALLOC_CPUSET,
  ALLOC_HARDER,
  ALLOC_HIGH,
  ALLOC_NO_WATERMARKS,
  ALLOC_WMARK_MASK,
  zone_watermark_ok,
} from './watermark.ts';
import { ZONE_RECLAIM_FULL, ZONE_RECLAIM_NOSCAN, zone_reclaim } from './zone_reclaim.ts';

/** Milliseconds that a request waits before it tries again (HZ/50). */
const RETRY_WAIT_MS = 20;
/** Slices of kswapd in that time. */
const RETRY_WAIT_SLICES = 64;
/** Passes without a page reclaimed after which a request that may loop for ever fails instead. */
const MAX_FRUITLESS = 64;

/** One walk of the zonelist at one watermark (page_alloc.c: get_page_from_freelist). */
export function get_page_from_freelist(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
  high_zoneidx: number,
  alloc_flags: number,
  preferred_zone: Zone,
  migratetype: number,
): pfn_t | -1 {
  const classzone_idx = preferred_zone.zone_idx;
  for (let i = 0; i < zonelist.length; i++) {
    const zone = zonelist[i]!;
    if (zone.zone_idx > high_zoneidx) continue;
    if ((alloc_flags & ALLOC_NO_WATERMARKS) === 0) {
      const mark = zone.watermark[alloc_flags & ALLOC_WMARK_MASK]!;
      if (!zone_watermark_ok(zone, order, mark, classzone_idx, alloc_flags)) {
        if ((m.sysctl['zone_reclaim_mode'] ?? 0) === 0) continue;
        const ret = zone_reclaim(m, zone, gfp, order);
        if (ret === ZONE_RECLAIM_NOSCAN || ret === ZONE_RECLAIM_FULL) continue;
        // Did it reclaim enough?
        if (!zone_watermark_ok(zone, order, mark, classzone_idx, alloc_flags)) continue;
      }
    }
    const pfn = buffered_rmqueue(m, preferred_zone, zone, order, gfp, migratetype);
    if (pfn >= 0) return pfn;
  }
  return -1;
}

/** True for a process that the OOM killer chose while it runs (TIF_MEMDIE). */
function is_oom_victim(m: Machine): boolean {
  return m.current_mm?.oom_victim === true || m.current?.mm?.oom_victim === true;
}

/** What a slow-path request may do, from its mask and who makes it (gfp_to_alloc_flags). */
function gfp_to_alloc_flags(m: Machine, gfp: number): number {
  let alloc_flags = WMARK_MIN | ALLOC_CPUSET;
  if ((gfp & __GFP_HIGH) !== 0) alloc_flags |= ALLOC_HIGH;
  if ((gfp & __GFP_WAIT) === 0) {
    alloc_flags |= ALLOC_HARDER;
    alloc_flags &= ~ALLOC_CPUSET;
  }
  if ((gfp & __GFP_NOMEMALLOC) === 0) {
    if ((m.current_flags & PF_MEMALLOC) !== 0 || is_oom_victim(m)) {
      alloc_flags |= ALLOC_NO_WATERMARKS;
    }
  }
  return alloc_flags;
}

/** A job that lets others run where it pauses: those of a simulated processor, or the caller's. */
function* run_beside(m: Machine, job: Job): Job {
  // kswapd, just woken, has the right to run first.
  m.beside?.cond_resched(m);
  for (;;) {
    const step = job.next();
    if (step.done) return step.value;
    if (m.beside !== null) m.beside.cond_resched(m);
    // Linux reschedules between pages that it moves, not between blocks that it scans.
    else if (!m.sleeps || has_isolated(m)) yield;
  }
}

function has_isolated(m: Machine): boolean {
  for (const { vm_stat } of m.populated_zones) {
    if (vm_stat[NR_ISOLATED_ANON]! + vm_stat[NR_ISOLATED_FILE]! > 0) return true;
  }
  return false;
}

/**
 * Compacts for one request, then tries the lists again. (page_alloc.c: __alloc_pages_direct_compact)
 * The preferred zone carries the deferral, whichever zone was compacted.
 */
function* __alloc_pages_direct_compact(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
  high_zoneidx: number,
  alloc_flags: number,
  preferred_zone: Zone,
  migratetype: number,
): Job<pfn_t | -1> {
  if (!m.shape.compaction || order === 0 || compaction_deferred(preferred_zone)) return -1;
  const rc = yield* run_beside(m, try_to_compact_pages(m, zonelist, high_zoneidx, order, gfp));
  if (rc === COMPACT_SKIPPED) return -1;
  // Pages that compaction freed may wait on this CPU's lists instead of having merged.
  drain_local_pages(m);
  const pfn = get_page_from_freelist(
    m,
    gfp,
    order,
    zonelist,
    high_zoneidx,
    alloc_flags,
    preferred_zone,
    migratetype,
  );
  if (pfn >= 0) {
    preferred_zone.compact_considered = 0;
    preferred_zone.compact_defer_shift = 0;
    count_vm_event(m, COMPACTSUCCESS);
    return pfn;
  }
  count_vm_event(m, COMPACTFAIL);
  defer_compaction(preferred_zone);
  return -1;
}

/** Reclaims for one request; what that achieved (page_alloc.c: __alloc_pages_direct_reclaim). */
function* direct_reclaim(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
  high_zoneidx: number,
): Job {
  // kswapd, which was just woken, may have the right to run.
  if (m.sleeps) yield;
  const progress = yield* try_to_free_pages(m, zonelist, high_zoneidx, order, gfp);
  if (m.sleeps) yield;
  if (order !== 0) drain_all_pages(m);
  return progress;
}

/**
 * The last resort: a look at the lists with the HIGH watermark, in case somebody else has just
 * freed plenty; then somebody is killed. A page, -1 to start over, or NOBODY_TO_KILL
 * (page_alloc.c: __alloc_pages_may_oom).
 */
function __alloc_pages_may_oom(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
  high_zoneidx: number,
  preferred_zone: Zone,
  migratetype: number,
): pfn_t | -1 | typeof NOBODY_TO_KILL {
  const pfn = get_page_from_freelist(
    m,
    gfp | __GFP_HARDWALL,
    order,
    zonelist,
    high_zoneidx,
    WMARK_HIGH | ALLOC_CPUSET,
    preferred_zone,
    migratetype,
  );
  if (pfn >= 0) return pfn;
  if ((gfp & __GFP_NOFAIL) === 0) {
    // Killing gives pages, not contiguous ones, and not those of one node.
    if (order > PAGE_ALLOC_COSTLY_ORDER || (gfp & __GFP_THISNODE) !== 0) return -1;
  }
  return out_of_memory(m) ? -1 : NOBODY_TO_KILL;
}

const NOBODY_TO_KILL = -2;

/** Whether to go round again (page_alloc.c). Only what reclaim freed counts for REPEAT. */
function should_alloc_retry(gfp: number, order: order_t, pages_reclaimed: number): boolean {
  if ((gfp & __GFP_NORETRY) !== 0) return false;
  if (order <= PAGE_ALLOC_COSTLY_ORDER) return true;
  if ((gfp & __GFP_REPEAT) !== 0 && pages_reclaimed < 2 ** order) return true;
  return (gfp & __GFP_NOFAIL) !== 0;
}

/** What happens while a request waits: writes end, and kswapd has its turn if it was woken. */
function* wait_for_memory(m: Machine, gfp: number): Job<void> {
  if (m.sleeps) {
    yield RETRY_WAIT_MS;
    return;
  }
  if (m.beside !== null) {
    m.beside.sleep(m, RETRY_WAIT_MS);
    return;
  }
  congestion_wait(m, RETRY_WAIT_MS);
  // Only where the caller holds nothing that kswapd could need.
  if ((gfp & (__GFP_FS | __GFP_IO)) === (__GFP_FS | __GFP_IO)) {
    yield* run_kswapd(m, RETRY_WAIT_SLICES);
  }
}

/**
 * page_alloc.c: __alloc_pages_slowpath. A job: it pauses inside compaction and reclaim and between its
 * passes. Most callers run it to its end; who need not wait goes on with other work meanwhile.
 */
function* __alloc_pages_slowpath(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
  high_zoneidx: number,
  preferred_zone: Zone,
  migratetype: number,
): Job<pfn_t | -1> {
  if (order >= m.shape.max_order) return -1;
  if (m.shape.numa && (gfp & GFP_THISNODE) === GFP_THISNODE) return -1;
  const take = (alloc_flags: number): pfn_t | -1 =>
    get_page_from_freelist(
      m,
      gfp,
      order,
      zonelist,
      high_zoneidx,
      alloc_flags,
      preferred_zone,
      migratetype,
    );
  let pages_reclaimed = 0;
  let fruitless = 0;
  let alloc_flags = 0;
  let restart = true;
  for (;;) {
    if (restart) {
      restart = false;
      for (let i = 0; i < zonelist.length; i++) {
        if (zonelist[i]!.zone_idx <= high_zoneidx) wakeup_kswapd(m, zonelist[i]!, order);
      }
      alloc_flags = gfp_to_alloc_flags(m, gfp);
      const pfn = take(alloc_flags & ~ALLOC_NO_WATERMARKS);
      if (pfn >= 0) return pfn;
    }

    if ((alloc_flags & ALLOC_NO_WATERMARKS) !== 0) {
      const pfn = take(ALLOC_NO_WATERMARKS);
      if (pfn >= 0) return pfn;
      BUG_ON((gfp & __GFP_NOFAIL) !== 0, 'alloc_pages: no memory at all for __GFP_NOFAIL');
    }
    if ((gfp & __GFP_WAIT) === 0) return -1;
    // A reclaimer does not reclaim for itself.
    if ((m.current_flags & PF_MEMALLOC) !== 0) return -1;
    if (is_oom_victim(m) && (gfp & __GFP_NOFAIL) === 0) return -1;

    let pfn: number = yield* __alloc_pages_direct_compact(
      m,
      gfp,
      order,
      zonelist,
      high_zoneidx,
      alloc_flags,
      preferred_zone,
      migratetype,
    );
    if (pfn >= 0) return pfn;
    const progress = yield* direct_reclaim(m, gfp, order, zonelist, high_zoneidx);
    if (progress > 0) {
      pfn = take(alloc_flags);
      if (pfn >= 0) return pfn;
    }
    if (progress <= 1) fruitless++;
    else fruitless = 0;
    if (progress === 0 && (gfp & __GFP_FS) !== 0 && (gfp & __GFP_NORETRY) === 0) {
      pfn = __alloc_pages_may_oom(
        m,
        gfp,
        order,
        zonelist,
        high_zoneidx,
        preferred_zone,
        migratetype,
      );
      if (pfn >= 0) return pfn;
      if (order > PAGE_ALLOC_COSTLY_ORDER && (gfp & __GFP_NOFAIL) === 0) return -1;
      if (pfn === NOBODY_TO_KILL && (gfp & __GFP_NOFAIL) === 0) return -1;
      restart = true;
    } else {
      // Progress of compaction does not count, and a pass that freed nothing counts as one page.
      pages_reclaimed += progress;
      if (!should_alloc_retry(gfp, order, pages_reclaimed)) return -1;
    }
    if (fruitless >= MAX_FRUITLESS && order <= PAGE_ALLOC_COSTLY_ORDER) {
      BUG_ON((gfp & __GFP_NOFAIL) !== 0, 'alloc_pages: __GFP_NOFAIL can never succeed');
      return -1;
    }
    if (!restart) yield* wait_for_memory(m, gfp);
  }
}

/** The fast path: one walk at LOW. */
function get_page_at_low(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
): pfn_t | -1 {
  const high_zoneidx = gfp_zone(m.shape, gfp);
  const preferred_zone = first_zones_zonelist(zonelist, high_zoneidx);
  if (preferred_zone === undefined) return -1;
  return get_page_from_freelist(
    m,
    gfp | __GFP_HARDWALL,
    order,
    zonelist,
    high_zoneidx,
    WMARK_LOW | ALLOC_CPUSET,
    preferred_zone,
    gfp_migratetype(m, gfp),
  );
}

/** What follows when the fast path had nothing. */
function* alloc_slowly(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
): Job<pfn_t | -1> {
  const zone_idx = gfp_zone(m.shape, gfp);
  const preferred = first_zones_zonelist(zonelist, zone_idx);
  if (preferred === undefined) return -1;
  const migratetype = gfp_migratetype(m, gfp);
  return yield* __alloc_pages_slowpath(m, gfp, order, zonelist, zone_idx, preferred, migratetype);
}

/** The heart of the allocator: one block from a zonelist, or -1 (page_alloc.c). */
export function __alloc_pages_nodemask(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
): pfn_t | -1 {
  let pfn = get_page_at_low(m, gfp, order, zonelist);
  if (pfn < 0) pfn = run_job(alloc_slowly(m, gfp, order, zonelist));
  trace_page_alloc(m, pfn, order, gfp);
  return pfn;
}

function trace_page_alloc(m: Machine, pfn: pfn_t | -1, order: order_t, gfp: number): void {
  const { mm_page_alloc } = m.trace;
  if (mm_page_alloc.enabled) mm_page_alloc.emit(pfn, order, gfp, gfp_migratetype(m, gfp));
}

/** A block for a request of node `nid` (the current CPU's when negative) (gfp.h: alloc_pages_node). */
export function alloc_pages(m: Machine, gfp: number, order: order_t, nid: nid_t = -1): pfn_t | -1 {
  return __alloc_pages_nodemask(m, gfp, order, node_zonelist(m, gfp, nid));
}

/** The same as a job, for a request that may take long. Whoever runs it may do other work between. */
export function* alloc_pages_job(
  m: Machine,
  gfp: number,
  order: order_t,
  nid: nid_t = -1,
): Job<pfn_t | -1> {
  const zonelist = node_zonelist(m, gfp, nid);
  let pfn = get_page_at_low(m, gfp, order, zonelist);
  if (pfn < 0) pfn = yield* alloc_slowly(m, gfp, order, zonelist);
  trace_page_alloc(m, pfn, order, gfp);
  return pfn;
}
