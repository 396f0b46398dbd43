/**
 * User space of the simulated machines: a root file system in memory, and programs.
 *
 * The root file system is an initramfs: its pages stay (unevictable) and the programs' text is
 * mapped from it. A program is an address space of text, data, bss, heap, libraries' worth of
 * pages and a stack; running it costs the page tables, copies and faults that it costs in Linux,
 * through the machine's own fork, exec, mmap and fault code.
 * Facts: the recorded machines' initramfs (785 pages, one statically linked program); per short
 * process of their fill (golden t1: vmstat between `tuned` and `created`) about 128 faults and 65
 * page allocations beyond its file's. The shell grows by its list of jobs, some 75 pages of anonymous
 * memory for 4096 jobs on 64 bits: an array that the C library moves once, when it has 128 KiB.
 * Linux: fs/ramfs, init/initramfs.c, fs/binfmt_elf.c.
 */
import { BUG_ON } from '../../lib/bug.ts';
import {
  type AddressSpace,
  type AddressSpaceOperations,
  AS_UNEVICTABLE,
  MIGRATE_FALLBACK,
} from '../../mm/address_space.ts';
import { add_to_page_cache_lru } from '../../mm/filemap.ts';
import { create_process, do_execve, do_exit, do_fork } from '../../mm/fork.ts';
import { GFP_HIGHUSER, GFP_KERNEL } from '../../mm/gfp.ts';
import { put_page } from '../../mm/lru.ts';
import { access_page } from '../../mm/memory.ts';
import { MmapFile, type Task, type vpn_t } from '../../mm/mm_types.ts';
import {
  do_brk,
  do_mmap,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from '../../mm/mmap.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { SetPageFlag, unlock_page } from '../../mm/page.ts';
import { PG_dirty, PG_uptodate } from '../../mm/page_flags.ts';

/** ramfs: pages without a device; dirty without being counted, never written. */
const ramfs_aops: AddressSpaceOperations = {
  name: 'ramfs',
  migratepage: MIGRATE_FALLBACK,
  account_dirty: false,
};

/** Bytes of the root file system, recorded: 785 pages of 4 KiB. */
export const ROOTFS_BYTES = 785 * 4096;

/** A program's address space, in pages of 4 KiB as touched by one run. */
export interface Program {
  readonly name: string;
  /** Pages of the image: text that is read, data that is written (copied). */
  readonly text: number;
  readonly data: number;
  readonly bss: number;
  readonly heap: number;
  readonly stack: number;
}

/** The image that all programs of the recorded machines are in. */
export class Rootfs {
  readonly mapping: AddressSpace;
  readonly pages: number;

  constructor(m: Machine) {
    // ramfs_get_inode asks for GFP_HIGHUSER: pages that do not count as movable.
    this.mapping = m.mappings.create(ramfs_aops, GFP_HIGHUSER);
    this.mapping.flags |= AS_UNEVICTABLE;
    this.pages = Math.ceil(ROOTFS_BYTES / 2 ** m.shape.page_shift);
    this.mapping.i_size = this.pages * 2 ** m.shape.page_shift;
    for (let i = 0; i < this.pages; i++) {
      const pfn = m.kernel.alloc_pages(m, GFP_HIGHUSER, 0);
      BUG_ON(pfn < 0, 'rootfs: no memory');
      BUG_ON(add_to_page_cache_lru(m, pfn, this.mapping, i, GFP_KERNEL) !== 0, 'rootfs: no memory');
      SetPageFlag(m.memmap, pfn, PG_uptodate);
      SetPageFlag(m.memmap, pfn, PG_dirty);
      unlock_page(m.memmap, pfn);
      put_page(m, pfn);
    }
  }
}

const RX = PROT_READ | PROT_EXEC;
const RW = PROT_READ | PROT_WRITE;

/** Reads or writes a page; false when there is no memory or the process has gone. */
export function touch(m: Machine, task: Task, vpn: vpn_t, write: boolean): boolean {
  return task.mm !== null && access_page(m, task, vpn, write) === 0;
}

/** Where a started program's parts lie. */
export interface Image {
  readonly program: Program;
  readonly text: vpn_t;
  readonly data: vpn_t;
  readonly bss: vpn_t;
  readonly heap: vpn_t;
  readonly stack_top: vpn_t;
}

/**
 * The same program on this machine. With pointers of half the length its variables take half of the
 * memory (golden t1-i386pae: 108 to 110 faults and 45 pages for each process of the fill, where x86-64 has
 * 126 to 128 and 65).
 */
function on_machine(m: Machine, program: Program): Program {
  if (m.shape.machine !== 'x86') return program;
  const half = (pages: number): number => Math.ceil(pages / 2);
  const { name, text, stack } = program;
  const [data, bss, heap] = [half(program.data), half(program.bss), half(program.heap)];
  return { name, text, data, bss, heap, stack };
}

/** exec: maps a program and touches nothing of it yet but what exec itself writes. Null: failed. */
export function exec(m: Machine, task: Task, root: Rootfs, of: Program): Image | null {
  const program = on_machine(m, of);
  if (do_execve(m, task, program.name) !== 0) return null;
  const mm = task.mm!;
  const text = mm.start_code;
  // Text, data and bss of a static program lie behind each other; the heap follows at a distance.
  const text_pages = Math.min(root.pages, 256);
  const file = new MmapFile(root.mapping, `/bin/${program.name}`, 1, 0, 1);
  const mapped = do_mmap(m, mm, file, text, text_pages, RX, MAP_PRIVATE | MAP_FIXED);
  const data = text + text_pages + 1;
  if (mapped < 0) return null;
  const pgoff = Math.min(text_pages, root.pages - program.data - 1);
  const at = do_mmap(m, mm, file, data, program.data + 1, RW, MAP_PRIVATE | MAP_FIXED, pgoff);
  if (at < 0) return null;
  const brk = mm.brk;
  const heap = do_brk(m, mm, brk + Math.max(1, program.bss + program.heap));
  if (heap === brk) return null;
  return {
    program,
    text,
    data,
    bss: brk,
    heap: brk + program.bss,
    stack_top: mm.start_stack,
  };
}

/** Touches everything that one run of the program touches; returns the faults, -1 without memory. */
export function run_image(m: Machine, task: Task, image: Image): number {
  const { program } = image;
  let n = 0;
  const parts: readonly [vpn_t, number, boolean][] = [
    [image.text, Math.ceil(program.text / 2), false],
    [image.data, program.data, true],
    [image.bss, program.bss, true],
    [image.stack_top - program.stack + 1, program.stack, true],
    [image.text + 64, Math.floor(program.text / 2), false],
    [image.heap, program.heap, true],
  ];
  for (const [start, pages, write] of parts) {
    for (let i = 0; i < pages; i++) {
      if (!touch(m, task, start + i, write)) return -1;
      n++;
    }
  }
  return n;
}

/** malloc takes larger blocks from the kernel as mappings of their own (glibc: M_MMAP_THRESHOLD). */
const MMAP_THRESHOLD = 128 * 1024;
/** More than any list of jobs has. */
const LIST_PAGES_MAX = 1024;

/** The shell that starts commands in the background: its job list grows. */
export class Shell {
  readonly m: Machine;
  readonly root: Rootfs;
  readonly task: Task;
  readonly image: Image;
  /** The list of jobs: bytes, pages that it has, and its first and last page. */
  private list_bytes = 0;
  private list_pages = 0;
  private list_start: vpn_t;
  private list_end: vpn_t;

  constructor(m: Machine, root: Rootfs, program: Program) {
    this.m = m;
    this.root = root;
    const task = create_process(m, program.name);
    BUG_ON(typeof task === 'number', 'shell: no memory');
    this.task = task as Task;
    const image = exec(m, this.task, root, program);
    BUG_ON(image === null || run_image(m, this.task, image) < 0, 'shell: no memory');
    this.image = image!;
    this.list_start = this.image.heap + this.image.program.heap;
    this.list_end = this.list_start - 1;
  }

  /** The child that is to become a command; null without memory or pids. */
  fork(): Task | null {
    const child = do_fork(this.m, this.task);
    return typeof child === 'number' ? null : child;
  }

  /**
   * What the parent writes after a fork: stack, variables, and the entry of the new job, of
   * `bytes` bytes. All of it is shared with the child now and is copied. Returns the faults.
   */
  note_job(bytes: number): number {
    const { m, task, image } = this;
    let n = 0;
    for (let i = 0; i < 2; i++) if (touch(m, task, image.stack_top - i, true)) n++;
    for (let i = 0; i < image.program.data; i++) if (touch(m, task, image.data + i, true)) n++;
    if (touch(m, task, image.bss, true)) n++;
    this.list_bytes += bytes;
    const wanted = Math.ceil(this.list_bytes / 2 ** m.shape.page_shift);
    if (wanted > this.list_pages) n += this.grow_list(wanted);
    if (touch(m, task, this.list_end, true)) n++;
    return n;
  }

  /**
   * Enlarges the list of jobs as realloc does: at the end of the heap up to MMAP_THRESHOLD, then by
   * copying it into a mapping of its own. The heap keeps the pages that it had. Returns the faults.
   */
  private grow_list(wanted: number): number {
    const { m, task } = this;
    const most = MMAP_THRESHOLD / 2 ** m.shape.page_shift;
    let n = 0;
    if (wanted <= most) {
      const end = this.list_start + wanted;
      if (do_brk(m, task.mm!, end) !== end) return 0;
    } else if (this.list_pages <= most) {
      const flags = MAP_PRIVATE | MAP_ANONYMOUS;
      const start = do_mmap(m, task.mm!, null, 0, LIST_PAGES_MAX, RW, flags);
      if (start < 0) return 0;
      this.list_start = start;
      for (let i = 0; i + 1 < wanted; i++) if (touch(m, task, start + i, true)) n++;
    }
    this.list_pages = wanted;
    this.list_end = this.list_start + wanted - 1;
    return n;
  }

  /** What the child writes before it becomes the command. Returns the faults. */
  child_before_exec(child: Task): number {
    const { m, image } = this;
    let n = 0;
    for (let i = 0; i < 2; i++) if (touch(m, child, image.stack_top - i, true)) n++;
    for (let i = 0; i < image.program.data; i++) if (touch(m, child, image.data + i, true)) n++;
    if (touch(m, child, image.bss, true)) n++;
    if (touch(m, child, this.list_end, true)) n++;
    return n;
  }

  exit(): void {
    if (this.m.tasks.get(this.task.pid) === this.task) do_exit(this.m, this.task, 0);
  }
}
