/**
 * What a distribution of 2010 keeps in memory besides what a test is about: memory of the kernel
 * that stays, and daemons that use some memory and some files now and then.
 *
 * Nothing is known of what ran on the published machines, so this is a choice, the only one that looks at
 * a published result: the first test ended there some 30 (x86), 70 (x86-64) and 5 page blocks (ppc64) below
 * what watermarks and a bare system leave. `kernel_bytes` explains all three, if half of it is
 * enough on 32 bits, where pointers are half as long. One table serves all machines.
 * How many files are open does not matter from some hundred on: every slab page of names and inodes
 * with one in use stays, and with it a page block; those of 16 MiB are few, and stay anyway. They
 * lie anywhere among what a walk has read, since daemons open other files now and then.
 */
import { disk_root } from '../../fs/disk/index.ts';
import { O_RDONLY, type OpenFile } from '../../fs/vfs.ts';
import { BUG_ON } from '../../lib/bug.ts';
import { EAGAIN } from '../../lib/errno.ts';
import { __GFP_HIGHMEM, GFP_KERNEL } from '../../mm/gfp.ts';
import { access_page } from '../../mm/memory.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { COST } from './costs.ts';
import { swap_io } from './kernel_tasks.ts';
import type { Process } from './scheduler.ts';
import type { Shell } from './userland.ts';

const ROOT = { uid: 0, gid: 0, pid: 1 };

export const DISTRIBUTION = {
  daemons: 40,
  /** Memory of the kernel that never goes: modules, drivers' buffers, tables, slabs. On 64 bits. */
  kernel_bytes: 76 * 2 ** 20,
  /** Part of it that comes by vmalloc (modules, buffers), on x86 from high memory: one page in so many. */
  vmalloc: 3,
  /** Milliseconds between two times that a daemon has something to do. */
  period: 4000,
  /** Files that it has open: each time it closes one and opens another. */
  open_files: 12,
  /** Pages of its stack and heap that it uses each time. */
  uses: 24,
  /** Directories and files of the tree on the disk (golden t1/README). */
  dirs: 780,
  files: 24000,
} as const;

/** Takes the kernel's memory: it stays for as long as the machine runs. */
export function hold_kernel_memory(m: Machine): void {
  const bytes =
    m.shape.machine === 'x86' ? DISTRIBUTION.kernel_bytes / 2 : DISTRIBUTION.kernel_bytes;
  for (let i = 0; i < bytes / 2 ** m.shape.page_shift; i++) {
    const gfp = i % DISTRIBUTION.vmalloc === 0 ? GFP_KERNEL | __GFP_HIGHMEM : GFP_KERNEL;
    BUG_ON(m.kernel.alloc_pages(m, gfp, 0) < 0, 'distribution: no memory for the kernel');
  }
}

/** A page that the daemon uses: from swap if need be. Yields the time that it waits. */
function* use(m: Machine, daemon: Shell, vpn: number): Process {
  const io = swap_io(m);
  // Locked by who writes it to swap: until that is done.
  while (daemon.task.mm !== null && access_page(m, daemon.task, vpn, true) === -EAGAIN) yield -1;
  const wait = swap_io(m) - io;
  if (wait > 0) yield -wait;
}

/**
 * One daemon after the other wakes up, uses some of its memory, closes the oldest of its files and
 * opens another one.
 */
export function* daemons_at_work(m: Machine, daemons: readonly Shell[]): Process {
  const prng = m.prng.fork('daemons');
  const { dirs, files, open_files, period, uses } = DISTRIBUTION;
  const root = disk_root(m);
  const open: (OpenFile | null)[] = new Array(daemons.length * open_files).fill(null);
  for (let i = 0; ; i = (i + 1) % open.length) {
    const daemon = daemons[i % daemons.length]!;
    const { image } = daemon;
    for (let page = 0; page < uses; page++) {
      const heap = image.heap + prng.below(image.program.heap);
      yield* use(m, daemon, page === 0 ? image.stack_top : heap);
    }
    open[i]?.release();
    open[i] = null;
    const dir = root.lookup(`tree${prng.below(dirs)}`);
    if (typeof dir !== 'number') {
      const node = dir.lookup(`file${prng.below(Math.floor(files / dirs))}`);
      if (typeof node !== 'number') {
        const file = node.open(O_RDONLY, ROOT);
        if (typeof file !== 'number') open[i] = file;
      }
      dir.forget();
    }
    yield COST.create;
    yield -period / daemons.length;
  }
}
