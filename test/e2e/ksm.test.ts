/** KSM in a mounted machine, steered with echo and cat alone. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountMachine, noFuse } from '../helpers/mounts.ts';
import { sh } from '../helpers/processes.ts';

const options = { skip: noFuse(), timeout: 90_000 };

for (const kernel of ['2.6.35', '6.1']) {
  it(
    `equal memory of processes is merged, and comes apart again, ${kernel}`,
    options,
    async (t) => {
      const mnt = await mountMachine(t, ['--kernel', kernel, '--memory', '128M']);
      const ksm = `${mnt}/sys/kernel/mm/ksm`;
      const number = async (path: string): Promise<number> => Number(await sh(`cat ${path}`));
      const free = async (): Promise<number> =>
        Number(await sh(`awk '/^MemFree/ { print $2 }' ${mnt}/proc/meminfo`));
      const anonymous = async (): Promise<number> =>
        Number(await sh(`awk '/^AnonPages/ { print $2 }' ${mnt}/proc/meminfo`));
      await sh(`echo 'anon 8M same=50 merge=1 count=4' > ${mnt}/sys/kernel/debug/pageblock/spawn`);
      const before = await free();
      await sh(`echo 1000 > ${ksm}/pages_to_scan; echo 1 > ${ksm}/run`);
      for (let i = 0; i < 100 && (await number(`${ksm}/pages_sharing`)) < 8000; i++)
        await sleep(100);
      assert.equal(await number(`${ksm}/pages_shared`), 50);
      // 6.1 keeps freed pages on long per-CPU lists, which MemFree does not count.
      if (kernel === '2.6.35') {
        assert.ok((await free()) > before + 30_000, 'most of 32 MiB is free');
      }
      assert.ok((await anonymous()) < 4000, 'most of 32 MiB is free');
      assert.ok((await number(`${ksm}/full_scans`)) >= 2);
      await sh(`echo 2 > ${ksm}/run`);
      assert.equal(await number(`${ksm}/pages_sharing`), 0);
      if (kernel === '2.6.35') assert.ok((await free()) < before + 2000);
      assert.ok((await anonymous()) > 32_000);
      const bad = await sh(`/bin/echo 3 2>&1 > ${ksm}/run; true`);
      assert.match(bad, /Invalid argument/);
    },
  );
}
