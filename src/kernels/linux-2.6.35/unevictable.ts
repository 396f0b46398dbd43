/**
 * The unevictable list of 2.6.35 looked through, as scan_unevictable_pages of /proc and sysfs asks.
 *
 * Pages that nobody may reclaim are on a list of their own. What has become evictable without having
 * been moved goes back to the inactive list of its kind; all others are rotated. The list is left to
 * others after each batch. (How pages get there is in src/mm/lru.ts and src/mm/mlock.ts.)
 * Linux: mm/vmscan.c, last part (scan_zone_unevictable_pages). Later kernels have no such files.
 */
import type { Job } from '../../lib/kthread.ts';
import { list_empty } from '../../lib/list.ts';
import {
  add_page_to_lru_list,
  del_page_from_lru_list,
  page_evictable,
  page_lru_base_type,
} from '../../mm/lru.ts';
import { LRU_UNEVICTABLE, type Machine, type Zone } from '../../mm/mmzone.ts';
import { ClearPageFlag, type pfn_t, trylock_page, unlock_page } from '../../mm/page.ts';
import { PG_unevictable } from '../../mm/page_flags.ts';
import { count_vm_event, NR_UNEVICTABLE, UNEVICTABLE_PGRESCUED } from '../../mm/vmstat.ts';

/** Pages looked at without a pause (SCAN_UNEVICTABLE_BATCH_SIZE). */
const SCAN_UNEVICTABLE_BATCH_SIZE = 16;

/** Puts an evictable page on its inactive list, rotates any other (check_move_unevictable_page). */
function check_move_unevictable_page(m: Machine, zone: Zone, pfn: pfn_t): void {
  const p = m.memmap;
  del_page_from_lru_list(m, zone, pfn, LRU_UNEVICTABLE);
  if (page_evictable(m, pfn)) {
    ClearPageFlag(p, pfn, PG_unevictable);
    add_page_to_lru_list(m, zone, pfn, page_lru_base_type(p, pfn));
    count_vm_event(m, UNEVICTABLE_PGRESCUED);
  } else {
    add_page_to_lru_list(m, zone, pfn, LRU_UNEVICTABLE);
  }
}

/**
 * Looks at each page of a zone's unevictable list, from its tail, and rescues those that could be
 * reclaimed after all. Locked pages stay where they are. Returns 0 (scan_zone_unevictable_pages).
 */
export function* scan_zone_unevictable_pages(m: Machine, zone: Zone): Job {
  const head = zone.lru + LRU_UNEVICTABLE;
  for (let left = zone.vm_stat[NR_UNEVICTABLE]!; left > 0; ) {
    const batch = Math.min(left, SCAN_UNEVICTABLE_BATCH_SIZE);
    for (let i = 0; i < batch && !list_empty(m.memmap, head); i++) {
      const pfn = m.memmap.prev[head]!;
      if (!trylock_page(m.memmap, pfn)) continue;
      check_move_unevictable_page(m, zone, pfn);
      unlock_page(m.memmap, pfn);
    }
    left -= batch;
    yield;
  }
  return 0;
}
