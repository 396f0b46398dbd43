/**
 * The page side of mlock: marking a page as mlocked and moving it to the unevictable list.
 *
 * Below rmap.ts, which meets locked areas while it walks, and below mlock.ts, which walks areas.
 * Linux: mm/internal.h (is_mlocked_vma), mm/mlock.c (mlock_vma_page, __clear_page_mlock).
 */
import { BUG_ON } from '../lib/bug.ts';
import { isolate_lru_page, lru_add_drain_all, putback_lru_page } from './lru.ts';
import { VM_LOCKED, VM_SPECIAL, type VmArea } from './mm_types.ts';
import { type Machine, page_zone } from './mmzone.ts';
import {
  compound_nr,
  PageLocked,
  PageUnevictable,
  type pfn_t,
  TestClearPageFlag,
  TestSetPageFlag,
} from './page.ts';
import { PG_mlocked } from './page_flags.ts';
import {
  count_vm_event,
  count_vm_events,
  mod_zone_page_state,
  NR_MLOCK,
  UNEVICTABLE_PGCLEARED,
  UNEVICTABLE_PGMLOCKED,
  UNEVICTABLE_PGSTRANDED,
} from './vmstat.ts';

/** True for an area whose pages are locked; marks the page then, which is new. */
export function is_mlocked_vma(m: Machine, vma: VmArea, pfn: pfn_t): boolean {
  if ((vma.vm_flags & (VM_LOCKED | VM_SPECIAL)) !== VM_LOCKED) return false;
  if (!TestSetPageFlag(m.memmap, pfn, PG_mlocked)) {
    mod_zone_page_state(page_zone(m, pfn), NR_MLOCK, 1);
    count_vm_event(m, UNEVICTABLE_PGMLOCKED);
  }
  return true;
}

/**
 * Marks a locked page mlocked; when it is on an LRU list it moves to the unevictable one. A page
 * that is in a vector or isolated stays where it is: reclaim culls it later (lazily).
 */
export function mlock_vma_page(m: Machine, pfn: pfn_t): void {
  BUG_ON(!PageLocked(m.memmap, pfn), 'mlock_vma_page: the page is not locked');
  if (TestSetPageFlag(m.memmap, pfn, PG_mlocked)) return;
  const nr = compound_nr(m.memmap, pfn);
  mod_zone_page_state(page_zone(m, pfn), NR_MLOCK, nr);
  count_vm_events(m, UNEVICTABLE_PGMLOCKED, nr);
  if (isolate_lru_page(m, pfn) === 0) putback_lru_page(m, pfn);
}

/** Takes the mark off a page that is truncated or copied (mlock.c: __clear_page_mlock). */
export function clear_page_mlock(m: Machine, pfn: pfn_t): void {
  if (!TestClearPageFlag(m.memmap, pfn, PG_mlocked)) return;
  // Not from truncate: the page has no mapping any more, and nothing to do.
  if (m.memmap.mapping[pfn] === 0) return;
  mod_zone_page_state(page_zone(m, pfn), NR_MLOCK, -1);
  count_vm_event(m, UNEVICTABLE_PGCLEARED);
  if (isolate_lru_page(m, pfn) === 0) {
    putback_lru_page(m, pfn);
    return;
  }
  // It may sit in a vector of some CPU.
  lru_add_drain_all(m);
  if (isolate_lru_page(m, pfn) === 0) putback_lru_page(m, pfn);
  else if (PageUnevictable(m.memmap, pfn)) count_vm_event(m, UNEVICTABLE_PGSTRANDED);
}
