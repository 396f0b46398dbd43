/**
 * The zone counters and the event counters, and reading them.
 *
 * Zone counters are exact here: Linux buffers them per CPU and folds once a second, so its readers
 * may see values that are off by the "stats threshold" (reference 9.2). Kernels differ in which
 * counters they have and print, never in what one of these counts.
 * Linux: include/linux/mmzone.h (enum zone_stat_item), include/linux/vmstat.h, mm/vmstat.c.
 */
import { fls } from '../lib/math.ts';
import type { Machine, Zone } from './mmzone.ts';

// enum zone_stat_item, in the order of 2.6.35.
export const NR_FREE_PAGES = 0;
export const NR_LRU_BASE = 1;
export const NR_INACTIVE_ANON = 1;
export const NR_ACTIVE_ANON = 2;
export const NR_INACTIVE_FILE = 3;
export const NR_ACTIVE_FILE = 4;
export const NR_UNEVICTABLE = 5;
export const NR_MLOCK = 6;
export const NR_ANON_PAGES = 7;
export const NR_FILE_MAPPED = 8;
export const NR_FILE_PAGES = 9;
export const NR_FILE_DIRTY = 10;
export const NR_WRITEBACK = 11;
export const NR_SLAB_RECLAIMABLE = 12;
export const NR_SLAB_UNRECLAIMABLE = 13;
export const NR_PAGETABLE = 14;
export const NR_KERNEL_STACK = 15;
export const NR_UNSTABLE_NFS = 16;
export const NR_BOUNCE = 17;
export const NR_VMSCAN_WRITE = 18;
export const NR_WRITEBACK_TEMP = 19;
export const NR_ISOLATED_ANON = 20;
export const NR_ISOLATED_FILE = 21;
export const NR_SHMEM = 22;
export const NUMA_HIT = 23;
export const NUMA_MISS = 24;
export const NUMA_FOREIGN = 25;
export const NUMA_INTERLEAVE_HIT = 26;
export const NUMA_LOCAL = 27;
export const NUMA_OTHER = 28;
/** Pages of transparent huge pages that are mapped as a whole: 6.1. */
export const NR_ANON_THPS = 29;
export const NR_VM_ZONE_STAT_ITEMS = 30;

// enum vm_event_item. Those with one counter per zone type reserve MAX_NR_ZONES slots each.
const PER_ZONE = 4;
export const PGPGIN = 0;
export const PGPGOUT = 1;
export const PSWPIN = 2;
export const PSWPOUT = 3;
export const PGALLOC = 4;
export const PGFREE = PGALLOC + PER_ZONE;
export const PGACTIVATE = PGFREE + 1;
export const PGDEACTIVATE = PGFREE + 2;
export const PGFAULT = PGFREE + 3;
export const PGMAJFAULT = PGFREE + 4;
export const PGREFILL = PGFREE + 5;
export const PGSTEAL = PGREFILL + PER_ZONE;
export const PGSCAN_KSWAPD = PGSTEAL + PER_ZONE;
export const PGSCAN_DIRECT = PGSCAN_KSWAPD + PER_ZONE;
export const PGSCAN_ZONE_RECLAIM_FAILED = PGSCAN_DIRECT + PER_ZONE;
export const PGINODESTEAL = PGSCAN_ZONE_RECLAIM_FAILED + 1;
export const SLABS_SCANNED = PGINODESTEAL + 1;
export const KSWAPD_STEAL = PGINODESTEAL + 2;
export const KSWAPD_INODESTEAL = PGINODESTEAL + 3;
export const KSWAPD_LOW_WMARK_HIT_QUICKLY = PGINODESTEAL + 4;
export const KSWAPD_HIGH_WMARK_HIT_QUICKLY = PGINODESTEAL + 5;
export const KSWAPD_SKIP_CONGESTION_WAIT = PGINODESTEAL + 6;
export const PAGEOUTRUN = PGINODESTEAL + 7;
export const ALLOCSTALL = PGINODESTEAL + 8;
export const PGROTATED = PGINODESTEAL + 9;
export const COMPACTBLOCKS = PGINODESTEAL + 10;
export const COMPACTPAGES = PGINODESTEAL + 11;
export const COMPACTPAGEFAILED = PGINODESTEAL + 12;
export const COMPACTSTALL = PGINODESTEAL + 13;
export const COMPACTFAIL = PGINODESTEAL + 14;
export const COMPACTSUCCESS = PGINODESTEAL + 15;
export const HTLB_BUDDY_PGALLOC = PGINODESTEAL + 16;
export const HTLB_BUDDY_PGALLOC_FAIL = PGINODESTEAL + 17;
export const UNEVICTABLE_PGCULLED = PGINODESTEAL + 18;
export const UNEVICTABLE_PGSCANNED = PGINODESTEAL + 19;
export const UNEVICTABLE_PGRESCUED = PGINODESTEAL + 20;
export const UNEVICTABLE_PGMLOCKED = PGINODESTEAL + 21;
export const UNEVICTABLE_PGMUNLOCKED = PGINODESTEAL + 22;
export const UNEVICTABLE_PGCLEARED = PGINODESTEAL + 23;
export const UNEVICTABLE_PGSTRANDED = PGINODESTEAL + 24;
export const UNEVICTABLE_MLOCKFREED = PGINODESTEAL + 25;
// Those that 6.1 has beside the above.
export const PGMIGRATE_SUCCESS = PGINODESTEAL + 26;
export const PGMIGRATE_FAIL = PGINODESTEAL + 27;
export const COMPACTMIGRATE_SCANNED = PGINODESTEAL + 28;
export const COMPACTFREE_SCANNED = PGINODESTEAL + 29;
export const COMPACTISOLATED = PGINODESTEAL + 30;
export const KCOMPACTD_WAKE = PGINODESTEAL + 31;
export const KCOMPACTD_MIGRATE_SCANNED = PGINODESTEAL + 32;
export const KCOMPACTD_FREE_SCANNED = PGINODESTEAL + 33;
export const OOM_KILL = PGINODESTEAL + 34;
export const DROP_PAGECACHE = PGINODESTEAL + 35;
export const DROP_SLAB = PGINODESTEAL + 36;
export const PGSCAN_ANON = PGINODESTEAL + 37;
export const PGSCAN_FILE = PGINODESTEAL + 38;
export const PGSTEAL_ANON = PGINODESTEAL + 39;
export const PGSTEAL_FILE = PGINODESTEAL + 40;
/** Direct reclaims by the highest zone that the request may use. */
export const ALLOCSTALL_ZONE = PGINODESTEAL + 41;
// Transparent huge pages.
export const THP_FAULT_ALLOC = ALLOCSTALL_ZONE + PER_ZONE;
export const THP_FAULT_FALLBACK = THP_FAULT_ALLOC + 1;
export const THP_COLLAPSE_ALLOC = THP_FAULT_ALLOC + 2;
export const THP_COLLAPSE_ALLOC_FAILED = THP_FAULT_ALLOC + 3;
export const THP_SPLIT_PAGE = THP_FAULT_ALLOC + 4;
export const THP_SPLIT_PAGE_FAILED = THP_FAULT_ALLOC + 5;
export const THP_DEFERRED_SPLIT_PAGE = THP_FAULT_ALLOC + 6;
export const THP_SPLIT_PMD = THP_FAULT_ALLOC + 7;
export const THP_SCAN_EXCEED_NONE_PTE = THP_FAULT_ALLOC + 8;
export const THP_SCAN_EXCEED_SWAP_PTE = THP_FAULT_ALLOC + 9;
export const THP_SCAN_EXCEED_SHARE_PTE = THP_FAULT_ALLOC + 10;
export const THP_ZERO_PAGE_ALLOC = THP_FAULT_ALLOC + 11;
export const THP_ZERO_PAGE_ALLOC_FAILED = THP_FAULT_ALLOC + 12;
export const THP_SWPOUT_FALLBACK = THP_FAULT_ALLOC + 13;
/** Pages copied when a merged page comes from swap, and when one is written to. */
export const KSM_SWPIN_COPY = THP_FAULT_ALLOC + 14;
export const COW_KSM = THP_FAULT_ALLOC + 15;
export const NR_VM_EVENT_ITEMS = THP_FAULT_ALLOC + 16;

/** Adds to a counter of the zone. */
export function mod_zone_page_state(zone: Zone, item: number, delta: number): void {
  zone.vm_stat[item]! += delta;
}

/** One counter of one zone. */
export function zone_page_state(zone: Zone, item: number): number {
  return zone.vm_stat[item]!;
}

/** One counter, summed over a node's zones. */
export function node_page_state(m: Machine, nid: number, item: number): number {
  let sum = 0;
  for (const zone of m.nodes[nid]!.zones) sum += zone.vm_stat[item]!;
  return sum;
}

/** One counter, summed over all zones. */
export function global_page_state(m: Machine, item: number): number {
  let sum = 0;
  for (const zone of m.populated_zones) sum += zone.vm_stat[item]!;
  return sum;
}

export function count_vm_event(m: Machine, event: number): void {
  m.vm_events[event]!++;
}

export function count_vm_events(m: Machine, event: number, delta: number): void {
  m.vm_events[event]! += delta;
}

/** Counts an event that has one counter per zone type, for this zone's type. */
export function count_zone_vm_events(m: Machine, first: number, zone: Zone, delta: number): void {
  m.vm_events[first + zone.zone_idx]! += delta;
}

/** Of one order: what fragmentation indexes are computed from (vmstat.c: struct contig_page_info). */
export interface ContigPageInfo {
  free_pages: number;
  free_blocks_total: number;
  free_blocks_suitable: number;
}

/** vmstat.c: fill_contig_page_info. nr_free counts blocks of each order, all types together. */
export function fill_contig_page_info(
  nr_free: ArrayLike<number>,
  suitable_order: number,
): ContigPageInfo {
  const info = { free_pages: 0, free_blocks_total: 0, free_blocks_suitable: 0 };
  for (let order = 0; order < nr_free.length; order++) {
    const blocks = nr_free[order]!;
    info.free_blocks_total += blocks;
    info.free_pages += blocks * (1 << order);
    if (order >= suitable_order)
      info.free_blocks_suitable += blocks * (1 << (order - suitable_order));
  }
  return info;
}

/**
 * vmstat.c: __fragmentation_index. Thousandths: towards 0 a failure is for lack of memory, towards
 * 1000 it is external fragmentation; -1000 when a suitable block is free. Exactly one free block
 * that is too small gives a value below 0, as in Linux.
 */
export function __fragmentation_index(order: number, info: ContigPageInfo): number {
  if (info.free_blocks_total === 0) return 0;
  if (info.free_blocks_suitable !== 0) return -1000;
  const requested = 1 << order;
  const a = Math.floor((info.free_pages * 1000) / requested);
  return 1000 - Math.floor((1000 + a) / info.free_blocks_total);
}

/** vmstat.c: fragmentation_index, as direct compaction asks it. */
export function fragmentation_index(zone: Zone, order: number): number {
  return __fragmentation_index(order, fill_contig_page_info(zone.nr_free, order));
}

/** vmstat.c: unusable_free_index. Thousandths of the free memory that an order cannot use. */
export function unusable_free_index(order: number, info: ContigPageInfo): number {
  if (info.free_pages === 0) return 1000;
  const unusable = info.free_pages - info.free_blocks_suitable * (1 << order);
  return Math.floor((unusable * 1000) / info.free_pages);
}

/** How far a CPU's share of a counter may drift (vmstat.c: calculate_threshold, later calculate_normal_threshold). */
export function calculate_threshold(m: Machine, zone: Zone): number {
  const mem = Math.floor(zone.present_pages / 2 ** (27 - m.shape.page_shift));
  return Math.min(125, 2 * fls(m.shape.nr_cpus) * (1 + fls(mem)));
}
