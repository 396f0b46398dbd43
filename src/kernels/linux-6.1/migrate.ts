/**
 * Migrating a list of isolated pages, as 6.1 does it: at most ten passes, and how much a page may be
 * waited for depends on the mode.
 *
 * Each page gets a target, is locked, unmapped, moved and mapped again. Its old frame is freed at once,
 * so that it merges before the next page moves; pages that cannot move stay on the list for the
 * caller, who puts them back. Recorded: debian-6.1/g3-compaction, the free lists afterwards.
 * Linux: mm/migrate.c (migrate_pages, unmap_and_move, __unmap_and_move, putback_movable_pages).
 */
import { BUG_ON } from '../../lib/bug.ts';
import { EAGAIN, EBUSY, ENOMEM } from '../../lib/errno.ts';
import { list_add_tail, list_del, list_splice_init } from '../../lib/list.ts';
import { MIGRATE_FALLBACK } from '../../mm/address_space.ts';
import { try_to_free_buffers } from '../../mm/buffer.ts';
import { page_mapping } from '../../mm/filemap.ts';
import { lru_add_drain, put_page, putback_lru_page } from '../../mm/lru.ts';
import { move_to_new_page } from '../../mm/migrate.ts';
import type { AnonVma } from '../../mm/mm_types.ts';
import { type Machine, page_zone } from '../../mm/mmzone.ts';
import {
  PageAnon,
  PageDirty,
  PageKsm,
  PagePrivate,
  PageWriteback,
  page_count,
  page_is_file_cache,
  page_mapped,
  type pfn_t,
  trylock_page,
  unlock_page,
} from '../../mm/page.ts';
import { PG_active, PG_unevictable } from '../../mm/page_flags.ts';
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
import {
  count_vm_events,
  NR_ISOLATED_ANON,
  NR_ISOLATED_FILE,
  PGMIGRATE_FAIL,
  PGMIGRATE_SUCCESS,
} from '../../mm/vmstat.ts';

// What may be waited for (linux/migrate_mode.h): nothing; all but write-back; everything.
export const MIGRATE_ASYNC = 0;
export const MIGRATE_SYNC_LIGHT = 1;
export const MIGRATE_SYNC = 2;
/** Why pages move (enum migrate_reason): there is one reason here. */
const MR_COMPACTION = 0;

export interface MigrateResult {
  /** 0, the count of pages that did not move, or -ENOMEM when targets ran out. */
  err: number;
  nr_succeeded: number;
}

/**
 * Migrates the pages on the list at row `from`. Pages that failed are on it afterwards.
 * `get_new_page` gives a target, -1 when there is none any more; `put_new_page` takes one back.
 */
export function migrate_pages<T>(
  m: Machine,
  from: number,
  get_new_page: (m: Machine, private_: T) => pfn_t,
  put_new_page: (m: Machine, private_: T, pfn: pfn_t) => void,
  private_: T,
  mode: number,
): MigrateResult {
  const p = m.memmap;
  const heads = m.list_heads.take();
  let nr_failed = 0;
  let nr_succeeded = 0;
  let retry = 1;
  let out_of_memory = false;
  const { mm_migrate_pages_start, mm_migrate_pages } = m.trace;
  if (mm_migrate_pages_start.enabled) mm_migrate_pages_start.emit(mode, MR_COMPACTION);
  for (let pass = 0; pass < 10 && retry > 0 && !out_of_memory; pass++) {
    retry = 0;
    for (let pfn = p.next[from]!; pfn !== from; ) {
      const next = p.next[pfn]!;
      let rc = 0;
      if (page_count(p, pfn) === 1) {
        // Only the isolation still holds it: it was freed meanwhile.
        p.flags[pfn]! &= ~(PG_active | PG_unevictable);
        list_del(p, pfn);
        end_isolation(m, pfn);
        put_page(m, pfn);
      } else {
        const target = get_new_page(m, private_);
        if (target < 0) {
          out_of_memory = true;
          break;
        }
        rc = unmap_and_move(m, target, pfn, pass > 2, mode);
        if (rc !== 0) put_new_page(m, private_, target);
        if (rc !== 0 && rc !== -EAGAIN) {
          list_del(p, pfn);
          list_add_tail(p, pfn, heads);
        }
      }
      if (rc === 0) nr_succeeded++;
      else if (rc === -EAGAIN) retry++;
      else nr_failed++;
      pfn = next;
    }
  }
  list_splice_init(p, heads, from);
  m.list_heads.give_back(heads);
  nr_failed += retry + (out_of_memory ? 1 : 0);
  count_vm_events(m, PGMIGRATE_SUCCESS, nr_succeeded);
  count_vm_events(m, PGMIGRATE_FAIL, nr_failed);
  if (mm_migrate_pages.enabled) mm_migrate_pages.emit(nr_succeeded, nr_failed, mode, MR_COMPACTION);
  return { err: out_of_memory ? -ENOMEM : nr_failed, nr_succeeded };
}

function end_isolation(m: Machine, pfn: pfn_t): void {
  const item = page_is_file_cache(m.memmap, pfn) ? NR_ISOLATED_FILE : NR_ISOLATED_ANON;
  page_zone(m, pfn).vm_stat[item]!--;
}

/** Gives all pages of a list back to the LRU lists, from the head (migrate.c). */
export function putback_movable_pages(m: Machine, from: number): void {
  const p = m.memmap;
  for (let pfn = p.next[from]!; pfn !== from; pfn = p.next[from]!) {
    list_del(p, pfn);
    end_isolation(m, pfn);
    putback_lru_page(m, pfn);
  }
}

/**
 * One attempt at one page. On success the old frame has left its list and is free, and the target is
 * on an LRU list. 0, -EAGAIN (try again), or an errno that means never. (migrate.c: unmap_and_move)
 */
function unmap_and_move(
  m: Machine,
  target: pfn_t,
  pfn: pfn_t,
  force: boolean,
  mode: number,
): number {
  const p = m.memmap;
  // Page locks are held within one call here, or while a page is being read: nobody could let go of
  // the lock while this call waits, so even a forced pass leaves a locked page.
  if (!trylock_page(p, pfn)) return -EAGAIN;
  let rc = 0;
  if (PageWriteback(p, pfn)) {
    if (mode !== MIGRATE_SYNC) rc = -EBUSY;
    else if (!force) rc = -EAGAIN;
    else wait_on_page_writeback(m, pfn);
  }
  const was_mapped = page_mapped(p, pfn);
  if (rc === 0) rc = move_locked_page(m, target, pfn, was_mapped, mode);
  unlock_page(p, pfn);
  if (rc !== 0) return rc;
  putback_lru_page(m, target);
  if (was_mapped) lru_add_drain(m);
  list_del(p, pfn);
  end_isolation(m, pfn);
  put_page(m, pfn);
  return 0;
}

/** From the unmapping to the new mapping (migrate.c: __unmap_and_move). */
function move_locked_page(
  m: Machine,
  target: pfn_t,
  pfn: pfn_t,
  was_mapped: boolean,
  mode: number,
): number {
  const p = m.memmap;
  if (p.mapping[pfn] === 0) {
    // Truncated, but its buffers were busy then: freeing them frees the page.
    if (PagePrivate(p, pfn)) {
      try_to_free_buffers(m, pfn);
      return -EAGAIN;
    }
    return move_to_new_page(m, target, pfn, false);
  }
  if (mode !== MIGRATE_SYNC && PageDirty(p, pfn)) {
    // A mapping that can only write its pages before they move: too long for others.
    if (page_mapping(m, pfn)?.migratepage === MIGRATE_FALLBACK) return -EBUSY;
  }
  let anon_vma: AnonVma | null = null;
  if (PageAnon(p, pfn) && !PageKsm(p, pfn) && was_mapped) {
    anon_vma = page_anon_vma(m, pfn);
    BUG_ON(anon_vma === null, 'unmap_and_move: a mapped anonymous page without anon_vma');
    get_anon_vma(anon_vma!);
  }
  if (was_mapped) {
    try_to_unmap(m, pfn, TTU_MIGRATION | TTU_IGNORE_MLOCK | TTU_IGNORE_ACCESS);
  }
  let rc = -EAGAIN;
  if (!page_mapped(p, pfn)) rc = move_to_new_page(m, target, pfn, was_mapped);
  if (rc !== 0 && was_mapped) remove_migration_ptes(m, pfn, pfn);
  if (anon_vma !== null) drop_anon_vma(m, anon_vma);
  return rc;
}
