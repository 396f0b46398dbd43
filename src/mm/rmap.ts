/**
 * Reverse mapping: from a page to the ptes that map it.
 *
 * An anonymous page points to an anon_vma, whose list of chains names every area that may map it;
 * a file page points to its address_space, whose i_mmap names the areas. No pte is remembered: each
 * candidate area is asked by address. External references (migration, KSM) keep an anon_vma from
 * being freed; without one its row may be another process's anon_vma a moment later.
 * Linux: mm/rmap.c of 2.6.35 (anon_vma chains without root or parent), and from mm/migrate.c
 * remove_migration_pte(s). Differs: no locks and no RCU, because nothing else runs meanwhile except
 * at m.other_cpu; i_mmap is visited in order of mapping (Linux: a priority search tree).
 */
import { BUG_ON } from '../lib/bug.ts';
import { ENOMEM } from '../lib/errno.ts';
import { deferred_split_huge_page } from './deferred_split.ts';
import { page_mapping, set_page_dirty } from './filemap.ts';
import { is_mlocked_vma, mlock_vma_page } from './internal.ts';
import {
  add_page_to_unevictable_list,
  isolate_lru_page,
  lru_cache_add_lru,
  putback_lru_page,
} from './lru.ts';
import {
  AnonVma,
  AnonVmaChain,
  find_vma_index,
  linear_page_index,
  MM_ANONPAGES,
  MM_FILEPAGES,
  MM_SWAPENTS,
  type MmStruct,
  update_hiwater_rss,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_LOCKED,
  VM_READ,
  VM_SEQ_READ,
  VM_STACK_INCOMPLETE_SETUP,
  VM_WRITE,
  type VmArea,
  type vpn_t,
} from './mm_types.ts';
import { LRU_ACTIVE_ANON, type Machine, page_zone } from './mmzone.ts';
import {
  compound_head,
  compound_mapcount,
  compound_nr,
  get_page,
  PAGE_MAPPING_ANON,
  PAGE_MAPPING_FLAGS,
  PageAnon,
  PageCompound,
  PageDirty,
  PageKsm,
  PageLocked,
  PageSwapCache,
  PageUnevictable,
  page_mapcount,
  page_mapped,
  type pfn_t,
  put_page_testzero,
  SetPageFlag,
  TestClearPageFlag,
  trylock_page,
  unlock_page,
} from './page.ts';
import { PG_mlocked, PG_swapbacked } from './page_flags.ts';
import {
  _PAGE_ACCESSED,
  is_migration_entry,
  is_swap_pte,
  is_write_migration_entry,
  make_migration_entry,
  mk_pte,
  type PageTable,
  PTRS_PER_PTE,
  pmd_huge,
  pte_dirty,
  pte_mkold,
  pte_mkwrite,
  pte_pfn,
  pte_present,
  pte_table,
  pte_to_swp_entry,
  pte_write,
  pte_young,
  set_pmd,
  swp_entry_to_pte,
  swp_offset,
} from './page_table.ts';
import {
  PROC_ANON_VMA,
  PROC_ANON_VMA_CHAIN,
  proc_object_alloc,
  proc_object_free,
} from './proc_caches.ts';
import { swap_duplicate } from './swap_state.ts';
import {
  count_vm_events,
  mod_zone_page_state,
  NR_ANON_PAGES,
  NR_FILE_MAPPED,
  NR_MLOCK,
  UNEVICTABLE_PGMUNLOCKED,
  UNEVICTABLE_PGSTRANDED,
} from './vmstat.ts';

// enum ttu_flags (include/linux/rmap.h).
export const TTU_UNMAP = 0;
export const TTU_MIGRATION = 1;
export const TTU_MUNLOCK = 2;
export const TTU_ACTION_MASK = 0xff;
export const TTU_IGNORE_MLOCK = 0x100;
export const TTU_IGNORE_ACCESS = 0x200;

// What walks return (include/linux/rmap.h).
export const SWAP_SUCCESS = 0;
export const SWAP_AGAIN = 1;
export const SWAP_FAIL = 2;
export const SWAP_MLOCK = 3;

/** Called for each area that may map a page, until it returns something but SWAP_AGAIN. */
export type RmapOne = (m: Machine, pfn: pfn_t, vma: VmArea, vpn: vpn_t, arg: number) => number;

/** What a kernel with KSM puts into its profile: KSM pages find their areas through its nodes. */
export interface KsmRmap {
  try_to_unmap_ksm(m: Machine, pfn: pfn_t, flags: number): number;
  page_referenced_ksm(m: Machine, pfn: pfn_t): number;
  rmap_walk_ksm(m: Machine, pfn: pfn_t, rmap_one: RmapOne, arg: number): number;
  /** A merged page has moved to another frame. */
  ksm_migrate_page(m: Machine, new_: pfn_t): void;
  /** A child of a process: 0 or -ENOMEM. */
  ksm_fork(m: Machine, mm: MmStruct, oldmm: MmStruct): number;
  /** An address space is about to be torn down. */
  ksm_exit(m: Machine, mm: MmStruct): void;
  /** MADV_MERGEABLE: 1 to mark the area, 0 to leave it alone, or -ENOMEM. */
  ksm_madvise_mergeable(m: Machine, vma: VmArea): number;
  /** MADV_UNMERGEABLE: 0, or -ENOMEM and the area stays as it is. */
  ksm_madvise_unmergeable(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): number;
  /** The page to map in place of a locked one that came from swap; -1 without memory. */
  ksm_might_need_to_copy(m: Machine, pfn: pfn_t, vma: VmArea, vpn: vpn_t): pfn_t | -1;
}

// ---- anon_vma: life cycle

/** A free row, most recently freed first; null without memory (rmap.c: anon_vma_alloc). */
export function anon_vma_alloc(m: Machine): AnonVma | null {
  const object = proc_object_alloc(m, PROC_ANON_VMA);
  if (object === 0) return null;
  let anon_vma: AnonVma;
  const id = m.anon_vma_free.pop();
  if (id === undefined) {
    anon_vma = new AnonVma(m.anon_vmas.length);
    m.anon_vmas.push(anon_vma);
  } else {
    anon_vma = m.anon_vmas[id]!;
    BUG_ON(anon_vma.live, 'anon_vma_alloc: the row is in use');
    // The constructor of the slab: a recycled row begins like a new one.
    anon_vma.external_refcount = 0;
    anon_vma.live = true;
  }
  anon_vma.object = object;
  return anon_vma;
}

function anon_vma_free(m: Machine, anon_vma: AnonVma): void {
  BUG_ON(!anon_vma.live, 'anon_vma_free: freed twice');
  BUG_ON(anon_vma.head !== null, 'anon_vma_free: areas are on its list');
  proc_object_free(m, PROC_ANON_VMA, anon_vma.object);
  anon_vma.object = 0;
  anon_vma.live = false;
  m.anon_vma_free.push(anon_vma.id);
}

/** Keeps an anon_vma from being freed while a page that points to it has no mapping. */
export function get_anon_vma(anon_vma: AnonVma): void {
  BUG_ON(!anon_vma.live, 'get_anon_vma: it was freed');
  anon_vma.external_refcount++;
}

/** Drops such a reference; the last one frees an anon_vma without areas (ksm.c: drop_anon_vma). */
export function drop_anon_vma(m: Machine, anon_vma: AnonVma): void {
  BUG_ON(!anon_vma.live, 'drop_anon_vma: it was freed while in use');
  BUG_ON(anon_vma.external_refcount <= 0, 'drop_anon_vma: no reference is left');
  if (--anon_vma.external_refcount === 0 && anon_vma.head === null) anon_vma_free(m, anon_vma);
}

function chain_alloc(m: Machine, vma: VmArea, anon_vma: AnonVma): AnonVmaChain | null {
  const object = proc_object_alloc(m, PROC_ANON_VMA_CHAIN);
  if (object === 0) return null;
  const avc = new AnonVmaChain(vma, anon_vma);
  avc.object = object;
  return avc;
}

/** list_add(&avc->same_vma, &vma->anon_vma_chain) */
function add_to_vma(avc: AnonVmaChain): void {
  const vma = avc.vma;
  avc.vma_next = vma.avc_first;
  if (vma.avc_first !== null) vma.avc_first.vma_prev = avc;
  else vma.avc_last = avc;
  vma.avc_first = avc;
}

function add_to_anon_vma(avc: AnonVmaChain, tail: boolean): void {
  const anon_vma = avc.anon_vma;
  if (anon_vma.head === null) {
    anon_vma.head = avc;
    anon_vma.tail = avc;
  } else if (tail) {
    avc.av_prev = anon_vma.tail;
    anon_vma.tail!.av_next = avc;
    anon_vma.tail = avc;
  } else {
    avc.av_next = anon_vma.head;
    anon_vma.head.av_prev = avc;
    anon_vma.head = avc;
  }
}

function del_from_anon_vma(avc: AnonVmaChain): void {
  const anon_vma = avc.anon_vma;
  if (avc.av_prev !== null) avc.av_prev.av_next = avc.av_next;
  else anon_vma.head = avc.av_next;
  if (avc.av_next !== null) avc.av_next.av_prev = avc.av_prev;
  else anon_vma.tail = avc.av_prev;
  avc.av_next = null;
  avc.av_prev = null;
}

function anon_vma_compatible(a: VmArea, b: VmArea): boolean {
  return (
    a.vm_end === b.vm_start &&
    a.vm_policy === b.vm_policy &&
    a.vm_policy_nid === b.vm_policy_nid &&
    a.vm_file === b.vm_file &&
    ((a.vm_flags ^ b.vm_flags) & ~(VM_READ | VM_WRITE | VM_EXEC)) === 0 &&
    b.vm_pgoff === a.vm_pgoff + (b.vm_start - a.vm_start)
  );
}

function reusable_anon_vma(old: VmArea, a: VmArea, b: VmArea): AnonVma | null {
  if (!anon_vma_compatible(a, b)) return null;
  if (old.anon_vma !== null && old.avc_first !== null && old.avc_first === old.avc_last) {
    return old.anon_vma;
  }
  return null;
}

/**
 * The anon_vma of the next or the previous area when the areas could be merged and it has exactly
 * one chain; then a later merge needs no work (mmap.c: find_mergeable_anon_vma).
 */
function find_mergeable_anon_vma(vma: VmArea): AnonVma | null {
  const areas = vma.vm_mm.mmap;
  const at = find_vma_index(vma.vm_mm, vma.vm_start);
  BUG_ON(areas[at] !== vma, 'find_mergeable_anon_vma: the area is in no address space');
  const next = areas[at + 1];
  if (next !== undefined) {
    const anon_vma = reusable_anon_vma(next, vma, next);
    if (anon_vma !== null) return anon_vma;
  }
  const prev = at > 0 ? areas[at - 1] : undefined;
  return prev === undefined ? null : reusable_anon_vma(prev, prev, vma);
}

/** Gives the area an anon_vma before its first anonymous page: 0 or -ENOMEM. */
export function anon_vma_prepare(m: Machine, vma: VmArea): number {
  if (vma.anon_vma !== null) return 0;
  let anon_vma = find_mergeable_anon_vma(vma);
  let allocated: AnonVma | null = null;
  if (anon_vma === null) {
    allocated = anon_vma_alloc(m);
    if (allocated === null) return -ENOMEM;
    anon_vma = allocated;
  }
  const avc = chain_alloc(m, vma, anon_vma);
  if (avc === null) {
    if (allocated !== null) anon_vma_free(m, allocated);
    return -ENOMEM;
  }
  vma.anon_vma = anon_vma;
  add_to_vma(avc);
  add_to_anon_vma(avc, false);
  return 0;
}

function anon_vma_chain_link(avc: AnonVmaChain): void {
  add_to_vma(avc);
  add_to_anon_vma(avc, true);
}

/** Chains `dst` to all anon_vmas of `src`, in the same order: 0 or -ENOMEM (then to none). */
export function anon_vma_clone(m: Machine, dst: VmArea, src: VmArea): number {
  for (let pavc = src.avc_last; pavc !== null; pavc = pavc.vma_prev) {
    const avc = chain_alloc(m, dst, pavc.anon_vma);
    if (avc === null) {
      unlink_anon_vmas(m, dst);
      return -ENOMEM;
    }
    anon_vma_chain_link(avc);
  }
  return 0;
}

/**
 * At fork: the child's area joins all of the parent's anon_vmas and gets one of its own, for the
 * pages that it will write. 0 or -ENOMEM.
 */
export function anon_vma_fork(m: Machine, vma: VmArea, pvma: VmArea): number {
  if (pvma.anon_vma === null) return 0;
  if (anon_vma_clone(m, vma, pvma) !== 0) return -ENOMEM;
  const anon_vma = anon_vma_alloc(m);
  if (anon_vma === null) {
    unlink_anon_vmas(m, vma);
    return -ENOMEM;
  }
  const avc = chain_alloc(m, vma, anon_vma);
  if (avc === null) {
    anon_vma_free(m, anon_vma);
    unlink_anon_vmas(m, vma);
    return -ENOMEM;
  }
  vma.anon_vma = anon_vma;
  anon_vma_chain_link(avc);
  return 0;
}

/** Takes the area off all its anon_vmas; those that nobody needs are freed. */
export function unlink_anon_vmas(m: Machine, vma: VmArea): void {
  for (let avc = vma.avc_first; avc !== null; ) {
    const next = avc.vma_next;
    const anon_vma = avc.anon_vma;
    del_from_anon_vma(avc);
    // anon_vma_unlink: migration and KSM free it themselves when they hold it.
    if (anon_vma.head === null && anon_vma.external_refcount === 0) anon_vma_free(m, anon_vma);
    avc.vma_next = null;
    avc.vma_prev = null;
    proc_object_free(m, PROC_ANON_VMA_CHAIN, avc.object);
    avc = next;
  }
  vma.avc_first = null;
  vma.avc_last = null;
}

// ---- pages and their anon_vma

/**
 * The anon_vma that the page points to, null for file and KSM pages. It is the right one only while
 * the page is mapped or a reference is held: afterwards the row may have been recycled.
 */
export function page_anon_vma(m: Machine, pfn: pfn_t): AnonVma | null {
  const mapping = m.memmap.mapping[pfn]!;
  if ((mapping & PAGE_MAPPING_FLAGS) !== PAGE_MAPPING_ANON) return null;
  return m.anon_vmas[mapping >>> 2] ?? null;
}

/** The anon_vma of a page that is mapped, else null: what reclaim may walk (rmap.c). */
export function page_lock_anon_vma(m: Machine, pfn: pfn_t): AnonVma | null {
  if (!page_mapped(m.memmap, pfn)) return null;
  const anon_vma = page_anon_vma(m, pfn);
  BUG_ON(anon_vma !== null && !anon_vma.live, 'page_lock_anon_vma: a mapped page has a freed one');
  return anon_vma;
}

function __page_set_anon_rmap(
  m: Machine,
  pfn: pfn_t,
  vma: VmArea,
  vpn: vpn_t,
  exclusive: boolean,
): void {
  BUG_ON(vma.anon_vma === null, 'page_set_anon_rmap: the area has no anon_vma');
  // The oldest ancestor's is the only one that surely covers every area that may map the page.
  const anon_vma = exclusive ? vma.anon_vma! : vma.avc_last!.anon_vma;
  m.memmap.mapping[pfn] = (anon_vma.id << 2) | PAGE_MAPPING_ANON;
  m.memmap.index[pfn] = linear_page_index(vma, vpn);
}

/** Points an exclusively owned page to the area's own anon_vma, after a write to it. */
export function page_move_anon_rmap(m: Machine, pfn: pfn_t, vma: VmArea): void {
  BUG_ON(!PageLocked(m.memmap, pfn), 'page_move_anon_rmap: the page is not locked');
  BUG_ON(vma.anon_vma === null, 'page_move_anon_rmap: the area has no anon_vma');
  m.memmap.mapping[pfn] = (vma.anon_vma!.id << 2) | PAGE_MAPPING_ANON;
}

/**
 * Adds the first mapping of a new anonymous page and puts it on its LRU list. The page is the
 * area's own; its count stays as it is. Precondition: anon_vma_prepare.
 */
export function page_add_new_anon_rmap(m: Machine, pfn: pfn_t, vma: VmArea, vpn: vpn_t): void {
  BUG_ON(vpn < vma.vm_start || vpn >= vma.vm_end, 'page_add_new_anon_rmap: outside of the area');
  SetPageFlag(m.memmap, pfn, PG_swapbacked);
  m.memmap._mapcount[pfn] = 1;
  mod_zone_page_state(page_zone(m, pfn), NR_ANON_PAGES, 1);
  __page_set_anon_rmap(m, pfn, vma, vpn, true);
  // page_evictable(page, vma): a new page has no mapping that could be unevictable.
  if (is_mlocked_vma(m, vma, pfn)) add_page_to_unevictable_list(m, pfn);
  else lru_cache_add_lru(m, pfn, LRU_ACTIVE_ANON);
}

/**
 * Adds a mapping of an anonymous page that may have others. The first one attaches it to the
 * **oldest** anon_vma of the area, since exclusive ownership is unknown.
 */
export function page_add_anon_rmap(m: Machine, pfn: pfn_t, vma: VmArea, vpn: vpn_t): void {
  const first = m.memmap._mapcount[pfn]!++ === 0;
  if (first) mod_zone_page_state(page_zone(m, pfn), NR_ANON_PAGES, 1);
  if (PageKsm(m.memmap, pfn)) return;
  BUG_ON(!PageLocked(m.memmap, pfn), 'page_add_anon_rmap: the page is not locked');
  BUG_ON(vpn < vma.vm_start || vpn >= vma.vm_end, 'page_add_anon_rmap: outside of the area');
  if (first) __page_set_anon_rmap(m, pfn, vma, vpn, false);
  else {
    BUG_ON(!PageAnon(m.memmap, pfn), 'page_add_anon_rmap: not an anonymous page');
    BUG_ON(
      m.memmap.index[pfn] !== linear_page_index(vma, vpn),
      'page_add_anon_rmap: two mappings differ in the page index',
    );
  }
}

/** Adds a mapping of a page cache page. */
export function page_add_file_rmap(m: Machine, pfn: pfn_t): void {
  if (m.memmap._mapcount[pfn]!++ === 0) mod_zone_page_state(page_zone(m, pfn), NR_FILE_MAPPED, 1);
}

/** Adds a mapping at fork, of a page of either kind that is mapped already. */
export function page_dup_rmap(m: Machine, pfn: pfn_t): void {
  BUG_ON(m.memmap._mapcount[pfn]! <= 0, 'page_dup_rmap: the page is not mapped');
  m.memmap._mapcount[pfn]!++;
}

/** Removes a mapping. The mapping column of an anonymous page stays until the page is freed. */
export function page_remove_rmap(m: Machine, pfn: pfn_t): void {
  BUG_ON(m.memmap._mapcount[pfn]! <= 0, 'page_remove_rmap: the page is not mapped');
  if (--m.memmap._mapcount[pfn]! !== 0) return;
  if (PageCompound(m.memmap, pfn)) {
    // A part of a huge page: mapped as long as the whole is.
    const head = compound_head(m.memmap, pfn);
    if (compound_mapcount(m.memmap, head) > 0) return;
    mod_zone_page_state(page_zone(m, pfn), NR_ANON_PAGES, -1);
    deferred_split_huge_page(m, head);
    return;
  }
  const item = PageAnon(m.memmap, pfn) ? NR_ANON_PAGES : NR_FILE_MAPPED;
  mod_zone_page_state(page_zone(m, pfn), item, -1);
}

// ---- finding mappings

/** The vpn at which the area would map the page, or -1. */
export function vma_address(m: Machine, pfn: pfn_t, vma: VmArea): vpn_t | -1 {
  const vpn = vma.vm_start + (m.memmap.index[pfn]! - vma.vm_pgoff);
  return vpn < vma.vm_start || vpn >= vma.vm_end ? -1 : vpn;
}

/** The pte page in which `vpn` maps exactly this page, else null. */
export function page_check_address(pfn: pfn_t, mm: MmStruct, vpn: vpn_t): PageTable | null {
  const table = pte_table(mm, vpn);
  if (table === null) return null;
  const pte = table.ptes![vpn & 511]!;
  return pte_present(pte) && pte_pfn(pte) === pfn ? table : null;
}

/** A growable area that exec still moves: both read hints are set (mm.h). */
export function is_vma_temporary_stack(vma: VmArea): boolean {
  return (
    (vma.vm_flags & VM_GROWSDOWN) !== 0 &&
    (vma.vm_flags & VM_STACK_INCOMPLETE_SETUP) === VM_STACK_INCOMPLETE_SETUP
  );
}

// ---- page_referenced

/**
 * Tests and clears the young bit of one mapping: 1 when it counts as a use. The area's flags go to
 * m.rmap_vm_flags; VM_LOCKED there means that nobody needs to look further.
 */
export function page_referenced_one(m: Machine, table: PageTable, vma: VmArea, vpn: vpn_t): number {
  if ((vma.vm_flags & VM_LOCKED) !== 0) {
    // The page will go to the unevictable list.
    m.rmap_vm_flags |= VM_LOCKED;
    return 0;
  }
  const pte = table.ptes![vpn & 511]!;
  if (!pte_young(pte)) return 0;
  table.ptes![vpn & 511] = pte & ~_PAGE_ACCESSED;
  // A sequential reader will not come back.
  if ((vma.vm_flags & VM_SEQ_READ) !== 0) return 0;
  m.rmap_vm_flags |= vma.vm_flags;
  return 1;
}

/**
 * The same for all mappings of a huge page in one area, which count as one. An area that is locked
 * counts only if it maps the page as a whole. (rmap.c: folio_referenced_one)
 */
function page_referenced_huge_one(m: Machine, head: pfn_t, vma: VmArea): number {
  const mm = vma.vm_mm;
  const base = vma.vm_start + (m.memmap.index[head]! - vma.vm_pgoff);
  const from = Math.max(base, vma.vm_start);
  const to = Math.min(base + PTRS_PER_PTE, vma.vm_end);
  if (from >= to) return 0;
  const pmd = pmd_huge(mm, base);
  const table = pmd === 0 ? pte_table(mm, base) : null;
  let young = false;
  if (pmd !== 0) {
    if (pte_pfn(pmd) !== head) return 0;
    if ((vma.vm_flags & VM_LOCKED) !== 0) {
      m.rmap_vm_flags |= VM_LOCKED;
      return 0;
    }
    young = pte_young(pmd);
    if (young) set_pmd(mm, base, pte_mkold(pmd));
  } else if (table !== null) {
    for (let vpn = from; vpn < to; vpn++) {
      const pte = table.ptes![vpn & 511]!;
      if (!pte_present(pte) || !pte_young(pte) || pte_pfn(pte) !== head + (vpn - base)) continue;
      young = true;
      table.ptes![vpn & 511] = pte_mkold(pte);
    }
  }
  if (!young || (vma.vm_flags & VM_SEQ_READ) !== 0) return 0;
  m.rmap_vm_flags |= vma.vm_flags & ~VM_LOCKED;
  return 1;
}

function page_referenced_huge(m: Machine, head: pfn_t): number {
  const anon_vma = page_lock_anon_vma(m, head);
  let referenced = 0;
  for (let avc = anon_vma?.head ?? null; avc !== null; avc = avc.av_next) {
    referenced += page_referenced_huge_one(m, head, avc.vma);
    if ((m.rmap_vm_flags & VM_LOCKED) !== 0) break;
  }
  return referenced;
}

function page_referenced_anon(m: Machine, pfn: pfn_t): number {
  if (PageCompound(m.memmap, pfn)) return page_referenced_huge(m, pfn);
  const anon_vma = page_lock_anon_vma(m, pfn);
  if (anon_vma === null) return 0;
  let mapcount = page_mapcount(m.memmap, pfn);
  let referenced = 0;
  for (let avc = anon_vma.head; avc !== null; avc = avc.av_next) {
    const vpn = vma_address(m, pfn, avc.vma);
    const table = vpn < 0 ? null : page_check_address(pfn, avc.vma.vm_mm, vpn);
    if (table === null) continue;
    referenced += page_referenced_one(m, table, avc.vma, vpn);
    if (--mapcount === 0 || (m.rmap_vm_flags & VM_LOCKED) !== 0) break;
  }
  return referenced;
}

function page_referenced_file(m: Machine, pfn: pfn_t): number {
  const mapping = page_mapping(m, pfn);
  if (mapping === null) return 0;
  let mapcount = page_mapcount(m.memmap, pfn);
  let referenced = 0;
  for (const vma of mapping.i_mmap) {
    const vpn = vma_address(m, pfn, vma);
    const table = vpn < 0 ? null : page_check_address(pfn, vma.vm_mm, vpn);
    if (table === null) continue;
    referenced += page_referenced_one(m, table, vma, vpn);
    if (--mapcount === 0 || (m.rmap_vm_flags & VM_LOCKED) !== 0) break;
  }
  return referenced;
}

/**
 * Counts the mappings that used the page since the last call, and clears their young bits. The
 * flags of those areas go to m.rmap_vm_flags (Linux: *vm_flags).
 */
export function page_referenced(m: Machine, pfn: pfn_t, is_locked: boolean): number {
  m.rmap_vm_flags = 0;
  const p = m.memmap;
  if (!page_mapped(p, pfn) || p.mapping[pfn]! >>> 2 === 0) return 0;
  let we_locked = false;
  if (!is_locked && (!PageAnon(p, pfn) || PageKsm(p, pfn))) {
    we_locked = trylock_page(p, pfn);
    if (!we_locked) return 1;
  }
  let referenced: number;
  if (PageKsm(p, pfn)) referenced = m.kernel.ksm?.page_referenced_ksm(m, pfn) ?? 0;
  else if (PageAnon(p, pfn)) referenced = page_referenced_anon(m, pfn);
  else referenced = page_referenced_file(m, pfn);
  if (we_locked) unlock_page(p, pfn);
  return referenced;
}

// ---- try_to_unmap

/** A huge page is only ever asked whether a locked area maps it; it is split before it is unmapped. */
function munlock_huge_one(m: Machine, head: pfn_t, vma: VmArea, vpn: vpn_t, flags: number): number {
  BUG_ON(flags !== TTU_MUNLOCK, 'try_to_unmap: a huge page');
  if (pte_pfn(pmd_huge(vma.vm_mm, vpn)) !== head) return SWAP_AGAIN;
  if ((vma.vm_flags & VM_LOCKED) === 0 || vma.vm_mm.mmap_sem_locked) return SWAP_AGAIN;
  mlock_vma_page(m, head);
  return SWAP_MLOCK;
}

/** Unmaps the page from one area; one of SWAP_*. Also for KSM's walk. */
export function try_to_unmap_one(
  m: Machine,
  pfn: pfn_t,
  vma: VmArea,
  vpn: vpn_t,
  flags: number,
): number {
  const p = m.memmap;
  const mm = vma.vm_mm;
  if (PageCompound(p, pfn)) return munlock_huge_one(m, pfn, vma, vpn, flags);
  const table = page_check_address(pfn, mm, vpn);
  if (table === null) return SWAP_AGAIN;
  const ptes = table.ptes!;
  const slot = vpn & 511;
  const action = flags & TTU_ACTION_MASK;
  if ((flags & TTU_IGNORE_MLOCK) === 0) {
    if ((vma.vm_flags & VM_LOCKED) !== 0) {
      if (mm.mmap_sem_locked) return SWAP_AGAIN;
      mlock_vma_page(m, pfn);
      return SWAP_MLOCK;
    }
    if (action === TTU_MUNLOCK) return SWAP_AGAIN;
  }
  if ((flags & TTU_IGNORE_ACCESS) === 0 && pte_young(ptes[slot]!)) {
    ptes[slot]! &= ~_PAGE_ACCESSED;
    return SWAP_FAIL;
  }
  const pte = ptes[slot]!;
  ptes[slot] = 0;
  if (pte_dirty(pte) && !PageDirty(p, pfn)) set_page_dirty(m, pfn);
  update_hiwater_rss(mm);
  if (PageAnon(p, pfn)) {
    if (PageSwapCache(p, pfn)) {
      const entry = p.private_[pfn]!;
      if (swap_duplicate(m, entry) < 0) {
        ptes[slot] = pte;
        return SWAP_FAIL;
      }
      mm.rss_stat[MM_ANONPAGES]!--;
      mm.rss_stat[MM_SWAPENTS]!++;
      ptes[slot] = swp_entry_to_pte(entry);
    } else {
      BUG_ON(action !== TTU_MIGRATION, 'try_to_unmap: anonymous, not in swap cache, no migration');
      ptes[slot] = swp_entry_to_pte(make_migration_entry(pfn, pte_write(pte)));
    }
  } else if (action === TTU_MIGRATION) {
    ptes[slot] = swp_entry_to_pte(make_migration_entry(pfn, pte_write(pte)));
  } else mm.rss_stat[MM_FILEPAGES]!--;
  page_remove_rmap(m, pfn);
  BUG_ON(put_page_testzero(p, pfn), 'try_to_unmap: the caller holds no reference');
  return SWAP_AGAIN;
}

function try_to_unmap_anon(m: Machine, pfn: pfn_t, flags: number): number {
  const anon_vma = page_lock_anon_vma(m, pfn);
  if (anon_vma === null) return SWAP_AGAIN;
  const migration = (flags & TTU_MIGRATION) !== 0;
  for (let avc = anon_vma.head; avc !== null; avc = avc.av_next) {
    // exec moves the temporary stack's ptes without locks; its rmap would not be found again.
    if (migration && is_vma_temporary_stack(avc.vma)) continue;
    const vpn = vma_address(m, pfn, avc.vma);
    if (vpn < 0) continue;
    const ret = try_to_unmap_one(m, pfn, avc.vma, vpn, flags);
    if (ret !== SWAP_AGAIN || !page_mapped(m.memmap, pfn)) return ret;
  }
  return SWAP_AGAIN;
}

function try_to_unmap_file(m: Machine, pfn: pfn_t, flags: number): number {
  const mapping = page_mapping(m, pfn);
  if (mapping === null) return SWAP_AGAIN;
  for (const vma of mapping.i_mmap) {
    const vpn = vma_address(m, pfn, vma);
    if (vpn < 0) continue;
    const ret = try_to_unmap_one(m, pfn, vma, vpn, flags);
    if (ret !== SWAP_AGAIN || !page_mapped(m.memmap, pfn)) return ret;
  }
  return SWAP_AGAIN;
}

function unmap_dispatch(m: Machine, pfn: pfn_t, flags: number): number {
  if (PageKsm(m.memmap, pfn)) return m.kernel.ksm?.try_to_unmap_ksm(m, pfn, flags) ?? SWAP_FAIL;
  if (PageAnon(m.memmap, pfn)) return try_to_unmap_anon(m, pfn, flags);
  return try_to_unmap_file(m, pfn, flags);
}

/**
 * Removes all mappings of a locked page, by TTU_* flags: one of SWAP_*. The caller holds a
 * reference. Under TTU_MIGRATION ptes become migration entries, except for pages in swap cache,
 * whose ptes become swap entries.
 */
export function try_to_unmap(m: Machine, pfn: pfn_t, flags: number): number {
  BUG_ON(!PageLocked(m.memmap, pfn), 'try_to_unmap: the page is not locked');
  const ret = unmap_dispatch(m, pfn, flags);
  return ret !== SWAP_MLOCK && !page_mapped(m.memmap, pfn) ? SWAP_SUCCESS : ret;
}

/** Looks whether a locked area still maps the page: SWAP_MLOCK then, else SWAP_AGAIN. */
export function try_to_munlock(m: Machine, pfn: pfn_t): number {
  BUG_ON(!PageLocked(m.memmap, pfn), 'try_to_munlock: the page is not locked');
  return unmap_dispatch(m, pfn, TTU_MUNLOCK);
}

/** Takes the mlock mark off a locked page and lets reclaim have it, unless others lock it (mlock.c). */
export function munlock_vma_page(m: Machine, pfn: pfn_t): void {
  if (!TestClearPageFlag(m.memmap, pfn, PG_mlocked)) return;
  const nr = compound_nr(m.memmap, pfn);
  mod_zone_page_state(page_zone(m, pfn), NR_MLOCK, -nr);
  if (isolate_lru_page(m, pfn) === 0) {
    // Another locked area marks it again: then putback sends it where it was.
    if (try_to_munlock(m, pfn) !== SWAP_MLOCK) count_vm_events(m, UNEVICTABLE_PGMUNLOCKED, nr);
    putback_lru_page(m, pfn);
  } else if (PageUnevictable(m.memmap, pfn)) count_vm_events(m, UNEVICTABLE_PGSTRANDED, nr);
  else count_vm_events(m, UNEVICTABLE_PGMUNLOCKED, nr);
}

// ---- rmap_walk and migration entries

/** Takes the anon_vma **without** checking that the page is mapped: the caller holds a reference. */
function rmap_walk_anon(m: Machine, pfn: pfn_t, rmap_one: RmapOne, arg: number): number {
  const anon_vma = page_anon_vma(m, pfn);
  if (anon_vma === null) return SWAP_AGAIN;
  for (let avc = anon_vma.head; avc !== null; avc = avc.av_next) {
    const vpn = vma_address(m, pfn, avc.vma);
    if (vpn < 0) continue;
    const ret = rmap_one(m, pfn, avc.vma, vpn, arg);
    if (ret !== SWAP_AGAIN) return ret;
  }
  return SWAP_AGAIN;
}

function rmap_walk_file(m: Machine, pfn: pfn_t, rmap_one: RmapOne, arg: number): number {
  const mapping = page_mapping(m, pfn);
  if (mapping === null) return SWAP_AGAIN;
  for (const vma of mapping.i_mmap) {
    const vpn = vma_address(m, pfn, vma);
    if (vpn < 0) continue;
    const ret = rmap_one(m, pfn, vma, vpn, arg);
    if (ret !== SWAP_AGAIN) return ret;
  }
  return SWAP_AGAIN;
}

/** Calls rmap_one for each area that may map the locked page, until it returns not SWAP_AGAIN. */
export function rmap_walk(m: Machine, pfn: pfn_t, rmap_one: RmapOne, arg: number): number {
  BUG_ON(!PageLocked(m.memmap, pfn), 'rmap_walk: the page is not locked');
  if (PageKsm(m.memmap, pfn)) {
    return m.kernel.ksm?.rmap_walk_ksm(m, pfn, rmap_one, arg) ?? SWAP_AGAIN;
  }
  if (PageAnon(m.memmap, pfn)) return rmap_walk_anon(m, pfn, rmap_one, arg);
  return rmap_walk_file(m, pfn, rmap_one, arg);
}

/**
 * Replaces one migration entry for `old` by a pte for `new_`: old age, clean, writable when the
 * entry is of the write flavour. rss does not change. (migrate.c: remove_migration_pte)
 */
export function remove_migration_pte(
  m: Machine,
  new_: pfn_t,
  vma: VmArea,
  vpn: vpn_t,
  old: pfn_t,
): number {
  const table = pte_table(vma.vm_mm, vpn);
  if (table === null) return SWAP_AGAIN;
  const pte = table.ptes![vpn & 511]!;
  if (!is_swap_pte(pte)) return SWAP_AGAIN;
  const entry = pte_to_swp_entry(pte);
  if (!is_migration_entry(entry) || swp_offset(entry) !== old) return SWAP_AGAIN;
  get_page(m.memmap, new_);
  let restored = pte_mkold(mk_pte(new_));
  if (is_write_migration_entry(entry)) restored = pte_mkwrite(restored);
  table.ptes![vpn & 511] = restored;
  if (PageAnon(m.memmap, new_)) page_add_anon_rmap(m, new_, vma, vpn);
  else page_add_file_rmap(m, new_);
  return SWAP_AGAIN;
}

/** Replaces all migration entries for `old` by ptes for the locked page `new_` (migrate.c). */
export function remove_migration_ptes(m: Machine, old: pfn_t, new_: pfn_t): void {
  rmap_walk(m, new_, remove_migration_pte, old);
}
