/**
 * Page reclaim of 2.6.35: taking pages from those who have not used them lately.
 *
 * Pages leave the LRU lists at their tails. shrink_active_list moves unused pages to the inactive
 * list; shrink_inactive_list takes 32 of those at a time and shrink_page_list decides on each: keep,
 * activate, unmap, swap or write out, free. For a large request the neighbours of each page are
 * taken along, whatever their age (lumpy reclaim). An allocation that found nothing reclaims for
 * itself, with rising effort (priority 12 to 0); kswapd (kswapd.ts) does the same ahead of need.
 * Slab caches of file systems are asked in proportion.
 *
 * Waiting: one call runs at a time, so nobody could wake a sleeper. Each congestion wait ends the
 * writes that the disk would have finished meanwhile (mm/backing_dev.ts) and moves no clock. A
 * direct reclaimer that finds too many pages isolated (a paused compaction has them) waits once and
 * goes on, since their owner cannot run before it returns.
 * Linux: mm/vmscan.c. Differs: no memory cgroups, no swap token, no cpusets.
 */

import { BUG_ON } from '../../lib/bug.ts';
import { type Job, run_job } from '../../lib/kthread.ts';
import { list_add, list_del, list_empty, list_splice_init } from '../../lib/list.ts';
import {
  sleep_congested,
  sleep_on_writeback,
  wakeup_flusher_threads,
} from '../../mm/backing_dev.ts';
import { __GFP_FS, __GFP_IO } from '../../mm/gfp.ts';
import {
  __isolate_lru_page,
  __pagevec_free,
  add_page_to_lru_list,
  ISOLATE_ACTIVE,
  ISOLATE_BOTH,
  ISOLATE_INACTIVE,
  is_active_lru,
  is_file_lru,
  lru_add_drain,
  page_evictable,
  page_lru,
  page_lru_base_type,
  putback_lru_page,
} from '../../mm/lru.ts';
import { VM_EXEC, VM_LOCKED } from '../../mm/mm_types.ts';
import {
  DEF_PRIORITY,
  LRU_ACTIVE_ANON,
  LRU_ACTIVE_FILE,
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  type Machine,
  NR_LRU_LISTS,
  PAGE_ALLOC_COSTLY_ORDER,
  PAGEVEC_SIZE,
  Pagevec,
  SWAP_CLUSTER_MAX,
  WMARK_HIGH,
  type Zone,
  zone_end_pfn,
} from '../../mm/mmzone.ts';
import {
  ClearPageFlag,
  type order_t,
  PageActive,
  PageAnon,
  PageDirty,
  PageLRU,
  PageSwapCache,
  PageWriteback,
  page_is_file_cache,
  page_mapped,
  type pfn_t,
  SetPageFlag,
  TestClearPageFlag,
  trylock_page,
  unlock_page,
} from '../../mm/page.ts';
import { PG_active, PG_lru, PG_referenced } from '../../mm/page_flags.ts';
import { swp_type } from '../../mm/page_table.ts';
import { blk_flush_plug, dirty_thresh, page_mapping } from '../../mm/page_writeback.ts';
import { PF_MEMALLOC } from '../../mm/reclaim_def.ts';
import {
  page_referenced,
  SWAP_AGAIN,
  SWAP_FAIL,
  SWAP_MLOCK,
  TTU_UNMAP,
  try_to_unmap,
} from '../../mm/rmap.ts';
import { add_to_swap, try_to_free_swap, vm_swap_full } from '../../mm/swap_state.ts';
import {
  ACTIVATE_LOCKED,
  CULL,
  current_is_kswapd,
  FREED,
  free_clean_page,
  free_written_page,
  GONE,
  KEEP,
  KEEP_LOCKED,
  PAGE_ACTIVATE,
  PAGE_KEEP,
  PAGE_SUCCESS,
  pageout,
  pagevec_release,
  zone_reclaimable_pages,
} from '../../mm/vmscan.ts';
import {
  ALLOCSTALL,
  count_vm_event,
  count_vm_events,
  count_zone_vm_events,
  global_page_state,
  KSWAPD_STEAL,
  NR_ACTIVE_FILE,
  NR_FREE_PAGES,
  NR_INACTIVE_FILE,
  NR_ISOLATED_ANON,
  NR_ISOLATED_FILE,
  NR_LRU_BASE,
  NR_UNSTABLE_NFS,
  NR_WRITEBACK,
  PGACTIVATE,
  PGDEACTIVATE,
  PGREFILL,
  PGSCAN_DIRECT,
  PGSCAN_KSWAPD,
  PGSTEAL,
  SLABS_SCANNED,
} from '../../mm/vmstat.ts';

/** Lists that reclaim looks at: all but the unevictable one. */
const NR_EVICTABLE_LISTS = 4;
/** How long the waits of reclaim last, milliseconds (HZ/10). */
export const RECLAIM_WAIT_MS = 100;
/** Objects that a shrinker is asked for at a time. */
const SHRINK_BATCH = 128;

/** What one run of reclaim may do, wants, and has got (vmscan.c: struct scan_control). */
export class ScanControl {
  /** Pages looked at, mapped ones twice; for the shrinkers. */
  nr_scanned = 0;
  nr_reclaimed = 0;
  nr_to_reclaim: number;
  gfp_mask: number;
  may_writepage: boolean;
  may_unmap = true;
  may_swap = true;
  swappiness: number;
  order: order_t;
  /** Take neighbours whatever their age, ignore references. */
  lumpy_reclaim_mode = false;
  /** Result of isolate_lru_pages: list entries looked at. */
  isolate_scanned = 0;
  /** Pages still to scan of each list (get_scan_count). */
  readonly nr: Float64Array = new Float64Array(NR_EVICTABLE_LISTS);
  /** Pages counted by list (clear_active_flags). */
  readonly count: Int32Array = new Int32Array(NR_LRU_LISTS);
  /** Pages that are being freed together, and those that are being put back. */
  readonly freed_pvec: Pagevec = new Pagevec();
  readonly putback_pvec: Pagevec = new Pagevec();

  constructor(m: Machine, gfp_mask: number, order: order_t, nr_to_reclaim: number) {
    this.gfp_mask = gfp_mask;
    this.order = order;
    this.nr_to_reclaim = nr_to_reclaim;
    this.may_writepage = (m.sysctl['laptop_mode'] ?? 0) === 0;
    this.swappiness = m.sysctl['swappiness'] ?? 60;
  }
}

// ---- isolating

/**
 * Takes pages from the tail of an LRU list to the head of `dst`, looking at `nr_to_scan` entries.
 * For an order above 0 each page's aligned neighbours of that order come along if they are of the
 * same kind (of any kind with ISOLATE_BOTH). Returns pages taken; counters are the caller's.
 */
function isolate_lru_pages(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  nr_to_scan: number,
  lru: number,
  mode: number,
  dst: number,
): number {
  const p = m.memmap;
  const src = zone.lru + lru;
  const file = is_file_lru(lru);
  const order = sc.order;
  const window = 2 ** order;
  const zone_end = zone_end_pfn(zone);
  let nr_taken = 0;
  let scan = 0;
  for (; scan < nr_to_scan && !list_empty(p, src); scan++) {
    const pfn = p.prev[src]!;
    const rc = __isolate_lru_page(m, pfn, mode, file);
    if (rc !== 0) {
      // Being freed elsewhere: out of the way, without looking at its neighbours.
      list_del(p, pfn);
      list_add(p, pfn, src);
      continue;
    }
    list_del(p, pfn);
    list_add(p, pfn, dst);
    nr_taken++;
    if (order === 0) continue;

    const aligned = pfn - (pfn % window);
    const start = Math.max(aligned, zone.zone_start_pfn);
    const end = Math.min(aligned + window, zone_end);
    for (let cursor = start; cursor < end; cursor++) {
      if (cursor === pfn || (p.flags[cursor]! & PG_lru) === 0) continue;
      // Without swap slots an anonymous page would only be put back.
      if (m.nr_swap_pages <= 0 && PageAnon(p, cursor) && !PageSwapCache(p, cursor)) continue;
      if (__isolate_lru_page(m, cursor, mode, file) !== 0) continue;
      list_del(p, cursor);
      list_add(p, cursor, dst);
      nr_taken++;
      scan++;
    }
  }
  sc.isolate_scanned = scan;
  return nr_taken;
}

/** Counts a private list's pages by the list they came from, and makes them inactive. */
function clear_active_flags(m: Machine, sc: ScanControl, list: number): number {
  const p = m.memmap;
  sc.count.fill(0);
  let nr_active = 0;
  for (let pfn = p.next[list]!; pfn !== list; pfn = p.next[pfn]!) {
    let lru = page_lru_base_type(p, pfn);
    if (TestClearPageFlag(p, pfn, PG_active)) {
      lru++;
      nr_active++;
    }
    sc.count[lru]!++;
  }
  return nr_active;
}

/** More pages are isolated than are inactive; kswapd does not care (vmscan.c). */
function too_many_isolated(m: Machine, zone: Zone, file: boolean): boolean {
  if (current_is_kswapd(m)) return false;
  const stat = zone.vm_stat;
  const lru = file ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON;
  return stat[NR_ISOLATED_ANON + (file ? 1 : 0)]! > stat[NR_LRU_BASE + lru]!;
}

// ---- one page

const PAGEREF_RECLAIM = 0;
const PAGEREF_RECLAIM_CLEAN = 1;
const PAGEREF_KEEP = 2;
const PAGEREF_ACTIVATE = 3;

/** Whether somebody used the page since it was last looked at (vmscan.c). */
function page_check_references(m: Machine, sc: ScanControl, pfn: pfn_t): number {
  const p = m.memmap;
  const referenced_ptes = page_referenced(m, pfn, true);
  const referenced_page = TestClearPageFlag(p, pfn, PG_referenced);
  if (sc.lumpy_reclaim_mode) return PAGEREF_RECLAIM;
  // Let try_to_unmap find it and move it to the unevictable list.
  if ((m.rmap_vm_flags & VM_LOCKED) !== 0) return PAGEREF_RECLAIM;
  if (referenced_ptes > 0) {
    if (PageAnon(p, pfn)) return PAGEREF_ACTIVATE;
    // A mapped file page gets one more round, so that pages used once do not stay.
    SetPageFlag(p, pfn, PG_referenced);
    return referenced_page ? PAGEREF_ACTIVATE : PAGEREF_KEEP;
  }
  return referenced_page ? PAGEREF_RECLAIM_CLEAN : PAGEREF_RECLAIM;
}

/** A fate beside those of src/mm/vmscan.ts: unlocked, and to be waited for: it is being written. */
const WRITTEN = 6;

/**
 * The decisions of shrink_page_list on one page, which is on no list (reference 4.6). With `sync` it
 * is not under write-back.
 */
function shrink_one_page(m: Machine, sc: ScanControl, pfn: pfn_t, sync: boolean): number {
  const p = m.memmap;
  if (!trylock_page(p, pfn)) return KEEP;
  BUG_ON(PageActive(p, pfn), 'shrink_page_list: an active page');
  sc.nr_scanned++;
  if (!page_evictable(m, pfn)) return CULL;
  if (!sc.may_unmap && page_mapped(p, pfn)) return KEEP_LOCKED;
  // Mapped pages are dear: they weigh double on the slabs.
  if (page_mapped(p, pfn) || PageSwapCache(p, pfn)) sc.nr_scanned++;
  let may_enter_fs =
    (sc.gfp_mask & __GFP_FS) !== 0 || (PageSwapCache(p, pfn) && (sc.gfp_mask & __GFP_IO) !== 0);
  if (PageWriteback(p, pfn)) return KEEP_LOCKED;

  const references = page_check_references(m, sc, pfn);
  if (references === PAGEREF_ACTIVATE) return ACTIVATE_LOCKED;
  if (references === PAGEREF_KEEP) return KEEP_LOCKED;

  if (PageAnon(p, pfn) && !PageSwapCache(p, pfn)) {
    if ((sc.gfp_mask & __GFP_IO) === 0) return KEEP_LOCKED;
    if (!add_to_swap(m, pfn)) return ACTIVATE_LOCKED;
    may_enter_fs = true;
  }
  const mapping = page_mapping(m, pfn);

  if (page_mapped(p, pfn) && mapping !== null) {
    const unmapped = try_to_unmap(m, pfn, TTU_UNMAP);
    if (unmapped === SWAP_FAIL) return ACTIVATE_LOCKED;
    if (unmapped === SWAP_AGAIN) return KEEP_LOCKED;
    if (unmapped === SWAP_MLOCK) return CULL;
  }

  if (PageDirty(p, pfn)) {
    if (references === PAGEREF_RECLAIM_CLEAN || !may_enter_fs || !sc.may_writepage) {
      return KEEP_LOCKED;
    }
    const swap = mapping === m.swapper_space;
    const bdev = swap ? m.swap_info[swp_type(p.private_[pfn]!)]!.bdev : (mapping?.bdev ?? -1);
    const written = pageout(m, pfn, mapping, bdev);
    if (written === PAGE_KEEP) return KEEP_LOCKED;
    if (written === PAGE_ACTIVATE) return ACTIVATE_LOCKED;
    if (written === PAGE_SUCCESS) {
      return sync && PageWriteback(p, pfn) ? WRITTEN : free_written_page(m, sc.gfp_mask, pfn);
    }
  }
  return free_clean_page(m, sc.gfp_mask, pfn, mapping);
}

/** Pages between two points where a list may be left for others: Linux has one at each page. */
const CLUSTER = 8;

/**
 * Waits for the write of a page that is on no list. A page of a file is not locked meanwhile, as it
 * is in Linux: who writes to the file or truncates it cannot wait here.
 */
function* wait_for_write(m: Machine, sc: ScanControl, pfn: pfn_t): Job<void> {
  const p = m.memmap;
  const swap = PageSwapCache(p, pfn);
  if ((sc.gfp_mask & (swap ? __GFP_FS | __GFP_IO : __GFP_FS)) === 0) return;
  if (!trylock_page(p, pfn)) return;
  if (!swap) unlock_page(p, pfn);
  yield* sleep_on_writeback(m, pfn);
  if (swap) unlock_page(p, pfn);
}

/**
 * Tries to free each page of a private list, from its tail; what stays goes to the list `kept`,
 * unlocked. Returns pages freed, which went to the cold ends of the per-CPU lists.
 */
function* shrink_page_list(
  m: Machine,
  sc: ScanControl,
  page_list: number,
  kept: number,
  sync: boolean,
): Job {
  const p = m.memmap;
  const pvec = sc.freed_pvec;
  let nr_reclaimed = 0;
  let pgactivate = 0;
  for (let n = 0; !list_empty(p, page_list); n++) {
    if (m.sleeps && n % CLUSTER === 0) yield;
    const pfn = p.prev[page_list]!;
    list_del(p, pfn);
    if (sync && PageWriteback(p, pfn)) yield* wait_for_write(m, sc, pfn);
    let fate = shrink_one_page(m, sc, pfn, sync);
    if (fate === WRITTEN) {
      yield* sleep_on_writeback(m, pfn);
      fate = free_written_page(m, sc.gfp_mask, pfn);
    }
    if (fate === FREED) {
      nr_reclaimed++;
      pvec.pages[pvec.nr++] = pfn;
      if (pvec.nr === PAGEVEC_SIZE) __pagevec_free(m, pvec, true);
      continue;
    }
    if (fate === GONE) {
      nr_reclaimed++;
      continue;
    }
    if (fate === CULL) {
      if (PageSwapCache(p, pfn)) try_to_free_swap(m, pfn);
      unlock_page(p, pfn);
      putback_lru_page(m, pfn);
      continue;
    }
    if (fate === ACTIVATE_LOCKED) {
      // Not a candidate for swap any more: with little swap left its slot is wanted elsewhere.
      if (PageSwapCache(p, pfn) && vm_swap_full(m)) try_to_free_swap(m, pfn);
      SetPageFlag(p, pfn, PG_active);
      pgactivate++;
    }
    if (fate !== KEEP) unlock_page(p, pfn);
    list_add(p, pfn, kept);
    BUG_ON(PageLRU(p, pfn), 'shrink_page_list: a kept page is on an LRU list');
  }
  if (pvec.nr > 0) __pagevec_free(m, pvec, true);
  count_vm_events(m, PGACTIVATE, pgactivate);
  return nr_reclaimed;
}

// ---- one list

/** Reclaims from an inactive list, up to 32 entries. Returns pages freed (vmscan.c). */
function* shrink_inactive_list(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  max_scan: number,
  lru: number,
): Job {
  const p = m.memmap;
  const stat = zone.vm_stat;
  const kswapd = current_is_kswapd(m);
  if (too_many_isolated(m, zone, is_file_lru(lru))) yield* sleep_congested(m, RECLAIM_WAIT_MS);
  lru_add_drain(m);
  const list = m.list_heads.take();
  const kept = list + 1;
  let nr_scanned = 0;
  let nr_reclaimed = 0;
  do {
    const mode = sc.lumpy_reclaim_mode ? ISOLATE_BOTH : ISOLATE_INACTIVE;
    const nr_taken = isolate_lru_pages(m, sc, zone, SWAP_CLUSTER_MAX, lru, mode, list);
    const nr_scan = sc.isolate_scanned;
    zone.pages_scanned += nr_scan;
    count_zone_vm_events(m, kswapd ? PGSCAN_KSWAPD : PGSCAN_DIRECT, zone, nr_scan);
    if (nr_taken === 0) break;

    count_vm_events(m, PGDEACTIVATE, clear_active_flags(m, sc, list));
    const count = sc.count;
    for (let l = 0; l < NR_EVICTABLE_LISTS; l++) stat[NR_LRU_BASE + l]! -= count[l]!;
    const nr_anon = count[LRU_INACTIVE_ANON]! + count[LRU_ACTIVE_ANON]!;
    const nr_file = count[LRU_INACTIVE_FILE]! + count[LRU_ACTIVE_FILE]!;
    stat[NR_ISOLATED_ANON]! += nr_anon;
    stat[NR_ISOLATED_FILE]! += nr_file;
    zone.recent_scanned[0]! += nr_anon;
    zone.recent_scanned[1]! += nr_file;
    nr_scanned += nr_scan;

    let nr_freed = yield* shrink_page_list(m, sc, list, kept, false);
    list_splice_init(p, kept, list);
    if (nr_freed < nr_taken && !kswapd && sc.lumpy_reclaim_mode) {
      // For a contiguous block every page counts: wait for those under write-back.
      yield* sleep_congested(m, RECLAIM_WAIT_MS);
      count_vm_events(m, PGDEACTIVATE, clear_active_flags(m, sc, list));
      nr_freed += yield* shrink_page_list(m, sc, list, kept, true);
      list_splice_init(p, kept, list);
    }
    nr_reclaimed += nr_freed;
    if (kswapd) count_vm_events(m, KSWAPD_STEAL, nr_freed);
    count_zone_vm_events(m, PGSTEAL, zone, nr_freed);

    putback_inactive_pages(m, sc, zone, list);
    stat[NR_ISOLATED_ANON]! -= nr_anon;
    stat[NR_ISOLATED_FILE]! -= nr_file;
  } while (nr_scanned < max_scan);
  m.list_heads.give_back(list);
  pagevec_release(m, sc.putback_pvec);
  return nr_reclaimed;
}

/** Gives what could not be freed back to its LRU lists, from the list's tail. */
function putback_inactive_pages(m: Machine, sc: ScanControl, zone: Zone, list: number): void {
  const p = m.memmap;
  const pvec = sc.putback_pvec;
  while (!list_empty(p, list)) {
    const pfn = p.prev[list]!;
    BUG_ON(PageLRU(p, pfn), 'putback_inactive_pages: the page is on an LRU list');
    list_del(p, pfn);
    if (!page_evictable(m, pfn)) {
      putback_lru_page(m, pfn);
      continue;
    }
    SetPageFlag(p, pfn, PG_lru);
    const lru = page_lru(p, pfn);
    add_page_to_lru_list(m, zone, pfn, lru);
    if (is_active_lru(lru)) zone.recent_rotated[is_file_lru(lru) ? 1 : 0]!++;
    pvec.pages[pvec.nr++] = pfn;
    if (pvec.nr === PAGEVEC_SIZE) pagevec_release(m, pvec);
  }
}

/** Puts a private list's pages on an LRU list, from their tail (vmscan.c). */
function move_active_pages_to_lru(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  list: number,
  lru: number,
): void {
  const p = m.memmap;
  const pvec = sc.putback_pvec;
  let pgmoved = 0;
  while (!list_empty(p, list)) {
    const pfn = p.prev[list]!;
    list_del(p, pfn);
    SetPageFlag(p, pfn, PG_lru);
    add_page_to_lru_list(m, zone, pfn, lru);
    pgmoved++;
    pvec.pages[pvec.nr++] = pfn;
    if (pvec.nr === PAGEVEC_SIZE || list_empty(p, list)) pagevec_release(m, pvec);
  }
  if (!is_active_lru(lru)) count_vm_events(m, PGDEACTIVATE, pgmoved);
}

/**
 * Ages up to `nr_pages` entries of an active list: they become inactive, except file pages that a
 * program executes and has used (vmscan.c). The order window applies here too.
 */
export function shrink_active_list(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  nr_pages: number,
  file: boolean,
): void {
  const p = m.memmap;
  const stat = zone.vm_stat;
  const active = file ? LRU_ACTIVE_FILE : LRU_ACTIVE_ANON;
  const f = file ? 1 : 0;
  lru_add_drain(m);
  const hold = m.list_heads.take();
  const kept = m.list_heads.take();
  const l_active = kept;
  const l_inactive = kept + 1;
  const nr_taken = isolate_lru_pages(m, sc, zone, nr_pages, active, ISOLATE_ACTIVE, hold);
  zone.pages_scanned += sc.isolate_scanned;
  zone.recent_scanned[f]! += nr_taken;
  count_zone_vm_events(m, PGREFILL, zone, sc.isolate_scanned);
  stat[NR_LRU_BASE + active]! -= nr_taken;
  stat[NR_ISOLATED_ANON + f]! += nr_taken;
  let nr_rotated = 0;
  while (!list_empty(p, hold)) {
    const pfn = p.prev[hold]!;
    list_del(p, pfn);
    if (!page_evictable(m, pfn)) {
      putback_lru_page(m, pfn);
      continue;
    }
    if (page_referenced(m, pfn, false) > 0) {
      nr_rotated++;
      if ((m.rmap_vm_flags & VM_EXEC) !== 0 && page_is_file_cache(p, pfn)) {
        list_add(p, pfn, l_active);
        continue;
      }
    }
    ClearPageFlag(p, pfn, PG_active);
    list_add(p, pfn, l_inactive);
  }
  // Referenced pages count as rotated whichever list they go to: they tell how well the other
  // kind would be scanned instead.
  zone.recent_rotated[f]! += nr_rotated;
  move_active_pages_to_lru(m, sc, zone, l_active, active);
  move_active_pages_to_lru(m, sc, zone, l_inactive, active - 1);
  stat[NR_ISOLATED_ANON + f]! -= nr_taken;
  m.list_heads.give_back(hold);
  m.list_heads.give_back(kept);
}

/** Too few inactive anonymous pages for the zone's size (vmscan.c: inactive_anon_is_low). */
export function inactive_anon_is_low(zone: Zone): boolean {
  const stat = zone.vm_stat;
  const inactive = stat[NR_LRU_BASE + LRU_INACTIVE_ANON]!;
  return inactive * zone.inactive_ratio < stat[NR_LRU_BASE + LRU_ACTIVE_ANON]!;
}

function inactive_file_is_low(zone: Zone): boolean {
  return zone.vm_stat[NR_ACTIVE_FILE]! > zone.vm_stat[NR_INACTIVE_FILE]!;
}

function* shrink_list(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  lru: number,
  nr_to_scan: number,
): Job {
  if (is_active_lru(lru)) {
    const file = is_file_lru(lru);
    if (file ? inactive_file_is_low(zone) : inactive_anon_is_low(zone)) {
      shrink_active_list(m, sc, zone, nr_to_scan, file);
    }
    return 0;
  }
  return yield* shrink_inactive_list(m, sc, zone, nr_to_scan, lru);
}

// ---- one zone

/**
 * How many pages of each list to scan at this priority, into sc.nr: by swappiness and by how many
 * of the pages scanned lately had to be rotated back (vmscan.c: get_scan_count).
 */
export function get_scan_count(m: Machine, sc: ScanControl, zone: Zone, priority: number): void {
  const stat = zone.vm_stat;
  const size = (lru: number): number => stat[NR_LRU_BASE + lru]!;
  let ap = 0;
  let fp = 1;
  let denominator = 1;
  const noswap = !sc.may_swap || m.nr_swap_pages <= 0;
  if (!noswap) {
    const anon = size(LRU_ACTIVE_ANON) + size(LRU_INACTIVE_ANON);
    const file = size(LRU_ACTIVE_FILE) + size(LRU_INACTIVE_FILE);
    if (file + stat[NR_FREE_PAGES]! <= zone.watermark[WMARK_HIGH]!) {
      // Hardly any file pages left: anonymous ones it must be.
      ap = 1;
      fp = 0;
    } else {
      const scanned = zone.recent_scanned;
      const rotated = zone.recent_rotated;
      for (let t = 0; t < 2; t++) {
        if (scanned[t]! <= Math.floor((t === 0 ? anon : file) / 4)) continue;
        scanned[t] = Math.floor(scanned[t]! / 2);
        rotated[t] = Math.floor(rotated[t]! / 2);
      }
      ap = Math.floor(((sc.swappiness + 1) * (scanned[0]! + 1)) / (rotated[0]! + 1));
      fp = Math.floor(((200 - sc.swappiness + 1) * (scanned[1]! + 1)) / (rotated[1]! + 1));
      denominator = ap + fp + 1;
    }
  }
  for (let lru = 0; lru < NR_EVICTABLE_LISTS; lru++) {
    let scan = size(lru);
    if (priority > 0 || noswap) {
      scan = Math.floor(scan / 2 ** priority);
      scan = Math.floor((scan * (is_file_lru(lru) ? fp : ap)) / denominator);
    }
    // nr_scan_try_batch: small requests are saved up.
    const saved = zone.nr_saved_scan[lru]! + scan;
    sc.nr[lru] = saved >= SWAP_CLUSTER_MAX ? saved : 0;
    zone.nr_saved_scan[lru] = saved >= SWAP_CLUSTER_MAX ? 0 : saved;
  }
}

/** vmscan.c: set_lumpy_reclaim_mode. */
function set_lumpy_reclaim_mode(sc: ScanControl, priority: number): void {
  sc.lumpy_reclaim_mode =
    sc.order > PAGE_ALLOC_COSTLY_ORDER || (sc.order > 0 && priority < DEF_PRIORITY - 2);
}

/** Decides what to scan of a zone at one priority: the beginning of shrink_zone. */
export function shrink_zone_begin(m: Machine, sc: ScanControl, zone: Zone, priority: number): void {
  get_scan_count(m, sc, zone, priority);
  set_lumpy_reclaim_mode(sc, priority);
}

/** Scans up to 32 entries of each list; false when the zone is done at this priority. */
export function shrink_zone_round(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  priority: number,
): boolean {
  return run_job(shrink_zone_round_job(m, sc, zone, priority));
}

/** The same as a job. */
export function* shrink_zone_round_job(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  priority: number,
): Job<boolean> {
  const nr = sc.nr;
  if (nr[LRU_INACTIVE_ANON] === 0 && nr[LRU_ACTIVE_FILE] === 0 && nr[LRU_INACTIVE_FILE] === 0) {
    return false;
  }
  for (let lru = 0; lru < NR_EVICTABLE_LISTS; lru++) {
    if (nr[lru] === 0) continue;
    const nr_to_scan = Math.min(nr[lru]!, SWAP_CLUSTER_MAX);
    nr[lru]! -= nr_to_scan;
    sc.nr_reclaimed += yield* shrink_list(m, sc, zone, lru, nr_to_scan);
  }
  // At the first priority the proportions between the lists are kept: no early end.
  return sc.nr_reclaimed < sc.nr_to_reclaim || priority === DEF_PRIORITY;
}

/** What shrink_zone does when the lists are done. */
export function shrink_zone_end(m: Machine, sc: ScanControl, zone: Zone): void {
  run_job(shrink_zone_end_job(m, sc, zone));
}

/** The same as a job. */
export function* shrink_zone_end_job(m: Machine, sc: ScanControl, zone: Zone): Job<void> {
  // Even without need the anon lists are aged a little.
  if (inactive_anon_is_low(zone) && m.nr_swap_pages > 0) {
    shrink_active_list(m, sc, zone, SWAP_CLUSTER_MAX, false);
  }
  blk_flush_plug(m);
  yield* throttle_vm_writeout(m, sc.gfp_mask);
}

/** Reclaims from one zone at one priority; adds to sc.nr_reclaimed (vmscan.c). */
export function* shrink_zone(m: Machine, sc: ScanControl, zone: Zone, priority: number): Job<void> {
  shrink_zone_begin(m, sc, zone, priority);
  do {
    // Linux has cond_resched in shrink_page_list: kswapd may have its turn, or anybody.
    if (m.beside !== null) m.beside.cond_resched(m);
    else yield;
  } while (yield* shrink_zone_round_job(m, sc, zone, priority));
  yield* shrink_zone_end_job(m, sc, zone);
}

/** Waits while much more is under write-back than the dirty limit allows (page-writeback.c). */
function* throttle_vm_writeout(m: Machine, gfp: number): Job<void> {
  for (;;) {
    const thresh = dirty_thresh(m);
    const busy = global_page_state(m, NR_UNSTABLE_NFS) + global_page_state(m, NR_WRITEBACK);
    if (busy <= thresh + Math.floor(thresh / 10)) return;
    yield* sleep_congested(m, RECLAIM_WAIT_MS);
    // Nothing was written meanwhile: waiting longer would not help.
    if (global_page_state(m, NR_UNSTABLE_NFS) + global_page_state(m, NR_WRITEBACK) >= busy) return;
    if ((gfp & (__GFP_FS | __GFP_IO)) !== (__GFP_FS | __GFP_IO)) return;
  }
}

/** Remembers how hard the zone was to reclaim from (mmzone.h: note_zone_scanning_priority). */
export function note_zone_scanning_priority(zone: Zone, priority: number): void {
  if (priority < zone.prev_priority) zone.prev_priority = priority;
}

// ---- slab caches

/**
 * Asks every registered cache to give up objects, in proportion to the pages scanned out of
 * `lru_pages`. Returns objects that went, of those that the caches count (vmscan.c).
 */
export function shrink_slab(m: Machine, scanned: number, gfp: number, lru_pages: number): number {
  return run_job(shrink_slab_job(m, scanned, gfp, lru_pages));
}

/** The same with a pause after each batch, where the kernel has cond_resched. */
export function* shrink_slab_job(m: Machine, scanned: number, gfp: number, lru_pages: number): Job {
  const pressure = scanned === 0 ? SWAP_CLUSTER_MAX : scanned;
  let freed = 0;
  for (const shrinker of m.shrinkers) {
    const { ops } = shrinker;
    const max_pass = ops.shrink(m, 0, gfp);
    const delta = Math.floor((4 * pressure) / ops.seeks) * max_pass;
    shrinker.nr += Math.floor(delta / (lru_pages + 1));
    // shrink(0) may answer -1 too; then the sum may be negative, and Linux starts afresh.
    if (shrinker.nr < 0) shrinker.nr = max_pass;
    if (shrinker.nr > max_pass * 2) shrinker.nr = max_pass * 2;
    let total_scan = shrinker.nr;
    shrinker.nr = 0;
    while (total_scan >= SHRINK_BATCH) {
      const before = ops.shrink(m, 0, gfp);
      const job = m.sleeps ? ops.shrink_job?.(m, SHRINK_BATCH, gfp) : undefined;
      const after = job === undefined ? ops.shrink(m, SHRINK_BATCH, gfp) : yield* job;
      if (after === -1) break;
      if (after < before) freed += before - after;
      count_vm_events(m, SLABS_SCANNED, SHRINK_BATCH);
      total_scan -= SHRINK_BATCH;
      if (m.beside === null) yield;
    }
    shrinker.nr += total_scan;
  }
  return freed;
}

// ---- direct reclaim

/** One pass over all zones of a zonelist. True when every zone was passed over (vmscan.c). */
function* shrink_zones(
  m: Machine,
  sc: ScanControl,
  zonelist: readonly Zone[],
  high_zoneidx: number,
  priority: number,
): Job<boolean> {
  let all_unreclaimable = true;
  for (let i = 0; i < zonelist.length; i++) {
    const zone = zonelist[i]!;
    if (zone.zone_idx > high_zoneidx) continue;
    note_zone_scanning_priority(zone, priority);
    // kswapd looks at such a zone now and then.
    if (zone.all_unreclaimable !== 0 && priority !== DEF_PRIORITY) continue;
    yield* shrink_zone(m, sc, zone, priority);
    all_unreclaimable = false;
  }
  return all_unreclaimable;
}

/** The loop of direct reclaim over falling priorities (vmscan.c: do_try_to_free_pages). */
function* do_try_to_free_pages(
  m: Machine,
  sc: ScanControl,
  zonelist: readonly Zone[],
  high_zoneidx: number,
): Job {
  count_vm_event(m, ALLOCSTALL);
  let lru_pages = 0;
  for (const zone of zonelist) {
    if (zone.zone_idx <= high_zoneidx) lru_pages += zone_reclaimable_pages(m, zone);
  }
  let total_scanned = 0;
  let all_unreclaimable = false;
  let priority = DEF_PRIORITY;
  for (; priority >= 0; priority--) {
    sc.nr_scanned = 0;
    all_unreclaimable = yield* shrink_zones(m, sc, zonelist, high_zoneidx, priority);
    yield* shrink_slab_job(m, sc.nr_scanned, sc.gfp_mask, lru_pages);
    sc.nr_reclaimed += m.reclaimed_slab;
    m.reclaimed_slab = 0;
    total_scanned += sc.nr_scanned;
    if (sc.nr_reclaimed >= sc.nr_to_reclaim) break;
    if (total_scanned > sc.nr_to_reclaim + sc.nr_to_reclaim / 2) {
      // Scanning finds no clean pages: it is time that somebody writes.
      wakeup_flusher_threads(m, (m.sysctl['laptop_mode'] ?? 0) !== 0 ? 0 : total_scanned);
      sc.may_writepage = true;
    }
    if (sc.nr_scanned > 0 && priority < DEF_PRIORITY - 2) {
      yield* sleep_congested(m, RECLAIM_WAIT_MS);
    }
  }
  for (const zone of zonelist) {
    if (zone.zone_idx <= high_zoneidx) zone.prev_priority = Math.max(0, priority);
  }
  if (sc.nr_reclaimed > 0) return sc.nr_reclaimed;
  // Not all was looked at: call it progress rather than kill somebody.
  return all_unreclaimable ? 0 : 1;
}

/**
 * Reclaims for a request that found no memory: 32 pages at least, from the zones that it may use.
 * Ends in the pages freed; 1 without a single one while some zone is still worth a try; else 0.
 * What others do while it pauses is neither its own reclaim nor counts as that (vmscan.c).
 */
export function* try_to_free_pages(
  m: Machine,
  zonelist: readonly Zone[],
  high_zoneidx: number,
  order: order_t,
  gfp: number,
): Job {
  const sc = new ScanControl(m, gfp, order, SWAP_CLUSTER_MAX);
  const job = do_try_to_free_pages(m, sc, zonelist, high_zoneidx);
  for (let slab = 0; ; ) {
    const flags = m.current_flags;
    m.current_flags |= PF_MEMALLOC;
    m.reclaimed_slab = slab;
    const step = job.next();
    slab = m.reclaimed_slab;
    m.current_flags = flags;
    if (step.done) return step.value;
    yield step.value;
  }
}
