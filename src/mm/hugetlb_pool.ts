/**
 * Huge page pools, as far as kernels agree: pages in and out, whose turn it is, surplus, promises.
 *
 * A pool is lists of free huge pages by node and counters beside them (hugetlb_def.ts). A page that
 * loses its last reference goes back to its list, or to the page allocator while its node has pages
 * beyond the pool's size. Promises to mappings are covered by free pages, at need by surplus ones.
 * How a pool grows and shrinks, how hard it tries and in what order it takes pages from nodes is in
 * the kernels' own hugetlb.ts; what address spaces do with the pages is in hugetlb.ts here.
 * Linux: mm/hugetlb.c.
 */
import { BUG_ON } from '../lib/bug.ts';
import { ENOMEM } from '../lib/errno.ts';
import { __GFP_COMP, __GFP_NOWARN, __GFP_REPEAT } from './gfp.ts';
import type { Hstate } from './hugetlb_def.ts';
import { type Machine, nodes_with_memory, page_zone } from './mmzone.ts';
import { type nid_t, type pfn_t, put_page_testzero } from './page.ts';
import {
  PG_active,
  PG_dirty,
  PG_error,
  PG_locked,
  PG_private,
  PG_referenced,
  PG_reserved,
  PG_writeback,
} from './page_flags.ts';
import { count_vm_event, HTLB_BUDDY_PGALLOC, HTLB_BUDDY_PGALLOC_FAIL } from './vmstat.ts';

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

export function hstate_next_node_to_alloc(h: Hstate, allowed: readonly nid_t[]): nid_t {
  const nid = get_valid_node_allowed(h.next_nid_to_alloc, allowed);
  h.next_nid_to_alloc = next_node_allowed(nid, allowed);
  return nid;
}

export function hstate_next_node_to_free(h: Hstate, allowed: readonly nid_t[]): nid_t {
  const nid = get_valid_node_allowed(h.next_nid_to_free, allowed);
  h.next_nid_to_free = next_node_allowed(nid, allowed);
  return nid;
}

// ---- pages in and out of the pool

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

/**
 * Takes a free page of a node off its list, so that the pool can give it away; -1 without one. With
 * `acct_surplus` one page of a node that has surplus pages, as such.
 */
export function take_free_huge_page(h: Hstate, nid: nid_t, acct_surplus: boolean): pfn_t | -1 {
  if (acct_surplus && h.surplus_huge_pages_node[nid] === 0) return -1;
  const pfn = dequeue_huge_page_node(h, nid);
  if (pfn >= 0 && acct_surplus) {
    h.surplus_huge_pages--;
    h.surplus_huge_pages_node[nid]!--;
  }
  return pfn;
}

/** Gives a page without references back to the page allocator (hugetlb.c). */
export function update_and_free_page(m: Machine, h: Hstate, pfn: pfn_t): void {
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
  if (h.surplus_huge_pages_node[nid]! > 0 && h.order < m.shape.max_order) {
    update_and_free_page(m, h, pfn);
    h.surplus_huge_pages--;
    h.surplus_huge_pages_node[nid]!--;
  } else {
    enqueue_huge_page(m, h, pfn);
  }
}

/** A new page, with the reference of its allocation, joins the pool (prep_new_huge_page). */
export function prep_new_huge_page(m: Machine, h: Hstate, pfn: pfn_t): void {
  h.nr_huge_pages++;
  h.nr_huge_pages_node[page_zone(m, pfn).nid]!++;
  free_huge_page(m, h, pfn);
}

/** Makes one surplus page persistent (-1) or the reverse (+1), on the next node that can. */
export function adjust_pool_surplus(h: Hstate, allowed: readonly nid_t[], delta: -1 | 1): boolean {
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

// ---- reservations and users

/** A page beyond the pool, with a reference, while overcommit allows; -1 otherwise (hugetlb.c). */
function alloc_buddy_huge_page(m: Machine, h: Hstate): pfn_t | -1 {
  if (h.order >= m.shape.max_order) return -1;
  if (h.surplus_huge_pages >= h.nr_overcommit_huge_pages || h.at_fault_limit()) return -1;
  // Counted before it is there, so that two at once cannot exceed the limit.
  h.nr_huge_pages++;
  h.surplus_huge_pages++;
  const mask = m.kernel.hugetlb!.alloc_mask(m);
  const gfp = mask | __GFP_COMP | __GFP_REPEAT | __GFP_NOWARN;
  const pfn = m.kernel.alloc_pages(m, gfp, h.order);
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
  if (h.order >= m.shape.max_order) return;
  const allowed = nodes_with_memory(m);
  for (let nr = Math.min(unused, h.surplus_huge_pages); nr > 0; nr--) {
    if (!m.kernel.hugetlb!.free_pool_huge_page(m, h, allowed, true)) break;
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
