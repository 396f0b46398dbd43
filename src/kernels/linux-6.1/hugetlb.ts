/**
 * Growing the pool of huge pages of 6.1.
 *
 * One page after the other is asked from the buddy allocator, with leave to compact and to retry
 * until the first failure on a node; a pool stops growing at the first page that it cannot get.
 * Recorded: g4-hugepages. Linux: mm/hugetlb.c (set_max_huge_pages, alloc_pool_huge_page,
 * alloc_fresh_huge_page, alloc_buddy_huge_page).
 */
import {
  __GFP_COMP,
  __GFP_NOWARN,
  __GFP_REPEAT,
  __GFP_THISNODE,
  GFP_HIGHUSER_MOVABLE,
} from '../../mm/gfp.ts';
import type { Machine } from '../../mm/mmzone.ts';
import type { nid_t, pfn_t } from '../../mm/page.ts';

/** htlb_alloc_mask: huge pages can migrate on this architecture. */
const HTLB_GFP = GFP_HIGHUSER_MOVABLE | __GFP_THISNODE | __GFP_COMP | __GFP_NOWARN;

/** One huge page of a node, or -1. `noretry` remembers nodes that failed (hugetlb.c). */
export function alloc_fresh_huge_page(m: Machine, nid: nid_t, noretry: Set<nid_t>): pfn_t | -1 {
  const try_hard = !noretry.has(nid);
  const gfp = try_hard ? HTLB_GFP | __GFP_REPEAT : HTLB_GFP;
  const pfn = m.kernel.alloc_pages(m, gfp, m.shape.pageblock_order, nid);
  if (pfn >= 0 && !try_hard) noretry.delete(nid);
  if (pfn < 0 && try_hard) noretry.add(nid);
  return pfn;
}

/** Up to `count` huge pages of one node, as many as there are until the first failure. */
export function grow_pool(m: Machine, nid: nid_t, count: number): pfn_t[] {
  const noretry = new Set<nid_t>();
  const pages: pfn_t[] = [];
  while (pages.length < count) {
    const pfn = alloc_fresh_huge_page(m, nid, noretry);
    if (pfn < 0) break;
    pages.push(pfn);
  }
  return pages;
}
