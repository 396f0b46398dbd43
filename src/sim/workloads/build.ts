/**
 * Builds: workers that compile one file after the other, as the recorded third test has them.
 *
 * A worker forks a compiler, which reads a source, fills its memory page by page, writes an object
 * file in place of the last one of that name, and ends. Memory in use swings between a few and some ten
 * thousand pages, the page cache settles at the size of all objects.
 * Facts from golden s3 (vmstat while 451 attempts were made at 125 ms): 90,000 faults a second in
 * all, so 0.011 ms a page; 16,500 pages of anonymous memory on average with four workers, so
 * compilers of some 8,200 pages; 770 pages of objects written a second, so some 70 an object; the
 * cache stays at 34,800 pages, so some 450 objects; 2,700 pages of sources. The allocation trace
 * in ../shared/traces agrees with the mix: order 0, movable, in nine of ten events.
 */
import { disk_root } from '../../fs/disk/index.ts';
import { O_RDONLY, O_TRUNC, O_WRONLY, type Vnode } from '../../fs/vfs.ts';
import { EAGAIN } from '../../lib/errno.ts';
import type { Prng } from '../../lib/prng.ts';
import { do_exit } from '../../mm/fork.ts';
import { access_page } from '../../mm/memory.ts';
import type { Task } from '../../mm/mm_types.ts';
import { do_mmap, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../mm/mmap.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { COST } from './costs.ts';
import { spend, swap_io } from './kernel_tasks.ts';
import type { Process } from './scheduler.ts';
import { exec, type Program, run_image, type Shell, touch } from './userland.ts';

const ROOT = { uid: 0, gid: 0, pid: 1 };
const CC: Program = { name: 'cc', text: 120, data: 8, bss: 8, heap: 12, stack: 4 };

export const BUILD = {
  /** Pages of a compiler's memory: from, to. */
  anon: [3000, 13400],
  /** Pages of an object, and objects of all workers. */
  object: [40, 104],
  objects: 450,
  /** Pages of a source, and sources of all workers. */
  source: 24,
  sources: 112,
  /** Milliseconds to compute and touch one page. */
  page: 0.011,
} as const;

/** The sources, as files that are on the disk and not in memory. */
export function make_sources(m: Machine): Vnode {
  const dir = disk_root(m).mkdir('src', 0o755, ROOT) as Vnode;
  const page = 2 ** m.shape.page_shift;
  for (let i = 0; i < BUILD.sources; i++) {
    const node = dir.create(`s${i}`, 0o644, ROOT);
    // A hole reads like data, and costs the same memory.
    if (typeof node !== 'number') node.setattr({ size: BUILD.source * page }, ROOT);
  }
  return dir;
}

function* compile(
  m: Machine,
  shell: Shell,
  task: Task,
  prng: Prng,
  src: Vnode,
  out: Vnode,
  buf: Uint8Array,
): Process {
  yield shell.child_before_exec(task) * COST.fault;
  const image = exec(m, task, shell.root, CC);
  yield COST.exec;
  if (image !== null) {
    yield Math.max(0, run_image(m, task, image)) * COST.fault;
    const source = src.lookup(`s${prng.below(BUILD.sources)}`);
    const input = typeof source === 'number' ? source : source.open(O_RDONLY, ROOT);
    if (typeof input !== 'number') {
      for (let i = 0; i < BUILD.source; i++) {
        input.read(buf, i * buf.length);
        yield COST.write_block;
      }
      input.release();
    }
    yield* fill_memory(m, task, prng.range(BUILD.anon[0], BUILD.anon[1]));
    const name = `o${prng.below(BUILD.objects)}`;
    const known = out.lookup(name);
    const node = typeof known === 'number' ? out.create(name, 0o644, ROOT) : known;
    const output = typeof node === 'number' ? node : node.open(O_WRONLY | O_TRUNC, ROOT);
    if (typeof output !== 'number') {
      const pages = prng.range(BUILD.object[0], BUILD.object[1]);
      for (let i = 0; i < pages; i++) {
        output.write(buf, i * buf.length);
        yield COST.write_block;
      }
      output.release();
    }
  }
  yield COST.exit;
  if (m.tasks.get(task.pid) === task) do_exit(m, task, 0);
}

/** Maps memory and writes it from its beginning, as an allocator that grows does. */
function* fill_memory(m: Machine, task: Task, pages: number): Process {
  if (task.mm === null) return;
  const flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const start = do_mmap(m, task.mm, null, 0, pages, PROT_READ | PROT_WRITE, flags);
  if (start < 0) return;
  for (let i = 0; i < pages; i++) {
    const io = swap_io(m);
    // Locked by who writes it to swap: until that is done.
    while (access_page(m, task, start + i, true) === -EAGAIN) yield -1;
    // Now and then something from before is used again.
    if (i % 64 === 63) touch(m, task, start + (((i * 2654435761) >>> 0) % i), false);
    if (!spend(m, BUILD.page)) yield BUILD.page;
    const wait = swap_io(m) - io;
    if (wait > 0) yield -wait;
  }
}

/** Compiles for ever. */
export function* build(m: Machine, shell: Shell, seed: string, src: Vnode, out: Vnode): Process {
  const prng = m.prng.fork(seed);
  const buf = new Uint8Array(2 ** m.shape.page_shift);
  for (;;) {
    const child = shell.fork();
    yield COST.fork + shell.note_job(0) * COST.fault;
    if (child !== null) yield* compile(m, shell, child, prng, src, out, buf);
    else yield -10;
  }
}
