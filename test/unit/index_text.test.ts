/** The index formulas by the vectors of reference 15.1, and what is not buddyinfo text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { thousandths } from '../../src/lib/seq_file.ts';
import { fragmentation_index } from '../../src/mm/vmstat.ts';
import { index_rows } from '../../src/sim/index_text.ts';
import { SmallZone } from '../helpers/small_zone.ts';
import { Random } from '../model/random.ts';
import { naive_extfrag, naive_print, naive_unusable } from '../oracle/naive_index.ts';

/** A buddyinfo row of 11 orders from {order: count}. */
function row(counts: Record<number, number>): string {
  let text = 'Node 0, zone   Normal ';
  for (let o = 0; o < 11; o++) text += String(counts[o] ?? 0).padStart(6) + ' ';
  return text + '\n';
}

function values(text: string, kind: 'unusable' | 'extfrag'): string[] {
  const result = index_rows(text, kind);
  assert.ok('rows' in result);
  return result.rows.slice('Node 0, zone   Normal '.length).trimEnd().split(' ');
}

const times = <T>(n: number, v: T): T[] => Array.from({ length: n }, () => v);

const VECTORS: [string, Record<number, number>, string[], number[]][] = [
  [
    'o0:1000',
    { 0: 1000 },
    ['0.000', ...times(10, '1.000')],
    [-1000, 499, 749, 874, 937, 968, 984, 992, 996, 998, 999],
  ],
  ['o8:1', { 8: 1 }, [...times(9, '0.000'), '1.000', '1.000'], [...times(9, -1000), -500, -250]],
  ['o8:2', { 8: 2 }, [...times(9, '0.000'), '1.000', '1.000'], [...times(9, -1000), 0, 250]],
  ['none', {}, times(11, '1.000'), times(11, 0)],
  [
    'o0:10',
    { 0: 10 },
    ['0.000', ...times(10, '1.000')],
    [-1000, 400, 650, 775, 838, 869, 885, 893, 897, 899, 900],
  ],
  [
    'o3:3',
    { 3: 3 },
    [...times(4, '0.000'), ...times(7, '1.000')],
    [...times(4, -1000), 167, 417, 542, 605, 636, 652, 659],
  ],
  [
    'o0:4, o3:2',
    { 0: 4, 3: 2 },
    ['0.000', ...times(3, '0.200'), ...times(7, '1.000')],
    [...times(4, -1000), 625, 730, 782, 808, 821, 827, 831],
  ],
  [
    'o0:1',
    { 0: 1 },
    ['0.000', ...times(10, '1.000')],
    [-1000, -500, -250, -125, -62, -31, -15, -7, -3, -1, 0],
  ],
  [
    'o0:812 … o6:1',
    { 0: 812, 1: 301, 2: 95, 3: 40, 4: 12, 5: 3, 6: 1 },
    ['0.000', '0.329', '0.573', '0.727', '0.857', '0.935', '0.974', ...times(4, '1.000')],
    [...times(7, -1000), 984, 992, 996, 998],
  ],
];

for (const [name, counts, unusable, extfrag] of VECTORS) {
  test(`15.1: ${name}`, () => {
    assert.deepEqual(values(row(counts), 'unusable'), unusable);
    assert.deepEqual(
      values(row(counts), 'extfrag'),
      extfrag.map((v) => thousandths(v)),
    );
  });
}

test('15.1: at order 9 and threshold 500 the index lets five of the rows compact', () => {
  const passes = VECTORS.filter(([, , , extfrag]) => extfrag[9]! > 500).map(([name]) => name);
  for (const [name, counts] of VECTORS) {
    const { zone } = new SmallZone(1024, 4096);
    zone.nr_free.fill(0);
    for (const [order, count] of Object.entries(counts)) zone.nr_free[Number(order)] = count;
    const index = fragmentation_index(zone, 9);
    assert.equal(index > 500, passes.includes(name), `${name}: ${index}`);
  }
  assert.deepEqual(passes, ['o0:1000', 'o0:10', 'o3:3', 'o0:4, o3:2', 'o0:812 … o6:1']);
});

test('8.4: C truncates both parts toward zero', () => {
  const texts: [number, string][] = [
    [0, '0.000'],
    [37, '0.037'],
    [954, '0.954'],
    [1000, '1.000'],
    [-1000, '-1.000'],
    [-500, '0.-500'],
    [-62, '0.-62'],
    [-7, '0.-07'],
    [-1, '0.-01'],
  ];
  for (const [v, text] of texts) assert.equal(thousandths(v), text);
  assert.equal(thousandths(5, 2), ' 0.005');
  assert.equal(thousandths(984, 2), ' 0.984');
  assert.equal(thousandths(-1000, 2), '-1.000');
});

test('any node number, zone name, number of orders and spacing', () => {
  const text =
    'Node 255, zone  Movable  1\n\n  Node 3 ,zone Device   0 0 0 0 0 0 0 0 0 0 0 0 7  \r\n' +
    'Node 0, zone ALongZoneName 4294967296 0 1\n';
  assert.deepEqual(index_rows(text, 'unusable'), {
    rows:
      'Node 255, zone  Movable 0.000 \n' +
      `Node 3, zone   Device ${'0.000 '.repeat(13)}\n` +
      'Node 0, zone ALongZoneName 0.000 0.999 0.999 \n',
  });
});

test('what is not buddyinfo text gives one line with its number', () => {
  const bad: [string, string][] = [
    ['', 'line 1: '],
    ['Node 0, zone DMA 1 2\nNode 0, zone DMA 1 x 2\n', 'line 2: '],
    ['Node 0, zone DMA\n', 'line 1: '],
    ['Node 0, zone DMA 1 -2\n', 'line 1: '],
    ['\n\nhello\n', 'line 3: '],
    ['Node 0, zone DMA 99999999999999999999\n', 'line 1: '],
  ];
  for (const [text, start] of bad) {
    const result = index_rows(text, 'extfrag');
    assert.ok('error' in result);
    assert.ok(result.error.startsWith(start), result.error);
    assert.equal(result.error.includes('\n'), false);
  }
});

test('random rows, from empty to huge zones, against the naive formulas', () => {
  const random = new Random(20100801);
  for (let i = 0; i < 20_000; i++) {
    const orders = random.pick([1, 9, 11, 11, 11, 13, 20]);
    const most = random.pick([1, 3, 50, 10_000, 2 ** 22]);
    const nr_free = Array.from({ length: orders }, () =>
      random.one_in(random.pick([1, 2, 4])) ? random.below(most) : 0,
    );
    const text = `Node 1, zone Normal ${nr_free.join(' ')}\n`;
    const expected = (index: typeof naive_unusable): string =>
      `Node 1, zone   Normal ${nr_free.map((_, o) => `${naive_print(index(nr_free, o))} `).join('')}\n`;
    assert.deepEqual(index_rows(text, 'unusable'), { rows: expected(naive_unusable) }, text);
    assert.deepEqual(index_rows(text, 'extfrag'), { rows: expected(naive_extfrag) }, text);
  }
});
