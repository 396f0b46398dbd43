/**
 * The state of one zone as the recordings of 6.1 write it: loading it and comparing with it.
 *
 * As replay_state.ts, whose recordings have another schema: pfns relative to the zone's start, free
 * lists by order and type in 6.1's numbering, head first; a letter for each pageblock's type and, in
 * some states, for each page. Schema: README of the debian-6.1 recordings.
 */

import { migratetype_of_nr } from '../kernels/linux-6.1/gfp.ts';
import { linux_6_1 } from '../kernels/linux-6.1/profile.ts';
import { add_to_free_list, free_list_head } from '../mm/buddy.ts';
import { assemble_machine, type ZoneLayout } from '../mm/mm_init.ts';
import type { Machine, Shape, Zone } from '../mm/mmzone.ts';
import { NR_FREE_PAGES } from '../mm/vmstat.ts';
import { diff_list, free_helper_zone, list_pfns } from './replay_state.ts';

export interface RecordedZone61 {
  node: number;
  name: string;
  start_pfn: number;
  spanned: number;
  present: number;
  managed: number;
  wm: { min: number; low: number; high: number; boost: number };
  lowmem_reserve: number[];
  nr_orders: number;
  nr_mt: number;
  pageblock_order: number;
  pcp_high: number;
  pcp_batch: number;
}

/** A state of the zone: `free[order][type]`, pageblock letters, skip bits, compaction's caches. */
export interface RecordedState61 {
  free: number[][][];
  pb: string;
  skip: string;
  nr_free: number;
  nr_free_counter: number;
  wm_boost: number;
  highatomic: number;
  cached: {
    free: number;
    mig_async: number;
    mig_sync: number;
    init_free: number;
    init_mig: number;
  };
  defer: { shift: number; considered: number; order_failed: number };
  /** A letter for each page; see the README. */
  map?: string;
}

/** x86-64 as Debian configures it. */
export const SHAPE_61: Shape = {
  machine: 'x86_64',
  page_shift: 12,
  max_order: 11,
  pageblock_order: 9,
  zone_names: ['DMA', 'DMA32', 'Normal', 'Movable', 'Device'],
  ZONE_DMA: 0,
  ZONE_DMA32: 1,
  ZONE_NORMAL: 2,
  ZONE_HIGHMEM: -1,
  ZONE_MOVABLE: 3,
  section_nr_pages: 32768,
  flatmem: false,
  sizeof_struct_page: 64,
  bytes_per_long: 8,
  nr_cpus: 1,
  numa: true,
  compaction: true,
};

/** Letters of pageblock types, in 6.1's numbering. */
const TYPE_LETTERS = 'UMRHI';

/** Our migrate type for a letter: -1 for one that is none. */
export function type_of_letter(letter: string): number {
  const nr = TYPE_LETTERS.indexOf(letter);
  return nr < 0 ? -1 : migratetype_of_nr[nr]!;
}

export function is_zone_61(zone: unknown): boolean {
  const z = zone as Partial<RecordedZone61> | null;
  return (
    typeof z === 'object' &&
    z !== null &&
    typeof z.start_pfn === 'number' &&
    typeof z.managed === 'number' &&
    typeof z.nr_orders === 'number' &&
    typeof z.wm === 'object'
  );
}

/**
 * A machine with the recorded zone, at its place, in the recorded state; node 0 has the CPU and, if
 * asked for, free pages for what the emulated kernel itself needs.
 */
export function load_zone_61(
  z: RecordedZone61,
  s: RecordedState61,
  sysctl: Record<string, number>,
  helper_pages = 0,
): { m: Machine; zone: Zone } {
  const top = 2 ** (z.nr_orders - 1);
  const helper: ZoneLayout[] = [];
  if (helper_pages > 0) {
    const below = z.start_pfn >= helper_pages + top;
    helper.push({
      nid: z.node === 0 ? 1 : 0,
      zone_idx: SHAPE_61.ZONE_NORMAL,
      start_pfn: below ? top : Math.ceil((z.start_pfn + z.spanned) / top) * top,
      spanned_pages: helper_pages,
      present_pages: helper_pages,
    });
  }
  const m = assemble_machine({
    shape: { ...SHAPE_61, max_order: z.nr_orders, pageblock_order: z.pageblock_order },
    kernel: linux_6_1,
    zones: [
      {
        nid: z.node,
        zone_idx: SHAPE_61.zone_names.indexOf(z.name),
        start_pfn: z.start_pfn,
        spanned_pages: z.spanned,
        present_pages: z.managed,
      },
      ...helper,
    ],
  });
  Object.assign(m.sysctl, sysctl);
  const zone = m.populated_zones.find((candidate) => candidate.zone_start_pfn === z.start_pfn)!;
  for (const other of m.populated_zones) {
    if (other !== zone) free_helper_zone(m, other);
  }
  zone.watermark.set([z.wm.min, z.wm.low, z.wm.high]);
  zone.lowmem_reserve.set(z.lowmem_reserve);
  for (const pcp of zone.pageset) {
    pcp.high = z.pcp_high;
    pcp.batch = z.pcp_batch;
  }
  load_state_61(m, zone, s);
  return { m, zone };
}

function load_state_61(m: Machine, zone: Zone, s: RecordedState61): void {
  const p = m.memmap;
  const start = zone.zone_start_pfn;
  p._count.fill(1, start, start + zone.spanned_pages);
  for (let i = 0; i < s.pb.length; i++) {
    zone.pageblock_flags[i] = Math.max(0, type_of_letter(s.pb[i]!));
    zone.pageblock_skip[i] = Number(s.skip[i]);
  }
  for (let order = 0; order < s.free.length; order++) {
    for (let nr = 0; nr < s.free[order]!.length; nr++) {
      for (const rel of s.free[order]![nr]!) {
        const pfn = start + rel;
        add_to_free_list(m, zone, pfn, order, migratetype_of_nr[nr]!, true);
        p._count.fill(0, pfn, pfn + 2 ** order);
      }
    }
  }
  zone.vm_stat[NR_FREE_PAGES] = s.nr_free_counter;
  zone.watermark_boost = s.wm_boost;
  zone.nr_reserved_highatomic = s.highatomic;
  zone.compact_cached_free_pfn = start + s.cached.free;
  zone.compact_cached_migrate_pfn[0] = start + s.cached.mig_async;
  zone.compact_cached_migrate_pfn[1] = start + s.cached.mig_sync;
  zone.compact_init_free_pfn = start + s.cached.init_free;
  zone.compact_init_migrate_pfn = start + s.cached.init_mig;
  zone.compact_defer_shift = s.defer.shift;
  zone.compact_considered = s.defer.considered;
  zone.compact_order_failed = s.defer.order_failed;
}

/** The first difference in free lists, their order, counters, pageblock types, boost, reserve. */
export function diff_state_61(m: Machine, zone: Zone, s: RecordedState61): string | null {
  for (let order = 0; order < s.free.length; order++) {
    for (let nr = 0; nr < s.free[order]!.length; nr++) {
      const type = migratetype_of_nr[nr]!;
      const ours = list_pfns(m, zone, free_list_head(zone, order, type));
      const what = `free list of order ${order}, type ${TYPE_LETTERS[nr]}`;
      const diff = diff_list(what, s.free[order]![nr]!, ours);
      if (diff !== null) return diff;
    }
  }
  const types = [...s.pb].map(type_of_letter);
  const numbers = [s.nr_free_counter, s.wm_boost, s.highatomic];
  const ours = [zone.vm_stat[NR_FREE_PAGES]!, zone.watermark_boost, zone.nr_reserved_highatomic];
  return (
    diff_list('pageblock type', types, [...zone.pageblock_flags.subarray(0, types.length)]) ??
    diff_list('free pages, watermark boost, highatomic pages', numbers, ours)
  );
}

/** The first difference in what compaction remembers: skip bits, cached positions, deferral. */
export function diff_hints_61(_m: Machine, zone: Zone, s: RecordedState61): string | null {
  const start = zone.zone_start_pfn;
  const { cached, defer } = s;
  const [mig_async, mig_sync] = zone.compact_cached_migrate_pfn;
  return (
    diff_list(
      'cached position (free, async, sync; initial free, migrate)',
      [cached.free, cached.mig_async, cached.mig_sync, cached.init_free, cached.init_mig],
      [
        zone.compact_cached_free_pfn - start,
        mig_async! - start,
        mig_sync! - start,
        zone.compact_init_free_pfn - start,
        zone.compact_init_migrate_pfn - start,
      ],
    ) ??
    diff_list(
      'deferral (shift, considered, order failed)',
      [defer.shift, defer.considered, defer.order_failed],
      [zone.compact_defer_shift, zone.compact_considered, zone.compact_order_failed],
    ) ??
    diff_list('skip bit', [...s.skip].map(Number), [
      ...zone.pageblock_skip.subarray(0, s.skip.length),
    ])
  );
}
