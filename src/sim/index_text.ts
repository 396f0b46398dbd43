/**
 * The fragmentation index files from any /proc/buddyinfo text, byte for byte as debugfs prints them.
 *
 * Reads rows `Node N, zone NAME count...` with any number of rows and orders, of any kernel, and
 * prints for each zone what extfrag/unusable_index or extfrag/extfrag_index would show in the same
 * state. The formulas are those of src/mm/vmstat.ts.
 * Linux: mm/vmstat.c (unusable_show_print, extfrag_show_print). Differs: a row needs no machine
 * behind it. Numbers are doubles; they are exact up to 2^53 / 1000 free pages (34 PiB of 4 KiB
 * pages), and more than that is refused. 2.6.35 prints both files with `%d.%03d`, 6.x the
 * extfrag_index with `%2d.%03d`: that is the only difference between kernels.
 */
import { thousandths } from '../lib/seq_file.ts';
import { __fragmentation_index, fill_contig_page_info, unusable_free_index } from '../mm/vmstat.ts';

export type IndexKind = 'unusable' | 'extfrag';

/** Columns of the whole part in extfrag_index: 0 in 2.6.35 (`%d`), 2 in 6.x (`%2d`). */
export type ExtfragWidth = 0 | 2;

/** One row of /proc/buddyinfo. */
export interface BuddyinfoRow {
  nid: number;
  zone: string;
  /** Free blocks by order. */
  nr_free: number[];
}

/** Above this many free pages thousandths are no longer exact. */
const MAX_PAGES = Math.floor(Number.MAX_SAFE_INTEGER / 1000);

const ROW = /^\s*Node\s+(\d+)\s*,\s*zone\s+(\S+)((?:\s+\d+)*)\s*$/;

/** `Node {nid}, zone {name:>8} `: how each row of buddyinfo and of the index files begins. */
export function print_row_head(nid: number, zone: string): string {
  return 'Node ' + nid + ', zone ' + zone.padStart(8) + ' ';
}

/** One row of an index file without its newline; `nr_free` counts blocks by order. */
export function print_index_row(
  nid: number,
  zone: string,
  nr_free: ArrayLike<number>,
  kind: IndexKind,
  width: ExtfragWidth = 0,
): string {
  let row = print_row_head(nid, zone);
  for (let order = 0; order < nr_free.length; order++) {
    const info = fill_contig_page_info(nr_free, order);
    row +=
      kind === 'unusable'
        ? thousandths(unusable_free_index(order, info)) + ' '
        : thousandths(__fragmentation_index(order, info), width) + ' ';
  }
  return row;
}

/** One line of buddyinfo text; a string that says what is wrong with it if it is not one. */
export function parse_buddyinfo_row(line: string): BuddyinfoRow | string {
  const match = ROW.exec(line);
  if (match === null) return "expected 'Node N, zone NAME' and a number of free blocks per order";
  const nr_free = match[3]!.trim() === '' ? [] : match[3]!.trim().split(/\s+/).map(Number);
  if (nr_free.length === 0) return 'the row has no counts of free blocks';
  let pages = 0;
  for (let order = 0; order < nr_free.length; order++) {
    if (nr_free[order]! !== 0) pages += nr_free[order]! * 2 ** order;
  }
  if (!(pages <= MAX_PAGES)) return 'the counts add up to more pages than any machine has';
  return { nid: Number(match[1]), zone: match[2]!, nr_free };
}

/**
 * The rows that debugfs' extfrag/{kind}_index shows for the state in `text`, each with its newline.
 * Empty lines are skipped. `error` is one line that names the line number. `width`: see
 * ExtfragWidth. Linux: vmstat.c, extfrag_debug_init's files.
 */
export function index_rows(
  text: string,
  kind: IndexKind,
  width: ExtfragWidth = 0,
): { rows: string } | { error: string } {
  const lines = text.split('\n');
  let rows = '';
  for (let i = 0; i < lines.length; i++) {
    if (lines[i]!.trim() === '') continue;
    const row = parse_buddyinfo_row(lines[i]!);
    if (typeof row === 'string') return { error: 'line ' + (i + 1) + ': ' + row };
    rows += print_index_row(row.nid, row.zone, row.nr_free, kind, width) + '\n';
  }
  if (rows === '') return { error: 'line 1: no rows: expected the text of /proc/buddyinfo' };
  return { rows };
}
