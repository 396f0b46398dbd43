/** Areas: where they go, how they split and merge, what page tables they need, who pays. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_root } from '../../src/fs/disk/index.ts';
import { O_RDWR, type OpenFile, Vnode } from '../../src/fs/vfs.ts';
import { EFAULT, EINVAL, EIO, ENOMEM } from '../../src/lib/errno.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { do_execve, do_exit } from '../../src/mm/fork.ts';
import { lru_add_drain_all } from '../../src/mm/lru.ts';
import {
  do_madvise,
  do_mbind,
  do_mprotect,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_MERGEABLE,
  MADV_RANDOM,
} from '../../src/mm/madvise.ts';
import { access_page, read_tag, write_tag } from '../../src/mm/memory.ts';
import {
  check_areas,
  MM_ANONPAGES,
  MM_FILEPAGES,
  MPOL_BIND,
  TASK_SIZE_PAGES,
  type Task,
  VM_MERGEABLE,
} from '../../src/mm/mm_types.ts';
import {
  do_brk,
  do_mmap,
  do_munmap,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
} from '../../src/mm/mmap.ts';
import { type Machine, page_zone } from '../../src/mm/mmzone.ts';
import { get_pte, pte_present } from '../../src/mm/page_table.ts';
import { global_page_state, NR_FREE_PAGES, NR_PAGETABLE } from '../../src/mm/vmstat.ts';
import { open_for_map } from '../../src/sim/open_for_map.ts';
import { fill, fork, frame, MIB, map_anon, process, small_machine } from './process_machine.ts';

const ANON = MAP_PRIVATE | MAP_ANONYMOUS;
const FIXED = ANON | MAP_FIXED;

/** The areas without the stack, relative to `base`: "0-4 rw". */
function layout(task: Task, base: number): string {
  check_areas(task.mm!);
  return task
    .mm!.mmap.filter((vma) => vma.vm_end <= task.mm!.start_stack)
    .map((vma) => {
      const rw = ['-', 'r', 'w', 'rw'][vma.vm_flags & 3];
      return `${vma.vm_start - base}-${vma.vm_end - base} ${rw}`;
    })
    .join(', ');
}

test('areas come top down below the gap for the stack; holes are used again', () => {
  const m = small_machine();
  const a = process(m);
  const top = TASK_SIZE_PAGES - (128 * MIB) / 4096;
  const first = map_anon(m, a, 16);
  const second = map_anon(m, a, 8, 1);
  const third = map_anon(m, a, 4);
  assert.deepEqual([first, second, third], [top - 16, top - 24, top - 28]);
  assert.equal(do_munmap(m, a.mm!, second, 8), 0);
  // The hole is above the last place, so it is the next to be used.
  assert.equal(map_anon(m, a, 8, 1), second);
  assert.equal(map_anon(m, a, 1, 1), third - 1);
  assert.equal(do_mmap(m, a.mm!, null, 0x1234, 4, 3, ANON), 0x1234, 'a free hint is taken');
  assert.equal(do_mmap(m, a.mm!, null, 0, 0, 3, ANON), -EINVAL);
});

test('neighbours merge: mapping before, behind and between', () => {
  const m = small_machine();
  const a = process(m);
  const base = 0x10000;
  const map = (at: number, len: number, prot = 3): void => {
    assert.equal(do_mmap(m, a.mm!, null, base + at, len, prot, FIXED), base + at);
  };
  map(0, 4);
  map(8, 4);
  assert.equal(layout(a, base), '0-4 rw, 8-12 rw');
  map(12, 2); // behind: case 2
  assert.equal(layout(a, base), '0-4 rw, 8-14 rw');
  map(6, 2); // before: case 3
  assert.equal(layout(a, base), '0-4 rw, 6-14 rw');
  map(4, 2); // between: case 1
  assert.equal(layout(a, base), '0-14 rw');
  map(4, 2, 1); // over it: the old part goes, the new one is of another kind
  assert.equal(layout(a, base), '0-4 rw, 4-6 r, 6-14 rw');
  assert.equal(a.mm!.total_vm, 14 + 33);
  debug_vm(m);
});

/** The cases of mmap.c that mprotect meets: N is what comes next, P what comes before. */
const cases: [string, number, number, number[], string][] = [
  // what, start, len, protections of three areas of 4 pages, result
  ['4: the bound to the next moves down', 2, 2, [1, 3, 1], '0-2 r, 2-8 rw, 8-12 r'],
  ['5: the bound to the previous moves up', 4, 2, [3, 1, 2], '0-6 rw, 6-8 r, 8-12 w'],
  ['6: previous, this and next become one', 4, 4, [3, 1, 3], '0-12 rw'],
  ['7: the previous takes all of this', 4, 4, [3, 1, 2], '0-8 rw, 8-12 w'],
  ['8: this takes all of the next', 4, 4, [2, 1, 3], '0-4 w, 4-12 rw'],
  ['split in three', 1, 2, [1, 2, 1], '0-1 r, 1-3 rw, 3-4 r, 4-8 w, 8-12 r'],
];
for (const [what, start, len, prots, result] of cases) {
  test(`mprotect, case ${what}`, () => {
    const m = small_machine();
    const a = process(m);
    const base = 0x10000;
    assert.equal(do_mmap(m, a.mm!, null, base, 12, 3, FIXED), base);
    fill(m, a, base, 12, 50);
    prots.forEach((prot, i) => {
      assert.equal(do_mprotect(m, a.mm!, base + i * 4, 4, prot), 0);
    });
    assert.equal(do_mprotect(m, a.mm!, base + start, len, 3), 0);
    assert.equal(layout(a, base), result);
    for (let i = 0; i < 12; i++) {
      assert.equal(m.contents.get_tag(frame(a, base + i)), 50 + i);
    }
    debug_vm(m);
    do_exit(m, a, 0);
    debug_vm(m);
  });
}

for (const filled of [0, 4]) {
  test(`areas that become one list the pages of both; only that at ${filled} has some`, () => {
    const m = small_machine();
    const a = process(m);
    const base = 0x10000;
    do_mmap(m, a.mm!, null, base, 8, 3, FIXED);
    do_mprotect(m, a.mm!, base + 4 - filled, 4, 1);
    fill(m, a, base + filled, 4, 1);
    do_mprotect(m, a.mm!, base + filled, 4, 1);
    assert.equal(layout(a, base), '0-8 r');
    debug_vm(m);
    const child = fork(m, a);
    do_mprotect(m, child.mm!, base + filled, 2, 3);
    fill(m, child, base + filled, 2, 9);
    do_munmap(m, child.mm!, base + filled + 1, 1);
    debug_vm(m);
    assert.equal(read_tag(m, a, base + filled + 1), 2);
  });
}

test('munmap splits, frees page tables that nobody needs, and pays back', () => {
  const m = small_machine();
  const a = process(m);
  const before = global_page_state(m, NR_PAGETABLE);
  const base = 512 * 100;
  do_mmap(m, a.mm!, null, base, 2048, 3, FIXED);
  fill(m, a, base, 1, 1);
  fill(m, a, base + 600, 1, 2);
  fill(m, a, base + 2047, 1, 3);
  assert.equal(global_page_state(m, NR_PAGETABLE), before + 3);
  const promised = m.vm_committed_as;
  assert.equal(do_munmap(m, a.mm!, base + 512, 512), 0);
  assert.equal(layout(a, base), '0-512 rw, 1024-2048 rw');
  assert.equal(global_page_state(m, NR_PAGETABLE), before + 2);
  assert.equal(m.vm_committed_as, promised - 512);
  // A table that two areas share stays while one of them is there.
  assert.equal(do_munmap(m, a.mm!, base + 1024, 512 + 256), 0);
  assert.equal(global_page_state(m, NR_PAGETABLE), before + 2);
  assert.equal(do_munmap(m, a.mm!, base + 1792, 256), 0);
  assert.equal(global_page_state(m, NR_PAGETABLE), before + 1);
  assert.equal(a.mm!.rss_stat[MM_ANONPAGES], 2, 'one of three and the stack');
  assert.equal(do_munmap(m, a.mm!, base + 5000, 10), 0, 'nothing there is no error');
  assert.equal(do_munmap(m, a.mm!, base, 0), -EINVAL);
  debug_vm(m);
});

test('what a process took is free again after exit and exec', () => {
  const m = small_machine();
  // The first process makes slabs that stay.
  for (let round = 0; round < 3; round++) do_exit(m, process(m), 0);
  const free = (): number => {
    lru_add_drain_all(m);
    for (let cpu = 0; cpu < m.shape.nr_cpus; cpu++) m.kernel.drain_pages(m, cpu);
    return global_page_state(m, NR_FREE_PAGES);
  };
  const before = free();
  const promised = m.vm_committed_as;
  const a = process(m);
  fill(m, a, map_anon(m, a, 3000), 3000, 1);
  assert.equal(do_execve(m, a, 'next'), 0);
  assert.equal(a.comm, 'next');
  assert.equal(a.mm!.mmap.length, 1);
  const b = fork(m, a);
  do_exit(m, a, 0);
  assert.equal(b.ppid, 1);
  do_exit(m, b, 0);
  assert.equal(m.vm_committed_as, promised);
  assert.ok(before - free() <= 8, `${before - free()} pages are gone`);
});

test('brk grows and shrinks the heap, and stops at what is in the way', () => {
  const m = small_machine();
  const a = process(m);
  const mm = a.mm!;
  const start = mm.start_brk;
  assert.equal(do_brk(m, mm, start + 10), start + 10);
  fill(m, a, start, 10, 1);
  assert.equal(do_brk(m, mm, start + 20), start + 20);
  assert.equal(layout(a, start), '0-20 rw');
  assert.equal(do_brk(m, mm, start + 5), start + 5);
  assert.equal(mm.rss_stat[MM_ANONPAGES], 6);
  assert.equal(do_brk(m, mm, start - 1), start + 5);
  do_mmap(m, mm, null, start + 30, 1, 3, FIXED);
  assert.equal(do_brk(m, mm, start + 30), start + 5, 'a page behind the heap stays free');
  assert.equal(do_brk(m, mm, start + 29), start + 29);
});

test('access: no area, no permission, a stack that grows, one that may not', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 1, 1);
  assert.equal(access_page(m, a, 0x500, false), -EFAULT);
  assert.equal(write_tag(m, a, vpn, 1), -EFAULT);
  assert.equal(access_page(m, a, vpn, false), 0);
  assert.equal(do_mprotect(m, a.mm!, vpn, 1, 0), 0);
  assert.equal(access_page(m, a, vpn, false), -EFAULT);
  const stack = a.mm!.mmap.at(-1)!;
  const below = stack.vm_start - 100;
  assert.equal(write_tag(m, a, below, 3), 0);
  assert.equal(stack.vm_start, below);
  assert.equal(write_tag(m, a, TASK_SIZE_PAGES - 2049, 3), -EFAULT, 'more than 8 MiB');
  assert.equal(read_tag(m, a, below), 3);
  debug_vm(m);
});

test('madvise: DONTNEED gives zeroes, DONTFORK hides, MERGEABLE and RANDOM are flags', () => {
  const m = small_machine();
  const a = process(m);
  const vpn = map_anon(m, a, 8);
  fill(m, a, vpn, 8, 1);
  assert.equal(do_madvise(m, a.mm!, vpn + 2, 2, MADV_DONTNEED), 0);
  assert.equal(a.mm!.rss_stat[MM_ANONPAGES], 7);
  assert.equal(read_tag(m, a, vpn + 2), 0);
  assert.equal(read_tag(m, a, vpn + 4), 5);
  assert.equal(do_madvise(m, a.mm!, vpn, 1, MADV_DONTFORK), 0);
  assert.equal(do_madvise(m, a.mm!, vpn + 7, 1, MADV_MERGEABLE), 0);
  assert.equal(do_madvise(m, a.mm!, vpn + 6, 1, MADV_RANDOM), 0);
  assert.equal(layout(a, vpn), '0-1 rw, 1-6 rw, 6-7 rw, 7-8 rw');
  assert.notEqual(a.mm!.mmap[3]!.vm_flags & VM_MERGEABLE, 0);
  const child = fork(m, a);
  assert.equal(read_tag(m, child, vpn), -EFAULT);
  assert.equal(read_tag(m, child, vpn + 1), 2);
  assert.equal(child.mm!.total_vm, a.mm!.total_vm - 1);
  assert.equal(do_madvise(m, a.mm!, vpn + 4, 8, MADV_DONTNEED), -ENOMEM, 'a hole');
  assert.equal(do_madvise(m, a.mm!, vpn, 1, 99), -EINVAL);
});

test('overcommit: the guess refuses what cannot be, mode 2 counts, mode 1 never refuses', () => {
  const m = small_machine();
  const a = process(m);
  const pages = m.totalram_pages;
  assert.equal(do_mmap(m, a.mm!, null, 0, 2 * pages, 3, ANON), -ENOMEM);
  m.sysctl['overcommit_memory'] = 2;
  m.sysctl['overcommit_ratio'] = 50;
  assert.equal(do_mmap(m, a.mm!, null, 0, pages, 3, ANON), -ENOMEM);
  const promised = m.vm_committed_as;
  m.sysctl['overcommit_memory'] = 1;
  assert.ok(do_mmap(m, a.mm!, null, 0, 2 * pages, 3, ANON) > 0);
  assert.equal(m.vm_committed_as, promised + 2 * pages);
});

test('memory policy: pages of a bound area come from its node', () => {
  const m = small_machine({ memory: 256 * MIB, nodes: 2, cpus: 2 });
  const a = process(m);
  const vpn = map_anon(m, a, 40);
  assert.equal(do_mbind(m, a.mm!, vpn + 10, 10, MPOL_BIND, 1), 0);
  assert.equal(do_mbind(m, a.mm!, vpn, 1, MPOL_BIND, 2), -EINVAL);
  fill(m, a, vpn, 40, 1);
  for (let i = 0; i < 40; i++) {
    const nid = i >= 10 && i < 20 ? 1 : 0;
    assert.equal(page_zone(m, frame(a, vpn + i)).nid, nid, `page ${i}`);
  }
  a.mm!.policy = MPOL_BIND;
  a.mm!.policy_nid = 1;
  const more = map_anon(m, a, 4, 1);
  do_mprotect(m, a.mm!, more, 4, 3);
  fill(m, a, more, 4, 1);
  assert.equal(page_zone(m, frame(a, more)).nid, 1);
  debug_vm(m);
});

/** A machine with a file of `pages` pages whose first bytes are their index. */
function machine_with_file(pages: number): { m: Machine; file: OpenFile; node: Vnode } {
  const m = small_machine({ disk: new MemoryBlockDevice(16 * MIB) });
  const who = { uid: 0, gid: 0, pid: 0 };
  const node = disk_root(m).create('data', 0o644, who);
  assert.ok(node instanceof Vnode);
  const file = node.open(O_RDWR, who);
  assert.ok(typeof file !== 'number');
  for (let i = 0; i < pages; i++) {
    assert.equal(file.write(new Uint8Array(4096).fill(i + 1), i * 4096), 4096);
  }
  return { m, file, node };
}

const first_byte = (m: Machine, pfn: number): number => {
  const buf = new Uint8Array(1);
  m.contents.read_page(pfn, 0, buf, 0, 1);
  return buf[0]!;
};

test('mapped files: shared pages are those of the cache, private ones are copied', () => {
  const { m, file } = machine_with_file(20);
  const opened = open_for_map(m, '/disk/data', true);
  assert.ok(typeof opened !== 'number');
  assert.equal(open_for_map(m, '/nothing', false), -2);
  const a = process(m);
  const shared = do_mmap(m, a.mm!, opened, 0, 30, 3, MAP_SHARED, 2);
  const private_ = do_mmap(m, a.mm!, opened, 0, 30, 3, MAP_PRIVATE, 2);
  assert.equal(access_page(m, a, shared + 3, false), 0);
  assert.equal(access_page(m, a, private_ + 3, false), 0);
  const cached = frame(a, shared + 3);
  assert.equal(frame(a, private_ + 3), cached);
  assert.equal(first_byte(m, cached), 6);
  assert.equal(m.memmap._mapcount[cached], 2);
  assert.equal(a.mm!.rss_stat[MM_FILEPAGES], 2);
  assert.equal(access_page(m, a, private_ + 3, true), 0);
  const copy = frame(a, private_ + 3);
  assert.notEqual(copy, cached);
  assert.equal(first_byte(m, copy), 6);
  assert.deepEqual([...a.mm!.rss_stat], [1, 2, 0]);
  assert.equal(access_page(m, a, private_ + 5, true), 0, 'a write at once');
  assert.equal(access_page(m, a, shared + 18, false), -EIO, 'behind the end of the file');
  assert.equal(access_page(m, a, shared + 4, true), 0);
  assert.equal(
    frame(a, shared + 4) > 0 && (m.memmap.flags[frame(a, shared + 4)]! & 16) !== 0,
    true,
  );
  // What fork does not copy comes back by faults.
  const child = fork(m, a);
  assert.ok(!pte_present(get_pte(child.mm!, shared + 3)));
  assert.equal(access_page(m, child, shared + 3, false), 0);
  assert.equal(frame(child, shared + 3), cached);
  assert.equal(frame(child, private_ + 3), copy);
  debug_vm(m);
  do_exit(m, a, 0);
  do_exit(m, child, 0);
  assert.equal(opened.f_count, 0);
  assert.equal(m.memmap._mapcount[cached], 0);
  file.release();
  debug_vm(m);
});

test('a file that is cut off takes its pages out of all processes, private copies too', () => {
  const { m, file, node } = machine_with_file(8);
  const opened = open_for_map(m, '/data', false);
  assert.ok(typeof opened !== 'number');
  const a = process(m);
  const vpn = do_mmap(m, a.mm!, opened, 0, 8, 3, MAP_PRIVATE);
  for (let i = 0; i < 8; i++) assert.equal(access_page(m, a, vpn + i, i % 2 === 0), 0);
  assert.equal(node.setattr({ size: 4096 * 3 }, { uid: 0, gid: 0, pid: 0 }), 0);
  assert.deepEqual([...a.mm!.rss_stat], [1, 3, 0]);
  assert.equal(access_page(m, a, vpn + 4, false), -EIO);
  assert.equal(access_page(m, a, vpn + 2, false), 0);
  debug_vm(m);
  // The mapping keeps an unlinked file.
  assert.equal(disk_root(m).unlink('data'), 0);
  file.release();
  assert.equal(do_madvise(m, a.mm!, vpn, 8, MADV_DONTNEED), 0);
  assert.equal(access_page(m, a, vpn + 1, false), 0);
  assert.equal(first_byte(m, frame(a, vpn + 1)), 2);
  do_exit(m, a, 0);
  debug_vm(m);
});
