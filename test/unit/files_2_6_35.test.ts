/**
 * The text of 2.6.35's files against recordings of the real kernel: a machine is put into the
 * recorded state, and every byte must be equal.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { init_sysctls } from '../../src/kernels/linux-2.6.35/sysctl.ts';
import { bitmap_list, bitmap_mask } from '../../src/lib/bitmap.ts';
import type { FileRow } from '../../src/lib/file_row.ts';
import { SeqFile } from '../../src/lib/seq_file.ts';
import { boot } from '../../src/machine.ts';
import { def_blk_aops } from '../../src/mm/buffer.ts';
import { GFP_KERNEL } from '../../src/mm/gfp.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { kmem_cache_alloc, kmem_cache_create, kmem_cache_free } from '../../src/mm/slub.ts';
import { swapon } from '../../src/mm/swap_state.ts';
import * as stat from '../../src/mm/vmstat.ts';
import { calculate_threshold } from '../../src/mm/vmstat.ts';
import { read_text } from '../golden/recordings.ts';
import { recorded_machine, X86, X86_64 } from './recorded_machine.ts';

const CALLER = { uid: 0, gid: 0, pid: 1 };

function row_of(m: Machine, path: string): FileRow<Machine> {
  return m.kernel.files.find((row) => row.path === path)!;
}

/** What reading the file gives. */
function cat(m: Machine, path: string, id = -1): string {
  const seq = new SeqFile();
  row_of(m, path).show!(seq, m, { id, object: null, caller: CALLER, pos: 0, data: null });
  return seq.text();
}

const STATES: [string, string][] = [
  [X86_64, 'boot'],
  [X86_64, 'minfree45056'],
  [X86_64, 'after'],
  [X86, 'boot'],
  [X86, 'minfree67584'],
];

for (const [files, state] of STATES) {
  const name = `${files.split('/')[2]} ${state}`;
  const recorded = (file: string): string => read_text(`${files}/${state}/${file}`);

  test(`${name}: zoneinfo`, () => {
    assert.equal(cat(recorded_machine(files, state), '/proc/zoneinfo'), recorded('proc_zoneinfo'));
  });

  test(`${name}: buddyinfo and both indexes`, () => {
    const m = recorded_machine(files, state);
    assert.equal(cat(m, '/proc/buddyinfo'), recorded('proc_buddyinfo'));
    for (const index of ['unusable_index', 'extfrag_index']) {
      // The index files were read a moment later: compared where nothing changed in between.
      const ours = cat(m, '/sys/kernel/debug/extfrag/' + index).split('\n');
      const theirs = recorded(index).split('\n');
      assert.equal(ours.length, theirs.length);
      let equal = 0;
      ours.forEach((line, i) => {
        if (line === theirs[i]) equal++;
        assert.equal(line.slice(0, 23), theirs[i]!.slice(0, 23));
      });
      assert.ok(equal >= ours.length - 1, `${index}: ${equal} of ${ours.length} lines equal`);
    }
  });

  test(`${name}: pagetypeinfo`, () => {
    assert.equal(
      cat(recorded_machine(files, state), '/proc/pagetypeinfo'),
      recorded('proc_pagetypeinfo'),
    );
  });

  test(`${name}: vmstat`, () => {
    const m = recorded_machine(files, state);
    const text = recorded('proc_vmstat');
    const lines = text.trimEnd().split('\n');
    // Zone counters into the first zone, so that the sums are the recorded ones.
    for (const zone of m.populated_zones) zone.vm_stat.fill(0);
    const values = new Map(lines.map((line) => line.split(' ') as [string, string]));
    const nr_stats = m.shape.numa ? 29 : 23;
    const first = m.populated_zones[0]!;
    for (let i = 0; i < nr_stats; i++) first.vm_stat[i] = Number(lines[i]!.split(' ')[1]);
    set_events(m, values);
    assert.equal(cat(m, '/proc/vmstat'), text);
    assert.equal(lines.length, m.shape.numa ? 85 : 78);
    // Most recorded events are 0: different numbers show that no two lines are swapped.
    const numbered = lines.map((line, i) => line.split(' ')[0] + ' ' + (i + 1));
    for (let i = 0; i < nr_stats; i++) first.vm_stat[i] = i + 1;
    set_events(m, new Map(numbered.map((line) => line.split(' ') as [string, string])));
    assert.equal(cat(m, '/proc/vmstat'), numbered.join('\n') + '\n');
  });

  test(`${name}: meminfo`, () => {
    const m = recorded_machine(files, state);
    const text = recorded('proc_meminfo');
    set_meminfo(m, text);
    assert.equal(cat(m, '/proc/meminfo'), text);
    assert.ok(text.length < 2048);
  });
}

/** Sets the event counters from lines of vmstat, by the names of the constants in mm/vmstat.ts. */
function set_events(m: Machine, values: Map<string, string>): void {
  const constant: Record<string, string> = {
    zone_reclaim_failed: 'PGSCAN_ZONE_RECLAIM_FAILED',
    compact_blocks_moved: 'COMPACTBLOCKS',
    compact_pages_moved: 'COMPACTPAGES',
    compact_pagemigrate_failed: 'COMPACTPAGEFAILED',
    compact_stall: 'COMPACTSTALL',
    compact_fail: 'COMPACTFAIL',
    compact_success: 'COMPACTSUCCESS',
    htlb_buddy_alloc_success: 'HTLB_BUDDY_PGALLOC',
    htlb_buddy_alloc_fail: 'HTLB_BUDDY_PGALLOC_FAIL',
    unevictable_pgs_mlockfreed: 'UNEVICTABLE_MLOCKFREED',
  };
  const suffixes = m.shape.zone_names.map((zone) =>
    zone === 'HighMem' ? 'high' : zone.toLowerCase(),
  );
  for (const [name, value] of values) {
    if (name.startsWith('nr_') || name.startsWith('numa_')) continue;
    const zone = /^(pgalloc|pgrefill|pgsteal|pgscan_kswapd|pgscan_direct)_(\w+)$/.exec(name);
    const base = zone === null ? name : zone[1]!;
    const key = constant[name] ?? base.replace(/^unevictable_pgs_/, 'unevictable_pg').toUpperCase();
    const event = (stat as unknown as Record<string, number>)[key]!;
    assert.notEqual(event, undefined, `no event ${key} for ${name}`);
    const factor = name === 'pgpgin' || name === 'pgpgout' ? 2 : 1;
    m.vm_events[event + (zone === null ? 0 : suffixes.indexOf(zone[2]!))] = Number(value) * factor;
  }
}

/** Sets what meminfo prints; values that are not modelled are left alone. */
function set_meminfo(m: Machine, text: string): void {
  const kb = (label: string): number =>
    Number(new RegExp(`^${label.replace(/[()]/g, '\\$&')}: +(\\d+)`, 'm').exec(text)![1]);
  for (const zone of m.populated_zones) zone.vm_stat.fill(0);
  const low = m.populated_zones[0]!.vm_stat;
  const items: [string, number][] = [
    ['Active(anon)', stat.NR_ACTIVE_ANON],
    ['Inactive(anon)', stat.NR_INACTIVE_ANON],
    ['Active(file)', stat.NR_ACTIVE_FILE],
    ['Inactive(file)', stat.NR_INACTIVE_FILE],
    ['Unevictable', stat.NR_UNEVICTABLE],
    ['Mlocked', stat.NR_MLOCK],
    ['Dirty', stat.NR_FILE_DIRTY],
    ['Writeback', stat.NR_WRITEBACK],
    ['AnonPages', stat.NR_ANON_PAGES],
    ['Mapped', stat.NR_FILE_MAPPED],
    ['Shmem', stat.NR_SHMEM],
    ['SReclaimable', stat.NR_SLAB_RECLAIMABLE],
    ['SUnreclaim', stat.NR_SLAB_UNRECLAIMABLE],
    ['PageTables', stat.NR_PAGETABLE],
    ['Bounce', stat.NR_BOUNCE],
    ['WritebackTmp', stat.NR_WRITEBACK_TEMP],
    ['NFS_Unstable', stat.NR_UNSTABLE_NFS],
  ];
  for (const [label, item] of items) low[item] = kb(label) / 4;
  m.totalram_pages = kb('MemTotal') / 4;
  const high_free = m.shape.ZONE_HIGHMEM >= 0 ? kb('HighFree') / 4 : 0;
  low[stat.NR_FREE_PAGES] = kb('MemFree') / 4 - high_free;
  if (high_free > 0) {
    m.populated_zones.find((zone) => zone.name === 'HighMem')!.vm_stat[stat.NR_FREE_PAGES] =
      high_free;
  }
  low[stat.NR_FILE_PAGES] = (kb('Buffers') + kb('Cached') + kb('SwapCached')) / 4;
  m.mappings.create(def_blk_aops, GFP_KERNEL).nrpages = kb('Buffers') / 4;
  m.swapper_space.nrpages = kb('SwapCached') / 4;
  low[stat.NR_KERNEL_STACK] = kb('KernelStack') / 8;
  m.vm_committed_as = kb('Committed_AS') / 4;
}

test('meminfo: Buffers is the cache of block devices, and no part of Cached', () => {
  const m = recorded_machine(X86_64, 'boot');
  m.populated_zones[1]!.vm_stat[stat.NR_FILE_PAGES] = 500;
  for (const zone of m.populated_zones.slice(2)) zone.vm_stat[stat.NR_FILE_PAGES] = 0;
  m.mappings.create(def_blk_aops, GFP_KERNEL).nrpages = 120;
  m.swapper_space.nrpages = 30;
  const text = cat(m, '/proc/meminfo');
  assert.match(text, /^Buffers: +480 kB\nCached: +1400 kB\nSwapCached: +120 kB$/m);
  m.swapper_space.nrpages = 1000;
  assert.match(cat(m, '/proc/meminfo'), /^Cached: +0 kB$/m);
});

test('meminfo: CommitLimit follows overcommit_ratio and swap', () => {
  const m = recorded_machine(X86_64, 'boot');
  m.totalram_pages = 1001;
  m.total_swap_pages = 7;
  assert.match(cat(m, '/proc/meminfo'), /^CommitLimit: +2028 kB$/m);
  m.sysctl['overcommit_ratio'] = 100;
  assert.match(cat(m, '/proc/meminfo'), /^CommitLimit: +4032 kB$/m);
});

test('compaction: false has neither the files nor the counters of the series', () => {
  const m = recorded_machine(X86_64, 'boot');
  const vanilla = { ...m.shape, compaction: false };
  Object.defineProperty(m, 'shape', { value: vanilla });
  assert.equal(cat(m, '/proc/vmstat').trimEnd().split('\n').length, 79);
  assert.doesNotMatch(cat(m, '/proc/vmstat'), /compact/);
  const gone = m.kernel.files.filter(
    (row) => row.when !== undefined && !row.when(m) && !row.path.includes('/hugepages/'),
  );
  assert.deepEqual(
    gone.map((row) => row.path.slice(row.path.lastIndexOf('/') + 1)).sort(),
    // highmem_is_dirtyable and vdso_enabled belong to 32-bit machines.
    [
      'compact',
      'compact_memory',
      'extfrag_index',
      'extfrag_threshold',
      'highmem_is_dirtyable',
      'unusable_index',
      'vdso_enabled',
    ],
  );
});

for (const state of ['boot', 'minfree45056', 'after']) {
  test(`x86_64 ${state}: node files, with their NULs`, () => {
    const m = recorded_machine(X86_64, state);
    const recorded = read_text(`${X86_64}/${state}/sys_node_files`);
    // `== ./path` heads each file. A file that ends in NUL leaves it before the next head.
    const parts = recorded.split('== ./').slice(1);
    for (let nid = 0; nid < 3; nid++) set_node(m, nid, recorded);
    let compared = 0;
    for (const part of parts) {
      const at = part.indexOf('\n');
      const path = part.slice(0, at);
      if (path.includes('hugepages/') || path.endsWith('/compact')) continue;
      const node = /^node(\d+)/.exec(path);
      const row = '/sys/devices/system/node/' + path.replace(/^node\d+/, 'node{nid}');
      assert.equal(cat(m, row, node === null ? -1 : Number(node[1])), part.slice(at + 1), path);
      compared++;
    }
    assert.equal(compared, 4 + 3 * 6);
  });
}

test('C10: the lists of nodes end in newline and NUL; has_cpu is empty', () => {
  for (const [nodes, list] of [
    [1, '0'],
    [2, '0-1'],
    [3, '0-2'],
  ] as const) {
    const m = boot({ memory: 256 * 2 ** 20, nodes });
    const file = (name: string): string => cat(m, '/sys/devices/system/node/' + name);
    assert.equal(file('online'), list + '\n\0');
    assert.equal(file('has_normal_memory'), list + '\n\0');
    // The reference says newline alone, the recording (node files, above) newline and NUL.
    assert.equal(file('possible'), list + '\n\0');
    assert.equal(file('has_cpu'), '', 'CPUs that are there at boot are not in it');
  }
});

/** Puts the values of a node's meminfo and numastat into its first zone. */
function set_node(m: Machine, nid: number, recorded: string): void {
  const kb = (label: string): number =>
    Number(
      new RegExp(`^Node ${nid} ${label.replace(/[()]/g, '\\$&')}: +(\\d+)`, 'm').exec(recorded)![1],
    );
  const node = m.nodes[nid]!;
  for (const zone of node.zones) zone.vm_stat.fill(0);
  const to = node.zones[0]!.vm_stat;
  node.node_present_pages = kb('MemTotal') / 4;
  const items: [string, number][] = [
    ['MemFree', stat.NR_FREE_PAGES],
    ['Active(anon)', stat.NR_ACTIVE_ANON],
    ['Inactive(anon)', stat.NR_INACTIVE_ANON],
    ['Active(file)', stat.NR_ACTIVE_FILE],
    ['Inactive(file)', stat.NR_INACTIVE_FILE],
    ['Unevictable', stat.NR_UNEVICTABLE],
    ['Mlocked', stat.NR_MLOCK],
    ['Dirty', stat.NR_FILE_DIRTY],
    ['Writeback', stat.NR_WRITEBACK],
    ['FilePages', stat.NR_FILE_PAGES],
    ['Mapped', stat.NR_FILE_MAPPED],
    ['AnonPages', stat.NR_ANON_PAGES],
    ['Shmem', stat.NR_SHMEM],
    ['PageTables', stat.NR_PAGETABLE],
    ['NFS_Unstable', stat.NR_UNSTABLE_NFS],
    ['Bounce', stat.NR_BOUNCE],
    ['WritebackTmp', stat.NR_WRITEBACK_TEMP],
    ['SReclaimable', stat.NR_SLAB_RECLAIMABLE],
    ['SUnreclaim', stat.NR_SLAB_UNRECLAIMABLE],
  ];
  for (const [label, item] of items) to[item] = kb(label) / 4;
  to[stat.NR_KERNEL_STACK] = kb('KernelStack') / 8;
  const numastat = recorded.split(`== ./node${nid}/numastat\n`)[1]!.split('\n');
  for (let i = 0; i < 6; i++) to[stat.NUMA_HIT + i] = Number(numastat[i]!.split(' ')[1]);
}

for (const files of [X86_64, X86]) {
  test(`${files.split('/')[2]}: names, modes and values of /proc/sys/vm`, () => {
    const m = recorded_machine(files, 'boot');
    m.totalram_pages = 127951;
    m.sysctl['min_free_kbytes'] = files === X86 ? 67584 : 2873;
    init_sysctls(m);
    const text = read_text(`${files}/proc_sys_vm`);
    const rows = m.kernel.files.filter(
      (row) => row.path.startsWith('/proc/sys/vm/') && (row.when === undefined || row.when(m)),
    );
    const recorded = text.split('== ').slice(1);
    let compared = 0;
    for (const part of recorded) {
      const name = part.slice(0, part.indexOf('\n'));
      const row = rows.find((r) => r.path === '/proc/sys/vm/' + name);
      assert.ok(row !== undefined, name);
      compared++;
      const mode = new RegExp(`^-([rwx-]{9}).* ${name}$`, 'm').exec(text);
      if (mode !== null) assert.equal(row.mode, parse_mode(mode[1]!), name);
      if (name === 'compact_memory') assert.equal(row.show, undefined);
      else assert.equal(cat(m, row.path), part.slice(part.indexOf('\n') + 1), name);
    }
    assert.equal(compared, rows.length);
  });
}

function parse_mode(text: string): number {
  let mode = 0;
  for (const c of text) mode = mode * 2 + (c === '-' ? 0 : 1);
  return mode;
}

test('slabinfo: what slabtop parses, counted by SLUB', () => {
  const m = boot({ memory: 64 * 2 ** 20, cpus: 2, boot_time_ms: 1_290_000_000_500 });
  const cache = kmem_cache_create(m, 'test_cache', 100, {});
  const lines = (): string[] => cat(m, '/proc/slabinfo').split('\n');
  assert.deepEqual(lines().slice(0, 2), [
    'slabinfo - version: 2.1',
    '# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables' +
      ' <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>',
  ]);
  const none =
    'test_cache             0      0    104   39    1 : tunables    0    0    0 : slabdata      0      0      0';
  assert.equal(lines()[2], none);
  const objects = [];
  for (let i = 0; i < 79; i++) objects.push(kmem_cache_alloc(m, cache, GFP_KERNEL));
  // A slab that a CPU allocates from counts as used up: three slabs of 39.
  assert.match(lines()[2]!, /^test_cache +117 +117 +104 +39 +1 .* slabdata +3 +3 +0$/);
  kmem_cache_free(m, cache, objects[0]!);
  assert.match(lines()[2]!, /^test_cache +116 +117 /);
  assert.equal(lines().length, 2 + m.slab.caches.length + 1);
});

test('stat, uptime, loadavg: the clock runs, nothing else does', () => {
  const m = boot({ memory: 64 * 2 ** 20, cpus: 2, boot_time_ms: 1_290_000_000_500 });
  m.clock.now_ms = 12_345.6;
  assert.equal(cat(m, '/proc/uptime'), '12.34 24.69\n');
  assert.equal(
    cat(m, '/proc/stat'),
    'cpu  0 0 0 2469 0 0 0 0 0 0\ncpu0 0 0 0 1234 0 0 0 0 0 0\ncpu1 0 0 0 1234 0 0 0 0 0 0\n' +
      'intr 0\nctxt 0\nbtime 1290000000\nprocesses 299\nprocs_running 1\nprocs_blocked 0\n' +
      'softirq 0 0 0 0 0 0 0 0 0 0 0\n',
  );
  const threads = stat.global_page_state(m, stat.NR_KERNEL_STACK);
  assert.ok(threads > 20);
  assert.equal(cat(m, '/proc/loadavg'), `0.00 0.00 0.00 1/${threads} 299\n`);
});

test('swaps: one line an area, the path padded to 40 columns', () => {
  const m = recorded_machine(X86_64, 'boot');
  const head = 'Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n';
  assert.equal(cat(m, '/proc/swaps'), head);
  swapon(m, '/dev/pb1', 1025);
  m.swap_info[0]!.inuse_pages = 3;
  assert.equal(cat(m, '/proc/swaps'), `${head}${'/dev/pb1'.padEnd(40)}partition\t4096\t12\t-1\n`);
});

test('lists and masks of bits', () => {
  assert.equal(bitmap_list([]), '');
  assert.equal(bitmap_list([3]), '3');
  assert.equal(bitmap_list([0, 1, 2, 5, 7, 8]), '0-2,5,7-8');
  assert.equal(bitmap_mask([], 1), '0');
  assert.equal(bitmap_mask([0], 2), '1');
  assert.equal(bitmap_mask([0, 4], 6), '11');
  assert.equal(bitmap_mask([31], 32), '80000000');
  assert.equal(bitmap_mask([0, 32], 33), '1,00000001');
  assert.equal(bitmap_mask([63], 64), '80000000,00000000');
});

test('9.2: the stats threshold grows with CPUs and memory up to 125', () => {
  const m = recorded_machine(X86_64, 'boot');
  const zone = m.populated_zones[1]!;
  const with_size = (cpus: number, present: number): number => {
    Object.defineProperty(m, 'shape', { value: { ...m.shape, nr_cpus: cpus } });
    zone.present_pages = present;
    return calculate_threshold(m, zone);
  };
  assert.equal(with_size(1, 32767), 2);
  assert.equal(with_size(1, 32768), 4);
  assert.equal(with_size(4, 2 * 32768), 2 * 3 * 3);
  assert.equal(with_size(64, 1024 * 32768), 125);
});
