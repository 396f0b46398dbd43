/** The same seed and events give the same state, bit for bit; a copy of it is as whole as it was. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import {
  ALLOCSTALL,
  ALLOCSTALL_ZONE,
  COMPACTISOLATED,
  COMPACTPAGES,
  KSWAPD_STEAL,
  PAGEOUTRUN,
  PSWPIN,
  PSWPOUT,
} from '../../src/mm/vmstat.ts';
import { fork_machine, state_hash } from '../../src/snapshot.ts';
import { MmRun, mm_model } from '../model/mm_model.ts';
import { pressure_of } from '../model/pressure_model.ts';
import { ReclaimRun } from '../model/reclaim_model.ts';

const EVENTS = 3000;
const EVERY = 1000;

/** Hashes of the state along a run; with `copies`, each state is copied and the copy checked. */
function hashes(shape: string, seed: number, copies: boolean): string[] {
  const run = new MmRun({ seed, events: EVENTS, shape, check_every: EVERY });
  const found: string[] = [];
  for (let i = 1; i <= EVENTS; i++) {
    run.step();
    if (i % EVERY !== 0) continue;
    run.finish_job();
    const hash = state_hash(run.m);
    found.push(hash);
    if (!copies) continue;
    const copy = fork_machine(run.m);
    assert.equal(state_hash(copy), hash);
    debug_vm(copy);
  }
  return found;
}

for (const shape of mm_model.shapes) {
  test(`same seed, same state: ${shape}`, () => {
    const once = hashes(shape, 7, true);
    assert.equal(new Set(once).size, once.length);
    assert.deepEqual(hashes(shape, 7, false), once);
    assert.notEqual(hashes(shape, 8, false)[0], once[0]);
  });
}

/** Direct reclaims: one counter in 2.6.35, one for each kind of zone in 6.1. */
function allocstall(m: Machine): number {
  const by_zone = m.shape.zone_names.map((_, z) => m.vm_events[ALLOCSTALL_ZONE + z]!);
  return by_zone.reduce((sum, n) => sum + n, m.vm_events[ALLOCSTALL]!);
}

/** Processes that the OOM killer took, in all runs. */
let killed = 0;

/** The same under pressure: reclaim, swap, compaction, OOM kills and the pool at work. */
function pressure_hashes(shape: string, seed: number): string[] {
  const run = new ReclaimRun(pressure_of(shape), seed);
  run.fill();
  const found: string[] = [];
  for (let i = 1; i <= 3; i++) {
    for (const end = run.operations + 8000; run.operations < end; ) run.step();
    run.finish_jobs();
    found.push(state_hash(run.m));
  }
  const { vm_events } = run.m;
  assert.ok(vm_events[PSWPOUT]! > 0 && vm_events[PSWPIN]! > 0, 'swap');
  assert.ok(vm_events[PAGEOUTRUN]! > 0 && vm_events[KSWAPD_STEAL]! > 0, 'kswapd');
  assert.ok(vm_events[COMPACTPAGES]! + vm_events[COMPACTISOLATED]! > 0, 'compaction');
  assert.ok(allocstall(run.m) > 0, 'direct reclaim');
  killed += run.killed;
  return found;
}

for (const shape of [
  'x86_64-1/full',
  'x86_64-4/full',
  '6.1-2/full',
  'x86/full',
  'ppc64-64K-2/full',
]) {
  test(`same seed, same state under pressure: ${shape}`, () => {
    const once = pressure_hashes(shape, 7);
    assert.deepEqual(pressure_hashes(shape, 7), once);
    assert.notEqual(pressure_hashes(shape, 8)[0], once[0]);
  });
}

test('some of these runs had the OOM killer at work', () => {
  assert.ok(killed > 0);
});
