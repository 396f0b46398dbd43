/**
 * Charts and maps as inline SVG, as text: lines with a band, stacked areas and bars, the ways of
 * compaction's scanners, and maps of page blocks.
 *
 * Every figure is 360 units wide, so that its letters are as large as the page's wherever a column of
 * that width fits, on a telephone and on a desk. Colours are classes: the page's style has them twice,
 * for light and dark. Each has a title and a description, which say what the picture says.
 */

export function escape_html(text: string): string {
  return text
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;');
}

/** A number in few letters: 950, 12.5k, 3.1M. */
export function short_number(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6) return `${trim(value / 1e6)}M`;
  if (size >= 1e4) return `${trim(value / 1e3)}k`;
  return trim(value);
}

function trim(value: number): string {
  return value.toFixed(Math.abs(value) < 10 ? 1 : 0).replace(/\.0$/, '');
}

/** Coordinates need no more than a tenth of a unit. */
function at(value: number): string {
  return value.toFixed(1).replace(/\.0$/, '');
}

/** Steps of 1, 2 or 5 times a power of ten, from 0 to the first that is not below `most`. */
export function ticks(most: number, wanted = 4): number[] {
  if (!(most > 0)) return [0, 1];
  const rough = most / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough - 1e-9)!;
  const list = [0];
  while (list[list.length - 1]! < most - step * 1e-6) list.push(list.length * step);
  return list;
}

const WIDTH = 360;
const HEIGHT = 220;
const LEFT = 46;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 38;
const PLOT_W = WIDTH - LEFT - RIGHT;
const PLOT_H = HEIGHT - TOP - BOTTOM;

export interface Texts {
  /** Unique on the page. */
  readonly id: string;
  readonly title: string;
  /** What the figure shows, in words. */
  readonly description: string;
  /** A line below it. */
  readonly note?: string;
}

export interface Axes extends Texts {
  /** Positions of the steps. */
  readonly x: readonly number[];
  readonly x_label: string;
  readonly y_label: string;
  /** The top of the y axis at least. */
  readonly y_most?: number;
}

export interface Series {
  readonly name: string;
  /** Class of the style: its colour, and whether it is dashed. */
  readonly kind: string;
  readonly values: readonly number[];
  /** A band around the line. */
  readonly low?: readonly number[];
  readonly high?: readonly number[];
}

function figure(texts: Texts, width: number, height: number, body: string, legend: string): string {
  const { id, title, description, note } = texts;
  const below = note === undefined ? '' : `<p class="note">${escape_html(note)}</p>`;
  return (
    `<figure class="chart"><figcaption>${escape_html(title)}</figcaption>` +
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="${id}-t ${id}-d">` +
    `<title id="${id}-t">${escape_html(title)}</title>` +
    `<desc id="${id}-d">${escape_html(description)}</desc>${body}</svg>${legend}${below}</figure>`
  );
}

/** Names with a sample of their colour. */
export function legend(entries: readonly (readonly [kind: string, name: string])[]): string {
  const items = entries.map(
    ([kind, name]) =>
      `<li><svg viewBox="0 0 18 10" width="18" height="10" aria-hidden="true">` +
      `<rect class="${kind}" width="18" height="10" rx="2"/></svg>${escape_html(name)}</li>`,
  );
  return `<ul class="legend">${items.join('')}</ul>`;
}

/** Names with a piece of their line. */
function line_legend(series: readonly Series[]): string {
  const items = series.map(
    ({ kind, name }) =>
      `<li><svg viewBox="0 0 22 10" width="22" height="10" aria-hidden="true">` +
      `<path class="line ${kind}" d="M1 5h20"/></svg>${escape_html(name)}</li>`,
  );
  return `<ul class="legend">${items.join('')}</ul>`;
}

interface Frame {
  readonly body: string;
  x(index: number): number;
  y(value: number): number;
}

/** Grid, axes and their labels. `bars`: a place for each step instead of a point. */
function frame(axes: Axes, most: number, bars: boolean): Frame {
  const n = axes.x.length;
  const marks = ticks(Math.max(most, axes.y_most ?? 0));
  const top = marks[marks.length - 1]!;
  const y = (value: number): number => TOP + PLOT_H - (value / top) * PLOT_H;
  const x = (index: number): number =>
    bars
      ? LEFT + ((index + 0.5) / Math.max(1, n)) * PLOT_W
      : LEFT + (n < 2 ? 0.5 : index / (n - 1)) * PLOT_W;
  let body = '';
  for (const mark of marks) {
    const line = at(y(mark));
    body += `<path class="grid" d="M${LEFT} ${line}h${PLOT_W}"/>`;
    body += `<text class="tick" x="${LEFT - 6}" y="${at(y(mark) + 4)}" text-anchor="end">${short_number(mark)}</text>`;
  }
  const shown = Math.min(n, 5);
  for (let i = 0; i < shown; i++) {
    const index = shown < 2 ? 0 : Math.round((i * (n - 1)) / (shown - 1));
    const anchor = !bars && i === 0 ? 'start' : !bars && i === shown - 1 ? 'end' : 'middle';
    body += `<text class="tick" x="${at(x(index))}" y="${TOP + PLOT_H + 15}" text-anchor="${anchor}">${short_number(axes.x[index]!)}</text>`;
  }
  body += `<text class="label" x="${LEFT + PLOT_W}" y="${HEIGHT - 6}" text-anchor="end">${escape_html(axes.x_label)}</text>`;
  body += `<text class="label" x="2" y="${HEIGHT - 6}">${escape_html(axes.y_label)}</text>`;
  return { body, x, y };
}

export function line_chart(axes: Axes, series: readonly Series[]): string {
  let most = 0;
  for (const s of series) for (const v of s.high ?? s.values) most = Math.max(most, v);
  const { body, x, y } = frame(axes, most, false);
  const path = (values: readonly number[]): string =>
    values.map((v, i) => `${i === 0 ? 'M' : 'L'}${at(x(i))} ${at(y(v))}`).join('');
  let lines = '';
  for (const { kind, low, high } of series) {
    if (low === undefined || high === undefined) continue;
    const back = low.map((v, i) => `L${at(x(i))} ${at(y(v))}`).reverse();
    lines += `<path class="band ${kind}" d="${path(high)}${back.join('')}z"/>`;
  }
  for (const { kind, values } of series) {
    lines += `<path class="line ${kind}" d="${path(values)}"/>`;
  }
  return figure(axes, WIDTH, HEIGHT, body + lines, line_legend(series));
}

/** Areas upon each other, the first at the bottom. */
export function area_chart(axes: Axes, series: readonly Series[]): string {
  const sums = axes.x.map((_, i) => series.reduce((sum, s) => sum + (s.values[i] ?? 0), 0));
  const { body, x, y } = frame(axes, Math.max(0, ...sums), false);
  let areas = '';
  const below = axes.x.map(() => 0);
  for (const { kind, values } of series) {
    const base = below.map((v, i) => `L${at(x(i))} ${at(y(v))}`).reverse();
    for (let i = 0; i < below.length; i++) below[i]! += values[i] ?? 0;
    const top = below.map((v, i) => `${i === 0 ? 'M' : 'L'}${at(x(i))} ${at(y(v))}`);
    areas += `<path class="${kind}" d="${top.join('')}${base.join('')}z"/>`;
  }
  const names = series.map((s) => [s.kind, s.name] as const);
  return figure(axes, WIDTH, HEIGHT, body + areas, legend(names));
}

/** Bars upon each other (`stacked`) or beside each other, one place a step. */
export function bar_chart(axes: Axes, series: readonly Series[], stacked: boolean): string {
  const n = axes.x.length;
  let most = 0;
  for (let i = 0; i < n; i++) {
    const values = series.map((s) => s.values[i] ?? 0);
    most = Math.max(most, stacked ? values.reduce((a, b) => a + b, 0) : Math.max(...values));
  }
  const { body, x, y } = frame(axes, most, true);
  const place = (PLOT_W / Math.max(1, n)) * 0.8;
  const width = stacked ? place : place / series.length;
  const below = axes.x.map(() => 0);
  let bars = '';
  series.forEach(({ kind, values }, k) => {
    let path = '';
    for (let i = 0; i < n; i++) {
      const value = values[i] ?? 0;
      if (value <= 0) continue;
      const base = stacked ? below[i]! : 0;
      below[i]! += value;
      const left = x(i) - place / 2 + (stacked ? 0 : k * width);
      const height = y(base) - y(base + value);
      path += `M${at(left)} ${at(y(base))}h${at(width)}v${at(-height)}h${at(-width)}z`;
    }
    if (path !== '') bars += `<path class="${kind}" d="${path}"/>`;
  });
  const names = series.map((s) => [s.kind, s.name] as const);
  return figure(axes, WIDTH, HEIGHT, body + bars, legend(names));
}

/** How far the scanners came in one step: page blocks from the zone's start. */
export interface Ways {
  readonly migrate: number;
  readonly free: number;
  readonly runs: number;
}

/** The zone from bottom to top; one scanner comes from below, the other one from above. */
export function scan_chart(axes: Axes, blocks: number, ways: readonly (Ways | null)[]): string {
  const { body, x, y } = frame({ ...axes, y_most: blocks }, blocks, true);
  // Beside each other: in one step one run may go far with one scanner, the next one with the other.
  const width = (PLOT_W / Math.max(1, ways.length)) * 0.4;
  let up = '';
  let down = '';
  ways.forEach((way, i) => {
    if (way === null) return;
    const left = at(x(i) - width);
    const middle = at(x(i));
    // Even a scanner that stayed where it began was there.
    const low = Math.max(blocks / 100, way.migrate);
    const high = Math.min(blocks * 0.99, way.free);
    up += `M${left} ${at(y(0))}h${at(width)}V${at(y(low))}h${at(-width)}z`;
    down += `M${middle} ${at(y(blocks))}h${at(width)}V${at(y(high))}h${at(-width)}z`;
  });
  const edge = `<path class="edge" d="M${LEFT} ${at(y(blocks))}h${PLOT_W}"/>`;
  const bars = `<path class="migrate" d="${up}"/><path class="target" d="${down}"/>`;
  const names = [
    ['migrate', 'migrate scanner, from the start'],
    ['target', 'free scanner, from the end'],
  ] as const;
  return figure(axes, WIDTH, HEIGHT, body + (up === '' ? '' : bars) + edge, legend(names));
}

/** One cell a page block, zones one below the other, each from its start. `kind_of`: class of a letter. */
export function block_map_svg(
  texts: Texts,
  letters: string,
  zones: readonly { readonly blocks: number }[],
  kind_of: (letter: string) => string,
): string {
  const columns = letters.length > 400 ? 40 : 16;
  const paths = new Map<string, string>();
  let row = 0;
  let first = 0;
  let grid = '';
  const cell = 10;
  zones.forEach(({ blocks }, z) => {
    const top = row * cell + z * 6;
    const add = (from: number, to: number): void => {
      const kind = kind_of(letters.charAt(first + from));
      const x = (from % columns) * cell;
      const y = top + Math.floor(from / columns) * cell;
      paths.set(kind, `${paths.get(kind) ?? ''}M${x} ${y}h${(to - from) * cell}v${cell}H${x}z`);
    };
    // Neighbours of one kind are one rectangle; lines of the ground part them.
    for (let from = 0; from < blocks; ) {
      let to = from + 1;
      const kind = kind_of(letters.charAt(first + from));
      while (to < blocks && to % columns !== 0 && kind_of(letters.charAt(first + to)) === kind)
        to++;
      add(from, to);
      from = to;
    }
    const rows = Math.ceil(blocks / columns);
    for (let r = 0; r <= rows; r++) grid += `M0 ${top + r * cell}h${columns * cell}`;
    for (let c = 0; c <= columns; c++) grid += `M${c * cell} ${top}v${rows * cell}`;
    row += rows;
    first += blocks;
  });
  const height = row * cell + (zones.length - 1) * 6;
  let body = '';
  for (const [kind, path] of paths) body += `<path class="${kind}" d="${path}"/>`;
  body += `<path class="mesh" d="${grid}"/>`;
  return figure(texts, columns * cell, height, body, '').replace('class="chart"', 'class="map"');
}
