/**
 * Load, a minute of it: 64 readers of every file at once, and stress-ng's readers of /proc and /sys
 * inside `run`, on both kernels at the same time. No error that a kernel would not give, no crash,
 * memory back to where it was, the host untouched. Beside them hugeadm --hard gives up, for which
 * it takes half a minute. PAGEBLOCK_STRESS=5 is a shorter look.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, cannotBe, EVERYBODY, KERNELS, missing } from '../helpers/clients.ts';
import { hostUnchanged } from '../helpers/host_state.ts';
import { noFuse } from '../helpers/mounts.ts';

const SECONDS = Number(process.env['PAGEBLOCK_STRESS'] ?? 60);

/** Threads that read every file again and again; prints how many reads and each kind of error. */
const READERS = `
import collections, errno, os, sys, threading, time
mnt, seconds = sys.argv[1], float(sys.argv[2])
files = [os.path.join(d, f) for d, _, fs in os.walk(mnt) for f in fs if not f.endswith('trace_pipe')]
errors, reads, end = collections.Counter(), [0] * 64, time.time() + seconds
def reader(n):
    i = n * len(files) // 64
    while time.time() < end:
        path = files[i % len(files)]
        i += 1
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                # pagemap goes on for gigabytes
                for _ in range(8):
                    if not os.read(fd, 65536): break
            finally: os.close(fd)
            reads[n] += 1
        except OSError as e:
            errors[errno.errorcode[e.errno] + ' ' + path[len(mnt):]] += 1
threads = [threading.Thread(target=reader, args=(n,)) for n in range(64)]
for t in threads: t.start()
for t in threads: t.join()
print(len(files), sum(reads))
for what in sorted(errors): print(what)
`;

/** Reads that Linux refuses as well: what can only be written. */
const REFUSED =
  /^(EACCES .*\/(compact|compact_memory|drop_caches)|EINVAL .*\/(kill|trace_marker))$/;

/** Memory of a server in kB, the emulated machine's included. */
function rss(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]);
}

/** The least of some seconds: garbage is collected now and then. */
async function settled(pid: number): Promise<number> {
  let least = rss(pid);
  for (let i = 0; i < 6; i++) {
    await sleep(500);
    least = Math.min(least, rss(pid));
  }
  return least;
}

async function serverPid(client: Client): Promise<number> {
  const { stdout } = await client.pageblock(['status', client.mnt]);
  return Number(/^pid +(\d+)$/m.exec(stdout)?.[1]);
}

hostUnchanged(before, after);

describe(`under load for ${SECONDS} seconds`, { concurrency: true }, () => {
  for (const kernel of KERNELS) {
    const machine = ['--kernel', kernel, '--memory', '512M', '--nodes', '2', '--swap', '64M'];

    it(`64 readers of every file, ${kernel}`, { skip: noFuse(), timeout: 300_000 }, async (t) => {
      const client = await Client.mount(t, EVERYBODY[0]!, machine);
      await client.write('sys/kernel/debug/pageblock/spawn', 'anon 8M\n');
      const read = (seconds: number) =>
        client.outside(
          'timeout',
          [String(seconds + 60), 'python3', '-c', READERS, client.mnt, String(seconds)],
          { timeout: (seconds + 90) * 1000 },
        );
      const pid = await serverPid(client);
      await read(5);
      const start = await settled(pid);
      const result = await read(SECONDS);
      assert.deepEqual([result.status, result.stderr], [0, '']);
      const [counts = '', ...errors] = result.stdout.trim().split('\n');
      const [files = 0, reads = 0] = counts.split(' ').map(Number);
      assert.ok(files > 100 && reads > 2 * files, counts);
      assert.deepEqual(
        errors.filter((error) => !REFUSED.test(error)),
        [],
      );
      const end = await settled(pid);
      t.diagnostic(`${reads} reads of ${files} files; server ${start} kB before, ${end} kB after`);
      assert.ok(end < start + 40 * 1024, `${start} kB before, ${end} kB after`);
      assert.match(await client.read('proc/meminfo'), /^MemTotal/);
    });

    it(`stress-ng in run, ${kernel}`, {
      skip: missing('stress-ng') || cannotBe('user'),
      timeout: 300_000,
    }, async (t) => {
      const client = await Client.mount(t, 'user', machine);
      const pid = await serverPid(client);
      const stress = (seconds: number) =>
        client.pageblock(
          [
            ...['run', client.mnt, '--', 'stress-ng', '--procfs', '2', '--sysfs', '2'],
            ...['--timeout', `${seconds}s`, '--temp-path', client.mnt.replace(/mnt$/, '')],
          ],
          { timeout: (seconds + 90) * 1000 },
        );
      await stress(5);
      const start = await settled(pid);
      const result = await stress(SECONDS);
      assert.equal(result.status, 0, result.stdout + result.stderr);
      assert.match(result.stdout + result.stderr, /successful run completed/);
      const end = await settled(pid);
      t.diagnostic(`server ${start} kB before, ${end} kB after`);
      assert.ok(end < start + 40 * 1024, `${start} kB before, ${end} kB after`);
      assert.match(await client.out('head', '-1', '/proc/meminfo'), /^MemTotal/);
    });
  }

  it('hugeadm --hard gives up', { skip: missing('hugeadm'), timeout: 300_000 }, async (t) => {
    const client = await Client.mount(t, EVERYBODY[0]!, ['--memory', '256M', '--swap', '64M']);
    await client.fault('pool', '7');
    const began = performance.now();
    const args = ['run', client.mnt, '--', 'hugeadm', '--hard', '--pool-pages-min', 'DEFAULT:30'];
    const { status, stderr } = await client.pageblock(args);
    assert.equal(status, 0);
    assert.match(stderr, /failed to set pool minimum to 30 became 7/);
    const seconds = (performance.now() - began) / 1000;
    // Five rounds of six seconds without progress.
    assert.ok(seconds >= 24 && seconds < 80, `${seconds} s`);
    assert.equal(await client.read('proc/sys/vm/nr_hugepages'), '7\n');
  });
});
