/**
 * The machines of the published tables: the worked numbers of reference 13.4 for zones of just that
 * size, and what boot makes of the same machines, with the corrections C4, C13, C14 and C15.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type MachineName, machine_shape } from '../../src/arch.ts';
import { set_max_huge_pages } from '../../src/kernels/linux-2.6.35/hugetlb.ts';
import { linux_2_6_35 } from '../../src/kernels/linux-2.6.35/profile.ts';
import {
  init_lowmem_reserve_ratio,
  init_per_zone_wmark_min,
} from '../../src/kernels/linux-2.6.35/watermark.ts';
import { SeqFile } from '../../src/lib/seq_file.ts';
import { boot, type MachineConfig, zone_present_pages } from '../../src/machine.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { MIGRATE_MOVABLE, MIGRATE_RESERVE, MIGRATE_UNMOVABLE } from '../../src/mm/gfp.ts';
import { assemble_machine } from '../../src/mm/mm_init.ts';
import { type Machine, nodes_with_memory } from '../../src/mm/mmzone.ts';
import { get_pageblock_migratetype, set_pageblock_migratetype } from '../../src/mm/pageblock.ts';
import { NR_FREE_PAGES } from '../../src/mm/vmstat.ts';
import { read_text } from '../golden/recordings.ts';
import { X86 } from './recorded_machine.ts';

const MIB = 2 ** 20;

/** zone index, start pfn, spanned, present, boot and hugeadm watermarks, pcp, protection. */
type Row = [number, number, number, number, string, string, string, string];

interface Table {
  machine: MachineName;
  boot_kb: number;
  hugeadm_kb: number;
  rows: Row[];
}

const TABLES: Table[] = [
  {
    machine: 'x86_64',
    boot_kb: 5752,
    hugeadm_kb: 45056,
    rows: [
      [0, 1, 4095, 3942, '10/12/15', '85/106/127', '1/0', '0,2004,2004,2004'],
      [1, 4096, 520192, 513080, '1427/1783/2140', '11178/13972/16767', '31/186', '0,0,0,0'],
    ],
  },
  {
    machine: 'x86',
    boot_kb: 3798,
    hugeadm_kb: 67584,
    rows: [
      [0, 1, 4095, 3966, '16/20/24', '297/371/445', '1/0', '0,865,2016,2016'],
      [1, 4096, 223230, 221486, '932/1165/1398', '16598/20747/24897', '31/186', '0,0,9207,9207'],
      [2, 227326, 296962, 294641, '128/438/748', '128/5648/11168', '31/186', '0,0,0,0'],
    ],
  },
  {
    machine: 'ppc64',
    boot_kb: 5357,
    hugeadm_kb: 180224,
    rows: [[0, 0, 454656, 448440, '1339/1673/2008', '45056/56320/67584', '31/186', '0,0,0']],
  },
];

const watermarks = (m: Machine): string[] =>
  m.populated_zones.map((z) => [...z.watermark].join('/'));
const protection = (m: Machine): string[] => m.populated_zones.map((z) => z.lowmem_reserve.join());
const pcp = (m: Machine): string[] =>
  m.populated_zones.map((z) => `${z.pageset[0]!.batch}/${z.pageset[0]!.high}`);

function set_min_free(m: Machine, kb: number): void {
  m.sysctl['min_free_kbytes'] = kb;
  m.kernel.setup_per_zone_wmarks(m);
}

for (const { machine, boot_kb, hugeadm_kb, rows } of TABLES) {
  test(`13.4: worked watermarks of ${machine}`, () => {
    const shape = machine_shape(machine, {
      memory: 0,
      cpus: 1,
      numa: machine !== 'x86',
      compaction: true,
      page_shift: 12,
    });
    const m = assemble_machine({
      shape,
      kernel: linux_2_6_35,
      zones: rows.map(([zone_idx, start_pfn, spanned_pages, present_pages]) => ({
        nid: 0,
        zone_idx,
        start_pfn,
        spanned_pages,
        present_pages,
      })),
    });
    init_lowmem_reserve_ratio(m);
    init_per_zone_wmark_min(m);
    assert.equal(m.sysctl['min_free_kbytes'], boot_kb);
    assert.deepEqual(
      watermarks(m),
      rows.map((row) => row[4]),
    );
    assert.deepEqual(
      pcp(m),
      rows.map((row) => row[6]),
    );
    assert.deepEqual(
      protection(m),
      rows.map((row) => row[7]),
    );
    set_min_free(m, hugeadm_kb);
    assert.deepEqual(
      watermarks(m),
      rows.map((row) => row[5]),
    );
  });
}

for (const { machine, rows } of TABLES) {
  test(`13.4: spanned, less holes and memmap, is present: ${machine}`, () => {
    const o = { memory: 0, cpus: 1, numa: true, compaction: true, page_shift: 12 };
    const shape = machine_shape(machine, o);
    for (const [zone_idx, start, spanned, present] of rows) {
      // x86 has no RAM from 640 KiB to 1 MiB.
      const holes = start === 1 ? 0x100 - 0x9f : 0;
      // C4: what 13.4 leaves at 0, the dma_reserve of x86-64, is 99 with two pages of tables.
      const dma_reserve = machine === 'x86_64' && zone_idx === 0 ? 99 : 0;
      const ours = zone_present_pages(shape, zone_idx, spanned, spanned - holes, 2);
      assert.equal(ours, present - dma_reserve);
    }
  });
}

const reserve_blocks = (m: Machine): number[] =>
  m.populated_zones.map((z) => z.pageblock_flags.filter((t) => t === MIGRATE_RESERVE).length);

for (const [name, config, hugeadm_kb, before, after] of [
  ['x86_64', { memory: 2048 * MIB }, 45056, [1, 2], [1, 2]],
  ['x86', { memory: 2048 * MIB, machine: 'x86' }, 67584, [1, 2, 1], [1, 2, 1]],
  ['ppc64', { memory: 1776 * MIB, machine: 'ppc64' }, 180224, [1], [2]],
] as [string, MachineConfig, number, number[], number[]][]) {
  test(`13.4: RESERVE blocks of ${name}`, () => {
    const m = boot(config);
    assert.deepEqual(reserve_blocks(m), before);
    set_min_free(m, hugeadm_kb);
    assert.deepEqual(reserve_blocks(m), after);
    debug_vm(m);
  });
}

test('C4: zone 0 of x86-64 has a dma_reserve; its free pages can exceed its present pages', () => {
  const m = boot({ memory: 2048 * MIB });
  const [dma, dma32] = m.populated_zones;
  assert.deepEqual([dma!.zone_start_pfn, dma!.spanned_pages], [1, 4095]);
  // 3843 with 2 GiB, 3844 with up to 1 GiB: a second page of tables for the kernel's mapping.
  assert.equal(dma!.present_pages, 3942 - 99);
  assert.equal(boot({ memory: 1024 * MIB }).populated_zones[0]!.present_pages, 3942 - 98);
  assert.ok(dma!.vm_stat[NR_FREE_PAGES]! > dma!.present_pages);
  // The recorded machines keep 0x23 frames at the top of RAM: 35 fewer than in 13.4.
  assert.deepEqual([dma32!.zone_start_pfn, dma32!.present_pages], [4096, 513080 - 35]);
  assert.deepEqual(watermarks(m), ['10/12/15', '1426/1782/2139']);
  assert.deepEqual(protection(m), ['0,2004,2004,2004', '0,0,0,0']);
});

function zoneinfo(m: Machine): string {
  const seq = new SeqFile();
  const row = m.kernel.files.find(({ path }) => path === '/proc/zoneinfo')!;
  const caller = { uid: 0, gid: 0, pid: 1 };
  row.show!(seq, m, { id: -1, object: null, caller, pos: 0, data: null });
  return seq.text();
}

/** Lines of zoneinfo that the layout decides; counters of pages depend on what runs. */
function layout_lines(text: string): string[] {
  const fixed =
    /^(Node| {2}pagesets| {4}cpu:)|^ +(min|low|high|spanned|present|protection:|high:|batch:|start_pfn:|inactive_ratio:|vm stats threshold:|all_unreclaimable:|prev_priority:)/;
  return text.split('\n').filter((line) => fixed.test(line));
}

test('C14: x86 with PAE and 2 GiB boots into the recorded layout', () => {
  const m = boot({ memory: 2048 * MIB, machine: 'x86' });
  assert.equal(m.populated_zones[2]!.zone_start_pfn, 0x37bfe);
  assert.equal(m.sysctl['min_free_kbytes'], 3807);
  const recorded = (state: string): string[] =>
    layout_lines(read_text(`${X86}/${state}/proc_zoneinfo`));
  assert.deepEqual(layout_lines(zoneinfo(m)), recorded('boot'));
  set_min_free(m, 67584);
  assert.deepEqual(layout_lines(zoneinfo(m)), recorded('minfree67584'));
  assert.equal(watermarks(m)[2], '128/5603/11079');
  assert.deepEqual(protection(m)[0], '0,869,2015,2015');
});

test('C13: on x86 with PAE the pool stops at the ceilings of Normal and DMA', () => {
  const m = boot({ memory: 2048 * MIB, machine: 'x86' });
  set_min_free(m, 67584);
  const h = m.hstates[0]!;
  const job = set_max_huge_pages(m, h, 5000, nodes_with_memory(m));
  while (job.next().done !== true);
  const free = m.populated_zones.map((zone) => zone.vm_stat[NR_FREE_PAGES]!);
  // Recorded: Normal 26135-26177, DMA about 2400, HighMem from 398 on. Not one huge page more.
  assert.ok(free[0]! > 295 + 2015 && free[0]! <= 295 + 2015 + 512, `DMA ${free[0]}`);
  assert.ok(free[1]! > 16600 + 9174 && free[1]! <= 16600 + 9174 + 512, `Normal ${free[1]}`);
  assert.ok(free[2]! > 128 && free[2]! < 3468, `HighMem ${free[2]}`);
});

test('C15: with flat memory the types of blocks are counted from the start of the zone', () => {
  const m = boot({ memory: 2048 * MIB, machine: 'x86' });
  const high = m.populated_zones[2]!;
  const start = high.zone_start_pfn;
  assert.equal(start % 512, 510);
  const other = start + 10 * 512;
  for (const pfn of [other, other + 511]) {
    assert.equal(get_pageblock_migratetype(m, high, pfn), MIGRATE_MOVABLE);
  }
  set_pageblock_migratetype(m, high, other, MIGRATE_UNMOVABLE);
  // Two pages before the aligned block, and all of it but its last two.
  assert.equal(get_pageblock_migratetype(m, high, other - 1), MIGRATE_MOVABLE);
  assert.equal(get_pageblock_migratetype(m, high, other + 511), MIGRATE_UNMOVABLE);
  assert.equal(get_pageblock_migratetype(m, high, other + 512), MIGRATE_MOVABLE);
  assert.equal((other + 2) % 512, 0);
});

test('1.4: nodes that are far from each other reclaim their own memory first: ppc64', () => {
  const mode = (config: MachineConfig): number | undefined =>
    boot({ memory: 256 * MIB, ...config }).sysctl['zone_reclaim_mode'];
  assert.equal(mode({ machine: 'ppc64', nodes: 2 }), 1);
  assert.equal(mode({ machine: 'ppc64' }), 0);
  assert.equal(mode({ nodes: 2 }), 0);
  // Making the zonelists again turns it on again.
  const m = boot({ memory: 256 * MIB, machine: 'ppc64', nodes: 2 });
  m.sysctl['zone_reclaim_mode'] = 0;
  const order = m.kernel.files.find(({ path }) => path === '/proc/sys/vm/numa_zonelist_order')!;
  const caller = { uid: 0, gid: 0, pid: 1 };
  order.store!(m, 'n', { id: -1, object: null, caller, pos: 0, data: null });
  assert.equal(m.sysctl['zone_reclaim_mode'], 1);
});

for (const config of [
  { memory: 64 * MIB },
  { memory: 64 * MIB, machine: 'x86' },
  { memory: 64 * MIB, machine: 'ppc64' },
  { memory: 64 * MIB, machine: 'ppc64', page_size: 65536 },
  { memory: 100 * MIB + 12288 },
  { memory: 896 * MIB, machine: 'x86' },
  { memory: 3584 * MIB },
  { memory: 4096 * MIB, nodes: 64 },
  { memory: 4096 * MIB, nodes: 64, machine: 'ppc64' },
  { memory: 4096 * MIB, nodes: 64, machine: 'ppc64', page_size: 65536 },
  { memory: 6000 * MIB, nodes: 3, cpus: 64 },
  { memory: 8192 * MIB, machine: 'x86' },
  { memory: 512 * MIB, numa: false },
] as MachineConfig[]) {
  test(`boots whole: ${JSON.stringify(config)}`, () => {
    const m = boot(config);
    debug_vm(m);
    const unit = config.page_size ?? 4096;
    const free = m.populated_zones.reduce((sum, zone) => sum + zone.vm_stat[NR_FREE_PAGES]!, 0);
    // ppc64 maps its memmap in blocks of 16 MiB.
    assert.ok(free * unit > config.memory! * 0.45, `${free} pages are free`);
    assert.equal(m.nodes.length, config.nodes ?? 1);
    const present = m.nodes.reduce((sum, node) => sum + node.node_present_pages, 0);
    assert.ok(present * unit <= config.memory! && present * unit > config.memory! - MIB);
  });
}
