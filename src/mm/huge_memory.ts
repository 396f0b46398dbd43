/**
 * Transparent huge pages, the half that never decides: mapping 512 pages with one entry of the upper
 * page table, taking that mapping apart, and taking the page apart.
 *
 * A huge page is a compound block on the LRU lists. Entries that map it whole are counted in its second
 * tail page, ptes that map a part are counted in that part. Every whole mapping keeps a pte page in
 * store, so that splitting it needs no memory. A page that is split becomes 512 single ones, and those
 * that nobody maps are freed at once.
 * Linux: mm/huge_memory.c of 6.1, and from mm/rmap.c what is for huge pages. Differs: splitting a page
 * does not go through migration entries, since nothing can touch its ptes meanwhile.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EAGAIN, EBUSY, ENOMEM } from '../lib/errno.ts';
import { list_add_tail } from '../lib/list.ts';
import { deferred_split_huge_page, undo_deferred_split } from './deferred_split.ts';
import { add_page_to_unevictable_list, lru_cache_add_lru, put_page } from './lru.ts';
import {
  linear_page_index,
  MM_ANONPAGES,
  type MmStruct,
  VM_LOCKED,
  VM_SPECIAL,
  type VmArea,
  type vpn_t,
} from './mm_types.ts';
import { LRU_ACTIVE_ANON, type Machine, page_zone } from './mmzone.ts';
import {
  compound_mapcount,
  get_page,
  type Memmap,
  PAGE_MAPPING_ANON,
  PageLocked,
  PageLRU,
  PageMlocked,
  PageSwapCache,
  PageWriteback,
  page_count,
  type pfn_t,
  SetPageFlag,
  total_mapcount,
  trylock_page,
  unlock_page,
} from './page.ts';
import {
  PG_active,
  PG_anon_exclusive,
  PG_dirty,
  PG_head,
  PG_locked,
  PG_lru,
  PG_mlocked,
  PG_referenced,
  PG_swapbacked,
  PG_swapcache,
  PG_unevictable,
  PG_uptodate,
} from './page_flags.ts';
import {
  _PAGE_RW,
  mk_pte,
  PMD_SHIFT,
  PTRS_PER_PTE,
  pgtable_trans_huge_deposit,
  pgtable_trans_huge_withdraw,
  pmd_huge,
  pmd_populate,
  pte_alloc_one,
  pte_dirty,
  pte_free,
  pte_mkold,
  pte_pfn,
  pte_present,
  pte_table,
  pte_wrprotect,
  set_pmd,
} from './page_table.ts';
import { munlock_vma_page, page_lock_anon_vma } from './rmap.ts';
import type { MmuGather } from './tlb.ts';
import {
  count_vm_event,
  count_vm_events,
  mod_zone_page_state,
  NR_ANON_PAGES,
  NR_ANON_THPS,
  NR_MLOCK,
  THP_SPLIT_PAGE,
  THP_SPLIT_PAGE_FAILED,
  THP_SPLIT_PMD,
  UNEVICTABLE_PGMLOCKED,
} from './vmstat.ts';

export const HPAGE_PMD_ORDER = PMD_SHIFT;
export const HPAGE_PMD_NR = 2 ** HPAGE_PMD_ORDER;

/** What a kernel with transparent huge pages puts into its profile. */
export interface ThpOps {
  /** First touch of 512 aligned pages: VM_FAULT_*, with VM_FAULT_FALLBACK to map a small page. */
  create_huge_pmd(m: Machine, vma: VmArea, vpn: vpn_t, write: boolean): number;
  /** A write to a huge page without write permission: VM_FAULT_*, or split and VM_FAULT_FALLBACK. */
  wp_huge_pmd(m: Machine, vma: VmArea, vpn: vpn_t): number;
  /** Whether the area may get huge pages: smaps' THPeligible. */
  thp_eligible(m: Machine, vma: VmArea): boolean;
  /** A write to a pte of a part: whether the part may be written in place. */
  reuse_huge_part(m: Machine, vma: VmArea, pfn: pfn_t): boolean;
  /** An area that huge pages may be good for: khugepaged shall look at its process. */
  khugepaged_enter_vma(m: Machine, vma: VmArea, vm_flags: number): void;
  /** MADV_COLLAPSE of a part of an area: 0 or -errno. */
  madvise_collapse(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): number;
  khugepaged_fork(m: Machine, mm: MmStruct, oldmm: MmStruct): void;
  /** The last user of an address space goes: before its areas do, and after. */
  khugepaged_exit(m: Machine, mm: MmStruct): void;
  mm_put_huge_zero_page(m: Machine, mm: MmStruct): void;
}

/** Whether entries of the upper page table can map pages on this machine (x86-64 with 4 KiB pages). */
export function has_transparent_hugepage(m: Machine): boolean {
  return m.shape.pageblock_order === HPAGE_PMD_ORDER;
}

/** The first of the 512 pages around `vpn`. */
export const hpage_start = (vpn: vpn_t): vpn_t => vpn - (vpn & (HPAGE_PMD_NR - 1));

/** The frame of an entry is the huge page of zeroes, which nobody owns (huge_mm.h). */
export function is_huge_zero_pmd(m: Machine, pmd: number): boolean {
  return pte_pfn(pmd) === m.huge_zero_pfn;
}

// ---- rmap

/**
 * Adds the first mapping of a new huge page, as a whole, and puts it on its LRU list. (rmap.c:
 * page_add_new_anon_rmap; swap.c: lru_cache_add_inactive_or_unevictable)
 */
export function page_add_new_huge_rmap(m: Machine, head: pfn_t, vma: VmArea, haddr: vpn_t): void {
  const p = m.memmap;
  BUG_ON(
    haddr < vma.vm_start || haddr + HPAGE_PMD_NR > vma.vm_end,
    'page_add_new_anon_rmap: outside of the area',
  );
  SetPageFlag(p, head, PG_swapbacked | PG_anon_exclusive);
  p.private_[head + 2] = 1;
  const zone = page_zone(m, head);
  mod_zone_page_state(zone, NR_ANON_THPS, HPAGE_PMD_NR);
  mod_zone_page_state(zone, NR_ANON_PAGES, HPAGE_PMD_NR);
  p.mapping[head] = (vma.anon_vma!.id << 2) | PAGE_MAPPING_ANON;
  p.index[head] = linear_page_index(vma, haddr);
  if ((vma.vm_flags & (VM_LOCKED | VM_SPECIAL)) === VM_LOCKED) {
    SetPageFlag(p, head, PG_mlocked);
    mod_zone_page_state(zone, NR_MLOCK, HPAGE_PMD_NR);
    count_vm_events(m, UNEVICTABLE_PGMLOCKED, HPAGE_PMD_NR);
    add_page_to_unevictable_list(m, head);
  } else lru_cache_add_lru(m, head, LRU_ACTIVE_ANON);
}

/** Removes a mapping as a whole; parts that others still map stay (page_remove_anon_compound_rmap). */
function page_remove_huge_rmap(m: Machine, head: pfn_t): void {
  const p = m.memmap;
  BUG_ON(p.private_[head + 2]! <= 0, 'page_remove_rmap: the huge page is not mapped');
  if (--p.private_[head + 2]! !== 0) return;
  const zone = page_zone(m, head);
  mod_zone_page_state(zone, NR_ANON_THPS, -HPAGE_PMD_NR);
  let unmapped = 0;
  for (let i = 0; i < HPAGE_PMD_NR; i++) if (p._mapcount[head + i] === 0) unmapped++;
  if (unmapped > 0) mod_zone_page_state(zone, NR_ANON_PAGES, -unmapped);
  if (unmapped > 0 && unmapped < HPAGE_PMD_NR) deferred_split_huge_page(m, head);
}

// ---- one mapping of 512 pages

/** Maps a page whole at an aligned address, with a pte page in store for its split. */
export function map_huge_pmd(
  m: Machine,
  mm: MmStruct,
  haddr: vpn_t,
  pmd: number,
  pgtable: NonNullable<ReturnType<typeof pte_alloc_one>>,
): void {
  BUG_ON(pmd_huge(mm, haddr) !== 0, 'set_huge_pmd: one is there');
  pgtable_trans_huge_deposit(mm, haddr, pgtable);
  mm.nr_ptes++;
  set_pmd(mm, haddr, pmd);
  if (!is_huge_zero_pmd(m, pmd)) mm.rss_stat[MM_ANONPAGES]! += HPAGE_PMD_NR;
}

/** Maps the 512 pages around `vpn` by ptes instead, if they are mapped as one (huge_memory.c). */
export function __split_huge_pmd(m: Machine, vma: VmArea, vpn: vpn_t): void {
  const p = m.memmap;
  const mm = vma.vm_mm;
  const haddr = hpage_start(vpn);
  const pmd = pmd_huge(mm, haddr);
  if (pmd === 0) return;
  count_vm_event(m, THP_SPLIT_PMD);
  const table = pgtable_trans_huge_withdraw(mm, haddr);
  const ptes = table.ptes!;
  set_pmd(mm, haddr, 0);
  pmd_populate(mm, haddr, table);
  if (is_huge_zero_pmd(m, pmd)) {
    ptes.fill(mk_pte(m.zero_pfn));
    return;
  }
  const head = pte_pfn(pmd);
  if (pte_dirty(pmd)) SetPageFlag(p, head, PG_dirty);
  p._count[head]! += HPAGE_PMD_NR - 1;
  const exclusive = p.flags[head]! & PG_anon_exclusive;
  for (let i = 0; i < PTRS_PER_PTE; i++) {
    ptes[i] = (pmd + (i << 4)) | 0;
    p.flags[head + i]! |= exclusive;
    p._mapcount[head + i]!++;
  }
  // All parts stay mapped, one by one.
  if (--p.private_[head + 2]! === 0) {
    mod_zone_page_state(page_zone(m, head), NR_ANON_THPS, -HPAGE_PMD_NR);
  }
  // Parts that ptes map are not kept on the unevictable list.
  if ((vma.vm_flags & VM_LOCKED) === 0 || !PageMlocked(p, head)) return;
  const locked = trylock_page(p, head);
  munlock_vma_page(m, head);
  if (locked) unlock_page(p, head);
}

/** A border of an area moves to `vpn`: a huge page on both sides of it is mapped by ptes then. */
function split_huge_pmd_if_needed(m: Machine, vma: VmArea, vpn: vpn_t): void {
  if ((vpn & (HPAGE_PMD_NR - 1)) === 0) return;
  const haddr = hpage_start(vpn);
  if (haddr >= vma.vm_start && haddr + HPAGE_PMD_NR <= vma.vm_end) __split_huge_pmd(m, vma, vpn);
}

/**
 * Before an area gets the borders [start, end) and the next one, if any, begins `adjust_next` pages
 * later (huge_memory.c).
 */
export function vma_adjust_trans_huge(
  m: Machine,
  vma: VmArea,
  start: vpn_t,
  end: vpn_t,
  next: VmArea | undefined,
  adjust_next: number,
): void {
  split_huge_pmd_if_needed(m, vma, start);
  split_huge_pmd_if_needed(m, vma, end);
  if (adjust_next > 0) split_huge_pmd_if_needed(m, next!, next!.vm_start + adjust_next);
}

/** Unmaps 512 pages that one entry maps; the pte page in store goes at once (huge_memory.c). */
export function zap_huge_pmd(m: Machine, tlb: MmuGather, mm: MmStruct, haddr: vpn_t): void {
  const pmd = pmd_huge(mm, haddr);
  set_pmd(mm, haddr, 0);
  const zero = is_huge_zero_pmd(m, pmd);
  if (!zero) page_remove_huge_rmap(m, pte_pfn(pmd));
  pte_free(m, pgtable_trans_huge_withdraw(mm, haddr));
  mm.nr_ptes--;
  if (zero) return;
  mm.rss_stat[MM_ANONPAGES]! -= HPAGE_PMD_NR;
  tlb.tlb_remove_page(m, pte_pfn(pmd));
}

/**
 * Shares a huge page with a child: 0, -ENOMEM, or -EAGAIN when it was split while memory was being
 * looked for. Precondition: the child has the upper table. (huge_memory.c: copy_huge_pmd)
 */
export function copy_huge_pmd(m: Machine, dst: MmStruct, src: MmStruct, haddr: vpn_t): number {
  const p = m.memmap;
  const pgtable = pte_alloc_one(m);
  if (pgtable === null) return -ENOMEM;
  const pmd = pmd_huge(src, haddr);
  if (pmd === 0) {
    pte_free(m, pgtable);
    return -EAGAIN;
  }
  if (is_huge_zero_pmd(m, pmd)) {
    if (!dst.huge_zero_page) m.huge_zero_refcount++;
    dst.huge_zero_page = true;
  } else {
    const head = pte_pfn(pmd);
    get_page(p, head);
    p.private_[head + 2]!++;
    p.flags[head]! &= ~PG_anon_exclusive;
  }
  set_pmd(src, haddr, pte_wrprotect(pmd));
  map_huge_pmd(m, dst, haddr, pte_mkold(pte_wrprotect(pmd)), pgtable);
  return 0;
}

/** Takes write permission off an entry that maps 512 pages (huge_memory.c). */
export function change_huge_pmd(mm: MmStruct, haddr: vpn_t): void {
  set_pmd(mm, haddr, pmd_huge(mm, haddr) & ~_PAGE_RW);
}

// ---- splitting the page

/** Flags that all parts have in common with the whole. */
const SPLIT_FLAGS =
  PG_referenced |
  PG_swapbacked |
  PG_swapcache |
  PG_mlocked |
  PG_uptodate |
  PG_active |
  PG_locked |
  PG_unevictable |
  PG_dirty;

/** Whether nobody but page tables and the caller holds the page (huge_memory.c: can_split_folio). */
export function can_split_huge_page(p: Memmap, head: pfn_t): boolean {
  const extra_pins = PageSwapCache(p, head) ? HPAGE_PMD_NR : 0;
  return total_mapcount(p, head) === page_count(p, head) - extra_pins - 1;
}

/** Has every area map the parts by ptes; true when one of these is dirty (unmap_folio). */
function split_all_pmds(m: Machine, head: pfn_t): boolean {
  const p = m.memmap;
  let dirty = false;
  for (let avc = page_lock_anon_vma(m, head)!.head; avc !== null; avc = avc.av_next) {
    const { vma } = avc;
    const base = vma.vm_start + (p.index[head]! - vma.vm_pgoff);
    const from = Math.max(base, vma.vm_start);
    const to = Math.min(base + HPAGE_PMD_NR, vma.vm_end);
    if (from >= to) continue;
    const pmd = pmd_huge(vma.vm_mm, base);
    if (pmd !== 0 && pte_pfn(pmd) === head) __split_huge_pmd(m, vma, base);
    const table = pte_table(vma.vm_mm, base);
    if (table === null) continue;
    for (let vpn = from; vpn < to && !dirty; vpn++) {
      const pte = table.ptes![vpn & 511]!;
      dirty = pte_present(pte) && pte_pfn(pte) === head + (vpn - base) && pte_dirty(pte);
    }
  }
  return dirty;
}

/** Makes 512 single pages of a block whose mappings are ptes; tails go before the head on its list. */
function __split_huge_page(m: Machine, head: pfn_t, list: number): void {
  const p = m.memmap;
  const on_lru = PageLRU(p, head);
  BUG_ON(!on_lru && list === 0, 'split_huge_page: the page is isolated');
  const flags = p.flags[head]! & SPLIT_FLAGS;
  const mapping = p.mapping[head]!;
  const index = p.index[head]!;
  for (let i = HPAGE_PMD_NR - 1; i > 0; i--) {
    const tail = head + i;
    p.flags[tail] = flags;
    p.mapping[tail] = mapping;
    p.index[tail] = index + i;
    p.private_[tail] = 0;
    p._count[tail] = 1 + p._mapcount[tail]!;
    if (list !== 0) {
      // Reclaim has isolated the whole: each part is isolated now.
      p._count[tail]!++;
      list_add_tail(p, tail, list);
    } else {
      list_add_tail(p, tail, head);
      p.flags[tail]! |= PG_lru;
    }
  }
  p.flags[head]! &= ~(PG_head | PG_anon_exclusive);
  p._count[head] = 1 + p._mapcount[head]!;
  for (let i = 1; i < HPAGE_PMD_NR; i++) {
    unlock_page(p, head + i);
    put_page(m, head + i);
  }
}

/**
 * Splits a locked huge page that the caller holds a reference of: 0, or -EBUSY, -EAGAIN while somebody
 * else uses it. Parts go to the page's LRU list, or to `list` with a reference each when reclaim has
 * isolated the page; parts that nobody maps are freed. (huge_memory.c)
 */
export function split_huge_page_to_list(m: Machine, head: pfn_t, list = 0): number {
  const p = m.memmap;
  BUG_ON(!PageLocked(p, head), 'split_huge_page: the page is not locked');
  BUG_ON((p.flags[head]! & PG_head) === 0, 'split_huge_page: not a huge page');
  if (PageWriteback(p, head)) return -EBUSY;
  const anon_vma = page_lock_anon_vma(m, head);
  if (anon_vma === null || !can_split_huge_page(p, head)) {
    count_vm_event(m, THP_SPLIT_PAGE_FAILED);
    return anon_vma === null ? -EBUSY : -EAGAIN;
  }
  if (split_all_pmds(m, head)) SetPageFlag(p, head, PG_dirty);
  BUG_ON(compound_mapcount(p, head) !== 0, 'split_huge_page: still mapped as a whole');
  undo_deferred_split(m, head);
  __split_huge_page(m, head, list);
  count_vm_event(m, THP_SPLIT_PAGE);
  return 0;
}
