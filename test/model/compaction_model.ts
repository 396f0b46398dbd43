/**
 * Explicit compaction against the naive one, move by move: processes fill a booted machine, free in
 * patterns, fork, lock and pin pages; the kernel scatters unmovable ones; then every zone is
 * compacted, and the moves, free lists, per-CPU lists, pageblock types and LRU membership must be the
 * oracle's. Each page of each process must still read as it was last written.
 *
 * An event is one page touched, freed, pinned or allocated; a compaction comes every few thousand.
 */

import assert from 'node:assert/strict';
import { compact_node } from '../../src/kernels/linux-2.6.35/compaction.ts';
import { run_job } from '../../src/lib/kthread.ts';
import { list_entries } from '../../src/lib/list.ts';
import { boot, type MachineConfig } from '../../src/machine.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { create_process, do_exit, do_fork } from '../../src/mm/fork.ts';
import { lru_add_drain_all, put_page } from '../../src/mm/lru.ts';
import { do_mlock } from '../../src/mm/madvise.ts';
import { follow_page, read_tag, write_tag } from '../../src/mm/memory.ts';
import type { Task } from '../../src/mm/mm_types.ts';
import { do_mmap, do_munmap, MAP_ANONYMOUS, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import type { Machine, Zone } from '../../src/mm/mmzone.ts';
import { NaiveAllocator, type NaiveShape, NaiveZone } from '../oracle/naive_allocator.ts';
import { NaiveCompaction, type NaivePage } from '../oracle/naive_compaction.ts';
import { compare_free_lists, naive_shape } from './allocator_run.ts';
import type { Model, ModelOptions } from './model.ts';
import { Random } from './random.ts';

const MIB = 2 ** 20;
const CONFIGS: Record<string, MachineConfig> = {
  '96M': { memory: 96 * MIB },
  '4-cpus': { memory: 80 * MIB, cpus: 4 },
  'two-nodes': { memory: 160 * MIB, nodes: 2, cpus: 2 },
  x86: { memory: 100 * MIB, machine: 'x86' },
};

const GFP_KERNEL = 0xd0;
const RECLAIMABLE = 0x80000;
const THISNODE = 0x40000;

interface Area {
  start: number;
  len: number;
}

interface Process {
  task: Task;
  areas: Area[];
  /** What each page must read as. */
  tags: Map<number, number>;
}

class CompactionRun {
  readonly m: Machine;
  readonly random: Random;
  readonly processes: Process[] = [];
  /** Pages that somebody holds on to. */
  readonly pins: number[] = [];
  readonly kernel_pages: [number, number][] = [];
  private tag = 1;

  constructor(o: ModelOptions) {
    this.m = boot({ ...CONFIGS[o.shape], seed: o.seed });
    this.random = new Random(o.seed);
  }

  /** Fills memory to about 80 %, frees about half in some pattern; returns the number of events. */
  fill(): number {
    const { m, random } = this;
    let events = 0;
    m.this_cpu = random.below(m.shape.nr_cpus);
    const pattern = random.below(4);
    let tries = 0;
    while (this.free_share() > 0.2 && tries++ < 60) {
      const process = this.spawn();
      if (process === null) break;
      const len = random.range(200, 3000);
      const area = this.map(process, len);
      if (area === null) break;
      for (let i = 0; i < len && this.free_share() > 0.15; i++, events++) {
        if (!this.write(process, area.start + i)) break;
        if (random.one_in(60)) this.kernel_alloc();
      }
    }
    events += this.punch(pattern);
    for (let i = random.below(6); i > 0 && this.processes.length > 0; i--, events++) this.one_odd();
    return events;
  }

  private free_share(): number {
    let free = 0;
    let all = 0;
    for (const zone of this.m.populated_zones) {
      free += zone.vm_stat[0]!;
      all += zone.present_pages;
    }
    return free / all;
  }

  private spawn(): Process | null {
    const task = create_process(this.m, 'filler');
    if (typeof task === 'number') return null;
    const process = { task, areas: [], tags: new Map() };
    this.processes.push(process);
    return process;
  }

  private map(process: Process, len: number): Area | null {
    const mm = process.task.mm!;
    const start = do_mmap(this.m, mm, null, 0, len, 3, MAP_PRIVATE | MAP_ANONYMOUS);
    if (start < 0) return null;
    const area = { start, len };
    process.areas.push(area);
    return area;
  }

  private write(process: Process, vpn: number): boolean {
    if (write_tag(this.m, process.task, vpn, this.tag) !== 0) return false;
    process.tags.set(vpn, this.tag++);
    return true;
  }

  /** Unmaps pages: random ones, every second, runs, or whole ends. */
  private punch(pattern: number): number {
    const { m, random } = this;
    let events = 0;
    const share = random.range(1, 9);
    for (const process of this.processes) {
      for (const { start, len } of process.areas) {
        for (let i = 0; i < len; ) {
          let run = 1;
          let gone = false;
          if (pattern === 0) gone = random.below(10) < share;
          else if (pattern === 1) gone = i % 2 === 1;
          else if (pattern === 2) {
            run = random.range(1, 40);
            gone = random.below(10) < share;
          } else gone = i * 10 < len * share;
          run = Math.min(run, len - i);
          if (gone) {
            assert.equal(do_munmap(m, process.task.mm!, start + i, run), 0);
            for (let k = 0; k < run; k++) process.tags.delete(start + i + k);
            events += run;
          }
          i += run;
        }
      }
    }
    return events;
  }

  private kernel_alloc(): void {
    const { m, random } = this;
    const order = random.weighted([8, 3, 2, 1]);
    const gfp = random.one_in(3) ? GFP_KERNEL | RECLAIMABLE : GFP_KERNEL;
    const pfn = m.kernel.alloc_pages(m, gfp | THISNODE, order, random.below(m.nodes.length));
    if (pfn >= 0) this.kernel_pages.push([pfn, order]);
  }

  /** Something that compaction must cope with. */
  private one_odd(): void {
    const { m, random } = this;
    const process = random.pick(this.processes);
    const vpns = [...process.tags.keys()];
    if (vpns.length === 0) return;
    switch (random.below(4)) {
      case 0: {
        const child = do_fork(m, process.task);
        if (typeof child === 'number') return;
        this.processes.push({ task: child, areas: process.areas, tags: new Map(process.tags) });
        for (let i = 0; i < 20; i++) this.write(process, random.pick(vpns));
        break;
      }
      case 1:
        for (let i = 0; i < 5; i++) {
          const pfn = follow_page(m, process.task.mm!, random.pick(vpns));
          if (pfn < 0) continue;
          m.memmap._count[pfn]!++;
          this.pins.push(pfn);
        }
        break;
      case 2: {
        // Half of the time with pages still in a vector: they stay on their list, though locked.
        const vpn = random.pick(vpns);
        if (random.one_in(2)) lru_add_drain_all(m);
        do_mlock(m, process.task.mm!, vpn, 1, true);
        break;
      }
      default:
        if (this.kernel_pages.length > 0) {
          const at = random.below(this.kernel_pages.length);
          const [pfn, order] = this.kernel_pages.splice(at, 1)[0]!;
          m.kernel.__free_pages(m, pfn, order);
        }
    }
  }

  /** Compacts one node, here and by the oracle. */
  compact(): void {
    const { m, random } = this;
    m.this_cpu = random.below(m.shape.nr_cpus);
    lru_add_drain_all(m);
    if (random.one_in(2)) for (let c = 0; c < m.shape.nr_cpus; c++) m.kernel.drain_pages(m, c);
    const node = random.pick(m.nodes);
    const { naive, alloc } = this.snapshot();
    const moves: [number, number][] = [];
    const listener = (old: number, now: number): void => {
      moves.push([old, now]);
    };
    m.trace.pageblock_page_moved.subscribe(listener);
    const before = m.vm_events.slice();
    run_job(compact_node(m, node.nid));
    m.trace.pageblock_page_moved.unsubscribe(listener);
    for (const zone of node.zones) {
      naive.compact_zone(alloc.zones.find((z) => z.start === zone.zone_start_pfn)!);
    }
    assert.deepEqual(moves, naive.moves, 'moves');
    this.compare_counters(before, naive);
    for (const zone of m.populated_zones) {
      this.compare_zone(zone, alloc.zones.find((z) => z.start === zone.zone_start_pfn)!, naive);
    }
    this.check_tags();
  }

  private compare_counters(before: Float64Array, naive: NaiveCompaction): void {
    const { m } = this;
    const changed: number[] = [];
    for (let i = 0; i < before.length; i++) {
      if (m.vm_events[i] !== before[i]) changed.push(m.vm_events[i]! - before[i]!);
    }
    if (naive.batches > 0) {
      assert.ok(changed.includes(naive.batches), 'compact_blocks_moved');
      assert.ok(changed.includes(naive.isolated), 'compact_pages_moved');
    }
  }

  private snapshot(): { naive: NaiveCompaction; alloc: NaiveAllocator } {
    const { m } = this;
    const s = naive_shape(m.shape);
    const zones = m.populated_zones.map((zone) => this.copy_zone(s, zone));
    const alloc = new NaiveAllocator(s, zones, []);
    const pages: Map<number, NaivePage> = new Map();
    const pinned = new Set(this.pins);
    const p = m.memmap;
    for (const zone of m.populated_zones) {
      for (let lru = 0; lru < 5; lru++) {
        for (const pfn of list_entries(p, zone.lru + lru)) {
          pages.set(pfn, {
            lru,
            active: lru === 1 || lru === 3,
            file: lru === 2 || lru === 3,
            mlocked: (p.flags[pfn]! & (1 << 22)) !== 0,
            refs: p._count[pfn]!,
            pinned: pinned.has(pfn),
          });
        }
      }
    }
    return { naive: new NaiveCompaction(alloc, pages, m.this_cpu), alloc };
  }

  private copy_zone(s: NaiveShape, zone: Zone): NaiveZone {
    const { m } = this;
    const z = new NaiveZone(
      s,
      zone.nid,
      zone.zone_idx,
      zone.zone_start_pfn,
      zone.spanned_pages,
      zone.present_pages,
    );
    for (let order = 0; order < s.max_order; order++) {
      for (let type = 0; type < 5; type++) {
        for (const pfn of list_entries(m.memmap, zone.free_list + order * 5 + type)) {
          z.add(pfn, order, type, true);
          z.free_pages += 2 ** order;
        }
      }
    }
    for (let pfn = z.start; pfn < z.end; pfn++) {
      const at = (pfn - zone.pageblock_base) >>> s.pageblock_order;
      z.types.set(z.block_number(pfn), zone.pageblock_flags[at]!);
    }
    z.wmark = [...zone.watermark];
    z.lowmem_reserve = [...zone.lowmem_reserve];
    zone.pageset.forEach((pcp, cpu) => {
      const lists = [0, 1, 2].map((type) =>
        list_entries(m.memmap, pcp.lists + type).map((pfn) => ({
          pfn,
          type: m.memmap.private_[pfn]!,
        })),
      );
      z.pcp[cpu] = { high: pcp.high, batch: pcp.batch, lists };
    });
    return z;
  }

  private compare_zone(zone: Zone, naive: NaiveZone, lru: NaiveCompaction): void {
    const { m } = this;
    const label = `zone ${zone.id}`;
    compare_free_lists(m, zone, naive, (type) => type);
    zone.pageset.forEach((pcp, cpu) => {
      for (let type = 0; type < 3; type++) {
        const ours = list_entries(m.memmap, pcp.lists + type);
        const expected = naive.pcp[cpu]!.lists[type]!.map((e) => e.pfn);
        assert.deepEqual(ours, expected, `${label} cpu ${cpu} list ${type}`);
      }
    });
    for (let pfn = naive.start; pfn < naive.end; pfn += naive.block()) {
      const at = (pfn - zone.pageblock_base) >>> m.shape.pageblock_order;
      assert.equal(zone.pageblock_flags[at], naive.type_of(pfn), `${label} type of ${pfn}`);
    }
    for (let i = 0; i < 5; i++) {
      for (const pfn of list_entries(m.memmap, zone.lru + i)) {
        assert.equal(lru.pages.get(pfn)?.lru, i, `${label} page ${pfn} on LRU list ${i}`);
      }
    }
  }

  private check_tags(): void {
    for (const { task, tags } of this.processes) {
      for (const [vpn, tag] of tags) {
        const read = read_tag(this.m, task, vpn);
        assert.equal(read, tag, `process ${task.pid} page ${vpn}`);
      }
    }
  }

  /** Gives everything back. */
  reset(): void {
    const { m } = this;
    for (const pfn of this.pins.splice(0)) put_page(m, pfn);
    for (const { task } of this.processes.splice(0)) do_exit(m, task, 0);
    const kept = this.kernel_pages.splice(0);
    for (const [pfn, order] of kept) {
      if (this.random.one_in(4)) this.kernel_pages.push([pfn, order]);
      else m.kernel.__free_pages(m, pfn, order);
    }
  }
}

export const compaction_model: Model = {
  name: 'compaction',
  shapes: Object.keys(CONFIGS),
  run(o) {
    const run = new CompactionRun(o);
    let events = 0;
    while (events < o.events) {
      events += run.fill();
      for (let i = run.random.range(1, 3); i > 0; i--) {
        run.compact();
        events++;
      }
      debug_vm(run.m);
      run.reset();
      debug_vm(run.m);
    }
    return events;
  },
};
