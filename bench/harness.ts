/**
 * How a benchmark is taken: several rounds, the median, and the machine's noise beside it.
 *
 * Each row is measured in rounds that alternate with all other rows of its group, so that a slow
 * phase of the machine hits all of them. Noise is the spread of a fixed piece of integer work
 * measured in the same rounds: a difference below it says nothing.
 */

export interface Row {
  name: string;
  unit: string;
  /** Does one round and returns its figure in `unit`. */
  round(): number | Promise<number>;
  /** What to reach, for the reader. */
  target?: string;
}

export interface Result {
  name: string;
  unit: string;
  median: number;
  min: number;
  max: number;
  target: string;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const mid = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[mid]! : (sorted[mid - 1]! + sorted[mid]!) / 2;
}

/** Nanoseconds per call of `body`, which does `count` of them. */
export function nsPer(count: number, body: () => void): number {
  const start = process.hrtime.bigint();
  body();
  return Number(process.hrtime.bigint() - start) / count;
}

let sink = 0;

/** A fixed piece of work, in ms: what the machine itself varies by. */
function calibrate(): number {
  const start = process.hrtime.bigint();
  let x = 1;
  for (let i = 0; i < 20_000_000; i++) x = (Math.imul(x, 1664525) + 1013904223) | 0;
  sink += x;
  return Number(process.hrtime.bigint() - start) / 1e6;
}

/** Measures the rows in `rounds` alternating rounds and prints one line each. */
export async function runGroup(
  title: string,
  rows: readonly Row[],
  rounds: number,
): Promise<Result[]> {
  const figures = rows.map((): number[] => []);
  const noise: number[] = [];
  for (let r = 0; r < rounds; r++) {
    noise.push(calibrate());
    for (let i = 0; i < rows.length; i++) figures[i]!.push(await rows[i]!.round());
  }
  const spread = ((Math.max(...noise) - Math.min(...noise)) / median(noise)) * 100;
  console.log(`\n${title}  (median of ${rounds}; machine noise ${spread.toFixed(0)} %)`);
  const results = rows.map((row, i): Result => {
    const f = figures[i]!;
    return {
      name: row.name,
      unit: row.unit,
      median: median(f),
      min: Math.min(...f),
      max: Math.max(...f),
      target: row.target ?? '',
    };
  });
  const width = Math.max(...results.map((r) => r.name.length));
  for (const r of results) {
    const range = `${format(r.min)} .. ${format(r.max)}`;
    const target = r.target === '' ? '' : `   target ${r.target}`;
    console.log(
      `  ${r.name.padEnd(width)}  ${format(r.median).padStart(9)} ${r.unit}   [${range}]${target}`,
    );
  }
  return results;
}

export function format(value: number): string {
  if (value >= 1000) return value.toFixed(0);
  if (value >= 10) return value.toFixed(1);
  return value.toFixed(2);
}

/** Keeps the calibration from being optimised away. */
export function blackHole(): number {
  return sink;
}
