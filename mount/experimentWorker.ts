/**
 * One processor's share of an experiment: what a thread of the pool does with a run.
 */
import { type Cell, run_experiment } from '../src/sim/experiment.ts';

export default function runTask(task: { cell: Cell; seed: number }): unknown {
  const start = performance.now();
  const run = run_experiment(task.cell, task.seed);
  return { run, seconds: (performance.now() - start) / 1000 };
}
