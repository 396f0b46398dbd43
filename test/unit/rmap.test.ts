/** Reverse mapping: chains, COW, migration entries, the ledger of 6.8, the race of patch 1. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelBug } from '../../src/lib/bug.ts';
import { EAGAIN } from '../../src/lib/errno.ts';
import { Prng } from '../../src/lib/prng.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { do_exit } from '../../src/mm/fork.ts';
import { lru_add_drain_all, put_page } from '../../src/mm/lru.ts';
import { do_mprotect } from '../../src/mm/madvise.ts';
import { access_page, read_tag, write_tag } from '../../src/mm/memory.ts';
import {
  type AnonVma,
  find_vma,
  type Task,
  VM_STACK_INCOMPLETE_SETUP,
  type VmArea,
} from '../../src/mm/mm_types.ts';
import { do_mmap, do_munmap, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { page_mapcount, trylock_page, unlock_page } from '../../src/mm/page.ts';
import {
  get_pte,
  is_migration_entry,
  is_write_migration_entry,
  pte_dirty,
  pte_present,
  pte_to_swp_entry,
  pte_write,
  pte_young,
  swp_offset,
} from '../../src/mm/page_table.ts';
import {
  page_anon_vma,
  page_referenced,
  remove_migration_ptes,
  rmap_walk,
  SWAP_AGAIN,
  SWAP_FAIL,
  SWAP_SUCCESS,
  TTU_IGNORE_ACCESS,
  TTU_IGNORE_MLOCK,
  TTU_MIGRATION,
  try_to_unmap,
} from '../../src/mm/rmap.ts';
import { add_to_swap, swapon } from '../../src/mm/swap_state.ts';
import { NR_ANON_PAGES } from '../../src/mm/vmstat.ts';
import {
  fill,
  fork,
  frame,
  map_anon,
  mappings_by_frame,
  migrate,
  process,
  small_machine,
} from './process_machine.ts';

const area = (task: Task, vpn: number): VmArea => find_vma(task.mm!, vpn)!;
const MIGRATE_FLAGS = TTU_MIGRATION | TTU_IGNORE_MLOCK | TTU_IGNORE_ACCESS;

/** anon_vmas of an area, in the order of its list. */
function chain(vma: VmArea): AnonVma[] {
  const list: AnonVma[] = [];
  for (let avc = vma.avc_first; avc !== null; avc = avc.vma_next) list.push(avc.anon_vma);
  return list;
}

/** Areas of an anon_vma, in the order in which reverse mapping visits them. */
function visited(av: AnonVma): VmArea[] {
  const list: VmArea[] = [];
  for (let avc = av.head; avc !== null; avc = avc.av_next) list.push(avc.vma);
  return list;
}

test('fork: the child joins all anon_vmas of the parent, its own is first, the oldest last', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 4);
  fill(m, a, vpn, 4, 1);
  const b = fork(m, a);
  const c = fork(m, b);
  const d = fork(m, a);
  const [va, vb, vc, vd] = [a, b, c, d].map((task) => area(task, vpn)) as [
    VmArea,
    VmArea,
    VmArea,
    VmArea,
  ];
  assert.deepEqual(chain(va), [va.anon_vma]);
  assert.deepEqual(chain(vb), [vb.anon_vma, va.anon_vma]);
  assert.deepEqual(chain(vc), [vc.anon_vma, vb.anon_vma, va.anon_vma]);
  assert.deepEqual(chain(vd), [vd.anon_vma, va.anon_vma]);
  // New areas are visited last.
  assert.deepEqual(visited(va.anon_vma!), [va, vb, vc, vd]);
  assert.deepEqual(visited(vb.anon_vma!), [vb, vc]);
  assert.equal(page_mapcount(m.memmap, frame(a, vpn)), 4);
  debug_vm(m);
});

test('an anon_vma of a neighbour is used when the areas could be merged, and only then', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 8);
  fill(m, a, vpn, 8, 1);
  const first = area(a, vpn);
  // Another protection keeps the areas apart, but not their anon_vmas.
  const below = do_mmap(m, a.mm!, null, 0, 2, 1, MAP_PRIVATE | MAP_ANONYMOUS);
  assert.equal(below + 2, vpn);
  assert.equal(do_mprotect(m, a.mm!, below, 2, 3 | 4), 0);
  assert.equal(write_tag(m, a, below, 5), 0);
  assert.notEqual(area(a, below), first);
  assert.equal(area(a, below).anon_vma, first.anon_vma);
  // Not contiguous in page offset: one of its own.
  const far = map_anon(m, a, 2, 3);
  const gap = do_mmap(m, a.mm!, null, far - 5, 1, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
  assert.equal(write_tag(m, a, gap, 6), 0);
  assert.notEqual(area(a, gap).anon_vma, first.anon_vma);
  // After a fork the chain has two links: a neighbour may no longer take it.
  const child = fork(m, a);
  const next = do_mmap(m, child.mm!, null, 0, 2, 5, MAP_PRIVATE | MAP_ANONYMOUS);
  assert.equal(do_mprotect(m, child.mm!, next, 2, 7), 0);
  assert.equal(write_tag(m, child, next, 7), 0);
  assert.ok(!chain(area(child, vpn)).includes(area(child, next).anon_vma!));
  debug_vm(m);
});

test('copy on write: each side keeps its own, and a sole owner writes in place', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 3);
  fill(m, a, vpn, 3, 100);
  const old = frame(a, vpn);
  const b = fork(m, a);
  assert.ok(!pte_write(get_pte(a.mm!, vpn)) && !pte_write(get_pte(b.mm!, vpn)));
  assert.equal(write_tag(m, b, vpn, 200), 0);
  assert.notEqual(frame(b, vpn), old);
  assert.equal(page_anon_vma(m, frame(b, vpn)), area(b, vpn).anon_vma);
  assert.equal(read_tag(m, a, vpn), 100);
  assert.equal(read_tag(m, b, vpn), 200);
  // The parent is the only owner now: no copy.
  assert.equal(write_tag(m, a, vpn, 101), 0);
  assert.equal(frame(a, vpn), old);
  // The child inherits a page alone: it moves from the parent's anon_vma to the child's.
  const shared = frame(b, vpn + 1);
  const parents = area(a, vpn).anon_vma;
  assert.equal(page_anon_vma(m, shared), parents);
  do_exit(m, a, 0);
  assert.equal(write_tag(m, b, vpn + 1, 201), 0);
  assert.equal(frame(b, vpn + 1), shared);
  assert.equal(page_anon_vma(m, shared), area(b, vpn).anon_vma);
  debug_vm(m);
});

test('reading untouched memory maps the page of zeroes; a write replaces it', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 2);
  assert.equal(read_tag(m, a, vpn), 0);
  assert.equal(frame(a, vpn), m.zero_pfn);
  assert.equal(area(a, vpn).anon_vma, null);
  const count = m.memmap._count[m.zero_pfn];
  const b = fork(m, a);
  assert.equal(write_tag(m, a, vpn, 9), 0);
  assert.notEqual(frame(a, vpn), m.zero_pfn);
  do_exit(m, b, 0);
  assert.equal(m.memmap._count[m.zero_pfn], count);
  assert.equal(m.memmap._mapcount[m.zero_pfn], 0);
  debug_vm(m);
});

for (const sharers of [1, 2, 5]) {
  test(`the reference ledger of 6.8 for a page mapped ${sharers} times`, () => {
    const m = small_machine();
    const p = m.memmap;
    const a = process(m);
    const vpn = map_anon(m, a, 1);
    fill(m, a, vpn, 1, 77);
    const tasks = [a];
    while (tasks.length < sharers) tasks.push(fork(m, a));
    lru_add_drain_all(m);
    const old = frame(a, vpn);
    assert.equal(p._count[old], sharers);
    let seen = false;
    m.other_cpu = () => {
      seen = true;
      assert.equal(p._count[old], 1, 'after try_to_unmap only the isolation holds the page');
      assert.equal(p._mapcount[old], 0);
      for (const task of tasks) {
        const entry = pte_to_swp_entry(get_pte(task.mm!, vpn));
        assert.ok(is_migration_entry(entry) && swp_offset(entry) === old);
      }
    };
    assert.equal(migrate(m, [old]), 0);
    m.other_cpu = null;
    assert.ok(seen);
    const new_ = frame(a, vpn);
    assert.notEqual(new_, old);
    assert.equal(p._count[old], 1, 'the old frame is in the vector');
    assert.equal(p._count[new_], sharers + 1, 'the new frame is mapped and in the vector');
    for (const task of tasks) {
      assert.equal(frame(task, vpn), new_);
      assert.equal(read_tag(m, task, vpn), 77);
    }
    lru_add_drain_all(m);
    assert.equal(p._count[old], 0);
    assert.equal(p._count[new_], sharers);
    debug_vm(m);
  });
}

test('5.4: a migrated page ends up with the oldest anon_vma, old, clean and with its permission', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 2);
  fill(m, a, vpn, 1, 5);
  const b = fork(m, a);
  fill(m, b, vpn + 1, 1, 6);
  const vma = area(b, vpn);
  const old = frame(b, vpn + 1);
  assert.equal(page_anon_vma(m, old), vma.anon_vma);
  assert.equal(migrate(m, [old]), 0);
  assert.equal(page_anon_vma(m, frame(b, vpn + 1)), vma.avc_last!.anon_vma);
  assert.notEqual(vma.avc_last!.anon_vma, vma.anon_vma);
  const pte = get_pte(b.mm!, vpn + 1);
  assert.ok(pte_write(pte) && !pte_young(pte) && !pte_dirty(pte));
  // The read flavour stays read-only.
  assert.equal(migrate(m, [frame(a, vpn)]), 0);
  assert.ok(!pte_write(get_pte(a.mm!, vpn)));
  assert.equal(read_tag(m, b, vpn), 5);
  debug_vm(m);
});

test('fork during migration turns write entries into read entries, so that both sides copy', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 1);
  fill(m, a, vpn, 1, 5);
  const old = frame(a, vpn);
  let child: Task | null = null;
  m.other_cpu = () => {
    assert.ok(is_write_migration_entry(pte_to_swp_entry(get_pte(a.mm!, vpn))));
    child = fork(m, a);
    for (const task of [a, child]) {
      const entry = pte_to_swp_entry(get_pte(task.mm!, vpn));
      assert.ok(is_migration_entry(entry) && !is_write_migration_entry(entry));
    }
  };
  assert.equal(migrate(m, [old]), 0);
  m.other_cpu = null;
  assert.equal(frame(a, vpn), frame(child!, vpn));
  assert.equal(page_mapcount(m.memmap, frame(a, vpn)), 2);
  assert.equal(write_tag(m, child!, vpn, 8), 0);
  assert.equal(read_tag(m, a, vpn), 5);
});

test('a fault on a migration entry waits with a reference, which makes this attempt fail', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 1);
  fill(m, a, vpn, 1, 5);
  const old = frame(a, vpn);
  let times = 0;
  m.other_cpu = () => {
    if (times++ > 0) return;
    assert.equal(access_page(m, a, vpn, false), -EAGAIN);
    assert.equal(a.wait_page, old);
    assert.equal(m.memmap._count[old], 2);
    assert.equal(access_page(m, a, vpn, false), -EAGAIN, 'it waits once');
    assert.equal(m.memmap._count[old], 2);
  };
  // Nobody wakes the waiter during the ten passes: the page stays, with its mapping restored.
  assert.equal(migrate(m, [old]), 1);
  m.other_cpu = null;
  assert.equal(frame(a, vpn), old);
  assert.equal(read_tag(m, a, vpn), 5);
  assert.equal(write_tag(m, a, vpn, 6), 0);
  do_exit(m, a, 0);
  debug_vm(m);
  lru_add_drain_all(m);
  assert.equal(m.memmap._count[old], 0);
});

/** Exits the only process that maps a page while it is unmapped, and lets another one start. */
function exit_while_unmapped(m: Machine, lose_reference: boolean): void {
  const a = process(m);
  const vpn = map_anon(m, a, 1);
  fill(m, a, vpn, 1, 5);
  const old = frame(a, vpn);
  const anon_vma = page_anon_vma(m, old)!;
  let other: Task | null = null;
  m.other_cpu = () => {
    m.other_cpu = null;
    assert.equal(anon_vma.external_refcount, 1);
    if (lose_reference) anon_vma.external_refcount = 0;
    do_exit(m, a, 0);
    assert.equal(anon_vma.live, !lose_reference);
    other = process(m, 'other');
    fill(m, other, map_anon(m, other, 1), 1, 9);
  };
  assert.equal(migrate(m, [old]), 0);
  assert.ok(other !== null);
  assert.equal(anon_vma.live, false, 'whoever drops the last reference frees it');
  lru_add_drain_all(m);
  debug_vm(m);
}

test('patch 1: a process that exits during migration does not take the anon_vma along', () => {
  exit_while_unmapped(small_machine(), false);
});

test('patch 1: without the reference the anon_vma is recycled under migration', () => {
  assert.throws(() => exit_while_unmapped(small_machine(), true), KernelBug);
});

test('patch 3: an unmapped anonymous page is not migrated; patch 4: in swap cache it is', () => {
  const m = small_machine();
  swapon(m, '/dev/vdb', 1024);
  const p = m.memmap;
  const a = process(m);
  const vpn = map_anon(m, a, 2);
  fill(m, a, vpn, 2, 5);
  lru_add_drain_all(m);
  const [plain, cached] = [frame(a, vpn), frame(a, vpn + 1)];
  // Somebody holds it beyond its mapping.
  p._count[plain]!++;
  assert.ok(trylock_page(p, cached));
  assert.ok(add_to_swap(m, cached));
  assert.equal(try_to_unmap(m, cached, MIGRATE_FLAGS), SWAP_SUCCESS);
  unlock_page(p, cached);
  assert.ok(!pte_present(get_pte(a.mm!, vpn + 1)));
  assert.ok(!is_migration_entry(pte_to_swp_entry(get_pte(a.mm!, vpn + 1))), 'a swap entry');
  assert.equal(do_munmap(m, a.mm!, vpn, 1), 0);
  assert.equal(p._count[plain], 1);
  assert.equal(migrate(m, [plain]), 1);
  assert.equal(migrate(m, [cached]), 0);
  lru_add_drain_all(m);
  assert.equal(p._count[cached], 0);
  assert.equal(read_tag(m, a, vpn + 1), 6);
  assert.notEqual(frame(a, vpn + 1), cached);
  put_page(m, plain);
  debug_vm(m);
});

test('the stack that exec still moves is left alone by migration', () => {
  const m = small_machine();
  const a = process(m);
  const vma = area(a, a.mm!.start_stack);
  const pfn = frame(a, a.mm!.start_stack);
  vma.vm_flags |= VM_STACK_INCOMPLETE_SETUP;
  assert.equal(migrate(m, [pfn]), 1);
  assert.equal(frame(a, a.mm!.start_stack), pfn);
  vma.vm_flags &= ~VM_STACK_INCOMPLETE_SETUP;
  assert.equal(migrate(m, [pfn]), 0);
});

test('page_referenced counts young mappings once; try_to_unmap refuses a young one', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 1);
  fill(m, a, vpn, 1, 5);
  const b = fork(m, a);
  const pfn = frame(a, vpn);
  assert.equal(page_referenced(m, pfn, false), 1, 'fork gave the child an old pte');
  assert.equal(page_referenced(m, pfn, false), 0);
  access_page(m, a, vpn, false);
  access_page(m, b, vpn, false);
  assert.ok(trylock_page(m.memmap, pfn));
  assert.equal(try_to_unmap(m, pfn, TTU_MIGRATION), SWAP_FAIL);
  assert.equal(page_referenced(m, pfn, true), 1, 'one young bit was spent by the refusal');
  assert.equal(try_to_unmap(m, pfn, TTU_MIGRATION), SWAP_SUCCESS);
  remove_migration_ptes(m, pfn, pfn);
  unlock_page(m.memmap, pfn);
  assert.equal(page_mapcount(m.memmap, pfn), 2);
  debug_vm(m);
});

/** Every frame's mappings by rmap_walk must be those that a look at all page tables finds. */
function compare_with_oracle(m: Machine): void {
  const truth = mappings_by_frame(m);
  let anon = 0;
  for (const [pfn, expected] of truth) {
    const found: string[] = [];
    assert.ok(trylock_page(m.memmap, pfn));
    rmap_walk(
      m,
      pfn,
      (_m, page, vma, vpn) => {
        const pte = get_pte(vma.vm_mm, vpn);
        const pid = [...m.tasks.values()].find((task) => task.mm === vma.vm_mm)!.pid;
        if (pte_present(pte) && pte >>> 4 === page) found.push(`${pid}:${vpn}`);
        return SWAP_AGAIN;
      },
      0,
    );
    unlock_page(m.memmap, pfn);
    assert.deepEqual(found.sort(), expected, `frame ${pfn}`);
    assert.equal(m.memmap._mapcount[pfn], expected.length);
    anon++;
  }
  let counted = 0;
  for (const zone of m.populated_zones) counted += zone.vm_stat[NR_ANON_PAGES]!;
  assert.equal(counted, anon);
}

test('random forks, writes, unmaps, protections, exits and migrations against a naive oracle', () => {
  const seed = Number(globalThis.process.env['SEED'] ?? 20100801);
  const prng = new Prng(seed);
  const m = small_machine({ cpus: 2 });
  const expected = new Map<Task, Map<number, number>>();
  const base = 0x1000;
  const span = 48;
  const start = process(m);
  expected.set(start, new Map());
  try {
    for (let i = 0; i < 4000; i++) {
      const tasks = [...expected.keys()];
      const task = tasks[prng.below(tasks.length)]!;
      const memory = expected.get(task)!;
      const vpn = base + prng.below(span);
      const len = Math.min(prng.range(1, 12), base + span - vpn);
      m.this_cpu = prng.below(2);
      const what = prng.below(100);
      if (what < 12) {
        const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        assert.equal(do_mmap(m, task.mm!, null, vpn, len, 3, flags), vpn);
        for (let v = vpn; v < vpn + len; v++) memory.delete(v);
      } else if (what < 60) {
        const tag = prng.range(1, 2 ** 31);
        if (write_tag(m, task, vpn, tag) === 0) memory.set(vpn, tag);
      } else if (what < 66) {
        assert.equal(do_munmap(m, task.mm!, vpn, len), 0);
        for (let v = vpn; v < vpn + len; v++) memory.delete(v);
      } else if (what < 72) {
        do_mprotect(m, task.mm!, vpn, len, prng.chance(1, 2) ? 1 : 3);
      } else if (what < 78 && tasks.length < 12) {
        expected.set(fork(m, task), new Map(memory));
      } else if (what < 81 && tasks.length > 1) {
        do_exit(m, task, 0);
        expected.delete(task);
      } else if (what < 84 && tasks.length < 12) {
        expected.set(process(m), new Map());
      } else if (what < 95) {
        const pages = [...memory.keys()];
        if (pages.length === 0) continue;
        const pfn = frame(task, pages[prng.below(pages.length)]!);
        assert.equal(migrate(m, [pfn]), 0);
      } else {
        compare_with_oracle(m);
        if (prng.chance(1, 4)) debug_vm(m);
      }
    }
    for (const [task, memory] of expected) {
      for (const [vpn, tag] of memory) assert.equal(m.contents.get_tag(frame(task, vpn)), tag);
    }
    for (const task of expected.keys()) do_exit(m, task, 0);
    debug_vm(m);
    for (const anon_vma of m.anon_vmas) assert.ok(anon_vma === null || !anon_vma.live);
  } catch (error) {
    console.error(`SEED=${seed} repeats this`);
    throw error;
  }
});
