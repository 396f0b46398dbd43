/** Statistics over seeds against values worked out by hand and by tables of the rank sum test. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deviation, differs, mean, median, rank_sum } from '../../src/sim/statistics.ts';

test('mean, deviation, median', () => {
  assert.equal(mean([1, 2, 6]), 3);
  assert.equal(deviation([2, 4, 4, 4, 5, 5, 7, 9]).toFixed(4), '2.1381');
  assert.equal(deviation([5]), 0);
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([4, 1, 3, 2]), 2);
});

test('rank sum: by hand', () => {
  // Of the 20 ways to deal six ranks, two are as extreme as three below three.
  assert.equal(rank_sum([1, 2, 3], [4, 5, 6]), 2 / 20);
  // Five below five: 2 of 252.
  assert.equal(rank_sum([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), 2 / 252);
  // One swapped: rank sums 16 and 24 among others, 1 + 1 of each side more extreme.
  assert.equal(rank_sum([1, 2, 3, 4, 6], [5, 7, 8, 9, 10]), 4 / 252);
  assert.equal(rank_sum([1, 4], [2, 3]), 1);
  // Ties: ranks 1.5 1.5 3.5 3.5 5. The sum 6.5 is seen, 2.5 below the mean; of the ten sums of three
  // ranks 6.5 comes twice and 12 once.
  assert.equal(rank_sum([1, 1, 2], [2, 3]), 3 / 10);
  assert.equal(rank_sum([5, 5, 5], [5, 5, 5]), 1);
  assert.equal(rank_sum([], [1]), 1);
});

test('rank sum: the same from either side, and close to the normal distribution when large', () => {
  const a = Array.from({ length: 50 }, (_, i) => (i * 37) % 50);
  const b = Array.from({ length: 50 }, (_, i) => ((i * 37) % 50) + 8);
  assert.equal(rank_sum(a, b), rank_sum(b, a));
  const exact = rank_sum(a, b);
  // Each value four times: the approximation is used, and p is far smaller.
  const four = (values: number[]): number[] => [...values, ...values, ...values, ...values];
  assert.ok(rank_sum(four(a), four(b)) < exact / 50);
  assert.ok(rank_sum(four(a), four(a)) > 0.99);
  // 61 and 60 values are just approximated, 60 and 60 just exact.
  const c = Array.from({ length: 60 }, (_, i) => i);
  const d = Array.from({ length: 60 }, (_, i) => i + 9.5);
  const [just, approximate] = [rank_sum(c, d), rank_sum([...c, 29.7], d)];
  assert.ok(Math.abs(just / approximate - 1) < 0.15, `${just} ${approximate}`);
});

test('differs: at 5 percent', () => {
  assert.ok(differs([1, 2, 3, 4], [5, 6, 7, 8]));
  assert.ok(!differs([1, 2, 3], [4, 5, 6]));
  assert.ok(!differs([1, 3, 5, 7, 9], [2, 4, 6, 8, 10]));
});
