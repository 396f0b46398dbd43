/**
 * /proc/buddyinfo, pagetypeinfo, zoneinfo and vmstat, and the fragmentation indexes of debugfs, as
 * 2.6.35 prints them, byte for byte.
 *
 * Linux: mm/vmstat.c (v2.6.35). Differs: printed counters are exact; only tests of watermarks see
 * the number of free pages as far as CPUs have told it. A counter is never seen negative.
 */
import type { FileRow } from '../../lib/file_row.ts';
import { list_empty } from '../../lib/list.ts';
import { type SeqFile, thousandths } from '../../lib/seq_file.ts';
import { free_list_head } from '../../mm/buddy.ts';
import { MIGRATE_TYPES } from '../../mm/gfp.ts';
import {
  type Machine,
  pfn_valid,
  WMARK_HIGH,
  WMARK_LOW,
  WMARK_MIN,
  type Zone,
  zone_end_pfn,
} from '../../mm/mmzone.ts';
import { get_pageblock_migratetype } from '../../mm/pageblock.ts';
import {
  __fragmentation_index,
  ALLOCSTALL,
  COMPACTBLOCKS,
  COMPACTFAIL,
  COMPACTPAGEFAILED,
  COMPACTPAGES,
  COMPACTSTALL,
  COMPACTSUCCESS,
  type ContigPageInfo,
  fill_contig_page_info,
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
import { calculate_threshold } from './watermark.ts';

const MIGRATETYPE_NAMES = ['Unmovable', 'Reclaimable', 'Movable', 'Reserve', 'Isolate'];

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

function zone_head(seq: SeqFile, zone: Zone): SeqFile {
  return seq.puts('Node ').put_dec(zone.nid).puts(', zone ').put_str(zone.name, 8);
}

/** vmstat.c: frag_show_print. */
export function buddyinfo_show(seq: SeqFile, m: Machine): void {
  for (const zone of m.populated_zones) {
    zone_head(seq, zone).puts(' ');
    for (let order = 0; order < zone.nr_free.length; order++) {
      seq.put_dec(zone.nr_free[order]!, 6).puts(' ');
    }
    seq.puts('\n');
  }
}

function list_length(m: Machine, head: number): number {
  const { next } = m.memmap;
  if (list_empty(m.memmap, head)) return 0;
  let n = 0;
  for (let x = next[head]!; x !== head; x = next[x]!) n++;
  return n;
}

/** vmstat.c: pagetypeinfo_show. Walks every free list: what it prints are the lists themselves. */
export function pagetypeinfo_show(seq: SeqFile, m: Machine): void {
  const { max_order, pageblock_order } = m.shape;
  for (const node of m.nodes) {
    if (node.zones.length === 0) continue;
    seq.puts('Page block order: ').put_dec(pageblock_order).puts('\n');
    seq
      .puts('Pages per block:  ')
      .put_dec(2 ** pageblock_order)
      .puts('\n\n');
    seq.put_left('Free pages count per migrate type at order', 43).puts(' ');
    for (let order = 0; order < max_order; order++) seq.put_dec(order, 6).puts(' ');
    seq.puts('\n');
    for (const zone of node.zones) {
      for (let type = 0; type < MIGRATE_TYPES; type++) {
        seq.puts('Node ').put_dec(zone.nid, 4).puts(', zone ').put_str(zone.name, 8);
        seq.puts(', type ').put_str(MIGRATETYPE_NAMES[type]!, 12).puts(' ');
        for (let order = 0; order < max_order; order++) {
          seq.put_dec(list_length(m, free_list_head(zone, order, type)), 6).puts(' ');
        }
        seq.puts('\n');
      }
    }
    seq.puts('\n').put_left('Number of blocks type ', 23);
    for (const name of MIGRATETYPE_NAMES) seq.put_str(name, 12).puts(' ');
    seq.puts('\n');
    for (const zone of node.zones) pageblock_counts(seq, m, zone);
  }
}

/** vmstat.c: pagetypeinfo_showblockcount_print. Blocks are counted by steps from the zone's start. */
function pageblock_counts(seq: SeqFile, m: Machine, zone: Zone): void {
  const counts = new Int32Array(MIGRATE_TYPES);
  const end = zone_end_pfn(zone);
  for (let pfn = zone.zone_start_pfn; pfn < end; pfn += 2 ** m.shape.pageblock_order) {
    if (pfn_valid(m, pfn)) counts[get_pageblock_migratetype(m, zone, pfn)]!++;
  }
  zone_head(seq, zone).puts(' ');
  for (let type = 0; type < MIGRATE_TYPES; type++) seq.put_dec(counts[type]!, 12).puts(' ');
  seq.puts('\n');
}

/** vmstat.c: zoneinfo_show_print. */
export function zoneinfo_show(seq: SeqFile, m: Machine): void {
  for (const zone of m.populated_zones) {
    zone_head(seq, zone);
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
    seq.puts(')\n  pagesets');
    for (let cpu = 0; cpu < zone.pageset.length; cpu++) {
      const pcp = zone.pageset[cpu]!;
      seq.puts('\n    cpu: ').put_dec(cpu);
      seq.puts('\n              count: ').put_dec(pcp.count);
      seq.puts('\n              high:  ').put_dec(pcp.high);
      seq.puts('\n              batch: ').put_dec(pcp.batch);
      seq.puts('\n  vm stats threshold: ').put_dec(calculate_threshold(m, zone));
    }
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

function index_show(
  seq: SeqFile,
  m: Machine,
  index: (order: number, info: ContigPageInfo) => number,
): void {
  for (const zone of m.populated_zones) {
    zone_head(seq, zone).puts(' ');
    for (let order = 0; order < m.shape.max_order; order++) {
      const info = fill_contig_page_info(zone.nr_free, order);
      seq.puts(thousandths(index(order, info))).puts(' ');
    }
    seq.puts('\n');
  }
}

/** vmstat.c: unusable_show_print. */
export function unusable_show(seq: SeqFile, m: Machine): void {
  index_show(seq, m, unusable_free_index);
}

/** vmstat.c: extfrag_show_print. */
export function extfrag_show(seq: SeqFile, m: Machine): void {
  index_show(seq, m, __fragmentation_index);
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
    show: pagetypeinfo_show,
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
    show: unusable_show,
    when: (m) => m.shape.compaction,
    doc: 'share of free memory that a request of each order cannot use',
  },
  {
    path: '/sys/kernel/debug/extfrag/extfrag_index',
    mode: 0o444,
    show: extfrag_show,
    when: (m) => m.shape.compaction,
    doc: 'why a request of each order would fail: 0 lack of memory, 1 fragmentation, -1 it would not',
  },
];
