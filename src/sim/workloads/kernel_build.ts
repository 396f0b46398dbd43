/**
 * Builds of a kernel, as the published third test has them: make, one command at a time, in a tree of
 * its own.
 *
 * For each directory a make starts what kbuild starts for a source: a shell, the compiler's driver, the
 * compiler, the assembler, small programs around them; at the end of the directory the linker. Who has
 * started another waits for it with its memory. The compiler reads the source and all headers, fills
 * its memory page by page, and maps its text from the disk. Reading takes a disk's time.
 * From the recorded trace of a compile job (kmem events, by process): two compilers take 23,425 and
 * 18,424 pages of anonymous memory in 3.95 s on two processors, so a page in 0.19 ms of one; order 0 and
 * movable in nine of ten cases; a shell, or a driver of the compiler, takes 41 to 49 such pages.
 * Known of 2.6.35: cc1 has 10 to 24 MiB at its peak on the kernel's files, and 9 MiB of text; kbuild
 * runs fixdep, mv and rm for each object; temporary files hold the assembler's input.
 * Choices: that one processor of the trace stands for those of a machine of 2010; sizes of make,
 * assembler, linker and objects; that one in three files is compiled, and what headers it includes.
 */
import { type DiskFile, type DiskVnode, disk_root } from '../../fs/disk/index.ts';
import { O_RDONLY, O_TRUNC, O_WRONLY, type OpenFile, type Vnode } from '../../fs/vfs.ts';
import { BUG_ON } from '../../lib/bug.ts';
import { EAGAIN } from '../../lib/errno.ts';
import type { Prng } from '../../lib/prng.ts';
import type { AddressSpace } from '../../mm/address_space.ts';
import { do_exit } from '../../mm/fork.ts';
import { access_page } from '../../mm/memory.ts';
import { MmapFile, type Task } from '../../mm/mm_types.ts';
import {
  do_mmap,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from '../../mm/mmap.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { COST } from './costs.ts';
import type { Reads } from './disk_time.ts';
import type { Journal } from './journal.ts';
import { spend } from './kernel_tasks.ts';
import { first_file, read_file, type TreeSize } from './kernel_tree.ts';
import type { Process } from './scheduler.ts';
import { exec, type Program, run_image, type Shell, touch } from './userland.ts';

const ROOT = { uid: 0, gid: 0, pid: 1 };

/** Programs, in pages; what they need in proportion to their input comes on top. */
const MAKE: Program = { name: 'make', text: 60, data: 6, bss: 4, heap: 300, stack: 4 };
const SMALL: Program = { name: 'sh', text: 60, data: 6, bss: 4, heap: 26, stack: 4 };
const CC1: Program = { name: 'cc1', text: 60, data: 12, bss: 40, heap: 20, stack: 6 };
const AS: Program = { name: 'as', text: 60, data: 6, bss: 6, heap: 20, stack: 4 };
const LD: Program = { name: 'ld', text: 60, data: 6, bss: 6, heap: 20, stack: 4 };

export const KERNEL_BUILD = {
  /** Pages of anonymous memory at the peak of compiler, assembler, linker. */
  cc1: [2500, 6000],
  as: [250, 700],
  ld: [300, 1200],
  /** Milliseconds of a compiler's page; of a page of the others, which compute less. */
  page: 0.19,
  small_page: 0.05,
  /** Pages of the compiler's text, on the disk and mapped, of which one source needs the half. */
  cc1_text: 2400,
  /** Small programs beside compiler and assembler for each source. */
  small: 6,
  /** Directories at the beginning of a tree whose files (headers) every source includes. */
  header_dirs: 15,
  /** Of the files of a directory one in so many is compiled. */
  compiled: 3,
  /** Blocks of an object. */
  object: [3, 20],
  /** Blocks of the compiler's output, and of a list of headers. */
  assembler_text: [10, 60],
  dependencies: [1, 3],
} as const;

/** The text of programs that lie on the disk and are mapped by who runs them. */
export interface Toolchain {
  readonly mapping: AddressSpace;
  readonly pages: number;
  /** Open for as long as somebody runs it. */
  readonly file: OpenFile;
}

/** Puts the compiler onto the disk: not in memory before somebody runs it. */
export function install_toolchain(m: Machine): Toolchain {
  const node = disk_root(m).create('cc1', 0o755, ROOT);
  BUG_ON(typeof node === 'number', 'toolchain: no room on the disk');
  const pages = KERNEL_BUILD.cc1_text;
  (node as Vnode).setattr({ size: pages * 2 ** m.shape.page_shift }, ROOT);
  const file = (node as Vnode).open(O_RDONLY, ROOT);
  BUG_ON(typeof file === 'number', 'toolchain: no memory');
  return { mapping: (file as DiskFile).mapping, pages, file: file as DiskFile };
}

/** One build: a tree, and what its processes share. */
export class KernelBuild {
  private readonly m: Machine;
  private readonly shell: Shell;
  private readonly disk: Reads;
  private readonly journal: Journal;
  private readonly name: string;
  private readonly tmp: Vnode;
  private readonly tools: Toolchain;
  private readonly tree: Vnode;
  private readonly size: TreeSize;
  private readonly prng: Prng;
  private readonly buf: Uint8Array;

  constructor(
    m: Machine,
    shell: Shell,
    tools: Toolchain,
    disk: Reads,
    journal: Journal,
    tree: string,
    size: TreeSize,
  ) {
    this.m = m;
    this.disk = disk;
    this.journal = journal;
    this.name = tree;
    this.shell = shell;
    this.tools = tools;
    this.tree = disk_root(m).lookup(tree) as Vnode;
    this.tmp = disk_root(m).lookup('tmp') as Vnode;
    this.size = size;
    this.prng = m.prng.fork(`build ${tree}`);
    this.buf = new Uint8Array(4096);
  }

  /** make at the top of the tree, which starts one in a directory after the other, over and over. */
  process(): Process {
    return this.run(MAKE, () => this.directories());
  }

  private *directories(): Process {
    const { size } = this;
    const start = this.prng.below(size.dirs);
    for (let i = 0; ; i++) {
      const d = (start + i) % size.dirs;
      if (d >= KERNEL_BUILD.header_dirs) yield* this.run(MAKE, () => this.directory(d));
    }
  }

  /** A command: forks (from the shell, for all), becomes `program`, does `work`, ends. */
  private *run(program: Program, work: (task: Task) => Process): Process {
    const { m, shell } = this;
    const task = shell.fork();
    yield COST.fork;
    if (task === null) {
      yield -10;
      return;
    }
    yield (shell.child_before_exec(task) + shell.note_job(0)) * COST.fault;
    const image = exec(m, task, shell.root, program);
    yield COST.exec;
    if (image !== null) {
      yield Math.max(0, run_image(m, task, image)) * COST.fault;
      yield* work(task);
    }
    yield COST.exit;
    if (m.tasks.get(task.pid) === task) do_exit(m, task, 0);
  }

  /** What make does in a directory: for each source what kbuild starts, then the linker. */
  private *directory(d: number): Process {
    const dir = this.tree.lookup(`d${d}`);
    if (typeof dir === 'number') return;
    const first = first_file(this.size, d);
    const end = first_file(this.size, d + 1);
    for (let f = first; f < end; f += KERNEL_BUILD.compiled) {
      yield* this.run(SMALL, () => this.run(SMALL, () => this.compile_and_assemble(dir, f)));
      yield* this.run(SMALL, () => this.run(SMALL, () => this.fixdep(dir, f)));
      for (let i = 4; i < KERNEL_BUILD.small; i++) yield* this.run(SMALL, function* () {});
    }
    if (end > first) yield* this.run(LD, (task) => this.link(task, dir, first, end));
    dir.forget();
  }

  /** The compiler's driver: its assembler text goes through a temporary file. */
  private *compile_and_assemble(dir: Vnode, f: number): Process {
    const text = `cc${this.name}.s`;
    yield* this.run(CC1, (task) => this.compile(task, dir, f, text));
    yield* this.run(AS, (task) => this.assemble(task, dir, f, text));
    yield* this.remove(this.tmp, text);
  }

  private *compile(task: Task, dir: Vnode, f: number, text: string): Process {
    const { size, tree } = this;
    yield* this.read(dir, `f${f}`);
    for (let d = 0; d < KERNEL_BUILD.header_dirs && d < size.dirs; d++) {
      const headers = tree.lookup(`d${d}`);
      if (typeof headers === 'number') continue;
      for (let h = first_file(size, d); h < first_file(size, d + 1); h++) {
        yield* this.read(headers, `f${h}`);
      }
      headers.forget();
    }
    yield* this.fill(task, KERNEL_BUILD.cc1, KERNEL_BUILD.page, true);
    yield* this.write(this.tmp, text, KERNEL_BUILD.assembler_text);
    yield* this.write(dir, `.f${f}.o.d`, KERNEL_BUILD.dependencies);
  }

  private *assemble(task: Task, dir: Vnode, f: number, text: string): Process {
    yield* this.read(this.tmp, text);
    yield* this.fill(task, KERNEL_BUILD.as, KERNEL_BUILD.small_page, false);
    yield* this.write(dir, `f${f}.o`, KERNEL_BUILD.object);
  }

  /** Turns the compiler's list of headers into a makefile. */
  private *fixdep(dir: Vnode, f: number): Process {
    yield* this.read(dir, `.f${f}.o.d`);
    yield* this.write(dir, `.f${f}.o.cmd`, KERNEL_BUILD.dependencies);
    yield* this.remove(dir, `.f${f}.o.d`);
  }

  private *link(task: Task, dir: Vnode, first: number, end: number): Process {
    for (let f = first; f < end; f += KERNEL_BUILD.compiled) yield* this.read(dir, `f${f}.o`);
    yield* this.fill(task, KERNEL_BUILD.ld, KERNEL_BUILD.small_page, false);
    yield* this.write(dir, 'built-in.o', KERNEL_BUILD.object);
  }

  private read(dir: Vnode, name: string): Process {
    return read_file(this.disk, this.journal, dir, name, this.buf);
  }

  private *write(dir: Vnode, name: string, blocks: readonly [number, number]): Process {
    this.disk.begin();
    const known = dir.lookup(name);
    const node = typeof known === 'number' ? dir.create(name, 0o644, ROOT) : known;
    if (typeof node === 'number') return;
    const file = node.open(O_WRONLY | O_TRUNC, ROOT);
    this.journal.name(dir as DiskVnode, node as DiskVnode);
    const wait = this.disk.wait();
    yield COST.open_cached;
    if (wait > 0) yield -wait;
    if (typeof file !== 'number') {
      const nr = this.prng.range(blocks[0], blocks[1]);
      for (let b = 0; b < nr; b++) file.write(this.buf, b * this.buf.length);
      yield nr * COST.read_cached;
      file.release();
    }
    node.forget();
  }

  private *remove(dir: Vnode, name: string): Process {
    const node = dir.lookup(name);
    if (typeof node === 'number') return;
    this.journal.name(dir as DiskVnode, node as DiskVnode);
    node.forget();
    dir.unlink(name);
    yield COST.open_cached;
  }

  /** Memory of a program, written from its beginning as an allocator that grows does. */
  private *fill(
    task: Task,
    peak: readonly [number, number],
    cost: number,
    compiler: boolean,
  ): Process {
    const { m, tools } = this;
    if (task.mm === null) return;
    const pages = this.prng.range(peak[0], peak[1]);
    const anon = MAP_PRIVATE | MAP_ANONYMOUS;
    const start = do_mmap(m, task.mm, null, 0, pages, PROT_READ | PROT_WRITE, anon);
    if (start < 0) return;
    let text = -1;
    if (compiler) {
      const file = new MmapFile(tools.mapping, '/usr/lib/cc1', 1, 8, 1);
      text = do_mmap(m, task.mm, file, 0, tools.pages, PROT_READ | PROT_EXEC, MAP_PRIVATE);
    }
    for (let i = 0; i < pages; i++) {
      this.disk.begin();
      // Locked by who writes it to swap: until that is done.
      while (access_page(m, task, start + i, true) === -EAGAIN) yield -1;
      // Now and then something from before is used again.
      if (i % 16 === 15) touch(m, task, start + (((i * 2654435761) >>> 0) % i), false);
      if (text >= 0) touch(m, task, text + ((i * 2) % tools.pages), false);
      const wait = this.disk.wait();
      if (!spend(m, cost)) yield cost;
      if (wait > 0) yield -wait;
    }
  }
}
