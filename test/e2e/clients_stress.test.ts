/**
 * Load, a minute of it: 64 readers of every file at once, and stress-ng's readers of /proc and /sys
 * inside `run`, on both kernels at the same time. No error that a kernel would not give, no crash,
 * memory back to where it was, no read dearer than the first ones, the host untouched. Beside them
 * hugeadm --hard gives up, for which it takes half a minute. PAGEBLOCK_STRESS=5 is a shorter look.
 *
 * Bounds, and what was measured on two loaded cores: the server grows by less than 28 MiB after a
 * warm-up of a quarter of the time (0 to 25: the engine's heap comes in steps); a read costs less than
 * twice the CPU time of those of the warm-up (0.7 to 1.1); 200 reads a second (1,500 to 3,500). With an
 * addon that leaves fuse-native's handles open 29 MiB in half a minute, and reads ever dearer.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, cannotBe, EVERYBODY, KERNELS, type Kernel, missing } from '../helpers/clients.ts';
import { hostUnchanged } from '../helpers/host_state.ts';
import { noFuse } from '../helpers/mounts.ts';

const SECONDS = Number(process.env['PAGEBLOCK_STRESS'] ?? 60);
const WARM_UP = Math.max(5, SECONDS / 4);
const GROWTH_KB = 28 * 1024;

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

/** Reads that Linux refuses as well: what can only be written. All of these are, and no other. */
const REFUSED: Record<Kernel, readonly string[]> = {
  '2.6.35': [
    'EACCES /proc/sys/vm/compact_memory',
    'EACCES /sys/devices/system/node/node0/compact',
    'EACCES /sys/devices/system/node/node1/compact',
    'EINVAL /sys/kernel/debug/pageblock/kill',
    'EINVAL /sys/kernel/debug/tracing/trace_marker',
  ],
  '6.1': [
    'EACCES /proc/sys/vm/compact_memory',
    'EACCES /proc/sys/vm/drop_caches',
    'EACCES /sys/devices/system/node/node0/compact',
    'EACCES /sys/devices/system/node/node1/compact',
    'EINVAL /sys/kernel/debug/pageblock/kill',
    'EINVAL /sys/kernel/debug/tracing/trace_marker',
    'EINVAL /sys/kernel/tracing/trace_marker',
  ],
};

/** Files that there are at least, on two nodes with one process. */
const FILES: Record<Kernel, number> = { '2.6.35': 200, '6.1': 480 };

/** Memory of a server in kB, the emulated machine's included. */
function rss(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]);
}

/** CPU time of a server so far, all its threads, in ms. */
function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [utime, stime] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return (Number(utime) + Number(stime)) * 10;
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
      const pid = await serverPid(client);
      /** Reads for so long: how many of how many files, what one cost the server, what was refused. */
      const read = async (seconds: number) => {
        const before = cpuMs(pid);
        const result = await client.outside(
          'timeout',
          [String(seconds + 60), 'python3', '-c', READERS, client.mnt, String(seconds)],
          { timeout: (seconds + 90) * 1000 },
        );
        assert.deepEqual([result.status, result.stderr], [0, '']);
        const [counts = '', ...errors] = result.stdout.trim().split('\n');
        const [files = 0, reads = 0] = counts.split(' ').map(Number);
        return { files, reads, errors, us: ((cpuMs(pid) - before) * 1000) / reads };
      };
      const first = await read(WARM_UP);
      const start = await settled(pid);
      const { files, reads, errors, us } = await read(SECONDS);
      const end = await settled(pid);
      const memory = `${start} kB before, ${end} kB after`;
      const costs = `${first.us.toFixed()} us a read first, ${us.toFixed()} us then`;
      t.diagnostic(`${reads} reads of ${files} files; server ${memory}; ${costs}`);
      assert.ok(
        files >= FILES[kernel] && reads > 200 * SECONDS,
        `${reads} reads of ${files} files`,
      );
      const refused = REFUSED[kernel];
      assert.deepEqual(
        errors.filter((error) => !refused.includes(error)),
        [],
      );
      if (EVERYBODY[0] === 'root') assert.deepEqual(errors, refused);
      assert.ok(end < start + GROWTH_KB, memory);
      assert.ok(us < 2 * first.us, costs);
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
      await stress(WARM_UP);
      const start = await settled(pid);
      const result = await stress(SECONDS);
      assert.equal(result.status, 0, result.stdout + result.stderr);
      assert.match(result.stdout + result.stderr, /successful run completed/);
      const end = await settled(pid);
      t.diagnostic(`server ${start} kB before, ${end} kB after`);
      assert.ok(end < start + GROWTH_KB, `${start} kB before, ${end} kB after`);
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
    assert.ok(seconds >= 30 && seconds < 45, `${seconds} s`);
    assert.equal(await client.read('proc/sys/vm/nr_hugepages'), '7\n');
  });
});
