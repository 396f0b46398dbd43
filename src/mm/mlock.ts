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
import { lru_add_drain, put_page } from './lru.ts';
import { follow_page, get_user_page } from './memory.ts';
import {
  type MmStruct,
  VM_LOCKED,
  VM_SHARED,
  VM_SPECIAL,
  VM_WRITE,
  type VmArea,
  type vpn_t,
} from './mm_types.ts';
import type { Machine } from './mmzone.ts';
import { compound_head, PageCompound, type pfn_t, trylock_page, unlock_page } from './page.ts';
import { pmd_huge } from './page_table.ts';
import { munlock_vma_page } from './rmap.ts';

/** Pages faulted in between two drains of the vectors. */
const GUP_BATCH = 16;

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
    let at = vpn - pages.length;
    for (const pfn of pages) {
      if (pfn === m.zero_pfn) {
        at++;
        continue;
      }
      mlock_page(m, vma.vm_mm, at++, pfn);
      put_page(m, pfn);
    }
    if (err !== 0) return err === -ENOMEM ? -EAGAIN : -ENOMEM;
  }
  return 0;
}

/** Marks the page at `vpn`; a huge page as a whole, and only where it is mapped as a whole. */
function mlock_page(m: Machine, mm: MmStruct, vpn: vpn_t, pfn: pfn_t): void {
  const p = m.memmap;
  const head = compound_head(p, pfn);
  if (PageCompound(p, pfn) && pmd_huge(mm, vpn) === 0) return;
  if (p.mapping[head] === 0 || !trylock_page(p, head)) return;
  mlock_vma_page(m, head);
  unlock_page(p, head);
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
    const head = compound_head(m.memmap, pfn);
    // Parts that ptes map were never locked; a whole counts once.
    if (PageCompound(m.memmap, pfn)) {
      if (pmd_huge(vma.vm_mm, vpn) === 0) continue;
      vpn |= 511;
    }
    m.memmap._count[head]!++;
    if (m.memmap.mapping[head] !== 0 && trylock_page(m.memmap, head)) {
      munlock_vma_page(m, head);
      unlock_page(m.memmap, head);
    }
    put_page(m, head);
  }
}
