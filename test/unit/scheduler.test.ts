/**
 * The scheduler of experiments: to spend time and go on is to yield it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DiskVnode, disk_root } from '../../src/fs/disk/index.ts';
import { O_WRONLY, type OpenFile } from '../../src/fs/vfs.ts';
import { boot } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { GFP_HIGHUSER_MOVABLE } from '../../src/mm/gfp.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { global_page_state, NR_FILE_DIRTY, PAGEOUTRUN } from '../../src/mm/vmstat.ts';
import { COST } from '../../src/sim/workloads/costs.ts';
import { kernel_work, spend } from '../../src/sim/workloads/kernel_tasks.ts';
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

test('who sleeps until it is woken is not waited for, and runs when it is woken', () => {
  const m = boot({ machine: 'x86_64', memory: 64 * 2 ** 20, seed: 3 });
  const s = new Scheduler(m);
  let woken = false;
  s.start(
    (function* (): Process {
      yield Number.NEGATIVE_INFINITY;
      woken = true;
    })(),
  );
  // Without the limit a mistake would run for ever.
  s.run(() => m.clock.now_ms > 1000);
  assert.ok(m.clock.now_ms < 1, `${m.clock.now_ms} ms`);
  assert.equal(woken, false);
  s.wake_up_all();
  s.run(() => m.clock.now_ms > 1000);
  assert.equal(woken, true);
  assert.equal(s.alive, 0);
});

test('a new process waits until each of the others had the shortest slice, however many they are', () => {
  const m = boot({ machine: 'x86_64', memory: 64 * 2 ** 20, seed: 3 });
  const s = new Scheduler(m);
  let stop = false;
  function* busy(): Process {
    while (!stop) yield 0.1;
  }
  for (let i = 0; i < 20; i++) s.start(busy());
  s.run(() => m.clock.now_ms > 500);
  const started = m.clock.now_ms;
  let first = 0;
  s.start(
    (function* (): Process {
      first = m.clock.now_ms;
      stop = true;
      yield 0;
    })(),
  );
  s.run();
  // 20 times 2 ms, give or take half a slice each; a fair part of the latency of 6 ms would be 6 in all.
  assert.ok(first - started > 20 && first - started < 80, `${first - started} ms`);
});

test('the flusher writes beside processes, and what it writes has a price', () => {
  const m = boot({ memory: 64 * 2 ** 20, disk: new MemoryBlockDevice(64 * 2 ** 20) });
  const s = new Scheduler(m);
  const owner = { uid: 0, gid: 0, pid: 1 };
  const node = disk_root(m).create('a', 0o644, owner) as DiskVnode;
  (node.open(O_WRONLY, owner) as OpenFile).write(new Uint8Array(100 * 4096), 0);
  assert.ok(global_page_state(m, NR_FILE_DIRTY) >= 100);
  const before = kernel_work(m, 0);
  s.start(
    (function* (): Process {
      // Longer than pages may stay dirty: 30 seconds, and a look every five.
      for (let i = 0; i < 40; i++) yield -1000;
    })(),
  );
  let most = 0;
  s.run(() => {
    most = Math.max(most, s.alive);
    return false;
  });
  assert.equal(most, 1, 'the flusher does not count');
  const left = global_page_state(m, NR_FILE_DIRTY);
  assert.ok(left < 5, `${left} pages are dirty`);
  const written = kernel_work(m, 0) - before;
  assert.ok(written >= 100 * COST.page_written && written < 150 * COST.page_written, `${written}`);
});
