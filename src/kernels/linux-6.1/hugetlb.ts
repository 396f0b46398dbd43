/**
 * Huge page pools of 6.1: growing, shrinking, surplus, reservations.
 *
 * A pool grows one page at a time, each a movable allocation of the huge order that is restricted to
 * one node, with leave to compact and to retry (__GFP_RETRY_MAYFAIL) until the first failure on that
 * node. Nodes take turns. At the first page that no allowed node can give the whole growth ends.
 * Recorded: g4-hugepages. Linux: mm/hugetlb.c. Differs: a pool of 1 GiB
 * pages stays empty, since ranges are not cleared for it (alloc_contig_range is absent).
 * (What address spaces do with the pages is in src/mm/hugetlb.ts.)
 */
import { BUG_ON } from '../../lib/bug.ts';
import { ENOMEM } from '../../lib/errno.ts';
import type { Job } from '../../lib/kthread.ts';
import {
  __GFP_COMP,
  __GFP_NOWARN,
  __GFP_REPEAT,
  __GFP_THISNODE,
  GFP_HIGHUSER_MOVABLE,
} from '../../mm/gfp.ts';
import { Hstate, type HugetlbOps } from '../../mm/hugetlb_def.ts';
import { type Machine, page_zone } from '../../mm/mmzone.ts';
import { type nid_t, type pfn_t, put_page_testzero } from '../../mm/page.ts';
import {
  PG_active,
  PG_dirty,
  PG_error,
  PG_locked,
  PG_private,
  PG_referenced,
  PG_reserved,
  PG_writeback,
} from '../../mm/page_flags.ts';
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

export function nodes_with_memory(m: Machine): nid_t[] {
  return m.nodes.filter((node) => node.zones.length > 0).map((node) => node.nid);
}

/** Pages of the pool that are not surplus. */
export const persistent_huge_pages = (h: Hstate): number => h.nr_huge_pages - h.surplus_huge_pages;

// ---- whose turn it is

function next_node_allowed(nid: nid_t, allowed: readonly nid_t[]): nid_t {
  for (const other of allowed) if (other > nid) return other;
  return allowed[0]!;
}

function get_valid_node_allowed(nid: nid_t, allowed: readonly nid_t[]): nid_t {
  return allowed.includes(nid) ? nid : next_node_allowed(nid, allowed);
}

function hstate_next_node_to_alloc(h: Hstate, allowed: readonly nid_t[]): nid_t {
  const nid = get_valid_node_allowed(h.next_nid_to_alloc, allowed);
  h.next_nid_to_alloc = next_node_allowed(nid, allowed);
  return nid;
}

function hstate_next_node_to_free(h: Hstate, allowed: readonly nid_t[]): nid_t {
  const nid = get_valid_node_allowed(h.next_nid_to_free, allowed);
  h.next_nid_to_free = next_node_allowed(nid, allowed);
  return nid;
}

// ---- pages in and out of the pool

/** htlb_alloc_mask: pages of the pool can migrate, so they come from movable memory. */
const HTLB_GFP = GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOWARN;

function enqueue_huge_page(m: Machine, h: Hstate, pfn: pfn_t): void {
  const nid = page_zone(m, pfn).nid;
  BUG_ON(m.memmap._count[pfn] !== 0, 'enqueue_huge_page: the page is in use');
  h.hugepage_freelists[nid]!.push(pfn);
  h.free_huge_pages++;
  h.free_huge_pages_node[nid]!++;
}

function dequeue_huge_page_node(h: Hstate, nid: nid_t): pfn_t | -1 {
  const pfn = h.hugepage_freelists[nid]!.pop();
  if (pfn === undefined) return -1;
  h.free_huge_pages--;
  h.free_huge_pages_node[nid]!--;
  return pfn;
}

/** Gives a page without references back to the page allocator (hugetlb.c). */
function update_and_free_page(m: Machine, h: Hstate, pfn: pfn_t): void {
  const p = m.memmap;
  h.nr_huge_pages--;
  h.nr_huge_pages_node[page_zone(m, pfn).nid]!--;
  const stale =
    PG_locked |
    PG_error |
    PG_referenced |
    PG_dirty |
    PG_active |
    PG_reserved |
    PG_private |
    PG_writeback;
  for (let i = pfn; i < pfn + 2 ** h.order; i++) p.flags[i]! &= ~stale;
  p._count[pfn] = 1;
  m.kernel.__free_pages(m, pfn, h.order);
}

/**
 * Takes a page's last reference's place: into the pool, or to the allocator while its node has
 * surplus pages (hugetlb.c: free_huge_page, the destructor of these compound pages).
 */
export function free_huge_page(m: Machine, h: Hstate, pfn: pfn_t): void {
  BUG_ON(!put_page_testzero(m.memmap, pfn), 'free_huge_page: somebody else holds the page');
  const nid = page_zone(m, pfn).nid;
  if (h.surplus_huge_pages_node[nid]! > 0) {
    update_and_free_page(m, h, pfn);
    h.surplus_huge_pages--;
    h.surplus_huge_pages_node[nid]!--;
  } else {
    enqueue_huge_page(m, h, pfn);
  }
}

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
  h.nr_huge_pages++;
  h.nr_huge_pages_node[page_zone(m, pfn).nid]!++;
  free_huge_page(m, h, pfn);
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
    if (acct_surplus && h.surplus_huge_pages_node[nid] === 0) continue;
    const pfn = dequeue_huge_page_node(h, nid);
    if (pfn < 0) continue;
    if (acct_surplus) {
      h.surplus_huge_pages--;
      h.surplus_huge_pages_node[nid]!--;
    }
    return pfn;
  }
  return -1;
}

/** Makes one surplus page persistent (-1) or the reverse (+1), on the next node that can. */
function adjust_pool_surplus(h: Hstate, allowed: readonly nid_t[], delta: -1 | 1): boolean {
  const next = delta < 0 ? hstate_next_node_to_alloc : hstate_next_node_to_free;
  const start = next(h, allowed);
  let nid = start;
  do {
    const surplus = h.surplus_huge_pages_node[nid]!;
    if (delta < 0 ? surplus > 0 : surplus < h.nr_huge_pages_node[nid]!) {
      h.surplus_huge_pages += delta;
      h.surplus_huge_pages_node[nid]! += delta;
      return true;
    }
    nid = next(h, allowed);
  } while (nid !== start);
  return false;
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

// ---- reservations and users

/** A page beyond the pool, with a reference, while overcommit allows; -1 otherwise (hugetlb.c). */
function alloc_buddy_huge_page(m: Machine, h: Hstate): pfn_t | -1 {
  if (h.surplus_huge_pages >= h.nr_overcommit_huge_pages || h.at_fault_limit()) return -1;
  // Counted before it is there, so that two at once cannot exceed the limit.
  h.nr_huge_pages++;
  h.surplus_huge_pages++;
  const pfn = m.kernel.alloc_pages(m, HTLB_GFP | __GFP_REPEAT, h.order);
  if (pfn < 0) {
    h.nr_huge_pages--;
    h.surplus_huge_pages--;
    count_vm_event(m, HTLB_BUDDY_PGALLOC_FAIL);
    return -1;
  }
  const nid = page_zone(m, pfn).nid;
  h.nr_huge_pages_node[nid]!++;
  h.surplus_huge_pages_node[nid]!++;
  count_vm_event(m, HTLB_BUDDY_PGALLOC);
  return pfn;
}

/** Makes the free pages suffice for `delta` more promises, all or nothing: 0 or -ENOMEM. */
function gather_surplus_pages(m: Machine, h: Hstate, delta: number): number {
  const surplus: pfn_t[] = [];
  let needed = h.resv_huge_pages + delta - h.free_huge_pages;
  while (needed > surplus.length) {
    const pfn = alloc_buddy_huge_page(m, h);
    if (pfn < 0) break;
    surplus.push(pfn);
    // The pool may have changed while memory was sought.
    needed = h.resv_huge_pages + delta - h.free_huge_pages;
  }
  const enough = needed <= surplus.length;
  if (enough) h.resv_huge_pages += delta;
  // Newest first, as they are on Linux's list; what is too much goes back.
  let wanted = enough ? Math.max(0, needed) : 0;
  for (let i = surplus.length - 1; i >= 0; i--) {
    if (wanted-- > 0) {
      m.memmap._count[surplus[i]!] = 0;
      enqueue_huge_page(m, h, surplus[i]!);
    } else {
      free_huge_page(m, h, surplus[i]!);
    }
  }
  return enough ? 0 : -ENOMEM;
}

function return_unused_surplus_pages(m: Machine, h: Hstate, unused: number): void {
  h.resv_huge_pages -= unused;
  const allowed = nodes_with_memory(m);
  for (let nr = Math.min(unused, h.surplus_huge_pages); nr > 0; nr--) {
    const pfn = remove_pool_huge_page(h, allowed, true);
    if (pfn < 0) break;
    update_and_free_page(m, h, pfn);
  }
}

/**
 * Promises `delta` pages of the pool to a mapping, or takes promises back when negative. 0, or
 * -ENOMEM when pool and overcommit cannot keep the promise (hugetlb.c).
 */
export function hugetlb_acct_memory(m: Machine, h: Hstate, delta: number): number {
  if (delta > 0) return gather_surplus_pages(m, h, delta);
  if (delta < 0) return_unused_surplus_pages(m, h, -delta);
  return 0;
}

/**
 * A page for a mapping's first touch, with a reference; -1 when there is none. `reserved`: it was
 * promised; else only pages that nobody was promised, or overcommitted ones (hugetlb.c).
 */
export function alloc_huge_page(m: Machine, h: Hstate, reserved: boolean, nid: nid_t): pfn_t | -1 {
  if (reserved || h.free_huge_pages - h.resv_huge_pages > 0) {
    // The nodes in the order of the zonelist of the one that asks.
    for (const zone of m.nodes[nid]!.node_zonelists[0]!) {
      const pfn = dequeue_huge_page_node(h, zone.nid);
      if (pfn < 0) continue;
      if (reserved) h.resv_huge_pages--;
      m.memmap._count[pfn] = 1;
      return pfn;
    }
  }
  return alloc_buddy_huge_page(m, h);
}

/** KernelProfile.hugetlb. */
export const hugetlb_ops: HugetlbOps = {
  acct_memory: hugetlb_acct_memory,
  alloc_huge_page,
  free_huge_page,
};
