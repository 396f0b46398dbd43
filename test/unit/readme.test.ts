/**
 * Parts of the documents that are made from the code: the file table of README.md from the rows of
 * the kernel, of /proc/PID and of the control files; the last part of docs/DIFFERENCES.md from
 * what the heads of files say after "Differs". UPDATE_GOLDEN=1 writes them anew.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { linux_2_6_35 } from '../../src/kernels/linux-2.6.35/profile.ts';
import type { FileRow } from '../../src/lib/file_row.ts';
import { boot } from '../../src/machine.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { control_files } from '../../src/sim/control.ts';
import { test_files } from '../../src/sim/test_files.ts';

const CHECKOUT = new URL('../../../', import.meta.url).pathname;

const memory = 64 * 2 ** 20;
const FULL = boot({ memory });
const LACKING: [string, Machine][] = [
  ['compaction', boot({ memory, compaction: false })],
  ['NUMA', boot({ memory, numa: false })],
];

/** What a machine must have for this file to be there. */
function needs(row: FileRow<Machine>): string {
  if (row.when === undefined) return '';
  // Every machine has some sizes of huge pages.
  if (/\/hugepages-/.test(row.path)) return /mempolicy|\/node/.test(row.path) ? 'NUMA' : '';
  if (!row.when(FULL)) return 'x86';
  return LACKING.filter(([, m]) => !row.when!(m))
    .map(([name]) => name)
    .join(', ');
}

function file_table(): string {
  const rows = [
    ...linux_2_6_35.files,
    ...linux_2_6_35.file_directories.flatMap((directory) => directory.rows),
    ...control_files,
    ...test_files,
  ];
  // Rows that differ in the name of an event or option, or in a size, become one line.
  const lines = new Set<string>();
  for (const row of rows) {
    const many = /\/tracing\/(?:events\/kmem\/(\w+)\/|options\/([\w-]+)$)/.exec(row.path);
    const name = many?.[1] ?? many?.[2];
    const general = (text: string): string =>
      name === undefined ? text : text.replace(name, 'NAME');
    const path = general(row.path)
      .replace('{pid}', 'PID')
      .replace(/\{\w+\}/, 'N')
      .replace(/hugepages-\d+kB/, 'hugepages-SIZEkB');
    const mode = row.mode.toString(8).padStart(4, '0');
    lines.add(`| \`${path}\` | ${mode} | ${general(row.doc)} | ${needs(row)} |`);
  }
  const head = '| File | Mode | What it shows, or does when written | Needs |';
  return `${[head, '| --- | --- | --- | --- |', ...lines].join('\n')}\n`;
}

/** What the heads of source files say after "Differs", one item a file. */
function differences(): string {
  let text = '';
  for (const layer of ['src/lib', 'src/mm', 'src/kernels', 'src/fs', 'src/sim', 'mount']) {
    const names = readdirSync(join(CHECKOUT, layer), { recursive: true, encoding: 'utf8' }).sort();
    for (const name of names) {
      if (!name.endsWith('.ts')) continue;
      const source = readFileSync(join(CHECKOUT, layer, name), 'utf8');
      const head = /^\/\*\*\n(.*?)\n? \*\/$/ms.exec(source)?.[1]?.replace(/^ \* ?/gm, '') ?? '';
      const said = /\bDiffers[^:.]*: *(.*?)(?=\n\n|$)/s.exec(head)?.[1];
      if (said === undefined) continue;
      text += `- \`${layer}/${name}\`: ${said.replace(/\s+/g, ' ').trim()}\n`;
    }
  }
  return text;
}

/** Compares the part of a document between its marks with what it should be, or writes it. */
function compare_part(document: string, mark: string, part: string): void {
  const path = join(CHECKOUT, document);
  const text = readFileSync(path, 'utf8');
  const opening = `<!-- ${mark}: made by test/unit/readme.test.ts, UPDATE_GOLDEN=1 -->\n`;
  const begin = text.indexOf(opening) + opening.length;
  const end = text.indexOf(`<!-- end of the ${mark} -->`);
  assert.ok(begin >= opening.length && end >= begin, `${document} has lost the marks of a part`);
  if (process.env['UPDATE_GOLDEN'] === '1') {
    writeFileSync(path, text.slice(0, begin) + part + text.slice(end));
  } else {
    assert.equal(text.slice(begin, end), part, 'run this test with UPDATE_GOLDEN=1');
  }
}

test('the file table of README.md is that of the rows', () => {
  compare_part('README.md', 'file table', file_table());
});

test('docs/DIFFERENCES.md has what the heads of files say', () => {
  compare_part('docs/DIFFERENCES.md', 'differences', differences());
});

test('every file has a line of documentation, and no two have the same path', () => {
  const paths = new Set<string>();
  for (const row of [...linux_2_6_35.files, ...control_files]) {
    assert.match(row.doc, /^[^\n|]{5,120}$/, row.path);
    assert.ok(!paths.has(row.path), row.path);
    paths.add(row.path);
  }
});
