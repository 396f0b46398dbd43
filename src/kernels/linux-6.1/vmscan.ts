/**
 * Page reclaim of 6.1: taking pages from those who have not used them lately.
 *
 * As in 2.6.35 pages leave the LRU lists at their tails, by 32 at a time, with rising effort. New:
 * no lumpy mode, a large request is compaction's business, and reclaim stops as soon as that could
 * run (compaction_ready: recorded in g3-direct, thirteen mm_compaction_suitable per failing request,
 * one when it is ready); file pages are written by the flusher alone; lists are scanned by what
 * reclaim from them has cost; pages are activated only when there are enough inactive ones.
 *
 * Waiting: one call runs at a time, so nobody could wake a sleeper. Each wait ends the writes that
 * the disk would have finished meanwhile (mm/backing_dev.ts) and moves no clock.
 * Linux: mm/vmscan.c. Differs: LRU lists are the zone's, as in the substrate, where 6.1 has them by
 * node: a node's zones are scanned one after the other. No memory cgroups, no workingset detection
 * (nothing refaults as far as reclaim knows), no multi-generation LRU.
 */

import { BUG_ON } from '../../lib/bug.ts';
import { run_job } from '../../lib/kthread.ts';
import { list_add, list_del, list_empty, list_splice_init } from '../../lib/list.ts';
import { int_sqrt } from '../../lib/math.ts';
import { congestion_wait, wakeup_flusher_threads } from '../../mm/backing_dev.ts';
import { __GFP_FS, __GFP_IO } from '../../mm/gfp.ts';
import { can_split_huge_page, split_huge_page_to_list } from '../../mm/huge_memory.ts';
import {
  __isolate_lru_page,
  __pagevec_free,
  add_page_to_lru_list,
  ISOLATE_BOTH,
  is_active_lru,
  is_file_lru,
  lru_add_drain,
  page_evictable,
  page_lru,
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
  PAGE_ALLOC_COSTLY_ORDER,
  PAGEVEC_SIZE,
  Pagevec,
  type Pgdat,
  SWAP_CLUSTER_MAX,
  WMARK_HIGH,
  type Zone,
} from '../../mm/mmzone.ts';
import {
  ClearPageFlag,
  compound_mapcount,
  compound_nr,
  type nid_t,
  type order_t,
  PageActive,
  PageAnon,
  PageDirty,
  PageHead,
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
import { PG_active, PG_lru, PG_reclaim, PG_referenced } from '../../mm/page_flags.ts';
import { blk_flush_plug, flusher_tick, page_mapping } from '../../mm/page_writeback.ts';
import { PF_MEMALLOC, PF_SWAPWRITE } from '../../mm/reclaim_def.ts';
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
} from '../../mm/vmscan.ts';
import {
  ALLOCSTALL_ZONE,
  count_vm_event,
  count_vm_events,
  count_zone_vm_events,
  KSWAPD_STEAL,
  NR_ACTIVE_ANON,
  NR_ACTIVE_FILE,
  NR_FREE_PAGES,
  NR_INACTIVE_ANON,
  NR_INACTIVE_FILE,
  NR_ISOLATED_ANON,
  NR_LRU_BASE,
  PGACTIVATE,
  PGDEACTIVATE,
  PGREFILL,
  PGSCAN_ANON,
  PGSCAN_DIRECT,
  PGSCAN_FILE,
  PGSCAN_KSWAPD,
  PGSTEAL,
  PGSTEAL_ANON,
  PGSTEAL_FILE,
  SLABS_SCANNED,
  THP_SWPOUT_FALLBACK,
} from '../../mm/vmstat.ts';
import {
  COMPACT_SKIPPED,
  COMPACT_SUCCESS,
  compact_gap,
  compaction_suitable,
} from './compaction.ts';
import { wmark_pages, zone_watermark_ok } from './watermark.ts';

/** Lists that reclaim looks at: all but the unevictable one. */
const NR_EVICTABLE_LISTS = 4;
/** How long a wait lasts, milliseconds (HZ/10). */
export const RECLAIM_WAIT_MS = 100;
/** Objects that a shrinker is asked for at a time. */
const SHRINK_BATCH = 128;

/** What one run of reclaim may do, wants, and has got (vmscan.c: struct scan_control). */
export class ScanControl {
  nr_scanned = 0;
  nr_reclaimed = 0;
  nr_to_reclaim: number;
  readonly gfp_mask: number;
  order: order_t;
  /** The highest zone that the request may use. */
  readonly reclaim_idx: number;
  priority = DEF_PRIORITY;
  may_writepage: boolean;
  may_swap = true;
  /** False: pages that somebody maps stay (node reclaim). */
  may_unmap = true;
  /** Deactivate although there are enough inactive pages; some such pages were passed over. */
  force_deactivate = false;
  skipped_deactivate = false;
  compaction_ready = false;
  readonly swappiness: number;
  /** Of the last list: pages taken, and dirty ones that nobody writes yet. */
  nr_taken = 0;
  nr_unqueued_dirty = 0;
  nr_pageout = 0;
  /** Of the last list, by the places of mm_vmscan_lru_shrink_inactive's values (mm/trace.ts). */
  readonly stat: Float64Array = new Float64Array(10);
  /** Result of isolate_lru_pages: list entries looked at. */
  isolate_scanned = 0;
  /** Pages still to scan of each list (get_scan_count). */
  readonly nr: Float64Array = new Float64Array(NR_EVICTABLE_LISTS);
  /** May active file pages, and active anonymous ones, be deactivated. */
  readonly may_deactivate: Uint8Array = new Uint8Array(2);
  /** Pages that are being freed together, and those that are being put back. */
  readonly freed_pvec: Pagevec = new Pagevec();
  readonly putback_pvec: Pagevec = new Pagevec();

  constructor(m: Machine, gfp_mask: number, order: order_t, reclaim_idx: number, want: number) {
    this.gfp_mask = gfp_mask;
    this.order = order;
    this.reclaim_idx = reclaim_idx;
    this.nr_to_reclaim = want;
    this.may_writepage = (m.sysctl['laptop_mode'] ?? 0) === 0;
    this.swappiness = m.sysctl['swappiness'] ?? 60;
  }
}

// ---- isolating

/** Takes up to `nr_to_scan` pages from the tail of an LRU list to the head of `dst` (vmscan.c). */
function isolate_lru_pages(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  nr_to_scan: number,
  lru: number,
  dst: number,
): number {
  const p = m.memmap;
  const src = zone.lru + lru;
  let nr_taken = 0;
  let scan = 0;
  while (scan < nr_to_scan && !list_empty(p, src)) {
    const pfn = p.prev[src]!;
    const nr_pages = compound_nr(p, pfn);
    scan += nr_pages;
    const wanted = sc.may_unmap || !page_mapped(p, pfn);
    const taken = wanted && __isolate_lru_page(m, pfn, ISOLATE_BOTH, false) === 0;
    list_del(p, pfn);
    // Being freed elsewhere, or mapped and to be left so: out of the way.
    list_add(p, pfn, taken ? dst : src);
    if (taken) nr_taken += nr_pages;
  }
  sc.isolate_scanned = scan;
  const trace = m.trace.mm_vmscan_lru_isolate;
  if (trace.enabled) {
    m.trace.values[0] = nr_to_scan;
    m.trace.values[1] = scan;
    trace.emit(sc.reclaim_idx, sc.order, lru, nr_taken);
  }
  return nr_taken;
}

// ---- one page

const PAGEREF_RECLAIM = 0;
const PAGEREF_RECLAIM_CLEAN = 1;
const PAGEREF_KEEP = 2;
const PAGEREF_ACTIVATE = 3;

/** Whether somebody used the page since it was last looked at (vmscan.c). */
function folio_check_references(m: Machine, pfn: pfn_t): number {
  const p = m.memmap;
  const referenced_ptes = page_referenced(m, pfn, true);
  const referenced_page = TestClearPageFlag(p, pfn, PG_referenced);
  // Mlocked: let it move to the unevictable list.
  if ((m.rmap_vm_flags & VM_LOCKED) !== 0) return PAGEREF_ACTIVATE;
  if (referenced_ptes > 0) {
    SetPageFlag(p, pfn, PG_referenced);
    if (referenced_page || referenced_ptes > 1) return PAGEREF_ACTIVATE;
    if ((m.rmap_vm_flags & VM_EXEC) !== 0 && page_is_file_cache(p, pfn)) return PAGEREF_ACTIVATE;
    return PAGEREF_KEEP;
  }
  if (referenced_page && page_is_file_cache(p, pfn)) return PAGEREF_RECLAIM_CLEAN;
  return PAGEREF_RECLAIM;
}

// ScanControl.stat.
const STAT_SCANNED = 0;
const STAT_RECLAIMED = 1;
const STAT_DIRTY = 2;
const STAT_WRITEBACK = 3;
const STAT_ACTIVATE_ANON = 6;
const STAT_REF_KEEP = 8;
const STAT_UNMAP_FAIL = 9;

/**
 * Splits a huge page before it is swapped out: the other parts join the list and are looked at by
 * themselves. A rotating disk has no runs of free slots that a whole one could take, so one that is
 * mapped as a whole asked for them in vain. False when somebody else holds it.
 */
function split_for_swap(m: Machine, sc: ScanControl, head: pfn_t, page_list: number): boolean {
  const p = m.memmap;
  if (!can_split_huge_page(p, head)) return false;
  const whole = compound_mapcount(p, head) > 0;
  const nr_pages = compound_nr(p, head);
  if (split_huge_page_to_list(m, head, page_list) !== 0) return false;
  if (whole) count_vm_event(m, THP_SWPOUT_FALLBACK);
  sc.nr_scanned -= nr_pages - 1;
  return true;
}

/** The decisions of shrink_folio_list on one page, which is on no list. */
function shrink_one_page(m: Machine, sc: ScanControl, pfn: pfn_t, page_list: number): number {
  const p = m.memmap;
  if (!trylock_page(p, pfn)) return KEEP;
  BUG_ON(PageActive(p, pfn), 'shrink_folio_list: an active page');
  sc.nr_scanned += compound_nr(p, pfn);
  if (!page_evictable(m, pfn)) return CULL;
  if (!sc.may_unmap && page_mapped(p, pfn)) return KEEP_LOCKED;
  let may_enter_fs =
    (sc.gfp_mask & __GFP_FS) !== 0 || (PageSwapCache(p, pfn) && (sc.gfp_mask & __GFP_IO) !== 0);
  const dirty = PageDirty(p, pfn);
  const writeback = PageWriteback(p, pfn);
  if (dirty && page_is_file_cache(p, pfn)) sc.stat[STAT_DIRTY]!++;
  if (dirty && !writeback && page_is_file_cache(p, pfn)) sc.nr_unqueued_dirty++;
  if (writeback) {
    sc.stat[STAT_WRITEBACK]!++;
    // It is freed as soon as it is written (rotate_reclaimable_page).
    SetPageFlag(p, pfn, PG_reclaim);
    return ACTIVATE_LOCKED;
  }

  const references = folio_check_references(m, pfn);
  if (references === PAGEREF_ACTIVATE) return ACTIVATE_LOCKED;
  if (references === PAGEREF_KEEP) {
    sc.stat[STAT_REF_KEEP]! += compound_nr(p, pfn);
    return KEEP_LOCKED;
  }

  if (PageAnon(p, pfn) && !PageSwapCache(p, pfn)) {
    if ((sc.gfp_mask & __GFP_IO) === 0) return KEEP_LOCKED;
    if (PageHead(p, pfn) && !split_for_swap(m, sc, pfn, page_list)) return ACTIVATE_LOCKED;
    if (!add_to_swap(m, pfn)) return ACTIVATE_LOCKED;
    may_enter_fs = true;
  }
  const mapping = page_mapping(m, pfn);

  if (page_mapped(p, pfn) && mapping !== null) {
    const unmapped = try_to_unmap(m, pfn, TTU_UNMAP);
    if (unmapped === SWAP_FAIL || unmapped === SWAP_AGAIN) {
      sc.stat[STAT_UNMAP_FAIL]!++;
      return ACTIVATE_LOCKED;
    }
    if (unmapped === SWAP_MLOCK) return CULL;
  }

  if (PageDirty(p, pfn)) {
    if (page_is_file_cache(p, pfn)) {
      // Only the flusher writes file pages; meanwhile it is out of the way.
      SetPageFlag(p, pfn, PG_reclaim);
      return ACTIVATE_LOCKED;
    }
    if (references === PAGEREF_RECLAIM_CLEAN || !may_enter_fs || !sc.may_writepage) {
      return KEEP_LOCKED;
    }
    const written = pageout(m, pfn, mapping, mapping?.bdev ?? -1);
    if (written === PAGE_KEEP) return KEEP_LOCKED;
    if (written === PAGE_ACTIVATE) return ACTIVATE_LOCKED;
    if (written === PAGE_SUCCESS) {
      sc.nr_pageout++;
      // Done already on a memory disk, or in swap.
      return free_written_page(m, sc.gfp_mask, pfn);
    }
  }
  return free_clean_page(m, sc.gfp_mask, pfn, mapping);
}

/**
 * Tries to free each page of a private list, from its tail; what stays goes to the list `kept`,
 * unlocked. Returns pages freed. (vmscan.c: shrink_folio_list)
 */
function shrink_folio_list(m: Machine, sc: ScanControl, page_list: number, kept: number): number {
  const p = m.memmap;
  const pvec = sc.freed_pvec;
  let nr_reclaimed = 0;
  let pgactivate = 0;
  sc.nr_unqueued_dirty = 0;
  sc.nr_pageout = 0;
  sc.stat.fill(0);
  while (!list_empty(p, page_list)) {
    const pfn = p.prev[page_list]!;
    list_del(p, pfn);
    const fate = shrink_one_page(m, sc, pfn, page_list);
    if (fate === FREED || fate === GONE) {
      nr_reclaimed++;
      if (fate === GONE) continue;
      pvec.pages[pvec.nr++] = pfn;
      if (pvec.nr === PAGEVEC_SIZE) __pagevec_free(m, pvec, true);
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
      if (page_evictable(m, pfn)) {
        SetPageFlag(p, pfn, PG_active);
        const nr_pages = compound_nr(p, pfn);
        sc.stat[STAT_ACTIVATE_ANON + (page_is_file_cache(p, pfn) ? 1 : 0)]! += nr_pages;
        pgactivate += nr_pages;
      }
    }
    if (fate !== KEEP) unlock_page(p, pfn);
    list_add(p, pfn, kept);
    BUG_ON(PageLRU(p, pfn), 'shrink_folio_list: a kept page is on an LRU list');
  }
  if (pvec.nr > 0) __pagevec_free(m, pvec, true);
  count_vm_events(m, PGACTIVATE, pgactivate);
  return nr_reclaimed;
}

// ---- one list

/** Remembers what reclaim from one kind of page cost: the other is scanned more (swap.c). */
function lru_note_cost(zone: Zone, file: boolean, nr_pages: number): void {
  const { lru_cost, vm_stat } = zone;
  lru_cost[file ? 1 : 0]! += nr_pages;
  const size =
    vm_stat[NR_INACTIVE_ANON]! +
    vm_stat[NR_ACTIVE_ANON]! +
    vm_stat[NR_INACTIVE_FILE]! +
    vm_stat[NR_ACTIVE_FILE]!;
  if (lru_cost[0]! + lru_cost[1]! > size / 4) {
    lru_cost[0] = Math.floor(lru_cost[0]! / 2);
    lru_cost[1] = Math.floor(lru_cost[1]! / 2);
  }
}

/** Reclaims from an inactive list, up to 32 entries. Returns pages freed (vmscan.c). */
function shrink_inactive_list(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  nr_to_scan: number,
  lru: number,
): number {
  const p = m.memmap;
  const stat = zone.vm_stat;
  const kswapd = current_is_kswapd(m);
  const file = is_file_lru(lru);
  const isolated = NR_ISOLATED_ANON + (file ? 1 : 0);
  // A paused compaction has them: it goes on when this call has returned.
  if (!kswapd && stat[isolated]! > stat[NR_LRU_BASE + lru]!) congestion_wait(m, RECLAIM_WAIT_MS);
  lru_add_drain(m);
  const list = m.list_heads.take();
  const kept = list + 1;
  const nr_taken = isolate_lru_pages(m, sc, zone, nr_to_scan, lru, list);
  sc.nr_taken = nr_taken;
  count_zone_vm_events(m, kswapd ? PGSCAN_KSWAPD : PGSCAN_DIRECT, zone, sc.isolate_scanned);
  count_vm_events(m, file ? PGSCAN_FILE : PGSCAN_ANON, sc.isolate_scanned);
  stat[NR_LRU_BASE + lru]! -= nr_taken;
  stat[isolated]! += nr_taken;
  let nr_reclaimed = 0;
  if (nr_taken > 0) {
    nr_reclaimed = shrink_folio_list(m, sc, list, kept);
    list_splice_init(p, kept, list);
    if (kswapd) count_vm_events(m, KSWAPD_STEAL, nr_reclaimed);
    count_zone_vm_events(m, PGSTEAL, zone, nr_reclaimed);
    count_vm_events(m, file ? PGSTEAL_FILE : PGSTEAL_ANON, nr_reclaimed);
    move_pages_to_lru(m, sc, zone, list);
    lru_note_cost(zone, file, sc.nr_pageout);
    // Nothing but dirty pages that nobody writes: the flusher must.
    if (sc.nr_unqueued_dirty === nr_taken) wakeup_flusher_threads(m, sc.nr_scanned);
    const trace = m.trace.mm_vmscan_lru_shrink_inactive;
    if (trace.enabled) {
      sc.stat[STAT_SCANNED] = sc.isolate_scanned;
      sc.stat[STAT_RECLAIMED] = nr_reclaimed;
      m.trace.values.set(sc.stat);
      trace.emit(zone.nid, sc.priority, file ? 1 : 0);
    }
  }
  stat[isolated]! -= nr_taken;
  m.list_heads.give_back(list);
  pagevec_release(m, sc.putback_pvec);
  return nr_reclaimed;
}

/** Gives a private list's pages back to the LRU lists that their flags name, from its tail. */
function move_pages_to_lru(m: Machine, sc: ScanControl, zone: Zone, list: number): number {
  const p = m.memmap;
  const pvec = sc.putback_pvec;
  let moved = 0;
  while (!list_empty(p, list)) {
    const pfn = p.prev[list]!;
    BUG_ON(PageLRU(p, pfn), 'move_pages_to_lru: the page is on an LRU list');
    list_del(p, pfn);
    if (!page_evictable(m, pfn)) {
      putback_lru_page(m, pfn);
      continue;
    }
    SetPageFlag(p, pfn, PG_lru);
    add_page_to_lru_list(m, zone, pfn, page_lru(p, pfn));
    moved += compound_nr(p, pfn);
    pvec.pages[pvec.nr++] = pfn;
    if (pvec.nr === PAGEVEC_SIZE) pagevec_release(m, pvec);
  }
  return moved;
}

/**
 * Ages up to `nr_to_scan` entries of an active list: they become inactive, except file pages that a
 * program executes and has used. (vmscan.c: shrink_active_list)
 */
export function shrink_active_list(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  nr_to_scan: number,
  file: boolean,
): void {
  const p = m.memmap;
  const stat = zone.vm_stat;
  const active = file ? LRU_ACTIVE_FILE : LRU_ACTIVE_ANON;
  const isolated = NR_ISOLATED_ANON + (file ? 1 : 0);
  lru_add_drain(m);
  const hold = m.list_heads.take();
  const kept = m.list_heads.take();
  const l_active = kept;
  const l_inactive = kept + 1;
  const nr_taken = isolate_lru_pages(m, sc, zone, nr_to_scan, active, hold);
  count_zone_vm_events(m, PGREFILL, zone, sc.isolate_scanned);
  stat[NR_LRU_BASE + active]! -= nr_taken;
  stat[isolated]! += nr_taken;
  let nr_rotated = 0;
  while (!list_empty(p, hold)) {
    const pfn = p.prev[hold]!;
    list_del(p, pfn);
    if (!page_evictable(m, pfn)) {
      putback_lru_page(m, pfn);
      continue;
    }
    // Only executable file pages in use stay; what anonymous pages are used is found later.
    if (
      page_referenced(m, pfn, false) > 0 &&
      (m.rmap_vm_flags & VM_EXEC) !== 0 &&
      page_is_file_cache(p, pfn)
    ) {
      nr_rotated += compound_nr(p, pfn);
      list_add(p, pfn, l_active);
      continue;
    }
    ClearPageFlag(p, pfn, PG_active);
    list_add(p, pfn, l_inactive);
  }
  move_pages_to_lru(m, sc, zone, l_active);
  count_vm_events(m, PGDEACTIVATE, move_pages_to_lru(m, sc, zone, l_inactive));
  pagevec_release(m, sc.putback_pvec);
  stat[isolated]! -= nr_taken;
  if (nr_rotated > 0) lru_note_cost(zone, file, nr_rotated);
  m.list_heads.give_back(hold);
  m.list_heads.give_back(kept);
}

/** Too few inactive pages of a kind: of a large list a smaller share is enough (vmscan.c). */
export function inactive_is_low(m: Machine, zone: Zone, file: boolean): boolean {
  const lru = file ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON;
  const inactive = zone.vm_stat[NR_LRU_BASE + lru]!;
  const active = zone.vm_stat[NR_LRU_BASE + lru + 1]!;
  const gb = (inactive + active) >>> (30 - m.shape.page_shift);
  return inactive * (gb > 0 ? int_sqrt(10 * gb) : 1) < active;
}

function shrink_list(
  m: Machine,
  sc: ScanControl,
  zone: Zone,
  lru: number,
  nr_to_scan: number,
): number {
  if (!is_active_lru(lru)) return shrink_inactive_list(m, sc, zone, nr_to_scan, lru);
  const file = is_file_lru(lru);
  if (sc.may_deactivate[file ? 1 : 0] !== 0) shrink_active_list(m, sc, zone, nr_to_scan, file);
  else sc.skipped_deactivate = true;
  return 0;
}

// ---- one zone, one node

/**
 * How many pages of each list to scan at this priority, into sc.nr: file pages alone when there is no
 * swap, or when enough of them are inactive; else by swappiness and by what each kind has cost.
 * (vmscan.c: prepare_scan_count, get_scan_count)
 */
export function get_scan_count(m: Machine, sc: ScanControl, zone: Zone): void {
  const stat = zone.vm_stat;
  const priority = sc.priority;
  for (let file = 0; file < 2; file++) {
    const low = inactive_is_low(m, zone, file !== 0);
    sc.may_deactivate[file] = sc.force_deactivate || low ? 1 : 0;
  }
  const file_pages = stat[NR_INACTIVE_FILE]! + stat[NR_ACTIVE_FILE]!;
  const enough_inactive =
    Math.floor(stat[NR_INACTIVE_FILE]! / 2 ** priority) > 0 && sc.may_deactivate[1] === 0;
  const file_is_tiny =
    file_pages + stat[NR_FREE_PAGES]! <= zone.watermark[WMARK_HIGH]! &&
    sc.may_deactivate[0] === 0 &&
    Math.floor(stat[NR_INACTIVE_ANON]! / 2 ** priority) > 0;
  let ap = 1;
  let fp = 1;
  let denominator = 1;
  if (!sc.may_swap || m.nr_swap_pages <= 0) {
    ap = 0;
  } else if (priority === 0 && sc.swappiness > 0) {
    // Near the end of all means: everything.
  } else if (file_is_tiny) {
    fp = 0;
  } else if (enough_inactive) {
    ap = 0;
  } else {
    const [anon_cost, file_cost] = zone.lru_cost as unknown as [number, number];
    const total = anon_cost + file_cost;
    ap = Math.floor(
      (sc.swappiness * (2 * total + anon_cost + file_cost + 1)) / (total + anon_cost + 1),
    );
    fp = Math.floor(
      ((200 - sc.swappiness) * (2 * total + anon_cost + file_cost + 1)) / (total + file_cost + 1),
    );
    denominator = Math.max(1, ap + fp);
  }
  for (let lru = 0; lru < NR_EVICTABLE_LISTS; lru++) {
    const scan = Math.floor(stat[NR_LRU_BASE + lru]! / 2 ** priority);
    sc.nr[lru] = Math.floor((scan * (is_file_lru(lru) ? fp : ap)) / denominator);
  }
}

/** Reclaims from one zone's lists at the current priority (vmscan.c: shrink_lruvec). */
function shrink_lruvec(m: Machine, sc: ScanControl, zone: Zone): void {
  get_scan_count(m, sc, zone);
  const nr = sc.nr;
  let nr_reclaimed = 0;
  // The first pass of a direct reclaim keeps the proportions between the lists.
  const proportional = !current_is_kswapd(m) && sc.priority === DEF_PRIORITY;
  while (nr[LRU_INACTIVE_ANON]! > 0 || nr[LRU_ACTIVE_FILE]! > 0 || nr[LRU_INACTIVE_FILE]! > 0) {
    for (let lru = 0; lru < NR_EVICTABLE_LISTS; lru++) {
      if (nr[lru]! <= 0) continue;
      const nr_to_scan = Math.min(nr[lru]!, SWAP_CLUSTER_MAX);
      nr[lru]! -= nr_to_scan;
      nr_reclaimed += shrink_list(m, sc, zone, lru, nr_to_scan);
    }
    if (nr_reclaimed >= sc.nr_to_reclaim && !proportional) break;
  }
  sc.nr_reclaimed += nr_reclaimed;
  // Even without need the anonymous lists are aged a little.
  if (m.nr_swap_pages > 0 && inactive_is_low(m, zone, false)) {
    shrink_active_list(m, sc, zone, SWAP_CLUSTER_MAX, false);
  }
}

/** A small order is left to reclaim until little effort helps no more (vmscan.c). */
function in_reclaim_compaction(m: Machine, sc: ScanControl): boolean {
  if (!m.shape.compaction || sc.order === 0) return false;
  return sc.order > PAGE_ALLOC_COSTLY_ORDER || sc.priority < DEF_PRIORITY - 2;
}

/**
 * Whether to reclaim more from a node so that compaction has room: not when it could run already,
 * nor when nothing comes or little is left. (vmscan.c: should_continue_reclaim)
 */
function should_continue_reclaim(
  m: Machine,
  sc: ScanControl,
  zones: readonly Zone[],
  nr_reclaimed: number,
): boolean {
  if (!in_reclaim_compaction(m, sc) || nr_reclaimed === 0) return false;
  let inactive = 0;
  for (const zone of zones) {
    if (compaction_suitable(m, zone, sc.order, 0, sc.reclaim_idx) !== COMPACT_SKIPPED) return false;
    inactive += zone.vm_stat[NR_INACTIVE_FILE]!;
    if (m.nr_swap_pages > 0) inactive += zone.vm_stat[NR_INACTIVE_ANON]!;
  }
  return inactive > compact_gap(sc.order);
}

/** Reclaims from the zones of a node that the request may use, and from slabs (vmscan.c). */
export function shrink_node(m: Machine, sc: ScanControl, pgdat: Pgdat): void {
  const zones = pgdat.zones.filter((zone) => zone.zone_idx <= sc.reclaim_idx);
  const flags = m.current_flags;
  m.current_flags |= PF_MEMALLOC | PF_SWAPWRITE;
  for (;;) {
    const before = sc.nr_reclaimed;
    for (const zone of zones) shrink_lruvec(m, sc, zone);
    m.reclaimed_slab = 0;
    shrink_slab(m, sc.gfp_mask, sc.priority, pgdat.nid);
    sc.nr_reclaimed += m.reclaimed_slab;
    m.reclaimed_slab = 0;
    blk_flush_plug(m);
    const got = sc.nr_reclaimed - before;
    if (got > 0) pgdat.kswapd_failures = 0;
    if (!should_continue_reclaim(m, sc, zones, got)) break;
  }
  m.current_flags = flags;
}

// ---- slab caches

/**
 * Asks every registered cache, for its objects on a node, to give up a share of its objects that doubles with each priority.
 * Returns objects that went. (vmscan.c: shrink_slab, do_shrink_slab)
 */
export function shrink_slab(m: Machine, gfp: number, priority: number, nid: nid_t): number {
  let freed = 0;
  for (const shrinker of m.shrinkers) {
    const { ops } = shrinker;
    const freeable = ops.shrink(m, 0, gfp, nid);
    if (freeable <= 0) continue;
    const delta = Math.floor((Math.floor(freeable / 2 ** priority) * 4) / ops.seeks);
    let total_scan = Math.min(Math.floor(shrinker.nr / 2 ** priority) + delta, 2 * freeable);
    const owed = shrinker.nr + delta;
    let scanned = 0;
    while (total_scan >= SHRINK_BATCH || total_scan >= freeable) {
      const nr_to_scan = Math.min(SHRINK_BATCH, total_scan);
      if (nr_to_scan === 0) break;
      const before = ops.shrink(m, 0, gfp, nid);
      const after = ops.shrink(m, nr_to_scan, gfp, nid);
      if (after === -1) break;
      if (after < before) freed += before - after;
      count_vm_events(m, SLABS_SCANNED, nr_to_scan);
      total_scan -= nr_to_scan;
      scanned += nr_to_scan;
    }
    shrinker.nr = Math.min(Math.max(0, owed - scanned), 2 * freeable);
  }
  return freed;
}

// ---- direct reclaim

/** True when compaction could run in this zone, so that it need not be scanned (vmscan.c). */
function compaction_ready(m: Machine, zone: Zone, sc: ScanControl): boolean {
  if (!m.shape.compaction) return false;
  const suitable = compaction_suitable(m, zone, sc.order, 0, sc.reclaim_idx);
  if (suitable === COMPACT_SUCCESS) return true;
  if (suitable === COMPACT_SKIPPED) return false;
  // Others may use what is free meanwhile: only well above what compaction needs is enough.
  const watermark = wmark_pages(zone, WMARK_HIGH) + compact_gap(sc.order);
  return zone_watermark_ok(m, zone, 0, watermark, sc.reclaim_idx, 0);
}

/**
 * What happens while a reclaimer waits: the flusher writes what it was asked to, and writes end. Only
 * where the caller holds nothing that the flusher could need.
 */
export function wait_for_writes(m: Machine, gfp: number): void {
  const may_write = (gfp & (__GFP_FS | __GFP_IO)) === (__GFP_FS | __GFP_IO);
  if (may_write && !m.writeback.writing && m.writeback.nr_requested > 0) run_job(flusher_tick(m));
  congestion_wait(m, RECLAIM_WAIT_MS);
}

/** One pass over the nodes of a zonelist's zones (vmscan.c: shrink_zones). */
function shrink_zones(m: Machine, sc: ScanControl, zonelist: readonly Zone[]): void {
  let last = -1;
  for (const zone of zonelist) {
    if (zone.zone_idx > sc.reclaim_idx) continue;
    if (sc.order > PAGE_ALLOC_COSTLY_ORDER && compaction_ready(m, zone, sc)) {
      sc.compaction_ready = true;
      continue;
    }
    if (zone.nid === last) continue;
    last = zone.nid;
    shrink_node(m, sc, m.nodes[zone.nid]!);
  }
}

/**
 * Reclaims for a request that found no memory: 32 pages at least, from the nodes that it may use.
 * Returns pages freed, or 1 when there are none but compaction is ready. (vmscan.c)
 */
export function try_to_free_pages(
  m: Machine,
  zonelist: readonly Zone[],
  highest_zoneidx: number,
  order: order_t,
  gfp: number,
): number {
  const sc = new ScanControl(m, gfp, order, highest_zoneidx, SWAP_CLUSTER_MAX);
  const { mm_vmscan_direct_reclaim_begin, mm_vmscan_direct_reclaim_end } = m.trace;
  if (mm_vmscan_direct_reclaim_begin.enabled) mm_vmscan_direct_reclaim_begin.emit(order, gfp);
  const nr_reclaimed = do_try_to_free_pages(m, sc, zonelist);
  if (mm_vmscan_direct_reclaim_end.enabled) mm_vmscan_direct_reclaim_end.emit(nr_reclaimed);
  return nr_reclaimed;
}

/** The passes of try_to_free_pages at rising effort (vmscan.c). */
function do_try_to_free_pages(m: Machine, sc: ScanControl, zonelist: readonly Zone[]): number {
  const gfp = sc.gfp_mask;
  for (;;) {
    count_vm_event(m, ALLOCSTALL_ZONE + sc.reclaim_idx);
    for (sc.priority = DEF_PRIORITY; sc.priority >= 0; sc.priority--) {
      sc.nr_scanned = 0;
      sc.nr_taken = 0;
      shrink_zones(m, sc, zonelist);
      if (sc.nr_reclaimed >= sc.nr_to_reclaim || sc.compaction_ready) break;
      if (sc.priority < DEF_PRIORITY - 2) sc.may_writepage = true;
      // reclaim_throttle: what is being written now will be free then.
      if (sc.nr_taken > 0 && sc.priority < DEF_PRIORITY - 2) wait_for_writes(m, gfp);
    }
    if (sc.nr_reclaimed > 0) return sc.nr_reclaimed;
    if (sc.compaction_ready) return 1;
    if (!sc.skipped_deactivate) return 0;
    // All that was left was active: once more, whatever the proportions.
    sc.skipped_deactivate = false;
    sc.force_deactivate = true;
  }
}
