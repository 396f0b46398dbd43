/**
 * The text of 6.1's files against a recording of a real machine: ours is put into the recorded
 * state, and every byte must be equal.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Dirent, OpenFile, Vnode } from '../../src/fs/vfs.ts';
import { migratetype_of_nr } from '../../src/kernels/linux-6.1/gfp.ts';
import { hugetlb_init } from '../../src/kernels/linux-6.1/hugetlb.ts';
import { linux_6_1 } from '../../src/kernels/linux-6.1/profile.ts';
import {
  calculate_totalreserve_pages,
  init_lowmem_reserve_ratio,
} from '../../src/kernels/linux-6.1/watermark.ts';
import { list_add } from '../../src/lib/list.ts';
import { SeqFile } from '../../src/lib/seq_file.ts';
import { boot } from '../../src/machine.ts';
import { free_list_head } from '../../src/mm/buddy.ts';
import { assemble_machine } from '../../src/mm/mm_init.ts';
import type { Machine, Zone } from '../../src/mm/mmzone.ts';
import * as stat from '../../src/mm/vmstat.ts';
import { mount_root } from '../../src/mount_root.ts';
import { SHAPE_61 } from '../../src/sim/replay_61_state.ts';
import { read_text } from '../golden/recordings.ts';

const recorded = (file: string): string => read_text('debian-6.1/verbatim/' + file);

/** Kernel stacks are counted whole here, in KiB and by page there: the nearest that both can say. */
const zoneinfo = recorded('zoneinfo')
  .replace('nr_kernel_stack 776', 'nr_kernel_stack 768')
  .replace('nr_kernel_stack 8', 'nr_kernel_stack 16');

/** Our counter for a name in the texts: of a zone, and of a node kept in its first zone. */
const ZONE_ITEMS: Record<string, number> = {
  nr_free_pages: stat.NR_FREE_PAGES,
  nr_zone_inactive_anon: stat.NR_INACTIVE_ANON,
  nr_zone_active_anon: stat.NR_ACTIVE_ANON,
  nr_zone_inactive_file: stat.NR_INACTIVE_FILE,
  nr_zone_active_file: stat.NR_ACTIVE_FILE,
  nr_zone_unevictable: stat.NR_UNEVICTABLE,
  nr_mlock: stat.NR_MLOCK,
  nr_bounce: stat.NR_BOUNCE,
  numa_hit: stat.NUMA_HIT,
  numa_miss: stat.NUMA_MISS,
  numa_foreign: stat.NUMA_FOREIGN,
  numa_interleave: stat.NUMA_INTERLEAVE_HIT,
  numa_local: stat.NUMA_LOCAL,
  numa_other: stat.NUMA_OTHER,
};
const NODE_ITEMS: Record<string, number> = {
  nr_slab_reclaimable: stat.NR_SLAB_RECLAIMABLE,
  nr_slab_unreclaimable: stat.NR_SLAB_UNRECLAIMABLE,
  nr_isolated_anon: stat.NR_ISOLATED_ANON,
  nr_isolated_file: stat.NR_ISOLATED_FILE,
  nr_anon_pages: stat.NR_ANON_PAGES,
  nr_mapped: stat.NR_FILE_MAPPED,
  nr_file_pages: stat.NR_FILE_PAGES,
  nr_dirty: stat.NR_FILE_DIRTY,
  nr_writeback: stat.NR_WRITEBACK,
  nr_writeback_temp: stat.NR_WRITEBACK_TEMP,
  nr_shmem: stat.NR_SHMEM,
  nr_vmscan_write: stat.NR_VMSCAN_WRITE,
  nr_page_table_pages: stat.NR_PAGETABLE,
};

const number_after = (text: string, word: string): number =>
  Number(new RegExp(`^ +(?:pages )?${word}:? +(\\d+)$`, 'm').exec(text)![1]);

/** The recorded machine: zones, counters, watermarks, free lists as pagetypeinfo has them. */
function recorded_machine(text = zoneinfo): Machine {
  const zones = text
    .split(/^(?=Node )/m)
    .filter((zone) => /^ +managed +[1-9]/m.test(zone))
    .map((zone) => {
      const [, nid, name] = /^Node (\d+), zone +(\S+)\n/.exec(zone)!;
      return { zone, nid: Number(nid), name: name! };
    });
  const m = assemble_machine({
    shape: SHAPE_61,
    kernel: linux_6_1,
    zones: zones.map(({ zone, nid, name }) => ({
      nid,
      zone_idx: SHAPE_61.zone_names.indexOf(name),
      start_pfn: number_after(zone, 'start_pfn'),
      spanned_pages: number_after(zone, 'spanned'),
      present_pages: number_after(zone, 'managed'),
    })),
  });
  for (const { zone: part, nid, name } of zones) {
    const zone = zone_of(m, nid, name);
    zone.ram_pages = number_after(part, 'present');
    // Computed before the kernel gave its init memory back, which changed managed.
    ['min', 'low', 'high'].forEach((word, i) => {
      zone.watermark[i] = number_after(part, word);
    });
    zone.lowmem_reserve.set(/protection: \((.*)\)/.exec(part)![1]!.split(', ').map(Number));
    zone.pageset[0]!.count = number_after(part, 'count');
    zone.pageset[0]!.high = zone.watermark[1]!;
    for (const [key, item] of Object.entries(ZONE_ITEMS)) {
      zone.vm_stat[item] = number_after(part, key);
    }
    if (!part.includes('per-node stats')) continue;
    for (const [key, item] of Object.entries(NODE_ITEMS)) {
      zone.vm_stat[item] = number_after(part, key);
    }
    zone.vm_stat[stat.NR_KERNEL_STACK] = number_after(part, 'nr_kernel_stack') / 16;
  }
  calculate_totalreserve_pages(m);
  set_free_lists(m);
  return m;
}

function zone_of(m: Machine, nid: number, name: string): Zone {
  return m.populated_zones.find((zone) => zone.nid === nid && zone.name === name)!;
}

/** Fills free lists and block types; which frames stand for the blocks does not matter. */
function set_free_lists(m: Machine): void {
  const types = ['Unmovable', 'Movable', 'Reclaimable', 'HighAtomic', 'Isolate'];
  const next_pfn = new Map<Zone, number>();
  const numbers = (row: string): number[] => row.trim().split(/ +/).map(Number);
  const text = recorded('pagetypeinfo');
  const lists = /^Node +(\d+), zone +(\S+), type +(\S+) (.*)$/gm;
  for (const [, nid, name, type, row] of text.matchAll(lists)) {
    const zone = zone_of(m, Number(nid), name!);
    numbers(row!).forEach((count, order) => {
      for (let i = 0; i < count; i++) {
        const pfn = next_pfn.get(zone) ?? zone.zone_start_pfn;
        next_pfn.set(zone, pfn + 1);
        const ours = migratetype_of_nr[types.indexOf(type!)]!;
        list_add(m.memmap, pfn, free_list_head(zone, order, ours));
        zone.nr_free[order]!++;
      }
    });
  }
  for (const [, nid, name, row] of text.matchAll(/^Node (\d+), zone +(\S+) ([ \d]*)$/gm)) {
    const zone = zone_of(m, Number(nid), name!);
    let block = 0;
    numbers(row!).forEach((count, nr) => {
      for (let i = 0; i < count; i++) zone.pageblock_flags[block++] = migratetype_of_nr[nr]!;
    });
  }
}

function cat(m: Machine, path: string, id = -1): string {
  const seq = new SeqFile();
  const row = m.kernel.files.find((file) => file.path === path)!;
  const caller = { uid: 0, gid: 0, pid: 1 };
  row.show!(seq, m, { id, object: null, caller, pos: 0, data: null });
  return seq.text();
}

test('zoneinfo', () => {
  assert.equal(cat(recorded_machine(), '/proc/zoneinfo'), zoneinfo);
});

test('watermarks of a zone follow from its min and its size', () => {
  const m = recorded_machine();
  const recorded_marks = m.populated_zones.map((zone) => [...zone.watermark]);
  m.sysctl['min_free_kbytes'] = 35508;
  init_lowmem_reserve_ratio(m);
  m.kernel.setup_per_zone_wmarks(m);
  m.populated_zones.forEach((zone, i) => {
    const [min, low, high] = recorded_marks[i]!;
    assert.equal(low! - min!, min! >> 2);
    assert.equal(high! - low!, min! >> 2);
    assert.equal(zone.watermark[1]! - zone.watermark[0]!, zone.watermark[0]! >> 2);
    // Within what the memory that was freed after boot makes of it.
    assert.ok(Math.abs(zone.watermark[0]! - min!) <= min! * 0.02);
  });
  m.sysctl['watermark_scale_factor'] = 1000;
  m.kernel.setup_per_zone_wmarks(m);
  const dma32 = m.populated_zones[1]!;
  assert.equal(dma32.watermark[1]! - dma32.watermark[0]!, 11350);
});

test('zoneinfo: the boost is in the watermarks', () => {
  const m = recorded_machine();
  m.populated_zones[1]!.watermark_boost = 512;
  const text = zoneinfo.split(/^(?=Node )/m);
  text[1] = text[1]!
    .replace(' boost    0', ' boost    512')
    .replace('min      5535', 'min      6047')
    .replace('low      6918', 'low      7430')
    .replace('high     8301', 'high     8813');
  assert.equal(cat(m, '/proc/zoneinfo'), text.join(''));
});

test('pagetypeinfo, buddyinfo and both indexes', () => {
  const m = recorded_machine();
  assert.equal(cat(m, '/proc/pagetypeinfo'), recorded('pagetypeinfo'));
  assert.equal(cat(m, '/proc/buddyinfo'), recorded('buddyinfo'));
  assert.equal(cat(m, '/sys/kernel/debug/extfrag/extfrag_index'), recorded('extfrag_index'));
  // Node 0 was at work between the readings.
  const idle = (text: string): string[] => text.split('\n').filter((_line, i) => i !== 1);
  const ours = cat(m, '/sys/kernel/debug/extfrag/unusable_index');
  assert.deepEqual(idle(ours), idle(recorded('unusable_index')));
});

/** Our event counter for a name in vmstat; those that are not here print 0. */
const EVENT_CONSTANTS: Record<string, string> = {
  compact_migrate_scanned: 'COMPACTMIGRATE_SCANNED',
  compact_free_scanned: 'COMPACTFREE_SCANNED',
  compact_isolated: 'COMPACTISOLATED',
  compact_stall: 'COMPACTSTALL',
  compact_fail: 'COMPACTFAIL',
  compact_success: 'COMPACTSUCCESS',
  compact_daemon_wake: 'KCOMPACTD_WAKE',
  compact_daemon_migrate_scanned: 'KCOMPACTD_MIGRATE_SCANNED',
  compact_daemon_free_scanned: 'KCOMPACTD_FREE_SCANNED',
  htlb_buddy_alloc_success: 'HTLB_BUDDY_PGALLOC',
  htlb_buddy_alloc_fail: 'HTLB_BUDDY_PGALLOC_FAIL',
  zone_reclaim_failed: 'PGSCAN_ZONE_RECLAIM_FAILED',
};

/** Sums over zones of our counters: tested below. */
const OTHER_UNIT = ['pgrefill', 'pgscan_kswapd', 'pgscan_direct'];

function event_of(name: string): number | undefined {
  if (OTHER_UNIT.includes(name)) return undefined;
  const zone = /^(pgalloc|allocstall)_(dma|dma32|normal|movable)$/.exec(name);
  if (zone !== null) {
    const first = zone[1] === 'pgalloc' ? stat.PGALLOC : stat.ALLOCSTALL_ZONE;
    return first + ['dma', 'dma32', 'normal', 'movable'].indexOf(zone[2]!);
  }
  const constant =
    EVENT_CONSTANTS[name] ?? name.toUpperCase().replace('UNEVICTABLE_PGS_', 'UNEVICTABLE_PG');
  return (stat as unknown as Record<string, number>)[constant];
}

test('vmstat: every line, in its order, with its own counter', () => {
  const lines = recorded('vmstat')
    .replace('nr_kernel_stack 784', 'nr_kernel_stack 784')
    .split('\n');
  const m = recorded_machine();
  const rows = lines.filter((line) => line !== '').map((line) => line.split(' '));
  const events = rows.slice(rows.findIndex((row) => row[0] === 'pgpgin'));
  // Read a moment after zoneinfo.
  for (const zone of m.populated_zones) zone.vm_stat.fill(0);
  const first = m.populated_zones[0]!;
  for (const [name, value] of rows) {
    const item = ZONE_ITEMS[name!] ?? NODE_ITEMS[name!];
    if (item !== undefined) first.vm_stat[item] = Number(value);
  }
  first.vm_stat[stat.NR_KERNEL_STACK] = 784 / 16;
  let counted = 0;
  const values = new Map<string, number>();
  events.forEach(([name, value], i) => {
    const event = event_of(name!);
    if (event === undefined) return;
    counted++;
    // Most recorded ones are 0: others show that no two lines are swapped.
    const unlike = Number(value) + i;
    m.vm_events[event] = unlike;
    values.set(name!, unlike);
  });
  assert.ok(counted > 45, `${counted} counters`);
  // pgreuse is not counted here.
  const expected = rows.map(([name, value]) => {
    return `${name} ${name === 'pgreuse' ? 0 : (values.get(name!) ?? value)}`;
  });
  assert.deepEqual(cat(m, '/proc/vmstat').trimEnd().split('\n'), expected);
});

test('vmstat: what is counted by zone here is summed', () => {
  const m = recorded_machine();
  for (let zone = 0; zone < 4; zone++) {
    m.vm_events[stat.PGREFILL + zone] = zone + 1;
    m.vm_events[stat.PGSTEAL + zone] = 10 * (zone + 1);
  }
  m.vm_events[stat.KSWAPD_STEAL] = 33;
  const text = cat(m, '/proc/vmstat');
  assert.match(text, /^pgrefill 10$/m);
  assert.match(text, /^pgsteal_kswapd 33$/m);
  assert.match(text, /^pgsteal_direct 67$/m);
});

test('nodeN/vmstat and numastat', () => {
  const m = recorded_machine();
  const dir = '/sys/devices/system/node/node{nid}/';
  // 8 KiB of a kernel stack are half a one.
  const text = recorded('node1.vmstat').replace('nr_kernel_stack 8', 'nr_kernel_stack 16');
  assert.equal(cat(m, dir + 'vmstat', 1), text);
  assert.equal(cat(m, dir + 'numastat', 1), recorded('node1.numastat'));
  assert.equal(cat(m, dir + 'distance', 1), recorded('node1.distance'));
  assert.equal(cat(m, dir + 'cpulist', 0), recorded('node0.cpulist'));
  assert.equal(cat(m, dir + 'cpulist', 1), recorded('node1.cpulist'));
  assert.equal(cat(m, dir + 'cpumap', 0), recorded('node0.cpumap'));
  for (const line of recorded('node.values').trimEnd().split('\n')) {
    const [name, value] = line.split(' = ');
    assert.equal(cat(m, '/sys/devices/system/node/' + name), value + '\n', name);
  }
});

/** Sets the counters that a meminfo text shows, in the first zone. */
function set_meminfo(m: Machine, text: string, zone: Zone): void {
  const kb = (label: string): number =>
    Number(
      new RegExp(`^(?:Node \\d+ )?${label.replace(/[()]/g, '\\$&')}: +(\\d+) kB`, 'm').exec(
        text,
      )?.[1],
    ) / 4;
  for (const other of m.nodes[zone.nid]!.zones) other.vm_stat.fill(0);
  const set: [string, number][] = [
    ['MemFree', stat.NR_FREE_PAGES],
    ['Active(anon)', stat.NR_ACTIVE_ANON],
    ['Inactive(anon)', stat.NR_INACTIVE_ANON],
    ['AnonPages', stat.NR_ANON_PAGES],
    ['Mapped', stat.NR_FILE_MAPPED],
    ['Shmem', stat.NR_SHMEM],
    ['SReclaimable', stat.NR_SLAB_RECLAIMABLE],
    ['SUnreclaim', stat.NR_SLAB_UNRECLAIMABLE],
    ['PageTables', stat.NR_PAGETABLE],
  ];
  for (const [label, item] of set) zone.vm_stat[item] = kb(label);
  zone.vm_stat[stat.NR_FILE_PAGES] = text.startsWith('Node') ? kb('FilePages') : kb('Cached');
  zone.vm_stat[stat.NR_KERNEL_STACK] = Math.floor(kb('KernelStack') / 4);
  m.vm_committed_as = kb('Committed_AS') || 0;
}

test('meminfo: MemAvailable follows from watermarks and counters', () => {
  const m = recorded_machine();
  const text = recorded('meminfo');
  for (const zone of m.populated_zones) zone.vm_stat.fill(0);
  set_meminfo(m, text, m.populated_zones[1]!);
  m.totalram_pages = 725036 / 4;
  const ours = cat(m, '/proc/meminfo');
  // What is mapped in 2 MiB pages is as the firmware left it.
  const without_map = (t: string): string => t.replace(/^DirectMap2M.*\n/m, '');
  assert.equal(without_map(ours), without_map(text));
});

test('nodeN/meminfo', () => {
  for (const nid of [0, 1]) {
    const m = recorded_machine();
    const text = recorded(`node${nid}.meminfo`).replace(
      /KernelStack: +\d+/,
      nid === 0 ? 'KernelStack:         768' : 'KernelStack:           0',
    );
    set_meminfo(m, text, m.nodes[nid]!.zones[0]!);
    assert.equal(cat(m, '/sys/devices/system/node/node{nid}/meminfo', nid), text);
  }
});

test('the pool of huge pages reads 0 at boot', () => {
  const m = recorded_machine();
  hugetlb_init(m);
  for (const line of recorded('hugepages.values').trimEnd().split('\n')) {
    const [name, value] = line.split(' = ');
    if (!name!.startsWith('hugepages-2048kB')) continue;
    assert.equal(cat(m, '/sys/kernel/mm/hugepages/' + name), value + '\n');
  }
});

/** Numbers and the width of columns aside. */
const structure = (text: string): string[] =>
  text.split('\n').map((line) => line.replace(/\d+/g, 'N').replace(/ +/g, ' '));

test('a machine of the recorded shape prints every recorded file, line for line', () => {
  const m = boot({ kernel: '6.1', memory: 768 * 2 ** 20, nodes: 2, gbpages: true, seed: 1 });
  const files: [string, string][] = [
    ...['buddyinfo', 'meminfo', 'pagetypeinfo', 'vmstat', 'zoneinfo'].map(
      (name): [string, string] => [name, `/proc/${name}`],
    ),
    ...['extfrag_index', 'unusable_index'].map((name): [string, string] => [
      name,
      `/sys/kernel/debug/extfrag/${name}`,
    ]),
  ];
  for (const nid of [0, 1]) {
    for (const name of ['cpulist', 'cpumap', 'distance', 'meminfo', 'numastat', 'vmstat']) {
      files.push([`node${nid}.${name}`, `/sys/devices/system/node/node${nid}/${name}`]);
    }
  }
  const root = mount_root(m);
  const find = (path: string): Vnode | number =>
    path
      .split('/')
      .slice(1)
      .reduce<Vnode | number>(
        (node, name) => (typeof node === 'number' ? node : node.lookup(name)),
        root,
      );
  for (const [name, path] of files) {
    const file = (find(path) as Vnode).open(0, { uid: 0, gid: 0, pid: 1 }) as OpenFile;
    const buf = new Uint8Array(1 << 16);
    const text = Buffer.from(buf.subarray(0, file.read(buf, 0))).toString('latin1');
    assert.deepEqual(structure(text), structure(recorded(name)), name);
  }
  const value = (path: string): string => {
    const file = (find(path) as Vnode).open(0, { uid: 0, gid: 0, pid: 1 });
    // Of what cannot be read the recording has nothing, or says so.
    if (typeof file === 'number') return '';
    const buf = new Uint8Array(100);
    return Buffer.from(buf.subarray(0, file.read(buf, 0)))
      .toString('latin1')
      .trimEnd();
  };
  for (const [listing, dir] of [
    ['hugepages.values', '/sys/kernel/mm/hugepages'],
    ['node0.hugepages', '/sys/devices/system/node/node0/hugepages'],
    ['node1.hugepages', '/sys/devices/system/node/node1/hugepages'],
  ] as const) {
    for (const line of recorded(listing).split('\n')) {
      const [name, text] = line.split(' = ');
      if (name === undefined || name === '') continue;
      assert.equal(value(`${dir}/${name}`), text?.startsWith('cat:') ? '' : text, name);
    }
  }
  // Node directories: what is absent stands in the head of node.ts, with cpulist's size.
  const absent = /^(cpu\d+|memory\d+|subsystem|power|x86|uevent|cpulist)$/;
  for (const [listing, path] of [
    ['extfrag.ls', '/sys/kernel/debug/extfrag'],
    ['node.ls', '/sys/devices/system/node'],
    ['node0.ls', '/sys/devices/system/node/node0'],
    ['node1.ls', '/sys/devices/system/node/node1'],
    ['sys-vm.ls', '/proc/sys/vm'],
  ] as const) {
    const wanted = recorded(listing)
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('total'))
      .map((line) => line.split(/ +/))
      .map((words) => `${words[0]!.slice(1)} ${words[4]} ${words[8]}`);
    const directory = find(path) as Vnode;
    const ours = (directory.readdir() as Dirent[])
      .filter(({ name }) => !name.startsWith('.'))
      .map(({ name }) => {
        const { mode, size } = (directory.lookup(name) as Vnode).getattr();
        const bits = [...'rwxrwxrwx'].map((c, i) => ((mode >> (8 - i)) & 1 ? c : '-')).join('');
        return `${bits} ${size} ${name}`;
      });
    const there = (lines: string[]): string[] =>
      lines.filter((line) => !absent.test(line.split(' ')[2]!)).sort();
    assert.deepEqual(there(ours), there(wanted), listing);
  }
});
