/**
 * The first test, "huge pages at rest": how far a pool of huge pages grows on a quiet machine whose
 * memory was filled by 4096 processes and thinned out.
 *
 * hugeadm's four steps, the fill, every second file removed, then the pool's size is raised by 5 %
 * of memory twenty times. Steps, names and order as in reference 13.1 and golden t1/README.
 */
import type { MachineName } from '../arch.ts';
import { disk_of } from '../fs/disk/index.ts';
import { run_job } from '../lib/kthread.ts';
import type { Machine } from '../mm/mmzone.ts';
import { sync_filesystems } from '../mm/page_writeback.ts';
import type { Run } from './experiment.ts';
import { Recorder } from './experiment_record.ts';
import { COST } from './workloads/costs.ts';
import { DISTRIBUTION, daemons_at_work } from './workloads/distribution.ts';
import { fill, thin_out, Walk } from './workloads/fill.ts';
import { Journal } from './workloads/journal.ts';
import { populate } from './workloads/platter.ts';
import { grow_pool } from './workloads/pool.ts';
import { boot_for_experiment, hugeadm } from './workloads/prepare.ts';
import { type Process, Scheduler } from './workloads/scheduler.ts';

export interface AtRestOptions {
  machine: MachineName;
  compaction: boolean;
  seed: number;
  /** Bytes of RAM and of swap. */
  memory: number;
  swap: number;
  /** Files, each by a process of its own, and pages in each. */
  files: number;
  blocks: number;
  /** A walk over a tree that is on the disk goes on meanwhile. */
  walk: boolean;
  /** Long-lived processes besides init and the shell. */
  daemons: number;
  /** A distribution runs: memory that its kernel holds, daemons that open files of the tree. */
  distribution?: boolean;
  /** The recorder's driver is loaded. */
  driver?: boolean;
  /** Called with the machine at each state: for tests. */
  inspect?: (state: string, m: Machine) => void;
}

const STEPS = 20;

export function at_rest(o: AtRestOptions): Omit<Run, 'cell' | 'seed'> {
  const { m, shell, daemons } = boot_for_experiment(o);
  const record = new Recorder(m, o.inspect);
  if (o.walk) populate(m, disk_of(m)!, DISTRIBUTION.dirs, DISTRIBUTION.files);
  const h = hugeadm(m);
  record.moment('boot');

  const s = new Scheduler(m);
  const walk = o.walk ? new Walk(m, shell) : null;
  if (walk !== null) s.start(walk.process);
  if (o.distribution) s.start(daemons_at_work(m, daemons));
  const journal = new Journal(s);
  s.start(journal.kjournald());
  const others = s.alive;
  const most_alive = fill(s, shell, journal, o);
  s.settle();
  record.moment('filled');
  thin_out(s, o.files, others);
  if (walk !== null) walk.kill(s);
  run_job(sync_filesystems(m));
  journal.commit_now();
  s.idle(3000, 20);
  record.moment('ready');

  const attempted = Math.floor((m.totalram_pages * 2 ** (m.shape.page_shift - 10)) / h.size_kb);
  record.start();
  function* tester(): Process {
    for (let i = 1; i <= STEPS; i++) {
      const target = Math.floor((attempted * i) / STEPS);
      const start = m.clock.now_ms;
      yield* grow_pool(s, h, target);
      record.step(target, h.nr_huge_pages, m.clock.now_ms - start);
      if (i === STEPS / 2) record.moment('half');
      // Counters are read and stored: it is busy, and kswapd may run beside it.
      for (let ms = 0; ms < COST.between_steps; ms++) yield 1;
    }
    done = true;
  }
  let done = false;
  s.start(tester());
  s.run(() => done);
  s.settle();
  record.moment('final');
  return record.end(attempted, h.nr_huge_pages, { most_alive });
}
