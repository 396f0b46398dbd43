/**
 * What the core costs, without FUSE: allocator, whole-zone compaction, boot, metadata.
 *
 * Compaction is measured on anonymous pages of a simulated process (tags instead of bytes) and on
 * file pages whose bytes are copied. "Scanned" counts the frames that the migrate scanner passed.
 */

import { compact_nodes } from '../src/kernels/linux-2.6.35/compaction.ts';
import { run_job } from '../src/lib/kthread.ts';
import { boot } from '../src/machine.ts';
import { create_process } from '../src/mm/fork.ts';
import { GFP_HIGHUSER_MOVABLE } from '../src/mm/gfp.ts';
import { lru_add_drain_all } from '../src/mm/lru.ts';
import { do_madvise, MADV_DONTNEED } from '../src/mm/madvise.ts';
import { write_tag } from '../src/mm/memory.ts';
import { do_mmap, PROT_READ, PROT_WRITE } from '../src/mm/mmap.ts';
import type { Machine } from '../src/mm/mmzone.ts';
import { BYTES_PER_PAGE } from '../src/mm/page.ts';
import { COMPACTPAGES } from '../src/mm/vmstat.ts';
import { nsPer, type Result, type Row, runGroup } from './harness.ts';

const GIB = 2 ** 30;

/** Allocates and frees one order-0 page at a time: the same page again and again. */
function hotPages(m: Machine, count: number): number {
  const k = m.kernel;
  return nsPer(count, () => {
    for (let i = 0; i < count; i++) k.__free_pages(m, k.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0), 0);
  });
}

/** Frees and allocates single pages in random order over all of memory. */
class RandomPages {
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

function hugePages(m: Machine, count: number): number {
  const k = m.kernel;
  return nsPer(count, () => {
    for (let i = 0; i < count; i++) k.__free_pages(m, k.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 9), 9);
  });
}

export interface CompactionFigures {
  perMoved: number;
  perScanned: number;
  moved: number;
}

/** One whole compaction of the machine. */
export function compactionRound(m: Machine): CompactionFigures {
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
  const bootMs = (memory: number): number => {
    const start = process.hrtime.bigint();
    boot({ memory });
    return Number(process.hrtime.bigint() - start) / 1e6;
  };
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
 * Fills most of a machine with anonymous pages and frees every second one, as fragmented as
 * memory gets: half of what is left has to move.
 */
function fragmentedMachine(memory: number): Machine {
  const m = boot({ memory });
  const task = create_process(m, 'bench');
  if (typeof task === 'number') throw new Error('bench: no memory for a process');
  const pages = Math.floor((memory / 4096) * 0.8);
  const at = do_mmap(m, task.mm!, null, 0, pages, PROT_READ | PROT_WRITE, 0);
  for (let i = 0; i < pages; i++) write_tag(m, task, at + i, i);
  for (let i = 0; i < pages; i += 2) do_madvise(m, task.mm!, at + i, 1, MADV_DONTNEED);
  lru_add_drain_all(m);
  m.kernel.drain_pages(m, 0);
  return m;
}

export async function benchCompaction(rounds: number): Promise<Result[]> {
  let last: CompactionFigures = { perMoved: 0, perScanned: 0, moved: 0 };
  return runGroup(
    'compaction of a 1 GiB machine, every second page free',
    [
      {
        name: 'anonymous pages, per moved page',
        unit: 'ns',
        target: '500',
        round: () => {
          last = compactionRound(fragmentedMachine(GIB));
          return last.perMoved;
        },
      },
      { name: 'anonymous pages, per frame of the zones', unit: 'ns', round: () => last.perScanned },
      { name: 'pages moved', unit: 'pages', round: () => last.moved },
    ],
    rounds,
  );
}
