/**
 * The page allocator of 2.6.35 once more, as simply as it can be said: JavaScript arrays for lists,
 * a Map of free blocks, no shared code with src/. Written from the reference document, sections
 * 2.3-2.11 and 3.1-3.8, in its order and words. Slow on purpose; tests compare every answer.
 */
import { buddy_of, NaiveFreeLists, NaiveZones, naive_batch } from './naive_lists.ts';

const UNMOVABLE = 0;
const RECLAIMABLE = 1;
const MOVABLE = 2;
const RESERVE = 3;
const ISOLATE = 4;

export interface NaiveShape {
  max_order: number;
  pageblock_order: number;
  page_shift: number;
  nr_cpus: number;
  /** Pageblock types are indexed from the zone's start. */
  flatmem: boolean;
  /** Zone indexes; -1: no such zone. */
  dma: number;
  dma32: number;
  normal: number;
  highmem: number;
  movable: number;
  numa: boolean;
}

interface NaivePcp {
  high: number;
  batch: number;
  /** Per type, head first. */
  lists: { pfn: number; type: number }[][];
}

export class NaiveZone extends NaiveFreeLists {
  readonly s: NaiveShape;
  readonly present: number;
  readonly pcp: NaivePcp[] = [];
  wmark = [0, 0, 0];
  /** By zone index of the request. */
  lowmem_reserve: number[] = [0, 0, 0, 0];
  /** Frames that are PG_reserved. */
  readonly reserved: Set<number> = new Set();

  constructor(
    s: NaiveShape,
    nid: number,
    idx: number,
    start: number,
    spanned: number,
    present: number,
  ) {
    super(nid, idx, start, spanned, s.max_order);
    this.s = s;
    this.present = present;
    // 2.2: only an aligned frame of the zone makes the block that it is counted to MOVABLE.
    for (let pfn = start; pfn < this.end; pfn++) {
      const number = this.block_number(pfn);
      if (pfn % this.block() === 0) this.types.set(number, MOVABLE);
      else if (!this.types.has(number)) this.types.set(number, UNMOVABLE);
    }
    // 2.8
    let b = Math.floor(present / 1024);
    const page = 2 ** s.page_shift;
    if (b * page > 512 * 1024) b = (512 * 1024) / page;
    const batch = naive_batch(b);
    for (let cpu = 0; cpu < s.nr_cpus; cpu++) {
      this.pcp.push({ high: 6 * batch, batch: Math.max(1, batch), lists: [[], [], []] });
    }
  }

  block(): number {
    return 2 ** this.s.pageblock_order;
  }

  block_number(pfn: number): number {
    return this.s.flatmem
      ? Math.floor((pfn - this.start) / this.block())
      : Math.floor(pfn / this.block());
  }

  type_of(pfn: number): number {
    return this.types.get(this.block_number(pfn))!;
  }

  set_type(pfn: number, type: number): void {
    if (this.types.has(this.block_number(pfn))) this.types.set(this.block_number(pfn), type);
  }

  pcp_count(cpu: number): number {
    return this.pcp[cpu]!.lists.reduce((n, l) => n + l.length, 0);
  }

  // 2.3: expand and smallest are those of NaiveFreeLists.

  // 2.5
  move_block(pfn: number, type: number): number {
    const block = this.block();
    let from = Math.floor(pfn / block) * block;
    const last = from + block - 1;
    if (from < this.start) from = pfn;
    if (last >= this.end) return 0;
    let pages = 0;
    for (let p = from; p <= last; ) {
      const order = this.blocks.get(p);
      if (order === undefined) {
        p++;
        continue;
      }
      this.remove(p);
      this.add(p, order, type, false);
      pages += 2 ** order;
      p += 2 ** order;
    }
    return pages;
  }

  // 2.4
  fallback(order: number, start_type: number): number {
    const preference = [
      [RECLAIMABLE, MOVABLE],
      [UNMOVABLE, MOVABLE],
      [RECLAIMABLE, UNMOVABLE],
    ][start_type]!;
    for (let o = this.s.max_order - 1; o >= order; o--) {
      for (let type of preference) {
        const pfn = this.free[o]![type]![0];
        if (pfn === undefined) continue;
        if (o >= Math.floor(this.s.pageblock_order / 2) || start_type === RECLAIMABLE) {
          const pages = this.move_block(pfn, start_type);
          if (pages >= this.block() / 2) this.set_type(pfn, start_type);
          type = start_type;
        }
        this.remove(pfn);
        if (o >= this.s.pageblock_order) {
          for (let p = pfn; p < pfn + 2 ** o; p += this.block()) this.set_type(p, start_type);
        }
        this.expand(pfn, order, o, type);
        return pfn;
      }
    }
    return -1;
  }

  // 2.6
  rmqueue(order: number, type: number): number {
    let pfn = this.smallest(order, type);
    if (pfn < 0 && type !== RESERVE) pfn = this.fallback(order, type);
    if (pfn < 0) pfn = this.smallest(order, RESERVE);
    if (pfn >= 0) this.free_pages -= 2 ** order;
    return pfn;
  }

  // 2.7
  free_one(pfn: number, order: number, type: number): void {
    this.free_pages += 2 ** order;
    while (order < this.s.max_order - 1) {
      const buddy = buddy_of(pfn, order);
      if (this.blocks.get(buddy) !== order) break;
      this.remove(buddy);
      pfn = Math.min(pfn, buddy);
      order++;
    }
    let tail = false;
    if (order < this.s.max_order - 1) {
      const size = 2 ** (order + 1);
      const parent = Math.floor(pfn / size) * size;
      tail = this.blocks.get(buddy_of(parent, order + 1)) === order + 1;
    }
    this.add(pfn, order, type, tail);
  }

  // 2.8
  pcp_alloc(cpu: number, type: number, cold: boolean): number {
    const pcp = this.pcp[cpu]!;
    const list = pcp.lists[type]!;
    if (list.length === 0) {
      for (let i = 0; i < pcp.batch; i++) {
        const pfn = this.rmqueue(0, type);
        if (pfn < 0) break;
        if (cold) list.unshift({ pfn, type });
        else list.push({ pfn, type });
      }
    }
    const entry = cold ? list.pop() : list.shift();
    return entry === undefined ? -1 : entry.pfn;
  }

  pcp_free(cpu: number, pfn: number, cold: boolean): void {
    const type = this.type_of(pfn);
    if (type === ISOLATE) {
      this.free_one(pfn, 0, type);
      return;
    }
    const pcp = this.pcp[cpu]!;
    const list = pcp.lists[type === RESERVE ? MOVABLE : type]!;
    if (cold) list.push({ pfn, type });
    else list.unshift({ pfn, type });
    if (this.pcp_count(cpu) >= pcp.high) {
      this.pcp_drain(cpu, Math.min(pcp.batch, this.pcp_count(cpu)));
    }
  }

  pcp_drain(cpu: number, n: number): void {
    let cursor = 0;
    let batch_free = 0;
    while (n > 0) {
      cursor = (cursor + 1) % 3;
      batch_free++;
      const list = this.pcp[cpu]!.lists[cursor]!;
      if (list.length === 0) continue;
      // The count runs down while it takes and goes on from there.
      for (;;) {
        const { pfn, type } = list.pop()!;
        this.free_one(pfn, 0, type);
        n--;
        if (n === 0) break;
        batch_free--;
        if (batch_free === 0 || list.length === 0) break;
      }
    }
  }

  drain(cpu: number): void {
    this.pcp_drain(cpu, this.pcp_count(cpu));
  }

  // 2.10: taken out as single pages for compaction; the number of pages, 0 when refused.
  split_free_page(pfn: number): number {
    const order = this.blocks.get(pfn)!;
    if (!this.watermark_ok(0, this.wmark[1]! + 2 ** order, 0, false, false)) return 0;
    this.remove(pfn);
    this.free_pages -= 2 ** order;
    if (order >= this.s.pageblock_order - 1) {
      for (let p = pfn; p < pfn + 2 ** order; p += this.block()) this.set_type(p, MOVABLE);
    }
    return 2 ** order;
  }

  // 3.4
  watermark_ok(
    order: number,
    mark: number,
    classzone: number,
    high: boolean,
    harder: boolean,
  ): boolean {
    let min = mark;
    let free = this.free_pages - 2 ** order + 1;
    if (high) min -= Math.trunc(min / 2);
    if (harder) min -= Math.trunc(min / 4);
    if (free <= min + this.lowmem_reserve[classzone]!) return false;
    for (let o = 0; o < order; o++) {
      let blocks = 0;
      for (const list of this.free[o]!) blocks += list.length;
      free -= blocks * 2 ** o;
      min = Math.floor(min / 2);
      if (free <= min) return false;
    }
    return true;
  }

  // 2.11
  setup_reserve(): void {
    let reserve = Math.min(2, Math.ceil(this.wmark[0]! / this.block()));
    for (let pfn = this.start; pfn < this.end; pfn += this.block()) {
      if (this.reserved.has(pfn)) continue;
      const type = this.type_of(pfn);
      if (reserve > 0 && type === RESERVE) {
        reserve--;
      } else if (reserve > 0 && type === MOVABLE) {
        this.set_type(pfn, RESERVE);
        this.move_block(pfn, RESERVE);
        reserve--;
      } else if (type === RESERVE) {
        this.set_type(pfn, MOVABLE);
        this.move_block(pfn, MOVABLE);
      }
    }
  }
}

/** Masks by their meaning; the test turns them into gfp bits. */
export interface NaiveRequest {
  order: number;
  type: number;
  /** Highest zone index by the zone modifier of the mask. */
  high_zoneidx: number;
  cold: boolean;
  /** __GFP_HIGH. */
  high: boolean;
  /** __GFP_THISNODE, with the other two bits of GFP_THISNODE or without. */
  thisnode: boolean;
  no_slowpath: boolean;
}

export class NaiveAllocator extends NaiveZones<NaiveZone> {
  readonly s: NaiveShape;

  constructor(s: NaiveShape, zones: NaiveZone[], zonelists: NaiveZone[][]) {
    super(zones, zonelists);
    this.s = s;
  }

  // 3.2, 3.3
  setup_watermarks(min_free_kbytes: number, ratio: number[]): void {
    const pages_min = Math.floor(min_free_kbytes / 2 ** (this.s.page_shift - 10));
    const is_high = (z: NaiveZone): boolean =>
      this.s.highmem >= 0 && (z.idx === this.s.highmem || z.idx === this.s.movable);
    let lowmem = 0;
    for (const z of this.zones) if (!is_high(z)) lowmem += z.present;
    for (const z of this.zones) {
      const tmp = Math.floor((pages_min * z.present) / lowmem);
      const min = is_high(z) ? Math.min(128, Math.max(32, Math.floor(z.present / 1024))) : tmp;
      z.wmark = [min, min + Math.floor(tmp / 4), min + Math.floor(tmp / 2)];
      z.setup_reserve();
    }
    for (const z of this.zones) {
      for (let j = 0; j < z.lowmem_reserve.length; j++) {
        let sum = 0;
        for (const above of this.zones) {
          if (above.nid === z.nid && above.idx > z.idx && above.idx <= j) sum += above.present;
        }
        z.lowmem_reserve[j] = j > z.idx ? Math.floor(sum / ratio[z.idx]!) : 0;
      }
    }
  }

  // 3.6-3.8 for requests that may not wait
  alloc(cpu: number, nid: number, r: NaiveRequest): number {
    let list = this.zonelists[nid]!;
    if (r.thisnode && this.s.numa) list = list.filter((z) => z.nid === nid);
    list = list.filter((z) => z.idx <= r.high_zoneidx);
    if (list.length === 0) return -1;
    const classzone = list[0]!.idx;
    const walk = (mark: number, high: boolean, harder: boolean): number => {
      for (const zone of list) {
        if (!zone.watermark_ok(r.order, zone.wmark[mark]!, classzone, high, harder)) continue;
        const pfn =
          r.order === 0 ? zone.pcp_alloc(cpu, r.type, r.cold) : zone.rmqueue(r.order, r.type);
        if (pfn >= 0) return pfn;
      }
      return -1;
    };
    const pfn = walk(1, false, false);
    if (pfn >= 0) return pfn;
    if (this.s.numa && r.thisnode && r.no_slowpath) return -1;
    return walk(0, r.high, true);
  }

  free(cpu: number, pfn: number, order: number, cold: boolean): void {
    const zone = this.zone_of(pfn);
    if (order === 0) zone.pcp_free(cpu, pfn, cold);
    else zone.free_one(pfn, order, zone.type_of(pfn));
  }
}
