/**
 * Transparent huge pages of 6.1: when a fault gives one, what fork, unmapping, mprotect and mlock make
 * of it, how it is split, what is counted, and the files that set all this.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { proc_page_files } from '../../src/fs/proc/page.ts';
import { deferred_split_shrinker, hugepage_init } from '../../src/kernels/linux-6.1/huge_memory.ts';
import { thp_state } from '../../src/kernels/linux-6.1/huge_mm.ts';
import { proc_pid } from '../../src/kernels/linux-6.1/proc_pid.ts';
import { linux_6_1 } from '../../src/kernels/linux-6.1/profile.ts';
import { init_sysctls } from '../../src/kernels/linux-6.1/sysctl.ts';
import { ScanControl, shrink_node } from '../../src/kernels/linux-6.1/vmscan.ts';
import {
  init_lowmem_reserve_ratio,
  init_per_zone_wmark_min,
} from '../../src/kernels/linux-6.1/watermark.ts';
import { EINVAL, ERANGE } from '../../src/lib/errno.ts';
import type { FileRow } from '../../src/lib/file_row.ts';
import { settle } from '../../src/lib/kthread.ts';
import { SeqFile } from '../../src/lib/seq_file.ts';
import { boot } from '../../src/machine.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { do_exit } from '../../src/mm/fork.ts';
import { GFP_KERNEL } from '../../src/mm/gfp.ts';
import { can_split_huge_page, split_huge_page_to_list } from '../../src/mm/huge_memory.ts';
import {
  do_madvise,
  do_mlock,
  do_mprotect,
  MADV_DONTNEED,
  MADV_HUGEPAGE,
  MADV_NOHUGEPAGE,
  MADV_RANDOM,
} from '../../src/mm/madvise.ts';
import { access_page, read_tag, write_tag } from '../../src/mm/memory.ts';
import { assemble_machine } from '../../src/mm/mm_init.ts';
import type { Task } from '../../src/mm/mm_types.ts';
import { do_mmap, do_munmap, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import {
  compound_mapcount,
  get_page,
  PageHead,
  page_mapcount,
  trylock_page,
  unlock_page,
} from '../../src/mm/page.ts';
import { get_pte, pmd_huge, pte_pfn, pte_table, pte_write } from '../../src/mm/page_table.ts';
import {
  global_page_state,
  NR_ANON_PAGES,
  NR_ANON_THPS,
  NR_FREE_PAGES,
  NR_MLOCK,
  NR_PAGETABLE,
  PGSCAN_DIRECT,
  THP_DEFERRED_SPLIT_PAGE,
  THP_FAULT_ALLOC,
  THP_FAULT_FALLBACK,
  THP_SPLIT_PAGE,
  THP_SPLIT_PAGE_FAILED,
  THP_SPLIT_PMD,
  THP_SWPOUT_FALLBACK,
  THP_ZERO_PAGE_ALLOC,
} from '../../src/mm/vmstat.ts';
import { SHAPE_61 } from '../../src/sim/replay_61_state.ts';
import { load_machine, save_machine, state_hash } from '../../src/snapshot.ts';
import { read_lines, read_records } from '../golden/recordings.ts';
import { fork as fork_task, frame, MIB, process } from './process_machine.ts';

const NOBODY = { uid: 0, gid: 0, pid: 1 };
/** Where the tests map: aligned to 512 pages. */
const BASE = 0x100000;
const HPAGE = 512;

interface Small {
  m: Machine;
  task: Task;
}

/** A machine on which huge pages are on, with a process. */
function small(config = {}): Small {
  const m = boot({ kernel: '6.1', memory: 64 * MIB, ...config });
  thp_state(m)!.enabled = 'always';
  thp_state(m)!.use_zero_page = 1;
  return { m, task: process(m) };
}

function map(s: Small, start: number, pages: number, task = s.task): void {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  assert.equal(do_mmap(s.m, task.mm!, null, start, pages, 3, flags), start);
}

/** Maps one huge page at BASE and writes its first page. */
function one_huge(config = {}): Small & { head: number } {
  const s = small(config);
  map(s, BASE, HPAGE);
  assert.equal(write_tag(s.m, s.task, BASE, 1000), 0);
  assert.ok(pmd_huge(s.task.mm!, BASE) !== 0);
  return { ...s, head: frame(s.task, BASE) };
}

const thps = (m: Machine): number => global_page_state(m, NR_ANON_THPS) / HPAGE;
const anon = (m: Machine): number => global_page_state(m, NR_ANON_PAGES);
const event = (m: Machine, nr: number): number => m.vm_events[nr]!;

function row_of(path: string): FileRow<Machine> {
  const row = linux_6_1.files.find((file) => file.path === path);
  assert.ok(row !== undefined, path);
  return row;
}

function cat(m: Machine, path: string): string {
  const seq = new SeqFile();
  row_of(path).show!(seq, m, { id: -1, object: null, caller: NOBODY, pos: 0, data: null });
  return seq.text();
}

function echo(m: Machine, path: string, text: string): number {
  const ctx = { id: -1, object: null, caller: NOBODY, pos: 0, data: null };
  return settle(row_of(path).store!(m, text, ctx));
}

function cat_pid(m: Machine, task: Task, name: string): string {
  const row = proc_pid.rows.find((file) => file.path === `/proc/{pid}/${name}`)!;
  const seq = new SeqFile();
  row.show!(seq, m, { id: task.pid, object: task, caller: NOBODY, pos: 0, data: null });
  return seq.text();
}

/** pgscan_direct of all zones. */
const direct_scans = (m: Machine): number =>
  [0, 1, 2, 3].reduce((sum, zone) => sum + event(m, PGSCAN_DIRECT + zone), 0);

const DIR = '/sys/kernel/mm/transparent_hugepage/';

test('the first write to an aligned range inside of an area maps a huge page', () => {
  const s = small();
  const { m, task } = s;
  map(s, BASE - 3, HPAGE + 3 + 511);
  const before = anon(m);
  assert.equal(write_tag(m, task, BASE + 77, 5), 0);
  assert.equal(thps(m), 1);
  assert.equal(anon(m), before + HPAGE);
  assert.equal(event(m, THP_FAULT_ALLOC), 1);
  const head = pte_pfn(pmd_huge(task.mm!, BASE));
  assert.equal(head % HPAGE, 0);
  assert.equal(frame(task, BASE + 77), head + 77);
  assert.equal(read_tag(m, task, BASE + 77), 5);
  assert.equal(read_tag(m, task, BASE + 78), 0);
  assert.equal(page_mapcount(m.memmap, head + 500), 1);
  // The ends of the area are too short for one.
  assert.equal(write_tag(m, task, BASE - 1, 6), 0);
  assert.equal(write_tag(m, task, BASE + HPAGE, 7), 0);
  assert.equal(thps(m), 1);
  assert.equal(event(m, THP_FAULT_FALLBACK), 0);
  debug_vm(m);
  do_exit(m, task, 0);
  assert.equal(thps(m), 0);
  debug_vm(m);
});

test('enabled: madvise takes areas that ask, never takes none, and MADV_NOHUGEPAGE declines', () => {
  const s = small();
  const { m, task } = s;
  const touch = (at: number): boolean => {
    assert.equal(write_tag(m, task, at, 1), 0);
    return pmd_huge(task.mm!, at) !== 0;
  };
  map(s, BASE, 8 * HPAGE);
  assert.equal(do_madvise(m, task.mm!, BASE, HPAGE, MADV_NOHUGEPAGE), 0);
  assert.equal(do_madvise(m, task.mm!, BASE + HPAGE, HPAGE, MADV_HUGEPAGE), 0);
  assert.equal(touch(BASE), false);
  echo(m, `${DIR}enabled`, 'madvise\n');
  assert.equal(touch(BASE + HPAGE), true);
  assert.equal(touch(BASE + 2 * HPAGE), false);
  echo(m, `${DIR}enabled`, 'never');
  assert.equal(do_madvise(m, task.mm!, BASE + 3 * HPAGE, HPAGE, MADV_HUGEPAGE), 0);
  assert.equal(touch(BASE + 3 * HPAGE), false);
  echo(m, `${DIR}enabled`, 'always');
  assert.equal(touch(BASE + 4 * HPAGE), true);
  debug_vm(m);
});

test('a pte page once made is in the way of a huge page, even when it is empty', () => {
  const s = small();
  const { m, task } = s;
  thp_state(m)!.enabled = 'never';
  map(s, BASE, HPAGE);
  assert.equal(write_tag(m, task, BASE, 1), 0);
  thp_state(m)!.enabled = 'always';
  assert.equal(do_madvise(m, task.mm!, BASE, HPAGE, MADV_DONTNEED), 0);
  assert.equal(write_tag(m, task, BASE + 1, 1), 0);
  assert.equal(pmd_huge(task.mm!, BASE), 0);
});

test('each huge page keeps a pte page in store, which its unmapping frees', () => {
  const s = one_huge();
  const { m, task } = s;
  const { nr_ptes } = task.mm!;
  const tables = global_page_state(m, NR_PAGETABLE);
  assert.equal(pte_table(task.mm!, BASE), null);
  assert.equal(do_madvise(m, task.mm!, BASE, HPAGE, MADV_DONTNEED), 0);
  assert.equal(task.mm!.nr_ptes, nr_ptes - 1);
  assert.equal(global_page_state(m, NR_PAGETABLE), tables - 1);
  assert.equal(read_tag(m, task, BASE), 0);
  debug_vm(m);
});

test('a read maps the huge page of zeroes, a write to it a small page; the last user lets it go', () => {
  const s = small();
  const { m, task } = s;
  map(s, BASE, 2 * HPAGE);
  assert.equal(access_page(m, task, BASE + 9, false), 0);
  assert.equal(pte_pfn(pmd_huge(task.mm!, BASE)), m.huge_zero_pfn);
  assert.equal(event(m, THP_ZERO_PAGE_ALLOC), 1);
  assert.equal(thps(m), 0);
  assert.equal(access_page(m, task, BASE + HPAGE, false), 0);
  assert.equal(event(m, THP_ZERO_PAGE_ALLOC), 1, 'there is one for all');
  const child = fork_task(m, task);
  assert.equal(write_tag(m, task, BASE + 9, 42), 0);
  assert.equal(read_tag(m, task, BASE + 9), 42);
  assert.equal(read_tag(m, child, BASE + 9), 0);
  assert.equal(frame(task, BASE + 10), m.zero_pfn);
  assert.equal(event(m, THP_SPLIT_PMD), 1);
  debug_vm(m);
  const free = global_page_state(m, NR_FREE_PAGES);
  do_exit(m, task, 0);
  assert.ok(m.huge_zero_refcount === 2, 'the child holds it');
  do_exit(m, child, 0);
  const shrinker = m.shrinkers.find((x) => x.ops.name === 'thp-zero')!.ops;
  assert.equal(shrinker.shrink(m, 0, GFP_KERNEL), HPAGE);
  shrinker.shrink(m, HPAGE, GFP_KERNEL);
  assert.equal(m.huge_zero_pfn, -1);
  m.kernel.drain_pages(m, 0);
  assert.ok(global_page_state(m, NR_FREE_PAGES) > free + HPAGE);
  debug_vm(m);
});

test('use_zero_page 0: a read gets a huge page of its own', () => {
  const s = small();
  thp_state(s.m)!.use_zero_page = 0;
  map(s, BASE, HPAGE);
  assert.equal(access_page(s.m, s.task, BASE, false), 0);
  assert.equal(thps(s.m), 1);
});

test('fork shares a huge page; the first write splits the mapping and copies one small page', () => {
  const { m, task, head } = one_huge();
  const child = fork_task(m, task);
  assert.equal(compound_mapcount(m.memmap, head), 2);
  assert.equal(thps(m), 1, 'counted once');
  const before = anon(m);
  assert.equal(write_tag(m, child, BASE, 2000), 0);
  assert.equal(read_tag(m, task, BASE), 1000);
  assert.equal(read_tag(m, child, BASE), 2000);
  assert.equal(frame(child, BASE + 1), head + 1);
  assert.equal(anon(m), before + 1);
  assert.equal(event(m, THP_SPLIT_PMD), 1);
  assert.equal(thps(m), 1, 'the parent still maps it whole');
  debug_vm(m);
  // The parent is not alone: it, too, has to split. Its copy leaves one part without a mapping.
  assert.equal(write_tag(m, task, BASE, 3000), 0);
  assert.equal(thps(m), 0);
  assert.equal(event(m, THP_DEFERRED_SPLIT_PAGE), 1);
  assert.equal(m.nodes[0]!.split_queue_len, 1);
  debug_vm(m);
  do_exit(m, child, 0);
  do_exit(m, task, 0);
  assert.equal(m.nodes[0]!.split_queue_len, 0, 'freed, and off the queue');
  debug_vm(m);
});

test('the last user of a shared huge page writes it in place', () => {
  const { m, task, head } = one_huge();
  const child = fork_task(m, task);
  do_exit(m, child, 0);
  assert.ok(!pte_write(pmd_huge(task.mm!, BASE)));
  assert.equal(write_tag(m, task, BASE + 5, 7), 0);
  assert.equal(pte_pfn(pmd_huge(task.mm!, BASE)), head);
  assert.equal(event(m, THP_SPLIT_PMD), 0);
  debug_vm(m);
});

test('parts that fork shared are copied, those of one process alone are not', () => {
  const { m, task, head } = one_huge();
  // Read-only and back: ptes without write permission, but nobody else maps the parts.
  assert.equal(do_mprotect(m, task.mm!, BASE, 10, 1), 0);
  assert.equal(do_mprotect(m, task.mm!, BASE, 10, 3), 0);
  assert.equal(event(m, THP_SPLIT_PMD), 1);
  assert.equal(write_tag(m, task, BASE + 3, 8), 0);
  assert.equal(frame(task, BASE + 3), head + 3);
  do_exit(m, fork_task(m, task), 0);
  assert.equal(write_tag(m, task, BASE + 3, 9), 0);
  assert.notEqual(
    frame(task, BASE + 3),
    head + 3,
    'the page as a whole has other users: its parts',
  );
  assert.equal(read_tag(m, task, BASE), 1000);
  debug_vm(m);
});

test('unmapping a part splits the mapping; the page waits on the queue and the shrinker splits it', () => {
  const { m, task, head } = one_huge();
  for (let i = 0; i < HPAGE; i++) assert.equal(write_tag(m, task, BASE + i, 5000 + i), 0);
  assert.equal(do_munmap(m, task.mm!, BASE + 100, 200), 0);
  assert.equal(event(m, THP_SPLIT_PMD), 1);
  assert.equal(event(m, THP_DEFERRED_SPLIT_PAGE), 1);
  assert.ok(PageHead(m.memmap, head));
  assert.equal(thps(m), 0);
  m.kernel.drain_pages(m, 0);
  const free = global_page_state(m, NR_FREE_PAGES);
  debug_vm(m);
  assert.equal(deferred_split_shrinker.shrink(m, 0, GFP_KERNEL, 0), 1);
  assert.equal(deferred_split_shrinker.shrink(m, 128, GFP_KERNEL, 0), 0);
  assert.equal(event(m, THP_SPLIT_PAGE), 1);
  assert.ok(!PageHead(m.memmap, head));
  m.kernel.drain_pages(m, 0);
  assert.equal(global_page_state(m, NR_FREE_PAGES), free + 200);
  for (const i of [0, 99, 300, 511]) assert.equal(read_tag(m, task, BASE + i), 5000 + i);
  debug_vm(m);
});

test('the last mapping as a whole goes while others map some parts: the page waits to be split', () => {
  const { m, task } = one_huge();
  const child = fork_task(m, task);
  assert.equal(do_munmap(m, child.mm!, BASE + 100, 412), 0);
  assert.equal(event(m, THP_DEFERRED_SPLIT_PAGE), 0, 'the parent has all parts');
  do_exit(m, task, 0);
  assert.equal(event(m, THP_DEFERRED_SPLIT_PAGE), 1);
  assert.equal(thps(m), 0);
  debug_vm(m);
  assert.equal(deferred_split_shrinker.shrink(m, 1, GFP_KERNEL, 0), 0);
  assert.equal(read_tag(m, child, BASE), 1000);
  debug_vm(m);
});

test('an area that is cut inside of a huge page maps it by ptes, whatever it is cut for', () => {
  for (const [from, pages] of [
    [10, 502],
    [0, 10],
    [10, 10],
  ] as const) {
    const { m, task } = one_huge();
    assert.equal(do_madvise(m, task.mm!, BASE + from, pages, MADV_RANDOM), 0);
    assert.equal(event(m, THP_SPLIT_PMD), 1);
    debug_vm(m);
    assert.equal(read_tag(m, task, BASE), 1000);
  }
});

test('a page that somebody else holds is not split', () => {
  const { m, task, head } = one_huge();
  get_page(m.memmap, head);
  get_page(m.memmap, head + 9);
  assert.ok(!can_split_huge_page(m.memmap, head));
  assert.ok(trylock_page(m.memmap, head));
  assert.equal(split_huge_page_to_list(m, head), -11);
  unlock_page(m.memmap, head);
  assert.equal(event(m, THP_SPLIT_PAGE_FAILED), 1);
  assert.ok(pmd_huge(task.mm!, BASE) !== 0);
});

test('mprotect of the whole range keeps the huge page, of a part it does not', () => {
  const { m, task } = one_huge();
  assert.equal(do_mprotect(m, task.mm!, BASE, HPAGE, 1), 0);
  assert.ok(!pte_write(pmd_huge(task.mm!, BASE)));
  assert.equal(write_tag(m, task, BASE, 1), -14);
  assert.equal(do_mprotect(m, task.mm!, BASE, HPAGE, 3), 0);
  assert.equal(write_tag(m, task, BASE, 1), 0);
  assert.equal(thps(m), 1);
  assert.equal(do_mprotect(m, task.mm!, BASE + 511, 1, 1), 0);
  assert.equal(thps(m), 0);
  assert.ok(pte_write(get_pte(task.mm!, BASE)));
  assert.ok(!pte_write(get_pte(task.mm!, BASE + 511)));
  debug_vm(m);
});

test('mlock counts all pages of a huge page; a split of its mapping ends that', () => {
  const { m, task } = one_huge();
  assert.equal(do_mlock(m, task.mm!, BASE, HPAGE, true), 0);
  assert.equal(global_page_state(m, NR_MLOCK), HPAGE);
  debug_vm(m);
  assert.equal(do_mprotect(m, task.mm!, BASE, 5, 1), 0);
  assert.equal(global_page_state(m, NR_MLOCK), 0);
  assert.equal(do_mlock(m, task.mm!, BASE, HPAGE, false), 0);
  debug_vm(m);
});

test('a locked area gets locked huge pages, and gives them back unlocked', () => {
  const s = small();
  const { m, task } = s;
  map(s, BASE, 2 * HPAGE);
  assert.equal(do_mlock(m, task.mm!, BASE, 2 * HPAGE, true), 0);
  assert.equal(thps(m), 2);
  assert.equal(global_page_state(m, NR_MLOCK), 2 * HPAGE);
  debug_vm(m);
  assert.equal(do_mlock(m, task.mm!, BASE, HPAGE, false), 0);
  assert.equal(global_page_state(m, NR_MLOCK), HPAGE);
  do_exit(m, task, 0);
  assert.equal(global_page_state(m, NR_MLOCK), 0);
  debug_vm(m);
});

test('reclaim splits a huge page and swaps out its parts', () => {
  const { m, task } = one_huge({ swap: 16 * MIB });
  for (let i = 0; i < HPAGE; i++) assert.equal(write_tag(m, task, BASE + i, 9000 + i), 0);
  const sc = new ScanControl(m, GFP_KERNEL, 0, m.shape.ZONE_MOVABLE, 4 * HPAGE);
  for (let i = 0; i < 30 && event(m, THP_SPLIT_PAGE) === 0; i++) {
    sc.priority = 0;
    sc.nr_scanned = 0;
    const before = direct_scans(m);
    shrink_node(m, sc, m.nodes[0]!);
    assert.ok(sc.nr_scanned <= direct_scans(m) - before, 'parts do not count again');
  }
  assert.equal(event(m, THP_SPLIT_PAGE), 1);
  assert.equal(event(m, THP_SWPOUT_FALLBACK), 1);
  debug_vm(m);
  for (let i = 0; i < HPAGE; i++) assert.equal(read_tag(m, task, BASE + i), 9000 + i);
  debug_vm(m);
});

test('no huge page to be had: the fault counts a fallback and maps a small page', () => {
  const s = small();
  const { m, task } = s;
  // Every free block of 2 MiB is taken; what is left is too small.
  for (const order of [10, 9]) while (m.kernel.alloc_pages(m, 0, order) >= 0);
  thp_state(m)!.defrag = 'never';
  map(s, BASE, HPAGE);
  assert.equal(write_tag(m, task, BASE, 1), 0);
  assert.equal(event(m, THP_FAULT_FALLBACK), 1);
  assert.equal(pmd_huge(task.mm!, BASE), 0);
});

test('defrag decides what a fault may do: always compacts, defer wakes kswapd, never does nothing', () => {
  const seen = (defrag: string, advise: boolean): [boolean, boolean, boolean] => {
    const s = small({ numa: false });
    const { m, task } = s;
    assert.equal(echo(m, `${DIR}defrag`, defrag), defrag.length);
    map(s, BASE, HPAGE);
    if (advise) assert.equal(do_madvise(m, task.mm!, BASE, HPAGE, MADV_HUGEPAGE), 0);
    let gfp = 0;
    m.trace.mm_page_alloc.subscribe((_pfn, order, mask) => {
      if (order === 9) gfp = mask;
    });
    assert.equal(write_tag(m, task, BASE, 1), 0);
    // __GFP_WAIT; the absence of __GFP_KSWAPD_RECLAIM, which has a bit of its own here; NORETRY.
    return [(gfp & 0x10) !== 0, (gfp & 0x400000) === 0, (gfp & 0x1000) !== 0];
  };
  assert.deepEqual(seen('always', false), [true, false, true]);
  assert.deepEqual(seen('always', true), [true, false, false]);
  assert.deepEqual(seen('defer', false), [false, true, false]);
  assert.deepEqual(seen('defer', true), [false, true, false]);
  assert.deepEqual(seen('defer+madvise', false), [false, true, false]);
  assert.deepEqual(seen('defer+madvise', true), [true, false, false]);
  assert.deepEqual(seen('madvise', false), [false, false, false]);
  assert.deepEqual(seen('madvise', true), [true, false, false]);
  assert.deepEqual(seen('never', true), [false, false, false]);
});

test('meminfo, vmstat, zoneinfo, smaps and kpageflags show it', () => {
  const { m, task, head } = one_huge();
  assert.match(cat(m, '/proc/meminfo'), /^AnonHugePages: {6}2048 kB$/m);
  assert.match(cat(m, '/proc/vmstat'), /^nr_anon_transparent_hugepages 1$/m);
  assert.match(cat(m, '/proc/vmstat'), /^thp_fault_alloc 1$/m);
  assert.match(cat(m, '/proc/zoneinfo'), /^ {6}nr_anon_transparent_hugepages 1$/m);
  const smaps = cat_pid(m, task, 'smaps');
  assert.match(smaps, /^Rss: +2048 kB$/m);
  assert.match(smaps, /^AnonHugePages: {6}2048 kB$/m);
  assert.match(smaps, /^THPeligible: {4}1$/m);
  const words = (pfn: number): bigint => {
    const buf = new Uint8Array(8);
    const ctx = { id: -1, object: null, caller: NOBODY, pos: 0, data: null };
    const row = proc_page_files.find((file) => file.path === '/proc/kpageflags')!;
    row.read_at!(m, pfn * 8, buf, ctx);
    return new DataView(buf.buffer).getBigUint64(0, true);
  };
  const THP = 1n << 22n;
  const ANON_MMAP = (1n << 11n) | (1n << 12n);
  assert.equal(words(head) & (THP | ANON_MMAP | (1n << 15n)), THP | ANON_MMAP | (1n << 15n));
  assert.equal(words(head + 7) & (THP | ANON_MMAP | (1n << 16n)), THP | ANON_MMAP | (1n << 16n));
  do_madvise(m, task.mm!, BASE, HPAGE, MADV_NOHUGEPAGE);
  assert.match(cat_pid(m, task, 'smaps'), /^VmFlags: .*nh $/m);
  assert.match(cat_pid(m, task, 'smaps'), /^THPeligible: {4}0$/m);
});

test('the files have the recorded values, on a machine as small as those without them not', () => {
  const m = boot({ kernel: '6.1', memory: 768 * MIB, nodes: 2 });
  for (const line of read_lines('debian-6.1/verbatim/thp.values')) {
    const [name, value] = line.split(' = ') as [string, string];
    assert.equal(cat(m, DIR + name), `${value}\n`, name);
  }
  assert.equal(cat(m, `${DIR}khugepaged/pages_to_scan`), '4096\n');
  const tiny = boot({ kernel: '6.1', memory: 256 * MIB });
  assert.equal(cat(tiny, `${DIR}enabled`), 'always madvise [never]\n');
  assert.equal(cat(tiny, `${DIR}use_zero_page`), '0\n');
});

interface Case {
  path: string;
  write: string | { rle: [string, number][] };
  ret?: number;
  errno?: string;
  open?: string;
  before?: string;
  after?: string;
}

test('writes return what a current kernel returns', () => {
  const m = boot({ kernel: '6.1', memory: 768 * MIB });
  const ERRNO: Record<string, number> = { EINVAL, ERANGE };
  let checked = 0;
  for (const c of read_records('host-6.18/errno_sysfs_mm.jsonl') as Case[]) {
    const row = linux_6_1.files.find((file) => file.path === c.path);
    // Files of a later kernel; of no text, or more than a page, fs/kernfs.ts knows what happens.
    if (!c.path.startsWith(DIR) || row?.store === undefined || c.open !== undefined) continue;
    const text =
      typeof c.write === 'string' ? c.write : c.write.rle.map(([x, n]) => x.repeat(n)).join('');
    if (text.length === 0 || text.length > 4096) continue;
    if (c.before !== undefined) echo(m, c.path, c.before.replace(/.*\[(.*)\].*/s, '$1'));
    const label = `${c.path} ${JSON.stringify(text.slice(0, 60))}`;
    const expected = c.errno !== undefined ? -ERRNO[c.errno]! : c.ret!;
    assert.equal(echo(m, c.path, text), expected, label);
    if (c.after !== undefined) assert.equal(cat(m, c.path), c.after, label);
    checked++;
  }
  assert.ok(checked > 150, `${checked} checked`);
});

test('enabling raises min_free_kbytes, disabling takes that back, and a written value counts', () => {
  const m = boot({ kernel: '6.1', memory: 1024 * MIB });
  const min_free = (): number => m.sysctl['min_free_kbytes']!;
  const raised = min_free();
  echo(m, `${DIR}enabled`, 'never');
  const own = min_free();
  assert.ok(own < raised / 2, `${own} of ${raised}`);
  echo(m, `${DIR}enabled`, 'madvise');
  assert.equal(min_free(), raised);
  const path = '/proc/sys/vm/min_free_kbytes';
  echo(m, path, '20000\n');
  echo(m, `${DIR}enabled`, 'never');
  assert.equal(min_free(), 20000);
  echo(m, path, '100\n');
  echo(m, `${DIR}enabled`, 'never');
  assert.ok(
    Math.abs(min_free() - own) < own / 20,
    'computed anew, from what is above the HIGH marks',
  );
});

test('the recorded min_free_kbytes and watermarks follow from the memory that was managed then', () => {
  // khugepaged starts before the memory of init and of the initrd is given to the zones: 2008 and 441
  // pages fewer than zoneinfo shows later, which is all that the recording leaves open.
  const managed = [3840, 113500 - 2008, 63919 - 441];
  const zone = (
    nid: number,
    zone_idx: number,
    start_pfn: number,
    spanned_pages: number,
    i: number,
  ) => ({
    ...{ nid, zone_idx, start_pfn, spanned_pages },
    present_pages: managed[i]!,
  });
  const m = assemble_machine({
    shape: SHAPE_61,
    kernel: linux_6_1,
    zones: [zone(0, 0, 1, 4095, 0), zone(0, 1, 4096, 126976, 1), zone(1, 1, 131072, 65504, 2)],
  });
  m.totalram_pages = managed.reduce((a, b) => a + b);
  init_sysctls(m);
  init_lowmem_reserve_ratio(m);
  init_per_zone_wmark_min(m);
  hugepage_init(m);
  const values = read_lines('debian-6.1/verbatim/sys-vm.values');
  const line = values.find((text) => text.includes('/min_free_kbytes = '))!;
  assert.equal(`${m.sysctl['min_free_kbytes']}|`, line.split(' = ')[1]);
  const marks = read_lines('debian-6.1/verbatim/zoneinfo')
    .map((text) => /^ {8}(?:min|low|high) +(\d+)$/.exec(text)?.[1])
    .filter((mark) => mark !== undefined && mark !== '0')
    .map(Number);
  assert.deepEqual(
    m.populated_zones.flatMap((z) => [...z.watermark]),
    marks,
  );
});

test('on two nodes a fault takes the nearest node first, and another one only if it may reclaim', () => {
  const s = small({ memory: 128 * MIB, nodes: 2 });
  const { m, task } = s;
  while (m.kernel.alloc_pages(m, 0x40000, 10, 0) >= 0);
  while (m.kernel.alloc_pages(m, 0x40000, 9, 0) >= 0);
  map(s, BASE, 2 * HPAGE);
  assert.equal(write_tag(m, task, BASE, 1), 0);
  assert.equal(event(m, THP_FAULT_FALLBACK), 1);
  assert.equal(do_madvise(m, task.mm!, BASE, 2 * HPAGE, MADV_HUGEPAGE), 0);
  assert.equal(echo(m, `${DIR}defrag`, 'madvise'), 7);
  assert.equal(write_tag(m, task, BASE + HPAGE, 1), 0);
  assert.ok(pmd_huge(task.mm!, BASE + HPAGE) !== 0);
});

test('a saved machine has its huge pages, queue and settings', () => {
  const { m, task } = one_huge();
  assert.equal(do_madvise(m, task.mm!, BASE, 10, MADV_DONTNEED), 0);
  const copy = load_machine(save_machine(m));
  assert.equal(state_hash(copy), state_hash(m));
  debug_vm(copy);
  assert.equal(deferred_split_shrinker.shrink(copy, 10, GFP_KERNEL, 0), 0);
  assert.equal(event(copy, THP_SPLIT_PAGE), 1);
  assert.notEqual(state_hash(copy), state_hash(m));
});
