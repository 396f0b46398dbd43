/**
 * Unmodified programs on a mounted 2.6.35, as root and as an ordinary user: what they print is
 * what the mount says, what they write arrives. docs/clients.md lists what is checked here.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Client,
  cannotBe,
  EVERYBODY,
  missing,
  numbers,
  parseMeminfo,
  type Who,
} from '../helpers/clients.ts';

const VM = '/proc/sys/vm/';

function options(who: Who, ...programs: string[]) {
  return { skip: missing(...programs) || cannotBe(who), timeout: 180_000 };
}

for (const who of EVERYBODY) {
  describe(`hugeadm as ${who}`, () => {
    it('shows and moves the pool', options(who, 'hugeadm'), async (t) => {
      const client = await Client.mount(t, who, ['--nodes', '2', '--memory', '1G']);
      const pool = async () => numbers((await client.out('hugeadm', '--pool-list')).split('\n')[1]);
      assert.deepEqual(await pool(), [2097152, 0, 0, 0]);
      await client.write('proc/sys/vm/nr_hugepages', '20\n');
      assert.deepEqual(await pool(), [2097152, 20, 20, 20]);
      const set = (...args: string[]) => client.run('hugeadm', ...args);
      const SWAP = /^(hugeadm:WARNING: .*[Ss]wap.*\n)*$/;

      let result = await set('--pool-pages-min', 'DEFAULT:+4');
      assert.equal(result.status, 0);
      assert.match(result.stderr, SWAP);
      assert.deepEqual(await pool(), [2097152, 24, 24, 24]);
      result = await set('--pool-pages-min', '2MB:-10');
      assert.equal(result.status, 0);
      assert.deepEqual(await pool(), [2097152, 14, 14, 24]);
      result = await set('--pool-pages-min', 'DEFAULT:64M');
      assert.deepEqual(await pool(), [2097152, 32, 32, 32]);
      result = await set('--pool-pages-max', 'DEFAULT:8G');
      assert.deepEqual([result.status, result.stderr], [0, '']);
      assert.deepEqual(await pool(), [2097152, 32, 32, 4096]);
      result = await set('--pool-pages-max', 'DEFAULT:8');
      assert.deepEqual(await pool(), [2097152, 8, 8, 8]);
      const info = await client.meminfo();
      assert.deepEqual([info['HugePages_Total'], info['Hugepagesize']], [8, 2048]);

      await client.writes();
      result = await set('--obey-mempolicy', '--pool-pages-min', 'DEFAULT:10');
      assert.equal(result.status, 0);
      const written = await client.writes();
      assert.ok(written.some(([path]) => path === `${VM}nr_hugepages_mempolicy`));
      assert.ok(!written.some(([path]) => path === `${VM}nr_hugepages`));
      assert.deepEqual((await pool()).slice(0, 3), [2097152, 10, 10]);

      // A pool that stops short: hugeadm tells, and exits 0.
      await client.write('sys/kernel/debug/pageblock/fault/pool', '15\n');
      result = await set('--pool-pages-min', 'DEFAULT:50');
      assert.match(result.stderr, /failed to set pool minimum to 50 became 15/);
      assert.equal(result.status, 0);
      for (const wrong of ['4096:3', 'DEFAULT:x', '3']) {
        assert.equal((await set('--pool-pages-min', wrong)).status, 1, wrong);
      }
    });

    it('sets what it recommends', options(who, 'hugeadm'), async (t) => {
      const client = await Client.mount(t, who, ['--nodes', '2', '--memory', '1G']);
      const zones = (await client.read('proc/zoneinfo')).match(/^Node /gm)!.length;
      await client.out('hugeadm', '--set-recommended-min_free_kbytes');
      assert.equal(await client.read('proc/sys/vm/min_free_kbytes'), `${11 * 2048 * zones}\n`);
      const none = await client.run('hugeadm', '--set-recommended-shmmax');
      assert.match(none.stderr, /only set a recommended shmmax when huge pages are configured/);
      await client.out('hugeadm', '--pool-pages-max', 'DEFAULT:8G');
      await client.out('hugeadm', '--set-recommended-shmmax');
      assert.equal(await client.read('proc/sys/kernel/shmmax'), '8589934592\n');
      await client.out('hugeadm', '--set-shm-group', 'daemon');
      assert.equal(await client.read('proc/sys/vm/hugetlb_shm_group'), '1\n');
      assert.equal((await client.run('hugeadm', '--set-shm-group', 'no-such')).status, 1);
      await client.out('hugeadm', '--enable-zone-movable');
      assert.equal(await client.read('proc/sys/vm/hugepages_treat_as_movable'), '1\n');
      await client.out('hugeadm', '--disable-zone-movable');
      assert.equal(await client.read('proc/sys/vm/hugepages_treat_as_movable'), '0\n');
    });

    it('explains, dry-runs and refuses', options(who, 'hugeadm'), async (t) => {
      const client = await Client.mount(t, who, ['--memory', '1G']);
      const total = (await client.meminfo())['MemTotal']!;
      const { stdout } = await client.run('hugeadm', '--explain');
      assert.match(
        stdout,
        new RegExp(`^Total System Memory: ${Math.floor(total / 1024)} MB$`, 'm'),
      );
      const now = (await client.read('proc/sys/vm/min_free_kbytes')).trim();
      assert.match(stdout, new RegExp(`min_free_kbytes of ${now} is too small`));
      await client.writes();
      const dry = await client.run('hugeadm', '--dry-run', '--set-recommended-min_free_kbytes');
      assert.match(dry.stdout, /^HUGETLB_VERBOSE='\d+'\necho "\d+" > \/proc\/sys\/vm\/min_free/);
      assert.deepEqual(await client.writes(), []);
      // There are no transparent huge pages in 2.6.35.
      const thp = await client.run('hugeadm', '--thp-always');
      assert.match(thp.stderr, /Couldn't open \/sys\/kernel\/mm\/transparent_hugepage\/enabled/);
      for (const args of [['--verbose', '100'], ['--bogus'], []]) {
        assert.equal((await client.run('hugeadm', ...args)).status, 1, args.join(' '));
      }
      assert.equal(await client.out('hugeadm', '--page-sizes-all'), '2097152\n');
      assert.equal(await client.out('pagesize', '-a'), '4096\n2097152\n');
      assert.equal(await client.out('pagesize', '-H'), '2097152\n');
      assert.equal(await client.out('pagesize'), '4096\n');
    });

    it('makes mounts that later calls see', options(who, 'hugeadm'), async (t) => {
      const client = await Client.mount(t, who, ['--memory', '512M']);
      const at = '/var/lib/hugetlbfs/global/pagesize-2MB';
      const none = await client.run('hugeadm', '--list-all-mounts');
      assert.match(none.stderr, /No hugetlbfs mount points found/);
      const made = await client.run('hugeadm', '--create-global-mounts');
      if (who === 'user') {
        // Differs: the host's kernel does not let user namespaces mount hugetlbfs.
        assert.equal(made.status, 1);
        assert.match(made.stderr, /Operation not permitted/);
        return;
      }
      assert.deepEqual([made.status, made.stdout, made.stderr], [0, '', '']);
      assert.match(await client.out('hugeadm', '--list-all-mounts'), new RegExp(at));
      assert.match(await client.out('stat', '-c', '%a', at), /^1777$/m);
      const twice = await client.run('hugeadm', '--create-global-mounts');
      assert.match(twice.stderr, /already mounted/);
      assert.equal(twice.status, 0);
      assert.equal((await client.run('hugeadm', '--create-mounts')).status, 0);
      const user = ['--create-user-mounts', 'nobody', '--max-size', '64M'];
      assert.equal((await client.run('hugeadm', ...user)).status, 0);
      assert.match(await client.out('hugeadm', '--list-all-mounts'), /user\/nobody.*size=67108864/);
      await client.out('hugeadm', '--pool-pages-max', 'DEFAULT:16');
      assert.equal(await client.out('hugeadm', '--page-sizes'), '2097152\n');
    });
  });

  describe(`procps as ${who}`, () => {
    it('sysctl', options(who, 'sysctl'), async (t) => {
      const client = await Client.mount(t, who, ['--memory', '256M']);
      assert.equal(await client.out('sysctl', 'vm.swappiness'), 'vm.swappiness = 60\n');
      assert.equal(await client.out('sysctl', '-n', 'vm.swappiness'), '60\n');
      const set = await client.out('sysctl', '-w', 'vm.swappiness=70', 'vm.page-cluster=4');
      assert.equal(set, 'vm.swappiness = 70\nvm.page-cluster = 4\n');
      assert.equal(await client.read('proc/sys/vm/swappiness'), '70\n');
      const wrong = await client.run('sysctl', '-w', 'vm.swappiness=999');
      assert.equal(wrong.status, 1);
      assert.match(wrong.stderr, /setting key "vm.swappiness": Invalid argument/);
      assert.equal((await client.run('sysctl', 'vm.no_such_key')).status, 1);
      assert.equal(await client.out('sysctl', 'vm.compact_memory'), '', 'it can only be written');
      await client.out('sysctl', '-w', 'vm.compact_memory=1');
      const conf = client.mnt.replace(/mnt$/, 'sysctl.conf');
      const text = '# huge pages\\nvm.nr_hugepages = 12\\nkernel.shmmax=68719476736\\n';
      await client.outside('sh', ['-c', `printf '${text}' > ${conf}`]);
      await client.out('sysctl', '-p', conf);
      assert.equal(await client.read('proc/sys/vm/nr_hugepages'), '12\n');
      assert.equal(await client.read('proc/sys/kernel/shmmax'), '68719476736\n');
      // All keys, from the first in the directory on, with the mount's values.
      const all = await client.out('sysctl', '-a', '--pattern', '^vm\\.');
      const names = (await client.outside('ls', ['-U', `${client.mnt}/proc/sys/vm`])).stdout;
      const readable: string[] = [];
      for (const name of names.trim().split('\n')) {
        if (name === 'compact_memory') continue;
        readable.push(`vm.${name} = ${(await client.read(`proc/sys/vm/${name}`)).trim()}`);
      }
      assert.deepEqual(all.trim().split('\n'), readable);
      assert.ok(readable.length > 30);
    });

    it('free and vmstat', options(who, 'free', 'vmstat', 'slabtop'), async (t) => {
      const client = await Client.mount(t, who, ['--memory', '512M', '--nodes', '2']);
      await client.sh(`dd if=/dev/zero of=${client.mnt}/disk/f bs=1M count=20 2>/dev/null; sync`);
      const free = await client.out('free', '-k');
      const info = await client.meminfo();
      const cache = info['Cached']! + info['SReclaimable']!;
      assert.ok(info['Cached']! >= 20 * 1024);
      const [, memory, swap] = free.split('\n').map(numbers);
      // Before MemAvailable there was only MemFree to go by.
      assert.deepEqual(memory, [
        info['MemTotal'],
        info['MemTotal']! - info['MemFree']!,
        info['MemFree'],
        info['Shmem'],
        info['Buffers']! + cache,
        info['MemFree'],
      ]);
      assert.deepEqual(swap, [info['SwapTotal'], 0, info['SwapFree']]);

      const [, , line] = (await client.out('vmstat')).split('\n');
      assert.deepEqual(numbers(line).slice(2, 6), [0, info['MemFree'], info['Buffers'], cache]);
      const [, , active] = (await client.out('vmstat', '-a')).split('\n');
      assert.deepEqual(numbers(active).slice(3, 6), [
        info['MemFree'],
        info['Inactive'],
        info['Active'],
      ]);
      const sums = await client.out('vmstat', '-s');
      const vmstat = await client.read('proc/vmstat');
      const counter = (name: string) => new RegExp(`^${name} (\\d+)$`, 'm').exec(vmstat)![1]!;
      for (const [label, value] of [
        ['K total memory', info['MemTotal']],
        ['K free memory', info['MemFree']],
        ['K active memory', info['Active']],
        ['K buffer memory', info['Buffers']],
        ['K swap cache', cache],
        ['K paged in', counter('pgpgin')],
        ['K paged out', counter('pgpgout')],
        ['pages swapped in', counter('pswpin')],
      ]) {
        assert.match(sums, new RegExp(`^ *${value} ${label}$`, 'm'));
      }
      assert.equal((await client.run('vmstat', '-d')).status, 0);

      const slabs = new Map<string, number[]>();
      for (const [, name, rest] of (await client.read('proc/slabinfo')).matchAll(
        /^([\w-]+) +(\d+ +\d+ +\d+ +\d+) /gm,
      )) {
        slabs.set(name!, numbers(rest));
      }
      const listed = (await client.out('vmstat', '-m'))
        .split('\n')
        .filter((l) => !/^Cache/.test(l));
      assert.equal(listed.filter((l) => l !== '').length, slabs.size);
      for (const row of listed) {
        const [name = '', ...values] = row.trim().split(/ +/);
        if (name !== '') assert.deepEqual(values.map(Number), slabs.get(name), name);
      }
      const top = await client.out('slabtop', '-o');
      const dentry = slabs.get('dentry')!;
      assert.match(top, new RegExp(`^ *${dentry[1]} +${dentry[0]} .* dentry *$`, 'm'));
    });

    it('vmstat N and free -s see changes', options(who, 'vmstat'), async (t) => {
      const client = await Client.mount(t, who, ['--memory', '512M']);
      const both = client.sh('vmstat 1 8 & free -s 1 -c 8 -k; wait');
      await sleep(1400);
      await client.write('proc/sys/vm/nr_hugepages', '64\n');
      const free = [...(await both).matchAll(/^Mem: +\d+ +\d+ +(\d+)/gm)].map((m) => Number(m[1]));
      // Eight seconds are enough for the write to arrive on a busy machine.
      assert.equal(free.length, 8);
      assert.ok(free[0]! - free[7]! >= 64 * 2048, String(free));
    });
  });

  describe(`NUMA tools as ${who}`, () => {
    it('numastat and numactl', options(who, 'numastat', 'numactl'), async (t) => {
      const client = await Client.mount(t, who, ['--memory', '1G', '--nodes', '4', '--cpus', '4']);
      const dir = 'sys/devices/system/node';
      const nodes = await Promise.all(
        [0, 1, 2, 3].map(async (nid) => ({
          numastat: await client.read(`${dir}/node${nid}/numastat`),
          info: parseMeminfo(await client.read(`${dir}/node${nid}/meminfo`)),
          distance: numbers(await client.read(`${dir}/node${nid}/distance`)),
          cpus: (await client.read(`${dir}/node${nid}/cpulist`)).trim(),
        })),
      );
      const table = await client.out('numastat', '-n');
      assert.match(table, /Node 0 +Node 1 +Node 2 +Node 3/);
      const plain = await client.out('numastat');
      for (const name of ['numa_hit', 'numa_miss', 'local_node', 'other_node']) {
        const wanted = nodes.map(({ numastat }) =>
          Number(new RegExp(`^${name} (\\d+)`, 'm').exec(numastat)![1]),
        );
        assert.deepEqual(numbers(new RegExp(`^${name} (.*)$`, 'm').exec(plain)![1]), wanted, name);
      }
      const memory = await client.out('numastat', '-m');
      for (const key of ['MemTotal', 'MemFree', 'Slab', 'HugePages_Total']) {
        const row = numbers(new RegExp(`^${key} (.*)$`, 'm').exec(memory)![1]);
        nodes.forEach(({ info }, nid) => {
          assert.ok(Math.abs(row[nid]! - info[key]! / 1024) < 0.0051, `${key} ${nid}`);
        });
      }
      const hardware = await client.out('numactl', '--hardware');
      assert.match(hardware, /^available: 4 nodes \(0-3\)$/m);
      nodes.forEach(({ info, distance, cpus }, nid) => {
        const size = Math.floor(info['MemTotal']! / 1024);
        assert.match(hardware, new RegExp(`^node ${nid} size: ${size} MB$`, 'm'));
        assert.match(hardware, new RegExp(`^node ${nid} cpus: ${cpus}$`, 'm'));
        const row = new RegExp(`^ +${nid}: (.*)$`, 'm').exec(hardware)![1];
        assert.deepEqual(numbers(row), distance);
      });
      // A node that goes away is a column less.
      await client.write('sys/kernel/debug/pageblock/fault/node', '2\n');
      await sleep(1100);
      assert.doesNotMatch(await client.out('numastat'), /node2/);
    });
  });

  describe(`sysstat as ${who}`, () => {
    it('sar', options(who, 'sar'), async (t) => {
      const client = await Client.mount(t, who, ['--memory', '512M']);
      await client.write('proc/sys/vm/nr_hugepages', '10\n');
      await client.write('sys/kernel/debug/pageblock/spawn', 'anon 40M\n');
      const average = async (...args: string[]) => {
        const text = await client.out('sar', ...args, '1', '1');
        return numbers(/^Average: +(.*)$/m.exec(text)![1]);
      };
      const memory = await average('-r', 'ALL');
      const info = await client.meminfo();
      const used =
        info['MemTotal']! - info['MemFree']! - info['Buffers']! - info['Cached']! - info['Slab']!;
      assert.deepEqual(
        [memory[0], memory[2], memory[4], memory[5], memory[12]],
        [info['MemFree'], used, info['Buffers'], info['Cached'], info['Slab']],
      );
      assert.equal(memory[11], info['AnonPages']);
      assert.deepEqual((await average('-H')).slice(0, 2), [20480, 0]);
      assert.deepEqual(await average('-S'), [0, 0, 0, 0, 0]);
      assert.deepEqual(await average('-W'), [0, 0]);
      // Faults while it looks: the difference of the counter, in two seconds or so.
      const spawn = `${client.mnt}/sys/kernel/debug/pageblock/spawn`;
      const text = await client.sh(`sar -B 2 1 & sleep 1; echo anon 4M > ${spawn}; wait`);
      const [, , faults = 0] = numbers(/^Average: +(.*)$/m.exec(text)![1]);
      assert.ok(faults > 250 && faults < 1200, text);
    });
  });

  describe(`metrics as ${who}`, () => {
    const exporter = 'prometheus-node-exporter';
    it('node exporter', options(who, exporter), async (t) => {
      const client = await Client.mount(t, who, ['--memory', '512M', '--nodes', '2']);
      const port = who === 'root' ? 19171 : 19172;
      const collectors = ['buddyinfo', 'zoneinfo', 'meminfo', 'meminfo_numa', 'vmstat', 'slabinfo'];
      const script = [
        `exec ${exporter}`,
        `--path.procfs=${client.mnt}/proc --path.sysfs=${client.mnt}/sys`,
        '--collector.disable-defaults --collector.vmstat.fields=.*',
        ...collectors.map((name) => `--collector.${name}`),
        `--web.listen-address=127.0.0.1:${port}`,
      ].join(' ');
      const ended = client.outside('sh', ['-c', `timeout 6 sh -c '${script}'`]);
      const text = await scrape(`http://127.0.0.1:${port}/metrics`);
      for (const name of collectors) {
        assert.match(
          text,
          new RegExp(`^node_scrape_collector_success{collector="${name}"} 1$`, 'm'),
        );
      }
      const buddyinfo = await client.read('proc/buddyinfo');
      let compared = 0;
      for (const line of buddyinfo.trim().split('\n')) {
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
      assert.equal(metric(text, 'node_memory_HugePages_Total'), 0);
      const node1 = await client.meminfo('sys/devices/system/node/node1/meminfo');
      assert.equal(metric(text, 'node_memory_numa_MemTotal{node="1"}'), node1['MemTotal']! * 1024);
      const vmstat = await client.read('proc/vmstat');
      const stall = Number(/^compact_stall (\d+)$/m.exec(vmstat)![1]);
      assert.equal(metric(text, 'node_vmstat_compact_stall'), stall);
      const zoneinfo = await client.read('proc/zoneinfo');
      const [, low] = /^Node 0, zone +DMA$[\s\S]*?^ +low +(\d+)$/m.exec(zoneinfo)!;
      assert.equal(metric(text, 'node_zoneinfo_low_pages{node="0",zone="DMA"}'), Number(low));
      await ended;
    });
  });

  describe(`files as ${who}`, () => {
    it('updatedb and the file tools', options(who, 'updatedb.plocate'), async (t) => {
      const client = await Client.mount(t, who, ['--memory', '256M']);
      const disk = `${client.mnt}/disk`;
      const db = client.mnt.replace(/mnt$/, 'db');
      await client.sh(
        `cd ${disk}; mkdir -p a/b; cp /bin/true a/b/copy; ln a/b/copy a/link; mv a/link z`,
      );
      const update = `updatedb.plocate -l 0 -o ${db} -U ${disk} --prunepaths= --prunefs=`;
      await client.sh(update);
      const found = async () => (await client.sh(`plocate -d ${db} ${disk}/ || true`)).split('\n');
      assert.ok((await found()).includes(`${disk}/a/b/copy`));
      assert.equal(await client.sh(`cmp /bin/true ${disk}/z && stat -c %h ${disk}/z`), '2\n');
      await client.sh(`sleep 1.1; rm ${disk}/a/b/copy; echo new > ${disk}/a/b/new; ${update}`);
      const after = await found();
      assert.ok(after.includes(`${disk}/a/b/new`) && !after.includes(`${disk}/a/b/copy`));
    });

    it('fio verifies what it wrote', options(who, 'fio'), async (t) => {
      const client = await Client.mount(t, who, ['--memory', '256M']);
      const job = `--name=j --directory=${client.mnt}/disk --size=8M --bs=4k --ioengine=psync`;
      const out = await client.sh(
        `cd /tmp; fio ${job} --rw=randwrite --verify=crc32c --do_verify=1 --verify_state_save=0 --fallocate=posix`,
      );
      assert.match(out, /err= 0/);
    });
  });
}

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
