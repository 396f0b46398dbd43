/**
 * What memory costs when it is scarce, and what it costs on machines of every size.
 *
 * "Full" is a machine whose memory is page cache of one file: each allocation beyond the watermarks
 * has kswapd take pages from it, while the virtual clock goes on. "Fragmented" has nothing but small
 * holes, so that a huge page exists only after direct compaction. Sizes: one fresh process for each.
 */

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { disk_root } from '../src/fs/disk/index.ts';
import { O_RDWR, type OpenFile, type Vnode } from '../src/fs/vfs.ts';
import { set_max_huge_pages } from '../src/kernels/linux-2.6.35/hugetlb.ts';
import { run_job, settle } from '../src/lib/kthread.ts';
import { advance_clock, boot } from '../src/machine.ts';
import { MemoryBlockDevice } from '../src/mm/block_device.ts';
import { __GFP_WAIT, GFP_HIGHUSER_MOVABLE } from '../src/mm/gfp.ts';
import { type Machine, nodes_with_memory } from '../src/mm/mmzone.ts';
import { COMPACTPAGES, KSWAPD_STEAL } from '../src/mm/vmstat.ts';
import { hugeadm } from '../src/sim/workloads/prepare.ts';
import { Fragmented } from './core.ts';
import { format, type Result, runGroup } from './harness.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const CALLER = { uid: 0, gid: 0, pid: 0 };
const SIZE_ONCE = fileURLToPath(new URL('./size_once.js', import.meta.url));
const CHUNK = 128 * 1024;

/** A machine whose memory is the cache of a file as large as it. */
class Full {
  readonly m: Machine;
  private readonly file: OpenFile;
  private readonly memory: number;
  private readonly held: Int32Array;

  constructor(memory: number) {
    this.memory = memory;
    this.m = boot({ memory, disk: new MemoryBlockDevice(2 * memory) });
    this.held = new Int32Array(Math.floor(memory / 4096 / 5));
    const node = disk_root(this.m).create('cache', 0o644, CALLER) as Vnode;
    this.file = node.open(O_RDWR, CALLER) as OpenFile;
    const data = new Uint8Array(CHUNK).fill(1);
    for (let at = 0; at < memory; at += CHUNK) {
      settle(this.file.write(data, at));
      run_job(advance_clock(this.m, 2));
    }
    this.fill();
  }

  private fill(): void {
    const buf = new Uint8Array(CHUNK);
    for (let at = 0; at < this.memory; at += CHUNK) {
      this.file.read(buf, at);
      run_job(advance_clock(this.m, 2));
    }
  }

  /** Allocations a second while a fifth of the cache is taken away; kswapd's time is in it. */
  round(): number {
    const { m, held } = this;
    const before = m.vm_events[KSWAPD_STEAL]!;
    const start = process.hrtime.bigint();
    for (let i = 0; i < held.length; i++) {
      held[i] = m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0);
      if (i % 128 === 0) run_job(advance_clock(m, 1));
    }
    const ns = Number(process.hrtime.bigint() - start);
    if (m.vm_events[KSWAPD_STEAL]! - before < held.length / 2) {
      throw new Error('bench: kswapd was not at work');
    }
    for (const pfn of held) m.kernel.__free_pages(m, pfn, 0);
    this.fill();
    return (held.length / ns) * 1e9;
  }
}

/** Microseconds for a huge page that direct compaction has to make, on a machine of its own. */
function compactedHugePage(memory: number): number {
  const { m } = new Fragmented(memory);
  // Watermarks for huge pages. With the small ones of boot the last reserved block counts as one that
  // can be had whenever a CPU has not told yet what it took, and compaction ends before it began.
  hugeadm(m);
  // What there is without waiting goes first.
  for (;;) {
    const pfn = m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE & ~__GFP_WAIT, 9);
    if (pfn < 0) break;
  }
  const before = m.vm_events[COMPACTPAGES]!;
  const count = 40;
  let got = 0;
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    if (m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 9) >= 0) got++;
  }
  const us = Number(process.hrtime.bigint() - start) / 1e3;
  // Each compaction goes on until there are a few: on average half a huge page is moved for one.
  const moved = m.vm_events[COMPACTPAGES]! - before;
  if (got < count || moved < count * 100) {
    throw new Error(`bench: ${got} huge pages, for which compaction moved ${moved} pages`);
  }
  return us / count;
}

/** Milliseconds to grow a pool from 0 to 500. */
function poolGrowth(m: Machine): number {
  const h = m.hstates[0]!;
  const nodes = nodes_with_memory(m);
  const start = process.hrtime.bigint();
  const got = run_job(set_max_huge_pages(m, h, 500, nodes));
  const ms = Number(process.hrtime.bigint() - start) / 1e6;
  if (got !== 500) throw new Error(`bench: the pool grew to ${got}`);
  run_job(set_max_huge_pages(m, h, 0, nodes));
  return ms;
}

export async function benchPressure(rounds: number): Promise<Result[]> {
  const full = new Full(512 * MIB);
  const idle = boot({ memory: 2 * GIB });
  full.round();
  compactedHugePage(GIB);
  poolGrowth(idle);
  return runGroup(
    'memory that is scarce',
    [
      {
        name: 'order-0 allocations, full 512 MiB machine, kswapd at work',
        unit: '1/s',
        round: () => full.round(),
      },
      {
        name: 'order-9 allocation with direct compaction, fragmented 1 GiB',
        unit: 'us',
        round: () => compactedHugePage(GIB),
      },
      {
        name: 'pool growth by 500 huge pages, idle 2 GiB',
        unit: 'ms',
        round: () => poolGrowth(idle),
      },
      {
        name: 'pool growth by 500 huge pages, fragmented 2 GiB',
        unit: 'ms',
        round: () => {
          // A new machine each time: what a pool had stays whole when it goes back.
          const { m } = new Fragmented(2 * GIB);
          hugeadm(m);
          return poolGrowth(m);
        },
      },
    ],
    rounds,
  );
}

/** The same operations on machines of growing size; the last column compares 64 GiB with 1 GiB. */
export function benchSizes(): Promise<void> {
  const sizes = [1, 4, 16, 64, 256];
  const columns = sizes.map(
    (gib): Record<string, number> =>
      JSON.parse(execFileSync(process.execPath, [SIZE_ONCE, String(gib)], { encoding: 'utf8' })),
  );
  const names = Object.keys(columns[0]!);
  const width = Math.max(...names.map((name) => name.length));
  const row = (cells: string[]): string => cells.map((cell) => cell.padStart(9)).join('');
  console.log('\ncost by size of the machine, ns an operation  (medians of 5)');
  const heads = [...sizes.map((gib) => `${gib} GiB`), '64 / 1'];
  console.log(`  ${''.padEnd(width)}${row(heads)}   target 64 / 1: at most 4`);
  for (const name of names) {
    const ratio = columns[3]![name]! / columns[0]![name]!;
    const cells = [...columns.map((figures) => format(figures[name]!)), `${ratio.toFixed(1)}x`];
    console.log(`  ${name.padEnd(width)}${row(cells)}`);
  }
  return Promise.resolve();
}
