/**
 * The load of the first test: 4096 short-lived processes write files while a walk goes on.
 *
 * A shell starts one process after the other in the background; each is forked, becomes another
 * program, creates a file and writes it in blocks, and ends. Whoever is alive shares one processor
 * (scheduler.ts), so that kernel memory, process memory, metadata and file data of many processes
 * interleave as finely as on the recorded machines. Then every second file is removed.
 * Facts: reference 13.1, 13.7 and golden t1/README (commands, counts, sizes); programs' sizes are
 * chosen so that faults and page allocations per process are the recorded ones (126 to 128 and 65; on
 * 32 bits 108 to 110 and 45).
 * Writers change a journal (journal.ts), and wait for its commits; the shell that starts them does not.
 */
import { type DiskVnode, disk_of, disk_root } from '../../fs/disk/index.ts';
import { O_WRONLY, type Vnode } from '../../fs/vfs.ts';
import { __bread, brelse } from '../../mm/buffer.ts';
import { do_exit } from '../../mm/fork.ts';
import type { Task } from '../../mm/mm_types.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { COST } from './costs.ts';
import type { Journal } from './journal.ts';
import type { Process, Scheduler } from './scheduler.ts';
import { exec, type Program, run_image, type Shell } from './userland.ts';

const ROOT = { uid: 0, gid: 0, pid: 1 };

const DD: Program = { name: 'dd', text: 78, data: 6, bss: 6, heap: 12, stack: 4 };
const FIND: Program = { name: 'find', text: 60, data: 4, bss: 4, heap: 12, stack: 3 };

export interface FillOptions {
  /** Files, each by a process of its own, and blocks of a page in each. */
  files: number;
  blocks: number;
}

/** Bytes of a shell's list for one job: pid, status, flags, three pointers. */
function job_bytes(m: Machine): number {
  return m.shape.machine === 'x86' ? 28 : 48;
}

function* dd(
  m: Machine,
  shell: Shell,
  task: Task,
  dir: Vnode,
  name: string,
  blocks: number,
  buf: Uint8Array,
  journal: Journal,
): Process {
  yield shell.child_before_exec(task) * COST.fault + 0.05;
  const image = exec(m, task, shell.root, DD);
  yield COST.exec;
  if (image !== null) {
    yield Math.max(0, run_image(m, task, image)) * COST.fault;
    yield* journal.access();
    const node = dir.create(name, 0o644, ROOT);
    if (typeof node !== 'number') {
      journal.name(dir as DiskVnode, node as DiskVnode);
      const file = node.open(O_WRONLY, ROOT);
      yield COST.create;
      if (typeof file !== 'number') {
        for (let b = 0; b < blocks; b++) {
          yield* journal.access();
          file.write(buf, b * buf.length);
          journal.data(node as DiskVnode);
          yield COST.write_block;
        }
        file.release();
      }
      node.forget();
    }
  }
  yield COST.exit;
  if (m.tasks.get(task.pid) === task) do_exit(m, task, 0);
}

function* start_all(
  s: Scheduler,
  shell: Shell,
  dir: Vnode,
  journal: Journal,
  o: FillOptions,
): Process {
  const { m } = s;
  const buf = new Uint8Array(2 ** m.shape.page_shift);
  for (let i = 0; i < o.files; i++) {
    const child = shell.fork();
    yield COST.fork;
    if (child !== null) s.start(dd(m, shell, child, dir, `f${i}`, o.blocks, buf, journal));
    yield shell.note_job(job_bytes(m)) * COST.fault + 0.05;
  }
}

/** A process that looks at every file of the tree, over and over. */
export class Walk {
  readonly process: Process;
  private readonly m: Machine;
  private readonly task: Task | null;

  constructor(m: Machine, shell: Shell) {
    this.m = m;
    this.task = shell.fork();
    this.process = walk(m, shell, this.task);
  }

  kill(s: Scheduler): void {
    s.stop(this.process);
    if (this.task !== null && this.m.tasks.get(this.task.pid) === this.task) {
      do_exit(this.m, this.task, 9);
    }
  }
}

function* walk(m: Machine, shell: Shell, child: Task | null): Process {
  if (child === null) return;
  shell.child_before_exec(child);
  const image = exec(m, child, shell.root, FIND);
  if (image !== null) run_image(m, child, image);
  yield COST.exec;
  const root = disk_root(m);
  const fs = disk_of(m)!;
  for (;;) {
    const dirs = root.readdir();
    if (typeof dirs === 'number') return;
    for (const d of dirs) {
      if (!d.name.startsWith('tree')) continue;
      const node = root.lookup(d.name);
      yield COST.stat;
      if (typeof node === 'number') continue;
      for (const block of fs.inodes.get(d.ino)!.directory!.blocks) {
        const bh = __bread(m, fs.bdev, block, true);
        if (bh > 0) brelse(m, bh);
      }
      const names = node.readdir();
      if (typeof names === 'number') continue;
      for (const f of names) {
        const file = node.lookup(f.name);
        if (typeof file !== 'number') file.forget();
        yield COST.stat;
      }
      node.forget();
    }
    yield COST.stat;
  }
}

/**
 * Starts the processes and waits for all of them; what else the scheduler has goes on. Returns the
 * most that were alive at once.
 */
export function fill(s: Scheduler, shell: Shell, journal: Journal, o: FillOptions): number {
  const { m } = s;
  const dir = disk_root(m).mkdir('d', 0o755, ROOT) as Vnode;
  const others = s.alive;
  let most = 0;
  s.start(start_all(s, shell, dir, journal, o));
  while (s.alive > others) {
    s.slice();
    most = Math.max(most, s.alive - others);
  }
  return most;
}

function* remove(dir: Vnode, files: number): Process {
  for (let i = 0; i < files; i += 2) {
    dir.unlink(`f${i}`);
    yield COST.unlink;
  }
}

/** Removes every second file; `others` processes go on meanwhile. */
export function thin_out(s: Scheduler, files: number, others: number): void {
  const dir = disk_root(s.m).lookup('d') as Vnode;
  s.start(remove(dir, files));
  s.run(() => s.alive <= others);
}
