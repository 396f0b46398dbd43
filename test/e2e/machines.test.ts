/**
 * Every machine that can be mounted: the session holds on it, its huge pages have the size that its
 * processor has, and without NUMA there are no node files. Swap takes what does not fit and gives
 * it back as it was.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { it } from 'node:test';
import { mountMachine, noFuse, pageblock } from '../helpers/mounts.ts';
import { sh } from '../helpers/processes.ts';
import { session } from '../helpers/session.ts';

const options = { skip: noFuse(), timeout: 240_000 };

interface Expected {
  args: string;
  zones: string;
  hugeKb: number;
  pools: string[];
  nodes: number;
}

const X86_POOLS = ['hugepages-2048kB'];
const MACHINES: Expected[] = [
  {
    args: '--machine x86',
    zones: 'DMA Normal HighMem',
    hugeKb: 2048,
    pools: X86_POOLS,
    nodes: 0,
  },
  {
    args: '--machine ppc64 --memory 1776M',
    zones: 'DMA',
    hugeKb: 16384,
    pools: ['hugepages-16384kB', 'hugepages-16777216kB', 'hugepages-64kB'],
    nodes: 1,
  },
  {
    args: '--machine ppc64 --page-size 64K --memory 1776M',
    zones: 'DMA',
    hugeKb: 16384,
    pools: ['hugepages-16384kB', 'hugepages-16777216kB'],
    nodes: 1,
  },
  { args: '--no-numa', zones: 'DMA DMA32', hugeKb: 2048, pools: X86_POOLS, nodes: 0 },
  {
    args: '--nodes 64 --memory 8G',
    zones: 'DMA DMA32 Normal',
    hugeKb: 2048,
    pools: X86_POOLS,
    nodes: 64,
  },
];

for (const { args, zones, hugeKb, pools, nodes } of MACHINES) {
  it(`the session, ${args}`, options, async (t) => {
    const mnt = await mountMachine(t, args.split(' '));
    const read = (path: string): string => readFileSync(join(mnt, path), 'utf8');
    const names = [...read('proc/buddyinfo').matchAll(/zone +(\S+)/g)].map(([, name]) => name);
    assert.equal([...new Set(names)].join(' '), zones);
    await session(dirname(mnt));
    assert.match(read('proc/meminfo'), new RegExp(`^Hugepagesize: +${hugeKb} kB$`, 'm'));
    assert.deepEqual(readdirSync(join(mnt, 'sys/kernel/mm/hugepages')).sort(), pools);
    await sh(`echo 5 > ${mnt}/proc/sys/vm/nr_hugepages`);
    assert.equal(read('proc/sys/vm/nr_hugepages'), '5\n');
    const nodeDir = join(mnt, 'sys/devices/system/node');
    assert.equal(existsSync(nodeDir), nodes > 0);
    if (nodes > 0) {
      assert.equal(readdirSync(nodeDir).filter((name) => /^node\d+$/.test(name)).length, nodes);
    } else {
      assert.ok(!/^numa_/m.test(read('proc/vmstat')));
      assert.ok(!existsSync(join(mnt, 'proc/sys/vm/zone_reclaim_mode')));
    }
    assert.match(await sh(`cd ${dirname(mnt)}; sha256sum -c sums | tail -1`), /: OK\n$/);
  });
}

/** Free pages of each zone, its mark MIN, and what it keeps for requests that start at DMA32. */
function zones(zoneinfo: string): { free: number; min: number; reserve: number }[] {
  return zoneinfo.split(/^(?=Node )/m).map((text) => {
    const value = (word: string): number =>
      Number(new RegExp(`${word} +(\\d+)$`, 'm').exec(text)![1]);
    const protection = /protection: \(\d+, (\d+),/.exec(text)![1];
    return { free: value('pages free'), min: value(' min'), reserve: Number(protection) };
  });
}

for (const [when, kb] of [
  ['as booted', null],
  ['with min_free_kbytes as hugeadm sets it', 45056],
] as const) {
  it(`13.4: nr_hugepages grown to its limit, idle, 2 GiB, ${when}`, options, async (t) => {
    const mnt = await mountMachine(t, ['--memory', '2G']);
    if (kb !== null) await sh(`echo ${kb} > ${mnt}/proc/sys/vm/min_free_kbytes`);
    const read = (path: string): string => readFileSync(join(mnt, path), 'utf8');
    const before = zones(read('proc/zoneinfo'));
    await sh(`echo 100000 > ${mnt}/proc/sys/vm/nr_hugepages`);
    const got = Number(read('proc/sys/vm/nr_hugepages'));
    // The worked ceilings: with 45056 kB at most 980, whatever compaction does.
    if (kb !== null) {
      assert.equal(before[1]!.min, 11180, '13.4 has 11178, without the dma_reserve of C4');
      assert.ok(got <= 980, `${got} huge pages`);
    }
    // An allocation may not take a zone below MIN and what is kept for others.
    let ceiling = 0;
    for (const { free, min, reserve } of before) {
      ceiling += Math.max(0, Math.floor((free - min - reserve) / 512));
    }
    // What was in caches is given up on the way: a page or two more than was free.
    assert.ok(got <= ceiling + 2, `${got} huge pages, the ceiling is ${ceiling}`);
    assert.ok(got >= ceiling - 12, `${got} huge pages, the ceiling is ${ceiling}`);
    for (const { free, min, reserve } of zones(read('proc/zoneinfo'))) {
      assert.ok(free > min + reserve, `${free} free pages, MIN ${min}, kept ${reserve}`);
    }
    assert.match(read('proc/meminfo'), new RegExp(`^HugePages_Free: +${got}$`, 'm'));
    // It is the limit: asking again gives nothing, and all of it can be given back.
    await sh(`echo 100000 > ${mnt}/proc/sys/vm/nr_hugepages`);
    assert.ok(Number(read('proc/sys/vm/nr_hugepages')) <= got + 1);
    await sh(`echo 0 > ${mnt}/proc/sys/vm/nr_hugepages`);
    assert.equal(read('proc/sys/vm/nr_hugepages'), '0\n');
  });
}

it('what cannot be mounted is refused with one line', options, async () => {
  for (const [args, message] of [
    ['--page-size 64K', 'page size must be 4096, or 65536 on ppc64'],
    ['--no-numa --nodes 2', 'more than one node needs a kernel with NUMA (machine x86_64)'],
    ['--machine x86 --memory 65G', 'memory of an x86 machine (PAE) must be at most 64G'],
    ['--memory 63M', 'memory must be from 64M to 1T'],
    ['--nodes 65 --memory 8G', 'nodes must be a whole number from 1 to 64, not 65'],
  ] as const) {
    const result = await pageblock(['mount', '/tmp/pageblock-never', ...args.split(' ')]);
    assert.deepEqual([result.status, result.stderr], [1, `pageblock: ${message}\n`]);
  }
});

it('--swap: a process larger than memory keeps what it wrote', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '128M', '--swap', '512M']);
  const control = `${mnt}/sys/kernel/debug/pageblock/spawn`;
  const slow = { timeout: 100_000 };
  const swap = async (): Promise<number[]> =>
    (await sh(`tail -1 ${mnt}/proc/swaps`)).trim().split(/\s+/).slice(2).map(Number);
  const value = (name: string): number =>
    Number(
      new RegExp(`^${name}:? +(\\d+)`, 'm').exec(
        readFileSync(`${mnt}/proc/meminfo`, 'utf8') + readFileSync(`${mnt}/proc/vmstat`, 'utf8'),
      )?.[1],
    );
  assert.deepEqual(await swap(), [524284, 0, -1]);
  assert.equal(value('SwapTotal'), 524284);
  const pid = (await sh(`echo 'anon 300M name=big' > ${control}; head -1 ${control}`, slow)).trim();
  const [, used] = await swap();
  assert.ok(used! > 180 * 1024, String(used));
  assert.equal(value('SwapFree'), 524284 - used!);
  assert.ok(value('pswpout') * 4 >= used!);
  // Every page is touched once more, so that all of them pass through memory.
  await sh(`echo 'verify pid=${pid}' > ${control}; echo 'write pid=${pid}' > ${control}`, slow);
  assert.ok(value('pswpin') * 4 > 180 * 1024, String(value('pswpin')));
  await sh(
    `echo 1 > ${mnt}/proc/sys/vm/compact_memory; echo 'verify pid=${pid}' > ${control}`,
    slow,
  );
  assert.equal((await pageblock(['kill', mnt, pid])).status, 0);
  assert.deepEqual(await swap(), [524284, 0, -1]);
});
