/**
 * One processor's share of an experiment: takes runs from the main thread and sends their results.
 */
import { parentPort } from 'node:worker_threads';
import { type Cell, run_experiment } from '../src/sim/experiment.ts';

parentPort?.on('message', (task: { cell: Cell; seed: number }) => {
  const start = performance.now();
  const run = run_experiment(task.cell, task.seed);
  parentPort?.postMessage({ run, seconds: (performance.now() - start) / 1000 });
});
