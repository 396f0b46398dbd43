/**
 * What experiments measure: the machine's own files, read from inside, and a map of its page blocks.
 */
import { SeqFile } from '../lib/seq_file.ts';
import { type Machine, pfn_valid, zone_end_pfn } from '../mm/mmzone.ts';
import { PageAnon } from '../mm/page.ts';
import { PG_buddy, PG_head, PG_lru, PG_reserved, PG_slab } from '../mm/page_flags.ts';
import { get_pageblock_migratetype } from '../mm/pageblock.ts';

/** The text of a file that is there once, such as /proc/vmstat. */
export function read_text(m: Machine, path: string): string {
  const row = m.kernel.files.find((r) => r.path === path);
  if (row?.show === undefined) throw new RangeError(`no file ${path} on this machine`);
  const seq = new SeqFile();
  const caller = { uid: 0, gid: 0, pid: 1 };
  row.show(seq, m, { id: -1, object: null, caller, pos: 0, data: null });
  return seq.text();
}

/** /proc/vmstat by name. */
export function vmstat_snapshot(m: Machine): Record<string, number> {
  const values: Record<string, number> = {};
  for (const line of read_text(m, '/proc/vmstat').split('\n')) {
    const at = line.indexOf(' ');
    if (at > 0) values[line.slice(0, at)] = Number(line.slice(at + 1));
  }
  return values;
}

/** The counters of a step, from sums over /proc/vmstat's names. */
export const COUNTERS: Readonly<Record<string, RegExp>> = {
  steals: /^pgsteal_/,
  kswapd_steals: /^kswapd_steal$/,
  inode_steals: /^(kswapd_|pg)inodesteal$/,
  scanned_kswapd: /^pgscan_kswapd_/,
  scanned_direct: /^pgscan_direct_/,
  slabs_scanned: /^slabs_scanned$/,
  direct_reclaims: /^allocstall$/,
  compact_stall: /^compact_stall$/,
  compact_success: /^compact_success$/,
  compact_fail: /^compact_fail$/,
  pages_moved: /^compact_pages_moved$/,
  swapped_out: /^pswpout$/,
  swapped_in: /^pswpin$/,
  allocations: /^pgalloc_/,
  faults: /^pgfault$/,
};

/** What changed between two snapshots, by COUNTERS; `direct_steals` are those not of kswapd. */
export function counters_between(
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
): Record<string, number> {
  const changes: Record<string, number> = {};
  for (const [name, pattern] of Object.entries(COUNTERS)) {
    let sum = 0;
    for (const key in after) {
      if (pattern.test(key)) sum += after[key]! - (before[key] ?? 0);
    }
    changes[name] = sum;
  }
  changes['direct_steals'] = changes['steals']! - changes['kswapd_steals']!;
  return changes;
}

/** Free blocks of each order, all zones together. */
export function free_blocks(m: Machine): number[] {
  const free = new Array<number>(m.shape.max_order).fill(0);
  for (const zone of m.populated_zones) {
    for (let order = 0; order < free.length; order++) free[order]! += zone.nr_free[order]!;
  }
  return free;
}

/**
 * One letter for each page block that has memory. What keeps a block from being one huge page comes
 * first: u memory of the kernel, a anonymous memory, c page cache; H: a huge page, f: free, r:
 * reserved since boot. Capitals U, A, C when it fills a quarter of the block at least.
 */
export function block_map(m: Machine): string {
  const p = m.memmap;
  const size = 2 ** m.shape.pageblock_order;
  let map = '';
  for (const zone of m.populated_zones) {
    const end = zone_end_pfn(zone);
    const first = zone.zone_start_pfn - (zone.zone_start_pfn % size);
    // A free block may be larger than a page block: only its first frame says so.
    let free_until = 0;
    for (let block = first; block < end; block += size) {
      let kernel = 0;
      let anon = 0;
      let cache = 0;
      let huge = false;
      let free = free_until > block ? size : 0;
      const last = Math.min(block + size, end);
      for (let pfn = Math.max(block, zone.zone_start_pfn, free_until); pfn < last; pfn++) {
        if (!pfn_valid(m, pfn)) continue;
        const flags = p.flags[pfn]!;
        if ((flags & PG_reserved) !== 0) continue;
        if ((flags & PG_buddy) !== 0) {
          const pages = 2 ** p.private_[pfn]!;
          free += pages;
          free_until = pfn + pages;
          pfn = free_until - 1;
        } else if ((flags & PG_head) !== 0 && (flags & PG_slab) === 0 && pfn % size === 0) {
          huge = true;
          break;
        } else if ((flags & PG_slab) !== 0) kernel++;
        else if (PageAnon(p, pfn)) anon++;
        else if ((flags & PG_lru) !== 0) cache++;
        else if (p._count[pfn] !== 0) kernel++;
      }
      map += letter(huge, kernel, anon, cache, free, size / 4);
    }
  }
  return map;
}

function letter(
  huge: boolean,
  kernel: number,
  anon: number,
  cache: number,
  free: number,
  much: number,
): string {
  if (huge) return 'H';
  if (kernel > 0) return kernel >= much ? 'U' : 'u';
  if (anon > 0) return anon >= much ? 'A' : 'a';
  if (cache > 0) return cache >= much ? 'C' : 'c';
  return free > 0 ? 'f' : 'r';
}

/** The type of each page block, in block_map's order: Unmovable, Reclaimable, Movable, reserVe, I. */
export function block_types(m: Machine): string {
  const size = 2 ** m.shape.pageblock_order;
  let types = '';
  for (const zone of m.populated_zones) {
    const first = zone.zone_start_pfn - (zone.zone_start_pfn % size);
    for (let block = first; block < zone_end_pfn(zone); block += size) {
      const pfn = Math.max(block, zone.zone_start_pfn);
      types += 'URMVI'.charAt(get_pageblock_migratetype(m, zone, pfn));
    }
  }
  return types;
}
