/**
 * Transport A: the conformance suite through the real kernel, and the traps of fuse-native that a
 * client can feel. The tree is fakeTree, in a server process of its own.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { logPath } from '../../mount/runtime.ts';
import { mountClient } from '../helpers/client.ts';
import {
  FAKE_SERVER,
  isMounted,
  mountMachine,
  noFuse,
  notRoot,
  tempDir,
} from '../helpers/mounts.ts';
import { endChild, NOBODY, run, sh, startServer } from '../helpers/processes.ts';
import { conformance } from './transport.conformance.ts';

const node = process.execPath;

conformance(
  'fuse-native',
  async () => {
    const dir = await mkdtemp(join(tmpdir(), 'pageblock-test-'));
    const server = await startServer(node, [FAKE_SERVER, dir], 'READY');
    return {
      client: mountClient(dir),
      end: async () => {
        await endChild(server, 'SIGTERM');
        await rm(dir, { recursive: true });
      },
    };
  },
  noFuse(),
);

async function serve(t: TestContext, env: NodeJS.ProcessEnv = {}, names = ['mnt']) {
  const base = tempDir(t);
  const dirs = names.map((name) => join(base, name));
  for (const dir of dirs) await mkdir(dir);
  const server = await startServer(node, [FAKE_SERVER, ...dirs], 'READY', {
    ...process.env,
    ...env,
  });
  t.after(() => endChild(server, 'SIGTERM'));
  return { base, mnt: dirs[0]!, dirs, server };
}

const options = { skip: noFuse(), timeout: 60_000 };

it('serves plain programs', options, async (t) => {
  const { mnt } = await serve(t);
  assert.equal(await sh(`cat ${mnt}/proc/value`), '5\n');
  assert.equal(await sh(`head -c 1 ${mnt}/proc/value`), '5');
  assert.equal(await sh(`wc -c < ${mnt}/proc/big`), '1048576\n');
  assert.equal(await sh(`echo 17 > ${mnt}/proc/value; cat ${mnt}/proc/value`), '17\n');
  assert.equal(await sh(`echo 18 >> ${mnt}/proc/value; cat ${mnt}/proc/value`), '18\n');
  assert.equal(await sh(`echo 19 >> ${mnt}/proc/value; cat ${mnt}/proc/value`), '19\n');
  const wrong = await run('bash', ['-c', `echo abc > ${mnt}/proc/value`]);
  assert.equal(wrong.status, 1);
  assert.match(wrong.stderr, /Invalid argument/);
  assert.equal((await run('cat', [join(mnt, 'proc/trigger')])).status, 1);
  assert.equal(await sh(`cp ${mnt}/proc/value ${mnt}/disk/copy; cat ${mnt}/disk/copy`), '19\n');
  await sh(`cd ${mnt}/disk; tar cf t.tar copy; mkdir x; tar xf t.tar -C x; cmp copy x/copy`);
  await sh(`rm -rf ${mnt}/disk/*; test -z "$(ls -A ${mnt}/disk)"`);
});

it('answers 64 slow writes together, and reads meanwhile', options, async (t) => {
  const { mnt } = await serve(t);
  const start = performance.now();
  const writers = sh(
    `for i in $(seq 0 63); do printf 20 > ${mnt}/proc/slow$i & done; wait; echo done`,
    { timeout: 30_000 },
  );
  for (let i = 0; i < 10; i++) assert.equal(await sh(`cat ${mnt}/proc/value`), '5\n');
  assert.equal(await writers, 'done\n');
  assert.ok(performance.now() - start < 30_000);
});

it('lets a killed client end once its write is answered', options, async (t) => {
  const { mnt } = await serve(t);
  const client = await run('bash', ['-c', `printf 1500 > ${mnt}/proc/slow0`], { timeout: 300 });
  assert.equal(client.signal, 'SIGKILL');
  assert.equal(await sh(`cat ${mnt}/proc/value`), '5\n');
});

it(
  'rmdir of a directory with a removed open file is refused, not the file lost',
  options,
  async (t) => {
    const { mnt } = await serve(t);
    const out = await sh(
      `mkdir ${mnt}/disk/d; exec 3<> ${mnt}/disk/d/f; echo kept >&3; rm ${mnt}/disk/d/f
     rmdir ${mnt}/disk/d 2>/dev/null && echo gone
     mv ${mnt}/disk/d ${mnt}/disk/e; cat /proc/self/fd/3
     exec 3>&-; sleep 0.2; rmdir ${mnt}/disk/e && echo removed`,
    );
    assert.equal(out, 'kept\nremoved\n');
  },
);

it('serves two mounts from one process', options, async (t) => {
  const { dirs } = await serve(t, {}, ['one', 'two']);
  const [one, two] = dirs;
  await sh(`echo 1 > ${one}/proc/value; echo 2 > ${two}/proc/value`);
  assert.equal(await sh(`cat ${one}/proc/value ${two}/proc/value`), '1\n2\n');
});

it('a pattern in DEBUG does not switch on the dump of libfuse', options, async (t) => {
  const base = tempDir(t);
  await mkdir(join(base, 'mnt'));
  const out = await sh(
    `DEBUG='x:*' ${node} ${FAKE_SERVER} ${base}/mnt > ${base}/out 2>&1 & server=$!
     for i in $(seq 100); do grep -q READY ${base}/out && break; sleep 0.1; done
     cat ${base}/mnt/proc/value; kill $server; wait $server; cat ${base}/out`,
  );
  assert.equal(out, '5\nREADY\n');
});

it('SIGTERM leaves no mount, and status 0', options, async (t) => {
  const { mnt, server } = await serve(t);
  assert.ok(isMounted(mnt));
  assert.equal(await endChild(server, 'SIGTERM'), 0);
  assert.ok(!isMounted(mnt));
});

it('keeps /dev/fuse out of child processes', options, async (t) => {
  const { mnt, server } = await serve(t, { CHILD: '20' });
  const fds = readdirSync(`/proc/${server.pid}/fd`).filter(
    (fd) => readlinkSync(`/proc/${server.pid}/fd/${fd}`) === '/dev/fuse',
  );
  assert.equal(fds.length, 1);
  const flags = /^flags:\s+(\d+)$/m.exec(
    readFileSync(`/proc/${server.pid}/fdinfo/${fds[0]}`, 'utf8'),
  );
  assert.ok(Number.parseInt(flags![1]!, 8) & 0o2000000, 'O_CLOEXEC');
  // Were it inherited, this stat would hang as long as the child lives.
  await endChild(server, 'SIGKILL');
  const start = performance.now();
  const client = await run('cat', [join(mnt, 'proc/value')], { timeout: 5000 });
  assert.match(client.stderr, /not connected/);
  assert.ok(performance.now() - start < 2000);
  await sh(`umount -l ${mnt} || fusermount -uz ${mnt}`);
});

it('a client whose server is killed is not left hanging', options, async (t) => {
  const { mnt, server } = await serve(t);
  const client = run('bash', ['-c', `echo 5000 > ${mnt}/proc/slow0`], { timeout: 10_000 });
  await sleep(300);
  await endChild(server, 'SIGKILL');
  assert.equal((await client).status, 1);
  await sh(`umount -l ${mnt} || fusermount -uz ${mnt}`);
});

it('checks modes for other users', { ...options, skip: notRoot() }, async (t) => {
  const { base, mnt } = await serve(t);
  await sh(`chmod 755 ${base}; echo secret > ${mnt}/disk/f; chmod 600 ${mnt}/disk/f`);
  assert.equal(await sh(`cat ${mnt}/proc/value`, { uid: NOBODY }), '5\n');
  for (const command of [
    `echo 1 > ${mnt}/proc/value`,
    `echo 1 > ${mnt}/proc/trigger`,
    `cat ${mnt}/disk/f`,
  ]) {
    const result = await run('bash', ['-c', command], { uid: NOBODY });
    assert.equal(result.status, 1);
    assert.match(result.stderr, /Permission denied/);
  }
});

it('forgets what it keeps for threads of libfuse that have ended', options, async (t) => {
  const env = { ...process.env, DEBUG: 'pageblock:native' };
  const mnt = await mountMachine(t, ['--memory', '128M'], { env });
  // Waves of readers: libfuse starts a thread for each and ends all but ten.
  const waves = `
import sys, threading
def read():
    for _ in range(4): open(sys.argv[1] + '/proc/meminfo').read()
for _ in range(60):
    threads = [threading.Thread(target=read) for _ in range(64)]
    for t in threads: t.start()
    for t in threads: t.join()
`;
  await sh(`python3 -c "$0" ${mnt}`.replace('$0', waves), { timeout: 60_000 });
  const log = readFileSync(logPath(mnt), 'utf8');
  const counts = [...log.matchAll(/(\d+) threads, (\d+) kept/g)].map((m) => m.slice(1).map(Number));
  assert.ok(counts.length > 1, `only few threads have ended: ${log}`);
  for (const [all = 0, kept = 0] of counts) assert.ok(kept < 140, `${kept} of ${all}`);
});
