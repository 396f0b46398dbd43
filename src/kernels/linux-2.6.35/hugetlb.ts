/**
 * Huge page pools of 2.6.35: how they grow and shrink.
 *
 * A pool grows one page at a time, each an ordinary allocation of the huge order that is restricted
 * to one node and tries hard (__GFP_REPEAT: direct compaction, then reclaim, round and round until
 * reclaim has made progress of one page's worth). Nodes take turns. At the first failure the whole
 * growth ends. Pages are unmovable unless hugepages_treat_as_movable says otherwise, and the blocks
 * that they came from stay unmovable after they went back.
 * Between two pages other work runs, kswapd first of all, as it does on a machine with one CPU when
 * the growing task has used up its time.
 * Linux: mm/hugetlb.c; what kernels agree on is in src/mm/hugetlb_pool.ts, what address spaces do with
 * the pages in src/mm/hugetlb.ts. Differs: pages larger than any block cannot be set aside at boot,
 * so their pools stay empty.
 */
import type { Job } from '../../lib/kthread.ts';
import {
  __GFP_COMP,
  __GFP_NOWARN,
  __GFP_REPEAT,
  __GFP_THISNODE,
  GFP_HIGHUSER,
  GFP_HIGHUSER_MOVABLE,
} from '../../mm/gfp.ts';
import { Hstate, type HugetlbOps } from '../../mm/hugetlb_def.ts';
import {
  adjust_pool_surplus,
  hstate_next_node_to_alloc,
  hstate_next_node_to_free,
  persistent_huge_pages,
  prep_new_huge_page,
  take_free_huge_page,
  update_and_free_page,
} from '../../mm/hugetlb_pool.ts';
import { type Machine, nodes_with_memory, page_zone } from '../../mm/mmzone.ts';
import type { nid_t } from '../../mm/page.ts';
import { count_vm_event, HTLB_BUDDY_PGALLOC, HTLB_BUDDY_PGALLOC_FAIL } from '../../mm/vmstat.ts';
import { run_kswapd } from './kswapd.ts';
import { alloc_pages_job } from './page_alloc.ts';
import { is_highmem } from './watermark.ts';

/** Slices that kswapd gets for each page: about as much as the growth itself takes. */
const KSWAPD_SLICES = 2;

/** Sizes in KiB by machine, the default first; all that the processor has and are above a page. */
const SIZES_KB: Record<string, readonly number[]> = {
  x86_64: [2048],
  x86: [2048],
  ppc64: [16384, 64, 16777216],
};

/** Creates the pools of this machine, empty (hugetlb.c: hugetlb_init; hugetlbpage.c of powerpc). */
export function hugetlb_init(m: Machine): void {
  const { page_shift } = m.shape;
  const sizes = SIZES_KB[m.shape.machine] ?? [2048];
  // Larger than any block: only boot memory could fill it, and none is set aside.
  for (const kb of m.shape.gbpages ? [...sizes, 2 ** 20] : sizes) {
    const order = Math.log2(kb) + 10 - page_shift;
    if (order > 0) m.hstates.push(new Hstate(order, page_shift, m.nodes.length));
  }
  m.default_hstate_idx = 0;
  const first = nodes_with_memory(m)[0] ?? 0;
  for (const h of m.hstates) {
    h.next_nid_to_alloc = first;
    h.next_nid_to_free = first;
  }
}

// ---- pages in and out of the pool

/** htlb_alloc_mask: movable memory only when the administrator says so. */
function htlb_alloc_mask(m: Machine): number {
  const movable = (m.sysctl['hugepages_treat_as_movable'] ?? 0) !== 0;
  return movable ? GFP_HIGHUSER_MOVABLE : GFP_HIGHUSER;
}

/** A new page of exactly this node, straight into the pool: whether there was one. */
function* alloc_fresh_huge_page_node(m: Machine, h: Hstate, nid: nid_t): Job<boolean> {
  const gfp = htlb_alloc_mask(m) | __GFP_COMP | __GFP_THISNODE | __GFP_REPEAT | __GFP_NOWARN;
  const pfn = h.at_fault_limit() ? -1 : yield* alloc_pages_job(m, gfp, h.order, nid);
  if (pfn < 0) return false;
  prep_new_huge_page(m, h, pfn);
  return true;
}

/** A new page of the next node that has one (hugetlb.c). */
export function* alloc_fresh_huge_page(
  m: Machine,
  h: Hstate,
  allowed: readonly nid_t[],
): Job<boolean> {
  const start = hstate_next_node_to_alloc(h, allowed);
  let nid = start;
  let got = false;
  // Two writers at once take turns at the nodes: each gives up after as many as there are.
  let left = allowed.length;
  do {
    got = yield* alloc_fresh_huge_page_node(m, h, nid);
    if (!got) nid = hstate_next_node_to_alloc(h, allowed);
  } while (!got && nid !== start && --left > 0);
  count_vm_event(m, got ? HTLB_BUDDY_PGALLOC : HTLB_BUDDY_PGALLOC_FAIL);
  return got;
}

/**
 * Gives one free page of the next node that has one to the allocator; with `acct_surplus` one of a
 * node with surplus pages, as such. Whether there was one (hugetlb.c).
 */
function free_pool_huge_page(
  m: Machine,
  h: Hstate,
  allowed: readonly nid_t[],
  acct_surplus: boolean,
): boolean {
  const start = hstate_next_node_to_free(h, allowed);
  let nid = start;
  do {
    const pfn = take_free_huge_page(h, nid, acct_surplus);
    if (pfn >= 0) {
      update_and_free_page(m, h, pfn);
      return true;
    }
    nid = hstate_next_node_to_free(h, allowed);
  } while (nid !== start);
  return false;
}

/** HighMem kernels give up low memory first (hugetlb.c: try_to_free_low). */
function try_to_free_low(m: Machine, h: Hstate, count: number, allowed: readonly nid_t[]): void {
  if (m.shape.ZONE_HIGHMEM < 0) return;
  for (const nid of allowed) {
    const list = h.hugepage_freelists[nid]!;
    // From the head of the list, which is the end of the array.
    for (let i = list.length - 1; i >= 0; i--) {
      if (count >= h.nr_huge_pages) return;
      const pfn = list[i]!;
      if (is_highmem(m, page_zone(m, pfn))) continue;
      list.splice(i, 1);
      h.free_huge_pages--;
      h.free_huge_pages_node[nid]!--;
      update_and_free_page(m, h, pfn);
    }
  }
}

/**
 * Brings the pool to `count` persistent pages, as far as memory allows; only nodes of `allowed`
 * give and take. Returns the persistent pages that there are then. (hugetlb.c)
 */
export function* set_max_huge_pages(
  m: Machine,
  h: Hstate,
  count: number,
  allowed: readonly nid_t[],
): Job {
  // Gigantic pages come from boot memory alone.
  if (h.order >= m.shape.max_order) return h.max_huge_pages;
  while (h.surplus_huge_pages > 0 && count > persistent_huge_pages(h)) {
    if (!adjust_pool_surplus(h, allowed, -1)) break;
  }
  while (count > persistent_huge_pages(h)) {
    if (!(yield* alloc_fresh_huge_page(m, h, allowed))) return persistent_huge_pages(h);
    yield;
    yield* run_kswapd(m, KSWAPD_SLICES);
  }
  // What is promised stays; the rest of what is in use becomes surplus.
  const min_count = Math.max(count, h.resv_huge_pages + h.nr_huge_pages - h.free_huge_pages);
  try_to_free_low(m, h, min_count, allowed);
  while (min_count < persistent_huge_pages(h)) {
    if (!free_pool_huge_page(m, h, allowed, false)) break;
    if (h.nr_huge_pages % 16 === 0) yield;
  }
  while (count < persistent_huge_pages(h)) {
    if (!adjust_pool_surplus(h, allowed, 1)) break;
  }
  return persistent_huge_pages(h);
}

/** KernelProfile.hugetlb. */
export const hugetlb_ops: HugetlbOps = { alloc_mask: htlb_alloc_mask, free_pool_huge_page };
