/**
 * Page tables: four levels of 512 entries, as on x86-64; pgd, pud, pmd and pte pages are real
 * frames (GFP_KERNEL, zeroed, unmovable). Only pte pages count as NR_PAGETABLE.
 *
 * A pte is one 32-bit word: four flag bits and 28 bits of pfn (up to 1 TiB of 4 KiB frames), or 0,
 * or, with bit 0 clear, a swap entry << 1. A swap entry is type << 28 | offset; types 6 and 7 are
 * migration entries, read and write, whose offset is the old frame. Every address space keeps the
 * pte page that it walked last, so that walking neighbours costs one compare.
 * Linux: arch/x86/include/asm/pgtable*.h, arch/x86/mm/pgtable.c, include/linux/swapops.h, memory.c.
 * Differs: the same tables for every architecture; PROT_NONE is a matter of the area, not of ptes.
 */
import { BUG_ON } from '../lib/bug.ts';
import { __GFP_REPEAT, __GFP_ZERO, GFP_KERNEL } from './gfp.ts';
import type { MmStruct, vpn_t } from './mm_types.ts';
import { type Machine, page_zone } from './mmzone.ts';
import type { pfn_t } from './page.ts';
import { mod_zone_page_state, NR_PAGETABLE } from './vmstat.ts';

export const _PAGE_PRESENT = 1;
export const _PAGE_RW = 2;
export const _PAGE_ACCESSED = 4;
export const _PAGE_DIRTY = 8;
const PTE_PFN_SHIFT = 4;

export const PTRS_PER_PTE = 512;
/** log2 of the pages under one entry of each upper level. */
export const PMD_SHIFT = 9;
export const PUD_SHIFT = 18;
export const PGDIR_SHIFT = 27;
const PTRS_PER_PGD = 16;

/** Mask of allocations for page tables: 0x84d0 (arch/x86/mm/pgtable.c: PGALLOC_GFP). */
export const PGALLOC_GFP = GFP_KERNEL | __GFP_REPEAT | __GFP_ZERO;

/** Number of swap areas; the types behind are migration entries (Linux: 30). */
export const MAX_SWAPFILES = 6;
export const SWP_MIGRATION_READ = 6;
export const SWP_MIGRATION_WRITE = 7;
const SWP_TYPE_SHIFT = 28;
const SWP_OFFSET_MASK = 0xfffffff;

/** One page of a page table; either ptes or lower tables. */
export class PageTable {
  readonly pfn: pfn_t;
  readonly ptes: Int32Array | null;
  readonly tables: (PageTable | null)[] | null;
  /** Lowest of the upper levels: entries that map a huge page, in words like ptes; null: none yet. */
  pmds: Int32Array | null = null;
  /** pte pages kept for when these huge pages are split (page->pmd_huge_pte), next one first. */
  deposits: PageTable[] | null = null;
  /** A pmd page: ptes of hugetlb pages beside the pointers, made with the first. */
  huge: Int32Array | null = null;

  constructor(pfn: pfn_t, ptes: Int32Array | null, tables: (PageTable | null)[] | null) {
    this.pfn = pfn;
    this.ptes = ptes;
    this.tables = tables;
  }
}

// Words of a pte page, by Linux's names. All of them are signed 32-bit integers.
export const pte_none = (pte: number): boolean => pte === 0;
export const pte_present = (pte: number): boolean => (pte & _PAGE_PRESENT) !== 0;
export const pte_write = (pte: number): boolean => (pte & _PAGE_RW) !== 0;
export const pte_young = (pte: number): boolean => (pte & _PAGE_ACCESSED) !== 0;
export const pte_dirty = (pte: number): boolean => (pte & _PAGE_DIRTY) !== 0;
export const pte_pfn = (pte: number): pfn_t => pte >>> PTE_PFN_SHIFT;
export const pte_mkwrite = (pte: number): number => pte | _PAGE_RW;
export const pte_wrprotect = (pte: number): number => pte & ~_PAGE_RW;
export const pte_mkyoung = (pte: number): number => pte | _PAGE_ACCESSED;
export const pte_mkold = (pte: number): number => pte & ~_PAGE_ACCESSED;
export const pte_mkdirty = (pte: number): number => pte | _PAGE_DIRTY;
export const pte_mkclean = (pte: number): number => pte & ~_PAGE_DIRTY;
/** Neither empty nor present: a swap or migration entry (swapops.h). */
export const is_swap_pte = (pte: number): boolean => pte !== 0 && (pte & _PAGE_PRESENT) === 0;

/**
 * A present, young pte without write permission: what PAGE_COPY and PAGE_READONLY give on x86;
 * callers add _PAGE_RW (mk_pte). VM_SHARED areas get it by maybe_mkwrite too.
 */
export function mk_pte(pfn: pfn_t): number {
  BUG_ON(pfn >>> 28 !== 0, 'mk_pte: frames beyond 2^28 do not fit into a pte');
  return (pfn << PTE_PFN_SHIFT) | _PAGE_PRESENT | _PAGE_ACCESSED;
}

/** A swap entry: never 0, because slot 0 of an area is its header. */
export const swp_entry = (type: number, offset: number): number =>
  (type << SWP_TYPE_SHIFT) | offset;
export const swp_type = (entry: number): number => entry >>> SWP_TYPE_SHIFT;
export const swp_offset = (entry: number): number => entry & SWP_OFFSET_MASK;
export const pte_to_swp_entry = (pte: number): number => pte >>> 1;
export const swp_entry_to_pte = (entry: number): number => entry << 1;

export function make_migration_entry(pfn: pfn_t, write: boolean): number {
  return swp_entry(write ? SWP_MIGRATION_WRITE : SWP_MIGRATION_READ, pfn);
}
export const is_migration_entry = (entry: number): boolean => swp_type(entry) >= SWP_MIGRATION_READ;
export const is_write_migration_entry = (entry: number): boolean =>
  swp_type(entry) === SWP_MIGRATION_WRITE;
/** Turns the write flavour into the read flavour (swapops.h: make_migration_entry_read). */
export const make_migration_entry_read = (entry: number): number =>
  swp_entry(SWP_MIGRATION_READ, swp_offset(entry));

function alloc_table(m: Machine, entries: number, ptes: boolean): PageTable | null {
  const pfn = m.kernel.alloc_pages(m, PGALLOC_GFP, 0);
  if (pfn < 0) return null;
  if (ptes) return new PageTable(pfn, new Int32Array(entries), null);
  return new PageTable(pfn, null, new Array<PageTable | null>(entries).fill(null));
}

/** The top level of a new address space; false without memory (arch/x86/mm/pgtable.c). */
export function pgd_alloc(m: Machine, mm: MmStruct): boolean {
  mm.pgd = alloc_table(m, PTRS_PER_PGD, false);
  return mm.pgd !== null;
}

export function pgd_free(m: Machine, mm: MmStruct): void {
  m.kernel.__free_pages(m, mm.pgd!.pfn, 0);
  mm.pgd = null;
  mm.last_table = null;
  mm.last_table_index = -1;
}

/** The table with the entry for the 512 pages around `vpn`, or null when there is none. */
export function pmd_table(mm: MmStruct, vpn: vpn_t): PageTable | null {
  if (mm.pgd === null) return null;
  const pud = mm.pgd.tables![vpn >>> PGDIR_SHIFT]!;
  return pud === null ? null : pud.tables![(vpn >>> PUD_SHIFT) & 511]!;
}

/** That table, made when missing; null without memory (memory.c: pud_alloc, pmd_alloc). */
export function pmd_alloc(m: Machine, mm: MmStruct, vpn: vpn_t): PageTable | null {
  const pud = (mm.pgd!.tables![vpn >>> PGDIR_SHIFT] ??= alloc_table(m, 512, false));
  if (pud === null) return null;
  return (pud.tables![(vpn >>> PUD_SHIFT) & 511] ??= alloc_table(m, 512, false));
}

/** The word that maps the 512 pages around `vpn` to a huge page; 0 when none does. */
export function pmd_huge(mm: MmStruct, vpn: vpn_t): number {
  const pmd = pmd_table(mm, vpn);
  return pmd === null || pmd.pmds === null ? 0 : pmd.pmds[(vpn >>> PMD_SHIFT) & 511]!;
}

/** Sets or clears that word. Precondition: the table is there, and no pte page in its place. */
export function set_pmd(mm: MmStruct, vpn: vpn_t, word: number): void {
  const pmd = pmd_table(mm, vpn)!;
  const index = (vpn >>> PMD_SHIFT) & 511;
  BUG_ON(pmd.tables![index] !== null, 'set_pmd: a pte page is there');
  pmd.pmds ??= new Int32Array(512);
  pmd.pmds[index] = word;
}

/** A pte page that is in no page table yet, or null without memory (pgalloc.h: pte_alloc_one). */
export function pte_alloc_one(m: Machine): PageTable | null {
  const table = alloc_table(m, PTRS_PER_PTE, true);
  if (table !== null) mod_zone_page_state(page_zone(m, table.pfn), NR_PAGETABLE, 1);
  return table;
}

/** Frees a pte page that is in no page table (pgalloc.h: pte_free). */
export function pte_free(m: Machine, table: PageTable): void {
  mod_zone_page_state(page_zone(m, table.pfn), NR_PAGETABLE, -1);
  m.kernel.__free_pages(m, table.pfn, 0);
}

/** Puts a pte page, or takes it off: the cached last walk must not see the old one. */
export function pmd_populate(mm: MmStruct, vpn: vpn_t, table: PageTable | null): void {
  pmd_table(mm, vpn)!.tables![(vpn >>> PMD_SHIFT) & 511] = table;
  mm.last_table = null;
  mm.last_table_index = -1;
}

/**
 * Keeps a pte page for the split of a huge page below this table. The one kept last is taken first,
 * then those before it from the oldest on: a ring whose entry moves (pgtable-generic.c).
 */
export function pgtable_trans_huge_deposit(mm: MmStruct, vpn: vpn_t, table: PageTable): void {
  const ring = (pmd_table(mm, vpn)!.deposits ??= []);
  if (ring.length > 0) {
    ring.push(ring[0]!);
    ring[0] = table;
  } else ring.push(table);
}

/** Takes a kept pte page back: all its entries are empty (pgtable-generic.c). */
export function pgtable_trans_huge_withdraw(mm: MmStruct, vpn: vpn_t): PageTable {
  const table = pmd_table(mm, vpn)!.deposits?.shift();
  BUG_ON(table === undefined, 'pgtable_trans_huge_withdraw: none was kept');
  return table!;
}

/** The pte page that covers `vpn`, or null: there is none, or a huge page is mapped there. */
export function pte_table(mm: MmStruct, vpn: vpn_t): PageTable | null {
  const index = vpn >>> PMD_SHIFT;
  if (index === mm.last_table_index) return mm.last_table;
  if (mm.pgd === null) return null;
  const pud = mm.pgd.tables![vpn >>> PGDIR_SHIFT]!;
  if (pud === null) return null;
  const pmd = pud.tables![(vpn >>> PUD_SHIFT) & 511]!;
  if (pmd === null) return null;
  const table = pmd.tables![index & 511]!;
  if (table === null) return null;
  mm.last_table = table;
  mm.last_table_index = index;
  return table;
}

/**
 * The pte page that covers `vpn`, made with its upper levels when missing; null without memory
 * (memory.c: pud_alloc, pmd_alloc, pte_alloc_map).
 */
export function pte_alloc(m: Machine, mm: MmStruct, vpn: vpn_t): PageTable | null {
  const present = pte_table(mm, vpn);
  if (present !== null) return present;
  const pmd = pmd_alloc(m, mm, vpn);
  if (pmd === null) return null;
  BUG_ON(pmd_huge(mm, vpn) !== 0, 'pte_alloc: a huge page is mapped there');
  const table = pte_alloc_one(m);
  if (table === null) return null;
  mm.nr_ptes++;
  pmd.tables![(vpn >>> PMD_SHIFT) & 511] = table;
  mm.last_table = table;
  mm.last_table_index = vpn >>> PMD_SHIFT;
  return table;
}

/** The pte at `vpn`, 0 where no table is. For a part of a huge page: what its pte would be. */
export function get_pte(mm: MmStruct, vpn: vpn_t): number {
  const table = pte_table(mm, vpn);
  if (table !== null) return table.ptes![vpn & 511]!;
  const pmd = pmd_huge(mm, vpn);
  return pmd === 0 ? 0 : (pmd + ((vpn & 511) << PTE_PFN_SHIFT)) | 0;
}

// Huge pages of 2^order pages; `vpn` is the first one's. Up to 2^8 pages are one pte of a pte page,
// larger ones an entry of a pmd page: their first one, where they have several.

/** Makes the tables for a huge pte: false without memory. */
export function huge_pte_alloc(m: Machine, mm: MmStruct, vpn: vpn_t, order: number): boolean {
  if (order < PMD_SHIFT) return pte_alloc(m, mm, vpn) !== null;
  const pmd = pmd_alloc(m, mm, vpn);
  if (pmd === null) return false;
  pmd.huge ??= new Int32Array(512);
  return true;
}

/** The huge pte of the page at `vpn`, 0 where none is. */
export function huge_pte_get(mm: MmStruct, vpn: vpn_t, order: number): number {
  if (order < PMD_SHIFT) return get_pte(mm, vpn);
  return pmd_table(mm, vpn)?.huge?.[(vpn >>> PMD_SHIFT) & 511] ?? 0;
}

/** Overwrites it. Precondition: huge_pte_alloc. */
export function huge_pte_set(mm: MmStruct, vpn: vpn_t, order: number, pte: number): void {
  if (order < PMD_SHIFT) set_pte(mm, vpn, pte);
  else pmd_table(mm, vpn)!.huge![(vpn >>> PMD_SHIFT) & 511] = pte;
}

/** Overwrites the pte at `vpn`. Precondition: its table exists. */
export function set_pte(mm: MmStruct, vpn: vpn_t, pte: number): void {
  const table = pte_table(mm, vpn);
  BUG_ON(table === null, 'set_pte: no page table');
  table!.ptes![vpn & 511] = pte;
}

/**
 * The first vpn >= `vpn` and < `end` that a pte page or a huge page covers, or `end`: skips holes of
 * the upper levels without looking at each page.
 */
export function next_mapped(mm: MmStruct, vpn: vpn_t, end: vpn_t): vpn_t {
  while (vpn < end) {
    const pud = mm.pgd === null ? null : mm.pgd.tables![vpn >>> PGDIR_SHIFT]!;
    if (pud === null) {
      vpn = ((vpn >>> PGDIR_SHIFT) + 1) * 2 ** PGDIR_SHIFT;
      continue;
    }
    const pmd = pud.tables![(vpn >>> PUD_SHIFT) & 511]!;
    if (pmd === null) {
      vpn = ((vpn >>> PUD_SHIFT) + 1) * 2 ** PUD_SHIFT;
      continue;
    }
    const index = (vpn >>> PMD_SHIFT) & 511;
    if (pmd.tables![index]! !== null || (pmd.pmds !== null && pmd.pmds[index] !== 0)) return vpn;
    vpn = ((vpn >>> PMD_SHIFT) + 1) * 2 ** PMD_SHIFT;
  }
  return end;
}

/** What takes page table pages that are no longer needed (tlb.ts: MmuGather). */
export interface TableSink {
  tlb_remove_page(m: Machine, pfn: pfn_t): void;
}

/**
 * Frees the tables that serve only [addr, end): those whose whole span lies within [floor, ceiling),
 * the room between the neighbour areas (memory.c: free_pgd_range, free_pud_range, free_pmd_range,
 * free_pte_range). Lower levels go first, as there.
 */
export function free_pgd_range(
  m: Machine,
  tlb: TableSink,
  mm: MmStruct,
  addr: vpn_t,
  end: vpn_t,
  floor: vpn_t,
  ceiling: vpn_t,
): void {
  mm.last_table = null;
  mm.last_table_index = -1;
  const pgd = mm.pgd!.tables!;
  const first = Math.floor(addr / (1 << PMD_SHIFT));
  const last = Math.floor((end - 1) / (1 << PMD_SHIFT));
  for (let i = first; i <= last; ) {
    const vpn = i * 2 ** PMD_SHIFT;
    const pud = pgd[vpn >>> PGDIR_SHIFT]!;
    if (pud === null) {
      i = ((vpn >>> PGDIR_SHIFT) + 1) * 2 ** (PGDIR_SHIFT - PMD_SHIFT);
      continue;
    }
    const pmd = pud.tables![(vpn >>> PUD_SHIFT) & 511]!;
    if (pmd !== null) {
      free_pte_page(m, tlb, mm, pmd, vpn, floor, ceiling);
      // The last pte page below this pmd: the pmd page itself may go now.
      if (i === last || (i & 511) === 511) {
        const start = (vpn >>> PUD_SHIFT) * 2 ** PUD_SHIFT;
        if (start >= floor && start + (1 << PUD_SHIFT) <= ceiling) {
          BUG_ON((pmd.deposits?.length ?? 0) > 0, 'free_pgd_range: a huge page is mapped');
          pud.tables![(vpn >>> PUD_SHIFT) & 511] = null;
          tlb.tlb_remove_page(m, pmd.pfn);
        }
      }
    }
    if (i === last || vpn >>> PGDIR_SHIFT !== (vpn + 512) >>> PGDIR_SHIFT) {
      const start = (vpn >>> PGDIR_SHIFT) * 2 ** PGDIR_SHIFT;
      if (start >= floor && start + (1 << PGDIR_SHIFT) <= ceiling) {
        pgd[vpn >>> PGDIR_SHIFT] = null;
        tlb.tlb_remove_page(m, pud.pfn);
      }
    }
    i++;
  }
}

function free_pte_page(
  m: Machine,
  tlb: TableSink,
  mm: MmStruct,
  pmd: PageTable,
  vpn: vpn_t,
  floor: vpn_t,
  ceiling: vpn_t,
): void {
  const table = pmd.tables![(vpn >>> PMD_SHIFT) & 511]!;
  if (table === null || vpn < floor || vpn + 512 > ceiling) return;
  pmd.tables![(vpn >>> PMD_SHIFT) & 511] = null;
  mod_zone_page_state(page_zone(m, table.pfn), NR_PAGETABLE, -1);
  mm.nr_ptes--;
  tlb.tlb_remove_page(m, table.pfn);
}
