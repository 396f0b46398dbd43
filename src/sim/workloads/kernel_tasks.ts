/**
 * The kernel's own work in a simulation: its price on the virtual clock, and where it sleeps.
 *
 * Calls that may sleep are jobs (lib/kthread.ts): here a job is part of the process that made the call,
 * so that others run where Linux would let them, and kswapd is a process like others. The price of
 * reclaim and compaction follows from the counters that they raise (costs.ts).
 * Linux: mm/vmscan.c (kswapd), mm/backing-dev.c (congestion_wait), block/blk-core.c
 * (get_request_wait). Differs: a wait for congestion ends with the next write that ends.
 */
import { KSWAPD_NAPPING, KSWAPD_RUNNING, kswapd_job } from '../../kernels/linux-2.6.35/kswapd.ts';
import type { Job } from '../../lib/kthread.ts';
import { next_write_end } from '../../mm/backing_dev.ts';
import { MAX_IN_FLIGHT } from '../../mm/block_device.ts';
import { type Machine, page_zone } from '../../mm/mmzone.ts';
import { PageWriteback } from '../../mm/page.ts';
import { blk_flush_plug } from '../../mm/page_writeback.ts';
import {
  COMPACTFREE_SCANNED,
  COMPACTMIGRATE_SCANNED,
  COMPACTPAGES,
  COMPACTSTALL,
  KSWAPD_INODESTEAL,
  PAGEOUTRUN,
  PGINODESTEAL,
  PGPGOUT,
  PGSCAN_DIRECT,
  PGSCAN_KSWAPD,
  PSWPIN,
  PSWPOUT,
} from '../../mm/vmstat.ts';
import { COST } from './costs.ts';

/** Counts the pages of HighMem that move, as kernel_work wants them. Only 32-bit machines have any. */
export class HighmemMoves {
  count = 0;

  constructor(m: Machine) {
    const { ZONE_HIGHMEM } = m.shape;
    if (ZONE_HIGHMEM < 0) return;
    m.trace.pageblock_page_moved.subscribe((from) => {
      if (page_zone(m, from).zone_idx === ZONE_HIGHMEM) this.count++;
    });
  }
}

/**
 * Milliseconds that the kernel has worked so far on reclaim and compaction, by its counters and the
 * number of HighMem pages that it has moved.
 */
export function kernel_work(m: Machine, highmem_moved: number): number {
  const e = m.vm_events;
  let scanned = 0;
  for (let z = 0; z < m.shape.zone_names.length; z++) {
    scanned += e[PGSCAN_DIRECT + z]! + e[PGSCAN_KSWAPD + z]!;
  }
  return (
    scanned * COST.page_scanned +
    (e[KSWAPD_INODESTEAL]! + e[PGINODESTEAL]!) * COST.page_dropped +
    e[COMPACTPAGES]! * COST.page_moved +
    highmem_moved * COST.highmem_moved +
    e[COMPACTSTALL]! * COST.compaction +
    (e[COMPACTMIGRATE_SCANNED]! + e[COMPACTFREE_SCANNED]!) * COST.frame_scanned +
    e[PAGEOUTRUN]! * COST.kswapd_round +
    e[PSWPOUT]! * COST.page_swapped +
    (e[PGPGOUT]! / (2 ** m.shape.page_shift / 512) - e[PSWPOUT]!) * COST.page_written
  );
}

/** Milliseconds that processes have waited so far for pages to be read from swap. */
export function swap_io(m: Machine): number {
  return m.vm_events[PSWPIN]! * COST.swap_in;
}

/**
 * True when the running program has used `ms` milliseconds and has more of its slice; otherwise it
 * has to yield them. For programs that use little time often: to yield costs more than a page fault.
 */
export function spend(m: Machine, ms: number): boolean {
  return m.beside?.spend(ms) ?? false;
}

/** How long a writer waits for room in the queues of the disks (block: get_request_wait). */
function queue_wait(m: Machine): number {
  let until = m.clock.now_ms;
  for (const q of m.block_devices) {
    const over = q.count - Math.floor((MAX_IN_FLIGHT * 7) / 8);
    if (over > 0) until = Math.max(until, q.done_at[(q.head + over - 1) % MAX_IN_FLIGHT]!);
  }
  return until - m.clock.now_ms;
}

/** Whether a kswapd runs, or sleeps and was woken or has napped long enough. */
export function kswapd_has_reason(m: Machine): boolean {
  for (const node of m.nodes) {
    if (node.kswapd_state === KSWAPD_RUNNING || node.kswapd_woken) return true;
    const napping = node.kswapd_state === KSWAPD_NAPPING;
    if (napping && m.clock.now_ms >= node.kswapd_nap_until) return true;
  }
  return false;
}

/** Where such jobs run, and how many are under way. */
export interface Calls {
  readonly m: Machine;
  under_way: number;
}

/**
 * A job of the kernel as part of a process: where it sleeps, the process does. A wait for congestion
 * ends with the next write that ends, since each request that is done wakes who waits (golden s3:
 * attempts that write and wait take 4 to 60 ms, not 100).
 */
export function* beside_others<T>(s: Calls, job: Job<T>): Generator<number, T, void> {
  const { m } = s;
  s.under_way++;
  // Of the task, not of the machine.
  let flags = 0;
  let slab = 0;
  for (;;) {
    const { current_flags, reclaimed_slab, beside } = m;
    m.current_flags = flags;
    m.reclaimed_slab = slab;
    m.beside = null;
    m.sleeps = true;
    const step = job.next();
    flags = m.current_flags;
    slab = m.reclaimed_slab;
    m.current_flags = current_flags;
    m.reclaimed_slab = reclaimed_slab;
    m.beside = beside;
    m.sleeps = false;
    if (step.done) {
      s.under_way--;
      return step.value;
    }
    const pause = step.value ?? 0;
    if (pause === 0) {
      yield 0;
      continue;
    }
    blk_flush_plug(m);
    if (pause > 0) {
      yield -Math.min(pause, until_next_write(m));
    } else {
      while (PageWriteback(m.memmap, -pause)) yield -until_next_write(m);
    }
  }
}

/** Milliseconds until a write ends, infinite without one. */
function until_next_write(m: Machine): number {
  return Math.max(0.01, next_write_end(m) - m.clock.now_ms);
}

/** kswapd as a process of the scheduler, from waking up to sleeping. */
export function* kswapd_thread(s: Calls): Generator<number, void, void> {
  const { m } = s;
  for (let awake = true; awake; ) {
    awake = false;
    for (const node of m.nodes) if (yield* beside_others(s, kswapd_job(m, node))) awake = true;
    yield 0.002;
    // Its writes fill the queue of the disk: it sleeps until there is room.
    const wait = queue_wait(m);
    if (wait > 0) yield -wait;
  }
}
