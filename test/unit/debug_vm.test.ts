/** debug_vm finds each kind of damage: one field of a whole machine is spoiled, and the check named. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_mount, disk_of, disk_root } from '../../src/fs/disk/index.ts';
import { O_RDWR } from '../../src/fs/vfs.ts';
import { run_job } from '../../src/lib/kthread.ts';
import { list_del } from '../../src/lib/list.ts';
import { boot } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { dump_page } from '../../src/mm/debug_state.ts';
import { add_debug_check, debug_vm } from '../../src/mm/debug_vm.ts';
import { create_process, do_fork } from '../../src/mm/fork.ts';
import { lru_add_drain_all } from '../../src/mm/lru.ts';
import { follow_page, write_tag } from '../../src/mm/memory.ts';
import type { Task } from '../../src/mm/mm_types.ts';
import { do_mmap, MAP_ANONYMOUS, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import type { Machine, Zone } from '../../src/mm/mmzone.ts';
import {
  PG_active,
  PG_buddy,
  PG_dirty,
  PG_lru,
  PG_private,
  PG_slab,
} from '../../src/mm/page_flags.ts';

interface Scene {
  m: Machine;
  zone: Zone;
  task: Task;
  /** An anonymous page that two processes map. */
  anon: number;
  /** A dirty page of a file, with buffers. */
  file: number;
  /** The largest free block. */
  free: number;
}

function scene(): Scene {
  const m = boot({ memory: 64 * 2 ** 20 });
  if (disk_of(m) === null) disk_mount(m, new MemoryBlockDevice(2 ** 26));
  const root = disk_root(m);
  const who = { uid: 0, gid: 0, pid: 1 };
  const node = root.create('f', 0o644, who);
  assert.ok(typeof node !== 'number');
  const open = node.open(O_RDWR, who);
  assert.ok(typeof open !== 'number');
  const written = open.write(new Uint8Array(5 * 4096).fill(7), 0);
  assert.equal(typeof written === 'number' ? written : run_job(written), 5 * 4096);
  const task = create_process(m, 'scene');
  assert.ok(typeof task !== 'number');
  const start = do_mmap(m, task.mm!, null, 0, 64, 3, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let i = 0; i < 64; i++) assert.equal(write_tag(m, task, start + i, i), 0);
  assert.ok(typeof do_fork(m, task) !== 'number');
  lru_add_drain_all(m);
  const p = m.memmap;
  const anon = follow_page(m, task.mm!, start + 3);
  let file = 1;
  while ((p.flags[file]! & (PG_dirty | PG_lru | PG_private)) !== (PG_dirty | PG_lru | PG_private)) {
    file++;
  }
  const zone = m.populated_zones[m.populated_zones.length - 1]!;
  let order = m.shape.max_order - 1;
  let free = -1;
  for (; free < 0; order--) {
    for (let type = 0; type < 5; type++) {
      const head = zone.free_list + order * 5 + type;
      if (p.next[head] !== head) free = p.next[head]!;
    }
  }
  debug_vm(m);
  return { m, zone, task, anon, file, free };
}

const DAMAGE: [string, RegExp, (s: Scene) => void][] = [
  ['a counter of free blocks', /nr_free\[10\]/, (s) => s.zone.nr_free[10]!++],
  ['NR_FREE_PAGES', /NR_FREE_PAGES/, (s) => s.zone.vm_stat[0]!--],
  ['the order of a free block', /on the free list of order/, (s) => s.m.memmap.private_[s.free]!--],
  ['a link', /links disagree|two lists/, (s) => (s.m.memmap.prev[s.free] = s.free + 1)],
  ['a free block in use', /a free block is in use/, (s) => (s.m.memmap._count[s.free] = 1)],
  ['a page in a free block', /inside a free block/, (s) => (s.m.memmap._count[s.free + 5] = 1)],
  ['a lost flag', /other flags than PG_buddy/, (s) => (s.m.memmap.flags[s.free] = 0)],
  [
    'a block on no list',
    /nr_free|PG_buddy and on no free list/,
    (s) => {
      list_del(s.m.memmap, s.free);
      s.zone.nr_free[s.m.memmap.private_[s.free]!]!--;
      s.zone.vm_stat[0]! -= 2 ** s.m.memmap.private_[s.free]!;
    },
  ],
  ['a per-CPU count', /pcp count/, (s) => s.zone.pageset[0]!.count++],
  ['an LRU counter', /pages on LRU list 1/, (s) => zone_of(s, s.anon).vm_stat[2]!++],
  ['PG_active', /against its flags/, (s) => (s.m.memmap.flags[s.anon]! ^= PG_active)],
  ['PG_lru', /without PG_lru/, (s) => (s.m.memmap.flags[s.anon]! &= ~PG_lru)],
  ['an isolated page unaccounted', /isolated anon/, (s) => zone_of(s, s.anon).vm_stat[20]!++],
  ['a lost page', /a lost page/, (s) => lose(s)],
  ['a map count', /the page has 2 ptes/, (s) => s.m.memmap._mapcount[s.anon]!++],
  ['a reference too few', /holders/, (s) => (s.m.memmap._count[s.anon] = 1)],
  ['rss', /rss_stat\[1\]/, (s) => s.task.mm!.rss_stat[1]!++],
  ['nr_ptes', /nr_ptes/, (s) => s.task.mm!.nr_ptes++],
  ['the index of an anonymous page', /mapped at page/, (s) => s.m.memmap.index[s.anon]!++],
  ['a freed anon_vma', /its anon_vma is freed|used and freed/, (s) => free_anon_vma(s)],
  ['a chain', /does not know|links disagree|wrong tail/, (s) => cut_chain(s)],
  ['the index of a file page', /in its mapping's tree at/, (s) => s.m.memmap.index[s.file]!++],
  ['a page in no tree', /mapping and page cache disagree/, (s) => stray(s)],
  ['nrpages', /nrpages/, (s) => s.m.mappings.get(s.m.memmap.mapping[s.file]! >>> 2).nrpages++],
  ['PG_writeback', /write-back tag/, (s) => (s.m.memmap.flags[s.file]! |= 1 << 13)],
  ['a buffer', /belongs to page/, (s) => s.m.buffer_heads.b_page[s.m.memmap.private_[s.file]!]!++],
  ['a dirty page uncounted', /counter 10/, (s) => zone_of(s, s.file).vm_stat[10]!++],
  ['NR_ANON_PAGES', /counter 7/, (s) => zone_of(s, s.anon).vm_stat[7]!--],
  ['PG_slab', /in no cache/, (s) => slab_page(s)],
  ['a slab overfull', /objects in use/, (s) => overfill(s)],
  ['watermarks', /watermarks/, (s) => (s.zone.watermark[0] = s.zone.watermark[2]! + 1)],
  ['a pageblock type', /pageblock of type 7/, (s) => (s.zone.pageblock_flags[1] = 7)],
];

function zone_of(s: Scene, pfn: number): Zone {
  return s.m.populated_zones.find(
    (z) => pfn >= z.zone_start_pfn && pfn < z.zone_start_pfn + z.spanned_pages,
  )!;
}

/** A kernel page that nobody holds and nobody freed. */
function lose(s: Scene): void {
  const pfn = s.m.kernel.alloc_pages(s.m, 0xd0, 0);
  // With a neighbour behind a block boundary, so that it is no part of a larger block.
  s.m.memmap._count[pfn] = 0;
  s.m.memmap.flags[pfn] = PG_dirty;
}

function free_anon_vma(s: Scene): void {
  s.m.anon_vmas[s.m.memmap.mapping[s.anon]! >>> 2]!.live = false;
}

function cut_chain(s: Scene): void {
  const av = s.m.anon_vmas[s.m.memmap.mapping[s.anon]! >>> 2]!;
  av.head = av.head!.av_next;
}

function stray(s: Scene): void {
  const pfn = s.m.kernel.alloc_pages(s.m, 0xd0, 0);
  s.m.memmap.mapping[pfn] = s.m.memmap.mapping[s.file]!;
}

function slab_page(s: Scene): void {
  s.m.memmap.flags[s.m.kernel.alloc_pages(s.m, 0xd0, 0)]! |= PG_slab;
}

function overfill(s: Scene): void {
  const cache = s.m.slab.caches.find((c) => c.nr_rows > 0 && c.slab_pfn[0]! >= 0)!;
  cache.slab_inuse[0] = cache.slab_objects[0]! + 1;
}

for (const [name, message, spoil] of DAMAGE) {
  test(`finds ${name}`, () => {
    const s = scene();
    spoil(s);
    assert.throws(() => debug_vm(s.m), { name: 'KernelBug', message });
  });
}

test('finds two buddies that did not merge', () => {
  const { m, zone, free } = scene();
  const p = m.memmap;
  const order = p.private_[free]!;
  // The block's halves, each on the list of its order.
  const head = zone.free_list + (order - 1) * 5 + 2;
  list_del(p, free);
  for (const half of [free, free + 2 ** (order - 1)]) {
    p.private_[half] = order - 1;
    p.flags[half] = PG_buddy;
    p.next[half] = p.next[head]!;
    p.prev[half] = head;
    p.prev[p.next[head]!] = half;
    p.next[head] = half;
  }
  zone.nr_free[order]!--;
  zone.nr_free[order - 1]! += 2;
  assert.throws(() => debug_vm(m), /two buddies are free and not merged/);
});

test('checks can be added, and see what was found before', () => {
  const { m, anon } = scene();
  let mapped = 0;
  add_debug_check((machine, d) => {
    if (machine === m) mapped = d.mapped[anon]!;
  });
  debug_vm(m);
  assert.equal(mapped, 2);
});

test('dump_page names flags and fields', () => {
  const { m, anon } = scene();
  assert.match(
    dump_page(m, anon),
    new RegExp(`^page:${anon} flags:uptodate\\|lru\\|active\\|swapbacked count:2 mapcount:2 `),
  );
});
