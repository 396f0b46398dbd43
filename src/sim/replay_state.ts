/**
 * The state of one zone as the recordings write it: loading it into a machine and comparing with it.
 *
 * A recorded state has pfns relative to the zone's start; the machine is assembled with the zone at
 * its real place, because buddies and pageblocks are found by absolute pfn. Free lists and per-CPU
 * lists are loaded in recorded order. Pages that are neither free nor described otherwise belong to
 * somebody unknown: one reference, no flags. Schema: README of the linux-2.6.35 recordings.
 */
import { list_add_tail, list_entries } from '../lib/list.ts';
import { add_to_free_list, free_list_head } from '../mm/buddy.ts';
import { MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MIGRATE_TYPES } from '../mm/gfp.ts';
import { assemble_machine, type ZoneLayout } from '../mm/mm_init.ts';
import type { KernelProfile, Machine, Shape, Zone } from '../mm/mmzone.ts';
import type { pfn_t } from '../mm/page.ts';
import { NR_FREE_PAGES } from '../mm/vmstat.ts';

export interface RecordedPcp {
  count: number;
  high: number;
  batch: number;
  /** Per type, head first: [pfn, stored type]. */
  lists: [number, number][][];
}

/** Free lists, per-CPU lists and pageblock types: what every dump has. */
export interface RecordedLists {
  nr_free: number[];
  /** "order/type" to pfns, head first; missing: empty. */
  free: Record<string, number[]>;
  /** A digit per pageblock from the one that holds the zone's start; x: no memmap. */
  pbtypes: string;
  pcp: RecordedPcp[];
}

export interface RecordedZone extends RecordedLists {
  nid?: number;
  zid?: number;
  zone_start: number;
  spanned: number;
  present: number;
  wmark: number[];
  pageblock_nr: number;
  compact_considered: number;
  compact_defer_shift: number;
  vm_stat: number[];
}

/** True when the record has a whole zone in it. */
export function is_zone_record(r: Record<string, unknown>): boolean {
  return (
    typeof r['zone_start'] === 'number' &&
    Number.isInteger(r['spanned']) &&
    (r['spanned'] as number) > 0 &&
    Array.isArray(r['wmark']) &&
    Array.isArray(r['nr_free']) &&
    typeof r['free'] === 'object' &&
    r['free'] !== null &&
    typeof r['pbtypes'] === 'string' &&
    Array.isArray(r['pcp'])
  );
}

/**
 * A machine with the recorded zone, at its place, in the recorded state. With `helper_pages`, a
 * second node behind it has that much free memory and the CPUs: what the emulated kernel needs for
 * itself comes from there, and the recorded zone is touched by nothing but the replay.
 */
export function load_zone(
  r: RecordedZone,
  kernel: KernelProfile,
  base: Shape,
  helper_pages = 0,
): { m: Machine; zone: Zone } {
  const nid = r.nid ?? 0;
  const zone_idx = r.zid ?? base.ZONE_DMA32;
  const shape: Shape = {
    ...base,
    max_order: r.nr_free.length,
    pageblock_order: Math.log2(r.pageblock_nr),
    nr_cpus: r.pcp.length,
  };
  const zones: ZoneLayout[] = [
    {
      nid,
      zone_idx,
      start_pfn: r.zone_start,
      spanned_pages: r.spanned,
      present_pages: r.present,
    },
  ];
  if (helper_pages > 0) {
    // Right behind, as another node was there too: the free scanner looks at the frame at the end.
    const align = 2 ** (shape.max_order - 1);
    zones.push({
      nid: nid + 1,
      zone_idx: base.ZONE_NORMAL,
      start_pfn: Math.ceil((r.zone_start + r.spanned) / align) * align,
      spanned_pages: helper_pages,
      present_pages: helper_pages,
    });
  }
  const m = assemble_machine({ shape, kernel, zones });
  const zone = m.populated_zones[0]!;
  if (helper_pages > 0) free_helper_zone(m, m.populated_zones[1]!);
  for (let i = 0; i < 3; i++) zone.watermark[i] = r.wmark[i]!;
  for (let i = 0; i < r.vm_stat.length; i++) zone.vm_stat[i] = r.vm_stat[i]!;
  zone.compact_considered = r.compact_considered;
  zone.compact_defer_shift = r.compact_defer_shift;
  load_lists(m, zone, r);
  return { m, zone };
}

/** Makes a whole zone free blocks of the highest order, and its node the CPUs' own. */
export function free_helper_zone(m: Machine, zone: Zone): void {
  const order = m.shape.max_order - 1;
  const end = zone.zone_start_pfn + zone.spanned_pages;
  for (let pfn = zone.zone_start_pfn; pfn < end; pfn += 2 ** order) {
    add_to_free_list(m, zone, pfn, order, MIGRATE_MOVABLE, true);
  }
  zone.vm_stat[NR_FREE_PAGES] = zone.spanned_pages;
  m.cpu_to_node.fill(zone.nid);
}

function load_lists(m: Machine, zone: Zone, r: RecordedLists): void {
  const p = m.memmap;
  const start = zone.zone_start_pfn;
  p._count.fill(1, start, start + zone.spanned_pages);
  for (let i = 0; i < r.pbtypes.length; i++) {
    const type = r.pbtypes[i]!;
    zone.pageblock_flags[i] = type === 'x' ? 0 : Number(type);
  }
  for (const key of Object.keys(r.free)) {
    const [order, type] = key.split('/').map(Number) as [number, number];
    for (const rel of r.free[key]!) {
      const pfn = start + rel;
      add_to_free_list(m, zone, pfn, order, type, true);
      p._count.fill(0, pfn, pfn + 2 ** order);
    }
  }
  for (let cpu = 0; cpu < r.pcp.length; cpu++) {
    const from = r.pcp[cpu]!;
    const pcp = zone.pageset[cpu]!;
    pcp.high = from.high;
    pcp.batch = from.batch;
    pcp.count = from.count;
    for (let type = 0; type < from.lists.length; type++) {
      for (const [rel, stored] of from.lists[type]!) {
        const pfn = start + rel;
        p._count[pfn] = 0;
        p.private_[pfn] = stored;
        list_add_tail(p, pfn, pcp.lists + type);
      }
    }
  }
}

/** The first difference between two lists, or null. */
export function diff_list(
  what: string,
  recorded: readonly number[],
  ours: readonly number[],
): string | null {
  const n = Math.max(recorded.length, ours.length);
  for (let i = 0; i < n; i++) {
    if (recorded[i] !== ours[i]) {
      const at = n === 1 ? '' : ` entry ${i} (of ${recorded.length}, ours has ${ours.length})`;
      return `${what}${at}: recorded ${recorded[i] ?? 'nothing'}, ours ${ours[i] ?? 'nothing'}`;
    }
  }
  return null;
}

/** pfns relative to the zone of the list with this head row, head first. */
export function list_pfns(m: Machine, zone: Zone, head: number): pfn_t[] {
  return list_entries(m.memmap, head).map((pfn) => pfn - zone.zone_start_pfn);
}

/**
 * The first difference in free lists, counters, pageblock types and, with `in_order`, in the order of
 * lists and in per-CPU lists.
 */
export function diff_lists(
  m: Machine,
  zone: Zone,
  r: RecordedLists,
  in_order = true,
): string | null {
  const types = [...r.pbtypes].map((t, i) => (t === 'x' ? zone.pageblock_flags[i]! : Number(t)));
  return (
    diff_list('nr_free', r.nr_free, [...zone.nr_free]) ??
    diff_free_lists(m, zone, r.free, in_order) ??
    diff_list('pageblock type', types, [...zone.pageblock_flags.subarray(0, types.length)]) ??
    (in_order ? diff_pcp(m, zone, r.pcp) : null)
  );
}

function diff_free_lists(
  m: Machine,
  zone: Zone,
  free: Record<string, number[]>,
  in_order: boolean,
): string | null {
  const arrange = (pfns: readonly number[]): readonly number[] =>
    in_order ? pfns : [...pfns].sort((a, b) => a - b);
  for (let order = 0; order < zone.nr_free.length; order++) {
    for (let type = 0; type < MIGRATE_TYPES; type++) {
      const key = `${order}/${type}`;
      const ours = list_pfns(m, zone, free_list_head(zone, order, type));
      const diff = diff_list(`free list ${key}`, arrange(free[key] ?? []), arrange(ours));
      if (diff !== null) return diff;
    }
  }
  return null;
}

function diff_pcp(m: Machine, zone: Zone, pcps: readonly RecordedPcp[]): string | null {
  for (let cpu = 0; cpu < pcps.length; cpu++) {
    const ours = zone.pageset[cpu]!;
    const what = 'per-CPU list of CPU ' + cpu;
    for (let type = 0; type < MIGRATE_PCPTYPES; type++) {
      const recorded = pcps[cpu]!.lists[type] ?? [];
      const pfns = list_pfns(m, zone, ours.lists + type);
      const stored = pfns.map((rel) => m.memmap.private_[zone.zone_start_pfn + rel]!);
      const diff =
        diff_list(
          `${what}, type ${type}`,
          recorded.map((e) => e[0]),
          pfns,
        ) ??
        diff_list(
          `${what}, type ${type}, stored type`,
          recorded.map((e) => e[1]),
          stored,
        );
      if (diff !== null) return diff;
    }
    const { count, high, batch } = pcps[cpu]!;
    const diff = diff_list(
      what + ', count, high, batch',
      [count, high, batch],
      [ours.count, ours.high, ours.batch],
    );
    if (diff !== null) return diff;
  }
  return null;
}
