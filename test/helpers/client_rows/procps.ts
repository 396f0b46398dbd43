/** sysctl, free, vmstat and slabtop. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, numbers } from '../clients.ts';
import type { ClientRow } from './types.ts';

/** Columns of /proc/slabinfo that vmstat and slabtop repeat, by cache. */
async function slabs(client: Client): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  const text = (await client.run('cat', '/proc/slabinfo')).stdout;
  for (const [, name, rest] of text.matchAll(/^([\w-]+) +(\d+ +\d+ +\d+ +\d+) /gm)) {
    found.set(name!, numbers(rest));
  }
  assert.ok(found.size > 20);
  return found;
}

async function cached(client: Client): Promise<{ info: Record<string, number>; cache: number }> {
  const info = await client.meminfo();
  return { info, cache: info['Cached']! + info['SReclaimable']! };
}

export const procps_rows: readonly ClientRow[] = [
  {
    program: 'sysctl',
    command: '`sysctl KEY`, `-n`, `-w KEY=V`',
    checked: 'values come and go; what can only be written prints nothing; EINVAL, no such key',
    async check(client) {
      assert.equal(await client.out('sysctl', 'vm.swappiness'), 'vm.swappiness = 60\n');
      assert.equal(await client.out('sysctl', '-n', 'vm.swappiness'), '60\n');
      const set = await client.out('sysctl', '-w', 'vm.swappiness=70', 'vm.page-cluster=4');
      assert.equal(set, 'vm.swappiness = 70\nvm.page-cluster = 4\n');
      assert.equal(await client.read('proc/sys/vm/swappiness'), '70\n');
      await client.out('sysctl', 'vm.swappiness=60');
      const wrong = await client.run('sysctl', '-w', 'vm.swappiness=999');
      assert.equal(wrong.status, 1);
      assert.match(wrong.stderr, /setting key "vm.swappiness": Invalid argument/);
      assert.equal((await client.run('sysctl', 'vm.no_such_key')).status, 1);
      assert.equal((await client.run('sysctl', '-w', 'vm.no_such_key=1')).status, 1);
      assert.equal(await client.out('sysctl', 'vm.compact_memory'), '');
      await client.out('sysctl', '-w', 'vm.compact_memory=1');
      await client.out('sysctl', '-w', 'vm.nr_hugepages=9');
      assert.equal((await client.meminfo())['HugePages_Total'], 9);
      await client.out('sysctl', '-w', 'vm.nr_hugepages=0');
    },
  },
  {
    program: 'sysctl',
    command: '`sysctl -p FILE`',
    checked: 'every line of the file arrives',
    async check(client) {
      const conf = client.mnt.replace(/mnt$/, 'sysctl.conf');
      const text = '# huge pages\nvm.nr_hugepages = 12\nkernel.shmmax=68719476736\n';
      await client.outside('sh', ['-c', 'printf %s "$1" > "$2"', 'sh', text, conf]);
      const printed = await client.out('sysctl', '-p', conf);
      assert.equal(printed, 'vm.nr_hugepages = 12\nkernel.shmmax = 68719476736\n');
      assert.equal(await client.read('proc/sys/vm/nr_hugepages'), '12\n');
      assert.equal(await client.read('proc/sys/kernel/shmmax'), '68719476736\n');
      await client.write('proc/sys/vm/nr_hugepages', '0\n');
    },
  },
  {
    program: 'sysctl',
    command: '`sysctl -a --pattern RE`',
    checked: 'every readable key of the directory, in its order, with its value',
    async check(client) {
      const all = await client.out('sysctl', '-a', '--pattern', '^vm\\.');
      const dir = `${client.mnt}/proc/sys/vm`;
      const names = (await client.outside('ls', ['-U', dir])).stdout.trim().split('\n');
      const wanted: string[] = [];
      for (const name of names) {
        const { stdout } = await client.outside('stat', ['-c', '%a', `${dir}/${name}`]);
        if ((Number.parseInt(stdout, 8) & 0o400) === 0) continue;
        const value = await client.read(`proc/sys/vm/${name}`);
        // Empty files print nothing.
        if (value !== '') wanted.push(`vm.${name} = ${value.trimEnd()}`);
      }
      assert.deepEqual(all.trimEnd().split('\n'), wanted);
      assert.ok(wanted.length > 30);
      const shm = await client.out('sysctl', '-a', '--pattern', '^kernel\\.shmmni$');
      const shmmni = (await client.read('proc/sys/kernel/shmmni')).trim();
      assert.equal(shm, `kernel.shmmni = ${shmmni}\n`);
    },
  },
  {
    program: 'free',
    command: '`free -k`',
    checked: 'all columns of memory and swap',
    async check(client) {
      const disk = `${client.mnt}/disk`;
      await client.sh(`dd if=/dev/zero of=${disk}/f bs=1M count=20 2>/dev/null; sync ${disk}/f`);
      const free = await client.out('free', '-k');
      const { info, cache } = await cached(client);
      assert.ok(info['Cached']! >= 20 * 1024);
      // Before MemAvailable there was only MemFree to go by.
      const available = info['MemAvailable'] ?? info['MemFree']!;
      const [, memory, swap] = free.split('\n').map(numbers);
      assert.deepEqual(memory, [
        ...[info['MemTotal'], info['MemTotal']! - available, info['MemFree'], info['Shmem']],
        ...[info['Buffers']! + cache, available],
      ]);
      assert.ok(info['SwapTotal']! > 120_000);
      const used = info['SwapTotal']! - info['SwapFree']!;
      assert.deepEqual(swap, [info['SwapTotal'], used, info['SwapFree']]);
    },
  },
  {
    program: 'vmstat',
    command: '`vmstat`, `vmstat -a`',
    checked: 'swpd, free, buff, cache; inact, active',
    async check(client) {
      const { info, cache } = await cached(client);
      const used = info['SwapTotal']! - info['SwapFree']!;
      const [, , line] = (await client.out('vmstat')).split('\n');
      const wanted = [used, info['MemFree'], info['Buffers'], cache];
      assert.deepEqual(numbers(line).slice(2, 6), wanted);
      const [, , active] = (await client.out('vmstat', '-a')).split('\n');
      assert.deepEqual(numbers(active).slice(3, 6), [
        ...[info['MemFree'], info['Inactive'], info['Active']],
      ]);
    },
  },
  {
    program: 'vmstat',
    command: '`vmstat -s`',
    checked: 'totals of memory, paging and swapping',
    async check(client) {
      const sums = await client.out('vmstat', '-s');
      const { info, cache } = await cached(client);
      const vmstat = await client.read('proc/vmstat');
      const counter = (name: string) => new RegExp(`^${name} (\\d+)$`, 'm').exec(vmstat)![1]!;
      for (const [label, value] of [
        ['K total memory', info['MemTotal']],
        ['K free memory', info['MemFree']],
        ['K active memory', info['Active']],
        ['K inactive memory', info['Inactive']],
        ['K buffer memory', info['Buffers']],
        ['K swap cache', cache],
        ['K total swap', info['SwapTotal']],
        ['K free swap', info['SwapFree']],
        ['K paged in', counter('pgpgin')],
        ['K paged out', counter('pgpgout')],
        ['pages swapped in', counter('pswpin')],
        ['pages swapped out', counter('pswpout')],
      ]) {
        assert.match(sums, new RegExp(`^ *${value} ${label}$`, 'm'), String(label));
      }
    },
  },
  {
    program: 'vmstat',
    command: '`vmstat -m`, `slabtop -o`',
    checked: 'every cache with its objects and sizes',
    async check(client) {
      const wanted = await slabs(client);
      const printed = (await client.out('vmstat', '-m')).split('\n');
      const rows = printed.filter((line) => line !== '' && !/^Cache/.test(line));
      assert.equal(rows.length, wanted.size);
      for (const row of rows) {
        const [name = '', ...values] = row.trim().split(/ +/);
        assert.deepEqual(values.map(Number), wanted.get(name), name);
      }
      const top = await client.out('slabtop', '-o');
      const dentry = wanted.get('dentry')!;
      assert.match(top, new RegExp(`^ *${dentry[1]} +${dentry[0]} .* dentry *$`, 'm'));
    },
  },
  {
    program: 'vmstat',
    command: '`vmstat -d`, `-D`, `-f`',
    checked: "the host's disks and forks: no error",
    async check(client) {
      for (const option of ['-d', '-D', '-f']) await client.out('vmstat', option);
    },
  },
  {
    program: 'free',
    command: '`free -s 1 -c N`, `vmstat 1 N`',
    checked: 'changes show up in open files that are read again: memory; blocks written',
    async check(client) {
      const { disk, at } = { disk: `${client.mnt}/disk`, at: client.mnt.replace(/mnt$/, 'vmstat') };
      const both = client.sh(`vmstat 1 7 > ${at} & free -s 1 -c 7 -k; wait; cat ${at}`);
      await sleep(1400);
      await client.write('proc/sys/vm/nr_hugepages', '64\n');
      const dd = ['if=/dev/zero', `of=${disk}/vmstat`, 'bs=1M', 'count=8', 'conv=fsync'];
      await client.outside('dd', dd);
      const text = await both;
      await client.write('proc/sys/vm/nr_hugepages', '0\n');
      const column = (pattern: RegExp) => [...text.matchAll(pattern)].map((m) => Number(m[1]));
      const free = column(/^Mem: +\d+ +\d+ +(\d+)/gm);
      assert.equal(free.length, 7);
      assert.ok(free[0]! - free[6]! >= 50 * 2048, String(free));
      // vmstat 4.0.2 never reads meminfo again, neither here nor on a real machine.
      const out = column(/^ *(?:\d+ +){9}(\d+) +(?:\d+ +){6}\d+ *$/gm);
      assert.equal(out.length, 7);
      assert.ok(Math.max(...out.slice(1)) >= 4096, String(out));
    },
  },
];
