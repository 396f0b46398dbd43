/**
 * A machine with one zone whose every frame a test can put where it wants it: free as single pages,
 * on an LRU list, or in use by the kernel. All frames start in use. What the emulated kernel needs
 * for itself comes from a second node behind the zone, where the CPUs are.
 */

import assert from 'node:assert/strict';
import { linux_2_6_35 } from '../../src/kernels/linux-2.6.35/profile.ts';
import { list_add } from '../../src/lib/list.ts';
import {
  type AddressSpace,
  type AddressSpaceOperations,
  MIGRATE_PAGE,
} from '../../src/mm/address_space.ts';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL } from '../../src/mm/gfp.ts';
import { lru_add_drain_all } from '../../src/mm/lru.ts';
import { assemble_machine } from '../../src/mm/mm_init.ts';
import type { Machine, Shape, Zone } from '../../src/mm/mmzone.ts';
import { PG_lru, PG_swapbacked } from '../../src/mm/page_flags.ts';
import { radix_tree_insert, radix_tree_preload } from '../../src/mm/radix_tree.ts';
import { NR_FILE_PAGES, NR_INACTIVE_ANON, NR_SHMEM } from '../../src/mm/vmstat.ts';
import { X86_64 } from './shapes.ts';

const memory_file: AddressSpaceOperations = {
  name: 'memory file of a test',
  migratepage: MIGRATE_PAGE,
  account_dirty: false,
};

export class SmallZone {
  readonly m: Machine;
  readonly zone: Zone;
  readonly start: number;
  readonly end: number;
  private readonly file: AddressSpace;

  constructor(start: number, spanned: number, shape: Partial<Shape> = {}) {
    const behind = Math.ceil((start + spanned) / 8192) * 8192;
    this.m = assemble_machine({
      shape: { ...X86_64, ...shape },
      kernel: linux_2_6_35,
      zones: [
        { nid: 0, zone_idx: 1, start_pfn: start, spanned_pages: spanned, present_pages: spanned },
        { nid: 1, zone_idx: 2, start_pfn: behind, spanned_pages: 4096, present_pages: 4096 },
      ],
    });
    this.zone = this.m.populated_zones[0]!;
    for (let pfn = behind; pfn < behind + 4096; pfn++)
      this.m.kernel.__free_pages_ok(this.m, pfn, 0);
    this.m.vm_events.fill(0);
    this.m.cpu_to_node.fill(1);
    this.file = this.m.mappings.create(memory_file, GFP_HIGHUSER_MOVABLE);
    this.start = start;
    this.end = start + spanned;
    this.m.memmap._count.fill(1, start, this.end);
    // No watermark stands in the way of taking the last page.
    this.zone.watermark.fill(-(2 ** 20));
  }

  /** Frees frames [from, to) straight into the buddy lists. */
  free(from: number, to: number): void {
    const { m } = this;
    for (let pfn = from; pfn < to; pfn++) {
      m.memmap._count[pfn] = 0;
      m.kernel.__free_pages_ok(m, pfn, 0);
    }
  }

  /** Makes frames [from, to) pages of a file in memory, on the inactive anon list: they can move. */
  lru(from: number, to: number): void {
    const { m, zone, file } = this;
    const p = m.memmap;
    for (let pfn = from; pfn < to; pfn++) {
      assert.equal(radix_tree_preload(m, GFP_KERNEL), 0);
      assert.equal(radix_tree_insert(m, file.page_tree, pfn - this.start, pfn), 0);
      file.nrpages++;
      p.mapping[pfn] = file.id << 2;
      p.index[pfn] = pfn - this.start;
      p.flags[pfn]! |= PG_lru | PG_swapbacked;
      list_add(p, pfn, zone.lru);
      zone.vm_stat[NR_INACTIVE_ANON]!++;
      zone.vm_stat[NR_FILE_PAGES]!++;
      zone.vm_stat[NR_SHMEM]!++;
    }
  }

  set_type(pfn: number, type: number): void {
    this.zone.pageblock_flags[(pfn - this.zone.pageblock_base) >>> this.m.shape.pageblock_order] =
      type;
  }

  type_of(pfn: number): number {
    const at = (pfn - this.zone.pageblock_base) >>> this.m.shape.pageblock_order;
    return this.zone.pageblock_flags[at]!;
  }

  /** Everything out of vectors and per-CPU lists. */
  drain(): void {
    lru_add_drain_all(this.m);
    for (let cpu = 0; cpu < this.m.shape.nr_cpus; cpu++) this.m.kernel.drain_pages(this.m, cpu);
  }
}
