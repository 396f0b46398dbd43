/**
 * The linker: modules as functions do what they do as modules.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { functionBody, importsOf, load } from '../../mount/linker.ts';
import { O_WRONLY } from '../../src/fs/vfs.ts';
import * as imported from '../../src/index.ts';

const INDEX = fileURLToPath(new URL('../../src/index.js', import.meta.url));

test('imports and exports become constants and a returned object', () => {
  const text = [
    "import { a, b as c } from './a.js';",
    'export const X = a;',
    'export function* f() {',
    '    yield c;',
    '}',
    'export class K {',
    '}',
    "export { d as e, g } from './d.js';",
    '//# sourceMappingURL=x.js.map',
  ].join('\n');
  const { body, imports } = functionBody(text);
  assert.deepEqual(imports, ['./a.js', './d.js']);
  // Lines stay where they are.
  assert.equal(body.split('\n')[4], '}');
  const link = new Function('$', body) as (given: object[]) => Record<string, unknown>;
  const given = [
    { a: 1, b: 2 },
    { d: 3, g: 4 },
  ];
  const { X, f, K, e, g } = link(given);
  assert.deepEqual([X, e, g, typeof K], [1, 3, 4, 'function']);
  assert.deepEqual([...(f as () => Generator<number>)()], [2]);
});

test('packages, the own address and what is loaded later', () => {
  const text = [
    "import debug from 'debug';",
    'export const here = () => import.meta.url;',
    "export const later = () => import('./b.js');",
    'export const log = debug;',
  ].join('\n');
  const url = "file:///it's $& here/a.js";
  const { body, imports } = functionBody(text, url);
  assert.deepEqual(imports, ['debug']);
  const link = new Function('$', '$import', body) as (
    given: object[],
    later: (name: string) => string,
  ) => { here(): string; later(): string; log: number };
  const module = link([{ default: 5 }], (name) => `loaded ${name}`);
  assert.deepEqual([module.here(), module.later(), module.log], [url, 'loaded ./b.js', 5]);
});

test('all programs can be linked', () => {
  const programs = ['mount/cli.js', 'bench/groups.js', 'src/index.js', 'src/sim/experiment.js'];
  for (const program of programs) {
    const file = fileURLToPath(new URL(`../../${program}`, import.meta.url));
    for (const path of importsOf(file)) functionBody(readFileSync(path, 'utf8'));
  }
});

test('what is not known is refused', () => {
  assert.throws(() => functionBody("import * as x from './x.js';"), /does not know/);
  assert.throws(() => functionBody('export let x = 1;'), /does not know/);
});

test('files come behind those that they import', () => {
  const files = importsOf(INDEX);
  assert.equal(files.at(-1), INDEX);
  assert.equal(new Set(files).size, files.length);
  const at = (name: string): number => files.findIndex((file) => file.endsWith(name));
  assert.ok(at('/lib/list.js') >= 0 && at('/lib/list.js') < at('/mm/buddy.js'));
  assert.ok(at('/mm/buddy.js') < at('/linux-2.6.35/rmqueue.js'));
});

/** What a machine of this core comes to after some work. */
function worked(core: typeof imported): string {
  const m = core.boot({ machine: 'x86_64', memory: 64 * 2 ** 20, seed: 7 });
  let node: imported.Vnode | number = core.mount_root(m);
  for (const part of 'sys/kernel/debug/pageblock/spawn'.split('/')) {
    assert.ok(node instanceof core.Vnode);
    node = node.lookup(part);
  }
  assert.ok(node instanceof core.Vnode);
  const file = node.open(O_WRONLY, { uid: 0, gid: 0, pid: 0 });
  assert.ok(typeof file !== 'number');
  const text = 'anon 20M pattern=every:2';
  const result = file.write(new TextEncoder().encode(text), 0);
  assert.equal(core.is_job(result) ? core.run_job(result) : result, text.length);
  return core.state_hash(m);
}

test('a machine of the linked core is that of the imported one, to the last bit', async () => {
  const linked = await load<typeof imported>(INDEX);
  assert.deepEqual(Object.keys(linked).sort(), Object.keys(imported).sort());
  assert.equal(worked(linked), worked(imported));
});
