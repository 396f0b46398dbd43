/**
 * Transparent huge pages of 6.1: faults on anonymous memory, copy on write, the huge page of zeroes,
 * and the splitting of pages that are no longer mapped in all parts, when memory is short.
 *
 * What a fault may do to get a huge page is the setting `defrag`. Without one it maps a small page. On
 * machines with nodes it first asks the nearest one and only compacts there, then, if it may reclaim,
 * all of them. A huge page that fork shared is split into ptes by the first write.
 * Linux: mm/huge_memory.c, mm/mempolicy.c (vma_alloc_folio). The mechanics are in src/mm/huge_memory.ts.
 * Differs: no pins of user pages, so that fork never has to copy a huge page; huge pages never migrate,
 * since compaction passes over them in 6.1 (recorded: g3-compaction, `T`) and what else moves them there,
 * mbind, move_pages and NUMA balancing, moves nothing here.
 */
import { BUG_ON } from '../../lib/bug.ts';
import { list_add_tail, list_del, list_empty, list_move } from '../../lib/list.ts';
import { page_of_deferred_list, split_queue } from '../../mm/deferred_split.ts';
import {
  __GFP_MOVABLE,
  __GFP_NORETRY,
  __GFP_THISNODE,
  __GFP_WAIT,
  __GFP_ZERO,
} from '../../mm/gfp.ts';
import {
  __split_huge_pmd,
  HPAGE_PMD_NR,
  HPAGE_PMD_ORDER,
  has_transparent_hugepage,
  hpage_start,
  is_huge_zero_pmd,
  map_huge_pmd,
  page_add_new_huge_rmap,
  split_huge_page_to_list,
  type ThpOps,
} from '../../mm/huge_memory.ts';
import { lru_add_drain, put_page } from '../../mm/lru.ts';
import { VM_FAULT_FALLBACK, VM_FAULT_MINOR, VM_FAULT_OOM } from '../../mm/memory.ts';
import {
  linear_page_index,
  type MmStruct,
  MPOL_BIND,
  MPOL_DEFAULT,
  MPOL_INTERLEAVE,
  VM_HUGEPAGE,
  VM_WRITE,
  type VmArea,
  type vpn_t,
} from '../../mm/mm_types.ts';
import { type Machine, numa_node_id } from '../../mm/mmzone.ts';
import {
  compound_head,
  get_page_unless_zero,
  PageLRU,
  page_count,
  type pfn_t,
  SetPageFlag,
  trylock_page,
  unlock_page,
} from '../../mm/page.ts';
import { PG_anon_exclusive, PG_uptodate } from '../../mm/page_flags.ts';
import {
  _PAGE_DIRTY,
  mk_pte,
  pmd_huge,
  pte_alloc_one,
  pte_free,
  pte_mkdirty,
  pte_mkwrite,
  pte_mkyoung,
  pte_pfn,
  set_pmd,
} from '../../mm/page_table.ts';
import { DEFAULT_SEEKS, register_shrinker, type ShrinkerOps } from '../../mm/reclaim_def.ts';
import { anon_vma_prepare, page_move_anon_rmap } from '../../mm/rmap.ts';
import {
  count_vm_event,
  THP_FAULT_ALLOC,
  THP_FAULT_FALLBACK,
  THP_ZERO_PAGE_ALLOC,
  THP_ZERO_PAGE_ALLOC_FAILED,
} from '../../mm/vmstat.ts';
import { __GFP_NO_KSWAPD, GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT } from './gfp.ts';
import { hugepage_vma_check, ThpState, thp_state, transhuge_vma_suitable } from './huge_mm.ts';
import {
  khugepaged_enter_vma,
  khugepaged_exit,
  khugepaged_fork,
  madvise_collapse,
  start_stop_khugepaged,
} from './khugepaged.ts';

/** What a fault in this area may do to get a huge page (huge_memory.c). */
export function vma_thp_gfp_mask(k: ThpState, vma: VmArea): number {
  const madvised = (vma.vm_flags & VM_HUGEPAGE) !== 0;
  switch (k.defrag) {
    case 'always':
      return GFP_TRANSHUGE | (madvised ? 0 : __GFP_NORETRY);
    case 'defer':
      return GFP_TRANSHUGE_LIGHT & ~__GFP_NO_KSWAPD;
    case 'defer+madvise':
      return madvised ? GFP_TRANSHUGE : GFP_TRANSHUGE_LIGHT & ~__GFP_NO_KSWAPD;
    case 'madvise':
      return madvised ? GFP_TRANSHUGE : GFP_TRANSHUGE_LIGHT;
    default:
      return GFP_TRANSHUGE_LIGHT;
  }
}

/**
 * A huge page by the area's memory policy, or -1: on the nearest node by compaction alone, then
 * anywhere when the request may reclaim. (mempolicy.c: vma_alloc_folio)
 */
function vma_alloc_huge_page(m: Machine, gfp: number, vma: VmArea, haddr: vpn_t): pfn_t | -1 {
  const order = HPAGE_PMD_ORDER;
  if (!m.shape.numa) return m.kernel.alloc_pages(m, gfp, order);
  const own = vma.vm_policy !== MPOL_DEFAULT;
  const policy = own ? vma.vm_policy : vma.vm_mm.policy;
  const policy_nid = own ? vma.vm_policy_nid : vma.vm_mm.policy_nid;
  if (policy === MPOL_INTERLEAVE) {
    const index = Math.floor(linear_page_index(vma, haddr) / HPAGE_PMD_NR);
    return m.kernel.alloc_pages(m, gfp, order, index % m.nodes.length);
  }
  const local = numa_node_id(m);
  const nid = policy === MPOL_DEFAULT ? local : policy_nid;
  const bound = policy === MPOL_BIND ? __GFP_THISNODE : 0;
  // A task on another node than those it is bound to asks in the ordinary way.
  if (bound !== 0 && nid !== local) return m.kernel.alloc_pages(m, gfp | bound, order, nid);
  const pfn = m.kernel.alloc_pages(m, gfp | __GFP_THISNODE | __GFP_NORETRY, order, nid);
  if (pfn >= 0 || (gfp & __GFP_WAIT) === 0) return pfn;
  return m.kernel.alloc_pages(m, gfp | bound, order, nid);
}

// ---- the huge page of zeroes

/** Gives the address space a hold on the huge page of zeroes: the page, or -1 without memory. */
function mm_get_huge_zero_page(m: Machine, mm: MmStruct): pfn_t | -1 {
  if (mm.huge_zero_page) return m.huge_zero_pfn;
  if (m.huge_zero_refcount === 0) {
    const gfp = (GFP_TRANSHUGE | __GFP_ZERO) & ~__GFP_MOVABLE;
    const pfn = m.kernel.alloc_pages(m, gfp, HPAGE_PMD_ORDER);
    if (pfn < 0) {
      count_vm_event(m, THP_ZERO_PAGE_ALLOC_FAILED);
      return -1;
    }
    count_vm_event(m, THP_ZERO_PAGE_ALLOC);
    m.huge_zero_pfn = pfn;
    // One more, which the shrinker drops.
    m.huge_zero_refcount = 1;
  }
  m.huge_zero_refcount++;
  mm.huge_zero_page = true;
  return m.huge_zero_pfn;
}

function mm_put_huge_zero_page(m: Machine, mm: MmStruct): void {
  if (!mm.huge_zero_page) return;
  mm.huge_zero_page = false;
  m.huge_zero_refcount--;
  BUG_ON(m.huge_zero_refcount < 1, 'put_huge_zero_page: only the shrinker drops the last hold');
}

/** Frees the huge page of zeroes when no process maps it (huge_memory.c: huge_zero_page_shrinker). */
export const huge_zero_page_shrinker: ShrinkerOps = {
  name: 'thp-zero',
  seeks: DEFAULT_SEEKS,
  shrink(m, nr_to_scan) {
    if (m.huge_zero_refcount !== 1) return 0;
    if (nr_to_scan === 0) return HPAGE_PMD_NR;
    const pfn = m.huge_zero_pfn;
    m.huge_zero_refcount = 0;
    m.huge_zero_pfn = -1;
    m.kernel.__free_pages(m, pfn, HPAGE_PMD_ORDER);
    return 0;
  },
};

// ---- faults

/** First touch of an aligned range (huge_memory.c: do_huge_pmd_anonymous_page). */
function create_huge_pmd(m: Machine, vma: VmArea, vpn: vpn_t, write: boolean): number {
  if (!hugepage_vma_check(m, vma, vma.vm_flags, false, true, true)) return VM_FAULT_FALLBACK;
  const haddr = hpage_start(vpn);
  if (!transhuge_vma_suitable(vma, haddr)) return VM_FAULT_FALLBACK;
  if (anon_vma_prepare(m, vma) !== 0) return VM_FAULT_OOM;
  khugepaged_enter_vma(m, vma, vma.vm_flags);
  const k = thp_state(m)!;
  if (!write && k.use_zero_page !== 0) return set_huge_zero_page(m, vma, haddr);
  const head = vma_alloc_huge_page(m, vma_thp_gfp_mask(k, vma), vma, haddr);
  if (head < 0) {
    count_vm_event(m, THP_FAULT_FALLBACK);
    return VM_FAULT_FALLBACK;
  }
  const pgtable = pte_alloc_one(m);
  if (pgtable === null) {
    put_page(m, head);
    return VM_FAULT_OOM;
  }
  for (let i = 0; i < HPAGE_PMD_NR; i++) m.contents.zero_page(head + i);
  SetPageFlag(m.memmap, head, PG_uptodate);
  const pmd = mk_pte(head) | _PAGE_DIRTY;
  page_add_new_huge_rmap(m, head, vma, haddr);
  map_huge_pmd(m, vma.vm_mm, haddr, maybe_pmd_mkwrite(pmd, vma), pgtable);
  count_vm_event(m, THP_FAULT_ALLOC);
  return VM_FAULT_MINOR;
}

/** A read of 512 pages that were never written. */
function set_huge_zero_page(m: Machine, vma: VmArea, haddr: vpn_t): number {
  const pgtable = pte_alloc_one(m);
  if (pgtable === null) return VM_FAULT_OOM;
  const zero = mm_get_huge_zero_page(m, vma.vm_mm);
  if (zero < 0) {
    pte_free(m, pgtable);
    count_vm_event(m, THP_FAULT_FALLBACK);
    return VM_FAULT_FALLBACK;
  }
  map_huge_pmd(m, vma.vm_mm, haddr, mk_pte(zero), pgtable);
  return VM_FAULT_MINOR;
}

/** Write permission for areas that have it (huge_memory.c). */
export function maybe_pmd_mkwrite(pmd: number, vma: VmArea): number {
  return (vma.vm_flags & VM_WRITE) !== 0 ? pte_mkwrite(pmd) : pmd;
}

/** True when the caller's mapping is all that holds the page: it belongs to the area alone then. */
function take_if_last_user(m: Machine, vma: VmArea, head: pfn_t): boolean {
  const p = m.memmap;
  BUG_ON(!trylock_page(p, head), 'do_huge_pmd_wp_page: the page is locked');
  const last = page_count(p, head) === 1;
  if (last) page_move_anon_rmap(m, head, vma);
  unlock_page(p, head);
  return last;
}

/**
 * A write to a huge page without write permission: in place when nobody else has it, else by ptes, so
 * that one small page is copied. (huge_memory.c: do_huge_pmd_wp_page)
 */
function wp_huge_pmd(m: Machine, vma: VmArea, vpn: vpn_t): number {
  const p = m.memmap;
  const pmd = pmd_huge(vma.vm_mm, vpn);
  const head = pte_pfn(pmd);
  const own =
    !is_huge_zero_pmd(m, pmd) &&
    ((p.flags[head]! & PG_anon_exclusive) !== 0 || take_if_last_user(m, vma, head));
  if (!own) {
    __split_huge_pmd(m, vma, vpn);
    return VM_FAULT_FALLBACK;
  }
  SetPageFlag(p, head, PG_anon_exclusive);
  set_pmd(vma.vm_mm, vpn, maybe_pmd_mkwrite(pte_mkdirty(pte_mkyoung(pmd)), vma));
  return VM_FAULT_MINOR;
}

/** The same for a pte that maps one part: the whole page counts (memory.c: do_wp_page). */
function reuse_huge_part(m: Machine, vma: VmArea, pfn: pfn_t): boolean {
  const p = m.memmap;
  if ((p.flags[pfn]! & PG_anon_exclusive) !== 0) return true;
  const head = compound_head(p, pfn);
  if (page_count(p, head) > 3) return false;
  if (!PageLRU(p, head)) lru_add_drain(m);
  if (!take_if_last_user(m, vma, head)) return false;
  SetPageFlag(p, pfn, PG_anon_exclusive);
  return true;
}

// ---- the deferred split queue

/** Splits pages off the head of a node's queue; they come back to its end when that fails. */
function deferred_split_scan(m: Machine, nr_to_scan: number, nid: number): number {
  const p = m.memmap;
  const pgdat = m.nodes[nid]!;
  const queue = split_queue(m, pgdat);
  const list = m.list_heads.take();
  while (nr_to_scan-- > 0 && !list_empty(p, queue)) {
    const row = p.next[queue]!;
    BUG_ON(!get_page_unless_zero(p, page_of_deferred_list(p, row)), 'deferred_split_scan: freed');
    list_move(p, row, list);
  }
  let split = 0;
  for (let row = p.next[list]!; row !== list; ) {
    const next = p.next[row]!;
    const head = page_of_deferred_list(p, row);
    if (PageLRU(p, head) && trylock_page(p, head)) {
      if (split_huge_page_to_list(m, head) === 0) split++;
      unlock_page(p, head);
    }
    put_page(m, head);
    row = next;
  }
  for (let row = p.next[list]!; row !== list; row = p.next[list]!) {
    list_del(p, row);
    list_add_tail(p, row, queue);
  }
  m.list_heads.give_back(list);
  return split;
}

/** huge_memory.c: deferred_split_shrinker. */
export const deferred_split_shrinker: ShrinkerOps = {
  name: 'thp-deferred_split',
  seeks: DEFAULT_SEEKS,
  shrink(m, nr_to_scan, _gfp, nid = 0) {
    const pgdat = m.nodes[nid]!;
    if (pgdat.split_queue_len === 0) return nr_to_scan === 0 ? 0 : -1;
    if (nr_to_scan > 0) deferred_split_scan(m, nr_to_scan, nid);
    return pgdat.split_queue_len;
  },
};

// ---- boot

/** Settings of a booting kernel; small machines do without (huge_memory.c: hugepage_init). */
export function hugepage_init(m: Machine): void {
  if (!has_transparent_hugepage(m)) return;
  const k = new ThpState();
  m.kernel_state.set('thp', k);
  register_shrinker(m, huge_zero_page_shrinker);
  register_shrinker(m, deferred_split_shrinker);
  if (m.totalram_pages < 512 * 2 ** (20 - m.shape.page_shift)) return;
  k.enabled = 'always';
  k.defrag = 'madvise';
  k.use_zero_page = 1;
  k.khugepaged_defrag = 1;
  start_stop_khugepaged(m);
}

export const thp_ops: ThpOps = {
  create_huge_pmd,
  wp_huge_pmd,
  reuse_huge_part,
  thp_eligible: (m, vma) => hugepage_vma_check(m, vma, vma.vm_flags, true, false, true),
  khugepaged_enter_vma,
  madvise_collapse,
  khugepaged_fork,
  khugepaged_exit,
  mm_put_huge_zero_page,
};
