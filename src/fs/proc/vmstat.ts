/**
 * What all kernels print alike of mm/vmstat.c: buddyinfo, pagetypeinfo, fragmentation indexes, pagesets.
 *
 * A row a zone or a free list, numbers in columns of fixed width. Which mobility types there are, in
 * which order, and where counting ends is the kernel's; so are zoneinfo and vmstat, whose lines have
 * changed from one kernel to the next.
 * Linux: mm/vmstat.c (frag_show_print, pagetypeinfo_show*, unusable_show_print, extfrag_show_print,
 * zoneinfo_show_print's end).
 */
import { list_empty } from '../../lib/list.ts';
import { type SeqFile, thousandths } from '../../lib/seq_file.ts';
import { free_list_head } from '../../mm/buddy.ts';
import { MIGRATE_TYPES } from '../../mm/gfp.ts';
import { type Machine, pfn_valid, type Zone, zone_end_pfn } from '../../mm/mmzone.ts';
import type { nid_t } from '../../mm/page.ts';
import { get_pageblock_migratetype } from '../../mm/pageblock.ts';
import { type ContigPageInfo, fill_contig_page_info } from '../../mm/vmstat.ts';

/** How a kernel's pagetypeinfo looks. */
export interface PagetypeFormat {
  readonly names: readonly string[];
  /** The type that each name stands for. */
  readonly types: readonly number[];
  /** A list is counted so far; from there on the number has a `>` in front. */
  readonly max_counted: number;
}

/** The beginning of each row. */
export function zone_head(seq: SeqFile, nid: nid_t, name: string): SeqFile {
  return seq.puts('Node ').put_dec(nid).puts(', zone ').put_str(name, 8);
}

/** vmstat.c: frag_show_print. */
export function buddyinfo_show(seq: SeqFile, m: Machine): void {
  for (const zone of m.populated_zones) {
    zone_head(seq, zone.nid, zone.name).puts(' ');
    for (let order = 0; order < zone.nr_free.length; order++) {
      seq.put_dec(zone.nr_free[order]!, 6).puts(' ');
    }
    seq.puts('\n');
  }
}

function list_length(m: Machine, head: number, max: number): number {
  const { next } = m.memmap;
  if (list_empty(m.memmap, head)) return 0;
  let n = 0;
  for (let x = next[head]!; x !== head && n < max; x = next[x]!) n++;
  return n;
}

/** vmstat.c: pagetypeinfo_show. Walks every free list: what it prints are the lists themselves. */
export function pagetypeinfo_show(seq: SeqFile, m: Machine, format: PagetypeFormat): void {
  const { max_order, pageblock_order } = m.shape;
  const { names, types, max_counted } = format;
  for (const node of m.nodes) {
    if (node.zones.length === 0) continue;
    seq.puts('Page block order: ').put_dec(pageblock_order).puts('\n');
    seq.puts('Pages per block:  ');
    seq.put_dec(2 ** pageblock_order).puts('\n\n');
    seq.put_left('Free pages count per migrate type at order', 43).puts(' ');
    for (let order = 0; order < max_order; order++) seq.put_dec(order, 6).puts(' ');
    seq.puts('\n');
    for (const zone of node.zones) {
      for (let nr = 0; nr < types.length; nr++) {
        seq.puts('Node ').put_dec(zone.nid, 4).puts(', zone ').put_str(zone.name, 8);
        seq.puts(', type ').put_str(names[nr]!, 12).puts(' ');
        for (let order = 0; order < max_order; order++) {
          const head = free_list_head(zone, order, types[nr]!);
          const length = list_length(m, head, max_counted);
          if (length >= max_counted) seq.puts('>');
          seq.put_dec(length, 6).puts(' ');
        }
        seq.puts('\n');
      }
    }
    seq.puts('\n').put_left('Number of blocks type ', 23);
    for (const name of names) seq.put_str(name, 12).puts(' ');
    seq.puts('\n');
    for (const zone of node.zones) pageblock_counts(seq, m, zone, types);
  }
}

/** vmstat.c: pagetypeinfo_showblockcount_print. Blocks are counted by steps from the zone's start. */
function pageblock_counts(seq: SeqFile, m: Machine, zone: Zone, types: readonly number[]): void {
  const counts = new Int32Array(MIGRATE_TYPES);
  const end = zone_end_pfn(zone);
  for (let pfn = zone.zone_start_pfn; pfn < end; pfn += 2 ** m.shape.pageblock_order) {
    if (pfn_valid(m, pfn)) counts[get_pageblock_migratetype(m, zone, pfn)]!++;
  }
  zone_head(seq, zone.nid, zone.name).puts(' ');
  for (let nr = 0; nr < types.length; nr++) seq.put_dec(counts[types[nr]!]!, 12).puts(' ');
  seq.puts('\n');
}

/** An index file: a row a zone, a value for each order, its whole part `width` wide. */
export function index_show(
  seq: SeqFile,
  m: Machine,
  index: (order: number, info: ContigPageInfo) => number,
  width = 0,
): void {
  for (const zone of m.populated_zones) {
    zone_head(seq, zone.nid, zone.name).puts(' ');
    for (let order = 0; order < m.shape.max_order; order++) {
      const value = index(order, fill_contig_page_info(zone.nr_free, order));
      seq.puts(thousandths(value, width)).puts(' ');
    }
    seq.puts('\n');
  }
}

/** zoneinfo's lines of the per-CPU lists; `threshold` is the kernel's for its counters. */
export function pageset_lines(seq: SeqFile, zone: Zone, threshold: number): void {
  seq.puts('\n  pagesets');
  for (let cpu = 0; cpu < zone.pageset.length; cpu++) {
    const pcp = zone.pageset[cpu]!;
    seq.puts('\n    cpu: ').put_dec(cpu);
    seq.puts('\n              count: ').put_dec(pcp.count);
    seq.puts('\n              high:  ').put_dec(pcp.high);
    seq.puts('\n              batch: ').put_dec(pcp.batch);
    seq.puts('\n  vm stats threshold: ').put_dec(threshold);
  }
}
