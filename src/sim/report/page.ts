/**
 * The report of an experiment: one page of HTML that needs nothing else, neither network nor script.
 *
 * For each experiment, machine and set-up: the table with ours beside what was published or recorded,
 * what is met, success and cost per step over all seeds, free memory by order, what each scanner
 * did, maps of the page blocks, and the command and seeds that make all of it again. Curves are means
 * over the seeds with the range as a band; maps and areas are the run whose result is the median.
 */
import type { Cell, ExperimentName, Run, Step } from '../experiment.ts';
import {
  configuration,
  type Group,
  type GroupTable,
  group_table,
  groups_of,
  judge_machines,
  reference_of,
  type Verdict,
  verdict_numbers,
} from '../experiment_tables.ts';
import { mean, median } from '../statistics.ts';
import { ORDINARY_NAMES } from '../workloads/ordinary.ts';
import { STYLE } from './style.ts';
import {
  type Axes,
  area_chart,
  bar_chart,
  block_map_svg,
  escape_html,
  legend,
  line_chart,
  type Series,
  scan_chart,
  short_number,
} from './svg.ts';

const TITLES: Readonly<Record<ExperimentName, string>> = {
  'hugepages-at-rest': 'Huge pages at rest',
  'no-regression': 'No regression',
  'hugepages-under-load': 'Huge pages under load',
};

const ABOUT: Readonly<Record<ExperimentName, string>> = {
  'hugepages-at-rest':
    '4096 short-lived processes fill memory with files of 512 KiB, every second file is removed, and the ' +
    'pool of huge pages is raised twenty times by 5 % of memory.',
  'no-regression':
    'A file, a build, a network and a database benchmark, none of which wants huge pages. Compaction must ' +
    'not make them slower.',
  'hugepages-under-load':
    'Compilers fill memory and free it again, and meanwhile nine tenths of memory are asked for as huge ' +
    'pages, one at a time.',
};

const SETUP_TEXT = {
  published: 'as published in 2010',
  recorded: 'as recorded on a known machine',
} as const;

/** What a letter of a map means, by class of the style. */
const KINDS: readonly (readonly [letter: string, name: string])[] = [
  ['H', 'huge page'],
  ['f', 'free'],
  ['C', 'page cache'],
  ['c', 'page cache, under a quarter'],
  ['A', 'anonymous'],
  ['a', 'anonymous, under a quarter'],
  ['U', 'kernel'],
  ['u', 'kernel, under a quarter'],
  ['r', 'reserved at boot'],
];

const TYPES: readonly (readonly [letter: string, name: string])[] = [
  ['M', 'movable'],
  ['R', 'reclaimable'],
  ['U', 'unmovable'],
  ['V', 'reserve'],
  ['I', 'isolated'],
];

/** Classes of types: colours of the map's kinds. */
const TYPE_CLASS: Readonly<Record<string, string>> = { M: 'C', R: 'A', U: 'U', V: 'H', I: 'r' };

const MOMENTS: readonly (readonly [name: string, text: string])[] = [
  ['filled', 'Filled'],
  ['ready', 'Before'],
  ['half', 'During'],
  ['final', 'After'],
];

/** Orders that one colour of the areas stands for. */
const ORDER_BANDS: readonly (readonly [from: number, to: number])[] = [
  [0, 1],
  [2, 3],
  [4, 5],
  [6, 7],
  [8, 8],
  [9, 99],
];

/** The page. `command` is the one that was typed. */
export function report(runs: readonly Run[], command: string): string {
  const groups = groups_of(runs);
  const parts = groups.map((group) => ({ group, table: group_table(group) }));
  const between = judge_machines(runs);
  const names = [...new Set(groups.map((g) => g.cell.experiment))];
  let body = head(runs, parts, between, command, names);
  body += '<main>';
  for (const name of names) {
    body += `<section aria-labelledby="${name}"><h2 id="${name}">${TITLES[name]}</h2><p>${ABOUT[name]}</p>`;
    for (const { group, table } of parts) {
      if (group.cell.experiment === name) body += group_section(group, table);
    }
    body += '</section>';
  }
  if (between.length > 0) {
    body +=
      '<section aria-labelledby="machines"><h2 id="machines">Between machines</h2>' +
      '<p>What the published figures say of the machines beside each other.</p><div class="group">' +
      `${verdict_table('Published relations between machines', between)}</div></section>`;
  }
  body += `</main>${foot()}`;
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">' +
    '<meta name="viewport" content="width=device-width, initial-scale=1">' +
    '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">' +
    `<title>Memory compaction: ${names.map((n) => TITLES[n].toLowerCase()).join(', ')}</title>` +
    `<style>${STYLE}</style></head><body>${body}</body></html>\n`
  );
}

function head(
  runs: readonly Run[],
  parts: readonly { readonly group: Group; readonly table: GroupTable }[],
  between: readonly Verdict[],
  command: string,
  names: readonly ExperimentName[],
): string {
  const verdicts = [...parts.flatMap((p) => p.table.verdicts), ...between];
  const met = verdicts.filter((v) => v.met).length;
  const machines = [...new Set(runs.map((r) => r.cell.machine))];
  const seeds = [...new Set(runs.map((r) => r.seed))].sort((a, b) => a - b);
  const tiles: (readonly [string, string])[] = [
    ['Figures met', `${met} of ${verdicts.length}`],
    ['Runs', String(runs.length)],
    ['Seeds', ranges(seeds)],
    ['Machines', String(machines.length)],
  ];
  return (
    '<header><h1>Memory compaction, measured again</h1>' +
    '<p class="lead">Linux 2.6.35 on emulated machines, without compaction (vanilla) and with it: ' +
    `${names.map((n) => TITLES[n].toLowerCase()).join(', ')}. Our figures stand beside the published or recorded ones.</p>` +
    `<dl class="tiles">${tiles.map(([name, value]) => `<div><dt>${name}</dt><dd>${escape_html(value)}</dd></div>`).join('')}</dl>` +
    `<p>All of this page comes from one command:</p><pre><code>${escape_html(command)}</code></pre>` +
    `<nav aria-label="Parts of this report">${overview(parts)}</nav></header>`
  );
}

const WORDS: readonly (readonly [string, string])[] = [
  [
    'Vanilla',
    'the kernel without compaction: memory is reclaimed, block by block, until a huge page is free.',
  ],
  ['Page block', 'an aligned piece of memory as large as a huge page. It is the unit of the maps.'],
  [
    'Direct reclaim, direct steals',
    'how often a task that wanted memory had to reclaim some itself, and the pages that it got so. ' +
      'These are what is compared with the published pages reclaimed; kswapd reclaims in the background.',
  ],
  ['Compact stall', 'an attempt to compact on behalf of an allocation.'],
  [
    'Migrate scanner, free scanner',
    'compaction takes pages in use from the start of a zone and puts them into free pages at its end. ' +
      'When the two meet, the zone is done.',
  ],
  ['Order', 'a free block of order n has 2\u207f pages.'],
];

function foot(): string {
  const words = WORDS.map(([word, text]) => `<dt>${word}</dt><dd>${text}</dd>`).join('');
  return (
    `<footer><h2>What the words mean</h2><dl class="words">${words}</dl>` +
    '<h2>How it was measured</h2><p>The same command with the same version of the program gives the same numbers, ' +
    'on any host. Times are milliseconds of the virtual clock. Whether two configurations differ is decided by the ' +
    'exact rank sum test (Mann and Whitney) over seeds, two-sided, at 5 %.</p></footer>'
  );
}

/** A row for each group: what both configurations gave, ours and theirs, and how much of it is met. */
function overview(parts: readonly { readonly group: Group; readonly table: GroupTable }[]): string {
  const rows = parts.map(({ group, table }) => {
    const { cell } = group;
    const values = [group.vanilla, group.compaction].flatMap((runs) => {
      if (runs.length === 0) return ['-', '-'];
      if (cell.experiment === 'no-regression') {
        const times = runs.map((r) => r.steps.reduce((sum, step) => sum + step.ms, 0));
        return [`${mean(times).toFixed(0)} ms`, '-'];
      }
      const theirs = reference_of(runs[0]!.cell);
      const percent = cell.experiment === 'hugepages-under-load';
      const value = (got: readonly number[], attempted: number): string =>
        percent ? `${((mean(got) * 100) / attempted).toFixed(1)} %` : mean(got).toFixed(0);
      return [
        value(
          runs.map((r) => r.got),
          runs[0]!.attempted,
        ),
        theirs === undefined ? '-' : value(theirs.got, theirs.attempted),
      ];
    });
    const met = table.verdicts.filter((v) => v.met).length;
    const all = table.verdicts.length;
    const kind = met === all ? 'met' : 'unmet';
    const name = `<a href="#${group_id(cell)}">${TITLES[cell.experiment]}, ${short_title(cell)}</a>`;
    return { cells: [name, `<span class="${kind}">${met} of ${all}</span>`, ...values] };
  });
  const columns = ['Experiment', 'figures met', 'vanilla', 'theirs', 'compaction', 'theirs'];
  return `<div class="group">${html_table('All results: huge pages, or percent of the attempts, or time', columns, rows)}</div>`;
}

/** 1, 2, 3, 7 as "1-3, 7". */
function ranges(values: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < values.length; ) {
    let end = i;
    while (values[end + 1] === values[end]! + 1) end++;
    parts.push(end === i ? String(values[i]) : `${values[i]}\u2013${values[end]}`);
    i = end + 1;
  }
  return parts.join(', ');
}

function group_id(cell: Cell): string {
  return `${cell.experiment}-${cell.setup}-${cell.machine}`;
}

function group_title(cell: Cell): string {
  if (cell.experiment === 'no-regression') return cell.machine;
  return `${cell.machine}, ${SETUP_TEXT[cell.setup]}`;
}

function short_title(cell: Cell): string {
  return cell.experiment === 'no-regression' ? cell.machine : `${cell.machine}, ${cell.setup}`;
}

function group_section(group: Group, table: GroupTable): string {
  const { cell, vanilla, compaction } = group;
  const id = group_id(cell);
  const seeds = [...new Set([...vanilla, ...compaction].map((r) => r.seed))].sort((a, b) => a - b);
  const command = `pageblock experiment ${table.name} --seeds ${seeds.length} --first-seed ${seeds[0]}`;
  let text = `<article class="group" aria-labelledby="${id}"><h3 id="${id}">${escape_html(group_title(cell))}</h3>`;
  text += result_table(table, group);
  text += `<ul class="remarks">${table.remarks.map((r) => `<li>${escape_html(r)}</li>`).join('')}</ul>`;
  text += verdict_table(`What is met: ${group_title(cell)}`, table.verdicts);
  text += cell.experiment === 'no-regression' ? ordinary_charts(group, id) : step_charts(group, id);
  if (cell.experiment !== 'no-regression') text += scanner_charts(group, id);
  text += free_charts(group, id);
  text += maps(group, id);
  text += `<h4>Command and seeds</h4><pre><code>${escape_html(command)}</code></pre>`;
  return `${text}${seed_table(group)}</article>`;
}

function result_table(table: GroupTable, group: Group): string {
  const caption =
    group.cell.experiment === 'no-regression'
      ? 'Means and deviations over the seeds'
      : `Ours beside the ${group.cell.setup} figures: means and deviations`;
  const rows = table.rows.map((cells) => {
    const ours = cells[0]!.endsWith('ours') || group.cell.experiment === 'no-regression';
    return { cells, kind: ours ? '' : 'theirs' };
  });
  const first = group.cell.experiment === 'no-regression' ? 'Benchmark' : 'Configuration';
  return html_table(caption, [first, ...table.columns.slice(1)], rows);
}

interface Row {
  readonly cells: readonly string[];
  readonly kind?: string;
}

/** A table that scrolls by itself where the page is narrow. Cells that begin with < are HTML. */
function html_table(caption: string, columns: readonly string[], rows: readonly Row[]): string {
  const cell = (text: string): string => (text.startsWith('<') ? text : escape_html(text));
  const head = columns.map((c) => `<th scope="col">${cell(c)}</th>`).join('');
  const body = rows.map(({ cells, kind }) => {
    const [first, ...rest] = cells;
    const row = rest.map((c) => `<td>${cell(c)}</td>`).join('');
    const name = kind === undefined || kind === '' ? '' : ` class="${kind}"`;
    return `<tr${name}><th scope="row">${cell(first!)}</th>${row}</tr>`;
  });
  return (
    `<div class="scroll" role="region" tabindex="0" aria-label="${escape_html(caption)}"><table>` +
    `<caption>${escape_html(caption)}</caption><thead><tr>${head}</tr></thead><tbody>${body.join('')}</tbody></table></div>`
  );
}

function verdict_table(caption: string, verdicts: readonly Verdict[]): string {
  const rows = verdicts.map((v) => ({
    cells: [
      v.what,
      v.met ? '<span class="met">✓ met</span>' : '<span class="unmet">✗ not met</span>',
      ...verdict_numbers(v),
      v.rule,
    ],
  }));
  return html_table(caption, ['Figure', 'Result', 'Ours', 'Against', 'Rule'], rows);
}

/** The configurations that were run, with their runs. */
function parts_of(group: Group): { name: string; runs: readonly Run[] }[] {
  return [group.vanilla, group.compaction]
    .filter((runs) => runs.length > 0)
    .map((runs) => ({ name: configuration(runs[0]!.cell), runs }));
}

/** The run whose result is the median; the lowest seed among equals. */
export function typical_run(runs: readonly Run[]): Run {
  const middle = median(runs.map((r) => r.got));
  return runs.filter((r) => r.got === middle).sort((a, b) => a.seed - b.seed)[0]!;
}

/** A curve over the steps: the mean over the seeds, with the range. */
function curve(
  name: string,
  kind: string,
  runs: readonly Run[],
  value: (step: Step, before: Step | undefined) => number,
): Series {
  const steps = Math.min(...runs.map((r) => r.steps.length));
  const values: number[] = [];
  const low: number[] = [];
  const high: number[] = [];
  for (let i = 0; i < steps; i++) {
    const all = runs.map((r) => value(r.steps[i]!, r.steps[i - 1]));
    values.push(mean(all));
    low.push(Math.min(...all));
    high.push(Math.max(...all));
  }
  return runs.length > 1 ? { name, kind, values, low, high } : { name, kind, values };
}

function step_axes(group: Group, id: string): Omit<Axes, 'title' | 'description' | 'y_label'> {
  const run = (group.vanilla[0] ?? group.compaction[0])!;
  const rest = group.cell.experiment === 'hugepages-at-rest';
  const x = run.steps.map((s) => (rest ? Math.round((s.target * 100) / run.attempted) : s.target));
  return { id, x, x_label: rest ? 'percent of memory asked for' : 'attempts' };
}

/** Pages got in a step, in percent of those that were missing before it. */
function success(step: Step, before: Step | undefined): number {
  const rest = before === undefined ? 0 : before.got;
  const asked = step.target - rest;
  return asked <= 0 ? 100 : ((step.got - rest) * 100) / asked;
}

/** Attempts of a step that succeeded, in percent. */
function success_under_load(step: Step, before: Step | undefined): number {
  const asked = step.target - (before?.target ?? 0);
  return asked <= 0 ? 100 : ((step.got - (before?.got ?? 0)) * 100) / asked;
}

function last_values(series: readonly Series[]): string {
  return series
    .map((s) => `${s.name}: at the end ${short_number(s.values[s.values.length - 1] ?? 0)}`)
    .join('; ');
}

function total_values(series: readonly Series[]): string {
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  return series.map((s) => `${s.name}: ${short_number(sum(s.values))} in all`).join('; ');
}

function step_charts(group: Group, id: string): string {
  const parts = parts_of(group);
  const axes = (name: string): Omit<Axes, 'title' | 'description' | 'y_label'> =>
    step_axes(group, `${id}-${name}`);
  const rest = group.cell.experiment === 'hugepages-at-rest';
  const got = parts.map((p) => curve(p.name, p.name, p.runs, rest ? success : success_under_load));
  const cost = parts.map((p) => curve(p.name, p.name, p.runs, (s) => s.ms));
  const work = parts.map((p) =>
    curve(`reclaimed, ${p.name}`, p.name, p.runs, (s) => s.counters['steals'] ?? 0),
  );
  if (group.compaction.length > 0) {
    work.push(curve('moved', 'moved', group.compaction, (s) => s.counters['pages_moved'] ?? 0));
  }
  // Under load the clock runs on between attempts; what differs is the wait for the pages.
  const charts = [
    line_chart(
      {
        ...axes('got'),
        title: rest ? 'Success: pages got of those missing' : 'Success: attempts that got a page',
        description: `Percent in each step. ${last_values(got)}.`,
        y_label: 'percent',
        y_most: 100,
      },
      got,
    ),
    line_chart(
      {
        ...axes('cost'),
        title: 'Cost of each step',
        description: `Milliseconds of the virtual clock. ${total_values(cost)}.`,
        y_label: 'virtual ms',
      },
      cost,
    ),
    line_chart(
      {
        ...axes('work'),
        title: 'Pages reclaimed and moved',
        description: `All reclaim, by whoever did it. ${total_values(work)}.`,
        y_label: 'pages',
      },
      work,
    ),
  ];
  const range = parts.some((p) => p.runs.length > 1)
    ? ': means over the seeds, with their range'
    : '';
  return `<h4>Success and cost per step${range}</h4><div class="charts">${charts.join('')}</div>${step_table(group)}`;
}

const STEP_COLUMNS: readonly (readonly [string, (step: Step) => number])[] = [
  ['virtual ms', (s) => s.ms],
  ['direct reclaims', (s) => s.counters['direct_reclaims'] ?? 0],
  ['direct steals', (s) => s.counters['direct_steals'] ?? 0],
  ['all reclaimed', (s) => s.counters['steals'] ?? 0],
  ['compactions', (s) => s.counters['compact_stall'] ?? 0],
  ['succeeded', (s) => s.counters['compact_success'] ?? 0],
  ['pages moved', (s) => s.counters['pages_moved'] ?? 0],
];

/** The same as numbers, means over the seeds. */
function step_table(group: Group): string {
  const rows: Row[] = [];
  for (const { name, runs } of parts_of(group)) {
    const columns = STEP_COLUMNS.map(([, value]) => curve('', '', runs, value).values);
    const got = curve('', '', runs, (s) => s.got).values;
    runs[0]!.steps.forEach((step, i) => {
      const cells = columns.map((values) => values[i]!.toFixed(values[i]! < 100 ? 1 : 0));
      rows.push({ cells: [`${name}, ${step.target}`, got[i]!.toFixed(1), ...cells] });
    });
  }
  const columns = ['Asked for so far', 'got', ...STEP_COLUMNS.map(([name]) => name)];
  return `<details><summary>Steps as numbers</summary>${html_table('Steps: means over the seeds', columns, rows)}</details>`;
}

/** Cost and allocator's work of each benchmark of the second test. */
function ordinary_charts(group: Group, id: string): string {
  const parts = parts_of(group);
  const chart = (
    name: string,
    title: string,
    label: string,
    value: (s: Step) => number,
  ): string => {
    const series = parts.map((p) => {
      const values = ORDINARY_NAMES.map((benchmark) =>
        mean(p.runs.flatMap((r) => r.steps.filter((s) => s.name === benchmark)).map(value)),
      );
      return { name: p.name, kind: p.name, values };
    });
    const said = ORDINARY_NAMES.map(
      (b, i) => `${b}: ${series.map((s) => `${s.name} ${short_number(s.values[i]!)}`).join(', ')}`,
    );
    const axes: Axes = {
      id: `${id}-${name}`,
      title,
      description: `${said.join('; ')}.`,
      x: [1, 2, 3, 4],
      x_label: `1 ${ORDINARY_NAMES[0]}, 2 ${ORDINARY_NAMES[1]}, 3 ${ORDINARY_NAMES[2]}, 4 ${ORDINARY_NAMES[3]}`,
      y_label: label,
    };
    return bar_chart(axes, series, false);
  };
  const count = (key: string) => (s: Step) => s.counters[key] ?? 0;
  const charts = [
    chart('cost', 'Cost of each benchmark', 'virtual ms', (s) => s.ms),
    chart('allocations', 'Pages allocated', 'pages', count('allocations')),
    chart('steals', 'Pages reclaimed', 'pages', count('steals')),
  ];
  return `<h4>Cost and work of each benchmark</h4><div class="charts">${charts.join('')}</div>`;
}

function scanner_charts(group: Group, id: string): string {
  const charts: string[] = [];
  const parts = parts_of(group).map(({ name, runs }) => {
    const series: Series[] = [
      curve('kswapd', 'kswapd', runs, (s) => s.counters['scanned_kswapd'] ?? 0),
      curve('allocating tasks', 'direct', runs, (s) => s.counters['scanned_direct'] ?? 0),
    ];
    return { name, series };
  });
  // One scale for both configurations.
  const y_most = Math.max(...parts.map(({ series }) => highest_sum(series)));
  for (const { name, series } of parts) {
    charts.push(
      bar_chart(
        {
          ...step_axes(group, `${id}-lru-${name}`),
          title: `Pages scanned by reclaim, ${name}`,
          description: `Pages of the LRU lists, means over the seeds. ${total_values(series)}.`,
          y_label: 'pages',
          y_most,
        },
        series,
        true,
      ),
    );
  }
  if (group.compaction.length > 0) charts.push(...compaction_charts(group, id));
  return `<h4>What each scanner did</h4><div class="charts">${charts.join('')}</div>`;
}

/** The highest of the stacks that areas or bars of these series make. */
function highest_sum(series: readonly Series[]): number {
  const sums = series[0]!.values.map((_, i) =>
    series.reduce((sum, s) => sum + (s.values[i] ?? 0), 0),
  );
  return Math.max(0, ...sums);
}

/** For each zone in which compaction ran: how far both scanners came. */
function compaction_charts(group: Group, id: string): string[] {
  const run = typical_run(group.compaction);
  const charts: string[] = [];
  run.zones.forEach((zone, z) => {
    const scans = run.steps.map((s) => s.scans.find((scan) => scan.zone === z) ?? null);
    const runs = scans.reduce((sum, scan) => sum + (scan?.runs ?? 0), 0);
    if (runs === 0) return;
    const met = scans.reduce((sum, scan) => sum + (scan?.met ?? 0), 0);
    charts.push(
      scan_chart(
        {
          ...step_axes(group, `${id}-scan-${z}`),
          title: `Compaction of ${zone.name} (seed ${run.seed})`,
          description:
            `The furthest that the migrate scanner came from the start of the zone and the free scanner from ` +
            `its end, in each step, of ${zone.blocks} page blocks. Steps without compaction are empty.`,
          y_label: 'page blocks',
          note: `${runs} runs; the scanners met in ${met}.`,
        },
        zone.blocks,
        scans,
      ),
    );
  });
  return charts;
}

/** Free memory over time by the order of its blocks, for one run of each configuration. */
function free_charts(group: Group, id: string): string {
  const ordinary = group.cell.experiment === 'no-regression';
  const parts = parts_of(group).map(({ name, runs }) => {
    const run = typical_run(runs);
    const moments = [run.free_before, ...run.steps.map((s) => s.free)];
    const series: Series[] = [];
    ORDER_BANDS.forEach(([from, to], k) => {
      const most = Math.min(to, run.free_before.length - 1);
      const values = moments.map((free) => {
        let pages = 0;
        for (let order = from; order <= most; order++) pages += (free[order] ?? 0) * 2 ** order;
        return pages;
      });
      const label = from === most ? String(from) : `${from}\u2013${most}`;
      series.push({ name: label, kind: `o${k}`, values });
    });
    return { name, seed: run.seed, series, steps: moments.map((_, i) => i) };
  });
  const y_most = Math.max(...parts.map(({ series }) => highest_sum(series)));
  const charts = parts.map(({ name, seed, series, steps }) => {
    const axes = step_axes(group, `${id}-free-${name}`);
    return area_chart(
      {
        ...axes,
        x: ordinary ? steps : [0, ...axes.x],
        x_label: ordinary ? 'benchmarks done' : axes.x_label,
        title: `Free pages by order, ${name} (seed ${seed})`,
        description: `Pages in free blocks, before the first step and after each. ${last_values(series)}.`,
        y_label: 'pages',
        y_most,
      },
      series,
    );
  });
  return `<h4>Free blocks per order over time</h4><div class="charts">${charts.join('')}</div>${order_table(group)}`;
}

/** Free blocks of every order before and after, as numbers. */
function order_table(group: Group): string {
  const rows: Row[] = [];
  let orders = 0;
  for (const { name, runs } of parts_of(group)) {
    const run = typical_run(runs);
    orders = run.free_before.length;
    const half = run.steps[(run.steps.length - 1) >>> 1]!;
    const moments: [string, readonly number[]][] = [
      ['before', run.free_before],
      ['during', half.free],
      ['after', run.steps[run.steps.length - 1]!.free],
    ];
    for (const [when, free] of moments)
      rows.push({ cells: [`${name}, ${when}`, ...free.map(String)] });
  }
  const columns = ['Free blocks of order', ...Array.from({ length: orders }, (_, i) => String(i))];
  return `<details><summary>Free blocks as numbers</summary>${html_table('Free blocks per order, all zones', columns, rows)}</details>`;
}

function maps(group: Group, id: string): string {
  let text = '<h4>How memory looked: a cell is a page block</h4>';
  const size = group.cell.machine === 'ppc64' ? '16 MiB' : '2 MiB';
  const zones = (group.vanilla[0] ?? group.compaction[0])!.zones;
  const list = zones.map((z) => `${z.name} (${z.blocks} blocks)`).join(', ');
  text +=
    `<p class="soft">${size} each; zones from the top: ${list}. The colour is what keeps the block from being one ` +
    'huge page, pale where it fills less than a quarter of the block.</p>';
  const counts: Row[] = [];
  let types = '';
  const seen = new Set<string>();
  for (const { name, runs } of parts_of(group)) {
    const run = typical_run(runs);
    const moments = MOMENTS.filter(([moment]) => run.maps[moment] !== undefined);
    if (run.maps['ready'] === undefined) moments.unshift(['boot', 'Before']);
    const pictures = moments.map(([moment, when]) => {
      const map = run.maps[moment]!;
      for (const letter of map) seen.add(letter);
      const count = count_letters(map);
      counts.push({
        cells: [`${name}, ${when.toLowerCase()}`, ...KINDS.map(([k]) => String(count(k)))],
      });
      const said = KINDS.filter(([k]) => count(k) > 0).map(([k, kind]) => `${count(k)} ${kind}`);
      const texts = {
        id: `${id}-map-${name}-${moment}`,
        title: `${when}, ${name}`,
        description: `Page blocks by content: ${said.join(', ')}.`,
      };
      return block_map_svg(texts, map, run.zones, (letter) => letter);
    });
    text += `<p><strong>${name}</strong> <span class="soft">seed ${run.seed}</span></p><div class="maps">${pictures.join('')}</div>`;
    const type_maps = moments.map(([moment, when]) => {
      const map = run.types[moment]!;
      const count = count_letters(map);
      const said = TYPES.filter(([k]) => count(k) > 0).map(([k, type]) => `${count(k)} ${type}`);
      const texts = {
        id: `${id}-type-${name}-${moment}`,
        title: `${when}, ${name}`,
        description: `Page blocks by migrate type: ${said.join(', ')}.`,
      };
      return block_map_svg(texts, map, run.zones, (letter) => TYPE_CLASS[letter] ?? 'r');
    });
    types += `<div class="maps">${type_maps.join('')}</div>`;
  }
  text += legend(KINDS.filter(([letter]) => seen.has(letter)));
  text += `<details><summary>Page blocks by content, as numbers</summary>${html_table('Page blocks by content', ['Moment', ...KINDS.map(([, kind]) => kind)], counts)}</details>`;
  const type_legend = legend(TYPES.slice(0, 4).map(([k, type]) => [TYPE_CLASS[k]!, type] as const));
  text += `<details><summary>Migrate types of the page blocks</summary>${types}${type_legend}</details>`;
  return text;
}

function count_letters(map: string): (letter: string) => number {
  const counts = new Map<string, number>();
  for (const letter of map) counts.set(letter, (counts.get(letter) ?? 0) + 1);
  return (letter) => counts.get(letter) ?? 0;
}

/** The result of each seed. */
function seed_table(group: Group): string {
  const runs = [...group.vanilla, ...group.compaction];
  const seeds = [...new Set(runs.map((r) => r.seed))].sort((a, b) => a - b);
  const ordinary = group.cell.experiment === 'no-regression';
  const value = (run: Run | undefined): string => {
    if (run === undefined) return '-';
    if (!ordinary) return `${run.got} of ${run.attempted}`;
    return run.steps.reduce((sum, step) => sum + step.ms, 0).toFixed(1);
  };
  const rows = seeds.map((seed) => ({
    cells: [
      String(seed),
      value(group.vanilla.find((r) => r.seed === seed)),
      value(group.compaction.find((r) => r.seed === seed)),
    ],
  }));
  const what = ordinary ? 'virtual ms in all' : 'huge pages';
  const columns = ['Seed', `vanilla: ${what}`, `compaction: ${what}`];
  return `<details><summary>Result of each seed</summary>${html_table('Result of each seed', columns, rows)}</details>`;
}
