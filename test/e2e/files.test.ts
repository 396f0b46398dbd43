/**
 * The virtual files of a real mount, through plain programs: the rules that real clients rely on.
 * What each system call answers is in errno_table.test.ts.
 */
import assert from 'node:assert/strict';
import { chmodSync, closeSync, constants, openSync, readdirSync, readFileSync } from 'node:fs';
import { it } from 'node:test';
import { mountMachine, noFuse, notRoot, pageblock } from '../helpers/mounts.ts';
import { NOBODY, run, sh } from '../helpers/processes.ts';

const options = { skip: noFuse(), timeout: 90_000 };
const asRoot = { skip: notRoot(), timeout: 90_000 };

function open(path: string, flags: number): number {
  try {
    closeSync(openSync(path, flags));
    return 0;
  } catch (error) {
    return -(error as { errno: number }).errno;
  }
}

it('serves contents to any reader, whatever its pieces', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M', '--nodes', '2']);
  for (const file of ['proc/zoneinfo', 'proc/vmstat', 'sys/devices/system/node/node1/meminfo']) {
    const whole = await sh(`cat ${mnt}/${file}`);
    assert.ok(whole.length > 900);
    assert.equal(await sh(`dd if=${mnt}/${file} bs=7 2>/dev/null`), whole);
    assert.equal(await sh(`tail -c 100 ${mnt}/${file}`), whole.slice(-100));
    assert.equal(
      await sh(`cp ${mnt}/${file} ${mnt}-copy && cat ${mnt}-copy; rm -f ${mnt}-copy`),
      whole,
    );
    // R6: one descriptor, read again from its beginning.
    assert.equal(await sh(`{ cat; cat; } < ${mnt}/${file}`), whole);
  }
  assert.equal(await sh(`dd if=${mnt}/proc/sys/vm/swappiness bs=1 2>/dev/null`), '6');
  assert.ok((await sh(`cat ${mnt}/proc/meminfo`)).length < 2048, 'R1');
  // R4: sysctl throws the first two names away unseen.
  assert.match(await sh(`ls -f ${mnt}/proc/sys/vm`), /^\.\n\.\.\novercommit_memory\n/);
  assert.ok(readdirSync(`${mnt}/proc/sys/vm`).includes('compact_memory'));
  const swappiness = `${mnt}/proc/sys/vm/swappiness`;
  assert.equal(await sh(`echo -n 70 > ${swappiness}; cat ${swappiness}`), '70\n', 'R8, R9');
});

it('forbids what modes forbid, to root too', asRoot, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  for (const file of ['proc/sys/vm/compact_memory', 'sys/devices/system/node/node0/compact']) {
    assert.equal(open(`${mnt}/${file}`, constants.O_RDONLY), 13, file);
    assert.equal(open(`${mnt}/${file}`, constants.O_WRONLY | constants.O_TRUNC), 0, file);
    assert.equal(await sh(`echo anything > ${mnt}/${file}; echo $?`), '0\n');
  }
  const asNobody = (script: string) => run('bash', ['-c', script], { uid: NOBODY });
  // Root's mount lets others in, as far as modes go.
  const outer = mnt.slice(0, mnt.lastIndexOf('/'));
  chmodSync(outer, 0o755);
  assert.equal((await asNobody(`cat ${mnt}/proc/buddyinfo`)).status, 0);
  assert.equal((await asNobody(`cat ${mnt}/proc/kpageflags`)).status, 1);
  assert.equal((await asNobody(`echo 1 > ${mnt}/proc/sys/vm/swappiness`)).status, 1);
  assert.equal((await asNobody(`echo 1 > ${mnt}/proc/sys/vm/compact_memory`)).status, 1);
});

it('a write of one byte at a time is a value each', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  const file = `${mnt}/proc/sys/vm/swappiness`;
  await sh(`printf 42 | dd of=${file} bs=1 2>/dev/null`);
  assert.equal(readFileSync(file, 'utf8'), '2\n');
  // A blank alone is no number: the second write of two fails.
  const { status } = await run('bash', ['-c', `printf '7 ' | dd of=${file} bs=1`]);
  assert.equal(status, 1);
  assert.equal(readFileSync(file, 'utf8'), '7\n');
});

it('a kernel without compaction has neither its files nor its counters', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M', '--no-compaction']);
  const names = await sh(`find ${mnt}/proc ${mnt}/sys -name '*compact*' -o -name 'extfrag*'`);
  assert.equal(names, '');
  assert.equal(await sh(`grep -c compact ${mnt}/proc/vmstat || true`), '0\n');
  const { status } = await pageblock(['umount', mnt]);
  assert.equal(status, 0);
});
