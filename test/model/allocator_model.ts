/**
 * Random allocations and frees of all orders and types against the naive allocator: every pfn, and
 * every so often every list, counter, pageblock type and watermark, on machines of four kinds.
 *
 * Events: requests with and without waiting rights, hot and cold, from any CPU and node; frees;
 * drains; blocks taken out for compaction (split_free_page); writes to min_free_kbytes, which move
 * watermarks and RESERVE blocks. The load swings between nearly empty and refusing everything.
 */

import assert from 'node:assert/strict';
import { linux_2_6_35 } from '../../src/kernels/linux-2.6.35/profile.ts';
import { split_free_page } from '../../src/kernels/linux-2.6.35/rmqueue.ts';
import {
  init_lowmem_reserve_ratio,
  setup_per_zone_lowmem_reserve,
  setup_per_zone_wmarks,
} from '../../src/kernels/linux-2.6.35/watermark.ts';
import { list_entries } from '../../src/lib/list.ts';
import type { Shape } from '../../src/mm/mmzone.ts';
import { X86_64 } from '../helpers/shapes.ts';
import { NaiveAllocator, NaiveZone } from '../oracle/naive_allocator.ts';
import {
  AllocatorRunBase,
  compare_free_lists,
  machine_of,
  naive_shape,
  naive_zonelists,
  type ZoneRow,
  z,
} from './allocator_run.ts';
import type { Model, ModelOptions } from './model.ts';
import { Random } from './random.ts';

interface Layout {
  shape: Shape;
  zones: ZoneRow[];
  ratio: number[];
}

const LAYOUTS: Record<string, Layout> = {
  /** One CPU, one zone whose end is not pageblock aligned, and a DMA zone that starts at pfn 1. */
  'dma+unaligned': {
    shape: X86_64,
    zones: [z(0, 0, 1, 4095, 97), z(0, 1, 4096, 5 * 1024 + 511, 301)],
    ratio: [256, 256, 32],
  },
  /** Three zones of one node, four CPUs. */
  'x86_64-4cpu': {
    shape: { ...X86_64, nr_cpus: 4 },
    zones: [z(0, 0, 1, 4095), z(0, 1, 4096, 8192, 512), z(0, 2, 12288, 4096)],
    ratio: [256, 256, 32],
  },
  /** Two nodes with two CPUs each. */
  'two-nodes': {
    shape: { ...X86_64, nr_cpus: 4 },
    zones: [z(0, 0, 1, 4095), z(0, 1, 4096, 4096), z(1, 1, 8192, 6144, 77)],
    ratio: [256, 256, 32],
  },
  /** 32-bit x86: flat memory, and HighMem that begins 2 pages below a pageblock. */
  'x86-highmem': {
    shape: {
      ...X86_64,
      machine: 'x86',
      zone_names: ['DMA', 'Normal', 'HighMem', 'Movable'],
      ZONE_DMA32: -1,
      ZONE_NORMAL: 1,
      ZONE_HIGHMEM: 2,
      flatmem: true,
      sizeof_struct_page: 32,
      bytes_per_long: 4,
      numa: false,
    },
    zones: [z(0, 0, 1, 4095), z(0, 1, 4096, 5118), z(0, 2, 9214, 5122, 11)],
    ratio: [256, 32, 32],
  },
  /** ppc64 with 64 KiB pages: pageblocks of 16 MiB are the largest blocks but one. */
  ppc64: {
    shape: {
      ...X86_64,
      machine: 'ppc64',
      page_shift: 16,
      max_order: 9,
      pageblock_order: 8,
      zone_names: ['DMA', 'Normal', 'Movable'],
      ZONE_DMA32: -1,
      ZONE_NORMAL: 1,
      ZONE_MOVABLE: 2,
      section_nr_pages: 256,
      nr_cpus: 2,
    },
    zones: [z(0, 0, 0, 12 * 256 + 128)],
    ratio: [256, 32],
  },
};

// gfp bits, as the headers of 2.6.35 number them; not imported, so that a slip there is seen here.
const DMA = 0x1;
const HIGHMEM = 0x2;
const DMA32 = 0x4;
const MOVABLE = 0x8;
const HIGH = 0x20;
const COLD = 0x100;
const NOWARN = 0x200;
const NORETRY = 0x1000;
const COMP = 0x4000;
const THISNODE = 0x40000;
const RECLAIMABLE = 0x80000;

class AllocatorRun extends AllocatorRunBase<NaiveZone, NaiveAllocator> {
  readonly layout: Layout;

  constructor(o: ModelOptions) {
    const layout = LAYOUTS[o.shape]!;
    const { shape, zones } = layout;
    const m = machine_of(shape, linux_2_6_35, zones);
    const s = naive_shape(shape);
    const naive_zones = zones.map(
      (l) => new NaiveZone(s, l.nid, l.zone_idx, l.start_pfn, l.spanned, l.spanned - l.holes),
    );
    const naive = new NaiveAllocator(s, naive_zones, naive_zonelists(m, naive_zones));
    super(m, naive, new Random(o.seed));
    this.layout = layout;
    this.free_boot_memory(
      zones,
      (pfn, order) => {
        const zone = naive.zone_of(pfn);
        zone.free_one(pfn, order, zone.type_of(pfn));
      },
      (pfn) => naive.zone_of(pfn).reserved.add(pfn),
    );
    init_lowmem_reserve_ratio(m);
    this.set_min_free(256);
    setup_per_zone_lowmem_reserve(m);
  }

  set_min_free(kbytes: number): void {
    this.m.sysctl['min_free_kbytes'] = kbytes;
    setup_per_zone_wmarks(this.m);
    this.naive.setup_watermarks(kbytes, this.layout.ratio);
  }

  step(): void {
    const { m, random } = this;
    m.this_cpu = random.below(m.shape.nr_cpus);
    if (random.one_in(500)) this.pressure = random.range(20, 95);
    switch (random.weighted([1000, 6, 3, 2])) {
      case 0:
        if (random.below(100) < this.pressure) this.alloc();
        else this.free();
        break;
      case 1:
        m.kernel.drain_pages(m, m.this_cpu);
        for (const zone of this.naive.zones) zone.drain(m.this_cpu);
        break;
      case 2:
        this.split();
        break;
      default:
        if (random.one_in(3)) this.set_min_free(random.pick([0, 64, 128, 777, 1024, 4096, 9000]));
    }
  }

  private alloc(): void {
    const { m, random } = this;
    const { shape } = m;
    const max = shape.max_order;
    const order = random.one_in(3) ? random.below(max) : random.weighted([60, 20, 10, 5, 3, 2]);
    const type = random.below(3);
    let gfp = [0, RECLAIMABLE, MOVABLE][type]!;
    let high_zoneidx = shape.ZONE_NORMAL;
    switch (random.below(6)) {
      case 0:
        gfp |= DMA;
        high_zoneidx = shape.ZONE_DMA;
        break;
      case 1:
        gfp |= DMA32;
        if (shape.ZONE_DMA32 >= 0) high_zoneidx = shape.ZONE_DMA32;
        break;
      case 2:
      case 3:
        gfp |= HIGHMEM;
        if (type === 2) high_zoneidx = shape.ZONE_MOVABLE;
        else if (shape.ZONE_HIGHMEM >= 0) high_zoneidx = shape.ZONE_HIGHMEM;
        break;
      default:
    }
    const cold = random.one_in(10);
    const high = random.one_in(8);
    const thisnode = random.one_in(6);
    const no_slowpath = thisnode && random.one_in(2);
    if (cold) gfp |= COLD;
    if (high) gfp |= HIGH;
    if (thisnode) gfp |= THISNODE;
    if (no_slowpath) gfp |= NOWARN | NORETRY;
    if (order > 0 && random.one_in(2)) gfp |= COMP;
    const nid = random.below(m.nodes.length);
    const request = { order, type, high_zoneidx, cold, high, thisnode, no_slowpath };
    const expected = this.naive.alloc(m.this_cpu, nid, request);
    const pfn = m.kernel.alloc_pages(m, gfp, order, nid);
    assert.equal(pfn, expected, `alloc order ${order} gfp 0x${gfp.toString(16)} node ${nid}`);
    if (pfn < 0) {
      // Full: give something back, so that the next events are not all refusals.
      for (let i = random.below(40); i > 0; i--) this.free();
      return;
    }
    assert.equal(m.memmap._count[pfn], 1);
    this.used.push([pfn, order]);
  }

  private free(): void {
    const { m } = this;
    const entry = this.take_used();
    if (entry === undefined) return;
    const [pfn, order] = entry;
    const cold = order === 0 && this.random.one_in(6);
    this.naive.free(m.this_cpu, pfn, order, cold);
    if (cold) {
      m.memmap._count[pfn] = 0;
      m.kernel.free_hot_cold_page(m, pfn, true);
    } else {
      m.kernel.__free_pages(m, pfn, order);
    }
  }

  /** Compaction takes a free block apart. */
  private split(): void {
    const { m, random } = this;
    const at = random.below(this.naive.zones.length);
    const naive = this.naive.zones[at]!;
    const zone = this.core_zone(naive);
    const blocks = [...naive.blocks.keys()];
    if (blocks.length === 0) return;
    const pfn = random.pick(blocks);
    const expected = naive.split_free_page(pfn);
    assert.equal(split_free_page(m, zone, pfn), expected, `split_free_page(${pfn})`);
    for (let i = 0; i < expected; i++) this.used.push([pfn + i, 0]);
  }

  /** Every list, counter, type and watermark. */
  compare(): void {
    const { m } = this;
    for (const naive of this.naive.zones) {
      const zone = this.core_zone(naive);
      const label = `zone ${zone.id}`;
      compare_free_lists(m, zone, naive, (type) => type);
      assert.equal(zone.vm_stat[0], naive.free_pages, `${label} NR_FREE_PAGES`);
      assert.deepEqual([...zone.watermark], naive.wmark, `${label} watermarks`);
      const reserve = [...zone.lowmem_reserve];
      assert.deepEqual(reserve, naive.lowmem_reserve.slice(0, reserve.length), `${label} reserve`);
      for (let pfn = naive.start; pfn < naive.end; pfn++) {
        const at = (pfn - zone.pageblock_base) >>> m.shape.pageblock_order;
        assert.equal(zone.pageblock_flags[at], naive.type_of(pfn), `${label} type of ${pfn}`);
      }
      naive.pcp.forEach((expected, cpu) => {
        const pcp = zone.pageset[cpu]!;
        assert.deepEqual([pcp.high, pcp.batch], [expected.high, expected.batch], `${label} pcp`);
        assert.equal(pcp.count, naive.pcp_count(cpu), `${label} pcp count`);
        expected.lists.forEach((list, type) => {
          const ours = list_entries(m.memmap, pcp.lists + type);
          assert.deepEqual(
            ours,
            list.map((e) => e.pfn),
            `${label} cpu ${cpu} list ${type}`,
          );
          assert.deepEqual(
            ours.map((pfn) => m.memmap.private_[pfn]),
            list.map((e) => e.type),
          );
        });
      });
    }
  }
}

export const allocator_model: Model = {
  name: 'allocator',
  shapes: Object.keys(LAYOUTS),
  run(o) {
    new AllocatorRun(o).run(o);
    return o.events;
  },
};
