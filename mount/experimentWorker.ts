/**
 * One processor's share of an experiment: what a thread of the pool does with a run.
 */
import { fileURLToPath } from 'node:url';
import type { Cell } from '../src/sim/experiment.ts';
import { load } from './linker.ts';

/** The core that a thread runs, as compiled code. */
const EXPERIMENT = fileURLToPath(new URL('../src/sim/experiment.js', import.meta.url));

const { run_experiment } = await load<typeof import('../src/sim/experiment.ts')>(EXPERIMENT);

export default function runTask(task: { cell: Cell; seed: number }): unknown {
  const start = performance.now();
  const run = run_experiment(task.cell, task.seed);
  return { run, seconds: (performance.now() - start) / 1000 };
}
