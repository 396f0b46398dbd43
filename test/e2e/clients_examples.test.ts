/**
 * The scripts in examples/, run as they are.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { packageRoot } from '../../mount/native.ts';
import { Client, EVERYBODY, missing } from '../helpers/clients.ts';
import { hostUnchanged } from '../helpers/host_state.ts';
import { MAIN, tempDir } from '../helpers/mounts.ts';
import { run } from '../helpers/processes.ts';

const EXAMPLES = join(packageRoot(), 'examples');

hostUnchanged(before, after);

it('the published set-up of the compaction test', {
  skip: missing('hugeadm', 'updatedb.plocate'),
  timeout: 900_000,
}, async (t) => {
  // As whoever runs the tests; on a machine with no swap hugeadm warns, which the script hides.
  const client = await Client.mount(t, EVERYBODY[0]!, ['--memory', '2G']);
  const script = join(EXAMPLES, 'compaction-setup.sh');
  const command = ['run', client.mnt, '--', script, join(client.mnt, 'disk')];
  const result = await client.pageblock(command, { timeout: 880_000 });
  assert.equal(result.status, 0, result.stderr);
  if (EVERYBODY[0] === 'root') assert.equal(result.stderr, '');
  const [title, ...rows] = result.stdout.trim().split('\n');
  assert.equal(title, 'percent wanted pool');
  const steps = rows.map((row) => row.split(' ').map(Number));
  assert.deepEqual(
    steps.map(([percent]) => percent),
    Array.from({ length: 20 }, (_, i) => 5 * (i + 1)),
  );
  // Half of memory is free, the rest can be written back and reclaimed.
  for (const [percent, wanted, pool] of steps) {
    if (percent! <= 60) assert.equal(pool, wanted, `${percent} %`);
    else assert.ok(pool! <= wanted!);
  }
  const info = await client.meminfo();
  assert.equal(info['HugePages_Total'], steps.at(-1)![2]);
  assert.equal(await client.read('proc/sys/kernel/shmmax'), '8589934592\n');
  const zones = (await client.read('proc/zoneinfo')).match(/^Node /gm)!.length;
  assert.equal(await client.read('proc/sys/vm/min_free_kbytes'), `${11 * 2048 * zones}\n`);
  const vmstat = await client.read('proc/vmstat');
  assert.ok(Number(/^compact_success (\d+)$/m.exec(vmstat)![1]) > 0);
  assert.equal(readdirSync(join(client.mnt, 'disk')).filter((f) => /^file-/.test(f)).length, 2048);
});

it('the test of a script that sets huge pages up', {
  skip: missing('hugeadm'),
  timeout: 300_000,
}, async () => {
  const env = { ...process.env, PAGEBLOCK: `${process.execPath} ${MAIN}` };
  const test = join(EXAMPLES, 'test-reserve-hugepages.sh');
  const result = await run('sh', [test], { env, timeout: 280_000 });
  assert.equal(result.status, 0, result.stdout + result.stderr);
  assert.match(result.stdout, /^1\.\.11$/m);
  // A script that does it wrong is found out.
  const wrong = await run('sh', [test, '/bin/true'], { env, timeout: 60_000 });
  assert.equal(wrong.status, 1);
  assert.match(wrong.stdout, /^not ok 1 - reserves what is needed$/m);
});

it('the test of a set-up script of the world: dpdk-hugepages.py', {
  skip: missing('python3'),
  timeout: 300_000,
}, async (t) => {
  const env = { ...process.env, PAGEBLOCK: `${process.execPath} ${MAIN}` };
  const test = join(EXAMPLES, 'test-dpdk-hugepages.sh');
  const result = await run('sh', [test], { env, timeout: 280_000 });
  assert.equal(result.status, 0, result.stdout + result.stderr);
  if (/^1\.\.0 # skip/m.test(result.stdout)) t.skip(result.stdout.trim());
  else assert.match(result.stdout, /^1\.\.14$/m);
});

it('the workflow for a hosted runner, step by step', {
  skip: missing('hugeadm'),
  timeout: 300_000,
}, async (t) => {
  const yaml = readFileSync(join(EXAMPLES, 'github-actions.yml'), 'utf8');
  const machines = JSON.parse(/^ +machine: (\[.*\])$/m.exec(yaml)![1]!) as string[];
  const script = /^ +SCRIPT: (.*)$/m.exec(yaml)![1];
  const steps = [...yaml.matchAll(/^ +- run: (.*)$/gm)].map((match) => match[1]!);
  assert.equal(steps.length, 7);
  const dir = tempDir(t);
  // What the runner has: a sudo, a PATH. The set-up of this very checkout is there already.
  writeFileSync(join(dir, 'sudo'), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 });
  const steppable = steps.filter((step) => !/apt-get|npm ci/.test(step));
  assert.equal(steppable.length, 5);
  for (const machine of machines) {
    const env = {
      ...process.env,
      PATH: `${dir}:${process.env['PATH']}:/usr/sbin`,
      MACHINE: machine,
      SCRIPT: script,
    };
    for (const step of steppable) {
      const command = step.replaceAll('/tmp/', `${dir}/`);
      const result = await run('bash', ['-e', '-c', command], {
        env,
        cwd: packageRoot(),
        timeout: 60_000,
      });
      assert.equal(result.status, 0, `${machine}: ${command}\n${result.stdout}${result.stderr}`);
      if (command.includes('--pool-list')) assert.match(result.stdout, /2097152 +150 +150 +150/);
    }
  }
});
