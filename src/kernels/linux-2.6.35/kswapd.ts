/**
 * kswapd of 2.6.35: one thread a node that reclaims ahead of need.
 *
 * An allocation that finds a zone below LOW wakes it; it reclaims until every zone is above HIGH
 * for the order it was woken for, napping for 100 ms before it goes back to sleep. It never compacts
 * in this version.
 *
 * It works in slices that end about where the kernel has cond_resched, and what is between two
 * slices is data of the machine. Whoever has time to give lets it run: the virtual clock
 * (kswapd_tick, to its end), an allocator that waits, the growth of a huge page pool.
 * Linux: mm/vmscan.c (balance_pgdat, sleeping_prematurely, kswapd, wakeup_kswapd). Differs: it does
 * not run beside an allocation, only before it, after it, and while it waits.
 */

import { type Job, run_job } from '../../lib/kthread.ts';
import { sleep_congested } from '../../mm/backing_dev.ts';
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
import { zone_reclaimable_pages } from '../../mm/vmscan.ts';
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
  shrink_slab_job,
  shrink_zone_begin,
  shrink_zone_end_job,
  shrink_zone_round_job,
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

// Where a balance_pgdat that was interrupted goes on.
const BALANCE_START = 0;
const BALANCE_PRIORITY = 1;
const BALANCE_ZONE = 2;
const BALANCE_SHRINK = 3;
const BALANCE_SLAB = 4;
const BALANCE_ZONES_DONE = 5;
const BALANCE_OUT = 6;

/** A balance_pgdat under way: what are local variables in Linux. */
export class BalancePgdat {
  readonly sc: ScanControl;
  readonly temp_priority: Int32Array;
  phase = BALANCE_START;
  priority = DEF_PRIORITY;
  /** Index of the highest zone below HIGH, and of the zone that is being worked on. */
  end = 0;
  at = 0;
  lru_pages = 0;
  total_scanned = 0;
  all_zones_ok = true;
  under_min = false;
  fruitless = 0;

  constructor(sc: ScanControl, nr_zones: number) {
    this.sc = sc;
    this.temp_priority = new Int32Array(nr_zones);
  }
}

/**
 * Goes on reclaiming until all zones of the node are above HIGH for the order, or cannot be helped.
 * An order that reclaim does not reach is given up for order 0. Returns true after each slice of
 * work (a round over the lists of one zone, or one call of the shrinkers), false when it is
 * finished (vmscan.c: balance_pgdat).
 */
function* balance_pgdat_slice(m: Machine, pgdat: Pgdat, b: BalancePgdat): Job<boolean> {
  const { sc } = b;
  const zones = pgdat.zones;
  for (;;) {
    switch (b.phase) {
      case BALANCE_START:
        b.total_scanned = 0;
        sc.nr_reclaimed = 0;
        sc.may_writepage = (m.sysctl['laptop_mode'] ?? 0) === 0;
        count_vm_event(m, PAGEOUTRUN);
        b.temp_priority.fill(DEF_PRIORITY);
        b.priority = DEF_PRIORITY;
        b.phase = BALANCE_PRIORITY;
        break;

      case BALANCE_PRIORITY:
        b.all_zones_ok = true;
        b.under_min = false;
        b.at = 0;
        b.end = find_end_zone(m, pgdat, sc, b.priority);
        b.lru_pages = 0;
        for (let i = 0; i <= b.end; i++) b.lru_pages += zone_reclaimable_pages(m, zones[i]!);
        b.phase = b.end < 0 ? BALANCE_OUT : BALANCE_ZONE;
        break;

      case BALANCE_ZONE: {
        // Upwards, so that the zones that few requests can use are not forgotten.
        if (b.at > b.end) {
          b.phase = BALANCE_ZONES_DONE;
          break;
        }
        const zone = zones[b.at]!;
        if (zone.all_unreclaimable !== 0 && b.priority !== DEF_PRIORITY) {
          b.at++;
          break;
        }
        b.temp_priority[b.at] = b.priority;
        sc.nr_scanned = 0;
        note_zone_scanning_priority(zone, b.priority);
        // Equal pressure on all, except on a zone with very much free memory.
        const plenty = 8 * zone.watermark[WMARK_HIGH]!;
        if (zone_watermark_ok(zone, sc.order, plenty, zones[b.end]!.zone_idx, 0)) {
          b.phase = BALANCE_SLAB;
        } else {
          shrink_zone_begin(m, sc, zone, b.priority);
          b.phase = BALANCE_SHRINK;
        }
        break;
      }

      case BALANCE_SHRINK:
        if (yield* shrink_zone_round_job(m, sc, zones[b.at]!, b.priority)) return true;
        yield* shrink_zone_end_job(m, sc, zones[b.at]!);
        b.phase = BALANCE_SLAB;
        break;

      case BALANCE_SLAB:
        yield* balance_slab(m, zones[b.at]!, zones[b.end]!.zone_idx, b);
        b.at++;
        b.phase = BALANCE_ZONE;
        return true;

      case BALANCE_ZONES_DONE:
        if (!b.all_zones_ok && b.total_scanned > 0 && b.priority < DEF_PRIORITY - 2) {
          if (b.under_min) count_vm_event(m, KSWAPD_SKIP_CONGESTION_WAIT);
          if (!m.sleeps || !b.under_min) {
            yield* sleep_congested(m, b.under_min ? 0 : RECLAIM_WAIT_MS);
          }
          if (!b.under_min) pgdat.kswapd_waits++;
        }
        if (b.all_zones_ok || sc.nr_reclaimed >= SWAP_CLUSTER_MAX || b.priority === 0) {
          b.phase = BALANCE_OUT;
        } else {
          b.priority--;
          b.phase = BALANCE_PRIORITY;
        }
        break;

      default:
        for (let i = 0; i < zones.length; i++) zones[i]!.prev_priority = b.temp_priority[i]!;
        // Linux goes on for ever while zones are short, hoping for what others free.
        b.fruitless = sc.nr_reclaimed > 0 ? 0 : b.fruitless + 1;
        if (b.all_zones_ok || b.fruitless >= MAX_FRUITLESS) return false;
        // The order cannot be had; plain pages may.
        if (sc.nr_reclaimed < SWAP_CLUSTER_MAX) sc.order = 0;
        b.phase = BALANCE_START;
    }
  }
}

/** What balance_pgdat does after shrink_zone: slab caches, and how the zone stands. */
function* balance_slab(m: Machine, zone: Zone, classzone: number, b: BalancePgdat): Job<void> {
  const { sc } = b;
  m.reclaimed_slab = 0;
  const nr_slab = yield* shrink_slab_job(m, sc.nr_scanned, GFP_KERNEL, b.lru_pages);
  sc.nr_reclaimed += m.reclaimed_slab;
  b.total_scanned += sc.nr_scanned;
  if (zone.all_unreclaimable !== 0) return;
  if (nr_slab === 0 && zone.pages_scanned >= zone_reclaimable_pages(m, zone) * 6) {
    zone.all_unreclaimable = 1;
  }
  // Much scanning, little result: write, even in laptop mode.
  const enough = sc.nr_reclaimed + Math.floor(sc.nr_reclaimed / 2);
  if (b.total_scanned > SWAP_CLUSTER_MAX * 2 && b.total_scanned > enough) sc.may_writepage = true;
  if (!zone_watermark_ok(zone, sc.order, zone.watermark[WMARK_HIGH]!, classzone, 0)) {
    b.all_zones_ok = false;
    if (!zone_watermark_ok(zone, sc.order, zone.watermark[WMARK_MIN]!, classzone, 0)) {
      b.under_min = true;
    }
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

function start_balance(m: Machine, pgdat: Pgdat): void {
  pgdat.kswapd_state = KSWAPD_RUNNING;
  const sc = new ScanControl(m, GFP_KERNEL, pgdat.kswapd_order, Number.POSITIVE_INFINITY);
  pgdat.kswapd_run = new BalancePgdat(sc, pgdat.zones.length);
}

/** Wakes the thread from sleep or nap when there is reason to; false when it stays asleep. */
function kswapd_wakes(m: Machine, pgdat: Pgdat): boolean {
  if (pgdat.kswapd_state === KSWAPD_NAPPING) {
    const early = pgdat.kswapd_woken;
    if (!early && m.clock.now_ms < pgdat.kswapd_nap_until) return false;
    if (sleeping_prematurely(pgdat, pgdat.kswapd_order, early)) {
      count_vm_event(m, early ? KSWAPD_LOW_WMARK_HIT_QUICKLY : KSWAPD_HIGH_WMARK_HIT_QUICKLY);
    } else {
      pgdat.kswapd_state = KSWAPD_ASLEEP;
    }
  }
  if (pgdat.kswapd_state === KSWAPD_ASLEEP && !pgdat.kswapd_woken) return false;
  pgdat.kswapd_woken = false;
  pgdat.kswapd_order = pgdat.kswapd_max_order;
  return true;
}

/** After a balance_pgdat: on with a larger order, to a nap, or on with the same. */
function kswapd_balanced(m: Machine, pgdat: Pgdat, fruitless: boolean): void {
  pgdat.kswapd_run = null;
  const new_order = pgdat.kswapd_max_order;
  pgdat.kswapd_max_order = 0;
  if (pgdat.kswapd_order < new_order) {
    // A larger order was asked for meanwhile: no sleep.
    pgdat.kswapd_order = new_order;
    start_balance(m, pgdat);
  } else if (fruitless || !sleeping_prematurely(pgdat, pgdat.kswapd_order, false)) {
    pgdat.kswapd_state = KSWAPD_NAPPING;
    pgdat.kswapd_nap_until = m.clock.now_ms + NAP_MS;
  } else {
    // No nap: it goes on, with what was asked for since.
    count_vm_event(m, KSWAPD_HIGH_WMARK_HIT_QUICKLY);
    pgdat.kswapd_order = pgdat.kswapd_max_order;
    start_balance(m, pgdat);
  }
}

/** Pids of the threads as traces name them: those of early boot. */
const FIRST_KSWAPD_PID = 100;

/** One slice of one node's kswapd; false when it sleeps (vmscan.c: kswapd). */
export function kswapd_slice(m: Machine, pgdat: Pgdat): boolean {
  return run_job(kswapd_job(m, pgdat));
}

/** The same as a job, for who has others to run while it sleeps. */
export function* kswapd_job(m: Machine, pgdat: Pgdat): Job<boolean> {
  if (pgdat.kswapd_state !== KSWAPD_RUNNING) {
    if (!kswapd_wakes(m, pgdat)) return false;
    start_balance(m, pgdat);
  }
  const b = pgdat.kswapd_run as BalancePgdat;
  const thread = { pid: FIRST_KSWAPD_PID + pgdat.nid, comm: `kswapd${pgdat.nid}` };
  const job = balance_pgdat_slice(m, pgdat, b);
  for (;;) {
    const { current_flags, current, current_mm, kthread } = m;
    m.current_flags = PF_MEMALLOC | PF_SWAPWRITE | PF_KSWAPD;
    m.current = null;
    m.current_mm = null;
    m.kthread = thread;
    const step = job.next();
    m.current_flags = current_flags;
    m.current = current;
    m.current_mm = current_mm;
    m.kthread = kthread;
    if (step.done) {
      if (!step.value) kswapd_balanced(m, pgdat, b.fruitless >= MAX_FRUITLESS);
      return true;
    }
    yield step.value;
  }
}

/** Gives every node's kswapd that is awake up to `slices` slices of work; false when all sleep. */
export function* run_kswapd(m: Machine, slices: number): Job<boolean> {
  // Not from within: it would meet itself, half-way through a slice.
  if ((m.current_flags & PF_MEMALLOC) !== 0) return false;
  let awake = false;
  for (const pgdat of m.nodes) {
    for (let i = 0; i < slices; i++) {
      awake = kswapd_slice(m, pgdat);
      if (!awake) break;
      if (m.beside === null) yield;
    }
  }
  return awake;
}

/** KernelProfile.kswapd_tick: runs them until they sleep. Returns the slices. */
export function* kswapd_tick(m: Machine): Job {
  let slices = 0;
  for (const pgdat of m.nodes) {
    for (; kswapd_slice(m, pgdat); slices++) yield;
  }
  return slices;
}
