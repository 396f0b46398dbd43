/** What no recording of 6.1's allocator shows: live per-CPU lists, NOFRAGMENT, the end of a boost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MIGRATE_HIGHATOMIC } from '../../src/kernels/linux-6.1/gfp.ts';
import { kswapd_tick } from '../../src/kernels/linux-6.1/kswapd.ts';
import { linux_6_1 } from '../../src/kernels/linux-6.1/profile.ts';
import {
  reserve_highatomic_pageblock,
  unreserve_highatomic_pageblock,
} from '../../src/kernels/linux-6.1/rmqueue.ts';
import { run_job } from '../../src/lib/kthread.ts';
import { add_to_free_list } from '../../src/mm/buddy.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import {
  __GFP_RECLAIMABLE,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  MIGRATE_MOVABLE,
  MIGRATE_RECLAIMABLE,
} from '../../src/mm/gfp.ts';
import { assemble_machine } from '../../src/mm/mm_init.ts';
import { type Machine, page_zone, type Zone } from '../../src/mm/mmzone.ts';
import { get_pageblock_migratetype } from '../../src/mm/pageblock.ts';
import { NR_FREE_PAGES } from '../../src/mm/vmstat.ts';
import { SHAPE_61 } from '../../src/sim/replay_61_state.ts';

const ZONE_PAGES = 65536;

/**
 * DMA32 and Normal of one node: DMA32 is free as a whole, in Normal every second block of `order` (all
 * of order 10).
 */
function machine(order = 10): { m: Machine; dma32: Zone; normal: Zone } {
  const m = assemble_machine({
    shape: SHAPE_61,
    kernel: linux_6_1,
    zones: [SHAPE_61.ZONE_DMA32, SHAPE_61.ZONE_NORMAL].map((zone_idx, i) => ({
      nid: 0,
      zone_idx,
      start_pfn: (1 + i) * ZONE_PAGES,
      spanned_pages: ZONE_PAGES,
      present_pages: ZONE_PAGES,
    })),
  });
  const p = m.memmap;
  p._count.fill(1, 1, ZONE_PAGES);
  for (const zone of m.populated_zones) {
    const size = zone.zone_idx === SHAPE_61.ZONE_NORMAL ? order : 10;
    const step = size === 10 ? 1024 : 2 ** (size + 1);
    p._count.fill(1, zone.zone_start_pfn, zone.zone_start_pfn + ZONE_PAGES);
    for (let pfn = zone.zone_start_pfn; pfn < zone.zone_start_pfn + ZONE_PAGES; pfn += step) {
      p._count.fill(0, pfn, pfn + 2 ** size);
      add_to_free_list(m, zone, pfn, size, MIGRATE_MOVABLE, true);
      zone.vm_stat[NR_FREE_PAGES]! += 2 ** size;
    }
  }
  m.sysctl['min_free_kbytes'] = 4096;
  m.sysctl['watermark_boost_factor'] = 15000;
  m.kernel.setup_per_zone_wmarks(m);
  const [dma32, normal] = m.populated_zones as [Zone, Zone];
  return { m, dma32, normal };
}

test('a per-CPU list is refilled by orders, and drained as a whole', () => {
  const { m, normal } = machine();
  const pcp = normal.pageset[0]!;
  assert.equal(pcp.batch, 15);
  const single = m.kernel.alloc_pages(m, GFP_KERNEL, 0);
  assert.equal(pcp.count, 14);
  const block = m.kernel.alloc_pages(m, GFP_KERNEL, 2);
  // 15 >> 2 blocks came, one went.
  assert.equal(pcp.count, 14 + 2 * 4);
  debug_vm(m);
  m.kernel.__free_pages(m, block, 2);
  m.kernel.__free_pages(m, single, 0);
  assert.equal(pcp.count, 15 + 3 * 4);
  assert.equal(normal.vm_stat[NR_FREE_PAGES], ZONE_PAGES - 15 - 3 * 4);
  m.kernel.drain_pages(m, 0);
  assert.equal(pcp.count, 0);
  assert.equal(normal.vm_stat[NR_FREE_PAGES], ZONE_PAGES);
  assert.equal(normal.nr_free[10], 64);
  debug_vm(m);
});

test('lists that only grow give back more and more', () => {
  const { m, normal } = machine();
  const pcp = normal.pageset[0]!;
  const pages: number[] = [];
  for (let i = 0; i < 4 * pcp.high; i++) pages.push(m.kernel.alloc_pages(m, GFP_KERNEL, 0));
  let given_back: number[] = [];
  let before = pcp.count;
  for (const pfn of pages) {
    m.kernel.__free_pages(m, pfn, 0);
    if (pcp.count < before) given_back.push(before + 1 - pcp.count);
    before = pcp.count;
  }
  given_back = given_back.slice(0, 3);
  assert.deepEqual(given_back, [15, 30, 60]);
  m.kernel.drain_pages(m, 0);
  debug_vm(m);
});

test('rather another zone of the node than two types in one pageblock', () => {
  // Half of each pageblock of Normal is free.
  const { m, dma32, normal } = machine(8);
  const pfn = m.kernel.alloc_pages(m, GFP_KERNEL, 4);
  assert.equal(page_zone(m, pfn), dma32);
  // A movable request mixes nothing.
  assert.equal(page_zone(m, m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 4)), normal);
  // With nothing else left, mixing is better than failing.
  dma32.watermark.fill(1 << 30);
  assert.equal(page_zone(m, m.kernel.alloc_pages(m, GFP_KERNEL, 4)), normal);
  assert.equal(normal.watermark_boost, 512);
});

test('a fallback into a pageblock boosts the watermarks until kswapd has run', () => {
  const { m, dma32, normal } = machine(8);
  dma32.watermark.fill(1 << 30);
  m.kernel.alloc_pages(m, GFP_KERNEL, 0);
  assert.equal(normal.watermark_boost, 512);
  assert.ok(m.nodes[0]!.kswapd_woken, 'the boost wakes kswapd');
  run_job(kswapd_tick(m));
  assert.equal(normal.watermark_boost, 0);
  m.sysctl['watermark_boost_factor'] = 0;
  m.kernel.alloc_pages(m, GFP_KERNEL | __GFP_RECLAIMABLE, 0);
  assert.equal(normal.watermark_boost, 0, '0 switches it off');
});

test('HIGHATOMIC: a pageblock and a hundredth of the zone, and back again', () => {
  const { m, normal } = machine(9);
  // 655 pages and a pageblock: three pageblocks are more than that.
  for (let i = 0; i < 5; i++) {
    reserve_highatomic_pageblock(m, normal, normal.zone_start_pfn + i * 1024);
  }
  assert.equal(normal.nr_reserved_highatomic, 3 * 512);
  const types = [0, 1, 2, 3].map((i) =>
    get_pageblock_migratetype(m, normal, normal.zone_start_pfn + i * 1024),
  );
  assert.deepEqual(types, [
    MIGRATE_HIGHATOMIC,
    MIGRATE_HIGHATOMIC,
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
  ]);
  const zonelist = m.nodes[0]!.node_zonelists[0]!;
  const give_back = (force: boolean): boolean =>
    unreserve_highatomic_pageblock(m, zonelist, 3, MIGRATE_RECLAIMABLE, force);
  assert.ok(give_back(false));
  assert.ok(give_back(false));
  assert.equal(normal.nr_reserved_highatomic, 512);
  assert.ok(!give_back(false), 'one is kept');
  assert.ok(give_back(true));
  assert.equal(normal.nr_reserved_highatomic, 0);
  assert.equal(get_pageblock_migratetype(m, normal, normal.zone_start_pfn), MIGRATE_RECLAIMABLE);
});
