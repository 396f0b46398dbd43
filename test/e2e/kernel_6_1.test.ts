/** `mount --kernel 6.1` with real programs: files, compaction, huge pages, processes. */
import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { it } from 'node:test';
import { mountMachine, noFuse } from '../helpers/mounts.ts';
import { sh } from '../helpers/processes.ts';
import { pagesMoved, session } from '../helpers/session.ts';

const options = { skip: noFuse(), timeout: 240_000 };

for (const args of [
  ['--memory', '512M'],
  ['--memory', '1G', '--nodes', '2'],
]) {
  it(`the session on 6.1, ${args.join(' ')}`, options, async (t) => {
    const mnt = await mountMachine(t, ['--kernel', '6.1', ...args]);
    const cwd = dirname(mnt);
    await session(cwd);
    const counters = await sh('cat mnt/proc/vmstat', { cwd });
    const isolated = Number(/^compact_isolated (\d+)$/m.exec(counters)?.[1]);
    assert.ok(isolated >= 2 * pagesMoved(counters) - 1000, counters);
    await sh('echo 16 > mnt/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages', { cwd });
    const huge = await sh('grep HugePages_Total mnt/proc/meminfo', { cwd });
    assert.match(huge, /HugePages_Total: +16\n/);
  });
}

it('processes, their files, and what cannot be read or written on 6.1', options, async (t) => {
  const mnt = await mountMachine(t, ['--kernel', '6.1', '--memory', '256M']);
  await sh(`echo 'anon 32M name=hog' > ${mnt}/sys/kernel/debug/pageblock/spawn`);
  const pid = (await sh(`cat ${mnt}/sys/kernel/debug/pageblock/spawn`)).trim();
  const anon = /^RssAnon:\t +(\d+) kB$/m.exec(await sh(`cat ${mnt}/proc/${pid}/status`));
  assert.ok(Number(anon?.[1]) >= 32768, anon?.[0]);
  assert.match(await sh(`cat ${mnt}/proc/${pid}/smaps`), /^VmFlags: rd wr .*ac $/m);
  assert.match(await sh(`cat ${mnt}/proc/version`), /^Linux version 6\.1/);
  const script = `cat ${mnt}/proc/sys/vm/compact_memory; echo 1001 > ${mnt}/proc/sys/vm/extfrag_threshold; echo $?`;
  const out = await sh(`(${script}) 2>&1`);
  assert.match(out, /Permission denied/);
  assert.match(out, /Invalid argument\n[12]\n$/);
});

it(
  'transparent huge pages: spawned memory has them, until enabled says never',
  options,
  async (t) => {
    const mnt = await mountMachine(t, ['--kernel', '6.1', '--memory', '1G']);
    const thp = `${mnt}/sys/kernel/mm/transparent_hugepage`;
    const spawn = async (line: string): Promise<string> => {
      await sh(`echo '${line}' > ${mnt}/sys/kernel/debug/pageblock/spawn`);
      return (await sh(`cat ${mnt}/sys/kernel/debug/pageblock/spawn`)).trim();
    };
    const huge_kb = async (): Promise<number> =>
      Number(/^AnonHugePages: +(\d+) kB$/m.exec(await sh(`cat ${mnt}/proc/meminfo`))?.[1]);
    assert.equal(await huge_kb(), 0);
    await spawn('anon 64M');
    // The ends of the mapping are not aligned: 31 of 32.
    assert.equal(await huge_kb(), 31 * 2048);
    await sh(`echo never > ${thp}/enabled`);
    const small = await spawn('anon 64M');
    assert.equal(await huge_kb(), 31 * 2048);
    // khugepaged makes up for it once the process asks.
    await sh(`echo madvise > ${thp}/enabled; echo 50 > ${thp}/khugepaged/scan_sleep_millisecs`);
    await spawn(`write thp=1 pid=${small} + verify`);
    const done = `[ $(cat ${thp}/khugepaged/pages_collapsed) -ge 31 ]`;
    await sh(`for i in $(seq 100); do ${done} && break; sleep 0.1; done`);
    assert.equal(await huge_kb(), 62 * 2048);
    await spawn(`verify pid=${small}`);
    assert.match(await sh(`cat ${mnt}/proc/${small}/smaps`), /^VmFlags: .*hg $/m);
    await sh(`echo ${small} > ${mnt}/sys/kernel/debug/pageblock/kill`);
    assert.equal(await huge_kb(), 31 * 2048);
  },
);
