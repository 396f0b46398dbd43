/**
 * Huge page pools of 6.1: how they grow and shrink.
 *
 * A pool grows one page at a time, each a movable allocation of the huge order that is restricted to
 * one node, with leave to compact and to retry (__GFP_RETRY_MAYFAIL) until the first failure on that
 * node. Nodes take turns. At the first page that no allowed node can give the whole growth ends.
 * Recorded: g4-hugepages. Linux: mm/hugetlb.c. Differs: a pool of 1 GiB
 * pages stays empty, since ranges are not cleared for it (alloc_contig_range is absent).
 * (What kernels agree on is in src/mm/hugetlb_pool.ts, what address spaces do in src/mm/hugetlb.ts.)
 */
import type { Job } from '../../lib/kthread.ts';
import {
  __GFP_COMP,
  __GFP_NOWARN,
  __GFP_REPEAT,
  __GFP_THISNODE,
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
import { type Machine, nodes_with_memory } from '../../mm/mmzone.ts';
import type { nid_t, pfn_t } from '../../mm/page.ts';
import { count_vm_event, HTLB_BUDDY_PGALLOC, HTLB_BUDDY_PGALLOC_FAIL } from '../../mm/vmstat.ts';

/** Creates the pools, empty: 2 MiB pages, and those of 1 GiB where the processor has them. */
export function hugetlb_init(m: Machine): void {
  const { pageblock_order, page_shift, gbpages } = m.shape;
  const orders = gbpages ? [pageblock_order, 30 - page_shift] : [pageblock_order];
  m.default_hstate_idx = m.hstates.length;
  for (const order of orders) {
    const h = new Hstate(order, page_shift, m.nodes.length);
    h.next_nid_to_alloc = h.next_nid_to_free = nodes_with_memory(m)[0] ?? 0;
    m.hstates.push(h);
  }
}

// ---- pages in and out of the pool

/** Of every page of a pool. */
const HTLB_GFP = GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOWARN;

/** A new page of exactly this node, into the pool. `noretry` remembers nodes that failed. */
function alloc_fresh_huge_page_node(
  m: Machine,
  h: Hstate,
  nid: nid_t,
  noretry: Set<nid_t>,
): boolean {
  // Pages larger than any block would have to be put together (alloc_contig_range).
  if (h.order >= m.shape.max_order) return false;
  const try_hard = !noretry.has(nid);
  const gfp = HTLB_GFP | __GFP_THISNODE | (try_hard ? __GFP_REPEAT : 0);
  const pfn = h.at_fault_limit() ? -1 : m.kernel.alloc_pages(m, gfp, h.order, nid);
  count_vm_event(m, pfn >= 0 ? HTLB_BUDDY_PGALLOC : HTLB_BUDDY_PGALLOC_FAIL);
  if (pfn >= 0 && !try_hard) noretry.delete(nid);
  if (pfn < 0 && try_hard) noretry.add(nid);
  if (pfn < 0) return false;
  prep_new_huge_page(m, h, pfn);
  return true;
}

/** A new page of the next node that has one (hugetlb.c: alloc_pool_huge_page). */
function alloc_pool_huge_page(
  m: Machine,
  h: Hstate,
  allowed: readonly nid_t[],
  noretry: Set<nid_t>,
): boolean {
  for (let i = 0; i < allowed.length; i++) {
    const nid = hstate_next_node_to_alloc(h, allowed);
    if (alloc_fresh_huge_page_node(m, h, nid, noretry)) return true;
  }
  return false;
}

/**
 * Takes a free page of the next node that has one out of the pool's lists; with `acct_surplus` of a
 * node with surplus pages, as such. -1 without one. (hugetlb.c: remove_pool_huge_page)
 */
function remove_pool_huge_page(
  h: Hstate,
  allowed: readonly nid_t[],
  acct_surplus: boolean,
): pfn_t | -1 {
  for (let i = 0; i < allowed.length; i++) {
    const nid = hstate_next_node_to_free(h, allowed);
    const pfn = take_free_huge_page(h, nid, acct_surplus);
    if (pfn >= 0) return pfn;
  }
  return -1;
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
  const noretry = new Set<nid_t>();
  while (h.surplus_huge_pages > 0 && count > persistent_huge_pages(h)) {
    if (!adjust_pool_surplus(h, allowed, -1)) break;
  }
  while (count > persistent_huge_pages(h)) {
    yield;
    if (!alloc_pool_huge_page(m, h, allowed, noretry)) break;
  }
  // What is promised stays; the rest of what is in use becomes surplus.
  const min_count = Math.max(count, h.resv_huge_pages + h.nr_huge_pages - h.free_huge_pages);
  const pages: pfn_t[] = [];
  while (min_count < persistent_huge_pages(h) - pages.length) {
    const pfn = remove_pool_huge_page(h, allowed, false);
    if (pfn < 0) break;
    pages.push(pfn);
  }
  // They lie on a list meanwhile, the last one in front.
  for (let i = pages.length - 1; i >= 0; i--) {
    update_and_free_page(m, h, pages[i]!);
    if (i % 16 === 0) yield;
  }
  while (count < persistent_huge_pages(h)) {
    if (!adjust_pool_surplus(h, allowed, 1)) break;
  }
  h.max_huge_pages = persistent_huge_pages(h);
  return h.max_huge_pages;
}

/** The same for one node: `count` is its own share (hugetlb.c: __nr_hugepages_store_common). */
export function set_node_huge_pages(m: Machine, h: Hstate, count: number, nid: nid_t): Job {
  return set_max_huge_pages(m, h, count + h.nr_huge_pages - h.nr_huge_pages_node[nid]!, [nid]);
}

/** Gives one free page of the next node that has one to the allocator: whether there was one. */
function free_pool_huge_page(
  m: Machine,
  h: Hstate,
  allowed: readonly nid_t[],
  acct_surplus: boolean,
): boolean {
  const pfn = remove_pool_huge_page(h, allowed, acct_surplus);
  if (pfn < 0) return false;
  update_and_free_page(m, h, pfn);
  return true;
}

/** KernelProfile.hugetlb: pages of the pool can migrate, so they come from movable memory. */
export const hugetlb_ops: HugetlbOps = {
  alloc_mask: () => GFP_HIGHUSER_MOVABLE,
  free_pool_huge_page,
};
