/** Words of page tables, and which tables exist. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelBug } from '../../src/lib/bug.ts';
import { Prng } from '../../src/lib/prng.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { do_exit } from '../../src/mm/fork.ts';
import { write_tag } from '../../src/mm/memory.ts';
import type { Task } from '../../src/mm/mm_types.ts';
import { do_mmap, do_munmap, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import {
  is_migration_entry,
  is_swap_pte,
  is_write_migration_entry,
  make_migration_entry,
  make_migration_entry_read,
  mk_pte,
  next_mapped,
  type PageTable,
  pte_mkdirty,
  pte_mkold,
  pte_mkwrite,
  pte_pfn,
  pte_present,
  pte_to_swp_entry,
  pte_write,
  pte_young,
  swp_entry,
  swp_entry_to_pte,
  swp_offset,
  swp_type,
} from '../../src/mm/page_table.ts';
import { global_page_state, NR_PAGETABLE } from '../../src/mm/vmstat.ts';
import { process, small_machine } from './process_machine.ts';

test('ptes hold frames of 28 bits beside their flags', () => {
  for (const pfn of [1, 4095, 0x8000000, 2 ** 28 - 1]) {
    const pte = pte_mkdirty(pte_mkwrite(pte_mkold(mk_pte(pfn))));
    assert.equal(pte | 0, pte, 'a word of 32 bits');
    assert.equal(pte_pfn(pte), pfn);
    assert.ok(pte_present(pte) && pte_write(pte) && !pte_young(pte) && !is_swap_pte(pte));
  }
  assert.throws(() => mk_pte(2 ** 28), KernelBug);
});

test('swap and migration entries survive the way through a pte', () => {
  for (const offset of [1, 77, 2 ** 28 - 1]) {
    for (let type = 0; type < 6; type++) {
      const pte = swp_entry_to_pte(swp_entry(type, offset)) | 0;
      assert.ok(is_swap_pte(pte) && !pte_present(pte));
      const entry = pte_to_swp_entry(pte);
      assert.deepEqual([swp_type(entry), swp_offset(entry)], [type, offset]);
      assert.ok(!is_migration_entry(entry) && entry > 0);
    }
    for (const write of [true, false]) {
      const pte = swp_entry_to_pte(make_migration_entry(offset, write)) | 0;
      const entry = pte_to_swp_entry(pte);
      assert.ok(is_swap_pte(pte) && is_migration_entry(entry));
      assert.equal(is_write_migration_entry(entry), write);
      assert.equal(swp_offset(entry), offset);
      const read = make_migration_entry_read(entry);
      assert.ok(is_migration_entry(read) && !is_write_migration_entry(read));
      assert.equal(swp_offset(read), offset);
    }
  }
});

/** All tables below the top: [first page, pages, is a pte page]. */
function tables_of(task: Task): [number, number, boolean][] {
  const found: [number, number, boolean][] = [];
  const walk = (table: PageTable, first: number, span: number): void => {
    table.tables!.forEach((lower, i) => {
      if (lower === null) return;
      found.push([first + i * span, span, lower.ptes !== null]);
      if (lower.tables !== null) walk(lower, first + i * span, span / 512);
    });
  };
  walk(task.mm!.pgd!, 0, 2 ** 27);
  return found;
}

test('a table exists only where an area lies, and at least where a page is', () => {
  const seed = Number(globalThis.process.env['SEED'] ?? 4);
  const prng = new Prng(seed);
  const m = small_machine();
  m.sysctl['overcommit_memory'] = 1;
  const task = process(m);
  const used = new Set<number>();
  // Places in one table, in one pmd, in one pud, and far from each other.
  const bases = [0x10000, 0x10100, 0x10200, 0x40000 + 511, 0x8000000 - 3, 0x8000000 + 2 ** 18, 1];
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  for (let i = 0; i < 1500; i++) {
    const start = bases[prng.below(bases.length)]! + prng.below(600);
    const len = prng.chance(1, 4) ? prng.range(1, 800000) : prng.range(1, 400);
    if (prng.chance(1, 2)) {
      assert.equal(do_mmap(m, task.mm!, null, start, len, 3, flags), start);
      for (const vpn of used) if (vpn >= start && vpn < start + len) used.delete(vpn);
      for (let k = 0; k < 4; k++) {
        const vpn = start + prng.below(len);
        assert.equal(write_tag(m, task, vpn, 1), 0);
        used.add(vpn);
      }
    } else {
      assert.equal(do_munmap(m, task.mm!, start, len), 0);
      for (const vpn of used) if (vpn >= start && vpn < start + len) used.delete(vpn);
    }
    const tables = tables_of(task);
    for (const [first, span] of tables) {
      const covered = task.mm!.mmap.some((v) => v.vm_start < first + span && v.vm_end > first);
      assert.ok(covered, `SEED=${seed}, step ${i}: a table at ${first} serves no area`);
    }
    const pte_pages = new Set(tables.filter((t) => t[2]).map((t) => t[0]));
    for (const vpn of used) {
      assert.ok(pte_pages.has(vpn - (vpn % 512)));
      assert.equal(next_mapped(task.mm!, vpn, vpn + 1), vpn);
    }
    assert.equal(task.mm!.nr_ptes, pte_pages.size);
    if (i % 300 === 0) debug_vm(m);
  }
  do_exit(m, task, 0);
  assert.equal(global_page_state(m, NR_PAGETABLE), 0);
});
