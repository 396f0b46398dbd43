/**
 * The table in docs/clients.md, made from the rows that test/e2e/clients.test.ts runs.
 * UPDATE_GOLDEN=1 writes it anew.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { CLIENT_GROUPS } from '../helpers/client_rows.ts';
import { KERNELS } from '../helpers/clients.ts';

const PATH = new URL('../../../docs/clients.md', import.meta.url).pathname;

test('docs/clients.md: programs and kernels', () => {
  let table = '';
  for (const { name, machine, rows } of CLIENT_GROUPS) {
    table += `\n### ${name[0]!.toUpperCase()}${name.slice(1)}\n\n\`${machine.join(' ')}\`\n\n`;
    table += `| Program | What is compared | ${KERNELS.join(' | ')} |\n`;
    table += `| --- | --- |${KERNELS.map(() => ' --- |').join('')}\n`;
    for (const { command, checked, on } of rows) {
      const results = KERNELS.map((kernel) => ` ${on?.[kernel] ?? 'checked'} |`).join('');
      table += `| ${command} | ${checked} |${results}\n`;
    }
  }
  const text = readFileSync(PATH, 'utf8');
  const part = /(<!-- programs: [^\n]*-->\n)[\s\S]*?(<!-- end of the programs -->)/;
  assert.match(text, part);
  const wanted = text.replace(part, (_, head: string, tail: string) => `${head}${table}\n${tail}`);
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(PATH, wanted);
  else assert.equal(text, wanted);
});
