/**
 * Page reclaim, as far as kernels agree: how one page is written out, taken from its mapping, freed.
 *
 * Who is looked at, in what order and how hard one tries is in the kernels' own vmscan.ts; they ask
 * here to write a dirty page, to go on with one whose write has ended, and to free a clean one. What
 * becomes of a page is one of a few fates, which say whether it is still locked and where it goes.
 * Linux: mm/vmscan.c (pageout, __remove_mapping, the end of shrink_page_list), mm/swap.c
 * (__pagevec_release).
 */
import { BUG_ON } from '../lib/bug.ts';
import type { AddressSpace } from './address_space.ts';
import { bdi_write_congested } from './backing_dev.ts';
import { try_to_free_buffers, try_to_release_page } from './buffer.ts';
import { __remove_from_page_cache } from './filemap.ts';
import { lru_add_drain, release_pages } from './lru.ts';
import { type Machine, type Pagevec, page_zone, type Zone } from './mmzone.ts';
import {
  ClearPageFlag,
  PageDirty,
  PageSwapCache,
  PageWriteback,
  page_count,
  page_has_private,
  type pfn_t,
  put_page_testzero,
  SetPageFlag,
  trylock_page,
  unlock_page,
} from './page.ts';
import { PG_dirty, PG_reclaim } from './page_flags.ts';
import { AOP_WRITEPAGE_ACTIVATE, clear_page_dirty_for_io, page_mapping } from './page_writeback.ts';
import { PF_KSWAPD, PF_SWAPWRITE } from './reclaim_def.ts';
import { __delete_from_swap_cache, swap_writepage, swapcache_free } from './swap_state.ts';
import {
  NR_ACTIVE_ANON,
  NR_ACTIVE_FILE,
  NR_INACTIVE_ANON,
  NR_INACTIVE_FILE,
  NR_VMSCAN_WRITE,
} from './vmstat.ts';

export const current_is_kswapd = (m: Machine): boolean => (m.current_flags & PF_KSWAPD) !== 0;

/** Pages on the lists that can be reclaimed at all (vmscan.c: zone_reclaimable_pages). */
export function zone_reclaimable_pages(m: Machine, zone: Zone): number {
  const stat = zone.vm_stat;
  let nr = stat[NR_ACTIVE_FILE]! + stat[NR_INACTIVE_FILE]!;
  if (m.nr_swap_pages > 0) {
    nr += stat[NR_ACTIVE_ANON]! + stat[NR_INACTIVE_ANON]!;
  }
  return nr;
}

/** Drops the vector's references; LRU vectors first, as __pagevec_release does (swap.c). */
export function pagevec_release(m: Machine, pvec: Pagevec): void {
  if (pvec.nr === 0) return;
  lru_add_drain(m);
  const nr = pvec.nr;
  pvec.nr = 0;
  release_pages(m, pvec.pages, nr, true);
}

// ---- one page

export const PAGE_KEEP = 0;
export const PAGE_ACTIVATE = 1;
export const PAGE_SUCCESS = 2;
export const PAGE_CLEAN = 3;

/**
 * Writes a dirty page to its file or swap slot, unless `bdev` has too much to do; -1: no device is
 * asked. With PAGE_SUCCESS the page is unlocked. (vmscan.c: pageout)
 */
export function pageout(
  m: Machine,
  pfn: pfn_t,
  mapping: AddressSpace | null,
  bdev: number,
): number {
  const p = m.memmap;
  // Somebody else holds it: it could not be freed after all.
  if (page_count(p, pfn) - page_has_private(p, pfn) !== 2) return PAGE_KEEP;
  if (mapping === null) {
    if (page_has_private(p, pfn) !== 0 && try_to_free_buffers(m, pfn)) {
      ClearPageFlag(p, pfn, PG_dirty);
      return PAGE_CLEAN;
    }
    return PAGE_KEEP;
  }
  const is_swap = mapping === m.swapper_space;
  const writepage = mapping.a_ops.writepage;
  if (!is_swap && writepage === undefined) return PAGE_ACTIVATE;
  if ((m.current_flags & PF_SWAPWRITE) === 0 && bdi_write_congested(m, bdev)) {
    return PAGE_KEEP;
  }
  if (!clear_page_dirty_for_io(m, pfn)) return PAGE_CLEAN;
  SetPageFlag(p, pfn, PG_reclaim);
  const res = is_swap ? swap_writepage(m, pfn) : writepage!(m, mapping, pfn);
  if (res === AOP_WRITEPAGE_ACTIVATE) {
    ClearPageFlag(p, pfn, PG_reclaim);
    return PAGE_ACTIVATE;
  }
  if (!PageWriteback(p, pfn)) ClearPageFlag(p, pfn, PG_reclaim);
  page_zone(m, pfn).vm_stat[NR_VMSCAN_WRITE]!++;
  return PAGE_SUCCESS;
}

/**
 * Takes a locked page out of its mapping when nobody but the mapping and the caller holds it and it
 * is clean. Its count is 0 then (vmscan.c: __remove_mapping).
 */
function __remove_mapping(m: Machine, mapping: AddressSpace, pfn: pfn_t): boolean {
  const p = m.memmap;
  BUG_ON(mapping !== page_mapping(m, pfn), 'remove_mapping: the page is in another mapping');
  if (page_count(p, pfn) !== 2 || PageDirty(p, pfn)) return false;
  if (PageSwapCache(p, pfn)) {
    const entry = p.private_[pfn]!;
    __delete_from_swap_cache(m, pfn);
    swapcache_free(m, entry);
  } else {
    __remove_from_page_cache(m, pfn);
  }
  p._count[pfn] = 0;
  return true;
}

// What becomes of a page that reclaim looked at.
export const FREED = 0;
export const KEEP = 1;
export const KEEP_LOCKED = 2;
export const ACTIVATE_LOCKED = 3;
export const CULL = 4;
/** Its last reference went meanwhile, with somebody else's. */
export const GONE = 5;

/** Goes on with a page whose write has been submitted, if it has ended: it is unlocked. */
export function free_written_page(m: Machine, gfp: number, pfn: pfn_t): number {
  const p = m.memmap;
  if (PageWriteback(p, pfn) || PageDirty(p, pfn)) return KEEP;
  if (!trylock_page(p, pfn)) return KEEP;
  if (PageDirty(p, pfn) || PageWriteback(p, pfn)) return KEEP_LOCKED;
  return free_clean_page(m, gfp, pfn, page_mapping(m, pfn));
}

/** Frees a locked clean page if nobody else holds it. */
export function free_clean_page(
  m: Machine,
  gfp: number,
  pfn: pfn_t,
  mapping: AddressSpace | null,
): number {
  const p = m.memmap;
  if (page_has_private(p, pfn) !== 0) {
    if (!try_to_release_page(m, pfn, gfp)) return ACTIVATE_LOCKED;
    if (mapping === null && page_count(p, pfn) === 1) {
      // Truncated while its buffers were busy: they were all that kept it.
      unlock_page(p, pfn);
      return put_page_testzero(p, pfn) ? FREED : GONE;
    }
  }
  if (mapping === null || !__remove_mapping(m, mapping, pfn)) return KEEP_LOCKED;
  unlock_page(p, pfn);
  return FREED;
}
