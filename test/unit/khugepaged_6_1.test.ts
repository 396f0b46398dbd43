/**
 * khugepaged of 6.1: which ranges it makes huge pages of, what becomes of the small ones, and when it
 * runs on the virtual clock.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { thp_state } from '../../src/kernels/linux-6.1/huge_mm.ts';
import { khugepaged_tick } from '../../src/kernels/linux-6.1/khugepaged.ts';
import { run_job } from '../../src/lib/kthread.ts';
import { advance_clock, boot } from '../../src/machine.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { do_exit } from '../../src/mm/fork.ts';
import { __GFP_THISNODE } from '../../src/mm/gfp.ts';
import { lru_add_drain_all, put_page } from '../../src/mm/lru.ts';
import {
  do_madvise,
  do_mbind,
  MADV_COLLAPSE,
  MADV_DONTNEED,
  MADV_HUGEPAGE,
  MADV_NOHUGEPAGE,
} from '../../src/mm/madvise.ts';
import { read_tag, write_tag } from '../../src/mm/memory.ts';
import { MM_ANONPAGES, MPOL_BIND, type Task } from '../../src/mm/mm_types.ts';
import { do_mmap, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import { type Machine, page_zone } from '../../src/mm/mmzone.ts';
import { get_page, page_count } from '../../src/mm/page.ts';
import { get_pte, is_swap_pte, pmd_huge, pte_present } from '../../src/mm/page_table.ts';
import {
  global_page_state,
  NR_ANON_THPS,
  NR_FREE_PAGES,
  THP_COLLAPSE_ALLOC,
  THP_COLLAPSE_ALLOC_FAILED,
  THP_SCAN_EXCEED_NONE_PTE,
  THP_SCAN_EXCEED_SHARE_PTE,
  THP_SCAN_EXCEED_SWAP_PTE,
} from '../../src/mm/vmstat.ts';
import { fork, frame, MIB, process } from './process_machine.ts';

const BASE = 0x100000;
const HPAGE = 512;

interface Small {
  m: Machine;
  task: Task;
}

/** `pages` of small pages at BASE, written in the first `written`; khugepaged has them to do. */
function small_pages(written: number, pages = HPAGE): Small {
  const m = boot({ kernel: '6.1', memory: 64 * MIB });
  const task = process(m);
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  assert.equal(do_mmap(m, task.mm!, null, BASE, pages, 3, flags), BASE);
  for (let i = 0; i < written; i++) assert.equal(write_tag(m, task, BASE + i, 100 + i), 0);
  const k = thp_state(m)!;
  k.enabled = 'madvise';
  k.khugepaged_defrag = 1;
  assert.equal(do_madvise(m, task.mm!, BASE, pages, MADV_HUGEPAGE), 0);
  assert.equal(k.mm_slots.length, 1, 'the advice alone enters the process');
  lru_add_drain_all(m);
  return { m, task };
}

const huge = (s: Small, at = BASE): boolean => pmd_huge(s.task.mm!, at) !== 0;
const tick = (m: Machine, ms: number): void => void run_job(advance_clock(m, ms));
const event = (m: Machine, nr: number): number => m.vm_events[nr]!;

test('512 small pages become a huge one with the same contents, and their frames are free', () => {
  const s = small_pages(300);
  const { m, task } = s;
  const k = thp_state(m)!;
  const rss = task.mm!.rss_stat[MM_ANONPAGES]!;
  const free = global_page_state(m, NR_FREE_PAGES);
  tick(m, 4);
  assert.ok(huge(s));
  assert.equal(k.pages_collapsed, 1);
  assert.equal(event(m, THP_COLLAPSE_ALLOC), 1);
  assert.equal(global_page_state(m, NR_ANON_THPS), HPAGE);
  assert.equal(task.mm!.rss_stat[MM_ANONPAGES], rss + 212, 'absent pages are there now');
  for (let i = 0; i < HPAGE; i++) {
    assert.equal(read_tag(m, task, BASE + i), i < 300 ? 100 + i : 0);
  }
  debug_vm(m);
  lru_add_drain_all(m);
  m.kernel.drain_pages(m, 0);
  assert.ok(global_page_state(m, NR_FREE_PAGES) >= free - 212);
  assert.equal(page_count(m.memmap, frame(task, BASE)), 1);
  debug_vm(m);
});

test('max_ptes_none: more absent pages than that, and nothing happens', () => {
  const s = small_pages(300);
  thp_state(s.m)!.max_ptes_none = 211;
  tick(s.m, 4);
  assert.ok(!huge(s));
  assert.ok(event(s.m, THP_SCAN_EXCEED_NONE_PTE) > 0);
  thp_state(s.m)!.max_ptes_none = 212;
  tick(s.m, 10_000);
  assert.ok(huge(s));
});

test('max_ptes_shared: pages shared with a child are copied when there are not too many', () => {
  const s = small_pages(HPAGE);
  const child = fork(s.m, s.task);
  thp_state(s.m)!.max_ptes_shared = 256;
  for (let i = 0; i < 255; i++) assert.equal(write_tag(s.m, s.task, BASE + i, 7000 + i), 0);
  lru_add_drain_all(s.m);
  tick(s.m, 4);
  assert.ok(!huge(s), '257 are shared');
  assert.ok(event(s.m, THP_SCAN_EXCEED_SHARE_PTE) > 0);
  assert.equal(write_tag(s.m, s.task, BASE + 255, 7255), 0);
  lru_add_drain_all(s.m);
  tick(s.m, 10_000);
  assert.ok(huge(s));
  assert.equal(read_tag(s.m, s.task, BASE + 255), 7255);
  assert.equal(read_tag(s.m, s.task, BASE + 256), 356);
  assert.equal(read_tag(s.m, child, BASE + 255), 355);
  debug_vm(s.m);
});

test('a range that nobody may write, or nobody has used, is left alone', () => {
  const s = small_pages(10);
  const { m, task } = s;
  // Pages that were only read map the page of zeroes: none of the range is writable.
  assert.equal(do_madvise(m, task.mm!, BASE, HPAGE, MADV_DONTNEED), 0);
  for (let i = 0; i < 20; i++) assert.equal(read_tag(m, task, BASE + i), 0);
  tick(m, 4);
  assert.ok(!huge(s));
  assert.equal(write_tag(m, task, BASE, 1), 0);
  lru_add_drain_all(m);
  tick(m, 10_000);
  assert.ok(huge(s));
});

test('a batch is pages_to_scan pages, then it sleeps scan_sleep_millisecs', () => {
  const s = small_pages(6 * HPAGE, 6 * HPAGE);
  const k = thp_state(s.m)!;
  k.pages_to_scan = 2 * HPAGE;
  const made = (): number => k.pages_collapsed;
  tick(s.m, 4);
  assert.equal(made(), 2);
  tick(s.m, 9_990);
  assert.equal(made(), 2);
  tick(s.m, 10);
  assert.equal(made(), 4);
  // What is due is made up for.
  tick(s.m, 20_000);
  assert.equal(made(), 6);
  assert.ok(k.full_scans > 0);
  debug_vm(s.m);
});

test('without a huge page it sleeps alloc_sleep_millisecs once, then gives the batch up', () => {
  const s = small_pages(2 * HPAGE, 2 * HPAGE);
  const { m } = s;
  const k = thp_state(m)!;
  k.khugepaged_defrag = 0;
  for (const order of [10, 9]) while (m.kernel.alloc_pages(m, 0, order) >= 0);
  tick(m, 4);
  assert.equal(event(m, THP_COLLAPSE_ALLOC_FAILED), 1);
  tick(m, 59_900);
  assert.equal(event(m, THP_COLLAPSE_ALLOC_FAILED), 1);
  tick(m, 100);
  assert.equal(event(m, THP_COLLAPSE_ALLOC_FAILED), 2);
  tick(m, 9_000);
  assert.equal(event(m, THP_COLLAPSE_ALLOC_FAILED), 2);
  tick(m, 1_000);
  assert.equal(event(m, THP_COLLAPSE_ALLOC_FAILED), 3, 'the next batch');
  assert.equal(k.pages_collapsed, 0);
});

test('advice about memory that was never touched enters nobody', () => {
  const m = boot({ kernel: '6.1', memory: 64 * MIB });
  const task = process(m);
  thp_state(m)!.enabled = 'always';
  const start = do_mmap(m, task.mm!, null, 0, 2 * HPAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS);
  assert.equal(do_madvise(m, task.mm!, start, 2 * HPAGE, MADV_HUGEPAGE), 0);
  assert.equal(thp_state(m)!.mm_slots.length, 0);
});

test('the huge page comes from the node that most of the small ones are on, or not at all', () => {
  const m = boot({ kernel: '6.1', memory: 128 * MIB, nodes: 2 });
  const task = process(m);
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  assert.equal(do_mmap(m, task.mm!, null, BASE, 2 * HPAGE, 3, flags), BASE);
  assert.equal(do_mbind(m, task.mm!, BASE, 2 * HPAGE, MPOL_BIND, 1), 0);
  for (const i of [0, 1, HPAGE]) assert.equal(write_tag(m, task, BASE + i, 1), 0);
  lru_add_drain_all(m);
  const k = thp_state(m)!;
  k.enabled = 'always';
  assert.equal(do_madvise(m, task.mm!, BASE, HPAGE, MADV_COLLAPSE), 0);
  assert.equal(page_zone(m, frame(task, BASE)).nid, 1);
  while (m.kernel.alloc_pages(m, __GFP_THISNODE, 10, 1) >= 0);
  while (m.kernel.alloc_pages(m, __GFP_THISNODE, 9, 1) >= 0);
  k.khugepaged_defrag = 0;
  assert.equal(do_madvise(m, task.mm!, BASE, 2 * HPAGE, MADV_HUGEPAGE), 0);
  // Alone: kswapd would age the page first.
  run_job(khugepaged_tick(m));
  assert.equal(event(m, THP_COLLAPSE_ALLOC_FAILED), 1);
});

test('a process that ends is forgotten, also the one that the scan is at', () => {
  const s = small_pages(6 * HPAGE, 6 * HPAGE);
  const { m, task } = s;
  const k = thp_state(m)!;
  const child = fork(m, task);
  assert.equal(k.mm_slots.length, 2, 'a child is entered with its parent');
  k.pages_to_scan = HPAGE;
  tick(m, 4);
  assert.equal(k.scan_slot?.mm, task.mm);
  do_exit(m, child, 0);
  assert.equal(k.mm_slots.length, 1);
  do_exit(m, task, 0);
  assert.equal(k.mm_slots.length, 1, 'the scan is at it');
  tick(m, 10_000);
  assert.equal(k.mm_slots.length, 0);
  assert.equal(k.scan_slot, null);
  debug_vm(m);
});

test('pages that were swapped out are read back, up to max_ptes_swap of them', () => {
  const m = boot({ kernel: '6.1', memory: 64 * MIB, swap: 32 * MIB });
  const task = process(m);
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  assert.equal(do_mmap(m, task.mm!, null, BASE, HPAGE, 3, flags), BASE);
  for (let i = 0; i < HPAGE; i++) assert.equal(write_tag(m, task, BASE + i, 100 + i), 0);
  const swapped = (): number => {
    let count = 0;
    for (let i = 0; i < HPAGE; i++) if (is_swap_pte(get_pte(task.mm!, BASE + i))) count++;
    return count;
  };
  // Fill memory until some of the pages went.
  const hog = process(m);
  const start = do_mmap(m, hog.mm!, null, 0, 20_000, 3, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let i = 0; i < 20_000 && swapped() === 0; i++) write_tag(m, hog, start + i, 1);
  do_exit(m, hog, 0);
  // Some come back, the others stay where they are.
  for (let i = 0; i < HPAGE && swapped() > 40; i++) read_tag(m, task, BASE + i);
  const count = swapped();
  assert.ok(count > 0, 'some are swapped out');
  for (let i = 0; i < HPAGE; i++) {
    if (pte_present(get_pte(task.mm!, BASE + i))) read_tag(m, task, BASE + i);
  }
  lru_add_drain_all(m);
  const k = thp_state(m)!;
  k.enabled = 'madvise';
  k.max_ptes_swap = count - 1;
  assert.equal(do_madvise(m, task.mm!, BASE, HPAGE, MADV_HUGEPAGE), 0);
  tick(m, 4);
  assert.equal(event(m, THP_SCAN_EXCEED_SWAP_PTE), 1, 'a batch goes round once');
  assert.equal(pmd_huge(task.mm!, BASE), 0);
  k.max_ptes_swap = count;
  tick(m, 10_000);
  assert.ok(pmd_huge(task.mm!, BASE) !== 0);
  assert.equal(swapped(), 0);
  for (let i = 0; i < HPAGE; i++) assert.equal(read_tag(m, task, BASE + i), 100 + i);
  debug_vm(m);
});

test('MADV_COLLAPSE makes huge pages at once, whatever is enabled and however few pages are there', () => {
  const s = small_pages(3, 2 * HPAGE);
  const { m, task } = s;
  const k = thp_state(m)!;
  k.enabled = 'never';
  k.max_ptes_none = 0;
  const advise = (start: number, pages: number): number =>
    do_madvise(m, task.mm!, start, pages, MADV_COLLAPSE);
  // Nothing is mapped in the second half: there is nothing to collapse.
  assert.equal(advise(BASE, 2 * HPAGE), -22);
  assert.ok(huge(s));
  for (let i = 0; i < HPAGE; i++) assert.equal(read_tag(m, task, BASE + i), i < 3 ? 100 + i : 0);
  assert.equal(advise(BASE, HPAGE), 0, 'it has one already');
  assert.equal(advise(BASE + 1, HPAGE - 1), 0, 'no whole range is in it');
  assert.equal(advise(BASE + 1, 10), -22);
  assert.equal(k.pages_collapsed, 0, 'not khugepaged');
  assert.equal(write_tag(m, task, BASE + HPAGE, 9), 0);
  lru_add_drain_all(m);
  const pfn = frame(task, BASE + HPAGE);
  get_page(m.memmap, pfn);
  assert.equal(advise(BASE + HPAGE, HPAGE), -11, 'somebody holds the page');
  put_page(m, pfn);
  assert.equal(advise(BASE + HPAGE, HPAGE), 0);
  debug_vm(m);
  assert.equal(do_madvise(m, task.mm!, BASE, HPAGE, MADV_NOHUGEPAGE), 0);
  assert.equal(advise(BASE, HPAGE), -22);
});

test('parts of a split mapping are collapsed into a new huge page, the old one is freed', () => {
  const s = small_pages(HPAGE);
  const { m, task } = s;
  tick(m, 4);
  const old = frame(task, BASE);
  assert.equal(do_madvise(m, task.mm!, BASE + 7, 1, MADV_DONTNEED), 0);
  assert.equal(m.nodes[0]!.split_queue_len, 1);
  assert.equal(do_madvise(m, task.mm!, BASE, HPAGE, MADV_COLLAPSE), 0);
  assert.ok(huge(s));
  assert.notEqual(frame(task, BASE), old);
  assert.equal(m.nodes[0]!.split_queue_len, 0);
  assert.equal(read_tag(m, task, BASE + 6), 106);
  assert.equal(read_tag(m, task, BASE + 7), 0);
  lru_add_drain_all(m);
  debug_vm(m);
});
