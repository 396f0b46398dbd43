/** The experiments on a small machine: the whole course, and that compaction does what it should. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { type AtRestOptions, at_rest } from '../../src/sim/experiment_at_rest.ts';
import { deviation, differs, mean } from '../../src/sim/experiment_tables.ts';
import { type UnderLoadOptions, under_load } from '../../src/sim/experiment_under_load.ts';

const MIB = 2 ** 20;

/** The recorded test at a quarter of its size. */
function small(o: Partial<AtRestOptions>): AtRestOptions {
  return {
    machine: 'x86_64',
    compaction: true,
    seed: 1,
    memory: 512 * MIB,
    swap: 0,
    files: 1024,
    blocks: 128,
    walk: false,
    daemons: 0,
    ...o,
  };
}

test('huge pages at rest: states are whole, and compaction gets more with less reclaim', () => {
  const seen: string[] = [];
  const inspect = (state: string, m: Machine): void => {
    seen.push(state);
    debug_vm(m);
  };
  const vanilla = at_rest(small({ compaction: false, inspect }));
  const compaction = at_rest(small({ inspect }));
  assert.deepEqual(seen.slice(0, 5), ['boot', 'filled', 'ready', 'half', 'final']);
  assert.equal(vanilla.attempted, compaction.attempted);
  assert.ok(compaction.got > vanilla.got, `${compaction.got} against ${vanilla.got}`);
  assert.ok(vanilla.got > vanilla.attempted / 3, `vanilla: ${vanilla.got}`);
  const steals = [vanilla.total['direct_steals']!, compaction.total['direct_steals']!];
  assert.ok(steals[0]! > 4 * steals[1]!, `direct steals: ${steals.join(' against ')}`);
  assert.ok(compaction.total['compact_success']! > 0);
  assert.equal(vanilla.total['compact_stall'], 0);
  // Each step asks for more and takes nothing away; the map shows what the pool has.
  for (const run of [vanilla, compaction]) {
    assert.equal(run.steps.length, 20);
    for (let i = 1; i < 20; i++) assert.ok(run.steps[i]!.got >= run.steps[i - 1]!.got);
    assert.equal([...run.maps['final']!].filter((c) => c === 'H').length, run.got);
    assert.ok(!run.maps['ready']!.includes('H'));
    // Maps and types have a letter for each block of each zone.
    const blocks = run.zones.reduce((sum, zone) => sum + zone.blocks, 0);
    for (const map of Object.values(run.maps)) assert.equal(map.length, blocks);
    for (const types of Object.values(run.types))
      assert.match(types, new RegExp(`^[URMVI]{${blocks}}$`));
    // The scanners: only with compaction, and never outside of their zone.
    const scans = run.steps.flatMap((step) => step.scans);
    assert.equal(scans.length > 0, run === compaction);
    for (const scan of scans) {
      assert.ok(scan.met <= scan.runs);
      assert.ok(scan.migrate >= 0 && scan.migrate <= run.zones[scan.zone]!.blocks);
      assert.ok(scan.free >= 0 && scan.free <= run.zones[scan.zone]!.blocks);
    }
    for (const { counters, scans } of run.steps) {
      const runs = scans.reduce((sum, scan) => sum + scan.runs, 0);
      assert.ok(runs <= counters['compact_stall']! * run.zones.length);
    }
  }
});

test('huge pages at rest: the seed decides all', () => {
  const run = (seed: number): string =>
    JSON.stringify(at_rest(small({ seed, memory: 192 * MIB, files: 384 })));
  assert.equal(run(7), run(7));
  assert.notEqual(run(7), run(8));
});

test('huge pages at rest: HighMem, and a walk with swap on ppc64', () => {
  const check = (_state: string, m: Machine): void => debug_vm(m);
  const x86 = at_rest(small({ machine: 'x86', memory: 1024 * MIB, files: 2048, inspect: check }));
  assert.ok(x86.got > 0);
  const ppc64 = at_rest(
    small({
      machine: 'ppc64',
      memory: 512 * MIB,
      files: 900,
      walk: true,
      swap: 256 * MIB,
      daemons: 3,
      inspect: check,
    }),
  );
  assert.ok(ppc64.got > 0);
});

test('huge pages under load: builds go on, states are whole, the seed decides all', () => {
  const options: UnderLoadOptions = {
    machine: 'x86_64',
    compaction: true,
    seed: 3,
    memory: 256 * MIB,
    swap: 128 * MIB,
    builds: 2,
    percent: 50,
    warm_up: 500,
    daemons: 2,
  };
  const states: string[] = [];
  const inspect = (state: string, m: Machine): void => {
    states.push(state);
    debug_vm(m);
  };
  const run = under_load({ ...options, inspect });
  assert.deepEqual(states, ['boot', 'ready', 'half', 'final']);
  assert.ok(run.got > run.attempted / 2, `${run.got} of ${run.attempted}`);
  assert.equal(run.steps[run.steps.length - 1]!.target, run.attempted);
  assert.deepEqual(under_load(options), run);
});

test('statistics: known values', () => {
  assert.equal(mean([1, 2, 6]), 3);
  assert.equal(deviation([2, 4, 4, 4, 5, 5, 7, 9]).toFixed(4), '2.1381');
  assert.equal(deviation([5]), 0);
  assert.ok(differs([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]));
  assert.ok(!differs([1, 3, 5, 7, 9], [2, 4, 6, 8, 10]));
  assert.ok(!differs([5, 5, 5, 5], [5, 5, 5, 5]));
});
