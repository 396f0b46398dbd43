/** The test vectors of reference 15.2-15.6; those of 15.1 are in index_text.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CompactControl,
  compact_zone,
  compaction_deferred,
  defer_compaction,
} from '../../src/kernels/linux-2.6.35/compaction.ts';
import { __rmqueue } from '../../src/kernels/linux-2.6.35/rmqueue.ts';
import { setup_pageset, zone_watermark_ok } from '../../src/kernels/linux-2.6.35/watermark.ts';
import { list_entries } from '../../src/lib/list.ts';
import { add_to_free_list, free_list_head } from '../../src/mm/buddy.ts';
import { MIGRATE_MOVABLE, MIGRATE_UNMOVABLE } from '../../src/mm/gfp.ts';
import { PerCpuPages } from '../../src/mm/mmzone.ts';
import { SmallZone } from '../helpers/small_zone.ts';

/** A zone with nothing but these counts of free blocks. */
function zone_with(counts: Record<number, number>): SmallZone {
  const s = new SmallZone(0, 1024);
  let pages = 0;
  for (const [order, blocks] of Object.entries(counts)) {
    s.zone.nr_free[Number(order)] = blocks;
    pages += blocks * 2 ** Number(order);
  }
  s.zone.vm_stat[0] = pages;
  return s;
}

const WATERMARK: [string, Record<number, number>, number, boolean][] = [
  ['o10:20, order 9: 19969 > 11178', { 10: 20 }, 9, true],
  ['o9:30, order 9: 14849 > 11178', { 9: 30 }, 9, true],
  ['o0:100000, order 9: nothing is left without order 0', { 0: 100_000 }, 9, false],
  ['o10:11, order 9: 10753 <= 11178', { 10: 11 }, 9, false],
  ['11179 pages, order 0', { 0: 11_179 }, 0, true],
  ['11178 pages, order 0', { 0: 11_178 }, 0, false],
];
for (const [name, counts, order, ok] of WATERMARK) {
  test(`15.2: ${name}`, () => {
    assert.equal(zone_watermark_ok(zone_with(counts).zone, order, 11178, 0, 0), ok);
  });
}

test('15.3: deferral when every attempt fails', () => {
  const { zone } = new SmallZone(0, 1024);
  let sequence = '';
  while (sequence.length < 300) {
    const deferred = compaction_deferred(zone);
    sequence += deferred ? 'S' : 'T';
    if (!deferred) defer_compaction(zone);
  }
  const skips = [1, 3, 7, 15, 31, 63, 63, 63];
  assert.ok(sequence.startsWith('T' + skips.map((n) => 'S'.repeat(n) + 'T').join('')));
});

for (const [pageblock_order, threshold] of [
  [8, 4],
  [9, 4],
  [10, 5],
  [12, 6],
] as const) {
  test(`15.4: a block of order ${threshold} brings its pageblock along, order ${pageblock_order}`, () => {
    for (const order of [threshold - 1, threshold]) {
      const s = new SmallZone(0, 2 ** 13, { pageblock_order, max_order: pageblock_order + 1 });
      // One free block of another type and, elsewhere in its pageblock, a free page.
      add_to_free_list(s.m, s.zone, 1024, order, MIGRATE_UNMOVABLE);
      add_to_free_list(s.m, s.zone, 1024 + 2 ** (order + 1), 0, MIGRATE_UNMOVABLE);
      assert.equal(__rmqueue(s.m, s.zone, 0, MIGRATE_MOVABLE), 1024);
      const stolen = order === threshold;
      const list = (type: number): number[] =>
        list_entries(s.m.memmap, free_list_head(s.zone, 0, type));
      const rest = stolen ? MIGRATE_MOVABLE : MIGRATE_UNMOVABLE;
      assert.deepEqual(list(rest), [1024 + 1, 1024 + 2 ** (order + 1)]);
      assert.deepEqual(list(rest === MIGRATE_MOVABLE ? MIGRATE_UNMOVABLE : MIGRATE_MOVABLE), []);
    }
  });
}

for (const [present, shift, batch, high] of [
  [3942, 12, 1, 0],
  [221486, 12, 31, 186],
  [32740, 16, 1, 6],
  [65536, 12, 15, 90],
] as const) {
  test(`15.5: ${present} pages of 2^${shift} bytes`, () => {
    const s = new SmallZone(0, 1024, { page_shift: shift });
    s.zone.present_pages = present;
    const pcp = new PerCpuPages(0, 3);
    setup_pageset(s.m, s.zone, pcp);
    assert.deepEqual([pcp.batch, pcp.high], [batch, high]);
  });
}

for (const [low, end] of [
  [1024, 1536],
  [1100, 2048],
  [1536, 2048],
] as const) {
  test(`15.6: the migrate scanner goes from ${low} to ${end} in one step`, () => {
    const s = new SmallZone(low, 8192 - low);
    const cc = new CompactControl(s.zone, -1, MIGRATE_UNMOVABLE);
    const job = compact_zone(s.m, s.zone, cc);
    job.next();
    assert.equal(cc.migrate_pfn, low);
    job.next();
    assert.equal(cc.migrate_pfn, end);
  });
}

test('15.6: a window that reaches above the free scanner is skipped', () => {
  const s = new SmallZone(1024, 1024);
  s.lru(1024 + 512, 2048);
  const cc = new CompactControl(s.zone, -1, MIGRATE_UNMOVABLE);
  const job = compact_zone(s.m, s.zone, cc);
  job.next();
  cc.migrate_pfn = 1537;
  job.next();
  assert.equal(cc.migrate_pfn, 2560);
  assert.equal(cc.nr_migratepages, 0);
});
