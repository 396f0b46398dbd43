/**
 * kswapd of 6.1: one thread a node that reclaims ahead of need.
 *
 * A request that the LOW watermark refused wakes the node's kswapd, as does a boost; it reclaims until
 * some zone is above HIGH for the order, gives the boosts back and, before it sleeps, has the skip
 * bits looked over if the scanners of a direct compaction have met since (recorded: g4-hugepages,
 * `init_free` and `init_mig` afterwards, in the layouts whose counters show that kswapd ran), and
 * asks kcompactd for the order that it could not reach. After 16 runs in a row that reclaimed nothing
 * the node is left to direct reclaim. It runs on the clock's ticks, while an allocation waits, and
 * where the task that woke it calls cond_resched.
 * Linux: mm/vmscan.c (wakeup_kswapd, balance_pgdat, kswapd_try_to_sleep, kswapd). Differs: it does not
 * nap for 100 ms before it sleeps.
 */
import type { Job } from '../../lib/kthread.ts';
import { __GFP_WAIT, GFP_KERNEL } from '../../mm/gfp.ts';
import {
  DEF_PRIORITY,
  type Machine,
  type Pgdat,
  SWAP_CLUSTER_MAX,
  WMARK_HIGH,
  type Zone,
} from '../../mm/mmzone.ts';
import type { order_t } from '../../mm/page.ts';
import { PF_KSWAPD, PF_MEMALLOC, PF_SWAPWRITE } from '../../mm/reclaim_def.ts';
import { count_vm_event, KSWAPD_HIGH_WMARK_HIT_QUICKLY, PAGEOUTRUN } from '../../mm/vmstat.ts';
import { compact_gap } from './compaction.ts';
import { reset_isolation_suitable } from './compaction_hints.ts';
import { wakeup_kcompactd } from './kcompactd.ts';
import { inactive_is_low, ScanControl, shrink_active_list, shrink_node } from './vmscan.ts';
import { wmark_pages, zone_watermark_ok } from './watermark.ts';

/** Fruitless runs after which a node is hopeless. */
export const MAX_RECLAIM_RETRIES = 16;

// Pgdat.kswapd_state.
const KSWAPD_ASLEEP = 0;
const KSWAPD_RUNNING = 1;

/** True when some zone could serve the order above its HIGH watermark (vmscan.c). */
function pgdat_balanced(
  m: Machine,
  pgdat: Pgdat,
  order: order_t,
  highest_zoneidx: number,
): boolean {
  for (const zone of pgdat.zones) {
    if (zone.zone_idx > highest_zoneidx) continue;
    const mark = wmark_pages(zone, WMARK_HIGH);
    if (zone_watermark_ok(m, zone, order, mark, highest_zoneidx, 0)) return true;
  }
  return false;
}

/** Wakes the zone's kswapd, unless its node is fine or hopeless: perhaps kcompactd (vmscan.c). */
export function wakeup_kswapd(
  m: Machine,
  zone: Zone,
  gfp: number,
  order: order_t,
  highest_zoneidx: number,
): void {
  const pgdat = m.nodes[zone.nid]!;
  pgdat.kswapd_max_order = Math.max(pgdat.kswapd_max_order, order);
  const boosted = pgdat.zones.some((z) => z.watermark_boost > 0);
  if (
    pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES ||
    (pgdat_balanced(m, pgdat, order, highest_zoneidx) && !boosted)
  ) {
    // There may be plenty of free memory, but too fragmented for a request that cannot compact.
    if ((gfp & __GFP_WAIT) === 0) wakeup_kcompactd(m, pgdat, order, highest_zoneidx);
    return;
  }
  if (pgdat.kswapd_woken) return;
  pgdat.kswapd_woken = true;
  pgdat.kswapd_wakeups++;
  const trace = m.trace.mm_vmscan_wakeup_kswapd;
  if (trace.enabled) trace.emit(pgdat.nid, highest_zoneidx, order, gfp);
}

/** page_alloc.c: wake_all_kswapds. */
export function wake_all_kswapds(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
  highest_zoneidx: number,
): void {
  let last = -1;
  for (const zone of zonelist) {
    if (zone.zone_idx > highest_zoneidx || zone.nid === last) continue;
    wakeup_kswapd(m, zone, gfp, order, highest_zoneidx);
    last = zone.nid;
  }
}

/** Lets every kswapd that was woken have its turn; called where Linux calls cond_resched. */
export function kswapd_cond_resched(m: Machine): void {
  for (const pgdat of m.nodes) {
    if (!pgdat.kswapd_woken || pgdat.kswapd_state === KSWAPD_RUNNING) continue;
    if (pgdat.kswapd_wakeups === pgdat.kswapd_late_wakeup && pgdat.kswapd_late_by > 0) {
      pgdat.kswapd_late_by--;
    } else {
      while (kswapd_step(m, pgdat));
    }
  }
}

/** Reclaims from the node at one priority, as kswapd; true when it scanned enough (vmscan.c). */
function kswapd_shrink_node(m: Machine, sc: ScanControl, pgdat: Pgdat): boolean {
  sc.nr_to_reclaim = 0;
  for (const zone of pgdat.zones) {
    sc.nr_to_reclaim += Math.max(wmark_pages(zone, WMARK_HIGH), SWAP_CLUSTER_MAX);
    // Age anonymous pages a little in any case.
    if (m.nr_swap_pages > 0 && inactive_is_low(m, zone, false)) {
      shrink_active_list(m, sc, zone, SWAP_CLUSTER_MAX, false);
    }
  }
  sc.nr_scanned = 0;
  shrink_node(m, sc, pgdat);
  // Twice the block's size is free: more would not make it contiguous.
  if (sc.order > 0 && sc.nr_reclaimed >= compact_gap(sc.order)) sc.order = 0;
  return sc.nr_scanned >= sc.nr_to_reclaim;
}

/** From being woken, or trying again, to the end of balance_pgdat. Data, so that it can be saved. */
export class KswapdRun {
  readonly sc: ScanControl;
  /** What each zone's boost was at the start, and how much of that is still to be freed. */
  readonly boosts: readonly number[];
  nr_boost_reclaim: number;
  /** The order that was asked for. */
  readonly alloc_order: order_t;

  constructor(sc: ScanControl, zones: readonly Zone[], alloc_order: order_t) {
    this.sc = sc;
    this.boosts = zones.map((zone) => zone.watermark_boost);
    this.nr_boost_reclaim = this.boosts.reduce((sum, boost) => sum + boost, 0);
    this.alloc_order = alloc_order;
  }
}

const highest_zoneidx = (m: Machine): number => m.shape.zone_names.length - 1;

function start_run(m: Machine, pgdat: Pgdat): KswapdRun {
  const highest = highest_zoneidx(m);
  pgdat.kswapd_state = KSWAPD_RUNNING;
  pgdat.kswapd_woken = false;
  const alloc_order = pgdat.kswapd_max_order;
  pgdat.kswapd_max_order = 0;
  const trace = m.trace.mm_vmscan_kswapd_wake;
  if (trace.enabled) trace.emit(pgdat.nid, highest, alloc_order);
  count_vm_event(m, PAGEOUTRUN);
  const sc = new ScanControl(m, GFP_KERNEL, alloc_order, highest, 0);
  const run = new KswapdRun(sc, pgdat.zones, alloc_order);
  pgdat.kswapd_run = run;
  return run;
}

/**
 * One turn of the loop that reclaims until some zone is above HIGH for the order and what boosts
 * asked for is freed, or nothing more comes; true while there are more. (vmscan.c: balance_pgdat)
 */
function balance_pgdat(m: Machine, pgdat: Pgdat, run: KswapdRun): boolean {
  const { sc } = run;
  const balanced = pgdat_balanced(m, pgdat, sc.order, highest_zoneidx(m));
  if (!balanced && run.nr_boost_reclaim > 0) {
    // Need comes first: the boost is for later.
    run.nr_boost_reclaim = 0;
    sc.priority = DEF_PRIORITY;
  }
  if (run.nr_boost_reclaim === 0 && balanced) return false;
  let raise_priority = run.nr_boost_reclaim === 0 || sc.priority !== DEF_PRIORITY - 2;
  sc.may_writepage = sc.priority < DEF_PRIORITY - 2 || (m.sysctl['laptop_mode'] ?? 0) === 0;
  if (run.nr_boost_reclaim > 0) sc.may_writepage = false;
  sc.may_swap = run.nr_boost_reclaim === 0;
  const before = sc.nr_reclaimed;
  if (kswapd_shrink_node(m, sc, pgdat)) raise_priority = false;
  const nr_reclaimed = sc.nr_reclaimed - before;
  run.nr_boost_reclaim -= Math.min(run.nr_boost_reclaim, nr_reclaimed);
  if (run.nr_boost_reclaim > 0 && nr_reclaimed === 0) return false;
  if (raise_priority || nr_reclaimed === 0) sc.priority--;
  if (sc.priority >= 1) return true;
  if (sc.nr_reclaimed === 0) pgdat.kswapd_failures++;
  return false;
}

/** After balance_pgdat: gives boosts back, and sleeps unless the node is short still (vmscan.c). */
function kswapd_try_to_sleep(m: Machine, pgdat: Pgdat, run: KswapdRun): boolean {
  const highest = highest_zoneidx(m);
  if (run.boosts.some((boost) => boost > 0)) {
    pgdat.zones.forEach((zone, i) => {
      zone.watermark_boost -= Math.min(zone.watermark_boost, run.boosts[i]!);
    });
    wakeup_kcompactd(m, pgdat, m.shape.pageblock_order, highest);
  }
  pgdat.kswapd_run = null;
  // 0 when the larger order is compaction's business now.
  let reclaim_order = run.sc.order;
  let { alloc_order } = run;
  if (reclaim_order >= alloc_order) {
    // The order was reached, or given up: by then only what was asked for since counts.
    alloc_order = reclaim_order = pgdat.kswapd_max_order;
  }
  const hopeless = pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES;
  if (!hopeless && !pgdat_balanced(m, pgdat, reclaim_order, highest)) {
    count_vm_event(m, KSWAPD_HIGH_WMARK_HIT_QUICKLY);
    return false;
  }
  reset_isolation_suitable(m, pgdat.nid);
  wakeup_kcompactd(m, pgdat, alloc_order, highest);
  if (m.trace.mm_vmscan_kswapd_sleep.enabled) m.trace.mm_vmscan_kswapd_sleep.emit(pgdat.nid);
  pgdat.kswapd_state = KSWAPD_ASLEEP;
  return true;
}

/** Pids of the threads as traces name them: those of early boot. */
const FIRST_KSWAPD_PID = 100;

/**
 * A step of a node's kswapd, in its own name; false when it sleeps. What is between two steps is
 * pgdat's data.
 */
function kswapd_step(m: Machine, pgdat: Pgdat): boolean {
  const { current_flags, current, current_mm, kthread } = m;
  m.current_flags = PF_MEMALLOC | PF_SWAPWRITE | PF_KSWAPD;
  m.current = null;
  m.current_mm = null;
  m.kthread = { pid: FIRST_KSWAPD_PID + pgdat.nid, comm: `kswapd${pgdat.nid}` };
  const run = (pgdat.kswapd_run as KswapdRun | null) ?? start_run(m, pgdat);
  const goes_on = balance_pgdat(m, pgdat, run) || !kswapd_try_to_sleep(m, pgdat, run);
  m.current_flags = current_flags;
  m.current = current;
  m.current_mm = current_mm;
  m.kthread = kthread;
  return goes_on;
}

/** KernelProfile.kswapd_tick: runs those that were woken, or were at work when saved, until they sleep. */
export function* kswapd_tick(m: Machine): Job {
  for (const pgdat of m.nodes) {
    while ((pgdat.kswapd_woken || pgdat.kswapd_state === KSWAPD_RUNNING) && kswapd_step(m, pgdat)) {
      yield;
    }
  }
  return 0;
}
