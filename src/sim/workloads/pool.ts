/**
 * Growing a pool of huge pages while kswapd works beside it, on one processor.
 *
 * The grower takes page after page; what each costs follows from the work that the kernel did for
 * it. kswapd, once woken, is a second runnable task: it gets as much time as the grower, and a
 * head start when it was asleep. So reclaim happens while the pool grows, not between two pages,
 * and where it stops is a matter of time, as on a real machine.
 * Linux: mm/hugetlb.c, kernel/sched_fair.c (place_entity: sleepers get half a latency).
 */

import { set_max_huge_pages } from '../../kernels/linux-2.6.35/hugetlb.ts';
import { KSWAPD_NAPPING, KSWAPD_RUNNING, kswapd_slice } from '../../kernels/linux-2.6.35/kswapd.ts';
import { congestion_wait } from '../../mm/backing_dev.ts';
import type { Hstate } from '../../mm/hugetlb_def.ts';
import type { Beside, Machine } from '../../mm/mmzone.ts';
import {
  COMPACTPAGES,
  COMPACTSTALL,
  KSWAPD_INODESTEAL,
  PAGEOUTRUN,
  PGINODESTEAL,
  PGSCAN_DIRECT,
  PGSCAN_KSWAPD,
  PSWPIN,
  PSWPOUT,
} from '../../mm/vmstat.ts';
import { COST, SCHED_LATENCY, SCHED_WAKEUP_GRANULARITY } from './costs.ts';

/** Milliseconds that the kernel has worked so far on reclaim and compaction, by its counters. */
export function kernel_work(m: Machine): number {
  const e = m.vm_events;
  let scanned = 0;
  for (let z = 0; z < m.shape.zone_names.length; z++) {
    scanned += e[PGSCAN_DIRECT + z]! + e[PGSCAN_KSWAPD + z]!;
  }
  return (
    scanned * COST.page_scanned +
    (e[KSWAPD_INODESTEAL]! + e[PGINODESTEAL]!) * COST.page_dropped +
    e[COMPACTPAGES]! * COST.page_moved +
    e[COMPACTSTALL]! * COST.compaction +
    e[PAGEOUTRUN]! * COST.kswapd_round
  );
}

/** Milliseconds that the disk has worked so far for swapping. */
export function swap_io(m: Machine): number {
  return m.vm_events[PSWPOUT]! * COST.swap_out + m.vm_events[PSWPIN]! * COST.swap_in;
}

/** Milliseconds that kswapd sleeps when reclaim gets nowhere (vmscan.c: balance_pgdat). */
const CONGESTION_WAIT = 100;

/** Whether a kswapd runs, or sleeps and was woken or has napped long enough. */
export function kswapd_has_reason(m: Machine): boolean {
  for (const node of m.nodes) {
    if (node.kswapd_state === KSWAPD_RUNNING || node.kswapd_woken) return true;
    const napping = node.kswapd_state === KSWAPD_NAPPING;
    if (napping && m.clock.now_ms >= node.kswapd_nap_until) return true;
  }
  return false;
}

/** kswapd as a process of the scheduler, from waking up to sleeping. */
export function* kswapd_thread(m: Machine): Generator<number, void, void> {
  for (let awake = true; awake; ) {
    const before = kernel_work(m);
    const io = swap_io(m);
    awake = false;
    let waits = 0;
    for (const node of m.nodes) {
      waits -= node.kswapd_waits;
      if (kswapd_slice(m, node)) awake = true;
      waits += node.kswapd_waits;
    }
    yield Math.max(0.002, kernel_work(m) - before);
    // Its writes fill the queue of the disk: it sleeps until there is room.
    const wait = swap_io(m) - io + (waits > 0 ? CONGESTION_WAIT : 0);
    if (wait > 0) yield -wait;
  }
}

/** The slice of each of two runnable tasks. */
const SLICE = SCHED_LATENCY / 2;

/** kswapd as a task of its own beside one that allocates: the fair scheduler with two tasks. */
export class KswapdBeside implements Beside {
  private readonly m: Machine;
  /** Virtual run times of the two tasks, milliseconds. */
  private task_vruntime = 0;
  private kswapd_vruntime = 0;
  /** How long the task has run since it was put on the processor. */
  private task_ran = 0;
  private asleep = true;
  /** The clock's time until which it waits for its writes. */
  private blocked_until = 0;
  /** Work of the kernel that has been put on the clock. */
  private mark: number;

  constructor(m: Machine) {
    this.m = m;
    this.mark = kernel_work(m);
  }

  /** The work that the kernel has done since last time, milliseconds; it is put on the clock. */
  private account(ms: number): number {
    const now = kernel_work(this.m);
    const used = ms + now - this.mark;
    this.mark = now;
    this.m.clock.now_ms += used;
    return used;
  }

  /** The task used `ms` by itself, and whatever work the kernel has done for it since last time. */
  charge(ms: number): void {
    const used = this.account(ms);
    this.task_vruntime += used;
    this.task_ran += used;
    let preempt = this.task_ran >= SLICE;
    if (this.m.clock.now_ms < this.blocked_until) return;
    if (this.asleep && kswapd_has_reason(this.m)) {
      // place_entity: who slept long gets half a latency, nobody more.
      this.asleep = false;
      this.kswapd_vruntime = Math.max(this.kswapd_vruntime, this.task_vruntime - SLICE);
      preempt = this.task_vruntime - this.kswapd_vruntime > SCHED_WAKEUP_GRANULARITY;
    }
    if (preempt && !this.asleep && this.kswapd_vruntime < this.task_vruntime) this.run_kswapd(0);
    if (this.task_ran >= SLICE) this.task_ran = 0;
  }

  cond_resched(): void {
    this.charge(0);
  }

  /** The task sleeps: kswapd has the processor for itself. */
  sleep(m: Machine, ms: number): void {
    const until = m.clock.now_ms + ms;
    this.charge(0);
    for (let left = ms; left > 0; left = until - m.clock.now_ms) {
      if (!kswapd_has_reason(m) || m.clock.now_ms < this.blocked_until) break;
      this.asleep = false;
      this.run_kswapd(left);
      if (this.asleep) break;
    }
    congestion_wait(m, Math.max(0, until - m.clock.now_ms));
    m.clock.now_ms = Math.max(m.clock.now_ms, until);
    this.account(0);
    this.task_vruntime = Math.max(this.task_vruntime, this.kswapd_vruntime - SLICE);
    this.task_ran = 0;
  }

  /** kswapd runs until it sleeps or the task's turn has come; `alone`: for so long at least. */
  private run_kswapd(alone: number): void {
    const { m } = this;
    const flags = m.current_flags;
    const slab = m.reclaimed_slab;
    m.current_flags = 0;
    let ran = 0;
    for (;;) {
      let awake = false;
      const io = swap_io(m);
      for (const pgdat of m.nodes) if (kswapd_slice(m, pgdat)) awake = true;
      const wait = swap_io(m) - io;
      if (wait > 0) this.blocked_until = m.clock.now_ms + wait;
      const used = this.account(0);
      ran += used;
      this.kswapd_vruntime += used;
      if (!awake) {
        this.asleep = true;
        break;
      }
      if (wait > 0) break;
      if (alone > 0 ? ran >= alone : ran >= SLICE && this.kswapd_vruntime >= this.task_vruntime) {
        break;
      }
    }
    m.reclaimed_slab = slab;
    m.current_flags = flags;
    this.task_ran = 0;
  }
}

/** One write of nr_hugepages. Returns milliseconds of the clock. */
export function grow_pool(m: Machine, h: Hstate, target: number, kswapd: KswapdBeside): number {
  const start = m.clock.now_ms;
  m.beside = kswapd;
  for (let ended = false; !ended; ) {
    const job = set_max_huge_pages(m, h, target, [0]);
    ended = job.next().done === true;
    // The rest of the job would let kswapd run in its own way.
    job.return(0);
    kswapd.charge(COST.huge_page);
  }
  m.beside = null;
  return m.clock.now_ms - start;
}
