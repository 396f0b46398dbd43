/**
 * The main job, with real programs: files written by dd lie in emulated page frames, compaction
 * moves those frames, high orders appear, the index falls, and every checksum still holds.
 */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { it } from 'node:test';
import { isMounted, mountMachine, noFuse, tempDir, userView } from '../helpers/mounts.ts';
import { NOBODY, run, sh } from '../helpers/processes.ts';
import { pagesMoved, session } from '../helpers/session.ts';

const options = { skip: noFuse(), timeout: 240_000 };
const noFio = options.skip || ((await run('which', ['fio'])).status !== 0 && 'fio is missing');
const KERNELS = ['2.6.35', '6.1'];

it('the session, default options', options, async (t) => {
  const mnt = await mountMachine(t);
  await session(dirname(mnt));
});

it('the session, --memory 8G --nodes 2', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '8G', '--nodes', '2']);
  await session(dirname(mnt));
});

for (const args of [[], ['--memory', '8G', '--nodes', '2']]) {
  const name = `the session as an ordinary user, ${args.join(' ') || 'default options'}`;
  it(name, { ...options, skip: userView.skip }, async (t) => {
    const dir = tempDir(t);
    chmodSync(dir, 0o755);
    const home = join(dir, 'home');
    mkdirSync(home);
    chownSync(home, NOBODY, NOBODY);
    const { node, main } = userView(t);
    const env = { ...process.env, HOME: home, TMPDIR: home };
    const user = { uid: NOBODY, cwd: home, env, timeout: 60_000 };
    const mounted = await run(node, [main, 'mount', 'mnt', ...args], user);
    assert.deepEqual([mounted.status, mounted.stderr], [0, '']);
    await session(home, user);
    assert.equal((await run(node, [main, 'umount', 'mnt'], user)).status, 0);
    assert.ok(!isMounted(join(home, 'mnt')));
  });
}

for (const kernel of KERNELS) {
  it(`compacts one node through its file in sysfs, ${kernel}`, options, async (t) => {
    const mnt = await mountMachine(t, ['--kernel', kernel, '--memory', '512M']);
    const moved = async () => pagesMoved(await sh(`cat ${mnt}/proc/vmstat`));
    await sh(
      `for i in $(seq 160); do dd if=/dev/urandom of=${mnt}/disk/f$i bs=4096 count=128 2>/dev/null & done; wait
     cat ${mnt}/disk/f* | sha256sum > ${dirname(mnt)}/all; rm ${mnt}/disk/f*[13579]
     cat ${mnt}/disk/f* | sha256sum > ${dirname(mnt)}/even`,
    );
    const before = await moved();
    await sh(`echo 1 > ${mnt}/sys/devices/system/node/node0/compact`);
    assert.ok((await moved()) > before);
    await sh(`cat ${mnt}/disk/f* | sha256sum | cmp - ${dirname(mnt)}/even`);
  });

  it(`a full disk or memory is an error, and harms nothing, ${kernel}`, options, async (t) => {
    const mnt = await mountMachine(t, ['--kernel', kernel, '--memory', '64M']);
    const out = await sh(
      `cd ${mnt}/disk; head -c 8M /dev/urandom > kept; sha256sum kept > ${dirname(mnt)}/sum
     dd if=/dev/zero of=fill bs=128k count=4096 2>&1 | head -1; ls -l fill | awk '{print $5}'
     sha256sum -c ${dirname(mnt)}/sum; rm fill; echo again > again; cat again`,
      { timeout: 120_000 },
    );
    assert.match(out, /kept: OK\nagain\n$/);
  });

  it(`fio verifies its data during compactions, ${kernel}`, {
    ...options,
    skip: noFio,
  }, async (t) => {
    const mnt = await mountMachine(t, ['--kernel', kernel, '--memory', '512M']);
    const out = await sh(
      `cd ${dirname(mnt)}
     for i in $(seq 100); do dd if=/dev/zero of=mnt/disk/f$i bs=4096 count=64 2>/dev/null & done; wait
     rm mnt/disk/f*[13579]
     # A busy host lets few compactions happen beside one job: then there is another.
     while [ $((compactions + 0)) -le 10 ]; do
       fio --name=v --directory=mnt/disk --ioengine=psync --rw=randwrite --bsrange=4k-64k --size=24m \\
         --numjobs=2 --verify=crc32c --verify_fatal=1 --do_verify=1 --loops=2 --group_reporting \\
         --output=fio.out & fio=$!
       while kill -0 $fio 2>/dev/null; do
         echo 1 > mnt/proc/sys/vm/compact_memory; compactions=$((compactions + 1))
         dd if=/dev/zero of=mnt/disk/g bs=4096 count=256 2>/dev/null; rm -f mnt/disk/g; sleep 0.01
       done
       wait $fio; status=$?; cat fio.out
       [ $status = 0 ] || exit $status
     done
     echo "compactions $compactions"
     grep -E 'compact_pages_moved|pgmigrate_success' mnt/proc/vmstat`,
      { timeout: 200_000 },
    );
    assert.match(out, /err= 0/);
    assert.ok(Number(/^compactions (\d+)$/m.exec(out)?.[1]) > 10, out);
    assert.ok(pagesMoved(out) > 1000, out);
  });
}
