/**
 * The files of /sys/kernel/mm/ksm that all kernels have; a kernel says how it reads a number.
 *
 * Linux: mm/ksm.c (the attributes at its end).
 */
import { EINVAL } from '../../lib/errno.ts';
import type { FileRow } from '../../lib/file_row.ts';
import { KSM_RUN_STOP, type KsmState, ksm_state, ksm_state_of } from '../../mm/ksm_def.ts';
import { set_run } from '../../mm/ksmd.ts';
import type { Machine } from '../../mm/mmzone.ts';

const UINT_MAX = 2n ** 32n - 1n;
export const KSM = '/sys/kernel/mm/ksm';

/** A written number, or a negative errno. */
export type ParseNumber = (text: string) => bigint | number;

export type KsmTunable = 'sleep_millisecs' | 'pages_to_scan' | 'stable_node_chains_prune_millisecs';

/** A file with a number of 32 bits; whatever does not fit is EINVAL. */
export function tunable_row(
  parse: ParseNumber,
  name: KsmTunable,
  value: number,
  doc: string,
): FileRow<Machine> {
  return {
    path: `${KSM}/${name}`,
    mode: 0o644,
    show: (seq, m) => void seq.put_dec(ksm_state(m)?.[name] ?? value).puts('\n'),
    store(m, text) {
      const number = parse(text);
      if (typeof number === 'number' || number > UINT_MAX) return -EINVAL;
      ksm_state_of(m)[name] = Number(number);
      return text.length;
    },
    doc,
  };
}

export function counter_row(
  name: string,
  value: (k: KsmState) => number,
  doc: string,
): FileRow<Machine> {
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

export const ksm_files = (parse: ParseNumber): readonly FileRow<Machine>[] => [
  tunable_row(parse, 'sleep_millisecs', 20, 'how long ksmd sleeps between two batches'),
  tunable_row(parse, 'pages_to_scan', 100, 'pages in a batch of ksmd'),
  {
    path: `${KSM}/run`,
    mode: 0o644,
    show: (seq, m) => void seq.put_dec(ksm_state(m)?.run ?? KSM_RUN_STOP).puts('\n'),
    store(m, text) {
      const value = parse(text);
      if (typeof value === 'number' || value > 2n) return -EINVAL;
      return set_run(m, Number(value), text.length);
    },
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
