/** index_rows against every recorded buddyinfo text that has its index texts beside it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { index_rows } from '../../src/sim/index_text.ts';
import { read_records, read_text } from './recordings.ts';

function rows(text: string, kind: 'unusable' | 'extfrag', width: 0 | 2 = 0): string {
  const result = index_rows(text, kind, width);
  assert.ok('rows' in result, 'error' in result ? result.error : '');
  return result.rows;
}

test('2.6.35: the zone that each recorded state vouches for, both files', () => {
  for (const [file, zone] of [
    ['dma', 'Node 0, zone      DMA '],
    ['n4', 'Node 4, zone    DMA32 '],
  ]) {
    const records = read_records(`linux-2.6.35/index/${file}.jsonl.gz`);
    assert.ok(records.length >= 60);
    for (const r of records) {
      const of_zone = (text: string): string => text.split('\n').find((l) => l.startsWith(zone!))!;
      assert.equal(of_zone(rows(r.buddyinfo, 'unusable')), of_zone(r.unusable_index));
      assert.equal(of_zone(rows(r.buddyinfo, 'extfrag')), of_zone(r.extfrag_index));
    }
  }
});

test('6.1: every distinct state, both files', () => {
  const records = read_records('debian-6.1/g2-index.jsonl.gz');
  assert.ok(records.length > 100);
  for (const r of records) {
    assert.equal(rows(r.buddyinfo, 'unusable'), `${r.unusable}\n`);
    assert.equal(rows(r.buddyinfo, 'extfrag', 2), `${r.extfrag}\n`);
  }
});

test('6.18: a fragmented machine, whole files', () => {
  const text = read_text('host-6.18/fragmented_buddyinfo');
  assert.equal(rows(text, 'unusable'), read_text('host-6.18/fragmented_extfrag_unusable_index'));
  assert.equal(rows(text, 'extfrag', 2), read_text('host-6.18/fragmented_extfrag_extfrag_index'));
});
