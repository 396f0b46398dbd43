/** numastat and numactl on a machine of four nodes, more than the host has. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, numbers } from '../clients.ts';
import type { ClientRow } from './types.ts';

const DIR = 'sys/devices/system/node';
const NODES = [0, 1, 2, 3];

const row = (text: string, name: string): number[] =>
  numbers(new RegExp(`^ *${name} (.*)$`, 'm').exec(text)?.[1]);

async function eachNode(client: Client, file: string): Promise<string[]> {
  return Promise.all(NODES.map((nid) => client.read(`${DIR}/node${nid}/${file}`)));
}

export const numa_rows: readonly ClientRow[] = [
  {
    program: 'numastat',
    command: '`numastat`, `numastat -n`',
    checked: 'all counters of every node; with -n in MB',
    async check(client) {
      const plain = await client.out('numastat');
      const files = await eachNode(client, 'numastat');
      const table = await client.out('numastat', '-n');
      assert.match(table, /Node 0 +Node 1 +Node 2 +Node 3/);
      const names = ['numa_hit', 'numa_miss', 'numa_foreign', 'interleave_hit', 'local_node'];
      for (const name of [...names, 'other_node']) {
        const wanted = files.map((text) =>
          Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)![1]),
        );
        assert.deepEqual(row(plain, name), wanted, name);
      }
      const hits = row(table, 'Numa_Hit');
      row(plain, 'numa_hit').forEach((pages, nid) => {
        assert.ok(Math.abs(hits[nid]! - (pages * 4096) / 2 ** 20) < 0.0051, `node ${nid}`);
      });
    },
  },
  {
    program: 'numastat',
    command: '`numastat -m`',
    checked: 'memory of each node in MB, huge pages by size, totals',
    async check(client) {
      await client.write('proc/sys/vm/nr_hugepages', '12\n');
      const table = await client.out('numastat', '-m');
      const infos = await Promise.all(
        NODES.map((nid) => client.meminfo(`${DIR}/node${nid}/meminfo`)),
      );
      for (const key of ['MemTotal', 'MemFree', 'MemUsed', 'Active', 'Slab']) {
        const shown = row(table, key);
        let total = 0;
        infos.forEach((info, nid) => {
          assert.ok(Math.abs(shown[nid]! - info[key]! / 1024) < 0.0051, `${key} ${nid}`);
          total += info[key]! / 1024;
        });
        assert.ok(Math.abs(shown[4]! - total) < 0.0051 * 5, `${key} in all`);
      }
      const pages = infos.map((info) => info['HugePages_Total']! * 2);
      assert.deepEqual(row(table, 'HugePages_Total'), [...pages, 24]);
    },
  },
  {
    program: 'numactl',
    command: '`numactl --hardware`',
    checked: 'nodes, CPUs, sizes, free memory, distances',
    async check(client) {
      const text = await client.out('numactl', '--hardware');
      assert.match(text, /^available: 4 nodes \(0-3\)$/m);
      const distances = await eachNode(client, 'distance');
      const lists = await eachNode(client, 'cpulist');
      for (const nid of NODES) {
        const info = await client.meminfo(`${DIR}/node${nid}/meminfo`);
        const size = Math.floor(info['MemTotal']! / 1024);
        const free = Math.floor(info['MemFree']! / 1024);
        assert.match(text, new RegExp(`^node ${nid} size: ${size} MB$`, 'm'));
        assert.match(text, new RegExp(`^node ${nid} free: ${free} MB$`, 'm'));
        assert.match(text, new RegExp(`^node ${nid} cpus: ${lists[nid]!.trim()}$`, 'm'));
        assert.deepEqual(row(text, `${nid}:`), numbers(distances[nid]));
      }
    },
  },
  {
    program: 'numactl',
    command: '`numactl --hardware`, files that cannot be read',
    checked: 'no distances; a warning and no CPUs; exit 0',
    async check(client) {
      for (const nid of NODES) {
        await client.fault('file', `/${DIR}/node${nid}/distance ENOENT`);
      }
      const far = await client.run('numactl', '--hardware');
      await client.fault('file', 'off');
      assert.equal(far.status, 0);
      assert.match(far.stdout + far.stderr, /No distance information available/);
      await client.fault('file', `/${DIR}/node1/cpumap ENOENT`);
      const map = await client.run('numactl', '--hardware');
      await client.fault('file', 'off');
      assert.equal(map.status, 0);
      assert.match(map.stdout, /^node 1 cpus:\s*$/m);
    },
  },
  {
    program: 'numastat',
    command: '`numastat`, a node that goes away',
    checked: 'a column less, also when it goes after it was listed',
    async check(client) {
      await client.fault('node', '2');
      await sleep(1100);
      const gone = await client.out('numastat');
      await client.fault('node', 'off');
      await sleep(1100);
      assert.doesNotMatch(gone, /node2/);
      assert.match(gone, /node3/);
      assert.match(await client.out('numastat'), /node2/);
      // After it was listed, between two files: the column is there, with nothing in it.
      await client.fault('node', '2 after=1');
      const file = `/${DIR}/node2/numastat`;
      const { stdout, stderr } = await client.run('head', '-c', '4096', file, file);
      await client.fault('node', 'off');
      assert.match(stdout, /numa_hit/);
      assert.match(stderr, /No such (device|file or directory)\n$/);
    },
  },
];
