/**
 * Random allocations and frees on 6.1 against its naive allocator: every pfn, and every so often every
 * list, counter, pageblock type, boost and watermark, on machines of four kinds.
 *
 * Events: requests that may not wait, with all rights to reserves; frees of pages on and off the LRU;
 * drains; free blocks taken out for compaction; HIGHATOMIC pageblocks given back; writes to
 * min_free_kbytes and watermark_boost_factor. The load swings between nearly empty and refusing everything.
 */

import assert from 'node:assert/strict';
import { linux_6_1 } from '../../src/kernels/linux-6.1/profile.ts';
import {
  __isolate_free_page,
  unreserve_highatomic_pageblock,
} from '../../src/kernels/linux-6.1/rmqueue.ts';
import {
  init_lowmem_reserve_ratio,
  setup_per_zone_lowmem_reserve,
  setup_per_zone_wmarks,
} from '../../src/kernels/linux-6.1/watermark.ts';
import { list_entries } from '../../src/lib/list.ts';
import { add_page_to_lru_list, put_page } from '../../src/mm/lru.ts';
import { LRU_INACTIVE_ANON } from '../../src/mm/mmzone.ts';
import { PG_lru, PG_swapbacked } from '../../src/mm/page_flags.ts';
import { X86_64_6_1 } from '../helpers/shapes.ts';
import { NaiveAllocator61, NaiveZone61 } from '../oracle/naive_allocator_6_1.ts';
import {
  AllocatorRunBase,
  compare_free_lists,
  machine_of,
  naive_zonelists,
  type ZoneRow,
  z,
} from './allocator_run.ts';
import type { Model, ModelOptions } from './model.ts';
import { Random } from './random.ts';

interface Layout {
  nr_cpus: number;
  /** CPUs of each node. */
  cpus: number[];
  zones: ZoneRow[];
  /** Per-CPU lists switched off, as in the recordings. */
  no_pcp?: boolean;
}

const LAYOUTS: Record<string, Layout> = {
  /** The kind of zone that was recorded, with a ragged end, but where Linux begins DMA. */
  'no-pcp': {
    nr_cpus: 1,
    cpus: [1],
    zones: [z(0, 0, 1, 4095, 97), z(0, 1, 4096, 6 * 1024 + 300, 301)],
    no_pcp: true,
  },
  /** One CPU and live per-CPU lists. */
  'dma+unaligned': {
    nr_cpus: 1,
    cpus: [1],
    zones: [z(0, 0, 1, 4095, 97), z(0, 1, 4096, 5 * 1024 + 511, 301)],
  },
  /** Normal above DMA32: NOFRAGMENT. Four CPUs. */
  normal: {
    nr_cpus: 4,
    cpus: [4],
    zones: [z(0, 0, 1, 4095), z(0, 1, 4096, 4096, 512), z(0, 2, 8192, 8192)],
  },
  /** Two nodes: Normal above DMA32 on the first, alone on the second; that one begins at an odd pageblock. */
  'two-nodes': {
    nr_cpus: 4,
    cpus: [2, 2],
    zones: [z(0, 1, 1024, 4096), z(0, 2, 5120, 4096), z(1, 2, 9728, 6144, 77)],
  },
};

const RATIO = [256, 256, 32, 0, 0];

// The project's bits of a mask; not imported, so that a slip there is seen here.
const DMA = 0x1;
const HIGHMEM = 0x2;
const DMA32 = 0x4;
const MOVABLE = 0x8;
const HIGH = 0x20;
const MEMALLOC = 0x2000;
const COMP = 0x4000;
const NOMEMALLOC = 0x10000;
const THISNODE = 0x40000;
const RECLAIMABLE = 0x80000;
const NO_KSWAPD = 0x400000;

/** The core's number of a type by 6.1's. */
const CORE_TYPE = [0, 2, 1, 3, 4];
/** Every event on a machine this small counts: 64 pageblocks at the most. */
const BLOCK = 512;

class AllocatorRun61 extends AllocatorRunBase<NaiveZone61, NaiveAllocator61> {
  readonly layout: Layout;
  /** The type of most requests; drifts, so that types need each other's pageblocks. */
  private mood = 0;
  /** Only small requests, to the last page: leaves crumbs of all types. */
  private crumbs = false;
  /** How many of each kind of thing happened: a run without some of them proves little. */
  readonly seen = { fallbacks: 0, owned: 0, reserved: 0, boosted: 0, refused: 0, unreserved: 0 };

  constructor(o: ModelOptions) {
    const layout = LAYOUTS[o.shape]!;
    const { nr_cpus, cpus, zones } = layout;
    const m = machine_of({ ...X86_64_6_1, nr_cpus }, linux_6_1, zones);
    const naive_zones = zones.map(
      (l) =>
        new NaiveZone61(nr_cpus, l.nid, l.zone_idx, l.start_pfn, l.spanned, l.spanned - l.holes),
    );
    const naive = new NaiveAllocator61(
      { nr_cpus, cpus, normal: 2, movable: 3 },
      naive_zones,
      naive_zonelists(m, naive_zones),
    );
    super(m, naive, new Random(o.seed));
    this.layout = layout;
    this.set_boost_factor(0);
    this.free_boot_memory(zones, (pfn, order) => naive.free(0, pfn, order));
    init_lowmem_reserve_ratio(m);
    this.set_min_free(256);
    setup_per_zone_lowmem_reserve(m);
  }

  private set_min_free(kbytes: number): void {
    const { m, naive } = this;
    m.sysctl['min_free_kbytes'] = kbytes;
    setup_per_zone_wmarks(m);
    naive.setup_watermarks(kbytes, 10, RATIO);
    // Zones of this size have batches of one page: at times those of larger ones.
    const batch = this.random.pick([0, 3, 7, 15]);
    for (const expected of naive.zones) {
      this.core_zone(expected).pageset.forEach((pcp, cpu) => {
        const { high } = expected.pcp[cpu]!;
        let size = {};
        if (batch > 0) size = { batch, high: Math.max(high, 4 * batch) };
        if (this.layout.no_pcp === true) size = { batch: 1, high: 0 };
        Object.assign(pcp, size);
        Object.assign(expected.pcp[cpu]!, size);
      });
    }
  }

  private set_boost_factor(factor: number): void {
    this.m.sysctl['watermark_boost_factor'] = factor;
    for (const zone of this.naive.zones) zone.boost_factor = factor;
  }

  step(): void {
    const { m, random } = this;
    m.this_cpu = random.below(m.shape.nr_cpus);
    if (random.one_in(500)) {
      this.crumbs = random.one_in(3);
      this.pressure = this.crumbs ? random.range(60, 99) : random.range(20, 95);
    }
    if (random.one_in(300)) this.mood = random.below(3);
    switch (random.weighted([1500, 6, 3, 2, 2])) {
      case 0:
        if (random.below(100) < this.pressure) this.alloc();
        else this.free();
        break;
      case 1:
        m.kernel.drain_pages(m, m.this_cpu);
        for (const zone of this.naive.zones) zone.drain(m.this_cpu);
        break;
      case 2:
        this.isolate();
        break;
      case 3:
        this.unreserve();
        break;
      default:
        if (random.one_in(3)) this.set_min_free(random.pick([0, 64, 128, 777, 1024, 4096, 9000]));
        else this.set_boost_factor(random.pick([0, 1000, 15000, 40000]));
    }
  }

  private alloc(): void {
    const { m, random, naive } = this;
    let order = random.one_in(12) ? random.below(11) : random.weighted([60, 20, 10, 5, 3, 2]);
    if (this.crumbs) order = random.weighted([8, 4, 1]);
    const type = random.one_in(3) ? random.below(3) : this.mood;
    let gfp = [0, MOVABLE, RECLAIMABLE][type]!;
    let highest = 2;
    const lowest = this.naive.zones[0]!.idx;
    switch (random.range(lowest, 5)) {
      case 0:
        gfp |= DMA;
        highest = 0;
        break;
      case 1:
        gfp |= DMA32;
        highest = 1;
        break;
      case 2:
      case 3:
        gfp |= HIGHMEM;
        if (type === 1) highest = 3;
        break;
      default:
    }
    const high = random.one_in(4);
    const thisnode = random.one_in(6);
    const memalloc = random.one_in(this.crumbs ? 2 : 10);
    const nomemalloc = random.one_in(8);
    if (high) gfp |= HIGH;
    if (thisnode) gfp |= THISNODE;
    if (memalloc) gfp |= MEMALLOC;
    if (nomemalloc) gfp |= NOMEMALLOC;
    if (random.one_in(3)) gfp |= NO_KSWAPD;
    if (order > 0 && random.one_in(2)) gfp |= COMP;
    const nid = random.below(m.nodes.length);
    const expected = naive.alloc(m.this_cpu, nid, {
      order,
      type,
      highest,
      high,
      thisnode,
      wait: false,
      memalloc,
      nomemalloc,
    });
    const pfn = m.kernel.alloc_pages(m, gfp, order, nid);
    assert.equal(pfn, expected, `alloc order ${order} gfp 0x${gfp.toString(16)} node ${nid}`);
    this.count_what_happened();
    if (pfn < 0) {
      this.seen.refused++;
      // Full: give something back, so that the next events are not all refusals.
      for (let i = random.below(12); i > 0; i--) this.free();
      return;
    }
    assert.equal(m.memmap._count[pfn], 1);
    this.used.push([pfn, order]);
    if (order === 0 && type === 1 && random.one_in(2)) this.to_lru(pfn);
  }

  private count_what_happened(): void {
    const { seen } = this;
    for (const zone of this.naive.zones) {
      seen.fallbacks += zone.fallbacks.length;
      for (const f of zone.fallbacks) if (f.owned && f.order < 9) seen.owned++;
      zone.fallbacks = [];
      if (zone.reserved_highatomic > 0) seen.reserved++;
      if (zone.boost > 0) seen.boosted++;
    }
  }

  /**
   * A page of a process, which a fallback counts as movable. Not in a pageblock that begins below its
   * zone: no recording tells how much of such a one is counted.
   */
  private to_lru(pfn: number): void {
    const naive = this.naive.zone_of(pfn);
    if (pfn - (pfn % BLOCK) < naive.start) return;
    naive.lru.add(pfn);
    this.m.memmap.flags[pfn]! |= PG_lru | PG_swapbacked;
    add_page_to_lru_list(this.m, this.core_zone(naive), pfn, LRU_INACTIVE_ANON);
  }

  private free(): void {
    const { m } = this;
    const entry = this.take_used();
    if (entry === undefined) return;
    const [pfn, order] = entry;
    this.naive.free(m.this_cpu, pfn, order);
    if (order === 0) put_page(m, pfn);
    else m.kernel.__free_pages(m, pfn, order);
  }

  /** Compaction takes a free block for itself. */
  private isolate(): void {
    const { m, random } = this;
    const naive = random.pick(this.naive.zones);
    const blocks = [...naive.blocks];
    if (blocks.length === 0) return;
    const [pfn, order] = random.pick(blocks);
    const expected = naive.isolate(pfn);
    const taken = __isolate_free_page(m, this.core_zone(naive), pfn, order);
    assert.equal(taken, expected, `__isolate_free_page(${pfn}, ${order})`);
    for (let i = 0; i < expected; i++) {
      m.memmap._count[pfn + i] = 1;
      this.used.push([pfn + i, 0]);
    }
  }

  /** What direct reclaim does before it gives up. */
  private unreserve(): void {
    const { m, random } = this;
    const nid = random.below(m.nodes.length);
    const type = random.below(3);
    const force = random.one_in(2);
    const expected = this.naive.zonelists[nid]!.some((zone) => zone.unreserve(type, force));
    const list = m.nodes[nid]!.node_zonelists[0]!;
    const done = unreserve_highatomic_pageblock(m, list, 3, CORE_TYPE[type]!, force);
    assert.equal(done, expected, `unreserve_highatomic_pageblock(${nid}, ${type}, ${force})`);
    if (done) this.seen.unreserved++;
  }

  /** Every list, counter, type and watermark. */
  compare(): void {
    const { m } = this;
    for (const naive of this.naive.zones) {
      const zone = this.core_zone(naive);
      const label = `zone ${zone.id}`;
      compare_free_lists(m, zone, naive, (type) => CORE_TYPE[type]!);
      assert.deepEqual(
        [zone.vm_stat[0], zone.watermark_boost, zone.nr_reserved_highatomic, ...zone.watermark],
        [naive.free_pages, naive.boost, naive.reserved_highatomic, ...naive.wmark],
        `${label} NR_FREE_PAGES, boost, highatomic, watermarks`,
      );
      const reserve = [...zone.lowmem_reserve];
      assert.deepEqual(reserve, naive.lowmem_reserve.slice(0, reserve.length), `${label} reserve`);
      for (const [block, type] of naive.types) {
        const at = (block * BLOCK - zone.pageblock_base) >>> 9;
        assert.equal(zone.pageblock_flags[at], CORE_TYPE[type], `${label} pageblock ${block}`);
      }
      naive.pcp.forEach((expected, cpu) => {
        const pcp = zone.pageset[cpu]!;
        assert.deepEqual(
          [pcp.high, pcp.batch, pcp.free_factor, pcp.count],
          [expected.high, expected.batch, expected.free_factor, naive.pcp_count(cpu)],
          `${label} cpu ${cpu}`,
        );
        expected.lists.forEach((list, i) => {
          const ours = list_entries(m.memmap, pcp.lists + i);
          assert.deepEqual(
            ours.map((pfn) => [pfn, m.memmap.private_[pfn]]),
            list.map((e) => [e.pfn, CORE_TYPE[e.type]]),
            `${label} cpu ${cpu} list ${i}`,
          );
        });
      });
    }
  }
}

export const allocator_6_1_model: Model = {
  name: 'allocator-6.1',
  shapes: Object.keys(LAYOUTS),
  run(o) {
    const run = new AllocatorRun61(o);
    run.run(o);
    if (o.events >= 10_000) {
      for (const [what, times] of Object.entries(run.seen)) {
        assert.ok(times > 0, `${o.events} events and nothing was ever ${what}`);
      }
    }
    return o.events;
  },
};
