/** The slow path of 2.6.35's page allocator: order of events, retries, the OOM killer (3.8, 14). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_root } from '../../src/fs/disk/index.ts';
import { O_RDWR } from '../../src/fs/vfs.ts';
import { badness, out_of_memory } from '../../src/kernels/linux-2.6.35/oom_kill.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { boot } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { find_get_page } from '../../src/mm/filemap.ts';
import { create_process, do_fork, run_as } from '../../src/mm/fork.ts';
import {
  __GFP_COMP,
  __GFP_DMA,
  __GFP_NORETRY,
  __GFP_REPEAT,
  __GFP_THISNODE,
  __GFP_WAIT,
  GFP_ATOMIC,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  GFP_NOFS,
  GFP_NOWAIT,
} from '../../src/mm/gfp.ts';
import { lru_add_drain_all } from '../../src/mm/lru.ts';
import { write_tag } from '../../src/mm/memory.ts';
import type { Task } from '../../src/mm/mm_types.ts';
import { do_mmap, MAP_ANONYMOUS, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import { type Machine, WMARK_LOW, WMARK_MIN, type Zone } from '../../src/mm/mmzone.ts';
import { drain_all_pages } from '../../src/mm/page_alloc.ts';
import { sync_filesystems } from '../../src/mm/page_writeback.ts';
import { PF_MEMALLOC } from '../../src/mm/reclaim_def.ts';
import {
  ALLOCSTALL,
  COMPACTFAIL,
  COMPACTSTALL,
  NR_FREE_PAGES,
  PAGEOUTRUN,
} from '../../src/mm/vmstat.ts';

const MIB = 2 ** 20;
const ROOT = { uid: 0, gid: 0, pid: 1 };

function small(config: object = {}): { m: Machine; zone: Zone } {
  const m = boot({ memory: 64 * MIB, disk: new MemoryBlockDevice(256 * MIB), ...config });
  return { m, zone: m.populated_zones[m.populated_zones.length - 1]! };
}

/** Takes single pages until the zone has `left` free pages; they are unmovable. */
function hog(m: Machine, zone: Zone, left: number): number[] {
  const taken: number[] = [];
  while (zone.vm_stat[NR_FREE_PAGES]! > left) {
    const modifier = zone.zone_idx === m.shape.ZONE_DMA ? __GFP_DMA : 0;
    const pfn = m.kernel.alloc_pages(m, GFP_ATOMIC | __GFP_THISNODE | modifier, 0);
    if (pfn < 0) break;
    taken.push(pfn);
  }
  return taken;
}

/** A file of `pages` clean, cached pages; with `held` somebody holds each of them. */
function cache(m: Machine, pages: number, held: boolean): void {
  const node = disk_root(m).create('f', 0o644, ROOT);
  assert.ok(typeof node !== 'number');
  const file = node.open(O_RDWR, ROOT);
  assert.ok(typeof file !== 'number');
  const rc = file.write(new Uint8Array(pages * 4096).fill(7), 0);
  assert.equal(is_job(rc) ? run_job(rc) : rc, pages * 4096);
  run_job(sync_filesystems(m));
  lru_add_drain_all(m);
  if (!held) return;
  const mapping = m.mappings.all().find((x) => x.nrpages >= pages)!;
  for (let i = 0; i < pages; i++) assert.ok(find_get_page(m, mapping, i) >= 0);
}

function process(m: Machine, pages: number): Task {
  const task = create_process(m, 'test');
  assert.ok(typeof task !== 'number');
  const start = do_mmap(m, task.mm!, null, 0, pages, 3, MAP_PRIVATE | MAP_ANONYMOUS);
  assert.ok(start > 0);
  for (let i = 0; i < pages; i++) {
    if (run_as(m, task, () => write_tag(m, task, start + i, 1)) !== 0) break;
    if (!m.tasks.has(task.pid)) break;
  }
  return task;
}

test('3.8: between LOW and MIN a request is served, and kswapd is woken', () => {
  const { m, zone } = small();
  hog(m, zone, zone.watermark[WMARK_LOW]! - 5);
  for (const z of m.populated_zones) if (z !== zone) hog(m, z, 0);
  for (const node of m.nodes) node.kswapd_woken = false;
  assert.ok(zone.vm_stat[NR_FREE_PAGES]! > zone.watermark[WMARK_MIN]!);
  assert.ok(m.kernel.alloc_pages(m, GFP_KERNEL, 0) >= 0);
  assert.equal(m.nodes[0]!.kswapd_woken, true);
  assert.equal(m.vm_events[ALLOCSTALL], 0);
  run_job(m.kernel.kswapd_tick!(m));
  assert.ok(m.vm_events[PAGEOUTRUN]! > 0);
});

test('3.8: without __GFP_WAIT nothing is reclaimed; below MIN only privileged requests live', () => {
  const { m, zone } = small();
  cache(m, 500, false);
  hog(m, zone, 0);
  for (const z of m.populated_zones) hog(m, z, 0);
  assert.equal(m.kernel.alloc_pages(m, GFP_NOWAIT, 0), -1);
  assert.equal(m.vm_events[ALLOCSTALL], 0);
  // PF_MEMALLOC may use everything, and does not reclaim for itself.
  m.current_flags = PF_MEMALLOC;
  assert.ok(m.kernel.alloc_pages(m, GFP_KERNEL, 0) >= 0);
  assert.equal(m.vm_events[ALLOCSTALL], 0);
  m.current_flags = 0;
  assert.ok(m.kernel.alloc_pages(m, GFP_KERNEL, 0) >= 0);
  assert.ok(m.vm_events[ALLOCSTALL]! > 0);
  debug_vm(m);
});

test('3.8: __GFP_NORETRY makes one pass', () => {
  const { m, zone } = small();
  cache(m, 300, true);
  for (const z of m.populated_zones) hog(m, z, 0);
  hog(m, zone, 0);
  assert.equal(m.kernel.alloc_pages(m, GFP_KERNEL | __GFP_NORETRY, 2), -1);
  assert.equal(m.vm_events[ALLOCSTALL], 1);
});

test('C3, 14.10: a pass that reclaims nothing counts as one page towards __GFP_REPEAT', () => {
  const { m, zone } = small();
  cache(m, 400, true);
  for (const z of m.populated_zones) hog(m, z, 0);
  hog(m, zone, 0);
  // NOFS: so that kswapd, which would notice that it is hopeless, has no turn in between.
  assert.equal(m.kernel.alloc_pages(m, GFP_NOFS | __GFP_COMP, 9), -1);
  assert.equal(m.vm_events[ALLOCSTALL], 1);
  assert.equal(m.kernel.alloc_pages(m, GFP_NOFS | __GFP_COMP | __GFP_REPEAT, 9), -1);
  assert.equal(m.vm_events[ALLOCSTALL], 513);
  // Where the kernel would try for ever, a request for a single page fails in the end.
  assert.equal(m.kernel.alloc_pages(m, GFP_NOFS, 0), -1);
  debug_vm(m);
});

test('2.8: draining makes every zone count as reclaimable, also where no page waits', () => {
  const { m } = small();
  for (const zone of m.populated_zones) {
    zone.all_unreclaimable = 1;
    zone.pages_scanned = 7;
  }
  const dma = m.populated_zones[0]!;
  assert.equal(dma.pageset[0]!.count, 0);
  drain_all_pages(m);
  for (const zone of m.populated_zones) {
    assert.equal(zone.all_unreclaimable, 0, zone.name);
    assert.equal(zone.pages_scanned, 0, zone.name);
  }
  debug_vm(m);
});

test('14.1: orders 1 to 3 never compact, yet advance the deferral', () => {
  const { m, zone } = small();
  for (const z of m.populated_zones) hog(m, z, 0);
  const gfp = GFP_KERNEL | __GFP_NORETRY;
  zone.compact_defer_shift = 6;
  for (let i = 1; i <= 5; i++) {
    assert.equal(m.kernel.alloc_pages(m, gfp, 1 + (i % 3)), -1);
    assert.equal(zone.compact_considered, i);
  }
  assert.equal(m.vm_events[COMPACTSTALL], 0);
  zone.compact_defer_shift = 0;
  assert.equal(m.kernel.alloc_pages(m, gfp, 4), -1);
  assert.equal(m.vm_events[COMPACTSTALL], 1);
  // No zone was fit for compaction: neither a failure nor a deferral.
  assert.equal(m.vm_events[COMPACTFAIL], 0);
  assert.equal(zone.compact_defer_shift, 0);
});

test('3.8: a request restricted to its node without retries fails at once', () => {
  const { m, zone } = small({ numa: true });
  hog(m, zone, 0);
  for (const z of m.populated_zones) hog(m, z, 0);
  for (const node of m.nodes) node.kswapd_woken = false;
  const thisnode = GFP_KERNEL | __GFP_THISNODE | __GFP_NORETRY | 0x200;
  assert.equal(m.kernel.alloc_pages(m, thisnode, 0), -1);
  assert.equal(m.nodes[0]!.kswapd_woken, false);
  assert.equal(m.vm_events[ALLOCSTALL], 0);
});

test('out of memory: the largest process dies, and the request is served', () => {
  const { m } = small();
  const little = process(m, 100);
  const big = process(m, 4000);
  assert.ok(m.tasks.has(big.pid));
  const taken: number[] = [];
  while (m.tasks.has(big.pid)) {
    const pfn = m.kernel.alloc_pages(m, GFP_KERNEL, 0);
    assert.ok(pfn >= 0, 'the victim frees memory before the request fails');
    taken.push(pfn);
  }
  assert.ok(m.tasks.has(little.pid));
  debug_vm(m);
});

test('out of memory: a process that eats all memory is the victim of its own fault', () => {
  const { m } = small();
  m.sysctl['overcommit_memory'] = 1;
  const little = process(m, 100);
  const eater = process(m, 30_000);
  assert.equal(m.tasks.has(eater.pid), false);
  assert.ok(m.tasks.has(little.pid));
  debug_vm(m);
});

test('out of memory: oom_adj -17 spares a process; with nobody left the request fails', () => {
  const { m } = small();
  const spared = process(m, 4000);
  spared.oom_adj = -17;
  assert.equal(badness(m, spared), 0);
  let pfn = 0;
  for (let i = 0; i < 20_000 && pfn >= 0; i++) pfn = m.kernel.alloc_pages(m, GFP_KERNEL, 0);
  assert.equal(pfn, -1);
  assert.ok(m.tasks.has(spared.pid));
  assert.equal(out_of_memory(m), false);
});

test('out of memory: costly orders and requests of one node kill nobody', () => {
  const { m } = small();
  const task = process(m, 1000);
  for (const z of m.populated_zones) hog(m, z, 0);
  assert.equal(m.kernel.alloc_pages(m, GFP_KERNEL | __GFP_COMP, 4), -1);
  assert.equal(m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE | __GFP_THISNODE, 0), -1);
  assert.ok(m.tasks.has(task.pid));
});

test('out of memory: badness is size and half of the children, by privilege and oom_adj', () => {
  const { m } = small();
  const parent = process(m, 1600);
  const plain = badness(m, parent);
  const { total_vm } = parent.mm!;
  assert.equal(plain, Math.floor(Math.floor(total_vm / 4) / 4));
  const child = do_fork(m, parent);
  assert.ok(typeof child !== 'number');
  const points = total_vm + Math.floor(child.mm!.total_vm / 2) + 1;
  assert.equal(badness(m, parent), Math.floor(points / 16));
  parent.oom_adj = 3;
  assert.equal(badness(m, parent), Math.floor(points / 16) * 8);
  parent.oom_adj = -2;
  assert.equal(badness(m, parent), Math.floor(Math.floor(points / 16) / 4));
  // Long-running ones deserve less: the fourth root of the run time in units of 1024 s.
  parent.oom_adj = 0;
  m.clock.now_ms = 1024 * 16 * 1000;
  assert.equal(badness(m, parent), Math.floor(Math.floor(points / 2) / 16));
  // A child with memory of its own goes first.
  assert.ok(out_of_memory(m));
  assert.ok(!m.tasks.has(child.pid) && m.tasks.has(parent.pid));
});

test('__GFP_WAIT alone may wait, but neither swap nor write', () => {
  const { m } = small();
  cache(m, 500, false);
  for (const z of m.populated_zones) hog(m, z, 0);
  // Clean page cache needs neither.
  assert.ok(m.kernel.alloc_pages(m, __GFP_WAIT, 0) >= 0);
});
