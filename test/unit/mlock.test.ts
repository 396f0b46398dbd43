/** mlock: the unevictable list, its counters, lazy culling, pages that several areas lock. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EINVAL, ENOMEM } from '../../src/lib/errno.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { do_exit } from '../../src/mm/fork.ts';
import { isolate_lru_page, lru_add_drain_all, putback_lru_page } from '../../src/mm/lru.ts';
import { do_madvise, do_mlock, MADV_DONTNEED } from '../../src/mm/madvise.ts';
import { access_page } from '../../src/mm/memory.ts';
import { do_mmap, do_munmap, MAP_ANONYMOUS, MAP_LOCKED, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { PageMlocked, PageUnevictable } from '../../src/mm/page.ts';
import {
  global_page_state,
  NR_MLOCK,
  NR_UNEVICTABLE,
  UNEVICTABLE_PGCLEARED,
  UNEVICTABLE_PGCULLED,
  UNEVICTABLE_PGMLOCKED,
  UNEVICTABLE_PGMUNLOCKED,
  UNEVICTABLE_PGRESCUED,
} from '../../src/mm/vmstat.ts';
import { fill, fork, frame, map_anon, migrate, process, small_machine } from './process_machine.ts';

/** [NR_MLOCK, NR_UNEVICTABLE, mlocked, munlocked, culled, rescued] */
const state = (m: Machine): number[] => [
  global_page_state(m, NR_MLOCK),
  global_page_state(m, NR_UNEVICTABLE),
  m.vm_events[UNEVICTABLE_PGMLOCKED]!,
  m.vm_events[UNEVICTABLE_PGMUNLOCKED]!,
  m.vm_events[UNEVICTABLE_PGCULLED]!,
  m.vm_events[UNEVICTABLE_PGRESCUED]!,
];

test('mlock of touched pages moves them over, of untouched ones faults them in there', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 20);
  fill(m, a, vpn, 5, 1);
  assert.equal(do_mlock(m, a.mm!, vpn, 20, true), 0);
  // Five were on a list and were culled; fifteen began there.
  assert.deepEqual(state(m), [20, 20, 20, 0, 5, 0]);
  assert.equal(a.mm!.locked_vm, 20);
  assert.ok(PageMlocked(m.memmap, frame(a, vpn)) && PageUnevictable(m.memmap, frame(a, vpn + 19)));
  assert.equal(do_madvise(m, a.mm!, vpn, 1, MADV_DONTNEED), -EINVAL);
  debug_vm(m);
  assert.equal(do_mlock(m, a.mm!, vpn, 10, false), 0);
  assert.deepEqual(state(m), [10, 10, 20, 10, 5, 10]);
  assert.equal(a.mm!.locked_vm, 10);
  assert.equal(a.mm!.mmap.length, 3);
  assert.equal(do_munmap(m, a.mm!, vpn + 10, 5), 0);
  assert.deepEqual(state(m), [5, 5, 20, 15, 5, 15]);
  assert.equal(do_mlock(m, a.mm!, vpn + 10, 5, true), -ENOMEM, 'nothing is mapped there');
  do_exit(m, a, 0);
  assert.deepEqual(state(m), [0, 0, 20, 20, 5, 20]);
  debug_vm(m);
});

test('MAP_LOCKED is mlock; a fork child inherits the pages but not the lock', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = do_mmap(m, a.mm!, null, 0, 4, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED);
  assert.deepEqual(state(m).slice(0, 3), [4, 4, 4]);
  const b = fork(m, a);
  assert.equal(b.mm!.locked_vm, 0);
  // The child writes: the copy is an ordinary page.
  assert.equal(access_page(m, b, vpn, true), 0);
  assert.ok(!PageMlocked(m.memmap, frame(b, vpn)));
  // The parent writes a page that it shares: what the child keeps must not stay locked.
  const shared = frame(a, vpn + 1);
  assert.equal(access_page(m, a, vpn + 1, true), 0);
  assert.ok(PageMlocked(m.memmap, frame(a, vpn + 1)));
  assert.equal(frame(b, vpn + 1), shared);
  assert.ok(!PageMlocked(m.memmap, shared));
  assert.equal(m.vm_events[UNEVICTABLE_PGCLEARED], 1);
  lru_add_drain_all(m);
  debug_vm(m);
  do_exit(m, a, 0);
  do_exit(m, b, 0);
  assert.deepEqual(state(m).slice(0, 2), [0, 0]);
});

test('munlock leaves a page where it is that another process locks', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 2);
  fill(m, a, vpn, 2, 1);
  const b = fork(m, a);
  assert.equal(do_mlock(m, a.mm!, vpn, 2, true), 0);
  // Locking a private writable area copies what is shared.
  assert.notEqual(frame(a, vpn), frame(b, vpn));
  const c = fork(m, a);
  c.mm!.mmap[0]!.vm_flags |= 0x2000;
  c.mm!.locked_vm = 2;
  const munlocked = m.vm_events[UNEVICTABLE_PGMUNLOCKED]!;
  assert.equal(do_mlock(m, a.mm!, vpn, 2, false), 0);
  assert.equal(m.vm_events[UNEVICTABLE_PGMUNLOCKED], munlocked);
  assert.ok(PageMlocked(m.memmap, frame(c, vpn)) && PageUnevictable(m.memmap, frame(c, vpn)));
  debug_vm(m);
  do_exit(m, c, 0);
  lru_add_drain_all(m);
  assert.ok(!PageMlocked(m.memmap, frame(a, vpn)));
  assert.deepEqual(state(m).slice(0, 2), [0, 0]);
  debug_vm(m);
});

test('14.15: a page that could not be culled is migrated, and stays mlocked', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 1);
  fill(m, a, vpn, 1, 7);
  lru_add_drain_all(m);
  const pfn = frame(a, vpn);
  // Isolated at the moment of mlock: it is marked only.
  assert.equal(isolate_lru_page(m, pfn), 0);
  assert.equal(do_mlock(m, a.mm!, vpn, 1, true), 0);
  assert.deepEqual(state(m).slice(0, 2), [1, 0]);
  m.memmap.flags[pfn]! &= ~(1 << 22);
  putback_lru_page(m, pfn);
  m.memmap.flags[pfn]! |= 1 << 22;
  lru_add_drain_all(m);
  assert.ok(!PageUnevictable(m.memmap, pfn));
  assert.equal(migrate(m, [pfn]), 0);
  lru_add_drain_all(m);
  assert.ok(PageMlocked(m.memmap, frame(a, vpn)) && PageUnevictable(m.memmap, frame(a, vpn)));
  assert.deepEqual(state(m).slice(0, 2), [1, 1]);
  debug_vm(m);
});
