/**
 * The memmap: struct page as columns of typed arrays, one row a page frame, list heads behind.
 *
 * A page is its pfn. Eight columns of 4 bytes make 32 bytes a page (Linux: 56 or 64). Every
 * column is a SharedArrayBuffer of its own, so that other threads can look, and fresh zeroed
 * memory already means something: row of zeroes = "inside a free block or never handed out".
 * Booting therefore touches free block heads and reserved pages only, whatever the size.
 * Linux: include/linux/mm_types.h (struct page), mm.h. Differs: _mapcount counts from 0 here
 * (Linux: from -1); the zone is looked up by page block instead of by flag bits; the order of a
 * free block, the type on a per-CPU list and a swap entry share `private_`, as in Linux.
 */
import { BUG_ON } from '../lib/bug.ts';
import { INIT_LIST_HEAD, type Links } from '../lib/list.ts';
import {
  PG_active,
  PG_buddy,
  PG_dirty,
  PG_head,
  PG_locked,
  PG_lru,
  PG_mlocked,
  PG_private,
  PG_private_2,
  PG_referenced,
  PG_reserved,
  PG_slab,
  PG_swapbacked,
  PG_swapcache,
  PG_tail,
  PG_unevictable,
  PG_uptodate,
  PG_writeback,
} from './page_flags.ts';

/** Page frame number. Plain numbers flow in; a pfn where an order is wanted does not compile. */
export type pfn_t = number & { readonly unit?: 'pfn' };
export type order_t = number & { readonly unit?: 'order' };
export type nid_t = number & { readonly unit?: 'nid' };

/** The low bits of the mapping column (mm.h: PAGE_MAPPING_ANON, PAGE_MAPPING_KSM). */
export const PAGE_MAPPING_ANON = 1;
export const PAGE_MAPPING_KSM = 2;
export const PAGE_MAPPING_FLAGS = 3;

/** The columns: what a row holds and who may write it. */
const COLUMNS = {
  /** PG_* bits. */
  flags: Uint32Array,
  /** References; 0 when free. */
  _count: Int32Array,
  /** Page table entries that map this page, from 0. */
  _mapcount: Int32Array,
  /**
   * PG_buddy: order. PG_swapcache: swap entry. PG_private: buffer handle. On a pcp list: type. First
   * tail page: order of the block; second one: page table entries that map the block as a whole.
   */
  private_: Int32Array,
  /** 0, or id << 2 | kind: address_space (00), anon_vma (01), KSM stable node (11). */
  mapping: Int32Array,
  /** Page offset in the file, or linear virtual page number. PG_tail: pfn of the head. */
  index: Uint32Array,
  /** The one list that this page is on; 0 in both: on none. */
  next: Int32Array,
  prev: Int32Array,
} as const;

export const BYTES_PER_PAGE = Object.keys(COLUMNS).length * 4;

export class Memmap implements Links {
  /** One more than the highest page frame with a memmap entry. */
  readonly nr_pages: number;
  /** Rows in all: pages, then list heads. */
  readonly nr_rows: number;
  readonly flags: Uint32Array;
  readonly _count: Int32Array;
  readonly _mapcount: Int32Array;
  readonly private_: Int32Array;
  readonly mapping: Int32Array;
  readonly index: Uint32Array;
  readonly next: Int32Array;
  readonly prev: Int32Array;
  /** The next row that new_list_head gives out. */
  private next_head: number;

  constructor(nr_pages: number, nr_heads: number) {
    this.nr_pages = nr_pages;
    this.nr_rows = nr_pages + nr_heads;
    this.next_head = Math.max(1, nr_pages);
    const bytes = this.nr_rows * 4;
    this.flags = new Uint32Array(new SharedArrayBuffer(bytes));
    this._count = new Int32Array(new SharedArrayBuffer(bytes));
    this._mapcount = new Int32Array(new SharedArrayBuffer(bytes));
    this.private_ = new Int32Array(new SharedArrayBuffer(bytes));
    this.mapping = new Int32Array(new SharedArrayBuffer(bytes));
    this.index = new Uint32Array(new SharedArrayBuffer(bytes));
    this.next = new Int32Array(new SharedArrayBuffer(bytes));
    this.prev = new Int32Array(new SharedArrayBuffer(bytes));
  }

  /** A fresh, empty list head: a row behind the pages. `count` rows in a run, the first is returned. */
  new_list_heads(count: number): number {
    const first = this.next_head;
    BUG_ON(first + count > this.nr_rows, 'memmap: out of list head rows');
    this.next_head += count;
    for (let i = 0; i < count; i++) INIT_LIST_HEAD(this, first + i);
    return first;
  }
}

// Flag tests and setters, by Linux's names. Only this file and loops that profiling named touch
// the flags column; the others call these.
export const PageLocked = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_locked) !== 0;
export const PageReferenced = (p: Memmap, pfn: pfn_t): boolean =>
  (p.flags[pfn]! & PG_referenced) !== 0;
export const PageUptodate = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_uptodate) !== 0;
export const PageDirty = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_dirty) !== 0;
export const PageLRU = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_lru) !== 0;
export const PageActive = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_active) !== 0;
export const PageSlab = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_slab) !== 0;
export const PageReserved = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_reserved) !== 0;
export const PagePrivate = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_private) !== 0;
export const PageWriteback = (p: Memmap, pfn: pfn_t): boolean =>
  (p.flags[pfn]! & PG_writeback) !== 0;
export const PageSwapCache = (p: Memmap, pfn: pfn_t): boolean =>
  (p.flags[pfn]! & PG_swapcache) !== 0;
export const PageBuddy = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_buddy) !== 0;
export const PageSwapBacked = (p: Memmap, pfn: pfn_t): boolean =>
  (p.flags[pfn]! & PG_swapbacked) !== 0;
export const PageUnevictable = (p: Memmap, pfn: pfn_t): boolean =>
  (p.flags[pfn]! & PG_unevictable) !== 0;
export const PageMlocked = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_mlocked) !== 0;
export const PageHead = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_head) !== 0;
export const PageTail = (p: Memmap, pfn: pfn_t): boolean => (p.flags[pfn]! & PG_tail) !== 0;
export const PageCompound = (p: Memmap, pfn: pfn_t): boolean =>
  (p.flags[pfn]! & (PG_head | PG_tail)) !== 0;

export const SetPageFlag = (p: Memmap, pfn: pfn_t, flag: number): void => {
  p.flags[pfn]! |= flag;
};
export const ClearPageFlag = (p: Memmap, pfn: pfn_t, flag: number): void => {
  p.flags[pfn]! &= ~flag;
};
export const TestPageFlag = (p: Memmap, pfn: pfn_t, flag: number): boolean =>
  (p.flags[pfn]! & flag) !== 0;
/** Clears the flag, returns whether it was set. */
export function TestClearPageFlag(p: Memmap, pfn: pfn_t, flag: number): boolean {
  const was = (p.flags[pfn]! & flag) !== 0;
  p.flags[pfn]! &= ~flag;
  return was;
}
/** Sets the flag, returns whether it was set before. */
export function TestSetPageFlag(p: Memmap, pfn: pfn_t, flag: number): boolean {
  const was = (p.flags[pfn]! & flag) !== 0;
  p.flags[pfn]! |= flag;
  return was;
}

/** Anonymous (KSM pages included): bit 0 of the mapping. Stays true after the last unmap. */
export const PageAnon = (p: Memmap, pfn: pfn_t): boolean =>
  (p.mapping[compound_head(p, pfn)]! & PAGE_MAPPING_ANON) !== 0;
export const PageKsm = (p: Memmap, pfn: pfn_t): boolean =>
  (p.mapping[pfn]! & PAGE_MAPPING_FLAGS) === PAGE_MAPPING_FLAGS;
export const page_count = (p: Memmap, pfn: pfn_t): number => p._count[pfn]!;
/** 1 when buffers are attached (they hold one reference), else 0. */
export const page_has_private = (p: Memmap, pfn: pfn_t): number =>
  (p.flags[pfn]! & (PG_private | PG_private_2)) !== 0 ? 1 : 0;
/** Selects the file or the anon LRU lists; swap-backed pages are "anon" (mm_inline.h). */
export const page_is_file_cache = (p: Memmap, pfn: pfn_t): boolean =>
  (p.flags[pfn]! & PG_swapbacked) === 0;

/** The order of a free block. Precondition: PG_buddy. */
export function page_order(p: Memmap, pfn: pfn_t): order_t {
  BUG_ON((p.flags[pfn]! & PG_buddy) === 0, 'page_order: not a free block');
  return p.private_[pfn]!;
}

export function compound_head(p: Memmap, pfn: pfn_t): pfn_t {
  return (p.flags[pfn]! & PG_tail) !== 0 ? p.index[pfn]! : pfn;
}

/** The order of the compound block that a page belongs to, 0 for others (mm.h: compound_order). */
export function compound_order(p: Memmap, pfn: pfn_t): order_t {
  return PageCompound(p, pfn) ? p.private_[compound_head(p, pfn) + 1]! : 0;
}

/** Pages of a head's block, 1 for a page that is no head (mm.h: thp_nr_pages, compound_nr). */
export function compound_nr(p: Memmap, pfn: pfn_t): number {
  return (p.flags[pfn]! & PG_head) !== 0 ? 1 << p.private_[pfn + 1]! : 1;
}

/** Entries of upper page tables that map the block of this head as a whole (mm.h). */
export function compound_mapcount(p: Memmap, head: pfn_t): number {
  // A block of two pages has no second tail page, and nobody maps it.
  return p.private_[head + 1]! >= 2 ? p.private_[head + 2]! : 0;
}

/** How often this very page is mapped, by itself or as a part of its block (mm.h). */
export function page_mapcount(p: Memmap, pfn: pfn_t): number {
  if (!PageCompound(p, pfn)) return p._mapcount[pfn]!;
  return p._mapcount[pfn]! + compound_mapcount(p, compound_head(p, pfn));
}

/** All mappings of a head's block and its parts (mm.h: total_mapcount, folio_mapcount). */
export function total_mapcount(p: Memmap, head: pfn_t): number {
  if (!PageCompound(p, head)) return p._mapcount[head]!;
  let count = compound_mapcount(p, head);
  const end = head + compound_nr(p, head);
  for (let pfn = head; pfn < end; pfn++) count += p._mapcount[pfn]!;
  return count;
}

/** Whether anybody maps the page, or any part of its block (util.c: page_mapped). */
export function page_mapped(p: Memmap, pfn: pfn_t): boolean {
  if (!PageCompound(p, pfn)) return p._mapcount[pfn]! > 0;
  const head = compound_head(p, pfn);
  if (compound_mapcount(p, head) > 0) return true;
  const end = head + compound_nr(p, head);
  for (let part = head; part < end; part++) if (p._mapcount[part]! > 0) return true;
  return false;
}

/** Takes a reference. Precondition: the page has one already (mm.h: get_page). */
export function get_page(p: Memmap, pfn: pfn_t): void {
  const head = compound_head(p, pfn);
  BUG_ON(p._count[head]! <= 0, 'get_page: the page has no reference');
  p._count[head]!++;
}

/** Takes a reference unless there is none left; returns whether it did. */
export function get_page_unless_zero(p: Memmap, pfn: pfn_t): boolean {
  if (p._count[pfn] === 0) return false;
  p._count[pfn]!++;
  return true;
}

/** Drops a reference; true when it was the last one. */
export function put_page_testzero(p: Memmap, pfn: pfn_t): boolean {
  BUG_ON(p._count[pfn]! <= 0, 'put_page: the page has no reference');
  return --p._count[pfn]! === 0;
}

/** lock_page without waiting; true when it was free. */
export function trylock_page(p: Memmap, pfn: pfn_t): boolean {
  return !TestSetPageFlag(p, pfn, PG_locked);
}

export function unlock_page(p: Memmap, pfn: pfn_t): void {
  BUG_ON((p.flags[pfn]! & PG_locked) === 0, 'unlock_page: the page is not locked');
  p.flags[pfn]! &= ~PG_locked;
}
