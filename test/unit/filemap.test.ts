/** The page cache: references, counters, read-ahead, what leaves it and what stays. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_mount, disk_of, disk_root } from '../../src/fs/disk/index.ts';
import { O_RDWR, type OpenFile, type Vnode } from '../../src/fs/vfs.ts';
import { run_job } from '../../src/lib/kthread.ts';
import { advance_clock, boot } from '../../src/machine.ts';
import type { AddressSpace } from '../../src/mm/address_space.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { __bread, brelse, try_to_free_buffers } from '../../src/mm/buffer.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { find_get_page, page_mapping, wait_on_page_writeback } from '../../src/mm/filemap.ts';
import { lru_add_drain, put_page } from '../../src/mm/lru.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import {
  PageActive,
  PageDirty,
  PageLRU,
  PagePrivate,
  PageReferenced,
  PageWriteback,
  trylock_page,
  unlock_page,
} from '../../src/mm/page.ts';
import { PG_mappedtodisk, PG_reclaim } from '../../src/mm/page_flags.ts';
import {
  background_thresh,
  dirty_thresh,
  end_page_writeback,
  filemap_write_and_wait,
  sync_filesystems,
} from '../../src/mm/page_writeback.ts';
import { drop_pagecache, invalidate_mapping_pages } from '../../src/mm/truncate.ts';
import {
  global_page_state,
  NR_FILE_DIRTY,
  NR_FILE_PAGES,
  NR_WRITEBACK,
  PGPGIN,
  PGPGOUT,
} from '../../src/mm/vmstat.ts';

const MIB = 2 ** 20;
const PAGE = 4096;
const CALLER = { uid: 0, gid: 0, pid: 0 };

interface Bench {
  m: Machine;
  root: Vnode;
  device: MemoryBlockDevice;
  file: OpenFile;
  mapping: AddressSpace;
}

function bench(memory = 64 * MIB): Bench {
  const device = new MemoryBlockDevice(256 * MIB);
  const m = boot({ memory, boot_time_ms: 1e12 });
  disk_mount(m, device);
  const root = disk_root(m);
  const file = (root.create('file', 0o644, CALLER) as Vnode).open(O_RDWR, CALLER) as OpenFile;
  const mapping = [...disk_of(m)!.inodes.values()].find((i) => i.mapping !== null)!.mapping!;
  return { m, root, device, file, mapping };
}

/** The frame at an index, without a reference. */
function page_at(b: Bench, index: number): number {
  const pfn = find_get_page(b.m, b.mapping, index);
  if (pfn >= 0) put_page(b.m, pfn);
  return pfn;
}

function evict(b: Bench): number {
  run_job(filemap_write_and_wait(b.m, b.mapping));
  lru_add_drain(b.m);
  return invalidate_mapping_pages(b.m, b.mapping, 0, 1e9);
}

test('a written page: references, buffers, counters', () => {
  const b = bench();
  const before = global_page_state(b.m, NR_FILE_PAGES);
  const dirty = global_page_state(b.m, NR_FILE_DIRTY);
  assert.equal(b.file.write(new Uint8Array(2 * PAGE).fill(7), 0), 2 * PAGE);
  const pfn = page_at(b, 1);
  const p = b.m.memmap;
  assert.equal(page_mapping(b.m, pfn), b.mapping);
  assert.equal(p.mapping[pfn], b.mapping.id << 2);
  assert.equal(p.index[pfn], 1);
  // The tree's, the buffers', the pagevec's.
  assert.equal(p._count[pfn], 3);
  lru_add_drain(b.m);
  assert.equal(p._count[pfn], 2);
  assert.ok(PagePrivate(p, pfn) && PageDirty(p, pfn) && PageLRU(p, pfn));
  assert.ok(PageReferenced(p, pfn) && !PageActive(p, pfn));
  assert.equal(global_page_state(b.m, NR_FILE_DIRTY) - dirty, 2);
  // Two of data, and the metadata that the first blocks needed.
  assert.ok(global_page_state(b.m, NR_FILE_PAGES) - before >= 2);
  // A second use makes it active.
  b.file.write(new Uint8Array(10), PAGE);
  assert.ok(PageActive(p, pfn));
  debug_vm(b.m);
});

test('a page that was only read has no buffers and is mapped to disk', () => {
  const b = bench();
  b.file.write(new Uint8Array(8 * PAGE).fill(7), 0);
  assert.equal(evict(b), 8);
  assert.equal(b.mapping.nrpages, 0);
  const pgpgin = b.m.vm_events[PGPGIN]!;
  const buf = new Uint8Array(100);
  assert.equal(b.file.read(buf, 5000), 100);
  assert.deepEqual(buf, new Uint8Array(100).fill(7));
  const pfn = page_at(b, 1);
  assert.ok(!PagePrivate(b.m.memmap, pfn));
  assert.ok((b.m.memmap.flags[pfn]! & PG_mappedtodisk) !== 0);
  assert.ok(b.m.vm_events[PGPGIN]! > pgpgin);
  debug_vm(b.m);
});

test('read-ahead: the window starts small, doubles, and moves on at its mark', () => {
  const b = bench();
  b.file.write(new Uint8Array(200 * PAGE).fill(1), 0);
  evict(b);
  const file = (b.root.lookup('file') as Vnode).open(0, CALLER) as OpenFile;
  const buf = new Uint8Array(PAGE);
  const read_page = (index: number): number => {
    file.read(buf, index * PAGE);
    return b.mapping.nrpages;
  };
  // One page asked for: four are read (max 32), the mark is on the second.
  assert.equal(read_page(0), 4);
  assert.ok((b.m.memmap.flags[page_at(b, 1)]! & PG_reclaim) !== 0);
  assert.equal(read_page(1), 12); // 4 + 8
  assert.equal(read_page(2), 12);
  assert.equal(read_page(4), 28); // 12 + 16
  assert.equal(read_page(12), 60); // 28 + 32
  assert.equal(read_page(28), 92); // at most 128 KiB at a time
  // Far away: read as it is.
  assert.equal(read_page(150), 93);
  debug_vm(b.m);
});

test('a large request reads twice its size at first, never more than the file has', () => {
  const b = bench();
  b.file.write(new Uint8Array(40 * PAGE).fill(1), 0);
  evict(b);
  const file = (b.root.lookup('file') as Vnode).open(0, CALLER) as OpenFile;
  file.read(new Uint8Array(8 * PAGE), 0);
  assert.equal(b.mapping.nrpages, 16);
  file.read(new Uint8Array(40 * PAGE), 0);
  assert.equal(b.mapping.nrpages, 40);
});

test('write-back takes virtual time; who must wait ends it', () => {
  const b = bench();
  b.file.write(new Uint8Array(4 * PAGE).fill(9), 0);
  const pgpgout = b.m.vm_events[PGPGOUT]!;
  const pfn = page_at(b, 2);
  // Old enough for the flusher.
  run_job(advance_clock(b.m, 36_000));
  assert.ok(PageWriteback(b.m.memmap, pfn));
  assert.ok(!PageDirty(b.m.memmap, pfn));
  assert.ok(global_page_state(b.m, NR_WRITEBACK) >= 4);
  assert.ok(b.m.vm_events[PGPGOUT]! - pgpgout >= 4 * 8);
  debug_vm(b.m);
  // Under write-back it neither goes nor loses its buffers.
  lru_add_drain(b.m);
  assert.equal(invalidate_mapping_pages(b.m, b.mapping, 0, 100), 0);
  trylock_page(b.m.memmap, pfn);
  assert.equal(try_to_free_buffers(b.m, pfn), false);
  unlock_page(b.m.memmap, pfn);
  // Written again meanwhile: dirty and under write-back at once.
  b.file.write(new Uint8Array(PAGE).fill(10), 2 * PAGE);
  assert.ok(PageDirty(b.m.memmap, pfn) && PageWriteback(b.m.memmap, pfn));
  debug_vm(b.m);
  wait_on_page_writeback(b.m, pfn);
  assert.ok(!PageWriteback(b.m.memmap, pfn));
  run_job(advance_clock(b.m, 1000));
  assert.equal(global_page_state(b.m, NR_WRITEBACK), 0);
  assert.throws(() => end_page_writeback(b.m, pfn), /not under write-back/);
  debug_vm(b.m);
});

test('young data stays in memory, sync writes all of it', () => {
  const b = bench();
  b.file.write(new Uint8Array(4 * PAGE).fill(9), 0);
  run_job(advance_clock(b.m, 10_000));
  assert.ok(PageDirty(b.m.memmap, page_at(b, 0)));
  run_job(sync_filesystems(b.m));
  assert.equal(global_page_state(b.m, NR_FILE_DIRTY), 0);
  assert.equal(global_page_state(b.m, NR_WRITEBACK), 0);
  debug_vm(b.m);
});

test('limits: the flusher works above the background limit, writers never get far above theirs', () => {
  const b = bench(128 * MIB);
  const chunk = new Uint8Array(128 * 1024);
  let pos = 0;
  while (global_page_state(b.m, NR_FILE_DIRTY) <= background_thresh(b.m) + 1100) {
    pos += b.file.write(chunk, pos) as number;
  }
  run_job(advance_clock(b.m, 1));
  assert.ok(global_page_state(b.m, NR_FILE_DIRTY) <= background_thresh(b.m));
  for (let i = 0; i < 500; i++) {
    const written = b.file.write(chunk, pos) as number;
    if (written <= 0) break;
    pos += written;
    const used = global_page_state(b.m, NR_FILE_DIRTY) + global_page_state(b.m, NR_WRITEBACK);
    assert.ok(used <= dirty_thresh(b.m) + 1100, `${used} pages of ${dirty_thresh(b.m)}`);
  }
  debug_vm(b.m);
});

test('dirty_bytes and dirty_background_bytes come before the ratios', () => {
  const b = bench();
  b.m.sysctl['dirty_bytes'] = 40 * PAGE;
  assert.equal(dirty_thresh(b.m), 40);
  assert.equal(background_thresh(b.m), 20);
  b.m.sysctl['dirty_background_bytes'] = 5 * PAGE;
  assert.equal(background_thresh(b.m), 5);
});

test('a write error comes back from fsync, once', () => {
  const b = bench();
  b.file.write(new Uint8Array(PAGE).fill(9), 0);
  b.device.write_error = 5;
  assert.equal(b.file.fsync(false), -5);
  b.device.write_error = 0;
  assert.equal(b.file.fsync(false), 0);
  debug_vm(b.m);
});

test('a metadata buffer in use keeps its page: invalidation and release refuse', () => {
  const b = bench();
  const { bdev } = disk_of(b.m)!;
  const bh = __bread(b.m, bdev, 9000, true);
  assert.ok(bh > 0);
  const pfn = b.m.buffer_heads.b_page[bh]!;
  lru_add_drain(b.m);
  trylock_page(b.m.memmap, pfn);
  assert.equal(try_to_free_buffers(b.m, pfn), false);
  unlock_page(b.m.memmap, pfn);
  assert.equal(invalidate_mapping_pages(b.m, bdev, 9000, 9000), 0);
  brelse(b.m, bh);
  // The CPU's list of the buffers that it looked up last still holds it.
  assert.equal(b.m.buffer_heads.b_count[bh], 1);
  assert.equal(invalidate_mapping_pages(b.m, bdev, 9000, 9000), 0);
  debug_vm(b.m);
  for (let block = 9001; block <= 9008; block++) brelse(b.m, __bread(b.m, bdev, block, true));
  lru_add_drain(b.m);
  assert.throws(() => brelse(b.m, bh), /no reference/);
  assert.equal(invalidate_mapping_pages(b.m, bdev, 9000, 9000), 1);
  assert.equal(invalidate_mapping_pages(b.m, bdev, 9001, 9008), 0);
  b.m.buffer_heads.invalidate_bh_lru(0);
  assert.equal(invalidate_mapping_pages(b.m, bdev, 9001, 9008), 8);
  debug_vm(b.m);
});

test('drop_pagecache leaves what is dirty, and everything is read again', () => {
  const b = bench();
  const data = Uint8Array.from({ length: 50 * PAGE }, (_, i) => (i * 7 + (i >> 9)) & 0xff);
  b.file.write(data, 0);
  b.file.fsync(false);
  b.file.write(data.subarray(0, 100), 3 * PAGE);
  lru_add_drain(b.m);
  run_job(drop_pagecache(b.m));
  assert.equal(b.mapping.nrpages, 1);
  const back = new Uint8Array(data.length);
  assert.equal(b.file.read(back, 0), data.length);
  data.set(data.slice(0, 100), 3 * PAGE);
  assert.deepEqual(back, data);
  debug_vm(b.m);
});
