/**
 * Explicit compaction of one zone once more, move by move, over JavaScript maps: written from the
 * reference document, 4.1, 6.1-6.9 and 7.3-7.8 with C1, on top of the naive allocator.
 *
 * A page here is what decides its fate: which LRU list it is on, how many references it has, and
 * whether somebody else holds one (then every attempt ends in "try again"). Nothing about processes:
 * that a move keeps the contents and the mappings is for others to check.
 */
import type { NaiveAllocator, NaiveZone } from './naive_allocator.ts';

const CLUSTER = 32;
const VECTOR = 14;

export interface NaivePage {
  /** On an LRU list (0..3; 4 unevictable), or -1. */
  lru: number;
  active: boolean;
  file: boolean;
  mlocked: boolean;
  refs: number;
  /** Somebody holds a reference that migration cannot account for. */
  pinned: boolean;
}

export class NaiveCompaction {
  readonly alloc: NaiveAllocator;
  /** All pages that are, or may get, on LRU lists. */
  readonly pages: Map<number, NaivePage>;
  /** The CPU's vectors, by LRU list. */
  readonly vectors: number[][] = [[], [], [], []];
  readonly cpu: number;
  /** [old, new] in order. */
  readonly moves: [number, number][] = [];
  batches = 0;
  isolated = 0;

  private zone!: NaiveZone;
  private migrate_pfn = 0;
  private free_pfn = 0;
  /** Head first. */
  private freepages: number[] = [];
  private migratepages: number[] = [];

  constructor(alloc: NaiveAllocator, pages: Map<number, NaivePage>, cpu: number) {
    this.alloc = alloc;
    this.pages = pages;
    this.cpu = cpu;
  }

  // 7.10, 7.3
  compact_zone(zone: NaiveZone): void {
    this.zone = zone;
    this.migrate_pfn = zone.start;
    this.free_pfn = Math.floor(zone.end / zone.block()) * zone.block();
    this.freepages = [];
    this.drain_vectors();
    while (this.free_pfn > this.migrate_pfn) {
      this.isolate_migratepages();
      if (this.migratepages.length === 0) continue;
      this.batches++;
      this.isolated += this.migratepages.length;
      this.migrate_pages(this.migratepages.length);
    }
    for (const pfn of this.freepages) this.put_page(pfn);
    this.freepages = [];
  }

  drain_vectors(): void {
    for (let lru = 0; lru < this.vectors.length; lru++) this.flush(lru);
  }

  // 7.6
  private isolate_migratepages(): void {
    this.migratepages = [];
    const block = this.zone.block();
    let pfn = Math.max(this.migrate_pfn, this.zone.start);
    const end = Math.ceil((pfn + block) / block) * block;
    if (end > this.free_pfn) {
      this.migrate_pfn = end;
      return;
    }
    for (; pfn < end; pfn++) {
      const page = this.pages.get(pfn);
      if (page === undefined || page.lru < 0 || page.lru > 3) continue;
      page.refs++;
      page.lru = -1;
      this.migratepages.unshift(pfn);
      if (this.migratepages.length === CLUSTER) break;
    }
    this.migrate_pfn = pfn;
  }

  // 7.8
  private isolate_freepages(nr_migratepages: number): void {
    const block = this.zone.block();
    const low = this.migrate_pfn + block;
    let high = low;
    for (let pfn = this.free_pfn; pfn > low; pfn -= block) {
      if (nr_migratepages <= this.freepages.length) break;
      if (pfn < this.zone.start || pfn >= this.zone.end) continue;
      const type = this.zone.type_of(pfn);
      if (type === 3 || type === 4) continue;
      const order = this.zone.blocks.get(pfn) ?? -1;
      if (order < this.zone.s.pageblock_order && type !== 2) continue;
      let taken = 0;
      const end = Math.min(pfn + block, this.zone.end);
      for (let p = pfn; p < end; ) {
        const n = this.zone.blocks.has(p) ? this.zone.split_free_page(p) : 0;
        for (let i = 0; i < n; i++) {
          this.freepages.unshift(p + i);
          const fresh = { active: false, file: true, mlocked: false, refs: 1, pinned: false };
          this.pages.set(p + i, { lru: -1, ...fresh });
        }
        taken += n;
        p += Math.max(1, n);
      }
      if (taken > 0) high = Math.max(high, pfn);
    }
    this.free_pfn = high;
  }

  // 6.1
  private migrate_pages(batch: number): void {
    let again = true;
    let out_of_targets = false;
    for (let pass = 0; pass < 10 && again && !out_of_targets; pass++) {
      again = false;
      for (const pfn of [...this.migratepages]) {
        // 7.7
        if (this.freepages.length === 0) this.isolate_freepages(batch);
        const target = this.freepages.shift();
        if (target === undefined) {
          out_of_targets = true;
          break;
        }
        if (this.try_to_move(pfn, target)) {
          this.migratepages = this.migratepages.filter((p) => p !== pfn);
          this.putback(pfn);
        } else {
          again = true;
        }
        this.putback(target);
      }
    }
    // 6.9
    for (const pfn of this.migratepages) this.putback(pfn);
    this.migratepages = [];
  }

  // 6.2-6.8: true when the page is done with.
  private try_to_move(old: number, target: number): boolean {
    const from = this.pages.get(old)!;
    const to = this.pages.get(target)!;
    to.file = from.file;
    if (from.pinned) return false;
    to.active = from.active;
    to.mlocked = from.mlocked;
    to.refs += from.refs - 1;
    from.active = false;
    from.mlocked = false;
    from.refs = 1;
    this.moves.push([old, target]);
    return true;
  }

  // 4.1
  private putback(pfn: number): void {
    const page = this.pages.get(pfn)!;
    const lru = (page.file ? 2 : 0) + (page.active ? 1 : 0);
    page.active = false;
    if (page.mlocked) {
      page.lru = 4;
    } else {
      page.refs++;
      this.vectors[lru]!.push(pfn);
      if (this.vectors[lru]!.length === VECTOR) this.flush(lru);
    }
    this.put_page(pfn);
  }

  /** The vector's pages get on their list; those that have no other reference are freed. */
  private flush(lru: number): void {
    const batch = this.vectors[lru]!;
    this.vectors[lru] = [];
    for (const pfn of batch) {
      this.pages.get(pfn)!.lru = lru;
      this.pages.get(pfn)!.active = lru === 1 || lru === 3;
    }
    const to_free: number[] = [];
    for (const pfn of batch) {
      const page = this.pages.get(pfn)!;
      page.refs--;
      if (page.refs === 0) to_free.unshift(pfn);
    }
    for (const pfn of to_free) this.free(pfn);
  }

  private put_page(pfn: number): void {
    const page = this.pages.get(pfn)!;
    page.refs--;
    if (page.refs === 0) this.free(pfn);
  }

  private free(pfn: number): void {
    this.pages.delete(pfn);
    this.alloc.free(this.cpu, pfn, 0, false);
  }
}
