/**
 * Checks recorded index rows against those that the buddyinfo row beside them gives.
 *
 * Two schemas: {buddyinfo, unusable_index, extfrag_index}, whole files of a 2.6.35 machine that were
 * read one after the other, so that only the zone which the record is named for (`n4`: node 4;
 * `dma`: zone DMA) is sure to be the same in all three; and {nr, buddyinfo, unusable, extfrag}, the
 * rows of one zone of a 6.1 machine. One record is one check.
 */
import type { KernelProfile, Shape } from '../mm/mmzone.ts';
import {
  type BuddyinfoRow,
  type ExtfragWidth,
  parse_buddyinfo_row,
  print_index_row,
} from './index_text.ts';
import type { Tally } from './replay.ts';

/** True for a record of either schema. */
export function is_index_record(r: Record<string, unknown>): boolean {
  if (typeof r['buddyinfo'] !== 'string') return false;
  return (
    (typeof r['unusable_index'] === 'string' && typeof r['extfrag_index'] === 'string') ||
    (typeof r['unusable'] === 'string' && typeof r['extfrag'] === 'string')
  );
}

export function verify_index(
  records: readonly Record<string, unknown>[],
  _kernel: KernelProfile,
  _shape: Shape,
  tally: Tally,
): void {
  for (let i = 0; i < records.length; i++) {
    const r = records[i]!;
    const label = `record ${i + 1}`;
    if (!is_index_record(r)) tally.fail(label, 'not a record of index rows');
    else if (typeof r['unusable_index'] === 'string') tally.check(label, check_files(r));
    else tally.check(label, check_row(r));
  }
}

/** Does the record vouch for this row? By its name; a name that says nothing means every row. */
function vouches_for(name: unknown, row: BuddyinfoRow): boolean {
  if (typeof name !== 'string') return true;
  const node = /^n(\d+)$/.exec(name);
  if (node !== null) return row.nid === Number(node[1]);
  if (/^(dma|dma32|normal|highmem|movable)$/i.test(name)) {
    return row.zone.toLowerCase() === name.toLowerCase();
  }
  return true;
}

function check_files(r: Record<string, unknown>): string | null {
  const split = (key: string): string[] =>
    (r[key] as string).split('\n').filter((line) => line !== '');
  const buddyinfo = split('buddyinfo');
  const unusable = split('unusable_index');
  const extfrag = split('extfrag_index');
  let checked = 0;
  for (let i = 0; i < buddyinfo.length; i++) {
    const row = parse_buddyinfo_row(buddyinfo[i]!);
    if (typeof row === 'string') return `buddyinfo line ${i + 1}: ${row}`;
    if (!vouches_for(r['name'], row)) continue;
    checked++;
    const diff = diff_rows(row, unusable[i], extfrag[i], 0);
    if (diff !== null) return diff;
  }
  return checked === 0 ? 'no row of the zone that the record is named for' : null;
}

function check_row(r: Record<string, unknown>): string | null {
  const row = parse_buddyinfo_row(r['buddyinfo'] as string);
  if (typeof row === 'string') return `buddyinfo: ${row}`;
  const nr = r['nr'];
  if (Array.isArray(nr) && nr.join() !== row.nr_free.join()) {
    return `buddyinfo: recorded counts ${nr.join(' ')}, the row has ${row.nr_free.join(' ')}`;
  }
  return diff_rows(row, r['unusable'] as string, r['extfrag'] as string, 2);
}

function diff_rows(
  row: BuddyinfoRow,
  unusable: string | undefined,
  extfrag: string | undefined,
  width: ExtfragWidth,
): string | null {
  const our_unusable = print_index_row(row.nid, row.zone, row.nr_free, 'unusable');
  if (unusable !== our_unusable) {
    return `unusable_index: recorded '${unusable}', ours '${our_unusable}'`;
  }
  const our_extfrag = print_index_row(row.nid, row.zone, row.nr_free, 'extfrag', width);
  if (extfrag !== our_extfrag) return `extfrag_index: recorded '${extfrag}', ours '${our_extfrag}'`;
  return null;
}
