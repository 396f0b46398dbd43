/** Reclaim of 2.6.35: isolation windows, decisions on single pages, balance, kswapd (4, 14, C2). */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_root } from '../../src/fs/disk/index.ts';
import { O_RDWR } from '../../src/fs/vfs.ts';
import { set_max_huge_pages } from '../../src/kernels/linux-2.6.35/hugetlb.ts';
import { KSWAPD_NAPPING, wakeup_kswapd } from '../../src/kernels/linux-2.6.35/kswapd.ts';
import {
  get_scan_count,
  ScanControl,
  shrink_active_list,
  shrink_slab,
  shrink_zone_begin,
  shrink_zone_end,
  shrink_zone_round,
  try_to_free_pages,
} from '../../src/kernels/linux-2.6.35/vmscan.ts';
import {
  ZONE_RECLAIM_FULL,
  ZONE_RECLAIM_NOSCAN,
  zone_reclaim,
} from '../../src/kernels/linux-2.6.35/zone_reclaim.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { list_entries } from '../../src/lib/list.ts';
import { advance_clock, boot } from '../../src/machine.ts';
import { type AddressSpace, MIGRATE_PAGE } from '../../src/mm/address_space.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { add_to_page_cache_lru, find_get_page } from '../../src/mm/filemap.ts';
import { create_process } from '../../src/mm/fork.ts';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOFS, GFP_NOWAIT } from '../../src/mm/gfp.ts';
import { lru_add_drain_all, mark_page_accessed, put_page } from '../../src/mm/lru.ts';
import { read_tag, write_tag } from '../../src/mm/memory.ts';
import { do_mmap, MAP_ANONYMOUS, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import {
  LRU_ACTIVE_ANON,
  LRU_ACTIVE_FILE,
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  type Machine,
  nodes_with_memory,
  type Zone,
} from '../../src/mm/mmzone.ts';
import { PageActive, PageLRU, unlock_page } from '../../src/mm/page.ts';
import { PG_referenced, PG_uptodate } from '../../src/mm/page_flags.ts';
import { sync_filesystems } from '../../src/mm/page_writeback.ts';
import { PF_KSWAPD, register_shrinker } from '../../src/mm/reclaim_def.ts';
import { swapon } from '../../src/mm/swap_state.ts';
import {
  ALLOCSTALL,
  global_page_state,
  KSWAPD_HIGH_WMARK_HIT_QUICKLY,
  KSWAPD_INODESTEAL,
  KSWAPD_LOW_WMARK_HIT_QUICKLY,
  KSWAPD_STEAL,
  NR_FILE_PAGES,
  NR_ISOLATED_FILE,
  NR_LRU_BASE,
  NR_VMSCAN_WRITE,
  PAGEOUTRUN,
  PGACTIVATE,
  PGDEACTIVATE,
  PGINODESTEAL,
  PGREFILL,
  PGSCAN_DIRECT,
  PGSTEAL,
  PSWPIN,
  PSWPOUT,
  SLABS_SCANNED,
} from '../../src/mm/vmstat.ts';
import { state_hash } from '../../src/snapshot.ts';
import { SmallZone } from '../helpers/small_zone.ts';

const MIB = 2 ** 20;
const ROOT = { uid: 0, gid: 0, pid: 1 };
const START = 65536;

/** A zone of 8192 frames, the last 2048 free, and a mapping whose pages a test places. */
class Pages {
  readonly s = new SmallZone(START, 8192);
  readonly m: Machine = this.s.m;
  readonly zone: Zone = this.s.zone;
  readonly mapping: AddressSpace;

  constructor() {
    this.s.free(START + 6144, START + 8192);
    const ops = { name: 'test', migratepage: MIGRATE_PAGE, account_dirty: true };
    this.mapping = this.m.mappings.create(ops, GFP_HIGHUSER_MOVABLE);
    this.m.sysctl['swappiness'] = 60;
  }

  /** A clean page of the cache at frame START + at; the last one added is at the list's head. */
  add(at: number, active = false): number {
    const { m } = this;
    const pfn = START + at;
    assert.equal(add_to_page_cache_lru(m, pfn, this.mapping, at, GFP_NOWAIT), 0);
    m.memmap.flags[pfn]! |= PG_uptodate;
    unlock_page(m.memmap, pfn);
    put_page(m, pfn);
    lru_add_drain_all(m);
    if (active) {
      mark_page_accessed(m, pfn);
      mark_page_accessed(m, pfn);
    }
    return pfn;
  }

  list(lru: number): number[] {
    return list_entries(this.m.memmap, this.zone.lru + lru).map((pfn) => pfn - START);
  }

  scan(order: number, gfp = GFP_KERNEL): ScanControl {
    return new ScanControl(this.m, gfp, order, 32);
  }

  shrink(sc: ScanControl, priority: number): void {
    shrink_zone_begin(this.m, sc, this.zone, priority);
    while (shrink_zone_round(this.m, sc, this.zone, priority));
    shrink_zone_end(this.m, sc, this.zone);
  }
}

test('4.3: a page brings its aligned neighbours along, whatever lies between them', () => {
  const t = new Pages();
  // 40 pages elsewhere make the request large enough; the tail of the list is frame 70.
  t.add(70);
  for (const at of [64, 65, 67, 79]) t.add(at);
  t.add(80); // the next window
  t.add(63); // the one before
  for (let i = 0; i < 40; i++) t.add(1000 + i * 64);
  const sc = t.scan(4);
  sc.nr[LRU_INACTIVE_FILE] = 1;
  sc.lumpy_reclaim_mode = true;
  while (shrink_zone_round(t.m, sc, t.zone, 12));
  assert.equal(sc.nr_reclaimed, 5 + 2 + 25);
  const left = t.list(LRU_INACTIVE_FILE);
  for (const gone of [70, 64, 65, 67, 79]) assert.ok(!left.includes(gone), `${gone}`);
  // Each neighbour counts as an entry looked at: 32 in all.
  assert.equal(t.m.vm_events[PGSCAN_DIRECT + 1], 32);
  assert.equal(t.m.vm_events[PGSTEAL + 1], 32);
  assert.equal(t.zone.vm_stat[NR_ISOLATED_FILE], 0);
});

test('4.3: the window takes active pages in lumpy mode only', () => {
  for (const lumpy of [true, false]) {
    const t = new Pages();
    t.add(70);
    t.add(71, true);
    for (let i = 0; i < 60; i++) t.add(1000 + i * 64);
    const sc = t.scan(3);
    sc.nr[LRU_INACTIVE_FILE] = 32;
    sc.lumpy_reclaim_mode = lumpy;
    shrink_zone_round(t.m, sc, t.zone, 12);
    assert.equal(t.list(LRU_ACTIVE_FILE).length, lumpy ? 0 : 1);
    assert.equal(t.m.vm_events[PGDEACTIVATE], lumpy ? 1 : 0);
  }
});

test('4.4: lumpy from order 4 on, and for orders 1 to 3 below priority 10', () => {
  const t = new Pages();
  const mode = (order: number, priority: number): boolean => {
    const sc = t.scan(order);
    shrink_zone_begin(t.m, sc, t.zone, priority);
    return sc.lumpy_reclaim_mode;
  };
  assert.deepEqual(
    [mode(0, 0), mode(1, 10), mode(3, 10), mode(3, 9), mode(4, 12)],
    [false, false, false, true, true],
  );
});

test('14.11: the order window applies to the active list too', () => {
  const t = new Pages();
  t.add(70, true);
  t.add(71, true);
  t.add(79, true);
  t.add(200, true);
  // The tail of the active list is 70.
  shrink_active_list(t.m, t.scan(4), t.zone, 1, true);
  assert.deepEqual(t.list(LRU_ACTIVE_FILE), [200]);
  assert.deepEqual(t.list(LRU_INACTIVE_FILE).sort(), [70, 71, 79]);
  assert.equal(t.m.vm_events[PGREFILL + 1], 3);
  assert.equal(t.m.vm_events[PGDEACTIVATE], 3);
});

test('4.6: a referenced page that is dirty stays; a clean one goes', () => {
  const t = new Pages();
  const m = t.m;
  const a = t.add(10);
  const b = t.add(11);
  m.memmap.flags[a]! |= PG_referenced;
  m.memmap.flags[b]! |= PG_referenced;
  // b is in use: it cannot be freed, and is put back at the head, inactive.
  m.memmap._count[b]!++;
  for (let i = 0; i < 40; i++) t.add(100 + i);
  const sc = t.scan(0);
  sc.nr[LRU_INACTIVE_FILE] = 32;
  shrink_zone_round(m, sc, t.zone, 12);
  assert.equal(PageLRU(m.memmap, a), false);
  assert.equal(t.list(LRU_INACTIVE_FILE)[0], 11);
  assert.equal(m.memmap.flags[b]! & PG_referenced, 0);
  assert.equal(sc.nr_reclaimed, 31);
});

test('4.10: without swap only file pages are scanned; small requests are saved up', () => {
  const t = new Pages();
  for (let i = 0; i < 100; i++) t.add(i);
  const sc = t.scan(0);
  get_scan_count(t.m, sc, t.zone, 3);
  assert.deepEqual([...sc.nr], [0, 0, 0, 0]);
  assert.equal(t.zone.nr_saved_scan[LRU_INACTIVE_FILE], 12);
  get_scan_count(t.m, sc, t.zone, 2);
  assert.equal(sc.nr[LRU_INACTIVE_FILE], 37);
  assert.equal(t.zone.nr_saved_scan[LRU_INACTIVE_FILE], 0);
});

test('4.10: with swap the lists share by swappiness and by what was rotated', () => {
  const t = new Pages();
  t.m.nr_swap_pages = 1000;
  const stat = t.zone.vm_stat;
  stat[NR_LRU_BASE + LRU_INACTIVE_ANON] = 4000;
  stat[NR_LRU_BASE + LRU_INACTIVE_FILE] = 8000;
  const sc = t.scan(0);
  // Nothing scanned yet: 61 to 141 of 203.
  get_scan_count(t.m, sc, t.zone, 2);
  assert.equal(sc.nr[LRU_INACTIVE_ANON], Math.floor((1000 * 61) / 203));
  assert.equal(sc.nr[LRU_INACTIVE_FILE], Math.floor((2000 * 141) / 203));
  // More than a quarter of the anon pages was scanned: its history is halved.
  t.zone.recent_scanned[0] = 1001;
  t.zone.recent_rotated[0] = 99;
  get_scan_count(t.m, sc, t.zone, 2);
  assert.deepEqual([t.zone.recent_scanned[0], t.zone.recent_rotated[0]], [500, 49]);
  const ap = Math.floor((61 * 501) / 50);
  assert.equal(sc.nr[LRU_INACTIVE_ANON], Math.floor((1000 * ap) / (ap + 141 + 1)));
  // Priority 0: everything.
  get_scan_count(t.m, sc, t.zone, 0);
  assert.equal(sc.nr[LRU_INACTIVE_FILE], 8000);
  // Hardly any file pages, hardly any free: anon alone.
  stat[NR_LRU_BASE + LRU_INACTIVE_FILE] = 10;
  t.zone.watermark[2] = 5000;
  get_scan_count(t.m, sc, t.zone, 1);
  assert.equal(sc.nr[LRU_INACTIVE_ANON], 2000);
  assert.equal(sc.nr[LRU_INACTIVE_FILE], 0);
});

test('4.8: a pass without result is progress of 1, unless every zone was given up', () => {
  const t = new Pages();
  for (let i = 0; i < 50; i++) t.m.memmap._count[t.add(i)]!++;
  assert.equal(run_job(try_to_free_pages(t.m, [t.zone], 3, 0, GFP_KERNEL)), 1);
  t.zone.all_unreclaimable = 1;
  assert.equal(run_job(try_to_free_pages(t.m, [t.zone], 3, 0, GFP_KERNEL)), 0);
  assert.equal(t.m.vm_events[ALLOCSTALL], 2);
  assert.equal(t.zone.prev_priority, 0);
});

test('4.12: shrinkers are asked in proportion, 128 objects at a time, the rest is remembered', () => {
  const t = new Pages();
  const asked: number[] = [];
  let objects = 10_000;
  register_shrinker(t.m, {
    name: 'test',
    seeks: 2,
    shrink(_m, nr, gfp): number {
      if (nr > 0) {
        if (gfp === GFP_NOFS) return -1;
        asked.push(nr);
        objects -= nr / 2;
      }
      return objects;
    },
  });
  // 4 * 100 / 2 * 10000 / 10001 = 199: one batch, 71 kept.
  assert.equal(shrink_slab(t.m, 100, GFP_KERNEL, 10_000), 64);
  assert.deepEqual(asked, [128]);
  assert.equal(t.m.shrinkers[0]!.nr, 71);
  assert.equal(t.m.vm_events[SLABS_SCANNED], 128);
  assert.equal(shrink_slab(t.m, 100, GFP_NOFS, 10_000), 0);
  assert.equal(t.m.vm_events[SLABS_SCANNED], 128);
  // Nothing scanned counts as 32; at most twice what there is.
  t.m.shrinkers[0]!.nr = 0;
  shrink_slab(t.m, 0, GFP_KERNEL, 0);
  assert.ok(t.m.vm_events[SLABS_SCANNED]! <= 128 + 2 * 10_000);
});

test('4.8: what shrinkers free is progress, however often reclaim pauses, and what others free is not', () => {
  const t = new Pages();
  for (let i = 0; i < 50; i++) t.m.memmap._count[t.add(i)]!++;
  let objects = 2000;
  register_shrinker(t.m, {
    name: 'test',
    seeks: 2,
    shrink(m, nr): number {
      if (nr > 0) {
        objects -= nr;
        m.reclaimed_slab += 8;
      }
      return objects;
    },
  });
  const job = try_to_free_pages(t.m, [t.zone], 3, 0, GFP_KERNEL);
  const before = t.m.vm_events[SLABS_SCANNED]!;
  let batches = 0;
  let progress = 0;
  for (;;) {
    const step = job.next();
    batches = (t.m.vm_events[SLABS_SCANNED]! - before) / 128;
    if (step.done) {
      progress = step.value;
      break;
    }
    assert.equal(t.m.current_flags, 0);
    t.m.reclaimed_slab = 1000; // somebody else's
  }
  assert.ok(batches >= 4, `${batches} batches`);
  assert.equal(progress, 8 * batches);
});

test('4.14: zone reclaim says when there is no point', () => {
  const t = new Pages();
  t.zone.present_pages = 8192;
  assert.equal(zone_reclaim(t.m, t.zone, GFP_KERNEL, 0), ZONE_RECLAIM_FULL);
  for (let i = 0; i < 400; i++) t.add(i);
  assert.equal(zone_reclaim(t.m, t.zone, GFP_NOWAIT, 0), ZONE_RECLAIM_NOSCAN);
  t.m.sysctl['zone_reclaim_mode'] = 1;
  // Another node with processors reclaims its own memory; here it has none.
  t.m.nodes[0]!.cpus.splice(0, 9, 1);
  assert.equal(zone_reclaim(t.m, t.zone, GFP_KERNEL, 4), ZONE_RECLAIM_NOSCAN);
  t.m.nodes[0]!.cpus.length = 0;
  assert.equal(zone_reclaim(t.m, t.zone, GFP_KERNEL, 4), 1);
  t.zone.all_unreclaimable = 1;
  assert.equal(zone_reclaim(t.m, t.zone, GFP_KERNEL, 0), ZONE_RECLAIM_FULL);
});

test('swap: what was written comes back, through the slots', () => {
  const m = boot({ memory: 64 * MIB });
  m.sysctl['overcommit_memory'] = 1;
  assert.equal(swapon(m, '/dev/sda2', 20_001), 0);
  const task = create_process(m, 'test');
  assert.ok(typeof task !== 'number');
  const pages = 24_000;
  const start = do_mmap(m, task.mm!, null, 0, pages, 3, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let i = 0; i < pages; i++) assert.equal(write_tag(m, task, start + i, i + 1), 0);
  assert.ok(m.vm_events[PSWPOUT]! > 5000);
  assert.ok(m.populated_zones.some((z) => z.vm_stat[NR_VMSCAN_WRITE]! > 0));
  debug_vm(m);
  for (let i = 0; i < pages; i++) assert.equal(read_tag(m, task, start + i), i + 1);
  assert.ok(m.vm_events[PSWPIN]! > 5000);
  debug_vm(m);
});

function write_files(m: Machine, files: number, bytes: number): void {
  for (let f = 0; f < files; f++) {
    const node = disk_root(m).create(`f${f}`, 0o644, ROOT);
    assert.ok(typeof node !== 'number');
    const file = node.open(O_RDWR, ROOT);
    assert.ok(typeof file !== 'number');
    const rc = file.write(new Uint8Array(bytes), 0);
    assert.equal(is_job(rc) ? run_job(rc) : rc, bytes);
    file.release();
    node.forget();
  }
  run_job(sync_filesystems(m));
}

test('C2: the inode shrinker drops whole files, counted apart from pgsteal', () => {
  for (const kswapd of [true, false]) {
    const m = boot({ memory: 64 * MIB, disk: new MemoryBlockDevice(256 * MIB) });
    write_files(m, 600, 8192);
    m.current_flags = kswapd ? PF_KSWAPD : 0;
    // Names first, then the inodes that they held.
    for (let i = 0; i < 4; i++) shrink_slab(m, 1000, GFP_KERNEL, 1000);
    m.current_flags = 0;
    const mine = m.vm_events[kswapd ? KSWAPD_INODESTEAL : PGINODESTEAL]!;
    assert.ok(mine >= 200, `dropped ${mine}`);
    assert.equal(m.vm_events[kswapd ? PGINODESTEAL : KSWAPD_INODESTEAL], 0);
    for (let z = 0; z < 4; z++) assert.equal(m.vm_events[PGSTEAL + z], 0);
    debug_vm(m);
  }
});

test('C16: what reclaim stole and what went with inodes is the whole file cache', () => {
  const direct: number[] = [];
  for (const compaction of [true, false]) {
    const m = boot({ memory: 128 * MIB, compaction, disk: new MemoryBlockDevice(512 * MIB) });
    write_files(m, 1400, 65536);
    for (let f = 0; f < 1400; f += 2) assert.equal(disk_root(m).unlink(`f${f}`), 0);
    const cached = (): number => global_page_state(m, NR_FILE_PAGES);
    const before = cached();
    const h = m.hstates[0]!;
    const all = nodes_with_memory(m);
    // A few pages at a time, and on after failures, as the published test asks for them.
    for (let want = 3; want <= 66; want += 3) run_job(set_max_huge_pages(m, h, want, all));
    let stolen = 0;
    for (let z = 0; z < 4; z++) stolen += m.vm_events[PGSTEAL + z]!;
    const with_inodes = m.vm_events[PGINODESTEAL]! + m.vm_events[KSWAPD_INODESTEAL]!;
    assert.ok(before > 10_000 && cached() <= 13, `${before} pages, ${cached()} are left`);
    assert.ok(Math.abs(stolen + with_inodes - (before - cached())) <= 13);
    direct.push(stolen - m.vm_events[KSWAPD_STEAL]!);
  }
  // Nothing but direct steals tells the two kernels apart.
  assert.ok(direct[0]! < direct[1]!, direct.join(' '));
});

test('4.13: kswapd naps, sleeps, and counts who woke it too early', () => {
  const m = boot({ memory: 64 * MIB, disk: new MemoryBlockDevice(256 * MIB) });
  write_files(m, 20, 2 * MIB);
  const node = m.nodes[0]!;
  const zone = m.populated_zones[m.populated_zones.length - 1]!;
  zone.watermark.set([200, zone.vm_stat[0]! + 100, zone.vm_stat[0]! + 200]);
  wakeup_kswapd(m, zone, 0);
  assert.equal(node.kswapd_woken, true);
  run_job(advance_clock(m, 1));
  assert.equal(node.kswapd_state, KSWAPD_NAPPING);
  const runs = m.vm_events[PAGEOUTRUN]!;
  assert.ok(runs > 0 && zone.vm_stat[0]! > zone.watermark[2]!);
  // Woken within the nap.
  zone.watermark.set([200, zone.vm_stat[0]! + 100, zone.vm_stat[0]! + 200]);
  wakeup_kswapd(m, zone, 0);
  run_job(advance_clock(m, 10));
  assert.equal(m.vm_events[KSWAPD_LOW_WMARK_HIT_QUICKLY], 1);
  // The nap is over and a zone is below HIGH again, though nobody has woken it.
  zone.watermark[2] = zone.vm_stat[0]! + 50;
  run_job(advance_clock(m, 150));
  assert.equal(m.vm_events[KSWAPD_HIGH_WMARK_HIT_QUICKLY], 1);
  // Nothing to do: after the nap it sleeps.
  run_job(advance_clock(m, 150));
  run_job(advance_clock(m, 150));
  assert.equal(node.kswapd_state, 0);
  assert.equal(m.vm_events[PGACTIVATE]! >= 0, true);
});

test('under pressure the same inputs give the same state', () => {
  const run = (): string => {
    const m = boot({ memory: 64 * MIB, disk: new MemoryBlockDevice(256 * MIB), seed: 5 });
    assert.equal(swapon(m, '/dev/sda2', 4001), 0);
    const task = create_process(m, 'test');
    assert.ok(typeof task !== 'number');
    const start = do_mmap(m, task.mm!, null, 0, 15_000, 3, MAP_PRIVATE | MAP_ANONYMOUS);
    for (let i = 0; i < 15_000; i++) {
      write_tag(m, task, start + i, i);
      if (i % 5000 === 0) run_job(advance_clock(m, 30));
    }
    write_files(m, 40, 2 * MIB);
    run_job(advance_clock(m, 500));
    assert.ok(m.vm_events[PSWPOUT]! > 0 && m.vm_events[ALLOCSTALL]! > 0);
    return state_hash(m);
  };
  assert.equal(run(), run());
});

test('a page that somebody holds, or that is not on the list, is left alone', () => {
  const t = new Pages();
  const held = t.add(5);
  assert.equal(find_get_page(t.m, t.mapping, 5), held);
  for (let i = 0; i < 40; i++) t.add(100 + i);
  assert.ok(run_job(try_to_free_pages(t.m, [t.zone], 3, 0, GFP_KERNEL)) >= 32);
  assert.ok(PageLRU(t.m.memmap, held) && !PageActive(t.m.memmap, held));
  assert.equal(t.list(LRU_ACTIVE_ANON).length, 0);
});
