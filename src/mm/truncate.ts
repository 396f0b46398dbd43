/**
 * Taking pages out of the cache: because the file was cut (truncate), or to make room (invalidate).
 *
 * Truncation takes every page, after its write-back has ended, and cannot fail. Invalidation takes
 * only what costs nothing: clean, unmapped, unlocked pages without busy buffers, on which nobody
 * but the cache and the caller has a reference. Both go in groups of 14 that are freed together.
 * Linux: mm/truncate.c, mm/vmscan.c (remove_mapping), fs/drop_caches.c.
 */
import { BUG_ON } from '../lib/bug.ts';
import type { Job } from '../lib/kthread.ts';
import type { AddressSpace } from './address_space.ts';
import { block_invalidatepage, try_to_release_page } from './buffer.ts';
import { __remove_from_page_cache, find_lock_page } from './filemap.ts';
import { clear_page_mlock } from './internal.ts';
import { lru_add_drain, put_page, release_pages } from './lru.ts';
import { unmap_mapping_range } from './memory.ts';
import { type Machine, PAGEVEC_SIZE } from './mmzone.ts';
import {
  PageDirty,
  PagePrivate,
  PageWriteback,
  page_count,
  page_has_private,
  page_mapped,
  type pfn_t,
  TestClearPageFlag,
  trylock_page,
  unlock_page,
} from './page.ts';
import { PG_mappedtodisk } from './page_flags.ts';
import { cancel_dirty_page, page_mapping, wait_on_page_writeback } from './page_writeback.ts';
import { radix_tree_gang_lookup } from './radix_tree.ts';

const pvec = new Int32Array(PAGEVEC_SIZE);
const pvec_index = new Float64Array(PAGEVEC_SIZE);

/** The next 14 pages from an index on, each with a reference (swap.c: pagevec_lookup). */
function pagevec_lookup(m: Machine, mapping: AddressSpace, start: number): number {
  const nr = radix_tree_gang_lookup(m, mapping.page_tree, start, pvec, pvec_index, PAGEVEC_SIZE);
  for (let i = 0; i < nr; i++) m.memmap._count[pvec[i]!]!++;
  return nr;
}

/** Drops the references; pages that nobody else holds are freed together (swap.c). */
function pagevec_release(m: Machine, nr: number): void {
  lru_add_drain(m);
  release_pages(m, pvec, nr, false);
}

/** Drops a locked page that is in the cache, whatever is in it (truncate.c: truncate_inode_page). */
export function truncate_inode_page(m: Machine, mapping: AddressSpace, pfn: pfn_t): void {
  const p = m.memmap;
  if (page_mapped(p, pfn)) {
    unmap_mapping_range(m, mapping, p.index[pfn]!, p.index[pfn]!, false);
  }
  if (PagePrivate(p, pfn)) block_invalidatepage(m, pfn, 0);
  cancel_dirty_page(m, pfn);
  clear_page_mlock(m, pfn);
  __remove_from_page_cache(m, pfn);
  TestClearPageFlag(p, pfn, PG_mappedtodisk);
  put_page(m, pfn);
}

/**
 * Drops the next 14 pages of a mapping from index `next` on. Returns where to go on, -1 at the end:
 * the body of truncate_inode_pages' loop, which has a cond_resched behind it.
 */
export function truncate_some_pages(m: Machine, mapping: AddressSpace, next: number): number {
  const p = m.memmap;
  const nr = mapping.nrpages === 0 ? 0 : pagevec_lookup(m, mapping, next);
  if (nr === 0) return -1;
  const last = pvec_index[nr - 1]!;
  for (let i = 0; i < nr; i++) {
    const pfn = pvec[i]!;
    BUG_ON(!trylock_page(p, pfn), 'truncate_inode_pages: the page is locked for ever');
    wait_on_page_writeback(m, pfn);
    truncate_inode_page(m, mapping, pfn);
    unlock_page(p, pfn);
  }
  pagevec_release(m, nr);
  return last + 1;
}

/** Zeroes what lies behind byte `lstart` in the page that it cuts in two. */
export function truncate_partial_page(m: Machine, mapping: AddressSpace, lstart: number): void {
  const p = m.memmap;
  const page_size = 1 << m.shape.page_shift;
  const start = Math.ceil(lstart / page_size);
  const partial = lstart % page_size;
  if (partial === 0 || mapping.nrpages === 0) return;
  const pfn = find_lock_page(m, mapping, start - 1);
  if (pfn < 0) return;
  wait_on_page_writeback(m, pfn);
  m.contents.zero_range(pfn, partial, page_size - partial);
  if (page_has_private(p, pfn)) block_invalidatepage(m, pfn, partial);
  unlock_page(p, pfn);
  put_page(m, pfn);
}

/**
 * Drops all pages of a mapping from byte `lstart` on; a page that is cut in two is zeroed behind
 * the cut (truncate.c: truncate_inode_pages).
 */
export function truncate_inode_pages(m: Machine, mapping: AddressSpace, lstart: number): void {
  let next = Math.ceil(lstart / (1 << m.shape.page_shift));
  while (next >= 0) next = truncate_some_pages(m, mapping, next);
  truncate_partial_page(m, mapping, lstart);
}

/**
 * Takes a locked, clean page out of its mapping if only the cache and the caller hold it; the
 * caller keeps one reference (vmscan.c: remove_mapping, for file pages).
 */
export function remove_mapping(m: Machine, mapping: AddressSpace, pfn: pfn_t): boolean {
  const p = m.memmap;
  BUG_ON(page_mapping(m, pfn) !== mapping, 'remove_mapping: the page is in another mapping');
  if (page_count(p, pfn) !== 2 || PageDirty(p, pfn)) return false;
  __remove_from_page_cache(m, pfn);
  p._count[pfn] = 1;
  return true;
}

/** Drops a locked page if nothing is lost; true then (truncate.c: invalidate_inode_page). */
export function invalidate_inode_page(m: Machine, pfn: pfn_t): boolean {
  const p = m.memmap;
  const mapping = page_mapping(m, pfn);
  if (mapping === null || PageDirty(p, pfn) || PageWriteback(p, pfn)) return false;
  if (page_mapped(p, pfn)) return false;
  if (page_has_private(p, pfn) && !try_to_release_page(m, pfn, 0)) return false;
  clear_page_mlock(m, pfn);
  return remove_mapping(m, mapping, pfn);
}

/**
 * Drops the pages from index `start` to `end` that are not in use. Returns how many went
 * (truncate.c: invalidate_mapping_pages).
 */
export function invalidate_mapping_pages(
  m: Machine,
  mapping: AddressSpace,
  start: number,
  end: number,
): number {
  const p = m.memmap;
  let dropped = 0;
  for (let next = start; next <= end; ) {
    const nr = pagevec_lookup(m, mapping, next);
    if (nr === 0) break;
    next = pvec_index[nr - 1]! + 1;
    for (let i = 0; i < nr && pvec_index[i]! <= end; i++) {
      const pfn = pvec[i]!;
      if (!trylock_page(p, pfn)) continue;
      if (invalidate_inode_page(m, pfn)) dropped++;
      unlock_page(p, pfn);
    }
    pagevec_release(m, nr);
  }
  return dropped;
}

/**
 * Drops the clean page cache of all files and devices; pauses between files. Returns how many
 * pages went (fs/drop_caches.c: drop_pagecache).
 */
export function* drop_pagecache(m: Machine): Job {
  let dropped = 0;
  for (const mapping of m.mappings.all()) {
    if (mapping === m.swapper_space || !m.mappings.is_alive(mapping)) continue;
    dropped += invalidate_mapping_pages(m, mapping, 0, Number.MAX_SAFE_INTEGER);
    yield;
  }
  return dropped;
}
