/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * The report of experiments in Debian's Chromium: no errors, nothing wider than the window, readable
 * in light and dark, and the same for those who do not see it.
 *
 * PAGEBLOCK_SCREENSHOTS=DIR keeps the pictures.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import type { Cell, ExperimentName, Run } from '../../src/sim/experiment.ts';
import { at_rest } from '../../src/sim/experiment_at_rest.ts';
import { no_regression } from '../../src/sim/experiment_no_regression.ts';
import { under_load } from '../../src/sim/experiment_under_load.ts';
import { report } from '../../src/sim/report/page.ts';
import { tempDir } from '../helpers/mounts.ts';

const MIB = 2 ** 20;
const CHROMIUM = '/usr/bin/chromium';
const options = {
  skip: !existsSync(CHROMIUM) ? 'needs chromium: apt-get install chromium' : false,
  timeout: 120_000,
};

/** All three experiments on small machines. */
function smallRuns(): Run[] {
  const runs: Run[] = [];
  for (const seed of [1, 2, 3, 4]) {
    for (const compaction of [false, true]) {
      const cell = (experiment: ExperimentName): Cell => ({
        experiment,
        machine: 'x86_64',
        setup: 'published',
        compaction,
      });
      const machine = { machine: 'x86_64', compaction, seed, daemons: 0 } as const;
      const rest = { memory: 256 * MIB, files: 512, blocks: 128, swap: 0, walk: false };
      const add = (name: ExperimentName, run: Omit<Run, 'cell' | 'seed'>): void => {
        runs.push({ cell: cell(name), seed, ...run });
      };
      add('hugepages-at-rest', at_rest({ ...machine, ...rest }));
      if (seed > 1) continue;
      const swap = { memory: 128 * MIB, swap: 128 * MIB };
      add('no-regression', no_regression({ ...machine, ...swap }));
      const load = { memory: 256 * MIB, swap: 128 * MIB, builds: 2, percent: 50, warm_up: 500 };
      add('hugepages-under-load', under_load({ ...machine, ...load }));
    }
  }
  return runs;
}

let browser: Browser;
let html = '';

before(async () => {
  if (options.skip !== false) return;
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  html = report(smallRuns(), 'pageblock experiment all --html <&"report".html>');
});

after(async () => {
  await browser?.close();
});

/** What is wrong with the page, as Chromium sees it: run inside of it. */
function faults(): string[] {
  const found: string[] = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(`${root.scrollWidth} pixels wide`);
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`id ${id} twice`);
  for (const svg of document.querySelectorAll('svg:not([aria-hidden])')) {
    const names = (svg.getAttribute('aria-labelledby') ?? '').split(' ');
    const texts = names.map((id) => document.getElementById(id)?.textContent ?? '');
    if (texts.length !== 2 || texts.some((text) => text.length < 3))
      found.push('figure without words');
    if (/NaN|Infinity|undefined/.test(svg.innerHTML)) found.push(`no number in ${texts[0]}`);
  }
  for (const table of document.querySelectorAll('table')) {
    if (table.querySelector('caption') === null) found.push('table without caption');
    if (table.querySelectorAll('thead th[scope=col]').length < 2) found.push('table without head');
    for (const row of table.querySelectorAll('tbody tr')) {
      if (row.querySelector('th[scope=row]') === null) found.push('row without head');
    }
  }
  for (const link of document.querySelectorAll('a')) {
    const target = link.getAttribute('href') ?? '';
    if (document.getElementById(target.slice(1)) === null) found.push(`no target: ${target}`);
  }
  // Contrast of every text with the first ground below it (WCAG 2: 4.5).
  const rgb = (text: string): number[] => (text.match(/[\d.]+/g) ?? []).map(Number);
  const light = (c: number[]): number => {
    const [r, g, b] = c.slice(0, 3).map((v) => {
      const s = v / 255;
      return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const holder = node.parentElement!;
    if (
      (node.textContent ?? '').trim() === '' ||
      ['TITLE', 'DESC'].includes(holder.tagName.toUpperCase())
    )
      continue;
    const style = getComputedStyle(holder);
    const ink = rgb(holder.closest('svg') !== null ? style.fill : style.color);
    let ground = [255, 255, 255];
    for (let e: Element | null = holder; e !== null; e = e.parentElement) {
      const own = rgb(getComputedStyle(e).backgroundColor);
      if (own.length === 3) {
        ground = own;
        break;
      }
    }
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x) as [number, number];
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(1)}: ${node.textContent}`);
  }
  return found;
}

for (const width of [1280, 400]) {
  for (const colorScheme of ['light', 'dark'] as const) {
    it(`reads well at ${width} pixels, ${colorScheme}`, options, async (t) => {
      const dir = process.env['PAGEBLOCK_SCREENSHOTS'] ?? tempDir(t);
      mkdirSync(dir, { recursive: true });
      const file = join(dir, 'report.html');
      writeFileSync(file, html);
      const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
      const page: Page = await context.newPage();
      const said: string[] = [];
      page.on('console', (message) => said.push(message.text()));
      page.on('pageerror', (error) => said.push(String(error)));
      page.on('request', (request) => {
        if (request.url() !== pathToFileURL(file).href && request.url() !== 'data:,')
          said.push(`asked for ${request.url()}`);
      });
      await page.goto(pathToFileURL(file).href);
      assert.deepEqual(await page.evaluate(faults), []);
      // With everything opened, too.
      await page.evaluate(() => {
        for (const e of document.querySelectorAll('details')) e.open = true;
      });
      assert.deepEqual(await page.evaluate(faults), []);
      assert.deepEqual(said, []);
      const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      assert.equal(ground, colorScheme === 'dark' ? 'rgb(17, 21, 25)' : 'rgb(251, 251, 250)');
      const picture = join(dir, `report-${width}-${colorScheme}.png`);
      await page.screenshot({ path: picture, fullPage: true });
      assert.ok(statSync(picture).size > 100_000);
      await context.close();
    });
  }
}

it('says what was run, and holds what was asked for', options, async () => {
  const page = await browser.newPage();
  await page.setContent(html);
  const headings = await page.locator('h2, h4').allTextContents();
  for (const name of [
    'Huge pages at rest',
    'No regression',
    'Huge pages under load',
    'Success and cost per step: means over the seeds, with their range',
    'What each scanner did',
    'Free blocks per order over time',
    'How memory looked: a cell is a page block',
    'Command and seeds',
  ]) {
    assert.ok(headings.includes(name), name);
  }
  // What the user typed is text, not markup.
  const commands = await page.locator('pre').allTextContents();
  assert.equal(commands[0], 'pageblock experiment all --html <&"report".html>');
  const own =
    'pageblock experiment hugepages-at-rest --machine x86_64 --setup published --seeds 4 --first-seed 1';
  assert.ok(commands.includes(own), commands.join('\n'));
  // Before, during and after, with and without compaction.
  const maps = await page
    .locator('article')
    .first()
    .locator('.maps')
    .nth(0)
    .locator('figcaption')
    .allTextContents();
  assert.deepEqual(maps, [
    'Filled, vanilla',
    'Before, vanilla',
    'During, vanilla',
    'After, vanilla',
  ]);
  assert.equal((await page.locator('.unmet, .met').count()) > 5, true);
  await page.close();
});
