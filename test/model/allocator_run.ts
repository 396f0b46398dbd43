/**
 * What the allocator models of all kernels have in common: zones from a table, boot memory with a few
 * pages missing, what is allocated now, and the comparison of zones with those of the naive allocator.
 */
import assert from 'node:assert/strict';
import { list_entries } from '../../src/lib/list.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { assemble_machine } from '../../src/mm/mm_init.ts';
import type { KernelProfile, Machine, Shape, Zone } from '../../src/mm/mmzone.ts';
import type { NaiveShape } from '../oracle/naive_allocator.ts';
import type { NaiveFreeLists, NaiveZones } from '../oracle/naive_lists.ts';
import type { ModelOptions } from './model.ts';
import type { Random } from './random.ts';

export interface ZoneRow {
  nid: number;
  zone_idx: number;
  start_pfn: number;
  spanned: number;
  holes: number;
}

export const z = (
  nid: number,
  zone_idx: number,
  start_pfn: number,
  spanned: number,
  holes = 0,
): ZoneRow => ({ nid, zone_idx, start_pfn, spanned, holes });

export function machine_of(shape: Shape, kernel: KernelProfile, zones: ZoneRow[]): Machine {
  return assemble_machine({
    shape,
    kernel,
    zones: zones.map((row) => ({
      nid: row.nid,
      zone_idx: row.zone_idx,
      start_pfn: row.start_pfn,
      spanned_pages: row.spanned,
      present_pages: row.spanned - row.holes,
    })),
  });
}

/** What 2.6.35's oracle wants to know of a machine. */
export function naive_shape(shape: Shape): NaiveShape {
  return {
    max_order: shape.max_order,
    pageblock_order: shape.pageblock_order,
    page_shift: shape.page_shift,
    nr_cpus: shape.nr_cpus,
    flatmem: shape.flatmem,
    dma: shape.ZONE_DMA,
    dma32: shape.ZONE_DMA32,
    normal: shape.ZONE_NORMAL,
    highmem: shape.ZONE_HIGHMEM,
    movable: shape.ZONE_MOVABLE,
    numa: shape.numa,
  };
}

/** The zonelists of a machine in terms of the oracle's zones. */
export function naive_zonelists<Z extends NaiveFreeLists>(m: Machine, zones: Z[]): Z[][] {
  const same = (zone: Zone): Z =>
    zones.find((naive) => naive.nid === zone.nid && naive.idx === zone.zone_idx)!;
  return m.nodes.map((node) => node.node_zonelists[0]!.map(same));
}

/** Lists of free blocks and their counts; `core_type` is our number of a type of the oracle. */
export function compare_free_lists(
  m: Machine,
  zone: Zone,
  naive: NaiveFreeLists,
  core_type: (type: number) => number,
): void {
  for (let order = 0; order < m.shape.max_order; order++) {
    let blocks = 0;
    for (let type = 0; type < 5; type++) {
      const ours = list_entries(m.memmap, zone.free_list + order * 5 + core_type(type));
      assert.deepEqual(
        ours,
        naive.free[order]![type],
        `zone ${zone.id} free list ${order}/${type}`,
      );
      blocks += ours.length;
    }
    assert.equal(zone.nr_free[order], blocks, `zone ${zone.id} nr_free[${order}]`);
  }
}

/** A run of random events: our machine, the naive one, and what is allocated on both. */
export abstract class AllocatorRunBase<Z extends NaiveFreeLists, N extends NaiveZones<Z>> {
  readonly m: Machine;
  readonly naive: N;
  readonly random: Random;
  /** What is allocated: [pfn, order]. */
  readonly used: [number, number][] = [];
  /** Percent of steps that allocate; drifts. */
  protected pressure = 60;

  constructor(m: Machine, naive: N, random: Random) {
    this.m = m;
    this.naive = naive;
    this.random = random;
  }

  abstract step(): void;

  /** Every list, counter, type and watermark. */
  abstract compare(): void;

  /** Boot memory, some pages short: those stay reserved; `free` gives a block to the naive machine. */
  protected free_boot_memory(
    zones: ZoneRow[],
    free: (pfn: number, order: number) => void,
    reserve: (pfn: number) => void = () => {},
  ): void {
    for (const row of zones) {
      const end = row.start_pfn + row.spanned;
      for (let pfn = row.start_pfn; pfn < end; ) {
        let order = 6;
        while (pfn % 2 ** order !== 0 || pfn + 2 ** order > end) order--;
        if (pfn === 0 || this.random.one_in(200)) {
          // The rest of its chunk follows in smaller ones.
          this.m.memmap.flags[pfn] = 1 << 10;
          this.m.memmap._count[pfn] = 1;
          reserve(pfn);
          pfn++;
          continue;
        }
        this.m.kernel.__free_pages_ok(this.m, pfn, order);
        free(pfn, order);
        pfn += 2 ** order;
      }
    }
  }

  /** Something to free: mostly anything, at times what came last. */
  protected take_used(): [number, number] | undefined {
    const { used } = this;
    if (used.length === 0) return undefined;
    const at = this.random.one_in(4) ? used.length - 1 : this.random.below(used.length);
    const entry = used[at]!;
    used[at] = used[used.length - 1]!;
    used.pop();
    return entry;
  }

  protected core_zone(naive: Z): Zone {
    return this.m.populated_zones.find((zone) => zone.zone_start_pfn === naive.start)!;
  }

  /** All events, with a look at everything every so often. */
  run(o: ModelOptions): void {
    this.compare();
    for (let i = 1; i <= o.events; i++) {
      this.step();
      if (i % o.check_every !== 0 && i !== o.events) continue;
      this.compare();
      debug_vm(this.m);
    }
  }
}
