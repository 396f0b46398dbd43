/** Entries of /proc/sys/vm that act at once, and parsing where the recordings have no example. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { files_2_6_35 } from '../../src/kernels/linux-2.6.35/files.ts';
import { init_sysctls } from '../../src/kernels/linux-2.6.35/sysctl.ts';
import { is_job, type Job, run_job } from '../../src/lib/kthread.ts';
import { SeqFile } from '../../src/lib/seq_file.ts';
import { boot } from '../../src/machine.ts';
import { def_blk_aops } from '../../src/mm/buffer.ts';
import { add_to_page_cache_lru } from '../../src/mm/filemap.ts';
import { __GFP_THISNODE, GFP_HIGHUSER_MOVABLE } from '../../src/mm/gfp.ts';
import {
  add_page_to_unevictable_list,
  lru_add_drain,
  lru_cache_add_lru,
  page_lru,
  put_page,
} from '../../src/mm/lru.ts';
import {
  LRU_ACTIVE_ANON,
  LRU_INACTIVE_ANON,
  LRU_UNEVICTABLE,
  type Machine,
} from '../../src/mm/mmzone.ts';
import { unlock_page } from '../../src/mm/page.ts';
import { PG_mlocked, PG_swapbacked } from '../../src/mm/page_flags.ts';
import { register_shrinker } from '../../src/mm/reclaim_def.ts';
import { global_page_state, NR_UNEVICTABLE, UNEVICTABLE_PGRESCUED } from '../../src/mm/vmstat.ts';
import { read_text } from '../golden/recordings.ts';
import { recorded_machine, X86, X86_64 } from './recorded_machine.ts';

const CTX = { id: -1, object: null, caller: { uid: 0, gid: 0, pid: 0 }, pos: 0, data: null };

function row(name: string) {
  return files_2_6_35.find((r) => r.path === '/proc/sys/vm/' + name)!;
}

function get(m: Machine, name: string): string {
  const seq = new SeqFile();
  row(name).show!(seq, m, CTX);
  return seq.text();
}

function set(m: Machine, name: string, text: string): number {
  const result = row(name).store!(m, text, CTX);
  return is_job(result) ? run_job(result) : result;
}

function machine(files = X86_64): Machine {
  const m = recorded_machine(files, 'boot');
  m.totalram_pages = 127951;
  init_sysctls(m);
  return m;
}

/** min, low and high of each zone, from zoneinfo. */
function watermarks(zoneinfo: string): string[] {
  return zoneinfo.split('\n').filter((line) => /^ +(min|low|high) +\d/.test(line));
}

for (const [files, state, kbytes] of [
  [X86_64, 'minfree45056', '45056\n'],
  [X86, 'minfree67584', '67584\n'],
] as const) {
  test(`${state}: a write of min_free_kbytes gives the recorded watermarks`, () => {
    const m = machine(files);
    assert.equal(set(m, 'min_free_kbytes', kbytes), 6);
    const seq = new SeqFile();
    files_2_6_35.find((r) => r.path === '/proc/zoneinfo')!.show!(seq, m, CTX);
    assert.deepEqual(
      watermarks(seq.text()),
      watermarks(read_text(`${files}/${state}/proc_zoneinfo`)),
    );
  });
}

test('14.13: a malformed write to min_free_kbytes or extfrag_threshold succeeds', () => {
  const m = machine();
  // Even a malformed write computes the watermarks again: not those of the recording's boot.
  m.sysctl['min_free_kbytes'] = 45056;
  assert.equal(m.populated_zones[1]!.watermark[0], 247);
  assert.equal(set(m, 'min_free_kbytes', 'foo'), 3);
  assert.equal(m.populated_zones[1]!.watermark[0], 3878);
  for (const name of ['min_free_kbytes', 'extfrag_threshold']) {
    const before = get(m, name);
    for (const text of ['foo', '12x\n', '\n', '1.5']) {
      assert.equal(set(m, name, text), text.length, name);
      assert.equal(get(m, name), before);
    }
  }
  // Out of range is refused, and the refusal is swallowed too.
  assert.equal(set(m, 'extfrag_threshold', '1001'), 4);
  assert.equal(get(m, 'extfrag_threshold'), '500\n');
});

test('C7: parse errors are swallowed by these too; a write of nothing returns 0', () => {
  const m = machine();
  const swallow = [
    'drop_caches',
    'lowmem_reserve_ratio',
    'hugepages_treat_as_movable',
    'scan_unevictable_pages',
    'nr_overcommit_hugepages',
  ];
  for (const name of swallow) {
    const before = get(m, name);
    for (const text of ['foo\n', '1foo', '+1\n']) {
      // The first number of the array was taken before what is wrong came.
      const taken = name === 'lowmem_reserve_ratio' && text === '1foo';
      assert.equal(set(m, name, text), text.length, name);
      if (!taken) assert.equal(get(m, name), before, name);
    }
    assert.equal(set(m, name, ''), 0, name);
  }
  // Others do not swallow.
  assert.equal(set(m, 'swappiness', 'foo\n'), -22);
  assert.equal(set(m, 'swappiness', ''), 0);
  assert.equal(set(m, 'compact_memory', ''), 3);
});

test('C6: ranges are tested after truncation to 32 bits; a NUL behind the number is EINVAL', () => {
  const m = machine();
  for (const [text, value] of [
    ['4294967296', '0\n'], // 2^32
    ['4294967356', '60\n'], // 2^32 + 60
    ['18446744073709551616', '0\n'], // 2^64: overflow wraps
    ['18446744073709551676', '60\n'],
  ] as const) {
    assert.equal(set(m, 'swappiness', text), text.length);
    assert.equal(get(m, 'swappiness'), value, text);
  }
  assert.equal(set(m, 'swappiness', '4294967397'), -22, '2^32 + 101');
  assert.equal(set(m, 'swappiness', '3\0'), -22);
  assert.equal(get(m, 'swappiness'), '60\n');
});

test('lowmem_reserve_ratio: a write moves the reserves, a read recomputes them', () => {
  const m = machine();
  const dma = m.populated_zones[0]!;
  assert.deepEqual([...dma.lowmem_reserve], [0, 173, 173, 173]);
  assert.equal(set(m, 'lowmem_reserve_ratio', '128'), 3);
  assert.equal(dma.lowmem_reserve[1], 347);
  assert.equal(get(m, 'lowmem_reserve_ratio'), '128\t256\t32\n');
  dma.lowmem_reserve.fill(0);
  get(m, 'lowmem_reserve_ratio');
  assert.equal(dma.lowmem_reserve[1], 347);
  // The second value is bad: the first one counts, and what was read of it is reported.
  assert.equal(set(m, 'lowmem_reserve_ratio', '64 foo\n'), 3);
  assert.equal(get(m, 'lowmem_reserve_ratio'), '64\t256\t32\n');
  assert.equal(set(m, 'lowmem_reserve_ratio', '1 2 3 4\n'), 6);
  assert.equal(get(m, 'lowmem_reserve_ratio'), '1\t2\t3\n');
});

test('percpu_pagelist_fraction resizes the lists of every CPU', () => {
  const m = machine();
  const pcp = m.populated_zones[1]!.pageset[0]!;
  assert.deepEqual([pcp.high, pcp.batch], [42, 7]);
  assert.equal(set(m, 'percpu_pagelist_fraction', '8\n'), 2);
  // present 44440: a list may hold an eighth; a refill is a quarter of that but at most 96.
  assert.deepEqual([pcp.high, pcp.batch], [5555, 96]);
  assert.equal(set(m, 'percpu_pagelist_fraction', '1000\n'), 5);
  assert.deepEqual([pcp.high, pcp.batch], [44, 11]);
  assert.equal(set(m, 'percpu_pagelist_fraction', '7\n'), -22);
  assert.equal(get(m, 'percpu_pagelist_fraction'), '1000\n');
});

test('of a ratio and its twin in bytes the one written last counts', () => {
  const m = machine();
  assert.equal(set(m, 'dirty_background_bytes', '8192'), 4);
  assert.equal(get(m, 'dirty_background_ratio'), '0\n');
  assert.equal(set(m, 'dirty_background_ratio', '10'), 2);
  assert.equal(get(m, 'dirty_background_bytes'), '0\n');
  assert.equal(set(m, 'dirty_bytes', '8191'), 4);
  assert.equal(get(m, 'dirty_bytes'), '0\n', 'below two pages: ignored');
  assert.equal(get(m, 'dirty_ratio'), '20\n');
  assert.equal(set(m, 'dirty_bytes', '8192'), 4);
  assert.equal(get(m, 'dirty_ratio'), '0\n');
  assert.equal(set(m, 'dirty_ratio', '0'), 1);
  assert.equal(get(m, 'dirty_bytes'), '8192\n', 'the ratio has not changed');
  assert.equal(set(m, 'dirty_ratio', '20'), 2);
  assert.equal(get(m, 'dirty_bytes'), '0\n');
});

test('unsigned long entries keep all 64 bits; on 32-bit machines they wrap there', () => {
  const m = machine();
  assert.equal(set(m, 'dirty_background_bytes', '18446744073709551615\n'), 21);
  assert.equal(get(m, 'dirty_background_bytes'), '18446744073709551615\n');
  assert.equal(set(m, 'dirty_background_bytes', '4096'), 4);
  assert.equal(get(m, 'dirty_background_bytes'), '4096\n');
  assert.equal(m.sysctl['dirty_background_bytes'], 4096);
  const x86 = machine(X86);
  assert.equal(set(x86, 'dirty_background_bytes', '4294967297'), 10);
  assert.equal(get(x86, 'dirty_background_bytes'), '1\n');
});

test('stat_interval and laptop_mode are seconds, kept in ticks', () => {
  const m = machine();
  assert.equal(set(m, 'stat_interval', '10\n'), 3);
  assert.equal(get(m, 'stat_interval'), '10\n');
  assert.equal(m.sysctl['stat_interval'], 2500);
  assert.equal(set(m, 'stat_interval', '18446744073709551615'), -22);
  assert.equal(get(m, 'stat_interval'), '10\n');
  assert.equal(set(m, 'laptop_mode', '-3'), 2);
  assert.equal(get(m, 'laptop_mode'), '-3\n');
});

test('the kernel looks at one page less a byte', () => {
  const m = machine();
  assert.equal(set(m, 'swappiness', '7' + ' '.repeat(5000)), 5001);
  assert.equal(set(m, 'swappiness', ' '.repeat(4095) + '9'), -22);
  assert.equal(get(m, 'swappiness'), '7\n');
});

test('numa_zonelist_order: zone order tries the DMA zone of node 0 last', () => {
  const m = machine();
  const order = (): string[] => m.nodes[1]!.node_zonelists[0]!.map((zone) => zone.name + zone.nid);
  const by_node = order();
  assert.equal(set(m, 'numa_zonelist_order', 'Zone order\n'), 11);
  assert.equal(get(m, 'numa_zonelist_order'), 'Zone order\n');
  const by_zone = order();
  assert.equal(by_zone[by_zone.length - 1], 'DMA0');
  assert.equal(set(m, 'numa_zonelist_order', 'node'), 4);
  assert.deepEqual(order(), ['DMA321', 'DMA322', 'DMA320', 'DMA0']);
  assert.equal(set(m, 'numa_zonelist_order', 'bogus'), 5);
  assert.equal(get(m, 'numa_zonelist_order'), 'node\n');
  assert.equal(set(m, 'numa_zonelist_order', 'd'.repeat(40)), 40);
  assert.equal(get(m, 'numa_zonelist_order'), 'd'.repeat(15) + '\n');
  assert.deepEqual(order(), by_node);
});

test('compact_memory compacts whatever is written, and returns 3', () => {
  const m = boot({ memory: 64 * 2 ** 20 });
  for (const text of ['', 'whatever it says', '0']) {
    // The first thing that a compaction does is to drain the vectors of new LRU pages.
    lru_cache_add_lru(m, m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0), LRU_ACTIVE_ANON);
    assert.equal(m.lru_add_pvecs[0]![LRU_ACTIVE_ANON]!.nr, 1);
    assert.equal(set(m, 'compact_memory', text), 3);
    assert.equal(m.lru_add_pvecs[0]![LRU_ACTIVE_ANON]!.nr, 0);
  }
});

test('drop_caches: bit 0 drops clean page cache; a malformed write acts on the old value again', () => {
  const m = boot({ memory: 64 * 2 ** 20 });
  const mapping = m.mappings.create(def_blk_aops, GFP_HIGHUSER_MOVABLE);
  const add = (index: number): void => {
    const pfn = m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0);
    assert.equal(add_to_page_cache_lru(m, pfn, mapping, index, GFP_HIGHUSER_MOVABLE), 0);
    unlock_page(m.memmap, pfn);
    put_page(m, pfn);
    // A vector of new LRU pages holds references; such pages stay.
    lru_add_drain(m);
  };
  for (let i = 0; i < 3; i++) add(i);
  assert.equal(set(m, 'drop_caches', '2\n'), 2);
  assert.equal(mapping.nrpages, 3);
  assert.equal(set(m, 'drop_caches', '1\n'), 2);
  assert.equal(mapping.nrpages, 0);
  add(7);
  assert.equal(set(m, 'drop_caches', 'foo'), 3);
  assert.equal(mapping.nrpages, 0);
  assert.equal(get(m, 'drop_caches'), '1\n');
});

test('drop_caches: bit 1 asks the caches of inodes and names until they give little', () => {
  const m = boot({ memory: 64 * 2 ** 20 });
  let objects = 1000;
  register_shrinker(m, {
    name: 'test',
    seeks: 2,
    shrink(_m, nr) {
      objects -= Math.min(nr, objects);
      return objects;
    },
  });
  assert.equal(set(m, 'drop_caches', '1'), 1);
  assert.equal(objects, 1000);
  assert.equal(set(m, 'drop_caches', '2'), 1);
  assert.ok(objects < 128, String(objects));
});

test('shmmax, shmall, shmmni: what hugeadm sets', () => {
  const m = machine();
  const shm = (name: string) => files_2_6_35.find((r) => r.path === '/proc/sys/kernel/' + name)!;
  const show = (name: string): string => {
    const seq = new SeqFile();
    shm(name).show!(seq, m, CTX);
    return seq.text();
  };
  assert.deepEqual(['shmmax', 'shmall', 'shmmni'].map(show), ['33554432\n', '2097152\n', '4096\n']);
  assert.equal(shm('shmmax').store!(m, '8589934592\n', CTX), 11);
  assert.equal(show('shmmax'), '8589934592\n');
  assert.equal(shm('shmmax').store!(m, '-1', CTX), 2);
  assert.equal(show('shmmax'), '8589934592\n');
  assert.equal(shm('shmmni').store!(m, 'x', CTX), -22);
});

test('scan_unevictable_pages rescues pages that became evictable, by zone and by node', () => {
  const m = boot({ memory: 256 * 2 ** 20, nodes: 2 });
  const p = m.memmap;
  const stranded = (nid: number): number => {
    const pfn = m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE | __GFP_THISNODE, 0, nid);
    p.flags[pfn]! |= PG_swapbacked | PG_mlocked;
    add_page_to_unevictable_list(m, pfn);
    return pfn;
  };
  const pages = [stranded(0), stranded(0), stranded(1)] as const;
  const list_of = (pfn: number): number => page_lru(p, pfn);
  const rescued = (): boolean[] => pages.map((pfn) => list_of(pfn) !== LRU_UNEVICTABLE);
  assert.deepEqual(rescued(), [false, false, false]);
  for (const text of ['0', 'foo', '-1', '']) {
    assert.equal(set(m, 'scan_unevictable_pages', text), text.length, text);
  }
  const node = files_2_6_35.find((r) => r.path.endsWith('node{nid}/scan_unevictable_pages'))!;
  const scan_node = (nid: number, text: string): number =>
    run_job(node.store!(m, text, { ...CTX, id: nid }) as Job);
  // Still mlocked: looked at and left.
  assert.equal(scan_node(0, 'foo'), 1);
  assert.deepEqual(rescued(), [false, false, false]);
  for (const pfn of pages) p.flags[pfn]! &= ~PG_mlocked;
  assert.equal(scan_node(0, '1'), 1, 'a number does nothing');
  assert.deepEqual(rescued(), [false, false, false]);
  assert.equal(scan_node(0, 'foo'), 1);
  assert.deepEqual(rescued(), [true, true, false]);
  assert.deepEqual(pages.slice(0, 2).map(list_of), [LRU_INACTIVE_ANON, LRU_INACTIVE_ANON]);
  assert.equal(set(m, 'scan_unevictable_pages', '1\n'), 2);
  assert.deepEqual(rescued(), [true, true, true]);
  assert.equal(m.vm_events[UNEVICTABLE_PGRESCUED], 3);
  assert.equal(global_page_state(m, NR_UNEVICTABLE), 0);
});
