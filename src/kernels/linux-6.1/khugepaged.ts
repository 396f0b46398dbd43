/**
 * khugepaged of 6.1: looks through processes for 512 pages that one huge page could hold, and copies
 * them into one.
 *
 * A process is entered when huge pages are good for one of its areas. The thread looks at pages_to_scan
 * pages, sleeps scan_sleep_millisecs, and goes on where it was; alloc_sleep_millisecs after a huge page
 * could not be had, once in a batch. Of the 512 pages so many may be absent (max_ptes_none), swapped
 * out (max_ptes_swap, which are read first) or shared (max_ptes_shared), one must be writable and one
 * in use. It runs on the virtual clock: a tick further than one sleep makes up for what is due.
 * While it is enabled, min_free_kbytes is raised so that pageblocks stay unmixed.
 * Linux: mm/khugepaged.c. Differs: files are not collapsed; a sleep is at least one timer tick.
 */
import { HZ } from '../../lib/clock.ts';
import { EAGAIN, EBUSY, EINVAL, ENOMEM } from '../../lib/errno.ts';
import type { Job } from '../../lib/kthread.ts';
import { list_add_tail, list_del } from '../../lib/list.ts';
import { GFP_KERNEL } from '../../mm/gfp.ts';
import { HPAGE_PMD_NR, HPAGE_PMD_ORDER, page_add_new_huge_rmap } from '../../mm/huge_memory.ts';
import { as_kthread } from '../../mm/kthread.ts';
import {
  isolate_lru_page,
  lru_add_drain,
  lru_add_drain_all,
  put_page,
  putback_lru_page,
} from '../../mm/lru.ts';
import { do_swap_page, VM_FAULT_ERROR, VM_FAULT_RETRY } from '../../mm/memory.ts';
import {
  find_vma,
  find_vma_index,
  MM_ANONPAGES,
  type MmStruct,
  VM_WRITE,
  type VmArea,
  type vpn_t,
} from '../../mm/mm_types.ts';
import { mmdrop } from '../../mm/mmap.ts';
import { type KernelThread, type Machine, page_zone } from '../../mm/mmzone.ts';
import {
  compound_head,
  compound_nr,
  PageAnon,
  PageCompound,
  PageLocked,
  PageLRU,
  PageReferenced,
  PageSwapCache,
  page_count,
  page_mapcount,
  type pfn_t,
  SetPageFlag,
  total_mapcount,
  trylock_page,
  unlock_page,
} from '../../mm/page.ts';
import { PG_uptodate } from '../../mm/page_flags.ts';
import {
  _PAGE_DIRTY,
  is_swap_pte,
  mk_pte,
  type PageTable,
  pgtable_trans_huge_deposit,
  pmd_huge,
  pmd_populate,
  pte_mkwrite,
  pte_none,
  pte_pfn,
  pte_present,
  pte_table,
  pte_write,
  pte_young,
  set_pmd,
} from '../../mm/page_table.ts';
import { page_remove_rmap } from '../../mm/rmap.ts';
import { kmem_cache_alloc, kmem_cache_create, kmem_cache_free } from '../../mm/slub.ts';
import type { KmemCache } from '../../mm/slub_def.ts';
import { free_page_and_swap_cache } from '../../mm/swap_state.ts';
import {
  count_vm_event,
  NR_ISOLATED_ANON,
  THP_COLLAPSE_ALLOC,
  THP_COLLAPSE_ALLOC_FAILED,
  THP_SCAN_EXCEED_NONE_PTE,
  THP_SCAN_EXCEED_SHARE_PTE,
  THP_SCAN_EXCEED_SWAP_PTE,
} from '../../mm/vmstat.ts';
import { GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT } from './gfp.ts';
import {
  hugepage_flags_enabled,
  hugepage_vma_check,
  KhugepagedMmSlot,
  type ThpState,
  thp_state,
  transhuge_vma_suitable,
} from './huge_mm.ts';
import { __alloc_pages } from './page_alloc.ts';
import {
  calculate_min_free_kbytes,
  nr_free_buffer_pages,
  setup_per_zone_wmarks,
} from './watermark.ts';

const KHUGEPAGED: KernelThread = { pid: 31, comm: 'khugepaged' };
/** sizeof(struct khugepaged_mm_slot). */
const MM_SLOT_SIZE = 112;

// enum scan_result: what became of 512 pages.
export const SCAN_FAIL = 0;
export const SCAN_SUCCEED = 1;
export const SCAN_PMD_NULL = 2;
export const SCAN_PMD_MAPPED = 3;
export const SCAN_EXCEED_NONE_PTE = 4;
export const SCAN_EXCEED_SWAP_PTE = 5;
export const SCAN_EXCEED_SHARED_PTE = 6;
export const SCAN_PTE_NON_PRESENT = 7;
export const SCAN_PAGE_RO = 8;
export const SCAN_LACK_REFERENCED_PAGE = 9;
export const SCAN_PAGE_COUNT = 10;
export const SCAN_PAGE_LRU = 11;
export const SCAN_PAGE_LOCK = 12;
export const SCAN_PAGE_ANON = 13;
export const SCAN_VMA_CHECK = 14;
export const SCAN_DEL_PAGE_LRU = 15;
export const SCAN_ALLOC_HUGE_PAGE_FAIL = 16;

// ---- the processes to look at

function mm_slot_cache(m: Machine): KmemCache {
  const name = 'khugepaged_mm_slot';
  return m.slab.caches.find((s) => s.name === name) ?? kmem_cache_create(m, name, MM_SLOT_SIZE);
}

/** Puts a process behind all others; khugepaged wakes up when there was none (khugepaged.c). */
function __khugepaged_enter(m: Machine, mm: MmStruct): void {
  const k = thp_state(m)!;
  const object = kmem_cache_alloc(m, mm_slot_cache(m), GFP_KERNEL);
  if (object === 0) return;
  mm.vm_hugepage = true;
  if (k.mm_slots.length === 0) k.wake_ms = m.clock.now_ms;
  k.mm_slots.push(new KhugepagedMmSlot(mm, object));
  mm.mm_count++;
}

/** Enters the process of an area that huge pages are good for. */
export function khugepaged_enter_vma(m: Machine, vma: VmArea, vm_flags: number): void {
  if (vma.vm_mm.vm_hugepage) return;
  if (hugepage_vma_check(m, vma, vm_flags, false, false, true)) __khugepaged_enter(m, vma.vm_mm);
}

/** A child is looked at when its parent is. */
export function khugepaged_fork(m: Machine, mm: MmStruct, oldmm: MmStruct): void {
  if (oldmm.vm_hugepage) __khugepaged_enter(m, mm);
}

function free_slot(m: Machine, k: ThpState, slot: KhugepagedMmSlot): void {
  k.mm_slots.splice(k.mm_slots.indexOf(slot), 1);
  slot.mm.vm_hugepage = false;
  kmem_cache_free(m, mm_slot_cache(m), slot.object);
  mmdrop(m, slot.mm);
}

/** The process ends; the one that the scan is at is forgotten when the scan goes on. */
export function khugepaged_exit(m: Machine, mm: MmStruct): void {
  if (!mm.vm_hugepage) return;
  const k = thp_state(m)!;
  const slot = k.mm_slots.find((s) => s.mm === mm)!;
  if (slot !== k.scan_slot) free_slot(m, k, slot);
}

// ---- one range of 512 pages

/** Nobody but page tables and the swap cache holds the page. */
function is_refcount_suitable(m: Machine, pfn: pfn_t): boolean {
  const p = m.memmap;
  const cached = PageSwapCache(p, pfn) ? compound_nr(p, pfn) : 0;
  return page_count(p, pfn) === total_mapcount(p, pfn) + cached;
}

/** Who looks at 512 ptes, and what was found (khugepaged.c: struct collapse_control). */
interface CollapseControl {
  /** False for MADV_COLLAPSE: neither the limits nor the pages' age count. */
  readonly is_khugepaged: boolean;
  unmapped: number;
  referenced: number;
  /** Pages on each node: the new one comes from where most are. */
  node_load: number[];
}

const new_control = (m: Machine, is_khugepaged: boolean): CollapseControl => ({
  is_khugepaged,
  unmapped: 0,
  referenced: 0,
  node_load: m.nodes.map(() => 0),
});

/** Looks at 512 pages without touching them (khugepaged.c: hpage_collapse_scan_pmd). */
function scan_ptes(m: Machine, k: ThpState, table: PageTable, cc: CollapseControl): number {
  const p = m.memmap;
  let none_or_zero = 0;
  let shared = 0;
  let writable = false;
  for (const pte of table.ptes!) {
    if (is_swap_pte(pte)) {
      if (++cc.unmapped <= k.max_ptes_swap || !cc.is_khugepaged) continue;
      count_vm_event(m, THP_SCAN_EXCEED_SWAP_PTE);
      return SCAN_EXCEED_SWAP_PTE;
    }
    if (pte_none(pte) || pte_pfn(pte) === m.zero_pfn) {
      if (++none_or_zero <= k.max_ptes_none || !cc.is_khugepaged) continue;
      count_vm_event(m, THP_SCAN_EXCEED_NONE_PTE);
      return SCAN_EXCEED_NONE_PTE;
    }
    if (pte_write(pte)) writable = true;
    const page = pte_pfn(pte);
    if (page_mapcount(p, page) > 1 && ++shared > k.max_ptes_shared && cc.is_khugepaged) {
      count_vm_event(m, THP_SCAN_EXCEED_SHARE_PTE);
      return SCAN_EXCEED_SHARED_PTE;
    }
    const head = compound_head(p, page);
    cc.node_load[page_zone(m, head).nid]!++;
    if (!PageLRU(p, head)) return SCAN_PAGE_LRU;
    if (PageLocked(p, head)) return SCAN_PAGE_LOCK;
    if (!PageAnon(p, head)) return SCAN_PAGE_ANON;
    if (!is_refcount_suitable(m, head)) return SCAN_PAGE_COUNT;
    if (pte_young(pte) || PageReferenced(p, head)) cc.referenced++;
  }
  if (!writable) return SCAN_PAGE_RO;
  if (!cc.is_khugepaged) return SCAN_SUCCEED;
  const enough = cc.unmapped === 0 || cc.referenced >= HPAGE_PMD_NR / 2;
  return cc.referenced > 0 && enough ? SCAN_SUCCEED : SCAN_LACK_REFERENCED_PAGE;
}

/** The huge page to copy to, from a node that has most of the pages; -1 (alloc_charge_hpage). */
function alloc_huge_page(m: Machine, k: ThpState, cc: CollapseControl): pfn_t | -1 {
  const most = Math.max(...cc.node_load);
  const nid = cc.node_load.indexOf(most);
  const zonelist = m.nodes[nid]!.node_zonelists[0]!.filter(
    (zone) => cc.node_load[zone.nid] === most,
  );
  const gfp = !cc.is_khugepaged || k.khugepaged_defrag !== 0 ? GFP_TRANSHUGE : GFP_TRANSHUGE_LIGHT;
  const pfn = __alloc_pages(m, gfp, HPAGE_PMD_ORDER, zonelist);
  count_vm_event(m, pfn < 0 ? THP_COLLAPSE_ALLOC_FAILED : THP_COLLAPSE_ALLOC);
  return pfn;
}

/** The area again after memory was looked for: null when it is not good for this any more. */
function hugepage_vma_revalidate(
  m: Machine,
  mm: MmStruct,
  address: vpn_t,
  cc: CollapseControl,
): VmArea | null {
  if (mm.mm_users === 0) return null;
  const vma = find_vma(mm, address);
  if (vma === null || !transhuge_vma_suitable(vma, address)) return null;
  if (!hugepage_vma_check(m, vma, vma.vm_flags, false, false, cc.is_khugepaged)) return null;
  return vma.anon_vma === null ? null : vma;
}

/** Reads the pages that are swapped out (khugepaged.c: __collapse_huge_page_swapin). */
function collapse_swapin(m: Machine, vma: VmArea, address: vpn_t, ptes: Int32Array): number {
  let swapped_in = 0;
  for (let vpn = address; vpn < address + HPAGE_PMD_NR; vpn++) {
    if (!is_swap_pte(ptes[vpn & 511]!)) continue;
    const fault = do_swap_page(m, null, vma, vpn, ptes, false);
    if ((fault & VM_FAULT_RETRY) !== 0) return SCAN_PAGE_LOCK;
    if ((fault & VM_FAULT_ERROR) !== 0) return SCAN_FAIL;
    swapped_in++;
  }
  // The vectors hold references of what was read.
  if (swapped_in > 0) lru_add_drain(m);
  return SCAN_SUCCEED;
}

/** Counts a page, or all of a block, as isolated or not. */
function mod_isolated(m: Machine, head: pfn_t, sign: number): void {
  page_zone(m, head).vm_stat[NR_ISOLATED_ANON]! += sign * compound_nr(m.memmap, head);
}

function release_pte_page(m: Machine, head: pfn_t): void {
  mod_isolated(m, head, -1);
  unlock_page(m.memmap, head);
  putback_lru_page(m, head);
}

/** Gives back what was isolated: single pages of the first `count` ptes, and whole blocks. */
function release_pte_pages(m: Machine, ptes: Int32Array, count: number, compounds: number): void {
  const p = m.memmap;
  for (let i = count - 1; i >= 0; i--) {
    const pte = ptes[i]!;
    if (!pte_present(pte) || pte_pfn(pte) === m.zero_pfn || PageCompound(p, pte_pfn(pte))) continue;
    release_pte_page(m, pte_pfn(pte));
  }
  for (let head = p.next[compounds]!; head !== compounds; head = p.next[compounds]!) {
    list_del(p, head);
    release_pte_page(m, head);
  }
}

/**
 * Locks and isolates all pages; with another answer than SCAN_SUCCEED none of them. Blocks go to the
 * list `compounds`. (khugepaged.c: __collapse_huge_page_isolate)
 */
function collapse_isolate(
  m: Machine,
  k: ThpState,
  ptes: Int32Array,
  compounds: number,
  cc: CollapseControl,
): number {
  const p = m.memmap;
  let none_or_zero = 0;
  let shared = 0;
  let referenced = 0;
  let writable = false;
  let result = SCAN_SUCCEED;
  let i = 0;
  for (; i < HPAGE_PMD_NR; i++) {
    const pte = ptes[i]!;
    if (pte_none(pte) || (pte_present(pte) && pte_pfn(pte) === m.zero_pfn)) {
      if (++none_or_zero <= k.max_ptes_none || !cc.is_khugepaged) continue;
      count_vm_event(m, THP_SCAN_EXCEED_NONE_PTE);
      result = SCAN_EXCEED_NONE_PTE;
      break;
    }
    if (!pte_present(pte)) {
      result = SCAN_PTE_NON_PRESENT;
      break;
    }
    const page = pte_pfn(pte);
    if (page_mapcount(p, page) > 1 && ++shared > k.max_ptes_shared && cc.is_khugepaged) {
      count_vm_event(m, THP_SCAN_EXCEED_SHARE_PTE);
      result = SCAN_EXCEED_SHARED_PTE;
      break;
    }
    const head = compound_head(p, page);
    let known = false;
    if (PageCompound(p, page)) {
      for (let x = p.next[compounds]!; x !== compounds && !known; x = p.next[x]!)
        known = x === head;
    }
    if (!known) {
      result = isolate_one(m, head);
      if (result !== SCAN_SUCCEED) break;
      if (PageCompound(p, head)) list_add_tail(p, head, compounds);
    }
    if (pte_young(pte) || PageReferenced(p, head)) referenced++;
    if (pte_write(pte)) writable = true;
  }
  if (result === SCAN_SUCCEED && !writable) result = SCAN_PAGE_RO;
  if (result === SCAN_SUCCEED && referenced === 0 && cc.is_khugepaged) {
    result = SCAN_LACK_REFERENCED_PAGE;
  }
  if (result !== SCAN_SUCCEED) release_pte_pages(m, ptes, i, compounds);
  return result;
}

function isolate_one(m: Machine, head: pfn_t): number {
  if (!trylock_page(m.memmap, head)) return SCAN_PAGE_LOCK;
  if (!is_refcount_suitable(m, head)) {
    unlock_page(m.memmap, head);
    return SCAN_PAGE_COUNT;
  }
  if (isolate_lru_page(m, head) !== 0) {
    unlock_page(m.memmap, head);
    return SCAN_DEL_PAGE_LRU;
  }
  mod_isolated(m, head, 1);
  return SCAN_SUCCEED;
}

/** Copies what the ptes map to the huge page and gives the old pages up (khugepaged.c). */
function collapse_copy(
  m: Machine,
  mm: MmStruct,
  ptes: Int32Array,
  hpage: pfn_t,
  compounds: number,
): void {
  const p = m.memmap;
  for (let i = 0; i < HPAGE_PMD_NR; i++) {
    const pte = ptes[i]!;
    ptes[i] = 0;
    if (pte_none(pte) || pte_pfn(pte) === m.zero_pfn) {
      m.contents.zero_page(hpage + i);
      mm.rss_stat[MM_ANONPAGES]!++;
      continue;
    }
    const src = pte_pfn(pte);
    m.contents.copy_page(src, hpage + i);
    if (!PageCompound(p, src)) release_pte_page(m, src);
    page_remove_rmap(m, src);
    free_page_and_swap_cache(m, src);
  }
  for (let head = p.next[compounds]!; head !== compounds; head = p.next[compounds]!) {
    list_del(p, head);
    release_pte_page(m, head);
  }
}

/** Replaces 512 ptes by one huge page (khugepaged.c: collapse_huge_page). One of SCAN_*. */
function collapse_huge_page(
  m: Machine,
  k: ThpState,
  mm: MmStruct,
  address: vpn_t,
  cc: CollapseControl,
): number {
  const hpage = alloc_huge_page(m, k, cc);
  if (hpage < 0) return SCAN_ALLOC_HUGE_PAGE_FAIL;
  const result = collapse_into(m, k, mm, address, hpage, cc);
  if (result !== SCAN_SUCCEED) put_page(m, hpage);
  return result;
}

function collapse_into(
  m: Machine,
  k: ThpState,
  mm: MmStruct,
  address: vpn_t,
  hpage: pfn_t,
  cc: CollapseControl,
): number {
  let vma = hugepage_vma_revalidate(m, mm, address, cc);
  if (vma === null) return SCAN_VMA_CHECK;
  const table = pte_table(mm, address);
  if (table === null) return SCAN_PMD_NULL;
  const ptes = table.ptes!;
  if (cc.unmapped > 0) {
    const result = collapse_swapin(m, vma, address, ptes);
    if (result !== SCAN_SUCCEED) return result;
    vma = hugepage_vma_revalidate(m, mm, address, cc);
    if (vma === null) return SCAN_VMA_CHECK;
  }
  const compounds = m.list_heads.take();
  const result = collapse_isolate(m, k, ptes, compounds, cc);
  if (result === SCAN_SUCCEED) {
    collapse_copy(m, mm, ptes, hpage, compounds);
    SetPageFlag(m.memmap, hpage, PG_uptodate);
    pmd_populate(mm, address, null);
    page_add_new_huge_rmap(m, hpage, vma, address);
    pgtable_trans_huge_deposit(mm, address, table);
    const pmd = mk_pte(hpage) | _PAGE_DIRTY;
    set_pmd(mm, address, (vma.vm_flags & VM_WRITE) !== 0 ? pte_mkwrite(pmd) : pmd);
  }
  m.list_heads.give_back(compounds);
  return result;
}

/**
 * Looks at 512 pages and makes a huge page of them if it can: one of SCAN_*, and whether it tried
 * (Linux: the lock of the address space was let go).
 */
function hpage_collapse_scan_pmd(
  m: Machine,
  k: ThpState,
  mm: MmStruct,
  address: vpn_t,
  cc: CollapseControl,
): { result: number; tried: boolean } {
  if (pmd_huge(mm, address) !== 0) return { result: SCAN_PMD_MAPPED, tried: false };
  const table = pte_table(mm, address);
  if (table === null) return { result: SCAN_PMD_NULL, tried: false };
  const result = scan_ptes(m, k, table, cc);
  if (result !== SCAN_SUCCEED) return { result, tried: false };
  return { result: collapse_huge_page(m, k, mm, address, cc), tried: true };
}

// ---- on request

/** Results after which MADV_COLLAPSE goes on with the next 512 pages. */
const CONTINUE_AFTER = [
  SCAN_SUCCEED,
  SCAN_PMD_MAPPED,
  SCAN_PMD_NULL,
  SCAN_PTE_NON_PRESENT,
  SCAN_PAGE_RO,
  SCAN_LACK_REFERENCED_PAGE,
  SCAN_PAGE_COUNT,
  SCAN_PAGE_LOCK,
  SCAN_PAGE_LRU,
  SCAN_DEL_PAGE_LRU,
];

/** What the caller is told of the last failure (khugepaged.c: madvise_collapse_errno). */
function madvise_collapse_errno(result: number): number {
  if (result === SCAN_ALLOC_HUGE_PAGE_FAIL) return -ENOMEM;
  if (result === SCAN_EXCEED_NONE_PTE) return -EBUSY;
  const again = [SCAN_PAGE_COUNT, SCAN_PAGE_LOCK, SCAN_PAGE_LRU, SCAN_DEL_PAGE_LRU];
  return again.includes(result) ? -EAGAIN : -EINVAL;
}

/**
 * MADV_COLLAPSE: makes huge pages of [start, end) of an area at once, whatever is enabled. 0 when all
 * of it has them then; -EINVAL, -ENOMEM, -EBUSY, or -EAGAIN: trying again may help. (khugepaged.c)
 */
export function madvise_collapse(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): number {
  const k = thp_state(m);
  if (k === null || !hugepage_vma_check(m, vma, vma.vm_flags, false, false, false)) return -EINVAL;
  const mm = vma.vm_mm;
  lru_add_drain_all(m);
  const hstart = Math.ceil(start / HPAGE_PMD_NR) * HPAGE_PMD_NR;
  const hend = Math.floor(end / HPAGE_PMD_NR) * HPAGE_PMD_NR;
  let last_fail = SCAN_FAIL;
  let thps = 0;
  for (let address = hstart; address < hend; address += HPAGE_PMD_NR) {
    const { result } = hpage_collapse_scan_pmd(m, k, mm, address, new_control(m, false));
    if (result === SCAN_SUCCEED || result === SCAN_PMD_MAPPED) thps++;
    else last_fail = result;
    if (!CONTINUE_AFTER.includes(result)) break;
  }
  return thps === (hend - hstart) / HPAGE_PMD_NR ? 0 : madvise_collapse_errno(last_fail);
}

// ---- the thread

/** Nothing to look at without processes, or while huge pages are off. */
function khugepaged_has_work(k: ThpState): boolean {
  return k.mm_slots.length > 0 && hugepage_flags_enabled(k);
}

/**
 * Looks at areas of one process from where the scan stands: until it tried to make a huge page, has
 * looked at `pages`, or is through with the process. Pages looked at, and the last result.
 */
function khugepaged_scan_mm_slot(
  m: Machine,
  k: ThpState,
  pages: number,
): { progress: number; result: number } {
  if (k.scan_slot === null) {
    k.scan_slot = k.mm_slots[0]!;
    k.scan_address = 0;
  }
  const slot = k.scan_slot;
  const { mm } = slot;
  let progress = 1;
  let result = SCAN_FAIL;
  let through = true;
  // A process that is ending has no areas worth a look.
  const areas = mm.mm_users === 0 ? [] : mm.mmap;
  scan: for (let i = find_vma_index(mm, k.scan_address); i < areas.length; i++) {
    const vma = areas[i]!;
    const hstart = Math.ceil(vma.vm_start / HPAGE_PMD_NR) * HPAGE_PMD_NR;
    const hend = Math.floor(vma.vm_end / HPAGE_PMD_NR) * HPAGE_PMD_NR;
    if (!hugepage_vma_check(m, vma, vma.vm_flags, false, false, true) || k.scan_address > hend) {
      progress++;
      continue;
    }
    k.scan_address = Math.max(k.scan_address, hstart);
    while (k.scan_address < hend) {
      const scanned = hpage_collapse_scan_pmd(m, k, mm, k.scan_address, new_control(m, true));
      result = scanned.result;
      if (result === SCAN_SUCCEED) k.pages_collapsed++;
      k.scan_address += HPAGE_PMD_NR;
      progress += HPAGE_PMD_NR;
      if (scanned.tried || progress >= pages) {
        through = false;
        break scan;
      }
    }
  }
  if (through || mm.mm_users === 0) {
    const next = k.mm_slots[k.mm_slots.indexOf(slot) + 1];
    k.scan_slot = next ?? null;
    k.scan_address = 0;
    if (next === undefined) k.full_scans++;
    if (mm.mm_users === 0) free_slot(m, k, slot);
  }
  return { progress, result };
}

/** Milliseconds that a sleep takes: whole timer ticks, at least one. */
function sleep_ms(millisecs: number): number {
  const tick = 1000 / HZ;
  return Math.max(1, Math.ceil(millisecs / tick)) * tick;
}

/**
 * One batch, or the rest of one after a sleep for memory; sets when it goes on.
 * (khugepaged.c: khugepaged_do_scan, khugepaged_wait_work)
 */
function* khugepaged_do_scan(m: Machine, k: ThpState): Job {
  const pages = k.pages_to_scan;
  if (k.progress < 0) {
    k.progress = 0;
    k.pass_through_head = 0;
    k.may_sleep = true;
    lru_add_drain_all(m);
  }
  while (k.progress < pages) {
    yield;
    if (k.scan_slot === null) k.pass_through_head++;
    if (!khugepaged_has_work(k) || k.pass_through_head >= 2) break;
    const { progress, result } = khugepaged_scan_mm_slot(m, k, pages - k.progress);
    k.progress += progress;
    if (k.progress >= pages || result !== SCAN_ALLOC_HUGE_PAGE_FAIL) continue;
    if (!k.may_sleep) break;
    k.may_sleep = false;
    k.wake_ms += sleep_ms(k.alloc_sleep_millisecs);
    return 0;
  }
  k.progress = -1;
  k.wake_ms += sleep_ms(k.scan_sleep_millisecs);
  return 0;
}

function* scan_what_is_due(m: Machine, k: ThpState): Job {
  while (!k.busy && khugepaged_has_work(k) && k.wake_ms <= m.clock.now_ms) {
    k.busy = true;
    yield* khugepaged_do_scan(m, k);
    k.busy = false;
  }
  return 0;
}

/** KernelProfile.khugepaged_tick: the scans that are due by now. Ends in 0. */
export function* khugepaged_tick(m: Machine): Job {
  const k = thp_state(m);
  if (k === null || k.busy || !khugepaged_has_work(k) || k.wake_ms > m.clock.now_ms) return 0;
  return yield* as_kthread(m, KHUGEPAGED, scan_what_is_due(m, k));
}

/** A setting of the sleeps was written: it goes on at once. */
export function wake_khugepaged(m: Machine, k: ThpState): void {
  k.wake_ms = m.clock.now_ms;
}

// ---- on and off

/**
 * Room for two pageblocks of each zone, and for one of each type that may have to fall back to each
 * other one; at most a twentieth of low memory. Without huge pages what it is by itself.
 */
function set_recommended_min_free_kbytes(m: Machine, k: ThpState): void {
  if (!hugepage_flags_enabled(k)) calculate_min_free_kbytes(m);
  else {
    const { pageblock_order, ZONE_NORMAL, page_shift } = m.shape;
    const nr_zones = m.populated_zones.filter((zone) => zone.zone_idx <= ZONE_NORMAL).length;
    const types = 3;
    let recommended = 2 ** pageblock_order * nr_zones * (2 + types * types);
    recommended = Math.min(recommended, Math.floor(nr_free_buffer_pages(m) / 20));
    const kbytes = recommended * 2 ** (page_shift - 10);
    if (kbytes > m.sysctl['min_free_kbytes']!) m.sysctl['min_free_kbytes'] = kbytes;
  }
  setup_per_zone_wmarks(m);
}

/** After a change of what is enabled: khugepaged runs or not, and the watermarks follow. */
export function start_stop_khugepaged(m: Machine): void {
  const k = thp_state(m)!;
  if (hugepage_flags_enabled(k)) wake_khugepaged(m, k);
  else k.progress = -1;
  set_recommended_min_free_kbytes(m, k);
}
