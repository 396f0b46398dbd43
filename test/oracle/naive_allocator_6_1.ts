/**
 * The page allocator of 6.1 once more, as simply as it can be said: JavaScript arrays for lists, a
 * Map of free blocks, no shared code with src/. Written from the recordings' README ("What the data
 * shows of 6.1": free, fallback, reserve) and from sections 5.1-5.7 of the 6.x reference (watermarks,
 * boost, per-CPU lists). Types are numbered as 6.1 numbers them. Slow on purpose; tests compare every
 * answer, and test/golden/naive_6_1.test.ts holds it against the recordings first.
 */
import { buddy_of, NaiveFreeLists, NaiveZones, naive_batch } from './naive_lists.ts';

const UNMOVABLE = 0;
const MOVABLE = 1;
const RECLAIMABLE = 2;
const HIGHATOMIC = 3;

const TOP = 10;
const BLOCK_ORDER = 9;
const BLOCK = 512;

export interface NaiveShape61 {
  nr_cpus: number;
  /** CPUs of each node. */
  cpus: number[];
  /** Index of ZONE_NORMAL, and that of ZONE_MOVABLE. */
  normal: number;
  movable: number;
}

interface NaivePcp61 {
  high: number;
  batch: number;
  free_factor: number;
  /** Types of orders 0 to 3, then blocks of a pageblock: of other types, of MOVABLE. Head first. */
  lists: { pfn: number; type: number }[][];
}

/** One fallback: the block that was found, its order and list, whether its pageblock changed hands. */
export interface NaiveFallback {
  pfn: number;
  order: number;
  from: number;
  owned: boolean;
}

export class NaiveZone61 extends NaiveFreeLists {
  readonly managed: number;
  readonly pcp: NaivePcp61[] = [];
  /** What the zone's size gives each CPU. */
  readonly batch: number;
  /** Pages of processes: on LRU lists. */
  readonly lru: Set<number> = new Set();
  wmark = [0, 0, 0];
  boost = 0;
  boost_factor = 0;
  reserved_highatomic = 0;
  /** By zone index of the request. */
  lowmem_reserve: number[] = [0, 0, 0, 0, 0];
  /** The fallbacks since this was emptied. */
  fallbacks: NaiveFallback[] = [];

  constructor(
    nr_cpus: number,
    nid: number,
    idx: number,
    start: number,
    spanned: number,
    managed: number,
  ) {
    super(nid, idx, start, spanned, TOP + 1);
    this.managed = managed;
    // A pageblock becomes MOVABLE with its first page: one that begins below the zone does not.
    for (let b = Math.floor(start / BLOCK); b * BLOCK < this.end; b++) {
      this.types.set(b, b * BLOCK < start ? UNMOVABLE : MOVABLE);
    }
    // 5.7
    const batch = Math.max(1, naive_batch(Math.min(Math.floor(managed / 1024), 256)));
    this.batch = batch;
    for (let cpu = 0; cpu < nr_cpus; cpu++) {
      const lists: NaivePcp61['lists'] = [];
      for (let i = 0; i < 14; i++) lists.push([]);
      this.pcp.push({ high: 4 * batch, batch, free_factor: 0, lists });
    }
  }

  type_of(pfn: number): number {
    return this.types.get(Math.floor(pfn / BLOCK))!;
  }

  set_type(pfn: number, type: number): void {
    this.types.set(Math.floor(pfn / BLOCK), type);
  }

  /** All free blocks of a pageblock to the tails of the type's lists, rising. Not of a cut-off one. */
  move_block(pfn: number, type: number): number {
    let from = Math.floor(pfn / BLOCK) * BLOCK;
    const end = from + BLOCK;
    if (end > this.end) return 0;
    if (from < this.start) from = pfn;
    let pages = 0;
    for (let p = from; p < end; p++) {
      const order = this.blocks.get(p);
      if (order === undefined) continue;
      this.remove(p);
      this.add(p, order, type, true);
      pages += 2 ** order;
    }
    return pages;
  }

  /** 5.6: by a pageblock, up to a share of the high mark. */
  boost_watermark(): void {
    if (this.boost_factor === 0 || this.managed < 4 * BLOCK) return;
    const max = Math.floor((this.wmark[2]! * this.boost_factor) / 10000);
    if (max > 0) this.boost = Math.min(this.boost + BLOCK, Math.max(max, BLOCK));
  }

  /** README, "Fallback": brings blocks of another type to this one's lists; false without any. */
  fallback(order: number, type: number, nofragment: boolean): boolean {
    const preference = [
      [RECLAIMABLE, MOVABLE],
      [RECLAIMABLE, UNMOVABLE],
      [UNMOVABLE, MOVABLE],
    ][type]!;
    const donor = (o: number): number | undefined =>
      preference.find((t) => this.free[o]![t]!.length > 0);
    const lowest = nofragment ? Math.max(order, BLOCK_ORDER) : order;
    let found = TOP;
    while (found >= lowest && donor(found) === undefined) found--;
    if (found < lowest) return false;
    if (type === MOVABLE && found < 4) {
      found = order;
      while (donor(found) === undefined) found++;
    }
    const from = donor(found)!;
    const pfn = this.free[found]![from]![0]!;
    this.take_over(pfn, found, type, type !== MOVABLE || found >= 4);
    this.fallbacks.push({ pfn, order: found, from, owned: this.type_of(pfn) === type });
    return true;
  }

  take_over(pfn: number, order: number, type: number, whole: boolean): void {
    const old = this.type_of(pfn);
    if (old !== HIGHATOMIC) {
      if (order >= BLOCK_ORDER) {
        for (let p = pfn; p < pfn + 2 ** order; p += BLOCK) this.set_type(p, type);
      } else {
        this.boost_watermark();
        const free = whole ? this.move_block(pfn, type) : 0;
        if (free > 0) {
          const first = Math.floor(pfn / BLOCK) * BLOCK;
          let movable = 0;
          for (let p = first; p < first + BLOCK; p++) if (this.lru.has(p)) movable++;
          let compatible = 0;
          if (type === MOVABLE) compatible = movable;
          else if (old === MOVABLE) compatible = BLOCK - free - movable;
          if (free + compatible >= BLOCK / 2) this.set_type(pfn, type);
          return;
        }
      }
    }
    this.remove(pfn);
    this.add(pfn, order, type, true);
  }

  rmqueue(order: number, type: number, nofragment: boolean): number {
    for (;;) {
      const pfn = this.smallest(order, type);
      if (pfn >= 0 || !this.fallback(order, type, nofragment)) return pfn;
    }
  }

  /** Merges and adds at the head, or at the tail when the next merge is likely. */
  free_one(pfn: number, order: number, type: number): void {
    this.free_pages += 2 ** order;
    while (order < TOP) {
      const buddy = buddy_of(pfn, order);
      if (this.blocks.get(buddy) !== order) break;
      // 5.5: reserved pageblocks merge with their own kind alone.
      const other = this.type_of(buddy);
      const reserved = type === HIGHATOMIC || other === HIGHATOMIC;
      if (order >= BLOCK_ORDER && type !== other && reserved) break;
      this.remove(buddy);
      pfn = Math.min(pfn, buddy);
      order++;
    }
    const size = 2 ** (order + 1);
    const parent = Math.floor(pfn / size) * size;
    const likely = this.blocks.get(buddy_of(parent, order + 1)) === order + 1;
    this.add(pfn, order, type, likely && order <= 8);
  }

  // 5.7

  pcp_index(order: number, type: number): number {
    if (order <= 3) return 3 * order + type;
    return order === BLOCK_ORDER ? 12 + (type === MOVABLE ? 1 : 0) : -1;
  }

  pcp_count(cpu: number): number {
    let pages = 0;
    this.pcp[cpu]!.lists.forEach((list, i) => {
      pages += list.length * 2 ** (i < 12 ? Math.floor(i / 3) : BLOCK_ORDER);
    });
    return pages;
  }

  pcp_alloc(cpu: number, order: number, type: number, nofragment: boolean): number {
    const pcp = this.pcp[cpu]!;
    pcp.free_factor = Math.floor(pcp.free_factor / 2);
    const list = pcp.lists[this.pcp_index(order, type)]!;
    if (list.length === 0) {
      const n = pcp.batch > 1 ? Math.max(2, Math.floor(pcp.batch / 2 ** order)) : 1;
      while (list.length < n) {
        const pfn = this.rmqueue(order, type, nofragment);
        if (pfn < 0) break;
        this.free_pages -= 2 ** order;
        list.push({ pfn, type });
      }
    }
    return list.shift()?.pfn ?? -1;
  }

  pcp_free(cpu: number, pfn: number, order: number): void {
    const pcp = this.pcp[cpu]!;
    const type = this.type_of(pfn);
    const at = this.pcp_index(order, type === HIGHATOMIC ? MOVABLE : type);
    pcp.lists[at]!.unshift({ pfn, type });
    const count = this.pcp_count(cpu);
    if (pcp.high === 0) {
      // Switched off: each free puts one block back.
      this.pcp_drain(cpu, 1, at);
    } else if (pcp.free_factor > 0 && order > 0 && order <= 3) {
      // Frees of high orders in a row: nothing is kept.
      this.pcp_drain(cpu, count, at);
    } else if (count >= pcp.high) {
      const most = pcp.high - pcp.batch;
      const n = pcp.batch * 2 ** pcp.free_factor;
      if (n < most) pcp.free_factor++;
      this.pcp_drain(cpu, Math.min(n, most), at);
    }
  }

  /** At least n pages, oldest first, list by list from number `at` round. */
  pcp_drain(cpu: number, n: number, at: number): void {
    for (let i = 0; i < 14; i++) {
      const index = (at + i) % 14;
      const list = this.pcp[cpu]!.lists[index]!;
      const order = index < 12 ? Math.floor(index / 3) : BLOCK_ORDER;
      while (n > 0 && list.length > 0) {
        const { pfn, type } = list.pop()!;
        this.free_one(pfn, order, type);
        n -= 2 ** order;
      }
    }
  }

  drain(cpu: number): void {
    this.pcp_drain(cpu, this.pcp_count(cpu), 0);
  }

  // 5.5

  reserve(pfn: number): void {
    if (this.reserved_highatomic >= Math.floor(this.managed / 100) + BLOCK) return;
    if (this.type_of(pfn) === HIGHATOMIC) return;
    this.reserved_highatomic += BLOCK;
    this.set_type(pfn, HIGHATOMIC);
    this.move_block(pfn, HIGHATOMIC);
  }

  /** Gives a reserved pageblock with a free block to the type; true when blocks moved. */
  unreserve(type: number, force: boolean): boolean {
    if (!force && this.reserved_highatomic <= BLOCK) return false;
    for (let o = 0; o <= TOP; o++) {
      const pfn = this.free[o]![HIGHATOMIC]![0];
      if (pfn === undefined) continue;
      if (this.type_of(pfn) === HIGHATOMIC) {
        this.reserved_highatomic = Math.max(0, this.reserved_highatomic - BLOCK);
      }
      this.set_type(pfn, type);
      if (this.move_block(pfn, type) > 0) return true;
    }
    return false;
  }

  /** Taken out whole for compaction; the number of pages, 0 when refused. */
  isolate(pfn: number): number {
    const order = this.blocks.get(pfn)!;
    const left = this.free_pages - this.reserved_highatomic;
    if (left <= this.wmark[0]! + 2 ** order + this.lowmem_reserve[0]!) return 0;
    this.remove(pfn);
    this.free_pages -= 2 ** order;
    if (order >= BLOCK_ORDER - 1) {
      for (let p = pfn; p < pfn + 2 ** order; p += BLOCK) {
        if (this.type_of(p) !== HIGHATOMIC) this.set_type(p, MOVABLE);
      }
    }
    return 2 ** order;
  }

  // 5.2
  watermark_ok(order: number, mark: number, highest: number, a: NaiveRights): boolean {
    let free = this.free_pages - (2 ** order - 1);
    if (!a.high && !a.non_block) free -= this.reserved_highatomic;
    let min = mark;
    if (a.high) min -= Math.trunc(min / 2);
    if (a.high && a.non_block) min -= Math.trunc(min / 4);
    if (free <= min + this.lowmem_reserve[highest]!) return false;
    if (order === 0) return true;
    for (let o = order; o <= TOP; o++) {
      for (const type of [UNMOVABLE, MOVABLE, RECLAIMABLE]) {
        if (this.free[o]![type]!.length > 0) return true;
      }
      if (a.highatomic && this.free[o]![HIGHATOMIC]!.length > 0) return true;
    }
    return false;
  }
}

/** What one walk of the zonelist may do. */
interface NaiveRights {
  /** 0 min, 1 low; -1: no watermark counts. */
  mark: number;
  high: boolean;
  non_block: boolean;
  highatomic: boolean;
  nofragment: boolean;
}

/** Masks by their meaning; the test turns them into gfp bits. */
export interface NaiveRequest61 {
  order: number;
  type: number;
  /** Highest zone index by the zone modifier of the mask. */
  highest: number;
  /** __GFP_HIGH. */
  high: boolean;
  thisnode: boolean;
  /** May reclaim: the naive allocator cannot, and throws when it would come to that. */
  wait: boolean;
  memalloc: boolean;
  nomemalloc: boolean;
}

export class NaiveAllocator61 extends NaiveZones<NaiveZone61> {
  readonly s: NaiveShape61;

  constructor(s: NaiveShape61, zones: NaiveZone61[], zonelists: NaiveZone61[][]) {
    super(zones, zonelists);
    this.s = s;
  }

  // 5.1
  setup_watermarks(min_free_kbytes: number, scale: number, ratio: number[]): void {
    const pages = Math.floor(min_free_kbytes / 4);
    const is_movable = (z: NaiveZone61): boolean => z.idx === this.s.movable;
    let low = 0;
    for (const z of this.zones) if (!is_movable(z)) low += z.managed;
    for (const z of this.zones) {
      const t = Math.floor((pages * z.managed) / low);
      const clamped = Math.min(128, Math.max(32, Math.floor(z.managed / 1024)));
      const min = is_movable(z) ? clamped : t;
      const step = Math.max(Math.floor(t / 4), Math.floor((z.managed * scale) / 10000));
      z.wmark = [min, min + step, min + 2 * step];
      z.boost = 0;
      for (const pcp of z.pcp) {
        const share = Math.floor((min + step) / Math.max(1, this.s.cpus[z.nid]!));
        pcp.batch = z.batch;
        pcp.high = Math.max(share, 4 * z.batch);
      }
      for (let j = z.idx + 1; j < z.lowmem_reserve.length; j++) {
        let above = 0;
        for (const other of this.zones) {
          if (other.nid === z.nid && other.idx > z.idx && other.idx <= j) above += other.managed;
        }
        z.lowmem_reserve[j] = ratio[z.idx]! > 0 ? Math.floor(above / ratio[z.idx]!) : 0;
      }
    }
  }

  private from_zone(cpu: number, z: NaiveZone61, r: NaiveRequest61, a: NaiveRights): number {
    if (z.pcp_index(r.order, r.type) >= 0) {
      const pfn = z.pcp_alloc(cpu, r.order, r.type, a.nofragment);
      if (pfn >= 0) return pfn;
    }
    let pfn = a.highatomic ? z.smallest(r.order, HIGHATOMIC) : -1;
    if (pfn < 0) pfn = z.rmqueue(r.order, r.type, a.nofragment);
    if (pfn < 0 && a.non_block) pfn = z.smallest(r.order, HIGHATOMIC);
    if (pfn >= 0) z.free_pages -= 2 ** r.order;
    return pfn;
  }

  private walk(cpu: number, list: NaiveZone61[], r: NaiveRequest61, a: NaiveRights): number {
    for (const z of list) {
      // 6.4: being near is worth more than unmixed pageblocks.
      if (a.nofragment && z.nid !== list[0]!.nid) break;
      let ok = a.mark < 0 || z.watermark_ok(r.order, z.wmark[a.mark]! + z.boost, r.highest, a);
      // A single page of a __GFP_HIGH request need not heed the boost at the min mark.
      if (!ok && r.order === 0 && a.high && a.mark === 0) {
        ok = z.watermark_ok(0, z.wmark[0]!, r.highest, a);
      }
      if (!ok) continue;
      const pfn = this.from_zone(cpu, z, r, a);
      if (pfn < 0) continue;
      if (a.highatomic) z.reserve(pfn);
      return pfn;
    }
    return a.nofragment ? this.walk(cpu, list, r, { ...a, nofragment: false }) : -1;
  }

  /** Low marks, then min marks with the request's reserves, then without marks for who may. */
  alloc(cpu: number, nid: number, r: NaiveRequest61): number {
    let list = this.zonelists[nid]!.filter((z) => z.idx <= r.highest);
    if (r.thisnode) list = list.filter((z) => z.nid === nid);
    const near = list[0];
    if (near === undefined) return -1;
    // 6.4: Normal above DMA32; of a machine with one node that is taken for granted.
    const below = this.zones.some((z) => z.nid === near.nid && z.idx === near.idx - 1);
    const nofragment = near.idx === this.s.normal && (this.s.cpus.length === 1 || below);
    const none = { high: false, non_block: false, highatomic: false, nofragment: false };
    let pfn = this.walk(cpu, list, r, { ...none, mark: 1, nofragment });
    if (pfn >= 0) return pfn;
    const non_block = !r.wait && !r.nomemalloc;
    const highatomic = non_block && r.high && r.order > 0;
    pfn = this.walk(cpu, list, r, { ...none, mark: 0, high: r.high, non_block, highatomic });
    if (pfn >= 0) return pfn;
    if (r.memalloc && !r.nomemalloc) return this.walk(cpu, list, r, { ...none, mark: -1 });
    if (r.wait) throw new Error('the naive allocator cannot reclaim');
    return -1;
  }

  free(cpu: number, pfn: number, order: number): void {
    const zone = this.zone_of(pfn);
    zone.lru.delete(pfn);
    if (zone.pcp_index(order, MOVABLE) >= 0) zone.pcp_free(cpu, pfn, order);
    else zone.free_one(pfn, order, zone.type_of(pfn));
  }
}
