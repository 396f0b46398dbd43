/**
 * Compaction of a whole zone of 6.1, as a write to compact_memory starts it, once more: move by move
 * over JavaScript arrays, on top of the naive allocator. Written from the recordings' README
 * ("Compaction through node1/compact"). A page is its letter in the recordings' maps.
 */
import { type NaiveAllocator61, NaiveZone61 } from './naive_allocator_6_1.ts';

const BLOCK = 512;
const BATCH = 32;
const MOVABLE = 1;
const LETTERS = 'UMRHI';

export class NaiveCompaction61 {
  readonly alloc: NaiveAllocator61;
  readonly zone: NaiveZone61;
  /** A letter for each page of the zone. */
  readonly map: string[];
  /** Letters of pages that may move. */
  readonly sources: string;
  /** [old, new] in order. */
  readonly moves: [number, number][] = [];
  /** Where the scanners are. */
  private migrate: number;
  private target: number;
  /** Isolated free pages; the last one is used first. */
  private freepages: number[] = [];

  constructor(alloc: NaiveAllocator61, zone: NaiveZone61, map: string, unevictable: boolean) {
    this.alloc = alloc;
    this.zone = zone;
    this.map = [...map];
    this.sources = unevictable ? 'MlL' : 'Ml';
    this.migrate = zone.start;
    this.target = Math.floor((zone.end - 1) / BLOCK) * BLOCK;
  }

  run(): void {
    const block_of = (pfn: number): number => Math.floor(pfn / BLOCK);
    let last_batch = -1;
    while (block_of(this.target) > block_of(this.migrate)) {
      const from = this.migrate;
      // A pageblock gives 32 pages, then all the rest.
      const rest = last_batch >= 0 && block_of(last_batch) === block_of(from);
      const pages = this.isolate_sources(rest ? Number.POSITIVE_INFINITY : BATCH);
      if (pages.length === 0) continue;
      last_batch = from;
      if (!this.move(pages) && block_of(this.target) > block_of(this.migrate)) break;
    }
    while (this.freepages.length > 0) this.free(this.freepages.pop()!);
  }

  private isolate_sources(most: number): number[] {
    const pages: number[] = [];
    const end = (Math.floor(this.migrate / BLOCK) + 1) * BLOCK;
    let pfn = this.migrate;
    while (pfn < end && pages.length < most) {
      if (this.sources.includes(this.map[pfn - this.zone.start]!)) pages.push(pfn);
      pfn++;
    }
    this.migrate = pfn;
    return pages;
  }

  /** From the highest down; false when the targets ran out. */
  private move(pages: number[]): boolean {
    const { zone, map } = this;
    for (const old of pages.toReversed()) {
      if (this.freepages.length === 0) this.isolate_targets(pages.length);
      const now = this.freepages.pop();
      if (now === undefined) return false;
      this.moves.push([old, now]);
      map[now - zone.start] = map[old - zone.start]!;
      this.free(old);
    }
    return true;
  }

  private free(pfn: number): void {
    this.map[pfn - this.zone.start] = '.';
    this.alloc.free(0, pfn, 0);
  }

  private isolate_targets(wanted: number): void {
    const { zone } = this;
    const low = (Math.floor(this.migrate / BLOCK) + 1) * BLOCK;
    let pfn = this.target;
    let first = Math.floor(pfn / BLOCK) * BLOCK;
    // Each pageblock that gives nothing doubles the steps in which the next one is looked at.
    let stride = 1;
    for (; first >= low; first -= BLOCK, pfn = first) {
      if ((zone.blocks.get(first) ?? 0) >= 9 || zone.type_of(first) !== MOVABLE) continue;
      const end = Math.min(first + BLOCK, zone.end);
      const before = this.freepages.length;
      let refused = false;
      while (pfn < end && this.freepages.length < wanted) {
        if (zone.blocks.has(pfn)) {
          const taken = zone.isolate(pfn);
          // At the min watermark: no more.
          refused = taken === 0;
          if (refused) break;
          for (let i = 0; i < taken; i++) this.freepages.push(pfn + i);
          pfn += taken - 1;
          if (this.freepages.length >= wanted) {
            pfn++;
            break;
          }
        }
        pfn += stride;
      }
      pfn = Math.min(pfn, end);
      if (this.freepages.length >= wanted) {
        if (pfn >= end) pfn = first - BLOCK;
        break;
      }
      if (refused) break;
      stride = this.freepages.length > before ? 1 : Math.min(32, stride * 2);
    }
    this.target = pfn;
  }
}

/** A zone as the recordings write it, with what this oracle needs of its state. */
export interface RecordedNaiveZone {
  zone: {
    node: number;
    name: string;
    start_pfn: number;
    spanned: number;
    managed: number;
    wm: { min: number; low: number; high: number };
    lowmem_reserve: number[];
    pcp_high: number;
    pcp_batch: number;
  };
  state: {
    free: number[][][];
    pb: string;
    nr_free_counter: number;
    wm_boost: number;
    highatomic: number;
    map?: string;
  };
  boost_factor: number;
}

/** The recorded zone in its state. */
export function naive_zone_of({ zone: z, state, boost_factor }: RecordedNaiveZone): NaiveZone61 {
  const idx = ['DMA', 'DMA32', 'Normal', 'Movable'].indexOf(z.name);
  const zone = new NaiveZone61(1, z.node, idx, z.start_pfn, z.spanned, z.managed);
  Object.assign(zone.pcp[0]!, { high: z.pcp_high, batch: z.pcp_batch });
  zone.wmark = [z.wm.min, z.wm.low, z.wm.high];
  zone.lowmem_reserve = z.lowmem_reserve;
  zone.boost = state.wm_boost;
  zone.boost_factor = boost_factor;
  zone.reserved_highatomic = state.highatomic;
  zone.free_pages = state.nr_free_counter;
  [...state.pb].forEach((letter, i) => {
    zone.set_type(zone.start + i * BLOCK, LETTERS.indexOf(letter));
  });
  state.free.forEach((of_order, order) => {
    of_order.forEach((list, type) => {
      for (const rel of list) zone.add(zone.start + rel, order, type, true);
    });
  });
  // Pages of processes and others on LRU lists.
  [...(state.map ?? '')].forEach((letter, rel) => {
    if ('MLPTl'.includes(letter)) zone.lru.add(zone.start + rel);
  });
  return zone;
}
