/**
 * spawn, kill, index and verify from the command line, and the control files behind them.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { mountMachine, noFuse, pageblock, tempDir } from '../helpers/mounts.ts';
import { sh } from '../helpers/processes.ts';

const options = { skip: noFuse(), timeout: 90_000 };

it('spawns and kills simulated processes', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  const control = `${mnt}/sys/kernel/debug/pageblock`;
  const free = async () => Number(/MemFree: +(\d+)/.exec(await sh(`cat ${mnt}/proc/meminfo`))?.[1]);
  const before = await free();
  const one = await pageblock(['spawn', mnt, 'anon', '32M', 'name=filler']);
  assert.deepEqual([one.status, one.stderr], [0, '']);
  assert.match(one.stdout, /^\d+\n$/);
  const pid = one.stdout.trim();
  assert.ok((await free()) < before - 32_000);
  assert.match(await sh(`cat ${mnt}/proc/${pid}/status`), /^Name:\tfiller$/m);
  const family = await pageblock(['spawn', mnt, 'fork', 'anon', '1M', 'children=2']);
  assert.equal(family.stdout.trim().split('\n').length, 3);
  assert.match(await sh(`cat ${control}/processes`), new RegExp(`^ *${pid} .* filler$`, 'm'));

  const killed = await pageblock(['kill', mnt, pid]);
  assert.deepEqual([killed.status, killed.stdout, killed.stderr], [0, '', '']);
  assert.ok((await free()) > before - 32_000);
  const again = await pageblock(['kill', mnt, pid]);
  assert.equal(again.status, 1);
  assert.match(again.stderr, /^pageblock: the machine refused '\d+' \(ESRCH\): see .*processes\n$/);

  // The same with echo and cat.
  const child = await sh(`exec 3<> ${control}/spawn; echo anon 1M >&3; cat ${control}/processes`);
  const last = /^ *(\d+) .* anon$/m.exec(child.trimEnd().split('\n').at(-1)!)?.[1];
  await sh(`echo ${last} > ${control}/kill; ! grep -q "^ *${last} " ${control}/processes`);
});

it('tells what it refuses to spawn', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  const result = await pageblock(['spawn', mnt, 'nonsense']);
  assert.equal(result.status, 1);
  assert.match(
    result.stderr,
    /^pageblock: the machine refused 'nonsense' \(EINVAL\): see .*spawn\n$/,
  );
  const none = await pageblock(['spawn', join(mnt, '..'), 'anon', '1M']);
  assert.equal(none.status, 1);
  assert.match(none.stderr, /^pageblock: .* is not mounted: pageblock mount .*\n$/);
});

const BUDDYINFO =
  'Node 0, zone      DMA      3      2      3      1      2      1      1      0      1      1      3 \n' +
  'Node 0, zone   Normal   1000      0      0      0      0      0      0      0      0      0      1 \n';
const UNUSABLE =
  'Node 0, zone      DMA 0.000 0.000 0.001 0.004 0.006 0.014 0.022 0.038 0.038 0.102 0.231 \n' +
  'Node 0, zone   Normal 0.000 0.494 0.494 0.494 0.494 0.494 0.494 0.494 0.494 0.494 0.494 \n';

it('index: from standard input, a file, with and without options', async (t) => {
  const file = join(tempDir(t), 'buddyinfo');
  writeFileSync(file, BUDDYINFO);
  const one = await pageblock(['index', '--unusable'], { input: BUDDYINFO });
  assert.deepEqual([one.status, one.stdout, one.stderr], [0, UNUSABLE, '']);
  assert.equal((await pageblock(['index', '--unusable', file])).stdout, UNUSABLE);
  const extfrag = await pageblock(['index', '--extfrag', file]);
  assert.match(extfrag.stdout, /^Node 0, zone {6}DMA (-1\.000 ){11}\n/);
  const modern = await pageblock(['index', '--extfrag', '--kernel', '6.1', file]);
  assert.equal(modern.stdout.split('\n').length, 3);
  const both = await pageblock(['index', file]);
  assert.equal(both.stdout, `unusable_index\n${UNUSABLE}extfrag_index\n${extfrag.stdout}`);
  const wrong = await pageblock(['index'], { input: 'root:x:0:0\n' });
  assert.equal(wrong.status, 1);
  assert.match(wrong.stderr, /^pageblock: line 1: [^\n]+\n$/);
  assert.equal((await pageblock(['index', '/nonexistent'])).status, 1);
});

it('index agrees with the mounted files', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '512M', '--nodes', '2']);
  await sh(
    `cat ${mnt}/proc/buddyinfo > ${mnt}/../b; cat ${mnt}/sys/kernel/debug/extfrag/* > ${mnt}/../i`,
  );
  const { stdout: extfrag } = await pageblock(['index', '--extfrag', `${mnt}/../b`]);
  const { stdout: unusable } = await pageblock(['index', '--unusable', `${mnt}/../b`]);
  assert.equal(extfrag + unusable, await sh(`cat ${mnt}/../i`));
});

it('verify: files, gzipped files, directories; counts and status', async (t) => {
  const dir = tempDir(t);
  mkdirSync(join(dir, 'below'));
  const wrong = '{"neither":"schema"}\n';
  writeFileSync(join(dir, 'a.jsonl'), wrong);
  writeFileSync(join(dir, 'below/b.jsonl.gz'), gzipSync(wrong));
  writeFileSync(join(dir, 'notes.txt'), 'no recording');
  const result = await pageblock(['verify', dir]);
  assert.equal(result.status, 1);
  assert.match(result.stdout, /^.*a\.jsonl: [^\n]+\n.*b\.jsonl\.gz: [^\n]+\n0 passed, 2 failed\n$/);
  // What cannot be read fails with a line of its own; the rest is replayed.
  mkdirSync(join(dir, 'empty'));
  writeFileSync(join(dir, 'cut.jsonl.gz'), gzipSync(wrong).subarray(0, 20));
  const bad = ['none.jsonl', 'empty', 'cut.jsonl.gz', 'a.jsonl'].map((name) => join(dir, name));
  const missing = await pageblock(['verify', ...bad]);
  assert.equal(missing.status, 1);
  assert.match(missing.stdout, /^[^\n]*a\.jsonl: [^\n]+\n0 passed, 4 failed\n$/);
  const [none, empty, cut, ...more] = missing.stderr.split('\n');
  assert.match(none!, /^pageblock: cannot read .*none\.jsonl \(ENOENT\): /);
  assert.match(empty!, /^pageblock: no recordings in .*empty: /);
  assert.match(cut!, /^pageblock: cannot unpack .*cut\.jsonl\.gz \(Z_BUF_ERROR\): /);
  assert.deepEqual(more, ['']);
});
