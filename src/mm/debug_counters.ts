/**
 * Checks of what is counted: slab pages and objects, counters of zones, watermarks, pageblocks.
 *
 * Objects and partial lists of every cache; each zone counter that follows from the memmap, from page
 * tables or from mappings; the order of watermarks; pageblocks have one of the types that there are.
 */
import { pages_of } from './debug_lists.ts';
import { all_mms } from './debug_rmap.ts';
import { bad, same } from './debug_state.ts';
import { MIGRATE_TYPES } from './gfp.ts';
import type { MmStruct } from './mm_types.ts';
import { type Machine, page_zone, zone_end_pfn } from './mmzone.ts';
import { PAGE_MAPPING_ANON, PAGE_MAPPING_FLAGS, type pfn_t } from './page.ts';
import {
  PG_dirty,
  PG_head,
  PG_mlocked,
  PG_slab,
  PG_swapcache,
  PG_tail,
  PG_writeback,
} from './page_flags.ts';
import type { PageTable } from './page_table.ts';
import {
  NR_ANON_PAGES,
  NR_ANON_THPS,
  NR_FILE_DIRTY,
  NR_FILE_MAPPED,
  NR_FILE_PAGES,
  NR_MLOCK,
  NR_PAGETABLE,
  NR_SLAB_RECLAIMABLE,
  NR_SLAB_UNRECLAIMABLE,
  NR_WRITEBACK,
} from './vmstat.ts';

// ---- slab and counters

export function check_slabs(m: Machine): void {
  const p = m.memmap;
  const slab_pages: Map<pfn_t, string> = new Map();
  for (const s of m.slab.caches) {
    for (let row = 0; row < s.nr_rows; row++) {
      const pfn = s.slab_pfn[row]!;
      if (pfn < 0) continue;
      if ((p.flags[pfn]! & PG_slab) === 0 || p._count[pfn]! <= 0)
        bad(m, `a slab of ${s.name}`, pfn);
      if (slab_pages.has(pfn)) bad(m, `a slab of ${s.name} and ${slab_pages.get(pfn)}`, pfn);
      slab_pages.set(pfn, s.name);
      if (s.slab_inuse[row]! < 0 || s.slab_inuse[row]! > s.slab_objects[row]!) {
        bad(m, `a slab of ${s.name} with ${s.slab_inuse[row]} objects in use`, pfn);
      }
    }
  }
  for (const zone of m.populated_zones) {
    const end = zone_end_pfn(zone);
    for (let pfn = zone.zone_start_pfn; pfn < end; pfn++) {
      const flags = p.flags[pfn]!;
      if ((flags & PG_slab) !== 0 && (flags & PG_tail) === 0 && !slab_pages.has(pfn)) {
        bad(m, 'PG_slab and in no cache', pfn);
      }
    }
  }
}

export function check_counters(m: Machine): void {
  const p = m.memmap;
  const slab: Map<number, number> = new Map();
  for (const s of m.slab.caches) {
    const item = s.reclaimable() ? NR_SLAB_RECLAIMABLE : NR_SLAB_UNRECLAIMABLE;
    for (let row = 0; row < s.nr_rows; row++) {
      if (s.slab_pfn[row]! < 0) continue;
      const key = page_zone(m, s.slab_pfn[row]!).id * 64 + item;
      slab.set(key, (slab.get(key) ?? 0) + 2 ** s.slab_order[row]!);
    }
  }
  const tables: Map<number, number> = new Map();
  for (const mm of all_mms(m)) count_tables(m, mm, tables);
  for (const zone of m.populated_zones) {
    const counted = new Map<number, number>([
      [NR_ANON_PAGES, 0],
      [NR_ANON_THPS, 0],
      [NR_FILE_MAPPED, 0],
      [NR_FILE_PAGES, 0],
      [NR_FILE_DIRTY, 0],
      [NR_WRITEBACK, 0],
      [NR_MLOCK, 0],
      [NR_SLAB_RECLAIMABLE, slab.get(zone.id * 64 + NR_SLAB_RECLAIMABLE) ?? 0],
      [NR_SLAB_UNRECLAIMABLE, slab.get(zone.id * 64 + NR_SLAB_UNRECLAIMABLE) ?? 0],
      [NR_PAGETABLE, tables.get(zone.id) ?? 0],
    ]);
    const add = (item: number, nr = 1): void => {
      counted.set(item, counted.get(item)! + nr);
    };
    const end = zone_end_pfn(zone);
    for (let pfn = zone.zone_start_pfn; pfn < end; pfn++) {
      const flags = p.flags[pfn]!;
      const head = (flags & PG_tail) !== 0 ? p.index[pfn]! : pfn;
      const mapping = p.mapping[head]!;
      const anon = (mapping & PAGE_MAPPING_ANON) !== 0;
      const huge = (p.flags[head]! & PG_head) !== 0 && p.private_[head + 1]! > 1;
      const whole = huge && p.private_[head + 2]! > 0;
      if (whole) add(NR_ANON_THPS);
      const file = mapping !== 0 && (mapping & PAGE_MAPPING_FLAGS) === 0;
      if (p._mapcount[pfn]! > 0 || whole) {
        if (anon) add(NR_ANON_PAGES);
        else if (file) add(NR_FILE_MAPPED);
      }
      if (file || (flags & PG_swapcache) !== 0) add(NR_FILE_PAGES);
      if (file && (flags & PG_dirty) !== 0 && m.mappings.get(mapping >>> 2).a_ops.account_dirty) {
        add(NR_FILE_DIRTY);
      }
      if ((flags & PG_writeback) !== 0) add(NR_WRITEBACK);
      if ((flags & PG_mlocked) !== 0) add(NR_MLOCK, pages_of(m, pfn));
    }
    for (const [item, n] of counted) {
      same(m, `zone ${zone.id}: counter ${item}`, zone.vm_stat[item]!, n);
    }
  }
}

function count_tables(m: Machine, mm: MmStruct, by_zone: Map<number, number>): void {
  const visit = (table: PageTable | null): void => {
    if (table === null) return;
    if (table.ptes !== null) {
      const id = page_zone(m, table.pfn).id;
      by_zone.set(id, (by_zone.get(id) ?? 0) + 1);
    } else {
      for (const below of table.tables!) visit(below);
      for (const below of table.deposits ?? []) visit(below);
    }
  };
  visit(mm.pgd);
}

export function check_zones(m: Machine): void {
  for (const zone of m.populated_zones) {
    const [min, low, high] = zone.watermark;
    if (!(min! <= low! && low! <= high!)) bad(m, `zone ${zone.id}: watermarks ${zone.watermark}`);
    for (const type of zone.pageblock_flags) {
      if (type >= MIGRATE_TYPES) bad(m, `zone ${zone.id}: a pageblock of type ${type}`);
    }
    for (let item = 0; item < zone.vm_stat.length; item++) {
      if (zone.vm_stat[item]! < 0) bad(m, `zone ${zone.id}: counter ${item} is negative`);
    }
  }
}
