/**
 * KSM's thread: when it scans, and what a change of `run` means for it; the mechanics are in ksm.ts.
 *
 * ksmd sleeps sleep_millisecs, then looks at pages_to_scan pages, as long as `run` is 1 and some
 * process has offered memory. It runs on the virtual clock: a tick that moves the clock further than
 * one sleep makes up for the scans in between.
 * Linux: mm/ksm.c (ksm_scan_thread, run_store). Differs: a sleep is at least one timer tick, also when
 * sleep_millisecs is 0, where Linux scans without a pause.
 */
import { HZ } from '../lib/clock.ts';
import type { Job } from '../lib/kthread.ts';
import { ksm_do_scan, ksmd_should_run, unmerge_and_remove_all_rmap_items } from './ksm.ts';
import {
  KSM_RUN_MERGE,
  KSM_RUN_STOP,
  KSM_RUN_UNMERGE,
  type KsmState,
  ksm_state,
  ksm_state_of,
} from './ksm_def.ts';
import { as_kthread } from './kthread.ts';
import type { Machine } from './mmzone.ts';

const KSMD = { pid: 24, comm: 'ksmd' };

/** Milliseconds that schedule_timeout sleeps: whole timer ticks, upwards. */
function sleep_ms(k: KsmState): number {
  const tick = 1000 / HZ;
  return Math.max(1, Math.ceil(k.sleep_millisecs / tick)) * tick;
}

function* scan_what_is_due(m: Machine, k: KsmState): Job {
  while (!k.busy && ksmd_should_run(k) && k.wake_ms <= m.clock.now_ms) {
    yield* ksm_do_scan(m, k.pages_to_scan);
    k.wake_ms += sleep_ms(k);
  }
  return 0;
}

/** KernelProfile.ksmd_tick: the scans that are due by now. Ends in 0. */
export function* ksmd_tick(m: Machine): Job {
  const k = ksm_state(m);
  if (k === null || k.busy || !ksmd_should_run(k)) return 0;
  return yield* as_kthread(m, KSMD, scan_what_is_due(m, k));
}

/** Sets `run` and ends in `length`: 2 ends when all pages are unmerged, or in an errno. */
export function* set_run(m: Machine, run: number, length: number): Job {
  const k = ksm_state_of(m);
  // ksm_thread_mutex: a scan ends first.
  while (k.busy) yield;
  if (k.run === run) return length;
  k.run = run;
  if (run === KSM_RUN_MERGE) k.wake_ms = m.clock.now_ms;
  if (run !== KSM_RUN_UNMERGE) return length;
  k.busy = true;
  const err = yield* unmerge_and_remove_all_rmap_items(m);
  k.busy = false;
  if (err === 0) return length;
  k.run = KSM_RUN_STOP;
  return err;
}
