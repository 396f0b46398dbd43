/** The page cache's tree against a Map, with tags; nodes are counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boot } from '../../src/machine.ts';
import { RadixTreeRoot } from '../../src/mm/address_space.ts';
import { GFP_KERNEL } from '../../src/mm/gfp.ts';
import {
  PAGECACHE_TAG_DIRTY,
  PAGECACHE_TAG_WRITEBACK,
  radix_tree_delete,
  radix_tree_gang_lookup,
  radix_tree_insert,
  radix_tree_lookup,
  radix_tree_next_hole,
  radix_tree_preload,
  radix_tree_prev_hole,
  radix_tree_replace,
  radix_tree_tag_clear,
  radix_tree_tag_get,
  radix_tree_tag_set,
  radix_tree_tagged,
} from '../../src/mm/radix_tree.ts';
import { get_slabinfo } from '../../src/mm/slub.ts';
import { Random } from '../model/random.ts';

const items = new Int32Array(64);
const indexes = new Float64Array(64);

test('an item at index 0 alone takes no node', () => {
  const m = boot({ memory: 64 * 2 ** 20 });
  const root = new RadixTreeRoot();
  assert.equal(radix_tree_insert(m, root, 0, 42), 0);
  assert.equal(root.height, 0);
  assert.equal(radix_tree_lookup(m, root, 0), 42);
  assert.equal(radix_tree_insert(m, root, 0, 43), -17);
  // Without a preload there are no nodes to be had.
  m.radix_nodes.preloads[0]!.length = 0;
  assert.equal(radix_tree_insert(m, root, 1, 43), -12);
  assert.equal(radix_tree_lookup(m, root, 0), 42);
  assert.equal(radix_tree_preload(m, GFP_KERNEL), 0);
  assert.equal(m.radix_nodes.preloads[0]!.length, 11);
  assert.equal(radix_tree_insert(m, root, 1, 43), 0);
  assert.equal(m.radix_nodes.preloads[0]!.length, 10);
  assert.equal(radix_tree_delete(m, root, 1), 43);
  // Down to one item at 0: the node goes.
  assert.equal(root.height, 0);
  assert.equal(radix_tree_lookup(m, root, 0), 42);
});

test('the highest index, and every level of the tree', () => {
  const m = boot({ memory: 64 * 2 ** 20 });
  const root = new RadixTreeRoot();
  for (const index of [2 ** 32 - 1, 0, 63, 64, 4095, 4096, 2 ** 24]) {
    radix_tree_preload(m, GFP_KERNEL);
    assert.equal(radix_tree_insert(m, root, index, (index % 1000) + 1), 0);
  }
  assert.equal(root.height, 6);
  const n = radix_tree_gang_lookup(m, root, 0, items, indexes, 64);
  assert.deepEqual([...indexes.subarray(0, n)], [0, 63, 64, 4095, 4096, 2 ** 24, 2 ** 32 - 1]);
  radix_tree_replace(m, root, 64, 7);
  assert.equal(radix_tree_lookup(m, root, 64), 7);
  assert.equal(radix_tree_lookup(m, root, 65), 0);
  assert.throws(() => radix_tree_replace(m, root, 65, 7), /no item/);
});

test('holes', () => {
  const m = boot({ memory: 64 * 2 ** 20 });
  const root = new RadixTreeRoot();
  for (const index of [3, 4, 5, 6]) {
    radix_tree_preload(m, GFP_KERNEL);
    radix_tree_insert(m, root, index, 1);
  }
  assert.equal(radix_tree_next_hole(m, root, 3, 100), 7);
  assert.equal(radix_tree_next_hole(m, root, 3, 2), 5);
  assert.equal(radix_tree_prev_hole(m, root, 6, 100), 2);
  assert.equal(radix_tree_prev_hole(m, root, 9, 100), 9);
});

test('random operations against a Map', () => {
  const seed = 20;
  const r = new Random(seed);
  const m = boot({ memory: 64 * 2 ** 20 });
  const idle = get_slabinfo(m.slab.radix_tree_node).num_slabs;
  const root = new RadixTreeRoot();
  const naive = new Map<number, number>();
  const tagged = [new Set<number>(), new Set<number>()];
  for (let i = 0; i < 40_000; i++) {
    const wide = r.one_in(50) ? 2 ** 32 : r.one_in(4) ? 20_000 : 200;
    const index = r.below(wide);
    const op = r.below(10);
    if (op < 4) {
      radix_tree_preload(m, GFP_KERNEL);
      const want = naive.has(index) ? -17 : 0;
      assert.equal(radix_tree_insert(m, root, index, i + 1), want, `seed ${seed} op ${i}`);
      if (want === 0) naive.set(index, i + 1);
    } else if (op < 7) {
      assert.equal(
        radix_tree_delete(m, root, index),
        naive.get(index) ?? 0,
        `seed ${seed} op ${i}`,
      );
      naive.delete(index);
      for (const set of tagged) set.delete(index);
    } else if (op < 9) {
      const tag = r.below(2);
      if (naive.has(index) && r.one_in(2)) {
        radix_tree_tag_set(m, root, index, tag);
        tagged[tag]!.add(index);
      } else {
        radix_tree_tag_clear(m, root, index, tag);
        tagged[tag]!.delete(index);
      }
    } else {
      const tag = r.below(3) - 1;
      const keys = [...(tag < 0 ? naive.keys() : tagged[tag]!)];
      const want = keys.filter((k) => k >= index).sort((a, b) => a - b);
      const n = radix_tree_gang_lookup(m, root, index, items, indexes, 30, tag);
      assert.deepEqual([...indexes.subarray(0, n)], want.slice(0, 30), `seed ${seed} op ${i}`);
      for (let k = 0; k < n; k++) assert.equal(items[k], naive.get(indexes[k]!));
    }
    assert.equal(radix_tree_lookup(m, root, index), naive.get(index) ?? 0);
    for (const tag of [PAGECACHE_TAG_DIRTY, PAGECACHE_TAG_WRITEBACK]) {
      assert.equal(radix_tree_tag_get(m, root, index, tag), tagged[tag]!.has(index));
      assert.equal(radix_tree_tagged(root, tag), tagged[tag]!.size > 0, `seed ${seed} op ${i}`);
    }
  }
  for (const index of naive.keys()) radix_tree_delete(m, root, index);
  assert.equal(root.height, 0);
  assert.equal(root.rnode, 0);
  // What is left: slabs that CPUs hold, and the empty ones that a node keeps.
  const kept = get_slabinfo(m.slab.radix_tree_node).num_slabs - idle;
  assert.ok(kept <= m.slab.radix_tree_node.min_partial + 2, `${kept} slabs kept`);
});
