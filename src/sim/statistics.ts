/**
 * Statistics over seeds: means, spread, and whether two configurations differ.
 *
 * The test is the exact rank sum test (Mann and Whitney; Wilcoxon): of all ways to deal the pooled
 * ranks to the two samples, the share whose rank sum lies at least as far from its mean as the one that was
 * seen. Ties get their mean rank, so the result is exact with ties too. Nothing is assumed about how
 * counts are distributed, which matters here: many are bounded by a watermark.
 */

/** Two configurations differ significantly when chance gives such ranks less often than this. */
export const SIGNIFICANCE = 0.05;

export function mean(values: readonly number[]): number {
  let sum = 0;
  for (const v of values) sum += v;
  return values.length === 0 ? Number.NaN : sum / values.length;
}

/** Sample standard deviation; 0 for a single value. */
export function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const center = mean(values);
  let sum = 0;
  for (const v of values) sum += (v - center) ** 2;
  return Math.sqrt(sum / (values.length - 1));
}

/** The value in the middle, the lower one of two. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[(values.length - 1) >>> 1] ?? Number.NaN;
}

/** Above so many values in both samples together the normal approximation is as good, and quick. */
const EXACT_UP_TO = 120;

/** The two-sided probability of the exact rank sum test; 1 for an empty sample. */
export function rank_sum(a: readonly number[], b: readonly number[]): number {
  const n = a.length + b.length;
  if (a.length === 0 || b.length === 0) return 1;
  const all = [...a.map((v) => ({ v, a: true })), ...b.map((v) => ({ v, a: false }))];
  all.sort((x, y) => x.v - y.v);
  // Twice the ranks: the mean rank of an even number of ties is a half.
  const ranks: number[] = [];
  let seen = 0;
  for (let i = 0; i < n; ) {
    let end = i;
    while (end < n && all[end]!.v === all[i]!.v) end++;
    for (let k = i; k < end; k++) {
      ranks.push(i + 1 + end);
      if (all[k]!.a) seen += i + 1 + end;
    }
    i = end;
  }
  if (n > EXACT_UP_TO) return normal_tail(ranks, a.length, seen);
  // ways[k][s]: subsets of k ranks with the sum s, over the ranks so far.
  const most = n * (n + 1);
  const ways = Array.from({ length: a.length + 1 }, () => new Float64Array(most + 1));
  ways[0]![0] = 1;
  for (const rank of ranks) {
    for (let k = a.length; k > 0; k--) {
      const to = ways[k]!;
      const from = ways[k - 1]!;
      for (let s = most; s >= rank; s--) to[s]! += from[s - rank]!;
    }
  }
  const expected = a.length * (n + 1);
  let extreme = 0;
  let total = 0;
  ways[a.length]!.forEach((count, s) => {
    total += count;
    if (Math.abs(s - expected) >= Math.abs(seen - expected)) extreme += count;
  });
  return extreme / total;
}

/** The same by the normal distribution with the variance of these (doubled) ranks. */
function normal_tail(ranks: readonly number[], size: number, seen: number): number {
  const n = ranks.length;
  const spread = deviation(ranks) ** 2;
  const variance = (spread * size * (n - size)) / n;
  if (variance === 0) return 1;
  const z = Math.max(0, Math.abs(seen - size * mean(ranks)) - 1) / Math.sqrt(variance);
  // Abramowitz and Stegun 26.2.17: error below 1e-7.
  const t = 1 / (1 + 0.2316419 * z);
  const poly =
    t *
    (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return Math.min(1, (2 * poly * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI));
}

/** Whether two samples differ significantly. Fewer than four values on a side never do. */
export function differs(a: readonly number[], b: readonly number[]): boolean {
  return rank_sum(a, b) < SIGNIFICANCE;
}
