/**
 * What the core costs, without FUSE: allocator, whole-zone compaction, boot, metadata.
 *
 * Compaction is measured on anonymous pages of a simulated process (tags instead of bytes) and on
 * file pages whose bytes are copied. "Scanned" counts the frames that the migrate scanner passed.
 */

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { disk_root } from '../src/fs/disk/index.ts';
import { O_WRONLY, type OpenFile, type Vnode } from '../src/fs/vfs.ts';
import { compact_nodes } from '../src/kernels/linux-2.6.35/compaction.ts';
import { run_job } from '../src/lib/kthread.ts';
import { boot } from '../src/machine.ts';
import { MemoryBlockDevice } from '../src/mm/block_device.ts';
import { create_process } from '../src/mm/fork.ts';
import { GFP_HIGHUSER_MOVABLE } from '../src/mm/gfp.ts';
import { lru_add_drain_all } from '../src/mm/lru.ts';
import { do_madvise, MADV_DONTNEED } from '../src/mm/madvise.ts';
import { write_tag } from '../src/mm/memory.ts';
import type { Task } from '../src/mm/mm_types.ts';
import { do_mmap, PROT_READ, PROT_WRITE } from '../src/mm/mmap.ts';
import type { Machine } from '../src/mm/mmzone.ts';
import { BYTES_PER_PAGE } from '../src/mm/page.ts';
import { sync_filesystems } from '../src/mm/page_writeback.ts';
import { COMPACTPAGES } from '../src/mm/vmstat.ts';
import { nsPer, type Result, type Row, runGroup } from './harness.ts';

const GIB = 2 ** 30;
const BOOT_ONCE = fileURLToPath(new URL('./boot_once.js', import.meta.url));
const CALLER = { uid: 0, gid: 0, pid: 0 };

/** Allocates and frees one order-0 page at a time: the same page again and again. */
export function hotPages(m: Machine, count: number): number {
  const k = m.kernel;
  return nsPer(count, () => {
    for (let i = 0; i < count; i++) k.__free_pages(m, k.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0), 0);
  });
}

/** Frees and allocates single pages in random order over all of memory. */
export class RandomPages {
  readonly m: Machine;
  private readonly held: Int32Array;
  private x = 12345;

  constructor(m: Machine, pages: number) {
    this.m = m;
    this.held = new Int32Array(pages);
    for (let i = 0; i < pages; i++) this.held[i] = m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0);
    // Shuffle, so that neighbours in the array are strangers in memory.
    for (let i = pages - 1; i > 0; i--) {
      const j = this.random(i + 1);
      const t = this.held[i]!;
      this.held[i] = this.held[j]!;
      this.held[j] = t;
    }
    for (let i = 0; i < pages; i += 2) m.kernel.__free_pages(m, this.held[i]!, 0);
    for (let i = 0; i < pages; i += 2) this.held[i] = -1;
  }

  private random(n: number): number {
    this.x = (Math.imul(this.x, 1664525) + 1013904223) | 0;
    return Math.floor(((this.x >>> 0) / 4294967296) * n);
  }

  round(count: number): number {
    const { m, held } = this;
    const k = m.kernel;
    return nsPer(count, () => {
      for (let i = 0; i < count; i++) {
        const free = this.random(held.length);
        if (held[free]! >= 0) {
          k.__free_pages(m, held[free]!, 0);
          held[free] = -1;
        }
        const alloc = this.random(held.length);
        if (held[alloc]! < 0) held[alloc] = k.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0);
      }
    });
  }
}

export function hugePages(m: Machine, count: number): number {
  const k = m.kernel;
  return nsPer(count, () => {
    for (let i = 0; i < count; i++) k.__free_pages(m, k.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 9), 9);
  });
}

interface CompactionFigures {
  perMoved: number;
  perScanned: number;
  moved: number;
}

/** One whole compaction of the machine. */
function compactionRound(m: Machine): CompactionFigures {
  const before = m.vm_events[COMPACTPAGES]!;
  let frames = 0;
  for (const zone of m.populated_zones) frames += zone.spanned_pages;
  const start = process.hrtime.bigint();
  run_job(compact_nodes(m));
  const ns = Number(process.hrtime.bigint() - start);
  const moved = m.vm_events[COMPACTPAGES]! - before;
  return { perMoved: ns / Math.max(1, moved), perScanned: ns / frames, moved };
}

export async function benchAllocator(rounds: number): Promise<Result[]> {
  const hot = boot({ memory: 4 * GIB });
  const random = new RandomPages(boot({ memory: 5 * GIB }), (4 * GIB) / 4096);
  hotPages(hot, 300_000);
  random.round(200_000);
  const rows: Row[] = [
    {
      name: 'order-0 alloc + free, hot',
      unit: 'ns',
      target: '100',
      round: () => hotPages(hot, 1_000_000),
    },
    {
      name: 'order-0 alloc or free, random over 4 GiB',
      unit: 'ns',
      target: '1000',
      round: () => random.round(500_000),
    },
    { name: 'order-9 alloc + free', unit: 'ns', round: () => hugePages(hot, 10_000) },
  ];
  return runGroup('allocator', rows, rounds);
}

export async function benchBoot(rounds: number): Promise<Result[]> {
  // Each in a fresh process: the host is slow to take a large memmap back.
  const bootMs = (memory: number): number =>
    Number(execFileSync(process.execPath, [BOOT_ONCE, String(memory)], { encoding: 'utf8' }));
  console.log(`\nmetadata  ${BYTES_PER_PAGE} bytes a page (target 32)`);
  return runGroup(
    'boot',
    [
      { name: 'boot of 16 GiB', unit: 'ms', round: () => bootMs(16 * GIB) },
      { name: 'boot of 256 GiB', unit: 'ms', round: () => bootMs(256 * GIB) },
    ],
    rounds,
  );
}

/**
 * A machine filled with anonymous pages of which every second one is free: as fragmented as memory
 * gets, half of what is left has to move. `again` makes it so once more after a compaction.
 */
export class Fragmented {
  readonly m: Machine;
  private readonly task: Task;
  private readonly at: number;
  private readonly pages: number;
  private odd = 0;

  constructor(memory: number) {
    this.m = boot({ memory });
    const task = create_process(this.m, 'bench');
    if (typeof task === 'number') throw new Error('bench: no memory for a process');
    this.task = task;
    this.pages = Math.floor((memory / 4096) * 0.8);
    this.at = do_mmap(this.m, task.mm!, null, 0, this.pages, PROT_READ | PROT_WRITE, 0);
    this.again();
  }

  again(): void {
    const { m, task, at } = this;
    for (let i = 0; i < this.pages; i++) write_tag(m, task, at + i, i);
    this.odd ^= 1;
    for (let i = this.odd; i < this.pages; i += 2)
      do_madvise(m, task.mm!, at + i, 1, MADV_DONTNEED);
    lru_add_drain_all(m);
    m.kernel.drain_pages(m, 0);
  }
}

/** The same with files: bytes are copied. Every second page of 1 MiB files has been cut away. */
class FragmentedFiles {
  readonly m: Machine;
  private readonly root: Vnode;
  private readonly files: number;
  private n = 0;

  constructor(memory: number) {
    this.m = boot({ memory, disk: new MemoryBlockDevice(2 * memory) });
    this.root = disk_root(this.m);
    this.files = Math.floor((memory * 0.35) / 16384) * 2;
    this.again();
  }

  /** Writes files of four pages in turn, then removes every second one. */
  again(): void {
    const data = new Uint8Array(16384).fill(this.n + 1);
    for (let i = 0; i < this.files; i++) {
      const node = this.root.create(`${this.n}.${i}`, 0o644, CALLER) as Vnode;
      const file = node.open(O_WRONLY, CALLER) as OpenFile;
      const done = file.write(data, 0);
      if (typeof done !== 'number') run_job(done);
      file.release();
    }
    run_job(sync_filesystems(this.m));
    for (let i = 0; i < this.files; i += 2) this.root.unlink(`${this.n}.${i}`);
    lru_add_drain_all(this.m);
    this.m.kernel.drain_pages(this.m, 0);
  }

  /** After the compaction: everything goes, for the next round. */
  clear(): void {
    for (let i = 1; i < this.files; i += 2) this.root.unlink(`${this.n}.${i}`);
    this.n++;
  }
}

export async function benchCompaction(rounds: number): Promise<Result[]> {
  const anon = new Fragmented(GIB);
  const files = new FragmentedFiles(GIB);
  let last: CompactionFigures = { perMoved: 0, perScanned: 0, moved: 0 };
  let scan = 0;
  const anonRound = (): number => {
    last = compactionRound(anon.m);
    // Once more: nothing is left to move, and the scanners pass every frame.
    scan = compactionRound(anon.m).perScanned;
    anon.again();
    return last.perMoved;
  };
  const fileRound = (): number => {
    const { perMoved } = compactionRound(files.m);
    files.clear();
    files.again();
    return perMoved;
  };
  // The engine needs a few thousand pages before it has compiled the path.
  for (let i = 0; i < 3; i++) anonRound();
  for (let i = 0; i < 3; i++) fileRound();
  return runGroup(
    'whole-zone compaction of a fragmented 1 GiB machine',
    [
      { name: 'without contents, per moved page', unit: 'ns', target: '500', round: anonRound },
      { name: 'nothing to move, per scanned frame', unit: 'ns', round: () => scan },
      { name: 'with contents (files), per moved page', unit: 'ns', round: fileRound },
    ],
    rounds,
  );
}
