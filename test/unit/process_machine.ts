/**
 * Helpers of the tests about processes: small machines, anonymous areas, migrating single pages,
 * and a naive oracle of the reverse mapping.
 */
import assert from 'node:assert/strict';
import { migrate_pages } from '../../src/kernels/linux-2.6.35/migrate.ts';
import {
  MIGRATE_SYNC,
  migrate_pages as migrate_pages_6_1,
  putback_movable_pages,
} from '../../src/kernels/linux-6.1/migrate.ts';
import { run_job } from '../../src/lib/kthread.ts';
import { list_add_tail } from '../../src/lib/list.ts';
import { boot, type MachineConfig } from '../../src/machine.ts';
import { create_process, do_fork } from '../../src/mm/fork.ts';
import { GFP_HIGHUSER_MOVABLE } from '../../src/mm/gfp.ts';
import { isolate_lru_page, lru_add_drain_all } from '../../src/mm/lru.ts';
import { write_tag } from '../../src/mm/memory.ts';
import type { Task, vpn_t } from '../../src/mm/mm_types.ts';
import { do_mmap, MAP_ANONYMOUS, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import { type Machine, page_zone } from '../../src/mm/mmzone.ts';
import { get_pte, pte_pfn, pte_present } from '../../src/mm/page_table.ts';
import { NR_ISOLATED_ANON, NR_ISOLATED_FILE } from '../../src/mm/vmstat.ts';

export const MIB = 2 ** 20;

/** A machine of 64 MiB with one CPU, unless told otherwise. */
export function small_machine(config: MachineConfig = {}): Machine {
  return boot({ memory: 64 * MIB, ...config });
}

/** A new process. */
export function process(m: Machine, comm = 'test'): Task {
  const task = create_process(m, comm);
  assert.ok(typeof task !== 'number', `create_process: ${task}`);
  return task;
}

export function fork(m: Machine, parent: Task): Task {
  const task = do_fork(m, parent);
  assert.ok(typeof task !== 'number', `do_fork: ${task}`);
  return task;
}

/** Maps `pages` of private anonymous memory, read and write. */
export function map_anon(m: Machine, task: Task, pages: number, prot = 3): vpn_t {
  const vpn = do_mmap(m, task.mm!, null, 0, pages, prot, MAP_PRIVATE | MAP_ANONYMOUS);
  assert.ok(vpn > 0, `do_mmap: ${vpn}`);
  return vpn;
}

/** Writes tag `first + i` to the i-th of `pages` pages. */
export function fill(m: Machine, task: Task, vpn: vpn_t, pages: number, first: number): void {
  for (let i = 0; i < pages; i++) assert.equal(write_tag(m, task, vpn + i, first + i), 0);
}

/** The frame that a task's page is in. */
export function frame(task: Task, vpn: vpn_t): number {
  const pte = get_pte(task.mm!, vpn);
  assert.ok(pte_present(pte), 'no page is present');
  return pte_pfn(pte);
}

/** Takes pages off their LRU lists and migrates them; what migrate_pages returned. */
export function migrate(m: Machine, pfns: number[], offlining = false): number {
  const p = m.memmap;
  const head = m.list_heads.take();
  lru_add_drain_all(m);
  for (const pfn of pfns) {
    assert.equal(isolate_lru_page(m, pfn), 0, 'isolate_lru_page');
    // isolate_lru_page holds a reference beside those of the page's users.
    const item = (p.flags[pfn]! & (1 << 20)) !== 0 ? NR_ISOLATED_ANON : NR_ISOLATED_FILE;
    page_zone(m, pfn).vm_stat[item]!++;
    list_add_tail(p, pfn, head);
  }
  if (m.kernel.name === '6.1') {
    const { err } = migrate_pages_6_1(
      m,
      head,
      () => m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0),
      (_, __, pfn) => m.kernel.__free_pages(m, pfn, 0),
      null,
      MIGRATE_SYNC,
    );
    putback_movable_pages(m, head);
    m.list_heads.give_back(head);
    return err;
  }
  const rc = run_job(
    migrate_pages(m, head, () => m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0), null, offlining),
  );
  m.list_heads.give_back(head);
  return rc;
}

/** Who maps each frame, by looking at every pte of every process: "pid:vpn", sorted. */
export function mappings_by_frame(m: Machine): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const task of m.tasks.values()) {
    for (const vma of task.mm!.mmap) {
      for (let vpn = vma.vm_start; vpn < vma.vm_end; vpn++) {
        const pte = get_pte(task.mm!, vpn);
        if (!pte_present(pte) || pte_pfn(pte) === m.zero_pfn) continue;
        const list = found.get(pte_pfn(pte)) ?? [];
        list.push(`${task.pid}:${vpn}`);
        found.set(pte_pfn(pte), list);
      }
    }
  }
  for (const list of found.values()) list.sort();
  return found;
}
