/**
 * Migrating a list of isolated pages, as 2.6.35 does it: at most ten passes, the last seven of which
 * wait for page locks and write-back.
 *
 * Each page gets a fresh target, is locked, unmapped (its page table entries become migration
 * entries), moved and mapped again. While an anonymous page is unmapped nothing but a reference
 * taken here keeps its anon_vma alive: its last process may exit. Unmapped anonymous pages stay
 * where they are, except those in the swap cache, which move without being mapped again.
 * Linux: mm/migrate.c (migrate_pages, unmap_and_move). Differs: a target allocator may say "not now"
 * (NEED_RESCHED), so that a long scan for targets can be interrupted.
 */

import { BUG_ON } from '../../lib/bug.ts';
import { EAGAIN, EBUSY, ENOMEM } from '../../lib/errno.ts';
import type { Job } from '../../lib/kthread.ts';
import { list_del } from '../../lib/list.ts';
import { try_to_free_buffers } from '../../mm/buffer.ts';
import { putback_lru_page } from '../../mm/lru.ts';
import { move_to_new_page } from '../../mm/migrate.ts';
import type { AnonVma } from '../../mm/mm_types.ts';
import { type Machine, page_zone } from '../../mm/mmzone.ts';
import {
  PageAnon,
  PageKsm,
  PagePrivate,
  PageSwapCache,
  PageWriteback,
  page_count,
  page_is_file_cache,
  page_mapped,
  type pfn_t,
  trylock_page,
  unlock_page,
} from '../../mm/page.ts';
import { wait_on_page_writeback } from '../../mm/page_writeback.ts';
import {
  drop_anon_vma,
  get_anon_vma,
  page_anon_vma,
  remove_migration_ptes,
  TTU_IGNORE_ACCESS,
  TTU_IGNORE_MLOCK,
  TTU_MIGRATION,
  try_to_unmap,
} from '../../mm/rmap.ts';
import { NR_ISOLATED_ANON, NR_ISOLATED_FILE } from '../../mm/vmstat.ts';

/** What a target allocator returns when it paused: call again after other work has run. */
export const NEED_RESCHED = -2;

/** Gives a target frame (>= 0), -1 when there is none any more, or NEED_RESCHED. */
export type NewPage<T> = (m: Machine, private_: T) => pfn_t;

/**
 * Migrates the pages on the list at row `from`. Whatever did not move is put back on the LRU lists:
 * the list is always empty afterwards. Returns how many failed, or -ENOMEM when targets ran out.
 */
export function* migrate_pages<T>(
  m: Machine,
  from: number,
  get_new_page: NewPage<T>,
  private_: T,
  offlining: boolean,
): Job {
  const p = m.memmap;
  let retry = 1;
  let nr_failed = 0;
  let rc = 0;
  for (let pass = 0; pass < 10 && retry > 0 && rc !== -ENOMEM; pass++) {
    retry = 0;
    for (let pfn = p.next[from]!; pfn !== from; ) {
      const next = p.next[pfn]!;
      if (m.sleeps) yield;
      let new_ = get_new_page(m, private_);
      while (new_ === NEED_RESCHED) {
        yield;
        new_ = get_new_page(m, private_);
      }
      rc = new_ < 0 ? -ENOMEM : unmap_and_move(m, new_, pfn, pass > 2, offlining);
      if (rc === -ENOMEM) break;
      if (rc === -EAGAIN) retry++;
      else if (rc !== 0) nr_failed++;
      pfn = next;
    }
  }
  putback_lru_pages(m, from);
  return rc === -ENOMEM ? -ENOMEM : nr_failed + retry;
}

/** Gives all pages of a list back to the LRU lists, from the head (migrate.c). */
export function putback_lru_pages(m: Machine, from: number): void {
  const p = m.memmap;
  for (let pfn = p.next[from]!; pfn !== from; pfn = p.next[from]!) unlist_and_putback(m, pfn);
}

/** Takes an isolated page off its private list and gives it back. */
function unlist_and_putback(m: Machine, pfn: pfn_t): void {
  const item = page_is_file_cache(m.memmap, pfn) ? NR_ISOLATED_FILE : NR_ISOLATED_ANON;
  list_del(m.memmap, pfn);
  page_zone(m, pfn).vm_stat[item]!--;
  putback_lru_page(m, pfn);
}

/**
 * One attempt at one page. Consumes the target: on success it is on its way to the LRU lists with
 * the old page's identity, else it goes back to the allocator through the LRU vector.
 * 0, -EAGAIN (the page stays on its list), or an errno that means never. (migrate.c: unmap_and_move)
 */
function unmap_and_move(
  m: Machine,
  new_: pfn_t,
  pfn: pfn_t,
  force: boolean,
  offlining: boolean,
): number {
  let rc = 0;
  // Only the isolation still holds it: it was freed meanwhile, and the final putback releases it.
  if (page_count(m.memmap, pfn) !== 1) {
    rc = lock_and_move(m, new_, pfn, force, offlining);
    // Moved away, or refused for good. A page that moved has no other reference and is freed when
    // the vector that putback uses is drained.
    if (rc !== -EAGAIN) unlist_and_putback(m, pfn);
  }
  putback_lru_page(m, new_);
  return rc;
}

/** Unless `force`, gives up (-EAGAIN) instead of waiting for the page's lock or its write-back. */
function lock_and_move(
  m: Machine,
  new_: pfn_t,
  pfn: pfn_t,
  force: boolean,
  offlining: boolean,
): number {
  const p = m.memmap;
  // Page locks are held within one call here, or while a page is being read: nobody could let go
  // of the lock while this call waits, so even a forced pass leaves a locked page for the next.
  if (!trylock_page(p, pfn)) return -EAGAIN;
  let rc = -EAGAIN;
  if (PageKsm(p, pfn) && !offlining) {
    rc = -EBUSY;
  } else if (!PageWriteback(p, pfn)) {
    rc = unmap_locked_and_move(m, new_, pfn);
  } else if (force) {
    wait_on_page_writeback(m, pfn);
    rc = unmap_locked_and_move(m, new_, pfn);
  }
  unlock_page(p, pfn);
  return rc;
}

function unmap_locked_and_move(m: Machine, new_: pfn_t, pfn: pfn_t): number {
  const p = m.memmap;
  let anon_vma: AnonVma | null = null;
  let remap_swapcache = true;
  if (PageAnon(p, pfn)) {
    if (page_mapped(p, pfn)) {
      // Between unmap and remap this count alone keeps the anon_vma from being freed and reused.
      anon_vma = page_anon_vma(m, pfn);
      BUG_ON(anon_vma === null, 'unmap_and_move: a mapped anonymous page without anon_vma');
      get_anon_vma(anon_vma!);
    } else {
      // Nothing says whether its anon_vma still exists. In the swap cache it can move all the same.
      if (!PageSwapCache(p, pfn)) return -EAGAIN;
      remap_swapcache = false;
    }
  }

  let rc = -EAGAIN;
  if (p.mapping[pfn] === 0 && PagePrivate(p, pfn)) {
    // Truncated, but its buffers were busy then: freeing them frees the page.
    try_to_free_buffers(m, pfn);
  } else {
    if (p.mapping[pfn] !== 0) {
      try_to_unmap(m, pfn, TTU_MIGRATION | TTU_IGNORE_MLOCK | TTU_IGNORE_ACCESS);
    }
    if (m.other_cpu !== null) m.other_cpu('unmap_and_move: unmapped');
    if (!page_mapped(p, pfn)) rc = move_to_new_page(m, new_, pfn, remap_swapcache);
    if (rc !== 0 && remap_swapcache) remove_migration_ptes(m, pfn, pfn);
  }
  if (anon_vma !== null) drop_anon_vma(m, anon_vma);
  return rc;
}
