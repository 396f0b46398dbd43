/**
 * What the naive allocators of all kernels are made of: JavaScript arrays for the lists of free blocks
 * and a Map of them. No shared code with src/. Written from section 2.3 of the 2.6.35 reference
 * document; 6.1 takes, splits and lists blocks in the same way (recordings, README: "free").
 */

/** The block that a block of this order merges with. */
export function buddy_of(pfn: number, order: number): number {
  const size = 2 ** order;
  return Math.floor(pfn / size) % 2 === 0 ? pfn + size : pfn - size;
}

/** A refill of a per-CPU list, from a share of the zone: a power of two, less 1. */
export function naive_batch(share: number): number {
  const b = Math.max(1, Math.floor(share / 4));
  let power = 1;
  while (power * 2 <= b + Math.floor(b / 2)) power *= 2;
  return power - 1;
}

/** A zone's place and its free blocks. */
export class NaiveFreeLists {
  readonly nid: number;
  readonly idx: number;
  readonly start: number;
  readonly end: number;
  readonly max_order: number;
  /** [order][type], head first. */
  readonly free: number[][][] = [];
  /** Every free block: first pfn to order. */
  readonly blocks: Map<number, number> = new Map();
  /** By number of the pageblock. */
  readonly types: Map<number, number> = new Map();
  /** NR_FREE_PAGES: not those on per-CPU lists. */
  free_pages = 0;

  constructor(nid: number, idx: number, start: number, spanned: number, max_order: number) {
    this.nid = nid;
    this.idx = idx;
    this.start = start;
    this.end = start + spanned;
    this.max_order = max_order;
    for (let o = 0; o < max_order; o++) this.free.push([[], [], [], [], []]);
  }

  /** Takes a block off whatever list it is on. */
  remove(pfn: number): number {
    const order = this.blocks.get(pfn)!;
    this.blocks.delete(pfn);
    for (const list of this.free[order]!) {
      const at = list.indexOf(pfn);
      if (at >= 0) list.splice(at, 1);
    }
    return order;
  }

  add(pfn: number, order: number, type: number, tail: boolean): void {
    this.blocks.set(pfn, order);
    if (tail) this.free[order]![type]!.push(pfn);
    else this.free[order]![type]!.unshift(pfn);
  }

  /** Upper halves go to the heads of lower lists. */
  expand(pfn: number, low: number, high: number, type: number): void {
    for (let order = high - 1; order >= low; order--)
      this.add(pfn + 2 ** order, order, type, false);
  }

  /** The head of the smallest list that is not empty, split down to the order; -1 without one. */
  smallest(order: number, type: number): number {
    for (let o = order; o < this.max_order; o++) {
      const pfn = this.free[o]![type]![0];
      if (pfn === undefined) continue;
      this.remove(pfn);
      this.expand(pfn, order, o, type);
      return pfn;
    }
    return -1;
  }
}

/** A machine's zones. */
export class NaiveZones<Z extends NaiveFreeLists> {
  readonly zones: Z[];
  /** By node: zones in the order in which they are tried. */
  readonly zonelists: Z[][];

  constructor(zones: Z[], zonelists: Z[][]) {
    this.zones = zones;
    this.zonelists = zonelists;
  }

  zone_of(pfn: number): Z {
    return this.zones.find((z) => pfn >= z.start && pfn < z.end)!;
  }
}
