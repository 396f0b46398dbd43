/**
 * KSM's thread and its files in /sys/kernel/mm/ksm; the mechanics are in mm/ksm.ts.
 *
 * ksmd sleeps sleep_millisecs, then looks at pages_to_scan pages, as long as `run` is 1 and some
 * process has offered memory. It runs on the virtual clock: a tick that moves the clock further than
 * one sleep makes up for the scans in between.
 * Linux: mm/ksm.c (ksm_scan_thread, the attributes at its end). Differs: a sleep is at least one
 * timer tick, also when sleep_millisecs is 0, where Linux scans without a pause.
 */
import { HZ } from '../../lib/clock.ts';
import { EINVAL } from '../../lib/errno.ts';
import type { FileRow } from '../../lib/file_row.ts';
import { strict_strtoul } from '../../lib/kstrto.ts';
import type { Job } from '../../lib/kthread.ts';
import { ksm_do_scan, ksmd_should_run, unmerge_and_remove_all_rmap_items } from '../../mm/ksm.ts';
import {
  KSM_RUN_MERGE,
  KSM_RUN_STOP,
  KSM_RUN_UNMERGE,
  type KsmState,
  ksm_state,
  ksm_state_of,
} from '../../mm/ksm_def.ts';
import { as_kthread } from '../../mm/kthread.ts';
import type { Machine } from '../../mm/mmzone.ts';

const KSMD = { pid: 24, comm: 'ksmd' };
const UINT_MAX = 2n ** 32n - 1n;
const KSM = '/sys/kernel/mm/ksm';

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

/** A write to `run`: anything but 0, 1, 2 is EINVAL; 2 ends when all pages are unmerged. */
function run_store(m: Machine, text: string): number | Job {
  const value = strict_strtoul(text, 10);
  if (typeof value === 'number' || value > 2n) return -EINVAL;
  return set_run(m, Number(value), text.length);
}

function* set_run(m: Machine, run: number, length: number): Job {
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

type Tunable = 'sleep_millisecs' | 'pages_to_scan';

function tunable_row(name: Tunable, value: number, doc: string): FileRow<Machine> {
  return {
    path: `${KSM}/${name}`,
    mode: 0o644,
    show: (seq, m) => void seq.put_dec(ksm_state(m)?.[name] ?? value).puts('\n'),
    store(m, text) {
      const number = strict_strtoul(text, 10);
      if (typeof number === 'number' || number > UINT_MAX) return -EINVAL;
      ksm_state_of(m)[name] = Number(number);
      return text.length;
    },
    doc,
  };
}

function counter_row(name: string, value: (k: KsmState) => number, doc: string): FileRow<Machine> {
  return {
    path: `${KSM}/${name}`,
    mode: 0o444,
    show(seq, m) {
      const k = ksm_state(m);
      seq.put_dec(k === null ? 0 : value(k)).puts('\n');
    },
    doc,
  };
}

export const ksm_files: readonly FileRow<Machine>[] = [
  tunable_row('sleep_millisecs', 20, 'how long ksmd sleeps between two batches'),
  tunable_row('pages_to_scan', 100, 'pages in a batch of ksmd'),
  {
    path: `${KSM}/run`,
    mode: 0o644,
    show: (seq, m) => void seq.put_dec(ksm_state(m)?.run ?? KSM_RUN_STOP).puts('\n'),
    store: run_store,
    doc: 'ksmd: 0 stops, 1 runs, 2 stops and unmerges all pages',
  },
  counter_row('pages_shared', (k) => k.pages_shared, 'merged pages'),
  counter_row('pages_sharing', (k) => k.pages_sharing, 'further users of merged pages'),
  counter_row('pages_unshared', (k) => k.pages_unshared, 'pages that wait for an equal one'),
  counter_row(
    'pages_volatile',
    (k) => Math.max(0, k.rmap_items - k.pages_shared - k.pages_sharing - k.pages_unshared),
    'pages that change too fast',
  ),
  counter_row('full_scans', (k) => k.seqnr, 'completed scans of all offered memory'),
];
