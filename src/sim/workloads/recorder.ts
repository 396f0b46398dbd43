/**
 * What ran on the recorded machines besides the load that a test is about.
 *
 * The recorder's own driver holds a buffer; its programs read a tree of small files, write one
 * large file, and eat memory, of which every second page is given back.
 * Facts, from the texts of golden pool/ and t1/: VmallocUsed and the memory that no counter
 * explains are 8 MiB larger on x86-64 than on i386, where the driver was not used. The tree is read
 * whole (pgpgin: 34,575 pages, 2,341 of them metadata), by one process (about 5,000 faults in all).
 * What is written afterwards comes with hardly any metadata: a single file.
 */
import { disk_of, disk_root } from '../../fs/disk/index.ts';
import { write_inode } from '../../fs/disk/inode.ts';
import { O_RDONLY, O_WRONLY, type Vnode } from '../../fs/vfs.ts';
import { BUG_ON } from '../../lib/bug.ts';
import { __bread, brelse } from '../../mm/buffer.ts';
import { GFP_KERNEL, GFP_NOFS } from '../../mm/gfp.ts';
import { do_madvise, MADV_DONTNEED } from '../../mm/madvise.ts';
import type { Task } from '../../mm/mm_types.ts';
import { do_mmap, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../mm/mmap.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { kmem_cache_alloc, kmem_cache_free } from '../../mm/slub.ts';
import type { KmemCache } from '../../mm/slub_def.ts';
import { command } from './command.ts';
import { COST } from './costs.ts';
import { journal_head_cache } from './journal.ts';
import type { Process } from './scheduler.ts';
import { exec, type Program, run_image, type Shell, touch } from './userland.ts';

const ROOT = { uid: 0, gid: 0, pid: 1 };

/** The tree: directories, files, and blocks of data in all files together. */
export const TREE = { dirs: 780, files: 24000, blocks: 32242 } as const;

/** Bytes of the driver's buffer (vmalloc: single pages of the kernel's own). */
const DRIVER_BYTES = 8 * 2 ** 20;

const CAT: Program = { name: 'cat', text: 60, data: 4, bss: 4, heap: 12, stack: 3 };
const EAT: Program = { name: 'eat', text: 30, data: 4, bss: 4, heap: 2, stack: 2 };

/** Takes the driver's buffer: it stays for as long as the machine runs. */
export function load_driver(m: Machine): void {
  for (let i = 0; i < DRIVER_BYTES / 2 ** m.shape.page_shift; i++) {
    BUG_ON(m.kernel.alloc_pages(m, GFP_KERNEL, 0) < 0, 'recorder: no memory for the driver');
  }
}

/** Reads every file below the root directories `tree...`, each from its beginning to its end. */
function* read_all(m: Machine): Process {
  const root = disk_root(m);
  const fs = disk_of(m)!;
  const buf = new Uint8Array(4096);
  const dirs = root.readdir();
  if (typeof dirs === 'number') return;
  for (const d of dirs) {
    if (!d.name.startsWith('tree')) continue;
    const dir = root.lookup(d.name);
    yield COST.stat;
    if (typeof dir === 'number') continue;
    for (const block of fs.inodes.get(d.ino)!.directory!.blocks) {
      const bh = __bread(m, fs.bdev, block, true);
      if (bh > 0) brelse(m, bh);
    }
    const names = dir.readdir();
    if (typeof names === 'number') continue;
    for (const f of names) {
      const node = dir.lookup(f.name);
      yield COST.create;
      if (typeof node === 'number') continue;
      const file = node.open(O_RDONLY, ROOT);
      if (typeof file !== 'number') {
        for (let pos = 0; (file.read(buf, pos) as number) > 0; pos += buf.length) {
          yield COST.write_block;
        }
        file.release();
        // The time of access goes to the inode table at once, as a journal has it.
        write_inode(m, fs.inodes.get(f.ino)!);
      }
      node.forget();
    }
    dir.forget();
  }
}

/** A process that reads the tree. */
export function read_tree(m: Machine, shell: Shell): Process {
  return command(m, shell, CAT, () => read_all(m));
}

/** Journal heads in a page on 64 bits, where this is used. */
const HEADS_PER_PAGE = 36;

/** The journal heads of a transaction's data, in their cache. */
class Transaction {
  private readonly m: Machine;
  private readonly cache: KmemCache;
  private readonly heads: number[] = [];

  constructor(m: Machine) {
    this.m = m;
    this.cache = journal_head_cache(m);
  }

  add(): void {
    const head = kmem_cache_alloc(this.m, this.cache, GFP_NOFS);
    if (head !== 0) this.heads.push(head);
  }

  commit(): void {
    for (const head of this.heads) kmem_cache_free(this.m, this.cache, head);
    this.heads.length = 0;
  }
}

function* write_blocks(m: Machine, name: string, blocks: number, freed: number): Process {
  const transaction = new Transaction(m);
  const each = Math.max(1, freed) * HEADS_PER_PAGE;
  const buf = new Uint8Array(2 ** m.shape.page_shift);
  const node = disk_root(m).create(name, 0o644, ROOT);
  if (typeof node === 'number') return;
  const file = node.open(O_WRONLY, ROOT);
  yield COST.create;
  if (typeof file === 'number') return;
  for (let b = 0; b < blocks; b++) {
    file.write(buf, b * buf.length);
    transaction.add();
    if ((blocks - b - 1) % each === 0) transaction.commit();
    yield COST.write_block;
  }
  file.release();
  (node as Vnode).forget();
}

/**
 * A process that writes one file of `blocks` pages. In ordered mode each page of data has a journal
 * head until its transaction is committed. How long transactions are is told by the pages that the
 * last one `freed`: none else are free one by one among the reclaimable ones.
 */
export function write_file(
  m: Machine,
  shell: Shell,
  name: string,
  blocks: number,
  freed: number,
): Process {
  return command(m, shell, CAT, () => write_blocks(m, name, blocks, freed));
}

/** A process that touches `pages` pages, gives every second one back, and stays. */
export function* eat(m: Machine, shell: Shell, pages: number): Process {
  const task: Task | null = shell.fork();
  yield COST.fork;
  if (task === null) return;
  yield (shell.child_before_exec(task) + shell.note_job(0)) * COST.fault;
  const image = exec(m, task, shell.root, EAT);
  yield COST.exec;
  if (image === null || task.mm === null) return;
  yield Math.max(0, run_image(m, task, image)) * COST.fault;
  const flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const start = do_mmap(m, task.mm, null, 0, pages, PROT_READ | PROT_WRITE, flags);
  if (start < 0) return;
  for (let i = 0; i < pages; i++) {
    if (!touch(m, task, start + i, true)) return;
    yield COST.fault;
  }
  for (let i = 0; i < pages; i += 2) {
    do_madvise(m, task.mm, start + i, 1, MADV_DONTNEED);
    if (i % 64 === 0) yield COST.fault;
  }
}

/** What the recorder runs between two measurements: a few small programs that read /proc. */
export function* look(m: Machine, shell: Shell, commands: number): Process {
  for (let i = 0; i < commands; i++) {
    yield* command(m, shell, CAT, function* (): Process {
      yield COST.stat;
    });
  }
}
