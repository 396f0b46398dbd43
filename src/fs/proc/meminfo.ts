/**
 * What all kernels print alike in /proc/meminfo and nodeN/meminfo: lines, their units, common parts.
 *
 * Every line is a label of a fixed width and a number of KiB. Which lines there are and in which order
 * is the kernels' own meminfo.ts and node.ts; the lines of the LRU lists and of huge pages have stood
 * in a row, unchanged, in both.
 * Linux: fs/proc/meminfo.c, drivers/base/node.c (node_read_meminfo), mm/hugetlb.c
 * (hugetlb_report_meminfo, hugetlb_report_node_meminfo), fs/block_dev.c (nr_blockdev_pages).
 */
import type { SeqFile } from '../../lib/seq_file.ts';
import { def_blk_aops } from '../../mm/buffer.ts';
import { default_hstate, hugetlb_total_pages } from '../../mm/hugetlb_def.ts';
import type { Machine } from '../../mm/mmzone.ts';
import type { nid_t } from '../../mm/page.ts';
import {
  NR_ACTIVE_ANON,
  NR_ACTIVE_FILE,
  NR_INACTIVE_ANON,
  NR_INACTIVE_FILE,
  NR_MLOCK,
  NR_UNEVICTABLE,
} from '../../mm/vmstat.ts';

/** Label, colon and blanks are this wide; the number follows in 8 columns. */
const LABEL_WIDTH = 16;

/** What `pages` pages are in KiB. */
export function pages_kb(m: Machine, pages: number): number {
  return pages * 2 ** (m.shape.page_shift - 10);
}

/** One line: `{label:}{value:>8} kB`. */
export function kb_line(seq: SeqFile, label: string, kb: number): void {
  seq
    .put_left(label + ':', LABEL_WIDTH)
    .put_dec(kb, 8)
    .puts(' kB\n');
}

/** Pages in the page cache of block devices: metadata of file systems (fs/block_dev.c, later block/bdev.c). */
export function nr_blockdev_pages(m: Machine): number {
  let pages = 0;
  for (const mapping of m.mappings.all()) {
    if (mapping.a_ops === def_blk_aops) pages += mapping.nrpages;
  }
  return pages;
}

/** The lines of the LRU lists and of locked pages; `kb` prints a line, `pages` counts an item. */
export function lru_lines(
  kb: (label: string, nr_pages: number) => void,
  pages: (item: number) => number,
): void {
  kb('Active', pages(NR_ACTIVE_ANON) + pages(NR_ACTIVE_FILE));
  kb('Inactive', pages(NR_INACTIVE_ANON) + pages(NR_INACTIVE_FILE));
  kb('Active(anon)', pages(NR_ACTIVE_ANON));
  kb('Inactive(anon)', pages(NR_INACTIVE_ANON));
  kb('Active(file)', pages(NR_ACTIVE_FILE));
  kb('Inactive(file)', pages(NR_INACTIVE_FILE));
  kb('Unevictable', pages(NR_UNEVICTABLE));
  kb('Mlocked', pages(NR_MLOCK));
}

/** Pages that may be promised while overcommit is forbidden (CommitLimit). */
export function commit_limit(m: Machine): number {
  const ratio = m.sysctl['overcommit_ratio'] ?? 50;
  const pages = m.totalram_pages - hugetlb_total_pages(m);
  return Math.floor((pages * ratio) / 100) + m.total_swap_pages;
}

/** The pool of the default size, in pages of that size. */
export function huge_page_lines(seq: SeqFile, m: Machine): void {
  const h = default_hstate(m);
  seq
    .put_left('HugePages_Total:', 19)
    .put_dec(h?.nr_huge_pages ?? 0, 5)
    .puts('\n');
  seq
    .put_left('HugePages_Free:', 19)
    .put_dec(h?.free_huge_pages ?? 0, 5)
    .puts('\n');
  seq
    .put_left('HugePages_Rsvd:', 19)
    .put_dec(h?.resv_huge_pages ?? 0, 5)
    .puts('\n');
  seq
    .put_left('HugePages_Surp:', 19)
    .put_dec(h?.surplus_huge_pages ?? 0, 5)
    .puts('\n');
}

/** The same of one node; promises are the machine's. */
export function node_huge_page_lines(seq: SeqFile, m: Machine, nid: nid_t): void {
  const h = default_hstate(m);
  const line = (label: string, by_node: Int32Array | undefined): void => {
    seq.puts('Node ').put_dec(nid).puts(' ').put_left(label, 17);
    seq.put_dec(by_node?.[nid] ?? 0, 5).puts('\n');
  };
  line('HugePages_Total:', h?.nr_huge_pages_node);
  line('HugePages_Free:', h?.free_huge_pages_node);
  line('HugePages_Surp:', h?.surplus_huge_pages_node);
}
