/**
 * The second test, "no regression": a build, a network, a file and a database benchmark, one after the
 * other on one machine, which is no faster and no slower with compaction.
 *
 * A step is a benchmark; its `ms` is what it costs on the virtual clock, its counters are the work of the
 * allocator and of reclaim. Published: nothing remarkable (reference 13.5). 2.6.35 compacts for
 * requests of an order above 3 alone, and these have none, so equal costs are what is to be expected.
 */
import type { MachineName } from '../arch.ts';
import type { Machine } from '../mm/mmzone.ts';
import type { Run } from './experiment.ts';
import { Recorder } from './experiment_record.ts';
import { ORDINARY_NAMES, type OrdinaryName, start_ordinary } from './workloads/ordinary.ts';
import { boot_for_experiment } from './workloads/prepare.ts';
import { Scheduler } from './workloads/scheduler.ts';

export interface NoRegressionOptions {
  machine: MachineName;
  compaction: boolean;
  seed: number;
  /** Bytes of RAM and of swap. */
  memory: number;
  swap: number;
  daemons: number;
  /** The benchmarks, in their order; default all. */
  benchmarks?: readonly OrdinaryName[];
  inspect?: (state: string, m: Machine) => void;
}

/** Milliseconds between two benchmarks. */
const PAUSE = 1000;

export function no_regression(o: NoRegressionOptions): Omit<Run, 'cell' | 'seed'> {
  const { m, shell } = boot_for_experiment(o);
  const record = new Recorder(m, o.inspect);
  record.moment('boot');
  record.start();
  const names = o.benchmarks ?? ORDINARY_NAMES;
  const s = new Scheduler(m);
  let attempted = 0;
  let got = 0;
  names.forEach((name, i) => {
    const start = m.clock.now_ms;
    const benchmark = start_ordinary(s, shell, name);
    s.run(() => s.alive === 0);
    attempted += benchmark.total;
    got += benchmark.done();
    record.step(attempted, got, m.clock.now_ms - start, name);
    if (i === names.length >>> 1) record.moment('half');
    s.idle(PAUSE);
  });
  record.moment('final');
  return record.end(attempted, got, {});
}
