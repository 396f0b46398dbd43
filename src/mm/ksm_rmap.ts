/**
 * What the rest of mm asks of KSM: areas offered and withdrawn, fork, swap-in, and the reverse mapping.
 *
 * A merged page is found through the rmap_items of its stable node: each names an anon_vma and an
 * address, and forked copies of the area are found by walking that anon_vma.
 * Linux: mm/ksm.c of 2.6.35, its last part. Differs: a page that comes from swap is copied only where
 * it could not be mapped (2.6.36; 2.6.35 copies for each child as well).
 */
import { GFP_HIGHUSER_MOVABLE } from './gfp.ts';
import { is_mlocked_vma } from './internal.ts';
import { ANON_VMA, FIRST, HNEXT, KPFN, ksm_state_of, VPN } from './ksm_def.ts';
import {
  __ksm_enter,
  item_mm,
  ksm_exit,
  page_stable_node,
  unmerge_ksm_pages,
} from './ksm_items.ts';
import { add_page_to_unevictable_list, lru_cache_add_lru, put_page } from './lru.ts';
import { alloc_page_vma } from './memory.ts';
import {
  linear_page_index,
  type MmStruct,
  VM_DONTEXPAND,
  VM_HUGETLB,
  VM_IO,
  VM_LOCKED,
  VM_MAYSHARE,
  VM_MERGEABLE,
  VM_NONLINEAR,
  VM_PFNMAP,
  VM_RESERVED,
  VM_SHARED,
  type VmArea,
  type vpn_t,
} from './mm_types.ts';
import { LRU_ACTIVE_ANON, type Machine } from './mmzone.ts';
import { page_mapcount, page_mapped, type pfn_t, SetPageFlag, unlock_page } from './page.ts';
import { PG_dirty, PG_locked, PG_swapbacked, PG_uptodate } from './page_flags.ts';
import {
  type KsmRmap,
  page_anon_vma,
  page_check_address,
  page_referenced_one,
  type RmapOne,
  SWAP_AGAIN,
  SWAP_FAIL,
  try_to_unmap_one,
} from './rmap.ts';
import { KSM_SWPIN_COPY } from './vmstat.ts';

// ---- what the rest of mm calls

/** A child of an address space with mergeable areas has them too: 0 or -ENOMEM. */
function ksm_fork(m: Machine, mm: MmStruct, oldmm: MmStruct): number {
  return oldmm.ksm_slot !== 0 ? __ksm_enter(m, mm) : 0;
}

const KSM_NEVER =
  VM_SHARED |
  VM_MAYSHARE |
  VM_PFNMAP |
  VM_IO |
  VM_DONTEXPAND |
  VM_RESERVED |
  VM_HUGETLB |
  VM_NONLINEAR;

/** MADV_MERGEABLE for an area: 1, or 0 for one that cannot be merged or is, or -ENOMEM. */
function ksm_madvise_mergeable(m: Machine, vma: VmArea): number {
  if ((vma.vm_flags & (KSM_NEVER | VM_MERGEABLE)) !== 0) return 0;
  if (vma.vm_mm.ksm_slot === 0) {
    const err = __ksm_enter(m, vma.vm_mm);
    if (err !== 0) return err;
  }
  return 1;
}

/** MADV_UNMERGEABLE for a part of an area: 0, or -ENOMEM, and then it stays mergeable. */
function ksm_madvise_unmergeable(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): number {
  if ((vma.vm_flags & VM_MERGEABLE) === 0 || vma.anon_vma === null) return 0;
  return unmerge_ksm_pages(m, vma, start, end);
}

/**
 * A locked page came from swap: may it be mapped here? A page that was merged when it went out
 * belongs to the first who brings it in; the others get a copy, locked too. -1 without memory. The
 * old page is unlocked and its reference dropped when it is not the result.
 * (ksm_might_need_to_copy, ksm_does_need_to_copy)
 */
function ksm_might_need_to_copy(m: Machine, pfn: pfn_t, vma: VmArea, vpn: vpn_t): pfn_t | -1 {
  const p = m.memmap;
  const anon_vma = page_anon_vma(m, pfn);
  if (anon_vma === null) return pfn;
  if (p.index[pfn] === linear_page_index(vma, vpn)) {
    let avc = vma.avc_first;
    while (avc !== null && avc.anon_vma !== anon_vma) avc = avc.vma_next;
    if (avc !== null) return pfn;
  }
  unlock_page(p, pfn);
  const copy = alloc_page_vma(m, GFP_HIGHUSER_MOVABLE, vma, vpn);
  if (copy >= 0) {
    m.vm_events[KSM_SWPIN_COPY]!++;
    m.contents.copy_page(pfn, copy);
    SetPageFlag(p, copy, PG_dirty | PG_uptodate | PG_swapbacked | PG_locked);
    if (is_mlocked_vma(m, vma, copy)) add_page_to_unevictable_list(m, copy);
    else lru_cache_add_lru(m, copy, LRU_ACTIVE_ANON);
  }
  put_page(m, pfn);
  return copy;
}

/** The node of a merged page that has moved follows it (ksm_migrate_page). */
function ksm_migrate_page(m: Machine, new_: pfn_t): void {
  const node = page_stable_node(m, new_);
  if (node !== 0) ksm_state_of(m).nodes.cols[KPFN]![node] = new_;
}

/**
 * Calls `visit` for each area that may map a merged page, with its address: first the areas that
 * were scanned, then those of forks since. Stops when it returns true.
 */
function for_each_ksm_vma(
  m: Machine,
  pfn: pfn_t,
  visit: (vma: VmArea, vpn: vpn_t) => boolean,
): void {
  const node = page_stable_node(m, pfn);
  if (node === 0) return;
  const k = ksm_state_of(m);
  const { cols } = k.items;
  for (let forks = 0; forks < 2; forks++) {
    for (let item = k.nodes.cols[FIRST]![node]!; item !== 0; item = cols[HNEXT]![item]!) {
      const mm = item_mm(k, item);
      const vpn = cols[VPN]![item]!;
      const anon_vma = m.anon_vmas[cols[ANON_VMA]![item]!]!;
      for (let avc = anon_vma.head; avc !== null; avc = avc.av_next) {
        const { vma } = avc;
        if (vpn < vma.vm_start || vpn >= vma.vm_end) continue;
        if ((mm === vma.vm_mm) === (forks === 1)) continue;
        if (visit(vma, vpn)) return;
      }
    }
  }
}

function page_referenced_ksm(m: Machine, pfn: pfn_t): number {
  let mapcount = page_mapcount(m.memmap, pfn);
  let referenced = 0;
  for_each_ksm_vma(m, pfn, (vma, vpn) => {
    const table = page_check_address(pfn, vma.vm_mm, vpn);
    if (table === null) return false;
    referenced += page_referenced_one(m, table, vma, vpn);
    return --mapcount === 0 || (m.rmap_vm_flags & VM_LOCKED) !== 0;
  });
  return referenced;
}

function try_to_unmap_ksm(m: Machine, pfn: pfn_t, flags: number): number {
  if (page_stable_node(m, pfn) === 0) return SWAP_FAIL;
  let ret = SWAP_AGAIN;
  for_each_ksm_vma(m, pfn, (vma, vpn) => {
    ret = try_to_unmap_one(m, pfn, vma, vpn, flags);
    return ret !== SWAP_AGAIN || !page_mapped(m.memmap, pfn);
  });
  return ret;
}

function rmap_walk_ksm(m: Machine, pfn: pfn_t, rmap_one: RmapOne, arg: number): number {
  let ret = SWAP_AGAIN;
  for_each_ksm_vma(m, pfn, (vma, vpn) => {
    ret = rmap_one(m, pfn, vma, vpn, arg);
    return ret !== SWAP_AGAIN;
  });
  return ret;
}

/** What a kernel with KSM puts into its profile. */
export const ksm_ops: KsmRmap = {
  try_to_unmap_ksm,
  page_referenced_ksm,
  rmap_walk_ksm,
  ksm_fork,
  ksm_exit,
  ksm_madvise_mergeable,
  ksm_madvise_unmergeable,
  ksm_might_need_to_copy,
  ksm_migrate_page,
};
