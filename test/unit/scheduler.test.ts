/**
 * The scheduler of experiments: to spend time and go on is to yield it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boot } from '../../src/machine.ts';
import { GFP_HIGHUSER_MOVABLE } from '../../src/mm/gfp.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { PAGEOUTRUN } from '../../src/mm/vmstat.ts';
import { spend } from '../../src/sim/workloads/kernel_tasks.ts';
import { type Process, Scheduler } from '../../src/sim/workloads/scheduler.ts';
import { state_hash } from '../../src/snapshot.ts';

/** Allocates page after page, in short steps with a nap now and then, until memory is short. */
function* worker(m: Machine, id: number, log: string[], use: (ms: number) => Process): Process {
  for (let i = 0; i < 6000; i++) {
    const pfn = m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0);
    log.push(`${id} ${pfn} ${m.clock.now_ms}`);
    yield* use(0.011 + id / 1000);
    if (pfn >= 0 && i % 8 === 0) m.kernel.__free_pages(m, pfn, 0);
    if (i % 1000 === 999) yield -id;
  }
}

function run(spends: boolean): {
  log: string[];
  hash: string;
  steps: number;
  kswapd_runs: number;
} {
  const m = boot({ machine: 'x86_64', memory: 64 * 2 ** 20, seed: 3 });
  const s = new Scheduler(m);
  const log: string[] = [];
  let steps = 0;
  const use = function* (ms: number): Process {
    if (spends && spend(m, ms)) return;
    steps++;
    yield ms;
  };
  for (let id = 1; id <= 3; id++) s.start(worker(m, id, log, use));
  s.run();
  return { log, hash: state_hash(m), steps, kswapd_runs: m.vm_events[PAGEOUTRUN]! };
}

test('who spends time gets the processor when who yields it does, and memory is the same', () => {
  const yielded = run(false);
  const spent = run(true);
  assert.deepEqual(spent.log, yielded.log);
  assert.equal(spent.hash, yielded.hash);
  assert.equal(yielded.steps, 18000);
  assert.ok(spent.steps < 2000, `${spent.steps} steps`);
  // kswapd had its turns in between.
  assert.ok(yielded.kswapd_runs > 0);
});

test('outside of a slice there is nothing to spend', () => {
  const m = boot({ machine: 'x86_64', memory: 64 * 2 ** 20, seed: 3 });
  assert.equal(spend(m, 1), false);
});
