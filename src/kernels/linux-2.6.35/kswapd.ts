/**
 * kswapd of 2.6.35: one thread a node that reclaims ahead of need.
 *
 * An allocation that finds a zone below LOW wakes it; it reclaims until every zone is above HIGH
 * for the order it was woken for, napping for 100 ms before it goes back to sleep. It is a
 * cooperative job on the virtual clock: kswapd_tick runs what was woken and whose nap is over, in
 * slices that end where the kernel has cond_resched, and an allocator that waits lets it run too.
 * It never compacts in this version.
 * Linux: mm/vmscan.c (balance_pgdat, sleeping_prematurely, kswapd, wakeup_kswapd). Differs: it does
 * not run beside an allocation, only before it, after it, and while it waits.
 */
import type { Job } from '../../lib/kthread.ts';
import { congestion_wait } from '../../mm/backing_dev.ts';
import { GFP_KERNEL } from '../../mm/gfp.ts';
import {
  DEF_PRIORITY,
  type Machine,
  type Pgdat,
  SWAP_CLUSTER_MAX,
  WMARK_HIGH,
  WMARK_LOW,
  WMARK_MIN,
  type Zone,
} from '../../mm/mmzone.ts';
import type { order_t } from '../../mm/page.ts';
import { PF_KSWAPD, PF_MEMALLOC, PF_SWAPWRITE } from '../../mm/reclaim_def.ts';
import {
  count_vm_event,
  KSWAPD_HIGH_WMARK_HIT_QUICKLY,
  KSWAPD_LOW_WMARK_HIT_QUICKLY,
  KSWAPD_SKIP_CONGESTION_WAIT,
  PAGEOUTRUN,
} from '../../mm/vmstat.ts';
import {
  inactive_anon_is_low,
  note_zone_scanning_priority,
  RECLAIM_WAIT_MS,
  ScanControl,
  shrink_active_list,
  shrink_slab,
  shrink_zone,
  zone_reclaimable_pages,
} from './vmscan.ts';
import { zone_watermark_ok } from './watermark.ts';

// Pgdat.kswapd_state.
export const KSWAPD_ASLEEP = 0;
export const KSWAPD_NAPPING = 1;
export const KSWAPD_RUNNING = 2;

const NAP_MS = 100;
/** Rounds over all priorities without a page after which it sleeps until it is woken again. */
const MAX_FRUITLESS = 8;

/**
 * Wakes the zone's kswapd for an order, unless the zone is above LOW for it (vmscan.c). A running
 * one only notes the order.
 */
export function wakeup_kswapd(m: Machine, zone: Zone, order: order_t): void {
  if (zone.present_pages === 0) return;
  if (zone_watermark_ok(zone, order, zone.watermark[WMARK_LOW]!, 0, 0)) return;
  const pgdat = m.nodes[zone.nid]!;
  if (pgdat.kswapd_max_order < order) pgdat.kswapd_max_order = order;
  if (pgdat.kswapd_state !== KSWAPD_RUNNING) pgdat.kswapd_woken = true;
}

/** Whether kswapd should go on instead of sleeping: woken early, or a zone is below HIGH. */
function sleeping_prematurely(pgdat: Pgdat, order: order_t, woken: boolean): boolean {
  if (woken) return true;
  for (const zone of pgdat.zones) {
    if (zone.all_unreclaimable !== 0) continue;
    if (!zone_watermark_ok(zone, order, zone.watermark[WMARK_HIGH]!, 0, 0)) return true;
  }
  return false;
}

/**
 * Reclaims until all zones of the node are above HIGH for `order`, or cannot be helped. An order
 * that reclaim does not reach is given up for order 0. Returns pages reclaimed (vmscan.c).
 */
export function* balance_pgdat(m: Machine, pgdat: Pgdat, wanted: order_t): Job {
  const zones = pgdat.zones;
  const temp_priority = new Int32Array(zones.length);
  const sc = new ScanControl(m, GFP_KERNEL, wanted, Number.POSITIVE_INFINITY);
  let fruitless = 0;
  for (;;) {
    let total_scanned = 0;
    let all_zones_ok = true;
    sc.nr_reclaimed = 0;
    sc.may_writepage = (m.sysctl['laptop_mode'] ?? 0) === 0;
    count_vm_event(m, PAGEOUTRUN);
    temp_priority.fill(DEF_PRIORITY);

    for (let priority = DEF_PRIORITY; priority >= 0; priority--) {
      all_zones_ok = true;
      const end = find_end_zone(m, pgdat, sc, priority);
      if (end < 0) break;
      let lru_pages = 0;
      for (let i = 0; i <= end; i++) lru_pages += zone_reclaimable_pages(m, zones[i]!);
      let under_min = false;

      // Upwards, so that the zones that few requests can use are not forgotten.
      for (let i = 0; i <= end; i++) {
        const zone = zones[i]!;
        const classzone = zones[end]!.zone_idx;
        if (zone.all_unreclaimable !== 0 && priority !== DEF_PRIORITY) continue;
        temp_priority[i] = priority;
        sc.nr_scanned = 0;
        note_zone_scanning_priority(zone, priority);
        // Equal pressure on all, except on a zone with very much free memory.
        if (!zone_watermark_ok(zone, sc.order, 8 * zone.watermark[WMARK_HIGH]!, classzone, 0)) {
          yield* shrink_zone(m, sc, zone, priority);
        }
        m.reclaimed_slab = 0;
        const nr_slab = shrink_slab(m, sc.nr_scanned, GFP_KERNEL, lru_pages);
        sc.nr_reclaimed += m.reclaimed_slab;
        total_scanned += sc.nr_scanned;
        yield;
        if (zone.all_unreclaimable !== 0) continue;
        if (nr_slab === 0 && zone.pages_scanned >= zone_reclaimable_pages(m, zone) * 6) {
          zone.all_unreclaimable = 1;
        }
        // Much scanning, little result: write, even in laptop mode.
        if (
          total_scanned > SWAP_CLUSTER_MAX * 2 &&
          total_scanned > sc.nr_reclaimed + Math.floor(sc.nr_reclaimed / 2)
        ) {
          sc.may_writepage = true;
        }
        if (!zone_watermark_ok(zone, sc.order, zone.watermark[WMARK_HIGH]!, classzone, 0)) {
          all_zones_ok = false;
          if (!zone_watermark_ok(zone, sc.order, zone.watermark[WMARK_MIN]!, classzone, 0)) {
            under_min = true;
          }
        }
      }
      if (all_zones_ok) break;
      if (total_scanned > 0 && priority < DEF_PRIORITY - 2) {
        if (under_min) count_vm_event(m, KSWAPD_SKIP_CONGESTION_WAIT);
        congestion_wait(m, under_min ? 0 : RECLAIM_WAIT_MS);
      }
      if (sc.nr_reclaimed >= SWAP_CLUSTER_MAX) break;
    }
    for (let i = 0; i < zones.length; i++) zones[i]!.prev_priority = temp_priority[i]!;
    if (all_zones_ok) return sc.nr_reclaimed;
    yield;
    // Linux goes on for ever, hoping for what others free.
    fruitless = sc.nr_reclaimed > 0 ? 0 : fruitless + 1;
    if (fruitless >= MAX_FRUITLESS) return 0;
    // The order cannot be had; plain pages may.
    if (sc.nr_reclaimed < SWAP_CLUSTER_MAX) sc.order = 0;
  }
}

/**
 * The highest zone that is below HIGH, as an index of pgdat.zones, -1 when none is; zones above it
 * get their anonymous lists aged on the way.
 */
function find_end_zone(m: Machine, pgdat: Pgdat, sc: ScanControl, priority: number): number {
  for (let i = pgdat.zones.length - 1; i >= 0; i--) {
    const zone = pgdat.zones[i]!;
    if (zone.all_unreclaimable !== 0 && priority !== DEF_PRIORITY) continue;
    if (inactive_anon_is_low(zone)) shrink_active_list(m, sc, zone, SWAP_CLUSTER_MAX, false);
    if (!zone_watermark_ok(zone, sc.order, zone.watermark[WMARK_HIGH]!, 0, 0)) return i;
  }
  return -1;
}

/** One node's kswapd, from where it sleeps to where it sleeps again (vmscan.c: kswapd). */
function* kswapd(m: Machine, pgdat: Pgdat): Job {
  let reclaimed = 0;
  for (;;) {
    if (pgdat.kswapd_state === KSWAPD_NAPPING) {
      const early = pgdat.kswapd_woken;
      if (!early && m.clock.now_ms < pgdat.kswapd_nap_until) return reclaimed;
      if (!sleeping_prematurely(pgdat, pgdat.kswapd_order, early)) {
        pgdat.kswapd_state = KSWAPD_ASLEEP;
      } else {
        count_vm_event(m, early ? KSWAPD_LOW_WMARK_HIT_QUICKLY : KSWAPD_HIGH_WMARK_HIT_QUICKLY);
      }
    }
    if (pgdat.kswapd_state === KSWAPD_ASLEEP && !pgdat.kswapd_woken) return reclaimed;
    pgdat.kswapd_woken = false;
    pgdat.kswapd_order = pgdat.kswapd_max_order;
    pgdat.kswapd_state = KSWAPD_RUNNING;
    let got = 0;
    for (;;) {
      got += yield* balance_pgdat(m, pgdat, pgdat.kswapd_order);
      // A larger order was asked for meanwhile: no sleep.
      const new_order = pgdat.kswapd_max_order;
      pgdat.kswapd_max_order = 0;
      if (pgdat.kswapd_order >= new_order) break;
      pgdat.kswapd_order = new_order;
    }
    reclaimed += got;
    if (got === 0 || !sleeping_prematurely(pgdat, pgdat.kswapd_order, false)) {
      pgdat.kswapd_state = KSWAPD_NAPPING;
      pgdat.kswapd_nap_until = m.clock.now_ms + NAP_MS;
    } else {
      // No nap: it goes on, with what was asked for since.
      count_vm_event(m, KSWAPD_HIGH_WMARK_HIT_QUICKLY);
      pgdat.kswapd_woken = true;
      pgdat.kswapd_state = KSWAPD_ASLEEP;
      yield;
    }
  }
}

/** Runs one node's kswapd with the rights of the thread; between two slices others have theirs. */
function* as_kswapd(m: Machine, pgdat: Pgdat): Job {
  const job = kswapd(m, pgdat);
  try {
    for (;;) {
      const flags = m.current_flags;
      const task = m.current;
      const mm = m.current_mm;
      m.current_flags = PF_MEMALLOC | PF_SWAPWRITE | PF_KSWAPD;
      m.current = null;
      m.current_mm = null;
      const step = job.next();
      m.current_flags = flags;
      m.current = task;
      m.current_mm = mm;
      if (step.done) return step.value;
      yield;
    }
  } finally {
    // Whoever drives the job may drop it half-way: the thread is to run again all the same.
    if (pgdat.kswapd_state === KSWAPD_RUNNING) pgdat.kswapd_state = KSWAPD_ASLEEP;
  }
}

/** KernelProfile.kswapd_tick. Returns pages reclaimed. */
export function* kswapd_tick(m: Machine): Job {
  let reclaimed = 0;
  for (const pgdat of m.nodes) {
    // A slice of it is under way already, further up: it will go on there.
    if (pgdat.kswapd_state === KSWAPD_RUNNING) continue;
    reclaimed += yield* as_kswapd(m, pgdat);
  }
  return reclaimed;
}
