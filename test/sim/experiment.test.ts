/** The experiments on a small machine: the whole course, and that compaction does what it should. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_of } from '../../src/fs/disk/index.ts';
import { KSWAPD_RUNNING } from '../../src/kernels/linux-2.6.35/kswapd.ts';
import { boot } from '../../src/machine.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { type AtRestOptions, at_rest } from '../../src/sim/experiment_at_rest.ts';

import { block_map } from '../../src/sim/experiment_counters.ts';
import { type NoRegressionOptions, no_regression } from '../../src/sim/experiment_no_regression.ts';
import { type UnderLoadOptions, under_load } from '../../src/sim/experiment_under_load.ts';
import { differs, mean } from '../../src/sim/statistics.ts';
import { DISK_OF_2010 } from '../../src/sim/workloads/costs.ts';

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
  // A single run of vanilla may have luck: in the mean over a few seeds compaction is ahead.
  const got = [vanilla.got, compaction.got];
  for (const seed of [2, 3]) {
    got[0]! += at_rest(small({ compaction: false, seed })).got;
    got[1]! += at_rest(small({ seed })).got;
  }
  assert.ok(got[1]! > got[0]!, `${got[1]} against ${got[0]}`);
  assert.ok(vanilla.got > vanilla.attempted / 3, `vanilla: ${vanilla.got}`);
  const steals = [vanilla.total['direct_steals']!, compaction.total['direct_steals']!];
  assert.ok(steals[1]! < steals[0]! / 100, `direct steals: ${steals.join(' against ')}`);
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

test('the map of page blocks: free blocks of either size, reserved ones', () => {
  const m = boot({ memory: 128 * MIB });
  const map = block_map(m);
  assert.equal(map.length, 64);
  // After boot nearly all is free, in blocks of twice the size of a page block.
  const free = m.populated_zones.reduce((sum, zone) => sum + zone.nr_free[10]! * 2, 0);
  assert.ok(free > 40);
  assert.ok([...map].filter((c) => c === 'f').length >= free, map);
  assert.ok([...map].filter((c) => c === 'r').length < 8, map);
});

test('huge pages at rest: the seed decides all', () => {
  const run = (seed: number): string =>
    JSON.stringify(at_rest(small({ seed, memory: 192 * MIB, files: 384 })));
  assert.equal(run(7), run(7));
  assert.notEqual(run(7), run(8));
});

test('huge pages at rest: HighMem, and a walk with swap on ppc64', () => {
  let whole = 0;
  const check = (state: string, m: Machine): void => {
    // In the middle of the steps kswapd may be in the middle of a call, with pages in its hands.
    const busy = m.nodes.some((node) => node.kswapd_state === KSWAPD_RUNNING);
    if (state === 'half' && busy) return;
    debug_vm(m);
    whole++;
  };
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
  assert.ok(whole >= 8, `${whole} states`);
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

test('kernel builds under load: trees fill memory, objects are written, states are whole', () => {
  const options: UnderLoadOptions = {
    machine: 'x86_64',
    compaction: true,
    seed: 2,
    memory: 256 * MIB,
    swap: 256 * MIB,
    builds: 2,
    trees: { dirs: 200, files: 6000 },
    percent: 90,
    warm_up: 10_000,
    daemons: 2,
    distribution: true,
    disk: DISK_OF_2010,
    delay: 30,
    hugeadm_late: true,
  };
  const names: Record<string, number> = {};
  const min_free_kbytes: Record<string, number> = {};
  const inspect = (state: string, m: Machine): void => {
    debug_vm(m);
    names[state] = disk_of(m)!.dentry_lru.size;
    min_free_kbytes[state] = m.sysctl['min_free_kbytes']!;
    if (state !== 'final') return;
    const objects = [...disk_of(m)!.inodes.values()].flatMap((inode) =>
      [...(inode.directory?.entries.keys() ?? [])].filter((name) => /^f\d+\.o$/.test(name)),
    );
    assert.ok(objects.length > 0, 'nothing was compiled');
  };
  const run = under_load({ ...options, inspect });
  assert.deepEqual(Object.keys(names), ['boot', 'filled', 'ready', 'half', 'final']);
  // Names stay in core as long as memory is enough.
  assert.ok(names['filled']! > 3000, `${names['filled']} names`);
  assert.ok(names['final']! < names['filled']!, `${names['final']} names are left`);
  assert.ok(run.got > 0 && run.got < run.attempted, `${run.got} of ${run.attempted}`);
  // hugeadm runs with the attempts: eleven huge pages for each of two zones.
  assert.equal(min_free_kbytes['filled'], min_free_kbytes['boot']);
  assert.equal(min_free_kbytes['ready'], 11 * 2048 * 2);
  // Nearly all of the first attempts succeed at once: what passes is the delay between them.
  assert.ok(run.steps[0]!.ms >= 20 * 30 && run.steps[0]!.ms < 20 * 100, `${run.steps[0]!.ms} ms`);
  assert.deepEqual(under_load(options), run);
});

test('no regression: benchmarks end, states are whole, and compaction changes nothing', () => {
  const options: NoRegressionOptions = {
    machine: 'x86_64',
    compaction: true,
    seed: 4,
    memory: 96 * MIB,
    swap: 128 * MIB,
    daemons: 1,
    benchmarks: ['file', 'network', 'database'],
  };
  const inspect = (_state: string, m: Machine): void => debug_vm(m);
  const run = no_regression({ ...options, inspect });
  assert.equal(run.got, run.attempted);
  assert.deepEqual(
    run.steps.map((step) => step.name),
    options.benchmarks,
  );
  for (const step of run.steps) {
    assert.ok(step.ms > 0 && step.counters['allocations']! > 0, step.name);
    // Nothing asks for an order that is compacted for.
    assert.equal(step.counters['compact_stall'], 0);
  }
  // The file is larger than memory, so there is work that compaction could have changed.
  assert.ok(run.steps[0]!.counters['direct_steals']! > 0);
  const vanilla = no_regression({ ...options, compaction: false });
  assert.deepEqual(vanilla.steps, run.steps);
  assert.notDeepEqual(no_regression({ ...options, seed: 5 }).steps, run.steps);
});

test('other seeds of the same number give the same conclusions', () => {
  const SEEDS = 12;
  const conclusions = (first: number): unknown => {
    const runs = (compaction: boolean) =>
      Array.from({ length: SEEDS }, (_, i) => at_rest(small({ compaction, seed: first + i })));
    const [vanilla, compaction] = [runs(false), runs(true)];
    const values = (of: typeof vanilla, key: string): number[] => of.map((r) => r.total[key]!);
    const steals = [values(vanilla, 'direct_steals'), values(compaction, 'direct_steals')] as const;
    const got = [vanilla, compaction].map((of) => of.map((r) => r.got)) as [number[], number[]];
    return {
      // 0.1 % and less; published and recorded: below 1 %.
      hardly_direct_reclaim: mean(steals[1]) < mean(steals[0]) / 100,
      significantly: differs(...steals),
      // Of 249 that are wanted 222 against 218 and 219: kernel pages keep the rest from both.
      more_pages: mean(got[1]) > 1.01 * mean(got[0]),
      of_pages: differs(...got),
    };
  };
  const expected = {
    hardly_direct_reclaim: true,
    significantly: true,
    more_pages: true,
    of_pages: true,
  };
  assert.deepEqual(conclusions(1), expected);
  assert.deepEqual(conclusions(101), expected);
});
