/**
 * The pages of locked areas: on the unevictable list, where reclaim does not look.
 *
 * Locking faults every page in and moves it to the unevictable list; a page that cannot be isolated
 * at that moment stays on its list with PG_mlocked and is culled by reclaim later. Unlocking moves a
 * page back unless another locked area maps it.
 * Linux: mm/mlock.c of 2.6.35 (with the page side in internal.ts). The system
 * calls are in madvise.ts.
 */
import { EAGAIN, ENOMEM } from '../lib/errno.ts';
import { mlock_vma_page } from './internal.ts';
import { isolate_lru_page, lru_add_drain, put_page, putback_lru_page } from './lru.ts';
import { follow_page, get_user_page } from './memory.ts';
import { VM_LOCKED, VM_SHARED, VM_SPECIAL, VM_WRITE, type VmArea, type vpn_t } from './mm_types.ts';
import { type Machine, page_zone } from './mmzone.ts';
import {
  PageUnevictable,
  type pfn_t,
  TestClearPageFlag,
  trylock_page,
  unlock_page,
} from './page.ts';
import { PG_mlocked } from './page_flags.ts';
import { SWAP_MLOCK, try_to_munlock } from './rmap.ts';
import {
  count_vm_event,
  mod_zone_page_state,
  NR_MLOCK,
  UNEVICTABLE_PGMUNLOCKED,
  UNEVICTABLE_PGSTRANDED,
} from './vmstat.ts';

/** Pages faulted in between two drains of the vectors. */
const GUP_BATCH = 16;

/** Takes the mlock mark off a locked page and lets reclaim have it, unless others lock it. */
export function munlock_vma_page(m: Machine, pfn: pfn_t): void {
  if (!TestClearPageFlag(m.memmap, pfn, PG_mlocked)) return;
  mod_zone_page_state(page_zone(m, pfn), NR_MLOCK, -1);
  if (isolate_lru_page(m, pfn) === 0) {
    // Another locked area marks it again: then putback sends it where it was.
    if (try_to_munlock(m, pfn) !== SWAP_MLOCK) count_vm_event(m, UNEVICTABLE_PGMUNLOCKED);
    putback_lru_page(m, pfn);
  } else if (PageUnevictable(m.memmap, pfn)) count_vm_event(m, UNEVICTABLE_PGSTRANDED);
  else count_vm_event(m, UNEVICTABLE_PGMUNLOCKED);
}

/**
 * Faults in and marks the pages of a part of an area that is VM_LOCKED already: 0, or -EAGAIN,
 * -ENOMEM for what mlock reports (mlock.c: __mlock_vma_pages_range).
 */
export function __mlock_vma_pages_range(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): number {
  // Shared pages are not dirtied by faulting them in for a write.
  const write = (vma.vm_flags & (VM_WRITE | VM_SHARED)) === VM_WRITE;
  const pages: number[] = [];
  for (let vpn = start; vpn < end; ) {
    pages.length = 0;
    let err = 0;
    for (; vpn < end && pages.length < GUP_BATCH; vpn++) {
      const pfn = get_user_page(m, vma, vpn, write);
      if (pfn < 0) {
        err = pfn;
        break;
      }
      // The page of zeroes is not locked, but counts in the batch.
      pages.push(pfn);
    }
    lru_add_drain(m);
    for (const pfn of pages) {
      if (pfn === m.zero_pfn) continue;
      if (m.memmap.mapping[pfn] !== 0 && trylock_page(m.memmap, pfn)) {
        mlock_vma_page(m, pfn);
        unlock_page(m.memmap, pfn);
      }
      put_page(m, pfn);
    }
    if (err !== 0) return err === -ENOMEM ? -EAGAIN : -ENOMEM;
  }
  return 0;
}

/** Locks the pages of a new VM_LOCKED area; failures are not told (mlock.c). */
export function mlock_vma_pages_range(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): void {
  if ((vma.vm_flags & VM_SPECIAL) !== 0) return;
  __mlock_vma_pages_range(m, vma, start, end);
}

/** Unlocks the pages of a part of an area and clears VM_LOCKED (mlock.c). */
export function munlock_vma_pages_range(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): void {
  lru_add_drain(m);
  vma.vm_flags &= ~VM_LOCKED;
  for (let vpn = start; vpn < end; vpn++) {
    const pfn = follow_page(m, vma.vm_mm, vpn);
    if (pfn < 0) continue;
    m.memmap._count[pfn]!++;
    if (m.memmap.mapping[pfn] !== 0 && trylock_page(m.memmap, pfn)) {
      munlock_vma_page(m, pfn);
      unlock_page(m.memmap, pfn);
    }
    put_page(m, pfn);
  }
}
