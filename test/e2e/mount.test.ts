/**
 * mount, umount, status as a user types them: in the background and in the foreground, after a
 * killed server, twice at once, as an ordinary user, with wrong arguments.
 */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  isMounted,
  MAIN,
  mountMachine,
  noFuse,
  notRoot,
  pageblock,
  serverPid,
  tempDir,
  userView,
} from '../helpers/mounts.ts';
import { endChild, NOBODY, type RunOptions, run, sh, startServer } from '../helpers/processes.ts';

const options = { skip: noFuse(), timeout: 90_000 };

/** Succeeds silently. */
async function succeeds(args: string[], run: RunOptions = {}): Promise<void> {
  const result = await pageblock(args, run);
  assert.deepEqual([result.status, result.stderr], [0, ''], args.join(' '));
}

/** Fails with one line on standard error. */
async function fails(args: string[], line: RegExp, run: RunOptions = {}): Promise<void> {
  const result = await pageblock(args, run);
  assert.equal(result.status, 1, args.join(' '));
  assert.match(result.stderr, line);
  assert.match(result.stderr, /^pageblock: [^\n]+\n$/);
  assert.equal(result.stdout, '');
}

async function isGone(pid: number): Promise<boolean> {
  for (let i = 0; i < 100; i++) {
    if (!existsSync(`/proc/${pid}`)) return true;
    await sleep(50);
  }
  return false;
}

it('mounts in the background, tells status, unmounts', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M', '--seed', '7']);
  assert.match(await sh(`cat ${mnt}/proc/buddyinfo`), /^Node 0, zone +DMA +\d/);
  const { status, stdout } = await pageblock(['status', mnt]);
  assert.equal(status, 0);
  assert.match(stdout, /^kernel +2\.6\.35$/m);
  assert.match(stdout, /^memory +\d+ kB, \d+ kB free$/m);
  const names = stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {2,}/)[0]);
  assert.equal(new Set(names).size, names.length, 'each thing once');
  assert.match(stdout, /^seed +7$/m);
  const pid = await serverPid(mnt);
  await fails(['mount', mnt], /is already mounted \(pid \d+\): pageblock umount/);
  await succeeds(['umount', mnt]);
  assert.ok(await isGone(pid));
  assert.ok(!isMounted(mnt));
  await fails(['umount', mnt], /is not mounted/);
  await fails(['status', mnt], /is not mounted/);
  // The same point again, relative and with a slash.
  await succeeds(['mount', 'mnt/', '--memory', '256M'], { cwd: dirname(mnt) });
  assert.ok(isMounted(mnt));
  await succeeds(['umount', './mnt'], { cwd: dirname(mnt) });
});

it('recovers after kill -9: umount', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  process.kill(await serverPid(mnt), 'SIGKILL');
  await sleep(100);
  assert.match((await run('ls', [mnt])).stderr, /not connected/);
  await fails(['status', mnt], /was killed: pageblock umount/);
  await succeeds(['umount', mnt]);
  assert.ok(!isMounted(mnt));
});

it('recovers after kill -9: mount again', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  for (let i = 0; i < 2; i++) {
    process.kill(await serverPid(mnt), 'SIGKILL');
    await sleep(50);
    await succeeds(['mount', mnt, '--memory', '256M']);
    await sh(`cat ${mnt}/proc/buddyinfo`);
  }
  await succeeds(['umount', mnt]);
  assert.ok(!isMounted(mnt));
});

it('recovers when a client was inside', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  const pid = await serverPid(mnt);
  const client = run('bash', ['-c', `cd ${mnt}/proc; exec 3< vmstat; sleep 2; cat <&3`]);
  await sleep(300);
  process.kill(pid, 'SIGKILL');
  await succeeds(['mount', mnt, '--memory', '256M']);
  await sh(`cat ${mnt}/proc/buddyinfo`);
  assert.match((await client).stderr, /not connected/);
});

it('unmounts although a shell stands in it', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  const client = run('bash', ['-c', `cd ${mnt}/proc; sleep 1`]);
  await sleep(200);
  await succeeds(['umount', mnt]);
  assert.ok(!isMounted(mnt));
  await client;
});

it('stops when somebody else unmounts', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  const pid = await serverPid(mnt);
  await sh(`umount ${mnt} 2>/dev/null || fusermount -u ${mnt}`);
  assert.ok(await isGone(pid));
  await fails(['umount', mnt], /is not mounted/);
});

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  it(`ends cleanly in the foreground on ${signal}`, options, async (t) => {
    const mnt = join(tempDir(t), 'mnt');
    const args = [MAIN, 'mount', mnt, '--foreground', '--memory', '256M'];
    const server = await startServer(process.execPath, args, 'pageblock:');
    await sh(`cat ${mnt}/proc/buddyinfo`);
    assert.equal(await endChild(server, signal), 0);
    assert.ok(!isMounted(mnt));
    assert.deepEqual(readdirSync(mnt), []);
  });
}

it('two mounts do not know each other', options, async (t) => {
  const one = await mountMachine(t, ['--memory', '256M']);
  const two = await mountMachine(t, ['--memory', '512M', '--nodes', '2']);
  await sh(`echo 700 > ${one}/proc/sys/vm/extfrag_threshold`);
  assert.equal(
    await sh(`cat ${one}/proc/sys/vm/extfrag_threshold ${two}/proc/sys/vm/extfrag_threshold`),
    '700\n500\n',
  );
  assert.equal((await sh(`grep -c Normal ${two}/proc/buddyinfo || true`)).trim(), '0');
  assert.match(await sh(`cat ${two}/proc/buddyinfo`), /^Node 1, /m);
});

it('an option reaches the machine', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M', '--no-compaction']);
  assert.ok(!existsSync(join(mnt, 'proc/sys/vm/compact_memory')));
});

it('a client that comes and goes often finds the same tree', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  assert.equal(
    await sh(`for i in $(seq 50); do cat ${mnt}/proc/sys/vm/swappiness; done | sort | uniq -c`),
    '     50 60\n',
  );
  // R4: sysctl drops the first two entries of each directory unseen.
  const names = (await sh(`ls -f ${mnt}/proc/sys/vm`)).split('\n');
  assert.deepEqual(names.slice(0, 2), ['.', '..']);
});

it('refuses what cannot be mounted on, with a line that tells why', options, async (t) => {
  const dir = tempDir(t);
  writeFileSync(join(dir, 'file'), '');
  await fails(['mount', dir], /is not empty: choose an empty directory/);
  await fails(['mount', join(dir, 'file')], /cannot use .*file/);
  await fails(['mount', '/proc'], /is a mount point of proc/);
  await fails(['umount', '/proc'], /use umount/);
  await fails(['mount', join(dir, 'm'), '--memory', '1M'], /memory/i);
  await fails(['mount', join(dir, 'm'), '--disk', '/proc/none/x'], /--disk/);
  assert.ok(!isMounted(join(dir, 'm')));
});

it('wrong usage is status 2', async () => {
  for (const args of [
    [],
    ['nonsense'],
    ['mount'],
    ['mount', 'x', '--kernel', '3.10'],
    ['mount', 'x', '--memory', 'lots'],
    ['mount', 'x', '--nonsense'],
    ['kill', 'x', 'y'],
  ]) {
    const result = await pageblock(args);
    assert.equal(result.status, 2, args.join(' '));
    assert.equal(result.stdout, '');
  }
  assert.equal((await pageblock(['--help'])).status, 0);
  assert.equal((await pageblock(['mount', '--help'])).status, 0);
  assert.equal((await pageblock(['--version'])).status, 0);
});

it('root needs no program of Debian to mount', { ...options, skip: notRoot() }, async (t) => {
  const mnt = join(tempDir(t), 'mnt');
  const bare = (...args: string[]) => run('env', ['PATH=/none', process.execPath, MAIN, ...args]);
  assert.deepEqual(await bare('mount', mnt, '--memory', '256M'), {
    status: 0,
    signal: null,
    stdout: '',
    stderr: '',
  });
  // libfuse comes from npm, whatever the system has.
  const maps = await sh(`grep -o '[^ ]*libfuse[^ ]*' /proc/${await serverPid(mnt)}/maps | sort -u`);
  assert.match(maps, /^\S+\/node_modules\/fuse-shared-library-linux\S*\/libfuse\.so\n$/);
  assert.equal((await bare('umount', mnt)).status, 0);
  assert.ok(!isMounted(mnt));
});

/** A directory, and a way to run the command line, for an ordinary user. */
function ordinaryUser(t: TestContext) {
  const dir = tempDir(t);
  chmodSync(dir, 0o755);
  const home = join(dir, 'home');
  mkdirSync(home);
  chownSync(home, NOBODY, NOBODY);
  const view = userView(t);
  const env = { ...process.env, HOME: home, TMPDIR: home };
  return { ...view, home, options: { uid: NOBODY, cwd: home, env, timeout: 60_000 } };
}

it('works as an ordinary user', { ...options, skip: userView.skip }, async (t) => {
  const user = ordinaryUser(t);
  const own = (args: string[]) => run(user.node, [user.main, ...args], user.options);
  const mounted = await own(['mount', 'mnt', '--memory', '256M']);
  assert.deepEqual([mounted.status, mounted.stderr], [0, '']);
  const mnt = join(user.home, 'mnt');
  assert.match(await sh(`cat ${mnt}/proc/buddyinfo`, user.options), /^Node 0/);
  await sh(`echo 1 > ${mnt}/proc/sys/vm/compact_memory`, user.options);
  // Without allow_other nobody else gets in, root included.
  assert.match((await run('cat', [join(mnt, 'proc/buddyinfo')])).stderr, /Permission denied/);
  const status = await own(['status', 'mnt']);
  process.kill(Number(/^pid\s+(\d+)$/m.exec(status.stdout)?.[1]), 'SIGKILL');
  await sleep(100);
  const again = await own(['mount', 'mnt', '--memory', '256M']);
  assert.deepEqual([again.status, again.stderr], [0, '']);
  await sh(`cat ${mnt}/proc/buddyinfo`, user.options);
  const unmounted = await own(['umount', 'mnt']);
  assert.deepEqual([unmounted.status, unmounted.stderr], [0, '']);
  assert.ok(!isMounted(mnt));
});

it('tells an ordinary user what is missing', { ...options, skip: userView.skip }, async (t) => {
  const user = ordinaryUser(t);
  const args = ['PATH=/nonexistent', user.node, user.main, 'mount', 'mnt'];
  const result = await run('env', args, user.options);
  assert.equal(result.status, 1);
  assert.match(result.stderr, /an ordinary user needs fusermount: apt-get install fuse3/);
});
