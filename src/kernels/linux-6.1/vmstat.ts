/**
 * /proc/buddyinfo, pagetypeinfo, zoneinfo and vmstat, and the fragmentation indexes of debugfs, as 6.1
 * prints them, byte for byte (recorded: debian-6.1/verbatim).
 *
 * What changed since 2.6.35: counters are the node's or the zone's, zoneinfo has all zones, also
 * empty ones, and the watermarks are printed with the boost in them.
 * Linux: mm/vmstat.c. Differs: counters are exact here, so the stats threshold is printed and has no
 * effect. What this kernel does not have yet (NUMA balancing, workingset detection, zswap, ...)
 * counts 0, as on an idle machine.
 */
import {
  buddyinfo_show,
  index_show,
  type PagetypeFormat,
  pageset_lines,
  pagetypeinfo_show,
  zone_head,
} from '../../fs/proc/vmstat.ts';
import type { FileRow } from '../../lib/file_row.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import { HPAGE_PMD_NR } from '../../mm/huge_memory.ts';
import {
  type Machine,
  type Pgdat,
  WMARK_HIGH,
  WMARK_LOW,
  WMARK_MIN,
  type Zone,
} from '../../mm/mmzone.ts';
import type { nid_t } from '../../mm/page.ts';
import {
  __fragmentation_index,
  ALLOCSTALL_ZONE,
  COMPACTFAIL,
  COMPACTFREE_SCANNED,
  COMPACTISOLATED,
  COMPACTMIGRATE_SCANNED,
  COMPACTSTALL,
  COMPACTSUCCESS,
  COW_KSM,
  calculate_threshold,
  DROP_PAGECACHE,
  DROP_SLAB,
  global_page_state,
  HTLB_BUDDY_PGALLOC,
  HTLB_BUDDY_PGALLOC_FAIL,
  KCOMPACTD_FREE_SCANNED,
  KCOMPACTD_MIGRATE_SCANNED,
  KCOMPACTD_WAKE,
  KSM_SWPIN_COPY,
  KSWAPD_HIGH_WMARK_HIT_QUICKLY,
  KSWAPD_INODESTEAL,
  KSWAPD_LOW_WMARK_HIT_QUICKLY,
  KSWAPD_STEAL,
  NR_ACTIVE_ANON,
  NR_ACTIVE_FILE,
  NR_ANON_PAGES,
  NR_ANON_THPS,
  NR_BOUNCE,
  NR_FILE_DIRTY,
  NR_FILE_MAPPED,
  NR_FILE_PAGES,
  NR_FREE_PAGES,
  NR_INACTIVE_ANON,
  NR_INACTIVE_FILE,
  NR_ISOLATED_ANON,
  NR_ISOLATED_FILE,
  NR_KERNEL_STACK,
  NR_MLOCK,
  NR_PAGETABLE,
  NR_SHMEM,
  NR_SLAB_RECLAIMABLE,
  NR_SLAB_UNRECLAIMABLE,
  NR_UNEVICTABLE,
  NR_VMSCAN_WRITE,
  NR_WRITEBACK,
  NR_WRITEBACK_TEMP,
  NUMA_HIT,
  node_page_state,
  OOM_KILL,
  PAGEOUTRUN,
  PGACTIVATE,
  PGALLOC,
  PGDEACTIVATE,
  PGFAULT,
  PGFREE,
  PGINODESTEAL,
  PGMAJFAULT,
  PGMIGRATE_FAIL,
  PGMIGRATE_SUCCESS,
  PGPGIN,
  PGPGOUT,
  PGREFILL,
  PGROTATED,
  PGSCAN_ANON,
  PGSCAN_DIRECT,
  PGSCAN_FILE,
  PGSCAN_KSWAPD,
  PGSCAN_ZONE_RECLAIM_FAILED,
  PGSTEAL,
  PGSTEAL_ANON,
  PGSTEAL_FILE,
  PSWPIN,
  PSWPOUT,
  SLABS_SCANNED,
  THP_COLLAPSE_ALLOC,
  THP_COLLAPSE_ALLOC_FAILED,
  THP_DEFERRED_SPLIT_PAGE,
  THP_FAULT_ALLOC,
  THP_FAULT_FALLBACK,
  THP_SCAN_EXCEED_NONE_PTE,
  THP_SCAN_EXCEED_SHARE_PTE,
  THP_SCAN_EXCEED_SWAP_PTE,
  THP_SPLIT_PAGE,
  THP_SPLIT_PAGE_FAILED,
  THP_SPLIT_PMD,
  THP_SWPOUT_FALLBACK,
  THP_ZERO_PAGE_ALLOC,
  THP_ZERO_PAGE_ALLOC_FAILED,
  UNEVICTABLE_PGCLEARED,
  UNEVICTABLE_PGCULLED,
  UNEVICTABLE_PGMLOCKED,
  UNEVICTABLE_PGMUNLOCKED,
  UNEVICTABLE_PGRESCUED,
  UNEVICTABLE_PGSCANNED,
  UNEVICTABLE_PGSTRANDED,
  unusable_free_index,
  zone_page_state,
} from '../../mm/vmstat.ts';
import { migratetype_of_nr } from './gfp.ts';
import { MAX_RECLAIM_RETRIES } from './kswapd.ts';
import { wmark_pages } from './watermark.ts';

/** In order of 6.1's numbers. */
const PAGETYPES: PagetypeFormat = {
  names: ['Unmovable', 'Movable', 'Reclaimable', 'HighAtomic', 'Isolate'],
  types: migratetype_of_nr,
  // Then it gives up: it holds the zone's lock meanwhile.
  max_counted: 100000,
};

/** A counter that is always 0. */
const NONE = -1;

/** KiB of a kernel stack: 6.1 counts them, we count stacks. */
export const THREAD_SIZE_KB = 16;

/** Zone counters by name, before those of NUMA (enum zone_stat_item). */
const ZONE_STATS: readonly (readonly [string, number, number?])[] = [
  ['nr_free_pages', NR_FREE_PAGES],
  ['nr_zone_inactive_anon', NR_INACTIVE_ANON],
  ['nr_zone_active_anon', NR_ACTIVE_ANON],
  ['nr_zone_inactive_file', NR_INACTIVE_FILE],
  ['nr_zone_active_file', NR_ACTIVE_FILE],
  ['nr_zone_unevictable', NR_UNEVICTABLE],
  ['nr_zone_write_pending', NR_FILE_DIRTY, NR_WRITEBACK],
  ['nr_mlock', NR_MLOCK],
  ['nr_bounce', NR_BOUNCE],
  ['nr_zspages', NONE],
  ['nr_free_cma', NONE],
];

/** enum numa_stat_item, in the order of our counters from NUMA_HIT on. */
const NUMA_STATS = [
  'numa_hit',
  'numa_miss',
  'numa_foreign',
  'numa_interleave',
  'numa_local',
  'numa_other',
];

/** Node counters by name (enum node_stat_item). */
const NODE_STATS: readonly (readonly [string, number])[] = [
  ['nr_inactive_anon', NR_INACTIVE_ANON],
  ['nr_active_anon', NR_ACTIVE_ANON],
  ['nr_inactive_file', NR_INACTIVE_FILE],
  ['nr_active_file', NR_ACTIVE_FILE],
  ['nr_unevictable', NR_UNEVICTABLE],
  ['nr_slab_reclaimable', NR_SLAB_RECLAIMABLE],
  ['nr_slab_unreclaimable', NR_SLAB_UNRECLAIMABLE],
  ['nr_isolated_anon', NR_ISOLATED_ANON],
  ['nr_isolated_file', NR_ISOLATED_FILE],
  ['workingset_nodes', NONE],
  ['workingset_refault_anon', NONE],
  ['workingset_refault_file', NONE],
  ['workingset_activate_anon', NONE],
  ['workingset_activate_file', NONE],
  ['workingset_restore_anon', NONE],
  ['workingset_restore_file', NONE],
  ['workingset_nodereclaim', NONE],
  ['nr_anon_pages', NR_ANON_PAGES],
  ['nr_mapped', NR_FILE_MAPPED],
  ['nr_file_pages', NR_FILE_PAGES],
  ['nr_dirty', NR_FILE_DIRTY],
  ['nr_writeback', NR_WRITEBACK],
  ['nr_writeback_temp', NR_WRITEBACK_TEMP],
  ['nr_shmem', NR_SHMEM],
  ['nr_shmem_hugepages', NONE],
  ['nr_shmem_pmdmapped', NONE],
  ['nr_file_hugepages', NONE],
  ['nr_file_pmdmapped', NONE],
  ['nr_anon_transparent_hugepages', NR_ANON_THPS],
  ['nr_vmscan_write', NR_VMSCAN_WRITE],
  ['nr_vmscan_immediate_reclaim', NONE],
  ['nr_dirtied', NONE],
  ['nr_written', NONE],
  ['nr_throttled_written', NONE],
  ['nr_kernel_misc_reclaimable', NONE],
  ['nr_foll_pin_acquired', NONE],
  ['nr_foll_pin_released', NONE],
  ['nr_kernel_stack', NR_KERNEL_STACK],
  ['nr_page_table_pages', NR_PAGETABLE],
  ['nr_sec_page_table_pages', NONE],
  ['nr_swapcached', NONE],
  ['pgpromote_success', NONE],
  ['pgpromote_candidate', NONE],
];

interface EventName {
  name: string;
  event: number;
  /** One counter a zone type: the zone's name is appended. */
  per_zone?: true;
  /** Counted by zone type in the substrate, printed as one. */
  sum?: true;
  /** Less this one: what kswapd did. */
  less?: number;
}

/** The event counters in the order of /proc/vmstat. */
const EVENTS: readonly EventName[] = [
  { name: 'pgpgin', event: PGPGIN },
  { name: 'pgpgout', event: PGPGOUT },
  { name: 'pswpin', event: PSWPIN },
  { name: 'pswpout', event: PSWPOUT },
  { name: 'pgalloc', event: PGALLOC, per_zone: true },
  { name: 'allocstall', event: ALLOCSTALL_ZONE, per_zone: true },
  { name: 'pgskip', event: NONE, per_zone: true },
  { name: 'pgfree', event: PGFREE },
  { name: 'pgactivate', event: PGACTIVATE },
  { name: 'pgdeactivate', event: PGDEACTIVATE },
  { name: 'pglazyfree', event: NONE },
  { name: 'pgfault', event: PGFAULT },
  { name: 'pgmajfault', event: PGMAJFAULT },
  { name: 'pglazyfreed', event: NONE },
  { name: 'pgrefill', event: PGREFILL, sum: true },
  { name: 'pgreuse', event: NONE },
  { name: 'pgsteal_kswapd', event: KSWAPD_STEAL },
  { name: 'pgsteal_direct', event: PGSTEAL, sum: true, less: KSWAPD_STEAL },
  { name: 'pgdemote_kswapd', event: NONE },
  { name: 'pgdemote_direct', event: NONE },
  { name: 'pgscan_kswapd', event: PGSCAN_KSWAPD, sum: true },
  { name: 'pgscan_direct', event: PGSCAN_DIRECT, sum: true },
  { name: 'pgscan_direct_throttle', event: NONE },
  { name: 'pgscan_anon', event: PGSCAN_ANON },
  { name: 'pgscan_file', event: PGSCAN_FILE },
  { name: 'pgsteal_anon', event: PGSTEAL_ANON },
  { name: 'pgsteal_file', event: PGSTEAL_FILE },
  { name: 'zone_reclaim_failed', event: PGSCAN_ZONE_RECLAIM_FAILED },
  { name: 'pginodesteal', event: PGINODESTEAL },
  { name: 'slabs_scanned', event: SLABS_SCANNED },
  { name: 'kswapd_inodesteal', event: KSWAPD_INODESTEAL },
  { name: 'kswapd_low_wmark_hit_quickly', event: KSWAPD_LOW_WMARK_HIT_QUICKLY },
  { name: 'kswapd_high_wmark_hit_quickly', event: KSWAPD_HIGH_WMARK_HIT_QUICKLY },
  { name: 'pageoutrun', event: PAGEOUTRUN },
  { name: 'pgrotated', event: PGROTATED },
  { name: 'drop_pagecache', event: DROP_PAGECACHE },
  { name: 'drop_slab', event: DROP_SLAB },
  { name: 'oom_kill', event: OOM_KILL },
  { name: 'numa_pte_updates', event: NONE },
  { name: 'numa_huge_pte_updates', event: NONE },
  { name: 'numa_hint_faults', event: NONE },
  { name: 'numa_hint_faults_local', event: NONE },
  { name: 'numa_pages_migrated', event: NONE },
  { name: 'pgmigrate_success', event: PGMIGRATE_SUCCESS },
  { name: 'pgmigrate_fail', event: PGMIGRATE_FAIL },
  { name: 'thp_migration_success', event: NONE },
  { name: 'thp_migration_fail', event: NONE },
  { name: 'thp_migration_split', event: NONE },
  { name: 'compact_migrate_scanned', event: COMPACTMIGRATE_SCANNED },
  { name: 'compact_free_scanned', event: COMPACTFREE_SCANNED },
  { name: 'compact_isolated', event: COMPACTISOLATED },
  { name: 'compact_stall', event: COMPACTSTALL },
  { name: 'compact_fail', event: COMPACTFAIL },
  { name: 'compact_success', event: COMPACTSUCCESS },
  { name: 'compact_daemon_wake', event: KCOMPACTD_WAKE },
  { name: 'compact_daemon_migrate_scanned', event: KCOMPACTD_MIGRATE_SCANNED },
  { name: 'compact_daemon_free_scanned', event: KCOMPACTD_FREE_SCANNED },
  { name: 'htlb_buddy_alloc_success', event: HTLB_BUDDY_PGALLOC },
  { name: 'htlb_buddy_alloc_fail', event: HTLB_BUDDY_PGALLOC_FAIL },
  { name: 'unevictable_pgs_culled', event: UNEVICTABLE_PGCULLED },
  { name: 'unevictable_pgs_scanned', event: UNEVICTABLE_PGSCANNED },
  { name: 'unevictable_pgs_rescued', event: UNEVICTABLE_PGRESCUED },
  { name: 'unevictable_pgs_mlocked', event: UNEVICTABLE_PGMLOCKED },
  { name: 'unevictable_pgs_munlocked', event: UNEVICTABLE_PGMUNLOCKED },
  { name: 'unevictable_pgs_cleared', event: UNEVICTABLE_PGCLEARED },
  { name: 'unevictable_pgs_stranded', event: UNEVICTABLE_PGSTRANDED },
  { name: 'thp_fault_alloc', event: THP_FAULT_ALLOC },
  { name: 'thp_fault_fallback', event: THP_FAULT_FALLBACK },
  { name: 'thp_fault_fallback_charge', event: NONE },
  { name: 'thp_collapse_alloc', event: THP_COLLAPSE_ALLOC },
  { name: 'thp_collapse_alloc_failed', event: THP_COLLAPSE_ALLOC_FAILED },
  { name: 'thp_file_alloc', event: NONE },
  { name: 'thp_file_fallback', event: NONE },
  { name: 'thp_file_fallback_charge', event: NONE },
  { name: 'thp_file_mapped', event: NONE },
  { name: 'thp_split_page', event: THP_SPLIT_PAGE },
  { name: 'thp_split_page_failed', event: THP_SPLIT_PAGE_FAILED },
  { name: 'thp_deferred_split_page', event: THP_DEFERRED_SPLIT_PAGE },
  { name: 'thp_split_pmd', event: THP_SPLIT_PMD },
  { name: 'thp_scan_exceed_none_pte', event: THP_SCAN_EXCEED_NONE_PTE },
  { name: 'thp_scan_exceed_swap_pte', event: THP_SCAN_EXCEED_SWAP_PTE },
  { name: 'thp_scan_exceed_share_pte', event: THP_SCAN_EXCEED_SHARE_PTE },
  { name: 'thp_split_pud', event: NONE },
  { name: 'thp_zero_page_alloc', event: THP_ZERO_PAGE_ALLOC },
  { name: 'thp_zero_page_alloc_failed', event: THP_ZERO_PAGE_ALLOC_FAILED },
  { name: 'thp_swpout', event: NONE },
  { name: 'thp_swpout_fallback', event: THP_SWPOUT_FALLBACK },
  { name: 'balloon_inflate', event: NONE },
  { name: 'balloon_deflate', event: NONE },
  { name: 'balloon_migrate', event: NONE },
  { name: 'swap_ra', event: NONE },
  { name: 'swap_ra_hit', event: NONE },
  { name: 'ksm_swpin_copy', event: KSM_SWPIN_COPY },
  { name: 'cow_ksm', event: COW_KSM },
  { name: 'zswpin', event: NONE },
  { name: 'zswpout', event: NONE },
  { name: 'direct_map_level2_splits', event: NONE },
  { name: 'direct_map_level3_splits', event: NONE },
];

/** Zone types with counters of their own; the substrate counts for the first four. */
const COUNTED_ZONES = 4;

function zone_stat(zone: Zone, stat: readonly [string, number, number?]): number {
  if (stat[1] === NONE) return 0;
  const value = zone_page_state(zone, stat[1]);
  return stat[2] === undefined ? value : value + zone_page_state(zone, stat[2]);
}

function node_stat(m: Machine, nid: nid_t, item: number): number {
  if (item === NONE) return 0;
  const value = node_page_state(m, nid, item);
  if (item === NR_ANON_THPS) return value / HPAGE_PMD_NR;
  return item === NR_KERNEL_STACK ? value * THREAD_SIZE_KB : value;
}

function zoneinfo_pages(seq: SeqFile, m: Machine, zone: Zone | undefined): void {
  const wmark = (i: number): number => (zone === undefined ? 0 : wmark_pages(zone, i));
  seq.puts('\n  pages free     ').put_dec(zone === undefined ? 0 : zone_stat(zone, ZONE_STATS[0]!));
  seq.puts('\n        boost    ').put_dec(zone?.watermark_boost ?? 0);
  seq.puts('\n        min      ').put_dec(wmark(WMARK_MIN));
  seq.puts('\n        low      ').put_dec(wmark(WMARK_LOW));
  seq.puts('\n        high     ').put_dec(wmark(WMARK_HIGH));
  seq.puts('\n        spanned  ').put_dec(zone?.spanned_pages ?? 0);
  seq.puts('\n        present  ').put_dec(zone?.ram_pages ?? 0);
  seq.puts('\n        managed  ').put_dec(zone?.present_pages ?? 0);
  seq.puts('\n        cma      0');
  seq.puts('\n        protection: (');
  for (let i = 0; i < m.shape.zone_names.length; i++) {
    if (i > 0) seq.puts(', ');
    seq.put_dec(zone?.lowmem_reserve[i] ?? 0);
  }
  seq.puts(')');
}

function zoneinfo_zone(seq: SeqFile, m: Machine, node: Pgdat, zone_idx: number): void {
  const zone = node.zones.find((z) => z.zone_idx === zone_idx);
  zone_head(seq, node.nid, m.shape.zone_names[zone_idx]!);
  if (zone !== undefined && zone === node.zones[0]) {
    seq.puts('\n  per-node stats');
    for (const [name, item] of NODE_STATS) {
      seq
        .puts('\n      ')
        .put_left(name, 12)
        .puts(' ')
        .put_dec(node_stat(m, node.nid, item));
    }
  }
  zoneinfo_pages(seq, m, zone);
  if (zone === undefined) {
    seq.puts('\n');
    return;
  }
  for (const stat of ZONE_STATS) {
    seq.puts('\n      ').put_left(stat[0], 12).puts(' ').put_dec(zone_stat(zone, stat));
  }
  if (m.shape.numa) {
    for (let i = 0; i < NUMA_STATS.length; i++) {
      seq.puts('\n      ').put_left(NUMA_STATS[i]!, 12).puts(' ');
      seq.put_dec(zone_page_state(zone, NUMA_HIT + i));
    }
  }
  pageset_lines(seq, zone, calculate_threshold(m, zone));
  const unreclaimable = node.kswapd_failures >= MAX_RECLAIM_RETRIES ? 1 : 0;
  seq.puts('\n  node_unreclaimable:  ').put_dec(unreclaimable);
  seq.puts('\n  start_pfn:           ').put_dec(zone.zone_start_pfn).puts('\n');
}

/** vmstat.c: zoneinfo_show_print, for every zone that could be there. */
export function zoneinfo_show(seq: SeqFile, m: Machine): void {
  for (const node of m.nodes) {
    for (let i = 0; i < m.shape.zone_names.length; i++) zoneinfo_zone(seq, m, node, i);
  }
}

function line(seq: SeqFile, name: string, value: number): void {
  seq.puts(name).puts(' ').put_dec(value).puts('\n');
}

/** Counters of zones and nodes in their order, summed over the given nodes. */
function put_stats(seq: SeqFile, m: Machine, nodes: readonly Pgdat[]): void {
  const sum = (of: (zone: Zone) => number): number => {
    let total = 0;
    for (const node of nodes) for (const zone of node.zones) total += of(zone);
    return total;
  };
  for (const stat of ZONE_STATS)
    line(
      seq,
      stat[0],
      sum((zone) => zone_stat(zone, stat)),
    );
  if (m.shape.numa) {
    for (let i = 0; i < NUMA_STATS.length; i++) {
      line(
        seq,
        NUMA_STATS[i]!,
        sum((zone) => zone_page_state(zone, NUMA_HIT + i)),
      );
    }
  }
  for (const [name, item] of NODE_STATS) {
    let total = 0;
    for (const node of nodes) total += node_stat(m, node.nid, item);
    line(seq, name, total);
  }
}

/** nodeN/vmstat (drivers/base/node.c: node_read_vmstat). */
export function node_vmstat_show(seq: SeqFile, m: Machine, nid: nid_t): void {
  put_stats(seq, m, [m.nodes[nid]!]);
}

/**
 * Dirty pages from which the flusher writes, and from which writers wait: shares of free pages and
 * page cache, in 4096ths for a page of 4096 bytes. (page-writeback.c: domain_dirty_limits)
 */
export function global_dirty_limits(m: Machine): { background: number; thresh: number } {
  const page_size = 2 ** m.shape.page_shift;
  const free = global_page_state(m, NR_FREE_PAGES);
  const available =
    free -
    Math.min(free, m.totalreserve_pages) +
    global_page_state(m, NR_INACTIVE_FILE) +
    global_page_state(m, NR_ACTIVE_FILE) +
    1; // so that nobody divides by 0
  const limit = (name: string, ratio: number): number => {
    const bytes = m.sysctl[`${name}_bytes`] ?? 0;
    if (bytes > 0) return Math.ceil(bytes / page_size);
    const share = Math.floor(((m.sysctl[`${name}_ratio`] ?? ratio) * page_size) / 100);
    return Math.floor((share * available) / page_size);
  };
  const thresh = limit('dirty', 20);
  const background = limit('dirty_background', 10);
  return { thresh, background: background >= thresh ? Math.floor(thresh / 2) : background };
}

/** vmstat.c: vmstat_show. */
export function vmstat_show(seq: SeqFile, m: Machine): void {
  put_stats(seq, m, m.nodes);
  const limits = global_dirty_limits(m);
  line(seq, 'nr_dirty_threshold', limits.thresh);
  line(seq, 'nr_dirty_background_threshold', limits.background);
  for (const { name, event, per_zone, sum, less } of EVENTS) {
    if (name.startsWith('compact_') && !m.shape.compaction) continue;
    if (per_zone) {
      for (let i = 0; i < m.shape.zone_names.length; i++) {
        const counted = event !== NONE && i < COUNTED_ZONES;
        const suffix = '_' + m.shape.zone_names[i]!.toLowerCase();
        line(seq, name + suffix, counted ? m.vm_events[event + i]! : 0);
      }
    } else if (sum) {
      let total = less === undefined ? 0 : -m.vm_events[less]!;
      for (let i = 0; i < COUNTED_ZONES; i++) total += m.vm_events[event + i]!;
      line(seq, name, total);
    } else {
      line(seq, name, event === NONE ? 0 : m.vm_events[event]!);
    }
  }
  // Kept for programs that expect it.
  line(seq, 'nr_unstable', 0);
}

export const vmstat_files: readonly FileRow<Machine>[] = [
  {
    path: '/proc/buddyinfo',
    mode: 0o444,
    show: buddyinfo_show,
    doc: 'free blocks of each order, by zone',
  },
  {
    path: '/proc/pagetypeinfo',
    mode: 0o400,
    show: (seq, m) => pagetypeinfo_show(seq, m, PAGETYPES),
    doc: 'free blocks by order and migrate type, and how many pageblocks each type has',
  },
  {
    path: '/proc/vmstat',
    mode: 0o444,
    show: vmstat_show,
    doc: 'counters of pages by kind, and of events since boot',
  },
  {
    path: '/proc/zoneinfo',
    mode: 0o444,
    show: zoneinfo_show,
    doc: 'watermarks with their boost, counters and per-CPU lists of each zone',
  },
  {
    path: '/sys/kernel/debug/extfrag/unusable_index',
    mode: 0o444,
    show: (seq, m) => index_show(seq, m, unusable_free_index),
    when: (m) => m.shape.compaction,
    doc: 'share of free memory that a block of each order cannot use',
  },
  {
    path: '/sys/kernel/debug/extfrag/extfrag_index',
    mode: 0o444,
    show: (seq, m) => index_show(seq, m, __fragmentation_index, 2),
    when: (m) => m.shape.compaction,
    doc: 'why a block of each order fails: towards 0 too little memory, towards 1 fragmentation',
  },
];
