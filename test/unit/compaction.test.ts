/** The numbered surprises of reference 14 that concern explicit compaction, and C1. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CompactControl,
  compact_zone,
  try_to_compact_pages,
} from '../../src/kernels/linux-2.6.35/compaction.ts';
import { split_free_page } from '../../src/kernels/linux-2.6.35/rmqueue.ts';
import { zone_watermark_ok } from '../../src/kernels/linux-2.6.35/watermark.ts';
import { run_job } from '../../src/lib/kthread.ts';
import { list_entries } from '../../src/lib/list.ts';
import { boot } from '../../src/machine.ts';
import { create_process } from '../../src/mm/fork.ts';
import {
  __GFP_NORETRY,
  __GFP_RECLAIMABLE,
  __GFP_THISNODE,
  GFP_KERNEL,
  MIGRATE_MOVABLE,
  MIGRATE_RECLAIMABLE,
  MIGRATE_RESERVE,
  MIGRATE_UNMOVABLE,
} from '../../src/mm/gfp.ts';
import { lru_add_drain_all, put_page } from '../../src/mm/lru.ts';
import { do_madvise, MADV_DONTNEED } from '../../src/mm/madvise.ts';
import { write_tag } from '../../src/mm/memory.ts';
import { do_mmap, PROT_READ, PROT_WRITE } from '../../src/mm/mmap.ts';
import { page_zone, WMARK_LOW } from '../../src/mm/mmzone.ts';
import { PG_lru, PG_mlocked, PG_unevictable } from '../../src/mm/page_flags.ts';
import {
  COMPACTBLOCKS,
  COMPACTPAGEFAILED,
  COMPACTPAGES,
  COMPACTSTALL,
  fragmentation_index,
} from '../../src/mm/vmstat.ts';
import { SmallZone } from '../helpers/small_zone.ts';

/** Compacts the zone; [old, new] of every page that moved, in order. */
function compact(s: SmallZone, each: (cc: CompactControl) => void = () => {}): [number, number][] {
  const moves: [number, number][] = [];
  const listener = (old: number, now: number): void => {
    moves.push([old, now]);
  };
  s.m.trace.pageblock_page_moved.subscribe(listener);
  const cc = new CompactControl(s.zone, -1, MIGRATE_UNMOVABLE);
  const job = compact_zone(s.m, s.zone, cc);
  while (!job.next().done) each(cc);
  s.m.trace.pageblock_page_moved.unsubscribe(listener);
  return moves;
}

test('14.1: orders 1 to 3 never compact, yet advance the deferral', () => {
  const s = new SmallZone(0, 4096);
  s.free(8, 16);
  s.free(2048, 2049);
  s.m.sysctl['extfrag_threshold'] = 500;
  for (const order of [1, 2, 3]) {
    s.zone.compact_considered = 0;
    s.zone.compact_defer_shift = 6;
    s.zone.watermark.fill(1 << 20);
    const gfp = GFP_KERNEL | __GFP_THISNODE | __GFP_NORETRY;
    assert.equal(s.m.kernel.alloc_pages(s.m, gfp, order, 0), -1);
    assert.ok(s.zone.compact_considered > 0, `order ${order}`);
    assert.equal(s.m.vm_events[COMPACTSTALL], 0);
  }
});

test('14.2: the first zone whose watermark holds ends the walk, whatever its blocks are good for', () => {
  // Two nodes, each full of pages of which every second one was given back.
  const m = boot({ memory: 256 * 2 ** 20, nodes: 2 });
  const task = create_process(m, 'fill');
  assert.ok(typeof task !== 'number');
  const pages = 61_700;
  const at = do_mmap(m, task.mm!, null, 0, pages, PROT_READ | PROT_WRITE, 0);
  for (let i = 0; i < pages; i++) assert.equal(write_tag(m, task, at + i, i), 0);
  for (let i = 0; i < pages; i += 2) do_madvise(m, task.mm!, at + i, 1, MADV_DONTNEED);
  lru_add_drain_all(m);
  m.kernel.drain_pages(m, 0);

  const moved_in = new Set<number>();
  m.trace.pageblock_page_moved.subscribe((old) => moved_in.add(page_zone(m, old).id));
  const zonelist = m.nodes[0]!.node_zonelists[0]!.filter((zone) => zone.zone_idx === 1);
  assert.equal(zonelist.length, 2);
  const fragmented = zonelist.map((zone) => fragmentation_index(zone, 10));
  assert.ok(
    fragmented.every((index) => index > 500),
    String(fragmented),
  );
  const order = 10;
  // RECLAIMABLE: compaction makes MOVABLE blocks, and the request's own lists get
  // none. The watermark counts blocks of any type, so the second zone is not looked at.
  const gfp = GFP_KERNEL | __GFP_RECLAIMABLE;
  run_job(try_to_compact_pages(m, zonelist, zonelist[0]!.zone_idx, order, gfp));
  const first = zonelist[0]!;
  const mark = first.watermark[WMARK_LOW]! + 2 * 2 ** order;
  assert.ok(zone_watermark_ok(first, order, mark, 0, 0));
  assert.deepEqual([...moved_in], [first.id]);
});

test('14.3: a batch is 32 pages, and its last page is looked at again', () => {
  const s = new SmallZone(1024, 4096);
  s.lru(1024, 1024 + 100);
  s.free(4608, 5120);
  const batches: number[] = [];
  const ends: number[] = [];
  let before = 0;
  const moves = compact(s, (cc) => {
    const n = s.m.vm_events[COMPACTBLOCKS]!;
    if (n !== before) ends.push(cc.migrate_pfn);
    before = n;
    batches.push(cc.nr_migratepages);
  });
  assert.ok(Math.max(...batches) <= 32);
  assert.deepEqual(ends.slice(0, 3), [1024 + 31, 1024 + 63, 1024 + 95]);
  assert.equal(moves.length, 100);
  // Within a batch from the highest frame down, to the highest target first.
  assert.deepEqual(moves.slice(0, 2), [
    [1024 + 31, 5119],
    [1024 + 30, 5118],
  ]);
});

test('14.4: no target within one pageblock above the migrate scanner', () => {
  const s = new SmallZone(1024, 4096);
  for (let pfn = 1024; pfn < 5120; pfn += 2) {
    s.lru(pfn, pfn + 1);
    s.free(pfn + 1, pfn + 2);
  }
  let scanner = 0;
  const targets: [number, number][] = [];
  s.m.trace.pageblock_page_moved.subscribe((_old, now) => targets.push([now, scanner]));
  compact(s, (cc) => {
    scanner = cc.migrate_pfn;
  });
  assert.ok(targets.length > 500);
  for (const [now, from] of targets) assert.ok(now >= from + 512, `${now} from ${from}`);
});

test('14.5: a free block of half a pageblock makes the pageblock MOVABLE', () => {
  for (const [order, type] of [
    [8, MIGRATE_MOVABLE],
    [7, MIGRATE_RECLAIMABLE],
  ] as const) {
    const s = new SmallZone(1024, 4096);
    s.set_type(2048, MIGRATE_RECLAIMABLE);
    s.free(2048, 2048 + 2 ** order);
    s.free(4096, 4608);
    assert.equal(split_free_page(s.m, s.zone, 2048), 2 ** order);
    assert.equal(s.type_of(2048), type);
  }
});

test('14.6: RESERVE blocks are sources and never targets', () => {
  const s = new SmallZone(1024, 4096);
  s.set_type(1024, MIGRATE_RESERVE);
  s.set_type(4608, MIGRATE_RESERVE);
  s.lru(1024, 1044);
  s.free(4608, 5120);
  s.free(4096, 4200);
  const moves = compact(s);
  assert.equal(moves.length, 20);
  for (const [, now] of moves) assert.ok(now >= 4096 && now < 4200);
});

test('14.7: UNMOVABLE blocks are targets only when they are free as a whole', () => {
  for (const whole of [false, true]) {
    const s = new SmallZone(1024, 4096);
    s.set_type(4608, MIGRATE_UNMOVABLE);
    s.lru(1024, 1034);
    s.free(4608, whole ? 5120 : 5119);
    assert.equal(compact(s).length, whole ? 10 : 0);
  }
});

test('14.8: pages that moved are at the head of their list and count as scanned', () => {
  const s = new SmallZone(1024, 4096);
  s.lru(2048, 2050);
  s.lru(1024, 1038);
  s.free(4608, 5120);
  const scanned = s.zone.recent_scanned[0]!;
  const moves = compact(s);
  s.drain();
  const lru = list_entries(s.m.memmap, s.zone.lru);
  const last = moves[moves.length - 1]!;
  assert.equal(lru[0], last[1]);
  assert.ok(s.zone.recent_scanned[0]! > scanned);
});

test('14.9, C1: vacated frames are freed hot, 14 at a time, the fourteenth last', () => {
  const s = new SmallZone(1024, 4096);
  s.lru(1024, 1024 + 13);
  s.free(4608, 5120);
  s.zone.pageset[0]!.high = 1000;
  const freed: number[] = [];
  s.m.trace.mm_page_free_direct.subscribe((pfn) => freed.push(pfn));
  const old = compact(s).map(([from]) => from);
  const sources = (): number[] => freed.filter((pfn) => pfn < 2048);
  assert.equal(old.length, 13);
  // Old and new pages share the vector of the inactive list here: 7 of each make it full.
  assert.deepEqual(sources().length, 7);
  assert.deepEqual(sources().slice(0, 7), [...old.slice(0, 7)].reverse());
  s.drain();
  assert.equal(sources().length, 13);
});

test('14.14: a page freed through a vector fires both events', () => {
  const s = new SmallZone(1024, 4096);
  s.lru(1024, 1050);
  s.free(4608, 5120);
  const direct: number[] = [];
  const pagevec: number[] = [];
  s.m.trace.mm_page_free_direct.subscribe((pfn) => direct.push(pfn));
  s.m.trace.mm_pagevec_free.subscribe((pfn) => pagevec.push(pfn));
  compact(s);
  s.drain();
  assert.ok(pagevec.length > 10);
  for (const pfn of pagevec) assert.ok(direct.includes(pfn));
});

test('14.15: culled mlocked pages stay, mlocked pages on a normal list move', () => {
  const s = new SmallZone(1024, 4096);
  s.lru(1024, 1026);
  s.free(4608, 5120);
  const p = s.m.memmap;
  p.flags[1024]! |= PG_mlocked;
  p.flags[1026]! |= PG_lru | PG_mlocked | PG_unevictable;
  s.zone.vm_stat[6] = 2;
  const moves = compact(s);
  assert.deepEqual(
    moves.map(([old]) => old),
    [1025, 1024],
  );
  // Its new frame is culled at once; the lock went with it.
  const moved = moves[1]![1];
  assert.equal(p.flags[moved]! & (PG_mlocked | PG_unevictable), PG_mlocked | PG_unevictable);
  assert.deepEqual(list_entries(p, s.zone.lru + 4), [moved]);
});

test('7.4: pages_moved counts what was isolated, pagemigrate_failed nothing', () => {
  const s = new SmallZone(1024, 4096);
  s.lru(1024, 1034);
  s.free(4608, 5120);
  // Somebody holds on to half of them.
  for (let pfn = 1024; pfn < 1034; pfn += 2) s.m.memmap._count[pfn]!++;
  const moves = compact(s);
  assert.equal(moves.length, 5);
  assert.equal(s.m.vm_events[COMPACTPAGES], 10);
  assert.equal(s.m.vm_events[COMPACTPAGEFAILED], 0);
  assert.equal(s.m.vm_events[COMPACTBLOCKS], 1);
  for (let pfn = 1024; pfn < 1034; pfn += 2) put_page(s.m, pfn);
});

test('6.1: a page that cannot move costs ten targets', () => {
  const s = new SmallZone(1024, 4096);
  s.lru(1024, 1025);
  s.free(4608, 5120);
  s.m.memmap._count[1024]!++;
  const before = s.zone.vm_stat[0]!;
  s.zone.pageset[0]!.high = 10_000;
  const targets: number[] = [];
  s.m.trace.mm_page_free_direct.subscribe((pfn) => targets.push(pfn));
  compact(s);
  // All of the block was isolated; ten of it went through the vector, the rest was given back.
  assert.equal(s.zone.vm_stat[0], before - 512);
  assert.equal(targets.length, 502);
  s.drain();
  assert.equal(targets.length, 512);
  assert.equal(s.zone.vm_stat[0], before);
});

test('7.10: compacting twice moves nothing the second time', () => {
  const s = new SmallZone(1024, 8192);
  for (let pfn = 1024; pfn < 9216; pfn += 3) {
    s.lru(pfn, pfn + 1);
    s.free(pfn + 1, pfn + 2);
  }
  assert.ok(compact(s).length > 800);
  s.drain();
  assert.ok(compact(s).length <= 32);
  assert.equal(run_job(compact_zone(s.m, s.zone, new CompactControl(s.zone, -1, 0))), 3);
});
