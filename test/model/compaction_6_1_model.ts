/**
 * Compaction of whole zones of 6.1 against the naive one, move by move: zones of random size, place
 * and contents, in the form of the recordings; two runs over each. Moves, free lists, pageblock types
 * and counters must be the oracle's.
 *
 * Pages: movable, locked, pinned and kernel ones, in patterns that change within the zone; free lists
 * in any order, some blocks on lists of another type. Per-CPU lists are off, as when recorded. An
 * event is one page moved.
 */
import assert from 'node:assert/strict';
import { compact_store } from '../../src/kernels/linux-6.1/compaction.ts';
import { run_job } from '../../src/lib/kthread.ts';
import { list_entries } from '../../src/lib/list.ts';
import { load_map } from '../../src/sim/replay_61_compact.ts';
import { load_zone_61, type RecordedState61 } from '../../src/sim/replay_61_state.ts';
import { NaiveAllocator61 } from '../oracle/naive_allocator_6_1.ts';
import { NaiveCompaction61, naive_zone_of } from '../oracle/naive_compaction_6_1.ts';
import type { Model } from './model.ts';
import { Random } from './random.ts';

const BLOCK = 512;
/** The core's number of a type by 6.1's. */
const CORE_TYPE = [0, 2, 1, 3, 4];

/** Runs of pages, freed and used by chance; every few pageblocks another chance. */
function random_map(random: Random, pages: number): string {
  let map = '';
  let free = 50;
  let run = 1;
  while (map.length < pages) {
    if (random.one_in(40)) {
      free = random.pick([5, 30, 50, 70, 95]);
      run = random.pick([1, 1, 3, 40, 700]);
    }
    let letter = '.';
    if (random.below(100) >= free) letter = 'MLPkX'[random.weighted([160, 4, 2, 2, 1])]!;
    map += letter.repeat(random.range(1, letter === '.' || letter === 'M' ? run : 1));
  }
  return map.slice(0, pages);
}

/** The free blocks of a map, as large as they can be, in any order; by order and type. */
function free_lists(random: Random, map: string, pb: string, start: number): number[][][] {
  const free = Array.from({ length: 11 }, () => [[], [], [], [], []] as number[][]);
  for (let rel = 0; rel < map.length; ) {
    let order = 10;
    const whole = (o: number): boolean =>
      (start + rel) % 2 ** o === 0 && map.slice(rel, rel + 2 ** o) === '.'.repeat(2 ** o);
    while (order >= 0 && !whole(order)) order--;
    if (order < 0) {
      rel++;
      continue;
    }
    const own = 'UMR'.indexOf(pb[Math.floor(rel / BLOCK)]!);
    const type = order < 9 && random.one_in(10) ? random.below(3) : own;
    const list = free[order]![type]!;
    list.splice(random.range(0, list.length), 0, rel);
    rel += 2 ** order;
  }
  return free;
}

/** One zone, compacted twice; the pages moved. */
function run_zone(random: Random): number {
  const spanned = random.range(4, 20) * BLOCK + (random.one_in(3) ? random.below(BLOCK) : 0);
  const start = (96 + random.below(2)) * 1024 + (random.one_in(3) ? BLOCK : 0);
  const map = random_map(random, spanned);
  const nr_free = map.length - map.replaceAll('.', '').length;
  // At times so high that the free scanner is refused.
  const min = random.pick([0, 50, 300, Math.floor(nr_free * 0.9)]);
  let pb = '';
  for (let i = 0; i < spanned; i += BLOCK) pb += 'MUR'[random.weighted([8, 1, 1])]!;
  const none = start * -1;
  const state: RecordedState61 = {
    free: free_lists(random, map, pb, start),
    pb,
    skip: pb.replaceAll(/./g, '0'),
    nr_free,
    nr_free_counter: nr_free,
    wm_boost: 0,
    highatomic: 0,
    cached: { free: none, mig_async: none, mig_sync: none, init_free: none, init_mig: none },
    defer: { shift: 0, considered: 0, order_failed: 0 },
    map,
  };
  const zone_row = {
    node: 1,
    name: 'DMA32',
    start_pfn: start,
    spanned,
    present: spanned,
    managed: spanned,
    wm: { min, low: min + 10, high: min + 20, boost: 0 },
    lowmem_reserve: [0, 0, 0, 0, 0],
    nr_orders: 11,
    nr_mt: 5,
    pageblock_order: 9,
    pcp_high: 0,
    pcp_batch: 1,
  };
  const unevictable = random.one_in(2);
  const sysctl = { compact_unevictable_allowed: unevictable ? 1 : 0, watermark_boost_factor: 0 };
  const { m, zone } = load_zone_61(zone_row, state, sysctl, 4096);
  load_map(m, zone, map);
  const moves: [number, number][] = [];
  m.trace.pageblock_page_moved.subscribe((from, to) => {
    moves.push([from, to]);
  });

  const naive = naive_zone_of({ zone: zone_row, state, boost_factor: 0 });
  const shape = { nr_cpus: 1, cpus: [1, 0], normal: 2, movable: 3 };
  const alloc = new NaiveAllocator61(shape, [naive], []);
  let after = map;
  let moved = 0;
  for (let run = 1; run <= 2; run++) {
    const label = `run ${run} over ${spanned} pages at ${start}`;
    const oracle = new NaiveCompaction61(alloc, naive, after, unevictable);
    oracle.run();
    moves.length = 0;
    run_job(compact_store(m, zone.nid));
    assert.deepEqual(moves, oracle.moves, `${label}: moves`);
    for (let order = 0; order <= 10; order++) {
      for (let type = 0; type < 5; type++) {
        const ours = list_entries(m.memmap, zone.free_list + order * 5 + CORE_TYPE[type]!);
        assert.deepEqual(ours, naive.free[order]![type], `${label}: list ${order}/${type}`);
      }
    }
    for (const [block, type] of naive.types) {
      const at = (block * BLOCK - zone.pageblock_base) >>> 9;
      assert.equal(zone.pageblock_flags[at], CORE_TYPE[type], `${label}: pageblock ${block}`);
    }
    assert.equal(zone.vm_stat[0], naive.free_pages, `${label}: NR_FREE_PAGES`);
    after = oracle.map.join('');
    moved += moves.length;
  }
  return moved;
}

export const compaction_6_1_model: Model = {
  name: 'compaction-6.1',
  shapes: ['zones'],
  run(o) {
    const random = new Random(o.seed);
    let events = 0;
    while (events < o.events) events += Math.max(1, run_zone(random));
    return events;
  },
};
