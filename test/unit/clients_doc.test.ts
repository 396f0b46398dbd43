/**
 * The table in docs/clients.md, made from the rows that test/e2e/clients_matrix.test.ts runs.
 * UPDATE_GOLDEN=1 writes it anew.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { CLIENT_ROWS, KERNELS } from '../helpers/client_matrix.ts';

const PATH = new URL('../../../docs/clients.md', import.meta.url).pathname;

test('docs/clients.md: programs and kernels', () => {
  let table = `| Program | What is compared with the mount | ${KERNELS.join(' | ')} |\n`;
  table += `| --- | --- |${KERNELS.map(() => ' --- |').join('')}\n`;
  for (const { program, command, checked } of CLIENT_ROWS) {
    const words = command[0] === 'sh' ? program : command.join(' ');
    table += `| \`${words}\` | ${checked} |${KERNELS.map(() => ' checked |').join('')}\n`;
  }
  const text = readFileSync(PATH, 'utf8');
  const part = /(<!-- programs: [^\n]*-->\n)[\s\S]*?(<!-- end of the programs -->)/;
  assert.match(text, part);
  const wanted = text.replace(part, (_, head: string, tail: string) => head + table + tail);
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(PATH, wanted);
  else assert.equal(text, wanted);
});
