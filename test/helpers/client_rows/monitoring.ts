/** sar and the metrics exporter. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, numbers } from '../clients.ts';
import type { ClientRow } from './types.ts';

async function average(client: Client, ...args: string[]): Promise<number[]> {
  const text = await client.out('sar', ...args, '1', '1');
  return numbers(/^Average: +(.*)$/m.exec(text)?.[1]);
}

const vmstatOf = async (client: Client): Promise<Record<string, number>> => {
  const values: Record<string, number> = {};
  for (const [, key, value] of (await client.read('proc/vmstat')).matchAll(/^(\w+) (\d+)$/gm)) {
    values[key!] = Number(value);
  }
  return values;
};

/** The exporter runs while `use` looks at what it tells. */
export async function exporting<T>(client: Client, use: (text: string) => Promise<T>): Promise<T> {
  const port = 19000 + (process.pid % 4000) * 4 + PORTS.indexOf(`${client.kernel} ${client.who}`);
  const script =
    `prometheus-node-exporter --path.procfs=${client.mnt}/proc --path.sysfs=${client.mnt}/sys ` +
    '--collector.disable-defaults --collector.vmstat.fields=".*" ' +
    COLLECTORS.map((name) => `--collector.${name} `).join('') +
    `--web.listen-address=127.0.0.1:${port} >/dev/null 2>&1 & echo $!`;
  const pid = (await client.outside('sh', ['-c', script])).stdout.trim();
  try {
    return await use(await scrape(`http://127.0.0.1:${port}/metrics`));
  } finally {
    await client.outside('kill', [pid]);
  }
}

const PORTS = ['2.6.35 root', '2.6.35 user', '6.1 root', '6.1 user'];
const COLLECTORS = [
  ...['buddyinfo', 'zoneinfo', 'meminfo', 'meminfo_numa', 'vmstat', 'ksmd', 'slabinfo'],
];

async function scrape(url: string): Promise<string> {
  const end = Date.now() + 10_000;
  for (;;) {
    try {
      return await (await fetch(url)).text();
    } catch (error) {
      if (Date.now() > end) throw error;
      await sleep(100);
    }
  }
}

function metric(text: string, name: string): number | undefined {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
}

const success = (text: string, collector: string) =>
  metric(text, `node_scrape_collector_success{collector="${collector}"}`);

const KSM = 'sys/kernel/mm/ksm';
const KSM_FILES = [
  ...['full_scans', 'merge_across_nodes', 'pages_shared', 'pages_sharing', 'pages_to_scan'],
  ...['pages_unshared', 'pages_volatile', 'run', 'sleep_millisecs'],
];

export const monitoring_rows: readonly ClientRow[] = [
  {
    program: 'sar',
    command: '`sar -r ALL 1 1`',
    checked: 'all columns that come from the file',
    async check(client) {
      await client.write('proc/sys/vm/nr_hugepages', '10\n');
      await client.write('sys/kernel/debug/pageblock/spawn', 'anon 40M\n');
      const row = await average(client, '-r', 'ALL');
      const info = await client.meminfo();
      const used = ['MemFree', 'Buffers', 'Cached', 'Slab'];
      const commit = info['Committed_AS']! / (info['MemTotal']! + info['SwapTotal']!);
      assert.deepEqual(row, [
        info['MemFree'],
        info['MemAvailable'] ?? 0,
        used.reduce((rest, key) => rest - info[key]!, info['MemTotal']!),
        row[3],
        ...[info['Buffers'], info['Cached'], info['Committed_AS']],
        Math.round(commit * 10_000) / 100,
        ...['Active', 'Inactive', 'Dirty', 'AnonPages', 'Slab', 'KernelStack', 'PageTables'].map(
          (key) => info[key],
        ),
        info['VmallocUsed'],
      ]);
      assert.ok(Math.abs(row[3]! - (row[2]! * 100) / info['MemTotal']!) < 0.006);
      assert.ok(info['AnonPages']! >= 40 * 1024);
    },
  },
  {
    program: 'sar',
    command: '`sar -H 1 1`',
    checked: 'huge pages free, used, reserved, surplus, in kB',
    async check(client) {
      await client.write('proc/sys/vm/nr_hugepages', '10\n');
      await client.write('sys/kernel/debug/pageblock/spawn', 'huge 4 touch=3\n');
      const [free, used, , reserved, surplus] = await average(client, '-H');
      const info = await client.meminfo();
      const kb = (pages: number) => pages * info['Hugepagesize']!;
      assert.deepEqual(
        [free, used],
        [kb(info['HugePages_Free']!), kb(info['HugePages_Total']! - info['HugePages_Free']!)],
      );
      assert.deepEqual(
        [reserved, surplus],
        [kb(info['HugePages_Rsvd']!), kb(info['HugePages_Surp']!)],
      );
      assert.deepEqual([used, reserved], [kb(3), kb(1)]);
    },
  },
  {
    program: 'sar',
    command: '`sar -S 1 1`, `sar -W 1 1`',
    checked: 'swap free and used; pages swapped in and out',
    async check(client) {
      const text = await client.out('sar', '-S', '-W', '1', '1');
      const [swapping, swap] = [...text.matchAll(/^Average: +([\d. ]+)$/gm)].map((m) =>
        numbers(m[1]),
      );
      const info = await client.meminfo();
      const used = info['SwapTotal']! - info['SwapFree']!;
      assert.deepEqual(swapping, [0, 0]);
      assert.deepEqual(swap!.slice(0, 2), [info['SwapFree'], used]);
    },
  },
  {
    program: 'sar',
    command: '`sar -B 2 1`',
    checked: 'faults, frees and scans while it looks, against the counters',
    async check(client) {
      const spawn = `${client.mnt}/sys/kernel/debug/pageblock/spawn`;
      const before = await vmstatOf(client);
      const text = await client.sh(`sar -B 2 1 & sleep 1; echo anon 4M > ${spawn}; wait`);
      const after = await vmstatOf(client);
      const [, , faults = 0, major = 0, freed = 0] = numbers(/^Average: +(.*)$/m.exec(text)?.[1]);
      const all = after['pgfault']! - before['pgfault']!;
      // Per second, in two seconds or a little more.
      assert.ok(faults >= 4 && faults <= all / 1.9, `${all} faults: ${text}`);
      assert.ok(faults >= all / 4, `${all} faults: ${text}`);
      assert.equal(major, 0);
      assert.ok(freed >= 0 && freed <= (after['pgfree']! - before['pgfree']!) / 1.9);
    },
  },
  {
    program: 'prometheus-node-exporter',
    command: '`prometheus-node-exporter`',
    checked:
      'buddyinfo, zoneinfo, meminfo, meminfo_numa, vmstat, slabinfo: every block count, samples of the rest; ksmd where all its files are',
    async check(client) {
      await exporting(client, async (text) => {
        const allOfKsm = (
          await Promise.all(KSM_FILES.map((name) => client.has(`${KSM}/${name}`)))
        ).every((there) => there);
        for (const name of COLLECTORS) {
          assert.equal(success(text, name), name === 'ksmd' && !allOfKsm ? 0 : 1, name);
        }
        let compared = 0;
        for (const line of (await client.read('proc/buddyinfo')).trim().split('\n')) {
          const [, node, zone, counts] = /^Node (\d+), zone +(\w+) +(.*?) *$/.exec(line)!;
          counts!.split(/ +/).forEach((count, order) => {
            const labels = `{node="${node}",size="${order}",zone="${zone}"}`;
            assert.equal(metric(text, `node_buddyinfo_blocks${labels}`), Number(count));
            compared++;
          });
        }
        assert.ok(compared >= 33);
        const info = await client.meminfo();
        assert.equal(metric(text, 'node_memory_MemTotal_bytes'), info['MemTotal']! * 1024);
        assert.equal(metric(text, 'node_memory_Active_anon_bytes'), info['Active(anon)']! * 1024);
        assert.equal(metric(text, 'node_memory_HugePages_Total'), info['HugePages_Total']);
        const node1 = await client.meminfo('sys/devices/system/node/node1/meminfo');
        const total = metric(text, 'node_memory_numa_MemTotal{node="1"}');
        assert.equal(total, node1['MemTotal']! * 1024);
        for (const name of ['compact_stall', 'pgfault', 'nr_free_pages']) {
          const counted = (await vmstatOf(client))[name];
          if (counted !== undefined) assert.equal(metric(text, `node_vmstat_${name}`), counted);
        }
        const zoneinfo = await client.read('proc/zoneinfo');
        const [, low] = /^Node 0, zone +DMA$[\s\S]*?^ +low +(\d+)$/m.exec(zoneinfo)!;
        assert.equal(metric(text, 'node_zoneinfo_low_pages{node="0",zone="DMA"}'), Number(low));
        assert.match(text, /^node_slabinfo_active_objects\{[^}]*slab="dentry"[^}]*\} [1-9]/m);
      });
    },
  },
  {
    program: 'prometheus-node-exporter',
    command: '`prometheus-node-exporter`, a file that fails',
    checked: 'this collector fails, the others go on',
    async check(client) {
      await client.fault('file', '/proc/buddyinfo EIO');
      await exporting(client, async (text) => {
        assert.equal(success(text, 'buddyinfo'), 0);
        assert.equal(success(text, 'meminfo'), 1);
      });
      await client.fault('file', 'off');
    },
  },
];
