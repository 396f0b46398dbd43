/** The slab allocator: geometry, lists, fallback to the least order, counters. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boot } from '../../src/machine.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { __GFP_NORETRY, __GFP_NOWARN, GFP_KERNEL, GFP_NOWAIT } from '../../src/mm/gfp.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { PG_slab } from '../../src/mm/page_flags.ts';
import { PF_MEMALLOC } from '../../src/mm/reclaim_def.ts';
import {
  get_slabinfo,
  kfree,
  kmalloc,
  kmem_cache_alloc,
  kmem_cache_create,
  kmem_cache_free,
  kmem_cache_shrink,
} from '../../src/mm/slub.ts';
import { calculate_order, type KmemCache } from '../../src/mm/slub_def.ts';
import {
  global_page_state,
  NR_FREE_PAGES,
  NR_SLAB_RECLAIMABLE,
  NR_SLAB_UNRECLAIMABLE,
} from '../../src/mm/vmstat.ts';

const machine = (): Machine => boot({ memory: 64 * 2 ** 20 });

// Object sizes and orders of slabs as slabinfo of x86-64 kernels shows them, one CPU.
for (const [size, order, objects] of [
  [8, 0, 512],
  [104, 0, 39],
  [176, 0, 23],
  [192, 0, 21],
  [256, 0, 16],
  [512, 0, 8],
  [560, 1, 14],
  [1024, 1, 8],
  [2048, 2, 8],
  [4096, 3, 8],
  [8192, 3, 4],
] as const) {
  test(`calculate_order: ${size} bytes, ${objects} objects in order ${order}`, () => {
    assert.equal(calculate_order(4096, size, 1, 11), order);
    assert.equal(Math.floor((4096 * 2 ** order) / size), objects);
  });
}

test('more CPUs want more objects in a slab', () => {
  // 4 * (fls(8) + 1) = 20 objects of 512 bytes take an order 2 slab.
  assert.equal(calculate_order(4096, 512, 8, 11), 2);
});

test('a fresh slab hands out objects by address, freed ones come first, last freed first', () => {
  const m = machine();
  const s = kmem_cache_create(m, 'test', 1000);
  const a = [0, 1, 2, 3].map(() => kmem_cache_alloc(m, s, GFP_KERNEL));
  assert.deepEqual(a, [1, 2, 3, 4]);
  kmem_cache_free(m, s, 2);
  kmem_cache_free(m, s, 4);
  assert.equal(kmem_cache_alloc(m, s, GFP_KERNEL), 4);
  assert.equal(kmem_cache_alloc(m, s, GFP_KERNEL), 2);
  assert.equal(kmem_cache_alloc(m, s, GFP_KERNEL), 5);
  assert.throws(() => kmem_cache_free(m, s, 6), /not an object in use/);
  kmem_cache_free(m, s, 5);
  assert.throws(() => kmem_cache_free(m, s, 5), /not an object in use/);
});

test('slab pages are counted, flagged and typed', () => {
  const m = machine();
  const free = global_page_state(m, NR_FREE_PAGES);
  const reclaimable = global_page_state(m, NR_SLAB_RECLAIMABLE);
  const unreclaimable = global_page_state(m, NR_SLAB_UNRECLAIMABLE);
  const r = kmem_cache_create(m, 'r', 560, { reclaimable: true });
  const u = kmem_cache_create(m, 'u', 4096);
  const x = kmem_cache_alloc(m, r, GFP_KERNEL);
  const y = kmem_cache_alloc(m, u, GFP_KERNEL);
  assert.equal(global_page_state(m, NR_SLAB_RECLAIMABLE) - reclaimable, 2);
  assert.equal(global_page_state(m, NR_SLAB_UNRECLAIMABLE) - unreclaimable, 8);
  const pfn = u.object_pfn(y);
  assert.ok((m.memmap.flags[pfn]! & PG_slab) !== 0);
  assert.equal(m.memmap._count[pfn], 1);
  debug_vm(m);
  kmem_cache_free(m, r, x);
  kmem_cache_free(m, u, y);
  for (const s of [r, u]) kmem_cache_shrink(m, s);
  m.kernel.drain_pages(m, 0);
  assert.equal(global_page_state(m, NR_SLAB_RECLAIMABLE), reclaimable);
  assert.equal(global_page_state(m, NR_SLAB_UNRECLAIMABLE), unreclaimable);
  assert.ok(global_page_state(m, NR_FREE_PAGES) >= free);
  debug_vm(m);
});

/** Rows of a node's partial list, first in line first. */
function partial(s: KmemCache): number[] {
  const rows: number[] = [];
  for (let row = s.get_node(0).first; row >= 0; row = s.slab_next[row]!) rows.push(row);
  return rows;
}

test('full slabs are on no list, come back at the tail, and go when they are empty', () => {
  const m = machine();
  const s = kmem_cache_create(m, 'test', 1024); // 8 objects in a slab
  const objects: number[] = [];
  for (let i = 0; i < 24; i++) objects.push(kmem_cache_alloc(m, s, GFP_KERNEL));
  assert.deepEqual(partial(s), []);
  kmem_cache_free(m, s, objects[8]!); // row 1
  kmem_cache_free(m, s, objects[0]!); // row 0
  assert.deepEqual(partial(s), [1, 0]);
  assert.equal(get_slabinfo(s).num_slabs, 3);
  for (let i = 1; i < 8; i++) kmem_cache_free(m, s, objects[i]!);
  assert.deepEqual(partial(s), [1]);
  assert.equal(get_slabinfo(s).num_slabs, 2);
  // The CPU's slab is full: the next allocation takes the partial one, the next a new row 0.
  assert.equal(kmem_cache_alloc(m, s, GFP_KERNEL), objects[8]);
  assert.deepEqual(partial(s), []);
  assert.equal(kmem_cache_alloc(m, s, GFP_KERNEL), 1);
  const info = get_slabinfo(s);
  assert.deepEqual(
    [info.objsize, info.objperslab, info.pagesperslab, info.num_objs, info.num_slabs],
    [1024, 8, 2, 24, 3],
  );
});

test('without a large block the least order serves, then nothing, and nothing is half done', () => {
  const m = machine();
  const s = kmem_cache_create(m, 'test', 1000); // 8 objects in order 1
  // Take everything, then give back single pages that are not neighbours.
  const taken: number[] = [];
  const gfp = GFP_NOWAIT | __GFP_NOWARN | __GFP_NORETRY;
  m.current_flags |= PF_MEMALLOC; // down to the last page, whatever the watermarks say
  for (;;) {
    const pfn = m.kernel.alloc_pages(m, gfp, 0);
    if (pfn < 0) break;
    taken.push(pfn);
  }
  assert.equal(kmem_cache_alloc(m, s, gfp), 0);
  assert.equal(get_slabinfo(s).num_slabs, 0);
  const odd = taken.filter((pfn) => pfn % 2 === 1).slice(0, 400);
  for (const pfn of odd) m.kernel.__free_pages(m, pfn, 0);
  const a = kmem_cache_alloc(m, s, gfp);
  assert.ok(a > 0);
  assert.equal(s.slab_order[0], 0);
  assert.equal(s.slab_objects[0], 4);
  const more = [1, 2, 3, 4].map(() => kmem_cache_alloc(m, s, gfp));
  // Handles leave room for a full slab: the second slab begins at row 1.
  assert.deepEqual(more, [2, 3, 4, 9]);
  debug_vm(m);
});

test('kmalloc rounds up to its caches; large blocks are pages', () => {
  const m = machine();
  const active = (name: string): number =>
    m.slab.find(name).slab_inuse.reduce((a, b) => a + b, 0) + partial(m.slab.find(name)).length;
  const before = active('kmalloc-96');
  const x = kmalloc(m, 70, GFP_KERNEL);
  const y = kmalloc(m, 8193, GFP_KERNEL);
  assert.ok(x > 0 && y > 0 && active('kmalloc-96') >= before);
  kfree(m, x);
  kfree(m, y);
  kfree(m, 0);
  assert.throws(() => kfree(m, x), /not an object in use/);
  debug_vm(m);
});

test('a slab freed on another CPU goes to the node, not to that CPU', () => {
  const m = boot({ memory: 64 * 2 ** 20, cpus: 2 });
  const s = kmem_cache_create(m, 'test', 1024);
  const a = kmem_cache_alloc(m, s, GFP_KERNEL);
  m.this_cpu = 1;
  const b = kmem_cache_alloc(m, s, GFP_KERNEL);
  assert.notEqual(s.object_pfn(a), s.object_pfn(b));
  kmem_cache_free(m, s, a);
  // CPU 0 has it frozen: it stays there.
  assert.deepEqual(partial(s), []);
  m.this_cpu = 0;
  kmem_cache_free(m, s, kmem_cache_alloc(m, s, GFP_KERNEL));
  debug_vm(m);
});
