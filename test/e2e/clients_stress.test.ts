/**
 * Load: 64 readers of every file at once, and stress-ng's readers of /proc and /sys inside `run`.
 * No error that a kernel would not give, no crash, memory back to where it was. A few seconds each;
 * PAGEBLOCK_STRESS=60 node --test dist/test/e2e/clients_stress.test.js is the whole minute.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, cannotBe, EVERYBODY, missing } from '../helpers/clients.ts';
import { noFuse, serverPid } from '../helpers/mounts.ts';

const SECONDS = Number(process.env['PAGEBLOCK_STRESS'] ?? 5);

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
const REFUSED = /^(EACCES|EINVAL|EIO|EPERM) .*\/(compact|compact_memory|kill|trace_marker)$/;

function rss(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]);
}

it('64 readers of every file', { skip: noFuse(), timeout: 300_000 }, async (t) => {
  const client = await Client.mount(t, EVERYBODY[0]!, ['--memory', '512M', '--nodes', '2']);
  await client.write('sys/kernel/debug/pageblock/spawn', 'anon 8M\n');
  const read = (seconds: number) =>
    client.outside('timeout', [
      ...[String(seconds + 60), 'python3', '-c', READERS, client.mnt, String(seconds)],
    ]);
  const pid = await serverPid(client.mnt);
  await read(2);
  await sleep(1000);
  const before = rss(pid);
  const result = await read(SECONDS);
  assert.deepEqual([result.status, result.stderr], [0, '']);
  const [counts = '', ...errors] = result.stdout.trim().split('\n');
  const [files = 0, reads = 0] = counts.split(' ').map(Number);
  assert.ok(files > 150 && reads > 100 * SECONDS, counts);
  assert.deepEqual(
    errors.filter((error) => !REFUSED.test(error)),
    [],
  );
  await sleep(2000);
  const after = rss(pid);
  // Buffers of FUSE threads and garbage that was not yet collected.
  assert.ok(after < before + 80 * 1024, `${before} kB before, ${after} kB after`);
});

it('stress-ng in run', {
  skip: missing('stress-ng') || cannotBe('user'),
  timeout: 300_000,
}, async (t) => {
  const client = await Client.mount(t, 'user', ['--memory', '512M', '--nodes', '2']);
  const result = await client.run(
    ...['stress-ng', '--procfs', '2', '--sysfs', '2', '--timeout', `${SECONDS}s`],
    ...['--temp-path', client.mnt.replace(/mnt$/, '')],
  );
  assert.equal(result.status, 0, result.stdout + result.stderr);
  assert.match(result.stdout + result.stderr, /successful run completed/);
  assert.match(await client.out('head', '-1', '/proc/meminfo'), /^MemTotal/);
});
