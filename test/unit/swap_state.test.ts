/** Swap areas, the swap cache, and pages that go out and come back with their contents. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compact_zone } from '../../src/kernels/linux-6.1/compaction.ts';
import { CompactControl } from '../../src/kernels/linux-6.1/compaction_control.ts';
import { MIGRATE_ASYNC } from '../../src/kernels/linux-6.1/migrate.ts';
import { EINVAL, EIO } from '../../src/lib/errno.ts';
import { run_job } from '../../src/lib/kthread.ts';
import { Prng } from '../../src/lib/prng.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { do_exit } from '../../src/mm/fork.ts';
import { GFP_KERNEL } from '../../src/mm/gfp.ts';
import {
  isolate_lru_page,
  lru_add_drain_all,
  put_page,
  putback_lru_page,
} from '../../src/mm/lru.ts';
import { do_madvise, MADV_DONTNEED } from '../../src/mm/madvise.ts';
import { read_tag, write_tag } from '../../src/mm/memory.ts';
import { MM_ANONPAGES, MM_SWAPENTS, type Task } from '../../src/mm/mm_types.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { PageDirty, PageSwapCache, trylock_page, unlock_page } from '../../src/mm/page.ts';
import {
  get_pte,
  pte_present,
  pte_to_swp_entry,
  swp_entry,
  swp_offset,
} from '../../src/mm/page_table.ts';
import { clear_page_dirty_for_io, wait_on_page_writeback } from '../../src/mm/page_writeback.ts';
import { SWAP_SUCCESS, TTU_IGNORE_ACCESS, TTU_UNMAP, try_to_unmap } from '../../src/mm/rmap.ts';
import {
  add_to_swap,
  delete_from_swap_cache,
  get_swap_page,
  lookup_swap_cache,
  swap_device_bytes,
  swap_duplicate,
  swap_free,
  swap_writepage,
  swapcache_free,
  swapon,
} from '../../src/mm/swap_state.ts';
import { PGMAJFAULT, PSWPIN, PSWPOUT } from '../../src/mm/vmstat.ts';
import { open_for_map } from '../../src/sim/open_for_map.ts';
import { spawn_workload } from '../../src/sim/workload.ts';
import {
  fill,
  fork,
  frame,
  MIB,
  map_anon,
  migrate,
  process,
  small_machine,
} from './process_machine.ts';

/** Writes a mapped page out and frees its frame, as reclaim does. */
function swap_out(m: Machine, pfn: number): void {
  lru_add_drain_all(m);
  assert.equal(isolate_lru_page(m, pfn), 0);
  assert.ok(trylock_page(m.memmap, pfn));
  if (!PageSwapCache(m.memmap, pfn)) assert.ok(add_to_swap(m, pfn));
  assert.equal(try_to_unmap(m, pfn, TTU_UNMAP | TTU_IGNORE_ACCESS), SWAP_SUCCESS);
  // A clean page in the cache is what its slot holds.
  if (clear_page_dirty_for_io(m, pfn)) {
    assert.equal(swap_writepage(m, pfn), 0);
    wait_on_page_writeback(m, pfn);
    assert.ok(trylock_page(m.memmap, pfn));
  }
  // The slot keeps its users; only the cache lets go.
  delete_from_swap_cache(m, pfn);
  unlock_page(m.memmap, pfn);
  putback_lru_page(m, pfn);
  lru_add_drain_all(m);
}

const entry_of = (task: Task, vpn: number): number => {
  const pte = get_pte(task.mm!, vpn);
  assert.ok(pte !== 0 && !pte_present(pte), 'a swap entry');
  return pte_to_swp_entry(pte);
};

test('slots: the header is never used, all others are, freed ones come back', () => {
  const m = small_machine();
  assert.equal(get_swap_page(m), 0, 'no area');
  assert.equal(swapon(m, '/dev/vdb', 1), -EINVAL);
  assert.equal(swapon(m, '/dev/vdb', 600), 0);
  assert.equal(swapon(m, '/dev/vdc', 10), 1);
  assert.equal(m.nr_swap_pages, 608);
  const seen = new Set<number>();
  for (let i = 0; i < 608; i++) {
    const entry = get_swap_page(m);
    assert.ok(entry > 0 && swp_offset(entry) > 0 && !seen.has(entry));
    seen.add(entry);
  }
  assert.equal(get_swap_page(m), 0);
  assert.equal(m.nr_swap_pages, 0);
  for (const entry of seen) swapcache_free(m, entry);
  assert.equal(m.nr_swap_pages, 608);
  // The search goes on behind the last slot; then it begins a whole free run of 256.
  const entry = get_swap_page(m);
  swapcache_free(m, entry);
  assert.equal(swap_duplicate(m, swp_entry(0, 5)), -2);
  assert.equal(swap_duplicate(m, swp_entry(5, 5)), -22);
});

test('a page goes out, its frame is free, and it comes back with its contents', () => {
  const m = small_machine();
  swapon(m, '/dev/vdb', 1024);
  const a = process(m);
  const vpn = map_anon(m, a, 40);
  fill(m, a, vpn, 40, 500);
  const b = fork(m, a);
  for (let i = 0; i < 40; i++) swap_out(m, frame(a, vpn + i));
  assert.deepEqual([...a.mm!.rss_stat], [0, 1, 40]);
  assert.equal(m.nr_swap_pages, 1023 - 40);
  assert.equal(m.vm_events[PSWPOUT], 40);
  debug_vm(m);
  const major = m.vm_events[PGMAJFAULT]!;
  assert.equal(read_tag(m, a, vpn + 9), 509);
  assert.equal(m.vm_events[PGMAJFAULT], major + 1);
  // Read-around brought the neighbours: they are in the cache.
  const around = m.vm_events[PSWPIN]!;
  assert.ok(around > 1 && around <= 8, `${around} slots were read`);
  for (let i = 0; i < 40; i++) {
    assert.equal(read_tag(m, a, vpn + i), 500 + i);
    assert.equal(write_tag(m, b, vpn + i, 900 + i), 0);
  }
  for (let i = 0; i < 40; i++) assert.equal(read_tag(m, a, vpn + i), 500 + i);
  debug_vm(m);
  // A write takes a page of a sole owner out of the cache.
  do_exit(m, b, 0);
  assert.ok(PageSwapCache(m.memmap, frame(a, vpn)));
  assert.equal(write_tag(m, a, vpn, 1), 0);
  assert.ok(!PageSwapCache(m.memmap, frame(a, vpn)));
  do_exit(m, a, 0);
  lru_add_drain_all(m);
  debug_vm(m);
  assert.equal(m.nr_swap_pages, 1023, 'all slots are free');
});

test('the last user of a slot frees it, and the cached page with it', () => {
  const m = small_machine();
  swapon(m, '/dev/vdb', 64);
  const a = process(m);
  const vpn = map_anon(m, a, 2);
  fill(m, a, vpn, 2, 5);
  swap_out(m, frame(a, vpn));
  swap_out(m, frame(a, vpn + 1));
  const b = fork(m, a);
  const entry = entry_of(a, vpn);
  assert.equal(entry_of(b, vpn), entry);
  assert.equal(do_madvise(m, a.mm!, vpn, 1, MADV_DONTNEED), 0);
  assert.equal(m.nr_swap_pages, 61);
  assert.equal(read_tag(m, b, vpn), 5);
  const cached = lookup_swap_cache(m, entry);
  assert.equal(cached, frame(b, vpn));
  put_page(m, cached);
  assert.equal(do_madvise(m, b.mm!, vpn, 1, MADV_DONTNEED), 0);
  assert.equal(m.nr_swap_pages, 62);
  assert.equal(read_tag(m, b, vpn), 0);
  assert.throws(() => swap_free(m, entry), /no user/);
  debug_vm(m);
});

test('migration of a mapped page in swap cache leaves swap entries, and loses nothing', () => {
  const m = small_machine();
  swapon(m, '/dev/vdb', 64);
  const a = process(m);
  const vpn = map_anon(m, a, 1);
  fill(m, a, vpn, 1, 5);
  lru_add_drain_all(m);
  const old = frame(a, vpn);
  assert.ok(trylock_page(m.memmap, old));
  assert.ok(add_to_swap(m, old));
  unlock_page(m.memmap, old);
  assert.equal(migrate(m, [old]), 0);
  const entry = entry_of(a, vpn);
  assert.deepEqual([a.mm!.rss_stat[MM_ANONPAGES], a.mm!.rss_stat[MM_SWAPENTS]], [1, 1]);
  debug_vm(m);
  assert.equal(read_tag(m, a, vpn), 5);
  const new_ = frame(a, vpn);
  assert.notEqual(new_, old);
  assert.equal(m.memmap.private_[new_], entry);
  assert.equal(m.vm_events[PSWPIN], 0, 'nothing was read');
  debug_vm(m);
});

test('random swapping, forks, writes and migrations: every process reads what it wrote', () => {
  const seed = Number(globalThis.process.env['SEED'] ?? 7);
  const prng = new Prng(seed);
  const m = small_machine();
  swapon(m, '/dev/vdb', 300);
  const span = 32;
  const first = process(m);
  const vpn = map_anon(m, first, span);
  const expected = new Map<Task, number[]>([[first, new Array<number>(span).fill(0)]]);
  try {
    for (let i = 0; i < 4000; i++) {
      const tasks = [...expected.keys()];
      const task = tasks[prng.below(tasks.length)]!;
      const memory = expected.get(task)!;
      const at = prng.below(span);
      const what = prng.below(100);
      const pte = get_pte(task.mm!, vpn + at);
      const present = pte_present(pte) && frame(task, vpn + at) !== m.zero_pfn;
      if (what < 30) {
        memory[at] = prng.range(1, 2 ** 31);
        assert.equal(write_tag(m, task, vpn + at, memory[at]), 0);
      } else if (what < 55) assert.equal(read_tag(m, task, vpn + at), memory[at]);
      else if (what < 85 && present) {
        if (m.nr_swap_pages > 0 || PageSwapCache(m.memmap, frame(task, vpn + at))) {
          swap_out(m, frame(task, vpn + at));
        }
      } else if (what < 90 && present) migrate(m, [frame(task, vpn + at)]);
      else if (what < 94 && tasks.length < 6) expected.set(fork(m, task), [...memory]);
      else if (what < 96 && tasks.length > 1) {
        do_exit(m, task, 0);
        expected.delete(task);
      } else if (what < 98) {
        do_madvise(m, task.mm!, vpn + at, 1, MADV_DONTNEED);
        memory[at] = 0;
      } else debug_vm(m);
    }
    for (const [task, memory] of expected) {
      for (let i = 0; i < span; i++) assert.equal(read_tag(m, task, vpn + i), memory[i]);
      do_exit(m, task, 0);
    }
    lru_add_drain_all(m);
    debug_vm(m);
    assert.equal(m.nr_swap_pages, 299);
  } catch (error) {
    console.error(`SEED=${seed} repeats this`);
    throw error;
  }
});

test('contents lie on the device alone: bytes at the slot, the tag in the table behind them', () => {
  const slots = 64;
  const device = new MemoryBlockDevice(swap_device_bytes(slots, 4096));
  const m = small_machine();
  assert.equal(swapon(m, '/dev/vdb', slots + 1, device), -EINVAL, 'too small');
  assert.equal(swapon(m, '/dev/vdb', slots, device), 0);
  const a = process(m);
  const vpn = map_anon(m, a, 2);
  fill(m, a, vpn, 2, 700);
  m.contents.write_page(frame(a, vpn), 100, Uint8Array.of(1, 2, 3), 0, 3);
  for (let i = 0; i < 2; i++) swap_out(m, frame(a, vpn + i));
  const read = (offset: number, length: number): number[] => {
    const buf = new Uint8Array(length);
    assert.equal(device.read(buf, offset), 0);
    return [...buf];
  };
  const at = swp_offset(entry_of(a, vpn));
  assert.deepEqual(read(at * 4096 + 99, 5), [0, 1, 2, 3, 0]);
  assert.deepEqual(read(slots * 4096 + at * 4, 4), [700 % 256, 700 >> 8, 0, 0]);
  assert.equal(read_tag(m, a, vpn), 700);
  const bytes = new Uint8Array(5);
  m.contents.read_page(frame(a, vpn), 99, bytes, 0, 5);
  assert.deepEqual([...bytes], [0, 1, 2, 3, 0]);
});

test('what the device changes, the process sees', () => {
  const device = new MemoryBlockDevice(swap_device_bytes(64, 4096));
  const m = small_machine();
  swapon(m, '/dev/vdb', 64, device);
  assert.equal(run_job(spawn_workload(m, 'anon 4p name=victim', open_for_map)), 0);
  const pid = m.spawn.pids[0]!;
  const task = m.tasks.get(pid)!;
  const verify = (): number => run_job(spawn_workload(m, `pid=${pid} verify`, open_for_map));
  const area = task.mm!.mmap.find((vma) => vma.vm_file === null)!;
  for (let i = 0; i < 4; i++) swap_out(m, frame(task, area.vm_start + i));
  assert.equal(verify(), 0);
  assert.equal(m.contents.nr_touched(), 0, 'tags alone take no bytes');
  for (let i = 0; i < 4; i++) swap_out(m, frame(task, area.vm_start + i));
  const table = 64 * 4096 + swp_offset(entry_of(task, area.vm_start + 2)) * 4;
  const tag = new Uint8Array(4);
  device.read(tag, table);
  device.write(Uint8Array.of(tag[0]! ^ 1), table);
  assert.equal(verify(), -EIO);
  assert.match(m.spawn.error, /^verify: 1 of 4 pages are wrong/);
  assert.equal(write_tag(m, task, area.vm_start + 2, 0), 0);
  const right = new DataView(tag.buffer).getUint32(0, true);
  assert.equal(write_tag(m, task, area.vm_start + 2, right), 0);
  assert.equal(verify(), 0);
  debug_vm(m);
});

test('a slot that cannot be read is SIGBUS, and right again when it can', () => {
  const device = new MemoryBlockDevice(swap_device_bytes(64, 4096));
  const m = small_machine();
  swapon(m, '/dev/vdb', 64, device);
  const a = process(m);
  const vpn = map_anon(m, a, 1);
  fill(m, a, vpn, 1, 5);
  swap_out(m, frame(a, vpn));
  const entry = entry_of(a, vpn);
  device.read_error = 5;
  assert.equal(read_tag(m, a, vpn), -EIO);
  assert.equal(write_tag(m, a, vpn, 6), -EIO);
  debug_vm(m);
  device.read_error = 0;
  // The page without contents stays in the cache until reclaim drops it.
  assert.equal(read_tag(m, a, vpn), -EIO);
  lru_add_drain_all(m);
  const cached = lookup_swap_cache(m, entry);
  assert.ok(trylock_page(m.memmap, cached));
  delete_from_swap_cache(m, cached);
  unlock_page(m.memmap, cached);
  put_page(m, cached);
  lru_add_drain_all(m);
  assert.equal(read_tag(m, a, vpn), 5);
  debug_vm(m);
});

test('a page that cannot be written stays dirty in memory', () => {
  const device = new MemoryBlockDevice(swap_device_bytes(64, 4096));
  const m = small_machine();
  swapon(m, '/dev/vdb', 64, device);
  const a = process(m);
  const vpn = map_anon(m, a, 1);
  fill(m, a, vpn, 1, 5);
  lru_add_drain_all(m);
  const pfn = frame(a, vpn);
  device.write_error = 5;
  assert.ok(trylock_page(m.memmap, pfn));
  assert.ok(add_to_swap(m, pfn));
  assert.equal(try_to_unmap(m, pfn, TTU_UNMAP | TTU_IGNORE_ACCESS), SWAP_SUCCESS);
  assert.ok(clear_page_dirty_for_io(m, pfn));
  assert.equal(swap_writepage(m, pfn), 0);
  wait_on_page_writeback(m, pfn);
  assert.ok(PageDirty(m.memmap, pfn) && PageSwapCache(m.memmap, pfn));
  device.write_error = 0;
  assert.equal(read_tag(m, a, vpn), 5);
  assert.equal(m.vm_events[PSWPIN], 0);
  debug_vm(m);
});

test('dirty pages in swap cache are moved by asynchronous compaction, too', () => {
  const m = small_machine({ kernel: '6.1', swap: 64 * MIB });
  for (let i = 0; i < 20; i++) {
    const other = process(m);
    fill(m, other, map_anon(m, other, 1), 1, 1);
  }
  const task = process(m);
  const pages = 6000;
  const vpn = map_anon(m, task, pages);
  fill(m, task, vpn, pages, 1);
  lru_add_drain_all(m);
  const cached: number[] = [];
  for (let i = 0; i < pages; i += 4) {
    const pfn = frame(task, vpn + i);
    assert.ok(trylock_page(m.memmap, pfn));
    assert.ok(add_to_swap(m, pfn));
    unlock_page(m.memmap, pfn);
    cached.push(i);
    for (let k = 1; k < 4; k++) do_madvise(m, task.mm!, vpn + i + k, 1, MADV_DONTNEED);
  }
  lru_add_drain_all(m);
  const before = cached.map((i) => lookup(m, task, vpn + i));
  for (const zone of m.populated_zones) {
    const cc = new CompactControl(m, zone, {
      order: -1,
      gfp: GFP_KERNEL,
      mode: MIGRATE_ASYNC,
      whole_zone: true,
      ignore_skip_hint: true,
    });
    run_job(compact_zone(m, cc));
  }
  const moved = cached.filter((i, at) => lookup(m, task, vpn + i) !== before[at]);
  assert.ok(moved.length > 100, `${moved.length} of ${cached.length} moved`);
  for (const i of cached) assert.equal(read_tag(m, task, vpn + i), 1 + i);
  debug_vm(m);
});

/** The frame of a page that is in swap cache: by its pte, or by the entry that migration left. */
function lookup(m: Machine, task: Task, vpn: number): number {
  const pte = get_pte(task.mm!, vpn);
  if (pte_present(pte)) return frame(task, vpn);
  const pfn = lookup_swap_cache(m, pte_to_swp_entry(pte));
  put_page(m, pfn);
  return pfn;
}
