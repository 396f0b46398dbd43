/**
 * KSM: what is merged and counted, copying at writes, reverse mapping, swapping, unmerging, exits;
 * random processes against the tags that they wrote, with the whole-state checker.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EINVAL } from '../../src/lib/errno.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { SeqFile } from '../../src/lib/seq_file.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { do_exit } from '../../src/mm/fork.ts';
import { ksm_do_scan } from '../../src/mm/ksm.ts';
import { ksm_state, ksm_state_of } from '../../src/mm/ksm_def.ts';
import { ksmd_tick } from '../../src/mm/ksmd.ts';
import { isolate_lru_page, lru_add_drain_all, putback_lru_page } from '../../src/mm/lru.ts';
import {
  do_madvise,
  do_mlock,
  MADV_DONTNEED,
  MADV_MERGEABLE,
  MADV_UNMERGEABLE,
} from '../../src/mm/madvise.ts';
import { read_tag, write_tag } from '../../src/mm/memory.ts';
import { find_vma, type Task, VM_MERGEABLE } from '../../src/mm/mm_types.ts';
import { do_mmap, do_munmap, MAP_SHARED, PROT_READ, PROT_WRITE } from '../../src/mm/mmap.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import {
  PageKsm,
  PageMlocked,
  page_mapcount,
  trylock_page,
  unlock_page,
} from '../../src/mm/page.ts';
import { clear_page_dirty_for_io, wait_on_page_writeback } from '../../src/mm/page_writeback.ts';
import {
  page_referenced,
  SWAP_SUCCESS,
  TTU_IGNORE_ACCESS,
  TTU_UNMAP,
  try_to_unmap,
} from '../../src/mm/rmap.ts';
import {
  add_to_swap,
  delete_from_swap_cache,
  swap_writepage,
  swapon,
} from '../../src/mm/swap_state.ts';
import { COW_KSM, PSWPOUT, THP_FAULT_ALLOC, THP_SPLIT_PAGE } from '../../src/mm/vmstat.ts';
import { fork_machine, state_hash } from '../../src/snapshot.ts';
import { compact_nodes } from '../helpers/kernels.ts';
import { Random } from '../model/random.ts';
import { fill, fork, frame, map_anon, migrate, process, small_machine } from './process_machine.ts';

function cat(m: Machine, name: string): number {
  const row = m.kernel.files.find((file) => file.path === `/sys/kernel/mm/ksm/${name}`)!;
  const seq = new SeqFile();
  row.show!(seq, m, {
    id: -1,
    object: null,
    caller: { uid: 0, gid: 0, pid: 1 },
    pos: 0,
    data: null,
  });
  return Number(seq.text());
}

function echo(m: Machine, name: string, text: string): number {
  const row = m.kernel.files.find((file) => file.path === `/sys/kernel/mm/ksm/${name}`)!;
  const caller = { uid: 0, gid: 0, pid: 1 };
  const result = row.store!(m, text, { id: -1, object: null, caller, pos: 0, data: null });
  return is_job(result) ? run_job(result) : result;
}

/** [pages_shared, pages_sharing, pages_unshared, pages_volatile] */
function counts(m: Machine): number[] {
  return ['shared', 'sharing', 'unshared', 'volatile'].map((name) => cat(m, `pages_${name}`));
}

/** One scan of all that is offered. */
function full_scan(m: Machine): void {
  lru_add_drain_all(m);
  const before = ksm_state_of(m).seqnr;
  for (let i = 0; ksm_state_of(m).seqnr === before; i++) {
    assert.ok(i < 1000, 'a scan without an end');
    run_job(ksm_do_scan(m, 1000));
  }
  debug_vm(m);
}

/** Enough of them for merging: a checksum, a place in the tree. */
function scans(m: Machine, count = 3): void {
  for (let i = 0; i < count; i++) full_scan(m);
}

/** A process with `pages` pages of the tags first, first + 1, ... that may be merged. */
function offer(m: Machine, pages: number, first: number): { task: Task; vpn: number } {
  const task = process(m);
  const vpn = map_anon(m, task, pages);
  fill(m, task, vpn, pages, first);
  assert.equal(do_madvise(m, task.mm!, vpn, pages, MADV_MERGEABLE), 0);
  return { task, vpn };
}

const free_pages = (m: Machine): number => {
  lru_add_drain_all(m);
  m.kernel.drain_pages(m, 0);
  return m.populated_zones.reduce((sum, zone) => sum + zone.vm_stat[0]!, 0);
};

for (const kernel of ['2.6.35', '6.1'] as const) {
  test(`equal pages of two processes become one, and the others count as waiting, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 40, 1000);
    const b = offer(m, 50, 1010);
    assert.deepEqual(counts(m), [0, 0, 0, 0]);
    full_scan(m);
    assert.deepEqual(counts(m), [0, 0, 0, 90], 'the first scan only remembers checksums');
    const before = free_pages(m);
    full_scan(m);
    assert.deepEqual(counts(m), [30, 30, 30, 0]);
    assert.equal(cat(m, 'full_scans'), 2);
    assert.ok(free_pages(m) >= before + 29, 'the twins are free');
    for (let i = 0; i < 40; i++) assert.equal(read_tag(m, a.task, a.vpn + i), 1000 + i);
    for (let i = 0; i < 50; i++) assert.equal(read_tag(m, b.task, b.vpn + i), 1010 + i);
    assert.equal(frame(a.task, a.vpn + 15), frame(b.task, b.vpn + 5));
    assert.ok(PageKsm(m.memmap, frame(a.task, a.vpn + 15)));
    assert.equal(m.kernel_state.has('ksm'), true);
    scans(m);
    assert.deepEqual(counts(m), [30, 30, 30, 0], 'and it stays so');
  });

  test(`a third page joins the stable tree at once; pages that change are volatile, ${kernel}`, () => {
    const m = small_machine({ kernel });
    offer(m, 10, 7);
    offer(m, 10, 7);
    scans(m, 2);
    assert.deepEqual(counts(m), [10, 10, 0, 0]);
    const c = offer(m, 10, 7);
    const d = offer(m, 5, 5000);
    full_scan(m);
    assert.deepEqual(counts(m), [10, 20, 0, 5]);
    for (let round = 0; round < 3; round++) {
      fill(m, d.task, d.vpn, 5, 6000 + round * 10);
      full_scan(m);
      assert.deepEqual(counts(m), [10, 20, 0, 5]);
    }
    // Equal pages inside one process.
    for (let i = 0; i < 5; i++) write_tag(m, d.task, d.vpn + i, 99);
    scans(m, 2);
    assert.deepEqual(counts(m), [11, 24, 0, 0]);
    assert.equal(page_mapcount(m.memmap, frame(c.task, c.vpn)), 3);
  });

  test(`a write to a merged page copies it; the other keeps its content, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 3, 70);
    const b = offer(m, 3, 70);
    scans(m);
    const shared = frame(a.task, a.vpn);
    assert.equal(write_tag(m, a.task, a.vpn, 1), 0);
    assert.equal(read_tag(m, b.task, b.vpn), 70);
    assert.equal(frame(b.task, b.vpn), shared);
    assert.ok(frame(a.task, a.vpn) !== shared);
    debug_vm(m);
    // The last user copies as well: a merged page is never written.
    assert.equal(write_tag(m, b.task, b.vpn, 2), 0);
    assert.ok(frame(b.task, b.vpn) !== shared);
    scans(m);
    assert.deepEqual(counts(m), [2, 2, 2, 0]);
  });

  test(`files and shared areas are left alone, and so is who never offered, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const task = process(m);
    const other = process(m);
    const vpn = map_anon(m, other, 4);
    fill(m, other, vpn, 4, 3);
    const shared = do_mmap(m, task.mm!, null, 0, 4, PROT_READ | PROT_WRITE, MAP_SHARED);
    if (shared > 0) {
      assert.equal(do_madvise(m, task.mm!, shared, 4, MADV_MERGEABLE), 0);
      assert.equal(find_vma(task.mm!, shared)!.vm_flags & VM_MERGEABLE, 0);
    }
    assert.equal(ksm_state(m)?.slots[0]?.next ?? 0, 0);
    assert.equal(other.mm!.ksm_slot, 0);
  });

  test(`fork: the child is found by reverse mapping, and a child offers what its parent did, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 8, 400);
    offer(m, 8, 400);
    scans(m);
    const child = fork(m, a.task);
    assert.ok(child.mm!.ksm_slot !== 0);
    const pfn = frame(a.task, a.vpn);
    assert.equal(page_mapcount(m.memmap, pfn), 3);
    debug_vm(m);
    assert.equal(page_referenced(m, pfn, false) > 0, true);
    assert.equal(page_referenced(m, pfn, false), 0, 'all three young bits are cleared');
    assert.equal(read_tag(m, child, a.vpn), 400);
    assert.equal(page_referenced(m, pfn, false), 1);
    scans(m);
    assert.deepEqual(counts(m), [8, 16, 0, 0]);
    do_exit(m, a.task, 0);
    debug_vm(m);
    assert.equal(page_mapcount(m.memmap, pfn), 2);
    scans(m);
    assert.deepEqual(counts(m), [8, 8, 0, 0]);
  });

  test(`an exit leaves rmap_items, which hold their anon_vmas until ksmd comes by, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 6, 20);
    const b = offer(m, 6, 20);
    scans(m);
    const held = find_vma(a.task.mm!, a.vpn)!.anon_vma!;
    assert.equal(held.external_refcount, 6);
    const slab = m.slab.find('mm_struct');
    const frees = slab.free_pointer.filter((value) => value === -1).length;
    do_exit(m, a.task, 0);
    assert.equal(slab.free_pointer.filter((value) => value === -1).length, frees, 'its mm stays');
    assert.equal(held.live, true);
    assert.equal(held.head, null);
    debug_vm(m);
    assert.deepEqual(counts(m), [6, 6, 0, 0]);
    full_scan(m);
    assert.equal(held.live, false);
    assert.deepEqual(counts(m), [6, 0, 0, 0]);
    assert.equal(slab.free_pointer.filter((value) => value === -1).length, frees - 1);
    do_exit(m, b.task, 0);
    full_scan(m);
    assert.deepEqual(counts(m), [0, 0, 0, 0]);
    assert.equal(ksm_state_of(m).rmap_items, 0);
    assert.equal(ksm_state_of(m).slots[0]!.next, 0);
  });

  test(`a page that a fork shares is no twin of itself, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 8, 300);
    fork(m, a.task);
    scans(m, 4);
    assert.deepEqual(counts(m), [0, 0, 8, 8]);
    assert.ok(!PageKsm(m.memmap, frame(a.task, a.vpn)));
  });

  test(`a process exits while the scan pauses in its memory, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const other = offer(m, 5, 1);
    const task = process(m);
    const pages = 10_000;
    const vpn = map_anon(m, task, pages);
    for (let i = 0; i < pages; i++) assert.equal(read_tag(m, task, vpn + i), 0);
    write_tag(m, task, vpn + pages - 1, 7);
    assert.equal(do_madvise(m, task.mm!, vpn, pages, MADV_MERGEABLE), 0);
    lru_add_drain_all(m);
    const job = ksm_do_scan(m, 1000);
    let pauses = 0;
    while (ksm_state_of(m).cursor !== task.mm!.ksm_slot || ksm_state_of(m).address < vpn + 100) {
      assert.ok(!job.next().done && pauses++ < 100);
    }
    assert.equal(ksm_state_of(m).slots[task.mm!.ksm_slot]!.rmap_list, 0);
    do_exit(m, task, 0);
    debug_vm(m);
    run_job(job);
    debug_vm(m);
    scans(m, 2);
    assert.equal(ksm_state_of(m).rmap_items, 5);
    assert.equal(read_tag(m, other.task, other.vpn), 1);
  });

  test(`a page that somebody else holds is not merged, since he may write to it, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 2, 9);
    offer(m, 2, 9);
    const pfn = frame(a.task, a.vpn);
    m.memmap._count[pfn]!++;
    scans(m, 4);
    assert.deepEqual(counts(m), [1, 1, 1, 1]);
    m.memmap._count[pfn]!--;
    scans(m, 2);
    assert.deepEqual(counts(m), [2, 2, 0, 0]);
  });

  test(`a process that exits before any scan leaves nothing, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 6, 20);
    do_exit(m, a.task, 0);
    assert.equal(ksm_state_of(m).slots[0]!.next, 0);
    debug_vm(m);
  });

  test(`what is unmapped or thrown away is forgotten by the next scan, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 20, 50);
    offer(m, 20, 50);
    scans(m);
    assert.equal(do_munmap(m, a.task.mm!, a.vpn, 5), 0);
    assert.equal(do_madvise(m, a.task.mm!, a.vpn + 10, 5, MADV_DONTNEED), 0);
    debug_vm(m);
    scans(m);
    assert.deepEqual(counts(m), [20, 10, 0, 0]);
  });

  test(`run: 1 scans as the clock moves, 0 stops, 2 unmerges everything, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 100, 1);
    const b = offer(m, 100, 1);
    lru_add_drain_all(m);
    const advance = (ms: number): void => {
      for (let i = 0; i < ms; i += 10) {
        m.clock.now_ms += 10;
        run_job(ksmd_tick(m));
      }
    };
    advance(1000);
    assert.equal(cat(m, 'full_scans'), 0, 'run is 0 at first');
    assert.equal(echo(m, 'run', '1\n'), 2);
    assert.equal(cat(m, 'run'), 1);
    advance(10);
    assert.equal(ksm_state_of(m).rmap_items, 100, 'pages_to_scan, at once');
    advance(10);
    assert.equal(ksm_state_of(m).rmap_items, 200, 'and after sleep_millisecs');
    advance(200);
    assert.deepEqual(counts(m), [100, 100, 0, 0]);
    const scanned = cat(m, 'full_scans');
    assert.ok(scanned >= 3, String(scanned));
    debug_vm(m);
    assert.equal(echo(m, 'run', '2'), 1);
    assert.deepEqual(counts(m), [0, 0, 0, 0]);
    assert.equal(cat(m, 'full_scans'), 0);
    assert.equal(ksm_state_of(m).rmap_items, 0);
    debug_vm(m);
    for (let i = 0; i < 100; i++) {
      assert.ok(!PageKsm(m.memmap, frame(a.task, a.vpn + i)));
      assert.ok(frame(a.task, a.vpn + i) !== frame(b.task, b.vpn + i));
      assert.equal(read_tag(m, a.task, a.vpn + i), 1 + i);
    }
    advance(200);
    assert.equal(ksm_state_of(m).rmap_items, 0, 'stopped');
    lru_add_drain_all(m);
    echo(m, 'run', '1');
    advance(300);
    assert.deepEqual(counts(m), [100, 100, 0, 0], 'the areas are still offered');
    for (const bad of ['3', '-1', 'x', '', '1 ', '99999999999999999999']) {
      assert.equal(echo(m, 'run', bad), -EINVAL, bad);
    }
    assert.equal(cat(m, 'run'), 1);
  });

  test(`the tunables: defaults, range, ${kernel}`, () => {
    const m = small_machine({ kernel });
    assert.equal(cat(m, 'sleep_millisecs'), 20);
    assert.equal(cat(m, 'pages_to_scan'), 100);
    assert.equal(echo(m, 'pages_to_scan', '4294967295\n'), 11);
    assert.equal(cat(m, 'pages_to_scan'), 4294967295);
    assert.equal(echo(m, 'pages_to_scan', '4294967296'), -EINVAL);
    assert.equal(echo(m, 'sleep_millisecs', '0x10'), -EINVAL);
    assert.equal(echo(m, 'sleep_millisecs', '0'), 1);
  });

  test(`MADV_UNMERGEABLE gives a range its own pages, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 10, 30);
    const b = offer(m, 10, 30);
    scans(m);
    assert.equal(do_madvise(m, a.task.mm!, a.vpn + 2, 3, MADV_UNMERGEABLE), 0);
    debug_vm(m);
    for (let i = 0; i < 10; i++) {
      const same = frame(a.task, a.vpn + i) === frame(b.task, b.vpn + i);
      assert.equal(same, i < 2 || i >= 5);
      assert.equal(read_tag(m, a.task, a.vpn + i), 30 + i);
    }
    scans(m);
    assert.deepEqual(counts(m), [10, 7, 0, 0]);
  });

  test(`compaction: a merged page stays in 2.6.35 and moves in 6.1, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 60, 10);
    offer(m, 60, 10);
    scans(m);
    const frames = Array.from({ length: 60 }, (_, i) => frame(a.task, a.vpn + i));
    const stays = kernel === '2.6.35';
    assert.equal(migrate(m, frames.slice(0, 5)), stays ? 5 : 0, '-EBUSY for each, or none');
    debug_vm(m);
    for (let i = 0; i < 5; i++) assert.equal(frame(a.task, a.vpn + i) === frames[i], stays);
    run_job(compact_nodes(m));
    run_job(compact_nodes(m));
    debug_vm(m);
    for (let i = 0; i < 60; i++) {
      if (stays) assert.equal(frame(a.task, a.vpn + i), frames[i]);
      assert.equal(read_tag(m, a.task, a.vpn + i), 10 + i);
    }
    // The nodes have followed their pages: a third process merges with them, and each can be left.
    const c = offer(m, 60, 10);
    scans(m);
    assert.deepEqual(counts(m).slice(0, 2), [60, 120]);
    const before = m.vm_events[COW_KSM]!;
    assert.equal(write_tag(m, c.task, c.vpn, 7), 0);
    assert.equal(m.vm_events[COW_KSM], before + 1);
    assert.equal(read_tag(m, a.task, a.vpn), 10);
    debug_vm(m);
  });

  /** Swaps a merged page out and frees its frame. */
  function swap_out(m: Machine, pfn: number): void {
    assert.equal(isolate_lru_page(m, pfn), 0);
    assert.ok(trylock_page(m.memmap, pfn));
    assert.ok(add_to_swap(m, pfn));
    assert.equal(try_to_unmap(m, pfn, TTU_UNMAP | TTU_IGNORE_ACCESS), SWAP_SUCCESS);
    assert.ok(clear_page_dirty_for_io(m, pfn));
    assert.equal(swap_writepage(m, pfn), 0);
    wait_on_page_writeback(m, pfn);
    assert.ok(trylock_page(m.memmap, pfn));
    delete_from_swap_cache(m, pfn);
    unlock_page(m.memmap, pfn);
    putback_lru_page(m, pfn);
    lru_add_drain_all(m);
  }

  test(`equal pages of one process come back from swap apart, ${kernel}`, () => {
    const m = small_machine({ kernel });
    swapon(m, '/dev/vdb', 256);
    const a = offer(m, 3, 80);
    for (let i = 0; i < 3; i++) write_tag(m, a.task, a.vpn + i, 80);
    scans(m);
    assert.deepEqual(counts(m), [1, 2, 0, 0]);
    swap_out(m, frame(a.task, a.vpn));
    for (let i = 0; i < 3; i++) assert.equal(read_tag(m, a.task, a.vpn + i), 80);
    const frames = new Set([0, 1, 2].map((i) => frame(a.task, a.vpn + i)));
    assert.equal(frames.size, 3);
    debug_vm(m);
    scans(m);
    assert.deepEqual(counts(m), [1, 2, 0, 0]);
  });

  test(`a merged page can be swapped: the first to come back has it, the others a copy, ${kernel}`, () => {
    const m = small_machine({ kernel });
    swapon(m, '/dev/vdb', 256);
    const a = offer(m, 4, 80);
    const b = offer(m, 4, 80);
    const child = fork(m, a.task);
    scans(m);
    const pfn = frame(a.task, a.vpn);
    assert.equal(page_mapcount(m.memmap, pfn), 3);
    swap_out(m, pfn);
    debug_vm(m);
    assert.equal(write_tag(m, b.task, b.vpn, 5), 0);
    assert.equal(read_tag(m, a.task, a.vpn), 80);
    assert.equal(read_tag(m, child, a.vpn), 80);
    assert.equal(read_tag(m, b.task, b.vpn), 5);
    debug_vm(m);
    scans(m);
    assert.equal(read_tag(m, a.task, a.vpn), 80);
  });

  test(`locked areas: the merged page is the locked one, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 4, 60);
    const b = offer(m, 4, 60);
    assert.equal(do_mlock(m, a.task.mm!, a.vpn, 4, true), 0);
    assert.equal(do_mlock(m, b.task.mm!, b.vpn, 4, true), 0);
    scans(m);
    assert.deepEqual(counts(m), [4, 4, 0, 0]);
    assert.ok(PageMlocked(m.memmap, frame(a.task, a.vpn)));
    do_exit(m, a.task, 0);
    do_exit(m, b.task, 0);
    debug_vm(m);
  });

  test(`a saved machine goes on merging, and its copy on its own, ${kernel}`, () => {
    const m = small_machine({ kernel });
    const a = offer(m, 30, 7);
    offer(m, 20, 7);
    scans(m);
    const copy = fork_machine(m);
    assert.equal(state_hash(copy), state_hash(m));
    debug_vm(copy);
    const twin = copy.tasks.get(a.task.pid)!;
    assert.equal(write_tag(copy, twin, a.vpn, 1000), 0);
    scans(copy);
    assert.deepEqual(counts(copy), [20, 19, 11, 0]);
    assert.deepEqual(counts(m), [20, 20, 10, 0]);
    assert.equal(read_tag(m, a.task, a.vpn), 7);
  });

  for (const seed of [11, 12, 13, 14, 15, 16]) {
    test(`random processes, seed ${seed}`, () => {
      const random = new Random(seed);
      const m = small_machine({ kernel });
      swapon(m, '/dev/vdb', 20_000);
      const alive: { task: Task; vpn: number; tags: number[] }[] = [];
      const PAGES = 24;
      let swapped_out = 0;
      const check = (): void => {
        for (const { task, vpn, tags } of alive) {
          for (let i = 0; i < PAGES; i++) assert.equal(read_tag(m, task, vpn + i), tags[i]);
        }
      };
      echo(m, 'run', '1');
      for (let step = 0; step < 400; step++) {
        const one = alive.length > 0 ? random.pick(alive) : null;
        const what = random.below(12);
        if (one === null || (what === 0 && alive.length < 8)) {
          const task = process(m);
          const vpn = map_anon(m, task, PAGES);
          const tags = Array.from({ length: PAGES }, () => 1 + random.below(6));
          tags.forEach((tag, i) => {
            assert.equal(write_tag(m, task, vpn + i, tag), 0);
          });
          if (random.below(4) > 0) do_madvise(m, task.mm!, vpn, PAGES, MADV_MERGEABLE);
          alive.push({ task, vpn, tags });
        } else if (what === 1 && alive.length < 8) {
          alive.push({ task: fork(m, one.task), vpn: one.vpn, tags: [...one.tags] });
        } else if (what === 2 && alive.length > 2) {
          do_exit(m, one.task, 0);
          alive.splice(alive.indexOf(one), 1);
        } else if (what < 6) {
          for (let i = random.below(8); i > 0; i--) {
            const at = random.below(PAGES);
            one.tags[at] = 1 + random.below(6);
            assert.equal(write_tag(m, one.task, one.vpn + at, one.tags[at]!), 0);
          }
        } else if (what === 6) {
          const advice = random.below(2) === 0 ? MADV_MERGEABLE : MADV_UNMERGEABLE;
          const at = random.below(PAGES);
          do_madvise(m, one.task.mm!, one.vpn + at, 1 + random.below(PAGES - at), advice);
        } else if (what === 7 && random.below(4) === 0) {
          echo(m, 'run', '2');
          assert.deepEqual(counts(m), [0, 0, 0, 0]);
          echo(m, 'run', '1');
        } else if (what === 8 && random.below(4) === 0) {
          run_job(compact_nodes(m));
        } else if (what === 9 && random.below(10) === 0) {
          // More than memory: whatever is there has to go to swap, merged pages too.
          const eater = process(m);
          const at = map_anon(m, eater, 17_000);
          fill(m, eater, at, 17_000, 100);
          debug_vm(m);
          do_exit(m, eater, 0);
          swapped_out += m.vm_events[PSWPOUT]!;
        } else {
          lru_add_drain_all(m);
          run_job(ksm_do_scan(m, 1 + random.below(200)));
        }
        if (random.below(4) === 0) debug_vm(m);
        if (random.below(10) === 0) check();
      }
      check();
      assert.ok(swapped_out > 0);
      debug_vm(m);
      for (const { task } of alive) do_exit(m, task, 0);
      full_scan(m);
      assert.equal(ksm_state_of(m).rmap_items, 0);
      assert.equal(ksm_state_of(m).slots[0]!.next, 0);
    });
  }
}

test('parts of huge pages are split off and merged, 6.1', () => {
  const m = small_machine({ kernel: '6.1', memory: 640 * 2 ** 20 });
  const tasks = [0, 1].map(() => {
    const task = process(m);
    const vpn = map_anon(m, task, 2048);
    fill(m, task, vpn, 2048, 1);
    // Within one huge page, too, there are equal pages.
    for (let i = 0; i < 512; i++) write_tag(m, task, vpn + 1024 + i, 5 + (i & 1));
    assert.equal(do_madvise(m, task.mm!, vpn, 2048, MADV_MERGEABLE), 0);
    return { task, vpn };
  });
  assert.ok(m.vm_events[THP_FAULT_ALLOC]! >= 2, 'there are huge pages');
  scans(m, 6);
  const { vpn } = tasks[0]!;
  assert.equal(frame(tasks[0]!.task, vpn + 1024), frame(tasks[1]!.task, tasks[1]!.vpn + 1026));
  assert.ok(m.vm_events[THP_SPLIT_PAGE]! > 0);
  const [shared, sharing] = counts(m) as [number, number];
  // 1536 contents, and the two of the part in between, which are among them.
  assert.deepEqual([shared, sharing], [1536, 4096 - 1536]);
  for (const { task, vpn } of tasks) {
    for (let i = 0; i < 2048; i++) {
      const tag = i >= 1024 && i < 1536 ? 5 + (i & 1) : 1 + i;
      assert.equal(read_tag(m, task, vpn + i), tag);
    }
    do_exit(m, task, 0);
  }
  debug_vm(m);
});
