/**
 * Waiting for devices that have too much to do, and telling whether they have.
 *
 * In Linux a reclaimer that finds only pages under write-back sleeps until a request ends or a
 * time-out is over. Here one call runs at a time and a sleeper could never be woken, so a wait ends
 * the writes that the disk would have finished meanwhile, the oldest in any case, and costs no
 * time on the virtual clock: the caller finds the same pages clean as after a sleep, and a run
 * gives the same result whenever it is repeated.
 * Linux: mm/backing-dev.c (congestion_wait), include/linux/backing-dev.h, fs/fs-writeback.c
 * (wakeup_flusher_threads).
 */
import type { Job } from '../lib/kthread.ts';
import { MAX_IN_FLIGHT } from './block_device.ts';
import type { Machine } from './mmzone.ts';
import type { pfn_t } from './page.ts';
import { blk_flush_plug, complete_writes, wait_on_page_writeback } from './page_writeback.ts';

/**
 * Waits up to `ms` milliseconds for writes to end. Returns how many pages did
 * (backing-dev.c: congestion_wait).
 */
export function congestion_wait(m: Machine, ms: number): number {
  blk_flush_plug(m);
  let ended = 0;
  for (const q of m.block_devices) {
    if (q.count === 0) continue;
    const until = Math.max(m.clock.now_ms + ms, q.done_at[q.head]!);
    ended += complete_writes(m, q, until);
  }
  return ended;
}

/** When the next write ends, clock milliseconds; infinite when none is under way. */
export function next_write_end(m: Machine): number {
  let next = Number.POSITIVE_INFINITY;
  for (const q of m.block_devices) if (q.count > 0) next = Math.min(next, q.done_at[q.head]!);
  return next;
}

/** congestion_wait in a job: a sleep where jobs sleep, else a wait that costs no time. */
export function* sleep_congested(m: Machine, ms: number): Job<void> {
  if (m.sleeps) yield ms;
  else congestion_wait(m, ms);
}

/** The same for wait_on_page_writeback. */
export function* sleep_on_writeback(m: Machine, pfn: pfn_t): Job<void> {
  if (m.sleeps) yield -pfn;
  else wait_on_page_writeback(m, pfn);
}

/** More requests are under way than a device likes (backing-dev.h: bdi_write_congested). */
export function bdi_write_congested(m: Machine, bdev: number): boolean {
  if (bdev < 0) return false;
  // queue_congestion_on_threshold: 7/8 of what the queue takes.
  return m.block_devices[bdev]!.count * 8 >= MAX_IN_FLIGHT * 7;
}

/** Asks the flusher to write `nr_pages` pages; 0: all that are dirty (fs-writeback.c). */
export function wakeup_flusher_threads(m: Machine, nr_pages: number): void {
  m.writeback.nr_requested += nr_pages === 0 ? Number.MAX_SAFE_INTEGER : nr_pages;
}
