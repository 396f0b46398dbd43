/**
 * Measures one machine of GIB gibibytes in a process of its own and prints the nanoseconds of each
 * operation as JSON: size_once GIB. Most of memory is allocated in random order first, so that the
 * operations walk over all of it and pay the cache misses of its size.
 */

import '../mount/v8.ts';
import { boot } from '../src/machine.ts';
import { create_process } from '../src/mm/fork.ts';
import { do_madvise, MADV_DONTNEED } from '../src/mm/madvise.ts';
import { write_tag } from '../src/mm/memory.ts';
import type { Task } from '../src/mm/mm_types.ts';
import { do_mmap, PROT_READ, PROT_WRITE } from '../src/mm/mmap.ts';
import { hotPages, hugePages, RandomPages } from './core.ts';
import { median, nsPer } from './harness.ts';

const GIB = 2 ** 30;
const ROUNDS = 5;
const AREA = 16384;

const gib = Number(process.argv[2]);
const m = boot({ memory: gib * GIB });
const random = new RandomPages(m, Math.floor((gib * GIB * 0.8) / 4096));
const task = create_process(m, 'bench') as Task;
const at = do_mmap(m, task.mm!, null, 0, AREA, PROT_READ | PROT_WRITE, 0);

/** A page fault of a process, and the unmapping of the page. */
function faults(): number {
  return nsPer(AREA, () => {
    for (let i = 0; i < AREA; i++) write_tag(m, task, at + i, i);
    do_madvise(m, task.mm!, at, AREA, MADV_DONTNEED);
  });
}

const operations: Record<string, () => number> = {
  'order-0 alloc + free, hot': () => hotPages(m, 500_000),
  'order-0 alloc or free, random over 80 % of memory': () => random.round(300_000),
  'order-9 alloc + free': () => hugePages(m, 5000),
  'fault and unmap of an anonymous page': faults,
};
const figures: Record<string, number> = {};
for (const [name, round] of Object.entries(operations)) {
  round();
  figures[name] = median(Array.from({ length: ROUNDS }, round));
}
console.log(JSON.stringify(figures));
