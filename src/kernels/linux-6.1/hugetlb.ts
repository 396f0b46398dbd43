/**
 * Huge page pools of 6.1: growing and shrinking them.
 *
 * One page after the other is asked from the buddy allocator, with leave to compact and to retry
 * until the first failure on a node; a pool stops growing at the first page that no allowed node
 * can give. Pages are taken from, and given back to, the nodes in turn.
 * Recorded: g4-hugepages. Linux: mm/hugetlb.c (set_max_huge_pages, alloc_pool_huge_page,
 * alloc_fresh_huge_page, remove_pool_huge_page). Differs: pages of 1 GiB are absent.
 */
import { BUG_ON } from '../../lib/bug.ts';
import type { Job } from '../../lib/kthread.ts';
import {
  __GFP_COMP,
  __GFP_NOWARN,
  __GFP_REPEAT,
  __GFP_THISNODE,
  GFP_HIGHUSER_MOVABLE,
} from '../../mm/gfp.ts';
import { Hstate } from '../../mm/hugetlb_def.ts';
import type { Machine } from '../../mm/mmzone.ts';
import type { nid_t, pfn_t } from '../../mm/page.ts';
import { count_vm_event, HTLB_BUDDY_PGALLOC, HTLB_BUDDY_PGALLOC_FAIL } from '../../mm/vmstat.ts';

/** htlb_alloc_mask: huge pages can migrate on this architecture. */
const HTLB_GFP = GFP_HIGHUSER_MOVABLE | __GFP_THISNODE | __GFP_COMP | __GFP_NOWARN;

/** The pool of pages of a pageblock's size: part of boot. */
export function hugetlb_init(m: Machine): void {
  m.hstates.push(new Hstate(m.shape.pageblock_order, m.shape.page_shift, m.nodes.length));
  m.default_hstate_idx = m.hstates.length - 1;
}

export function nodes_with_memory(m: Machine): nid_t[] {
  return m.nodes.filter((node) => node.zones.length > 0).map((node) => node.nid);
}

/** Pages that the pool shall have, without those that only overcommit allows. */
export const persistent_huge_pages = (h: Hstate): number => h.nr_huge_pages - h.surplus_huge_pages;

/** One huge page of a node, or -1. `noretry` remembers nodes that failed (hugetlb.c). */
function alloc_fresh_huge_page(m: Machine, h: Hstate, nid: nid_t, noretry: Set<nid_t>): pfn_t {
  const try_hard = !noretry.has(nid);
  const gfp = try_hard ? HTLB_GFP | __GFP_REPEAT : HTLB_GFP;
  const pfn = h.at_fault_limit() ? -1 : m.kernel.alloc_pages(m, gfp, h.order, nid);
  count_vm_event(m, pfn >= 0 ? HTLB_BUDDY_PGALLOC : HTLB_BUDDY_PGALLOC_FAIL);
  if (pfn >= 0 && !try_hard) noretry.delete(nid);
  if (pfn < 0 && try_hard) noretry.add(nid);
  return pfn;
}

/** The node after `nid` in turn, of those allowed. */
function next_node_allowed(nodes: readonly nid_t[], nid: nid_t): nid_t {
  return nodes.find((n) => n > nid) ?? nodes[0]!;
}

/** Adds a page to the pool, from the node whose turn it is or the next; false when none has one. */
function alloc_pool_huge_page(
  m: Machine,
  h: Hstate,
  nodes: readonly nid_t[],
  noretry: Set<nid_t>,
): boolean {
  for (let i = 0; i < nodes.length; i++) {
    const nid = nodes.includes(h.next_nid_to_alloc)
      ? h.next_nid_to_alloc
      : next_node_allowed(nodes, h.next_nid_to_alloc);
    h.next_nid_to_alloc = next_node_allowed(nodes, nid);
    const pfn = alloc_fresh_huge_page(m, h, nid, noretry);
    if (pfn < 0) continue;
    m.memmap._count[pfn] = 0;
    h.nr_huge_pages++;
    h.nr_huge_pages_node[nid]!++;
    h.free_huge_pages++;
    h.free_huge_pages_node[nid]!++;
    h.hugepage_freelists[nid]!.push(pfn);
    return true;
  }
  return false;
}

/** Takes a free page out of the pool, from the node whose turn it is or the next; -1 without one. */
function remove_pool_huge_page(h: Hstate, nodes: readonly nid_t[]): pfn_t | -1 {
  for (let i = 0; i < nodes.length; i++) {
    const nid = nodes.includes(h.next_nid_to_free)
      ? h.next_nid_to_free
      : next_node_allowed(nodes, h.next_nid_to_free);
    h.next_nid_to_free = next_node_allowed(nodes, nid);
    const pfn = h.hugepage_freelists[nid]!.pop();
    if (pfn === undefined) continue;
    h.nr_huge_pages--;
    h.nr_huge_pages_node[nid]!--;
    h.free_huge_pages--;
    h.free_huge_pages_node[nid]!--;
    return pfn;
  }
  return -1;
}

/**
 * Grows or shrinks the pool on the given nodes to `count` persistent pages as far as possible;
 * returns what it has then. (hugetlb.c: set_max_huge_pages)
 */
export function* set_max_huge_pages(
  m: Machine,
  h: Hstate,
  count: number,
  nodes: readonly nid_t[],
): Job {
  const noretry = new Set<nid_t>();
  while (count > persistent_huge_pages(h)) {
    yield;
    if (!alloc_pool_huge_page(m, h, nodes, noretry)) break;
  }
  const keep = Math.max(count, h.resv_huge_pages + h.nr_huge_pages - h.free_huge_pages);
  const pages: pfn_t[] = [];
  while (keep < persistent_huge_pages(h)) {
    const pfn = remove_pool_huge_page(h, nodes);
    if (pfn < 0) break;
    pages.push(pfn);
  }
  // They lie on a list meanwhile, the last one in front.
  for (const pfn of pages.reverse()) {
    BUG_ON(m.memmap._count[pfn] !== 0, 'set_max_huge_pages: a page in use is freed');
    m.memmap._count[pfn] = 1;
    m.kernel.__free_pages(m, pfn, h.order);
  }
  h.max_huge_pages = persistent_huge_pages(h);
  return h.max_huge_pages;
}

/** The same for one node: `count` is its own share (hugetlb.c: __nr_hugepages_store_common). */
export function set_node_huge_pages(m: Machine, h: Hstate, count: number, nid: nid_t): Job {
  return set_max_huge_pages(m, h, count + h.nr_huge_pages - h.nr_huge_pages_node[nid]!, [nid]);
}
