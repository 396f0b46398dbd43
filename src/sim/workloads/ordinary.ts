/**
 * The ordinary benchmarks of the second test: a build, a network, a file and a database benchmark,
 * each as what it asks of memory. None wants huge pages.
 *
 * - build (kernbench): make starts shells, compilers and assemblers, a linker reads all objects;
 * - network (netperf over loopback): streams of messages; a sender allocates buffers, a receiver frees
 *   them in order, some are in flight;
 * - file (iozone): a file larger than memory is written, written again, read, and used at random;
 * - database (sysbench): a server with a buffer pool reads rows of a data file at random, changes
 *   some, appends to a log and waits for it to be written.
 *
 * Facts: ../shared/traces (a compile job, kmem events): 68 page allocations for a small tool (quartiles
 * 67, 69), 20,000 to 29,000 for a C++ compiler of today, four of five of order 0 and movable, one of
 * five of order 0 and unmovable; the kernel itself asks for orders up to 3 (the few larger ones are page
 * cache of large folios, which 2.6.35 has not). Compilers of C of the recorded third test: golden s3,
 * see workloads/build.ts. Loopback has an MTU of 16436 bytes, so a datagram takes a buffer of 32 KiB
 * (order 3); a stream copies into single pages. Record and row sizes are the benchmarks' defaults.
 */
import { disk_root } from '../../fs/disk/index.ts';
import { O_RDWR, O_TRUNC, O_WRONLY, type OpenFile, type Vnode } from '../../fs/vfs.ts';
import { BUG_ON } from '../../lib/bug.ts';
import { is_job, run_job } from '../../lib/kthread.ts';
import type { Prng } from '../../lib/prng.ts';
import { do_exit } from '../../mm/fork.ts';
import { GFP_ATOMIC, GFP_KERNEL } from '../../mm/gfp.ts';
import type { Task } from '../../mm/mm_types.ts';
import {
  do_mmap,
  do_munmap,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  PROT_READ,
  PROT_WRITE,
} from '../../mm/mmap.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { kfree, kmalloc } from '../../mm/slub.ts';
import { COST } from './costs.ts';
import { swap_io } from './kernel_tasks.ts';
import type { Process, Scheduler } from './scheduler.ts';
import { exec, type Program, run_image, type Shell, touch } from './userland.ts';

/** The parameters of all four, for every machine. Pages are of 4 KiB, times milliseconds. */
export const ORDINARY = {
  build: {
    /** Objects to make, and compilers at once (make -j). */
    objects: 24,
    jobs: 4,
    /** Pages of a compiler's memory, of its object, of a source. */
    compiler: [3000, 13400],
    object: [40, 104],
    source: 24,
    /** To compute and touch one page of a compiler's memory. */
    page: 0.011,
  },
  network: {
    /** Messages of each kind. */
    messages: 6000,
    /** A stream's message: pages, and the bytes of each packet's head. */
    stream_pages: 4,
    head_bytes: 256,
    /** A datagram's buffer (loopback's MTU and what the kernel adds), and an Ethernet frame's. */
    datagram_bytes: 16436 + 400,
    frame_bytes: 1500 + 400,
    /** What describes a packet (struct sk_buff). */
    skb_bytes: 232,
    /** Packets that are under way at most: a socket's buffer of 120 KiB. */
    in_flight: 48,
    /** To send or receive 4 KiB. */
    page: 0.02,
  },
  file: {
    /** The file, in percent of memory; pages of a record; records of the random part in percent. */
    percent: 110,
    record: 16,
    random: 40,
  },
  database: {
    /** Percent of memory: buffer pool, data file. */
    pool: 35,
    data: 90,
    clients: 8,
    transactions: 2500,
    /** Rows read in a transaction, and of a hundred those that are changed. */
    reads: 14,
    writes: 4,
    /** Of a hundred reads so many go to a tenth of the data. */
    hot: 80,
    /** Pages of a sort buffer, one in so many transactions. */
    sort: [16, 64],
    sort_every: 10,
  },
} as const;

/** In this order: the file benchmark leaves memory full of its pages, as memory is in use. */
export const ORDINARY_NAMES = ['file', 'network', 'database', 'build'] as const;
export type OrdinaryName = (typeof ORDINARY_NAMES)[number];

const ROOT = { uid: 0, gid: 0, pid: 1 };
const TOOL: Program = { name: 'sh', text: 40, data: 6, bss: 4, heap: 12, stack: 4 };
const CC: Program = { name: 'cc1', text: 120, data: 8, bss: 8, heap: 12, stack: 4 };
const AS: Program = { name: 'as', text: 60, data: 6, bss: 6, heap: 200, stack: 4 };
const SERVER: Program = { name: 'mysqld', text: 200, data: 40, bss: 20, heap: 400, stack: 6 };

/** Starts a benchmark; the result says how much of it is done. */
export function start_ordinary(
  s: Scheduler,
  shell: Shell,
  name: OrdinaryName,
): { readonly total: number; done(): number } {
  const { m } = s;
  const prng = m.prng.fork(name);
  const work = new Work(m, shell, prng);
  switch (name) {
    case 'build':
      for (let i = 0; i < ORDINARY.build.jobs; i++) s.start(make(work));
      return { total: ORDINARY.build.objects + 1, done: () => work.done };
    case 'network':
      s.start(stream(work));
      s.start(datagrams(work));
      return { total: 2 * ORDINARY.network.messages, done: () => work.done };
    case 'file':
      s.start(file_benchmark(work));
      return { total: 4, done: () => work.done };
    case 'database':
      database(work, s);
      return { total: ORDINARY.database.transactions, done: () => work.done };
  }
}

/** What the processes of one benchmark share. */
class Work {
  readonly m: Machine;
  readonly shell: Shell;
  readonly prng: Prng;
  readonly buf: Uint8Array;
  done = 0;
  /** Jobs handed out. */
  taken = 0;
  private io: number;

  constructor(m: Machine, shell: Shell, prng: Prng) {
    this.m = m;
    this.shell = shell;
    this.prng = prng;
    this.buf = new Uint8Array(2 ** m.shape.page_shift);
    this.io = swap_io(m);
  }

  /**
   * Begins and ends a piece of work: waiting for swap costs its time. Reclaim and compaction that
   * happened for it do, too: the scheduler puts the kernel's work, both scanners', on the clock.
   */
  begin(): void {
    this.io = swap_io(this.m);
  }

  used(ms: number): number {
    return ms + swap_io(this.m) - this.io;
  }

  create(name: string, pages: number): Vnode {
    const node = disk_root(this.m).create(name, 0o644, ROOT);
    BUG_ON(typeof node === 'number', 'ordinary: no file');
    const file = node as Vnode;
    // A hole reads like data, and costs the same memory.
    if (pages > 0) file.setattr({ size: pages * this.buf.length }, ROOT);
    return file;
  }

  open(node: Vnode, flags: number): OpenFile {
    const file = node.open(flags, ROOT);
    BUG_ON(typeof file === 'number', 'ordinary: no memory to open a file');
    return file as OpenFile;
  }

  /** `count` pages from `index` on, by system calls. */
  *transfer(file: OpenFile, index: number, count: number, write: boolean): Process {
    const { buf } = this;
    for (let i = index; i < index + count; i++) {
      this.begin();
      const result = write ? file.write(buf, i * buf.length) : file.read(buf, i * buf.length);
      if (is_job(result)) run_job(result);
      yield this.used(COST.write_block);
    }
  }

  sync(file: OpenFile): void {
    const result = file.fsync(false);
    if (is_job(result)) run_job(result);
  }

  /** A child that runs a program; null without memory. */
  *run(program: Program): Generator<number, Task | null, void> {
    const { m, shell } = this;
    const task = shell.fork();
    yield COST.fork;
    if (task === null) return null;
    yield shell.child_before_exec(task) * COST.fault;
    const image = exec(m, task, shell.root, program);
    yield COST.exec;
    if (image !== null) yield Math.max(0, run_image(m, task, image)) * COST.fault;
    return task;
  }

  *exit(task: Task): Process {
    yield COST.exit;
    if (this.m.tasks.get(task.pid) === task) do_exit(this.m, task, 0);
  }

  /** Maps `pages` of memory and writes them; the first page, or -1. */
  *fill(task: Task, pages: number, ms: number): Generator<number, number, void> {
    if (task.mm === null) return -1;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS;
    const start = do_mmap(this.m, task.mm, null, 0, pages, PROT_READ | PROT_WRITE, flags);
    for (let i = 0; start >= 0 && i < pages; i++) {
      this.begin();
      touch(this.m, task, start + i, true);
      yield this.used(ms);
    }
    return start;
  }
}

/** One job slot of make: shell, compiler, assembler for each object; the last one links. */
function* make(w: Work): Process {
  const { build } = ORDINARY;
  for (let i = w.taken++; i < build.objects; i = w.taken++) {
    const sh = yield* w.run(TOOL);
    const cc = yield* w.run(CC);
    if (cc !== null) {
      yield* w.transfer(w.open(w.create(`s${i}.c`, build.source), O_RDWR), 0, build.source, false);
      yield* w.fill(cc, w.prng.range(build.compiler[0], build.compiler[1]), build.page);
      yield* w.exit(cc);
    }
    const as = yield* w.run(AS);
    const pages = w.prng.range(build.object[0], build.object[1]);
    const object = w.open(w.create(`o${i}.o`, 0), O_WRONLY | O_TRUNC);
    yield* w.transfer(object, 0, pages, true);
    object.release();
    if (as !== null) yield* w.exit(as);
    if (sh !== null) yield* w.exit(sh);
    if (++w.done === build.objects) yield* link(w);
  }
}

function* link(w: Work): Process {
  const ld = yield* w.run(AS);
  const out = w.open(w.create('vmlinux', 0), O_WRONLY);
  let at = 0;
  for (let i = 0; i < ORDINARY.build.objects; i++) {
    const node = disk_root(w.m).lookup(`o${i}.o`);
    if (typeof node === 'number') continue;
    const pages = Math.ceil(node.getattr().size / w.buf.length);
    const object = w.open(node, O_RDWR);
    yield* w.transfer(object, 0, pages, false);
    object.release();
    if (ld !== null) yield* w.fill(ld, pages, ORDINARY.build.page);
    yield* w.transfer(out, at, pages, true);
    at += pages;
  }
  out.release();
  if (ld !== null) yield* w.exit(ld);
  w.done++;
}

/** Packets under way: what each holds, first in, first out. */
class Flight {
  private readonly m: Machine;
  private readonly packets: { readonly pieces: number[]; readonly pages: number[] }[] = [];

  constructor(m: Machine) {
    this.m = m;
  }

  /** A packet of pieces and single pages; what there is no memory for is lost, as on a network. */
  send(sizes: readonly number[], nr_pages: number, gfp: number): void {
    const { m } = this;
    const pieces: number[] = [];
    for (const size of sizes) {
      const piece = kmalloc(m, size, gfp);
      if (piece !== 0) pieces.push(piece);
    }
    const pages: number[] = [];
    for (let i = 0; i < nr_pages; i++) {
      const pfn = m.kernel.alloc_pages(m, gfp, 0);
      if (pfn >= 0) pages.push(pfn);
    }
    this.packets.push({ pieces, pages });
  }

  /** Receives until at most `left` packets are under way. */
  receive(left: number): void {
    while (this.packets.length > left) {
      const { pieces, pages } = this.packets.shift()!;
      for (const piece of pieces) kfree(this.m, piece);
      for (const pfn of pages) this.m.kernel.__free_pages(this.m, pfn, 0);
    }
  }
}

function* stream(w: Work): Process {
  const { network } = ORDINARY;
  const flight = new Flight(w.m);
  for (let i = 0; i < network.messages; i++) {
    w.begin();
    flight.send([network.skb_bytes, network.head_bytes], network.stream_pages, GFP_KERNEL);
    // The acknowledgement, in a frame that the receiving side takes without waiting.
    flight.send([network.skb_bytes, network.frame_bytes], 0, GFP_ATOMIC);
    flight.receive(w.prng.below(network.in_flight));
    w.done++;
    yield w.used(network.stream_pages * 2 * network.page);
  }
  flight.receive(0);
}

function* datagrams(w: Work): Process {
  const { network } = ORDINARY;
  const flight = new Flight(w.m);
  for (let i = 0; i < network.messages; i++) {
    w.begin();
    flight.send([network.skb_bytes, network.datagram_bytes], 0, GFP_KERNEL);
    flight.receive(w.prng.below(network.in_flight / 4));
    w.done++;
    yield w.used(network.stream_pages * 2 * network.page);
  }
  flight.receive(0);
}

function* file_benchmark(w: Work): Process {
  const { percent, record, random } = ORDINARY.file;
  const records = Math.floor((w.m.totalram_pages * percent) / 100 / record);
  const file = w.open(w.create('iozone.tmp', 0), O_RDWR);
  for (const write of [true, false]) {
    yield* w.transfer(file, 0, records * record, write);
    w.done++;
  }
  for (const write of [false, true]) {
    for (let i = 0; i < (records * random) / 100; i++) {
      yield* w.transfer(file, w.prng.below(records) * record, record, write);
    }
    w.done++;
  }
  // It stays, as iozone -w leaves it: the others run in memory that is full of a cache.
  file.release();
}

/** The server's threads: they share its memory, its data file and its log. */
function database(w: Work, s: Scheduler): void {
  const { database: db } = ORDINARY;
  const pages = w.m.totalram_pages;
  const data = w.create('ibdata1', Math.floor((pages * db.data) / 100));
  const log = w.open(w.create('ib_logfile0', 0), O_RDWR);
  const shared = { server: null as Task | null, pool: -1, log, log_end: 0, clients: 0 };
  s.start(
    (function* (): Process {
      const server = yield* w.run(SERVER);
      BUG_ON(server === null, 'ordinary: no memory for the server');
      shared.server = server;
      shared.pool = yield* w.fill(server!, Math.floor((pages * db.pool) / 100), COST.fault);
      for (let c = 0; c < db.clients; c++) {
        shared.clients++;
        s.start(client(w, shared, w.open(data, O_RDWR)));
      }
      while (shared.clients > 0) yield -5;
      yield* w.exit(server!);
    })(),
  );
}

interface Server {
  server: Task | null;
  pool: number;
  log: OpenFile;
  log_end: number;
  clients: number;
}

function* client(w: Work, shared: Server, data: OpenFile): Process {
  const { database: db } = ORDINARY;
  const { m, prng } = w;
  const server = shared.server!;
  const pool = Math.floor((m.totalram_pages * db.pool) / 100);
  const rows = Math.floor((m.totalram_pages * db.data) / 100);
  while (w.taken < db.transactions) {
    w.taken++;
    for (let r = 0; r < db.reads; r++) {
      const hot = prng.below(100) < db.hot;
      const row = prng.below(hot ? Math.floor(rows / 10) : rows);
      const write = r < db.writes;
      w.begin();
      // What the pool holds is used there; the rest is read from the file into the pool.
      touch(m, server, shared.pool + (row % pool), write);
      yield w.used(COST.fault);
      if (row >= pool || write) yield* w.transfer(data, row, 1, write && row % 4 === 0);
    }
    if (w.taken % db.sort_every === 0) {
      const pages = prng.range(db.sort[0], db.sort[1]);
      const start = yield* w.fill(server, pages, COST.fault);
      if (start >= 0 && server.mm !== null) do_munmap(m, server.mm, start, pages);
    }
    yield* w.transfer(shared.log, shared.log_end++ % 1024, 1, true);
    // One wait for the disk serves all who came meanwhile.
    if (w.taken % db.clients === 0) {
      w.sync(shared.log);
      yield -1;
    }
    w.done++;
  }
  data.release();
  shared.clients--;
}
