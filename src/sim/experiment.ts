/**
 * The experiments that can be run: their names, machines, set-ups, and one run of each.
 *
 * A cell is an experiment on a machine with a set-up, with or without compaction; a run is a cell
 * with a seed. Runs do not know of each other, so that they can be spread over processors. The
 * result of a run is plain data. Set-ups: `recorded` repeats the circumstances of the recordings in
 * test/golden (all of them known), `published` those of the published figures as far as they are.
 */
import type { MachineName } from '../arch.ts';
import { type AtRestOptions, at_rest } from './experiment_at_rest.ts';
import { type NoRegressionOptions, no_regression } from './experiment_no_regression.ts';
import { type UnderLoadOptions, under_load } from './experiment_under_load.ts';
import type { ZoneScan } from './experiment_watch.ts';
import { DISK_OF_2010 } from './workloads/costs.ts';
import { DISTRIBUTION } from './workloads/distribution.ts';
import { KERNEL_TREE } from './workloads/kernel_tree.ts';

export type ExperimentName = 'hugepages-at-rest' | 'no-regression' | 'hugepages-under-load';
export type Setup = 'recorded' | 'published';

export const EXPERIMENTS: readonly ExperimentName[] = [
  'hugepages-at-rest',
  'no-regression',
  'hugepages-under-load',
];
export const MACHINES: readonly MachineName[] = ['x86', 'x86_64', 'ppc64'];

export interface Cell {
  readonly experiment: ExperimentName;
  readonly machine: MachineName;
  readonly setup: Setup;
  readonly compaction: boolean;
}

/** One point of a run: an attempt to grow the pool, or a number of single attempts. */
export interface Step {
  /** What was done, where steps differ in kind. */
  readonly name?: string;
  /** Pages asked for so far, and there. */
  readonly target: number;
  readonly got: number;
  /** Milliseconds of the virtual clock that the step took. */
  readonly ms: number;
  /** What the step added to counters; see COUNTERS in experiment_counters.ts. */
  readonly counters: Readonly<Record<string, number>>;
  /** Free blocks per order at the end of the step, all zones together. */
  readonly free: readonly number[];
  /** What compaction's scanners did, by zone. */
  readonly scans: readonly ZoneScan[];
}

export interface Run {
  readonly cell: Cell;
  readonly seed: number;
  readonly attempted: number;
  readonly got: number;
  /** Counters over all steps. */
  readonly total: Readonly<Record<string, number>>;
  readonly steps: readonly Step[];
  /** Free blocks per order before the first step. */
  readonly free_before: readonly number[];
  /** Zones in the order of the maps. */
  readonly zones: readonly { readonly name: string; readonly blocks: number }[];
  /**
   * One letter a page block at moments such as `boot`, `ready`, `half` and `final`: what is in it
   * (block_map in experiment_counters.ts), and its type (block_types).
   */
  readonly maps: Readonly<Record<string, string>>;
  readonly types: Readonly<Record<string, string>>;
  /** Facts about the load that tables do not need, such as the most processes alive. */
  readonly notes: Readonly<Record<string, number>>;
}

const MIB = 2 ** 20;

/**
 * RAM by machine. Recorded: what the machines had. Published: what makes the number of attempts
 * that was published (1002, 1002, 110), since the machines' sizes were not.
 */
const MEMORY: Record<Setup, Record<MachineName, number>> = {
  recorded: { x86_64: 2048 * MIB, x86: 2048 * MIB, ppc64: 1808 * MIB },
  published: { x86_64: 2038 * MIB, x86: 2026 * MIB, ppc64: 1808 * MIB },
};

/**
 * Milliseconds between two attempts of the published third test. "Small delays", so that the disk is
 * not flooded, is all that is known: a choice made in view of the figures, one for all machines.
 */
const SMALL_DELAY = 35;

export function at_rest_options(cell: Cell, seed: number): AtRestOptions {
  return {
    machine: cell.machine,
    compaction: cell.compaction,
    seed,
    memory: MEMORY[cell.setup][cell.machine],
    files: 4096,
    blocks: 128,
    swap: cell.setup === 'published' ? 2048 * MIB : 0,
    walk: cell.setup === 'published',
    daemons: cell.setup === 'published' ? DISTRIBUTION.daemons : 0,
    distribution: cell.setup === 'published',
    driver: cell.setup === 'recorded' && cell.machine === 'x86_64',
  };
}

export function under_load_options(cell: Cell, seed: number): UnderLoadOptions {
  const recorded = cell.setup === 'recorded';
  return {
    machine: cell.machine,
    compaction: cell.compaction,
    seed,
    // The recorded test was a reduced one.
    memory: recorded ? 1024 * MIB : MEMORY.published[cell.machine],
    swap: recorded ? 1024 * MIB : 2048 * MIB,
    // Published: one build for each 400 MiB, and one more (reference 13.6).
    builds: recorded ? 4 : Math.floor(MEMORY.published[cell.machine] / (400 * MIB)) + 1,
    percent: 90,
    ...(recorded
      ? {}
      : { trees: KERNEL_TREE, disk: DISK_OF_2010, delay: SMALL_DELAY, hugeadm_late: true }),
    warm_up: recorded ? 45_000 : 300_000,
    daemons: recorded ? 0 : DISTRIBUTION.daemons,
    distribution: !recorded,
    driver: recorded && cell.machine === 'x86_64',
  };
}

/** A small machine, so that its benchmarks fill it: their sizes follow from memory's. */
export function no_regression_options(cell: Cell, seed: number): NoRegressionOptions {
  return {
    machine: cell.machine,
    compaction: cell.compaction,
    seed,
    memory: 192 * MIB,
    swap: 256 * MIB,
    daemons: 10,
  };
}

/** Runs one cell with one seed. */
export function run_experiment(cell: Cell, seed: number): Run {
  switch (cell.experiment) {
    case 'hugepages-at-rest':
      return { cell, seed, ...at_rest(at_rest_options(cell, seed)) };
    case 'no-regression':
      return { cell, seed, ...no_regression(no_regression_options(cell, seed)) };
    case 'hugepages-under-load':
      return { cell, seed, ...under_load(under_load_options(cell, seed)) };
  }
}
