/**
 * /proc/buddyinfo, pagetypeinfo, zoneinfo and vmstat, and the fragmentation indexes of debugfs, as
 * 2.6.35 prints them, byte for byte.
 *
 * Linux: mm/vmstat.c (v2.6.35). Differs: printed counters are exact; only tests of watermarks see
 * the number of free pages as far as CPUs have told it. A counter is never seen negative.
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
import {
  MIGRATE_ISOLATE,
  MIGRATE_MOVABLE,
  MIGRATE_RECLAIMABLE,
  MIGRATE_RESERVE,
  MIGRATE_UNMOVABLE,
} from '../../mm/gfp.ts';
import { type Machine, WMARK_HIGH, WMARK_LOW, WMARK_MIN } from '../../mm/mmzone.ts';
import {
  __fragmentation_index,
  ALLOCSTALL,
  COMPACTBLOCKS,
  COMPACTFAIL,
  COMPACTPAGEFAILED,
  COMPACTPAGES,
  COMPACTSTALL,
  COMPACTSUCCESS,
  calculate_threshold,
  global_page_state,
  HTLB_BUDDY_PGALLOC,
  HTLB_BUDDY_PGALLOC_FAIL,
  KSWAPD_HIGH_WMARK_HIT_QUICKLY,
  KSWAPD_INODESTEAL,
  KSWAPD_LOW_WMARK_HIT_QUICKLY,
  KSWAPD_SKIP_CONGESTION_WAIT,
  KSWAPD_STEAL,
  NR_FREE_PAGES,
  NUMA_HIT,
  PAGEOUTRUN,
  PGACTIVATE,
  PGALLOC,
  PGDEACTIVATE,
  PGFAULT,
  PGFREE,
  PGINODESTEAL,
  PGMAJFAULT,
  PGPGIN,
  PGPGOUT,
  PGREFILL,
  PGROTATED,
  PGSCAN_DIRECT,
  PGSCAN_KSWAPD,
  PGSCAN_ZONE_RECLAIM_FAILED,
  PGSTEAL,
  PSWPIN,
  PSWPOUT,
  SLABS_SCANNED,
  UNEVICTABLE_MLOCKFREED,
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

const PAGETYPES: PagetypeFormat = {
  names: ['Unmovable', 'Reclaimable', 'Movable', 'Reserve', 'Isolate'],
  types: [
    MIGRATE_UNMOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_MOVABLE,
    MIGRATE_RESERVE,
    MIGRATE_ISOLATE,
  ],
  max_counted: Number.POSITIVE_INFINITY,
};

/** Names of the zone counters by index (enum zone_stat_item); the last six are NUMA's. */
export const ZONE_STAT_NAMES = [
  'nr_free_pages',
  'nr_inactive_anon',
  'nr_active_anon',
  'nr_inactive_file',
  'nr_active_file',
  'nr_unevictable',
  'nr_mlock',
  'nr_anon_pages',
  'nr_mapped',
  'nr_file_pages',
  'nr_dirty',
  'nr_writeback',
  'nr_slab_reclaimable',
  'nr_slab_unreclaimable',
  'nr_page_table_pages',
  'nr_kernel_stack',
  'nr_unstable',
  'nr_bounce',
  'nr_vmscan_write',
  'nr_writeback_temp',
  'nr_isolated_anon',
  'nr_isolated_file',
  'nr_shmem',
  'numa_hit',
  'numa_miss',
  'numa_foreign',
  'numa_interleave',
  'numa_local',
  'numa_other',
];

interface EventName {
  name: string;
  event: number;
  /** One counter a zone type: the zone's name is appended. */
  per_zone?: true;
  only?: 'numa' | 'compaction';
}

/** The event counters in the order of /proc/vmstat. */
const EVENTS: readonly EventName[] = [
  { name: 'pgpgin', event: PGPGIN },
  { name: 'pgpgout', event: PGPGOUT },
  { name: 'pswpin', event: PSWPIN },
  { name: 'pswpout', event: PSWPOUT },
  { name: 'pgalloc', event: PGALLOC, per_zone: true },
  { name: 'pgfree', event: PGFREE },
  { name: 'pgactivate', event: PGACTIVATE },
  { name: 'pgdeactivate', event: PGDEACTIVATE },
  { name: 'pgfault', event: PGFAULT },
  { name: 'pgmajfault', event: PGMAJFAULT },
  { name: 'pgrefill', event: PGREFILL, per_zone: true },
  { name: 'pgsteal', event: PGSTEAL, per_zone: true },
  { name: 'pgscan_kswapd', event: PGSCAN_KSWAPD, per_zone: true },
  { name: 'pgscan_direct', event: PGSCAN_DIRECT, per_zone: true },
  { name: 'zone_reclaim_failed', event: PGSCAN_ZONE_RECLAIM_FAILED, only: 'numa' },
  { name: 'pginodesteal', event: PGINODESTEAL },
  { name: 'slabs_scanned', event: SLABS_SCANNED },
  { name: 'kswapd_steal', event: KSWAPD_STEAL },
  { name: 'kswapd_inodesteal', event: KSWAPD_INODESTEAL },
  { name: 'kswapd_low_wmark_hit_quickly', event: KSWAPD_LOW_WMARK_HIT_QUICKLY },
  { name: 'kswapd_high_wmark_hit_quickly', event: KSWAPD_HIGH_WMARK_HIT_QUICKLY },
  { name: 'kswapd_skip_congestion_wait', event: KSWAPD_SKIP_CONGESTION_WAIT },
  { name: 'pageoutrun', event: PAGEOUTRUN },
  { name: 'allocstall', event: ALLOCSTALL },
  { name: 'pgrotated', event: PGROTATED },
  { name: 'compact_blocks_moved', event: COMPACTBLOCKS, only: 'compaction' },
  { name: 'compact_pages_moved', event: COMPACTPAGES, only: 'compaction' },
  { name: 'compact_pagemigrate_failed', event: COMPACTPAGEFAILED, only: 'compaction' },
  { name: 'compact_stall', event: COMPACTSTALL, only: 'compaction' },
  { name: 'compact_fail', event: COMPACTFAIL, only: 'compaction' },
  { name: 'compact_success', event: COMPACTSUCCESS, only: 'compaction' },
  { name: 'htlb_buddy_alloc_success', event: HTLB_BUDDY_PGALLOC },
  { name: 'htlb_buddy_alloc_fail', event: HTLB_BUDDY_PGALLOC_FAIL },
  { name: 'unevictable_pgs_culled', event: UNEVICTABLE_PGCULLED },
  { name: 'unevictable_pgs_scanned', event: UNEVICTABLE_PGSCANNED },
  { name: 'unevictable_pgs_rescued', event: UNEVICTABLE_PGRESCUED },
  { name: 'unevictable_pgs_mlocked', event: UNEVICTABLE_PGMLOCKED },
  { name: 'unevictable_pgs_munlocked', event: UNEVICTABLE_PGMUNLOCKED },
  { name: 'unevictable_pgs_cleared', event: UNEVICTABLE_PGCLEARED },
  { name: 'unevictable_pgs_stranded', event: UNEVICTABLE_PGSTRANDED },
  { name: 'unevictable_pgs_mlockfreed', event: UNEVICTABLE_MLOCKFREED },
];

/** How many zone counters this machine has: the NUMA ones end the list. */
function nr_zone_stats(m: Machine): number {
  return m.shape.numa ? ZONE_STAT_NAMES.length : NUMA_HIT;
}

/** vmstat.c: zoneinfo_show_print. */
export function zoneinfo_show(seq: SeqFile, m: Machine): void {
  for (const zone of m.populated_zones) {
    zone_head(seq, zone.nid, zone.name);
    seq.puts('\n  pages free     ').put_dec(zone_page_state(zone, NR_FREE_PAGES));
    seq.puts('\n        min      ').put_dec(zone.watermark[WMARK_MIN]!);
    seq.puts('\n        low      ').put_dec(zone.watermark[WMARK_LOW]!);
    seq.puts('\n        high     ').put_dec(zone.watermark[WMARK_HIGH]!);
    seq.puts('\n        scanned  ').put_dec(zone.pages_scanned);
    seq.puts('\n        spanned  ').put_dec(zone.spanned_pages);
    seq.puts('\n        present  ').put_dec(zone.present_pages);
    for (let i = 0; i < nr_zone_stats(m); i++) {
      seq.puts('\n    ').put_left(ZONE_STAT_NAMES[i]!, 12).puts(' ');
      seq.put_dec(zone_page_state(zone, i));
    }
    seq.puts('\n        protection: (').put_dec(zone.lowmem_reserve[0]!);
    for (let i = 1; i < zone.lowmem_reserve.length; i++) {
      seq.puts(', ').put_dec(zone.lowmem_reserve[i]!);
    }
    seq.puts(')');
    pageset_lines(seq, zone, calculate_threshold(m, zone));
    seq.puts('\n  all_unreclaimable: ').put_dec(zone.all_unreclaimable);
    seq.puts('\n  prev_priority:     ').put_dec(zone.prev_priority);
    seq.puts('\n  start_pfn:         ').put_dec(zone.zone_start_pfn);
    seq.puts('\n  inactive_ratio:    ').put_dec(zone.inactive_ratio).puts('\n');
  }
}

/** How vmstat calls a zone type: `_dma`, `_high` (vmstat.c: TEXTS_FOR_ZONES). */
function zone_suffix(name: string): string {
  return name === 'HighMem' ? '_high' : '_' + name.toLowerCase();
}

/** vmstat.c: vmstat_show. */
export function vmstat_show(seq: SeqFile, m: Machine): void {
  for (let i = 0; i < nr_zone_stats(m); i++) {
    seq.puts(ZONE_STAT_NAMES[i]!).puts(' ').put_dec(global_page_state(m, i)).puts('\n');
  }
  for (const { name, event, per_zone, only } of EVENTS) {
    if (only !== undefined && !m.shape[only]) continue;
    if (per_zone) {
      for (let zone = 0; zone < m.shape.zone_names.length; zone++) {
        seq.puts(name).puts(zone_suffix(m.shape.zone_names[zone]!)).puts(' ');
        seq.put_dec(m.vm_events[event + zone]!).puts('\n');
      }
    } else {
      let value = m.vm_events[event]!;
      // Counted in sectors, shown in KiB.
      if (event === PGPGIN || event === PGPGOUT) value = Math.floor(value / 2);
      seq.puts(name).puts(' ').put_dec(value).puts('\n');
    }
  }
}

export const vmstat_files: readonly FileRow<Machine>[] = [
  {
    path: '/proc/buddyinfo',
    mode: 0o444,
    show: buddyinfo_show,
    doc: 'free blocks of each order, a line a zone',
  },
  {
    path: '/proc/pagetypeinfo',
    mode: 0o444,
    show: (seq, m) => pagetypeinfo_show(seq, m, PAGETYPES),
    doc: 'free blocks of each order and mobility type; page blocks of each type',
  },
  {
    path: '/proc/vmstat',
    mode: 0o444,
    show: vmstat_show,
    doc: 'all zone counters, summed, and all event counters',
  },
  {
    path: '/proc/zoneinfo',
    mode: 0o444,
    show: zoneinfo_show,
    doc: 'each zone: watermarks, counters, reserves, per-CPU lists',
  },
  {
    path: '/sys/kernel/debug/extfrag/unusable_index',
    mode: 0o444,
    show: (seq, m) => index_show(seq, m, unusable_free_index),
    when: (m) => m.shape.compaction,
    doc: 'share of free memory that a request of each order cannot use',
  },
  {
    path: '/sys/kernel/debug/extfrag/extfrag_index',
    mode: 0o444,
    show: (seq, m) => index_show(seq, m, __fragmentation_index),
    when: (m) => m.shape.compaction,
    doc: 'why a request of each order would fail: 0 lack of memory, 1 fragmentation, -1 it would not',
  },
];
