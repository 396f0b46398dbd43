/**
 * Programs and what is checked of each on every kernel: the rows of the table in docs/clients.md,
 * which test/unit/clients_doc.test.ts writes, and of test/e2e/clients_matrix.test.ts, which runs
 * them. More of each is checked on 2.6.35 in test/e2e/clients.test.ts.
 */
import assert from 'node:assert/strict';
import { type Client, numbers } from './clients.ts';

export const KERNELS = ['2.6.35', '6.1'] as const;

export interface ClientRow {
  readonly program: string;
  readonly command: readonly string[];
  /** What is compared with the mount, as it stands in the table. */
  readonly checked: string;
  check(client: Client, output: string): Promise<void> | void;
}

const field = (output: string, pattern: RegExp): string => pattern.exec(output)?.[1] ?? 'none';

export const CLIENT_ROWS: readonly ClientRow[] = [
  {
    program: 'hugeadm',
    command: ['hugeadm', '--pool-list'],
    checked: 'minimum, current and maximum of the default pool',
    async check(client, output) {
      const info = await client.meminfo();
      const persistent = info['HugePages_Total']! - info['HugePages_Surp']!;
      const over = Number(await client.read('proc/sys/vm/nr_overcommit_hugepages'));
      const row = output.split('\n').find((line) => line.endsWith('*'));
      assert.deepEqual(numbers(row), [
        info['Hugepagesize']! * 1024,
        persistent,
        info['HugePages_Total'],
        persistent + over,
      ]);
    },
  },
  {
    program: 'hugeadm',
    command: ['hugeadm', '--set-recommended-min_free_kbytes'],
    checked: 'the recommendation for this many zones arrives',
    async check(client) {
      const zones = (await client.read('proc/zoneinfo')).match(/^Node /gm)!.length;
      assert.equal(Number(await client.read('proc/sys/vm/min_free_kbytes')), 11 * 2048 * zones);
    },
  },
  {
    program: 'hugeadm',
    command: ['hugeadm', '--pool-pages-max', 'DEFAULT:8G'],
    checked: 'the overcommit limit arrives',
    async check(client) {
      const total = (await client.meminfo())['HugePages_Total']!;
      const over = Number(await client.read('proc/sys/vm/nr_overcommit_hugepages'));
      assert.equal(over, 4096 - total);
    },
  },
  {
    program: 'pagesize',
    command: ['pagesize', '-a'],
    checked: 'all page sizes',
    check: (_, output) => assert.match(output, /^4096\n2097152\n/),
  },
  {
    program: 'sysctl',
    command: ['sysctl', '-w', 'vm.nr_hugepages=9'],
    checked: 'the pool has the size that was written',
    async check(client) {
      assert.equal((await client.meminfo())['HugePages_Total'], 9);
    },
  },
  {
    program: 'sysctl',
    command: ['sysctl', '-a', '--pattern', '^vm\\.'],
    checked: 'every readable key of the directory, in its order',
    async check(client, output) {
      const { stdout } = await client.outside('find', [
        `${client.mnt}/proc/sys/vm`,
        '-perm',
        '-400',
      ]);
      const files = stdout
        .trim()
        .split('\n')
        .filter((path) => !path.endsWith('/vm'));
      const keys = files.map((path) => `vm.${path.slice(path.lastIndexOf('/') + 1)}`).sort();
      const shown = output
        .trim()
        .split('\n')
        .map((line) => line.split(' ')[0])
        .sort();
      // Empty files print nothing.
      assert.deepEqual(
        shown,
        keys.filter((key) => key !== 'vm.stat_refresh'),
      );
    },
  },
  {
    program: 'free',
    command: ['free', '-k'],
    checked: 'all columns',
    async check(client, output) {
      const info = await client.meminfo();
      const [total, , free, shared, cache, available] = numbers(output.split('\n')[1]);
      assert.deepEqual(
        [total, free, shared, cache, available],
        [
          info['MemTotal'],
          info['MemFree'],
          info['Shmem'],
          info['Buffers']! + info['Cached']! + info['SReclaimable']!,
          info['MemAvailable'] ?? info['MemFree'],
        ],
      );
    },
  },
  {
    program: 'vmstat',
    command: ['vmstat'],
    checked: 'swpd, free, buff, cache',
    async check(client, output) {
      const info = await client.meminfo();
      assert.deepEqual(numbers(output.split('\n')[2]).slice(2, 6), [
        info['SwapTotal']! - info['SwapFree']!,
        info['MemFree'],
        info['Buffers'],
        info['Cached']! + info['SReclaimable']!,
      ]);
    },
  },
  {
    program: 'vmstat',
    command: ['vmstat', '-s'],
    checked: 'totals of memory',
    async check(client, output) {
      const info = await client.meminfo();
      assert.equal(Number(field(output, /(\d+) K total memory/)), info['MemTotal']);
      assert.equal(Number(field(output, /(\d+) K free memory/)), info['MemFree']);
    },
  },
  {
    program: 'numastat',
    command: ['numastat', '-m'],
    checked: 'memory of each node',
    async check(client, output) {
      const row = numbers(field(output, /^MemTotal (.*)$/m));
      for (const nid of [0, 1]) {
        const info = await client.meminfo(`sys/devices/system/node/node${nid}/meminfo`);
        assert.ok(Math.abs(row[nid]! - info['MemTotal']! / 1024) < 0.0051);
      }
    },
  },
  {
    program: 'numactl',
    command: ['numactl', '--hardware'],
    checked: 'nodes, sizes, distances',
    async check(client, output) {
      assert.match(output, /^available: 2 nodes \(0-1\)$/m);
      const info = await client.meminfo('sys/devices/system/node/node1/meminfo');
      const size = Math.floor(info['MemTotal']! / 1024);
      assert.match(output, new RegExp(`^node 1 size: ${size} MB$`, 'm'));
    },
  },
  {
    program: 'sar',
    command: ['sar', '-r', 'ALL', '1', '1'],
    checked: 'free, buffers, cached, commit',
    async check(client, output) {
      const info = await client.meminfo();
      const row = numbers(field(output, /^Average: +(.*)$/m));
      assert.deepEqual(
        [row[0], row[4], row[5], row[6]],
        [info['MemFree'], info['Buffers'], info['Cached'], info['Committed_AS']],
      );
    },
  },
  {
    program: 'sar',
    command: ['sar', '-H', '1', '1'],
    checked: 'huge pages free and used',
    async check(client, output) {
      const info = await client.meminfo();
      const free = info['HugePages_Free']! * info['Hugepagesize']!;
      assert.equal(numbers(field(output, /^Average: +(.*)$/m))[0], free);
    },
  },
  {
    program: 'fio',
    command: [
      'sh',
      '-c',
      'exec fio --name=j --directory="$PAGEBLOCK_DISK" --size=4M --bs=4k --rw=randwrite ' +
        '--verify=crc32c --do_verify=1 --verify_state_save=0',
    ],
    checked: 'what it wrote to the disk is what it reads',
    check: (_, output) => assert.match(output, /err= 0/),
  },
];
