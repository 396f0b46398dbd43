/**
 * The data of huge page pools: one Hstate a size.
 *
 * Free pages of a pool are whole compound blocks without a reference, kept per node, last in, first
 * out. A page in use is its user's, with one reference. Behaviour is in hugetlb_pool.ts and, where
 * kernels differ, in theirs.
 * Linux: include/linux/hugetlb.h (struct hstate). Differs: free pages are in arrays, not on lists.
 */
import type { Machine } from './mmzone.ts';
import type { nid_t, order_t, pfn_t } from './page.ts';

export class Hstate {
  readonly order: order_t;
  /** Size in KiB, as in the name of its directory. */
  readonly size_kb: number;
  /** All pages of the pool, surplus included. */
  nr_huge_pages = 0;
  free_huge_pages = 0;
  /** Of the free ones: promised to mappings that have not touched them yet. */
  resv_huge_pages = 0;
  /** Taken beyond the pool's size while overcommit allows it; go back when they are freed. */
  surplus_huge_pages = 0;
  nr_overcommit_huge_pages = 0;
  /** The size of the pool that was reached by the last change: persistent pages. */
  max_huge_pages = 0;
  /** A tester's limit: at so many pages there is no memory for another (sim/test_files.ts); -1: none. */
  fault_limit = -1;
  readonly nr_huge_pages_node: Int32Array;
  readonly free_huge_pages_node: Int32Array;
  readonly surplus_huge_pages_node: Int32Array;
  /** By node: first frames of free pages; the last one is taken next. */
  readonly hugepage_freelists: pfn_t[][] = [];
  next_nid_to_alloc: nid_t = 0;
  next_nid_to_free: nid_t = 0;

  constructor(order: order_t, page_shift: number, nr_nodes: number) {
    this.order = order;
    this.size_kb = 2 ** (order + page_shift - 10);
    this.nr_huge_pages_node = new Int32Array(nr_nodes);
    this.free_huge_pages_node = new Int32Array(nr_nodes);
    this.surplus_huge_pages_node = new Int32Array(nr_nodes);
    for (let nid = 0; nid < nr_nodes; nid++) this.hugepage_freelists.push([]);
  }

  /** Whether a tester wants the next page not to be found. */
  at_fault_limit(): boolean {
    return this.fault_limit >= 0 && this.nr_huge_pages >= this.fault_limit;
  }
}

/** Which pages of a file of huge pages the maker of its area has taken (struct resv_map). */
export class ResvMap {
  /** Parts of the area that share it. */
  refs = 1;
  /** By page of the file: 1 once its promise was called in. */
  readonly used: Uint8Array;

  constructor(pages: number) {
    this.used = new Uint8Array(pages);
  }
}

/** What a kernel with pools decides of what hugetlb_pool.ts does for all. */
export interface HugetlbOps {
  /** Zone and mobility of the pages (htlb_alloc_mask). */
  alloc_mask(m: Machine): number;
  /**
   * Gives a free page of the next node that has one to the allocator: whether there was one. With
   * `acct_surplus` only a surplus one.
   */
  free_pool_huge_page(
    m: Machine,
    h: Hstate,
    allowed: readonly nid_t[],
    acct_surplus: boolean,
  ): boolean;
}

/** The pool of the default size; undefined on a machine that has not booted (default_hstate). */
export function default_hstate(m: Machine): Hstate | undefined {
  return m.hstates[m.default_hstate_idx];
}

/** Pages that the pool of the default size keeps from all others (hugetlb.c). */
export function hugetlb_total_pages(m: Machine): number {
  const h = default_hstate(m);
  return h === undefined ? 0 : h.nr_huge_pages * 2 ** h.order;
}
