/**
 * Workloads of simulated processes, described by a line of text: what `spawn` accepts.
 *
 * A line is a list of words. Steps are separated by `+` and run in order in one new process (or an
 * existing one, with pid=N); words with `=` are options, of the step they follow or of the process.
 * WORKLOAD_HELP below is the reference, and what `cat spawn` prints. Everything random comes from
 * the machine's seed and the option seed=N.
 * Pages carry content tags that prove themselves: the upper half names the process that wrote the
 * page, the lower half follows from that and the address. verify_process checks them, so a page
 * that migration lost, swapped or shared wrongly is found.
 */
import { EAGAIN, EINVAL, EIO, ENOMEM, ESRCH } from '../lib/errno.ts';
import type { Job } from '../lib/kthread.ts';
import {
  create_process,
  do_execve,
  do_exit_job,
  do_fork,
  finish_call,
  is_alive,
  run_as,
} from '../mm/fork.ts';
import { GFP_KERNEL } from '../mm/gfp.ts';
import { hstate_vma, huge_page_frame, huge_pte, is_vm_hugetlb_page } from '../mm/hugetlb.ts';
import {
  do_madvise,
  do_mlock,
  MADV_COLLAPSE,
  MADV_DONTNEED,
  MADV_HUGEPAGE,
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
} from '../mm/madvise.ts';
import { access_page, write_tag } from '../mm/memory.ts';
import {
  type MmapFile,
  MPOL_BIND,
  MPOL_DEFAULT,
  MPOL_INTERLEAVE,
  MPOL_PREFERRED,
  type Task,
  VM_WRITE,
  type VmArea,
  type vpn_t,
} from '../mm/mm_types.ts';
import {
  do_brk,
  do_mmap,
  do_mmap_hugetlb,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from '../mm/mmap.ts';
import type { Machine } from '../mm/mmzone.ts';
import { PageAnon, type pfn_t } from '../mm/page.ts';
import { get_pte, next_mapped, pte_pfn, pte_present } from '../mm/page_table.ts';

export const WORKLOAD_HELP = `# Write a line here to start a simulated process; read the file to get its pid.
# A line is one or more steps, separated by +, and options of the form key=value.
# steps:
#   anon SIZE      private memory; every page is written
#   heap SIZE      the same, by brk
#   read SIZE      private memory that is only read (maps the page of zeroes)
#   mlock SIZE     private memory, locked
#   shared SIZE    shared memory; children of fork share it with their parent
#   map PATH [SIZE]  maps a file of the disk and touches it; mode=read (default), private or shared
#   kernel COUNT   blocks of unmovable kernel memory, order=N (default 0)
#   huge COUNT     huge pages of the default size, all promised; touch=N of them (default all)
#   free PATTERN   gives pages of the last region back (madvise), as pattern= does
#   collapse       makes transparent huge pages of the last region (madvise)
#   write          writes every present page of the last region again
#   verify         fails with EIO unless every page of the process holds what was written;
#                  reads what is swapped out
#   exec           throws the address space away, as a new program does
#   fork STEP      does the step, then forks children=N (default 1); each child writes cow=PCT percent
# sizes: bytes, or with K, M, G, or p for pages
# pattern=P for anon, heap, map, mlock: which pages are given back after they were touched
#   every:N every Nth, random:PCT, runs:N every second run of N, low:PCT, high:PCT
# options of the process: name=TEXT node=N policy=bind|prefer|interleave count=N seed=N pid=N
#   cpu=N runs it on that CPU: its node is where memory comes from; merge=1 advises KSM to merge
#   thp=1 asks for transparent huge pages (madvise), thp=0 declines them
#   same=N pages hold one of N contents, which all processes with the same N have: what KSM merges
# examples:
#   anon 64M
#   anon 256M pattern=every:2 name=fragmenter
#   fork anon 16M children=3 cow=50
#   mlock 8M node=1 + kernel 100 order=1
`;

/** What a line asks for. Sizes are pages. */
interface Step {
  kind: string;
  size: number;
  path: string;
  options: Map<string, string>;
}

interface Spec {
  steps: Step[];
  fork: boolean;
  options: Map<string, string>;
}

/** Options that belong to the process whatever step they follow. */
const PROCESS_OPTIONS = [
  'name',
  'node',
  'policy',
  'count',
  'seed',
  'pid',
  'children',
  'cow',
  'merge',
  'thp',
  'same',
  'cpu',
];
const STEP_OPTIONS = ['pattern', 'mode', 'order', 'touch'];
const KINDS = [
  'anon',
  'heap',
  'read',
  'mlock',
  'shared',
  'map',
  'kernel',
  'huge',
  'free',
  'collapse',
  'write',
  'verify',
  'exec',
];

/** What a text that cannot be carried out is answered with: errno and one line. */
class SpecError extends Error {
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}

/** Pages that a size means, rounded up; -1 for what is no size. */
export function parse_size(m: Machine, text: string): number {
  const match = /^(\d+)([KMGkmgp]?)$/.exec(text);
  if (match === null) return -1;
  const value = Number(match[1]);
  const unit = match[2]!.toLowerCase();
  if (unit === 'p') return value;
  const factor = unit === 'k' ? 2 ** 10 : unit === 'm' ? 2 ** 20 : unit === 'g' ? 2 ** 30 : 1;
  return Math.ceil((value * factor) / 2 ** m.shape.page_shift);
}

function size_of(m: Machine, kind: string, text: string | undefined): number {
  if (text === undefined) throw new SpecError(EINVAL, `${kind}: a size is missing, as in 64M`);
  const pages = parse_size(m, text);
  if (pages <= 0 || pages >= 2 ** 30) {
    throw new SpecError(
      EINVAL,
      `${kind}: '${text}' is not a size (like 65536, 64K, 16M, 1G, 300p)`,
    );
  }
  return pages;
}

function parse_spec(m: Machine, text: string): Spec {
  const spec: Spec = { steps: [], fork: false, options: new Map() };
  for (const part of text.trim().split(/\s\+\s/)) {
    const words: string[] = [];
    const options = new Map<string, string>();
    for (const word of part.trim().split(/\s+/)) {
      const at = word.indexOf('=');
      if (at < 0) {
        words.push(word);
        continue;
      }
      const key = word.slice(0, at);
      if (PROCESS_OPTIONS.includes(key)) spec.options.set(key, word.slice(at + 1));
      else if (STEP_OPTIONS.includes(key)) options.set(key, word.slice(at + 1));
      else throw new SpecError(EINVAL, `unknown option '${key}'`);
    }
    if (words[0] === 'fork') {
      spec.fork = true;
      words.shift();
    }
    const kind = words.shift();
    if (kind === undefined || kind === '') continue;
    if (!KINDS.includes(kind)) throw new SpecError(EINVAL, `unknown step '${kind}'`);
    spec.steps.push(parse_step(m, kind, words, options));
    if (words.length > 0) throw new SpecError(EINVAL, `${kind}: '${words[0]}' is too much`);
  }
  if (spec.steps.length === 0 && !spec.fork && !spec.options.has('name')) {
    throw new SpecError(EINVAL, 'nothing to do: read this file for what can be asked');
  }
  return spec;
}

/** Takes a step's own words off `words`. */
function parse_step(m: Machine, kind: string, words: string[], options: Map<string, string>): Step {
  const step: Step = { kind, size: 0, path: '', options };
  switch (kind) {
    case 'map':
      step.path = words.shift() ?? '';
      if (step.path === '') throw new SpecError(EINVAL, 'map: a path is missing');
      if (words.length > 0) step.size = size_of(m, kind, words.shift());
      break;
    case 'kernel':
    case 'huge':
      step.size = Number(words.shift() ?? '1');
      if (!Number.isInteger(step.size) || step.size < 0) {
        throw new SpecError(EINVAL, `${kind}: the count is not a number`);
      }
      break;
    case 'free':
      options.set('pattern', words.shift() ?? 'all');
      break;
    case 'collapse':
    case 'write':
    case 'verify':
    case 'exec':
      break;
    default:
      step.size = size_of(m, kind, words.shift());
  }
  const pattern = options.get('pattern');
  if (pattern !== undefined) parse_pattern(pattern);
  return step;
}

interface Pattern {
  kind: string;
  n: number;
}

function parse_pattern(text: string): Pattern {
  const match = /^(all|none|every|random|runs|low|high)(?::(\d+))?$/.exec(text);
  const kind = match?.[1] ?? '';
  const n = Number(match?.[2] ?? '0');
  const bare = kind === 'all' || kind === 'none';
  const percent = kind === 'random' || kind === 'low' || kind === 'high';
  if (match === null || (!bare && n <= 0) || (percent && n > 100)) {
    throw new SpecError(EINVAL, `'${text}' is no pattern (every:2, random:50, runs:64, low:50)`);
  }
  return { kind, n };
}

function number_option(
  spec: Spec,
  key: string,
  fallback: number,
  min: number,
  max: number,
): number {
  const text = spec.options.get(key);
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new SpecError(EINVAL, `${key}=${text}: a whole number from ${min} to ${max} is needed`);
  }
  return value;
}

// ---- content tags

/** What the page at `vpn` holds after process `pid` wrote it: never 0. */
export function workload_tag(pid: number, vpn: vpn_t): number {
  let h = Math.imul(vpn ^ Math.imul(pid, 0x9e3779b1), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((pid << 16) | ((h >>> 16) & 0xffff)) >>> 0;
}

/** Stands for the writer in the contents of option same: no process has this number. */
const SAME_WRITER = 0xffff;

/** What the page at `vpn` holds after this process wrote it. */
function content_of(task: Task, vpn: vpn_t): number {
  if (task.same === 0) return workload_tag(task.pid, vpn);
  return ((SAME_WRITER << 16) | (vpn % task.same)) >>> 0;
}

/** What verify_process found. */
export interface Verified {
  checked: number;
  bad: number;
  first_bad: vpn_t | -1;
}

/** Areas that hold what workloads write: anonymous ones and shared memory, without the stack. */
function verifiable(task: Task): VmArea[] {
  const mm = task.mm;
  if (mm === null) return [];
  return mm.mmap.filter(
    (vma) => (vma.vm_file === null || is_shmem(vma)) && vma.vm_end <= mm.start_stack,
  );
}

/** Huge pages: the first frame of each is what workloads write to. */
function verify_huge_pages(m: Machine, task: Task, found: Verified): void {
  for (const vma of task.mm?.mmap ?? []) {
    if (!is_vm_hugetlb_page(vma)) continue;
    for (let vpn = vma.vm_start; vpn < vma.vm_end; vpn += 2 ** hstate_vma(m, vma).order) {
      const pfn = huge_page_frame(m, task.mm!, vpn);
      // A page that was only read, or not at all.
      if (pfn >= 0 && m.contents.get_tag(pfn) !== 0) {
        verify_frame(m, task, pfn, vpn, false, found);
      }
    }
  }
}

const is_shmem = (vma: VmArea): boolean => vma.vm_file?.mapping.a_ops.name === 'shmem';

/** Looks at one page, if it is present and holds what was written to it. */
function verify_page(m: Machine, task: Task, vma: VmArea, vpn: vpn_t, found: Verified): void {
  const pte = get_pte(task.mm!, vpn);
  if (!pte_present(pte) || pte_pfn(pte) === m.zero_pfn) return;
  const shared = is_shmem(vma);
  if (!shared && !PageAnon(m.memmap, pte_pfn(pte))) return;
  verify_frame(m, task, pte_pfn(pte), vpn, shared, found);
}

function verify_frame(
  m: Machine,
  task: Task,
  pfn: pfn_t,
  vpn: vpn_t,
  shared: boolean,
  found: Verified,
): void {
  const tag = m.contents.get_tag(pfn);
  found.checked++;
  const writer = tag >>> 16;
  const known = shared || task.lineage.includes(writer);
  if (known && tag === workload_tag(writer, vpn)) return;
  if (writer === SAME_WRITER && tag === content_of(task, vpn)) return;
  if (found.bad++ === 0) found.first_bad = vpn;
}

/**
 * Looks at every present page of a process that is anonymous or shared memory: it must hold what this
 * process, or one that it was forked from, wrote there (shared: any process). Nothing is faulted in.
 */
export function verify_process(m: Machine, task: Task): Verified {
  const found: Verified = { checked: 0, bad: 0, first_bad: -1 };
  for (const vma of verifiable(task)) {
    const { vm_end } = vma;
    let vpn = next_mapped(task.mm!, vma.vm_start, vm_end);
    for (; vpn < vm_end; vpn = next_mapped(task.mm!, vpn + 1, vm_end)) {
      verify_page(m, task, vma, vpn, found);
    }
  }
  verify_huge_pages(m, task, found);
  return found;
}

/** The same as a process itself does it: pages that are swapped out are read back. */
function* verify_all(m: Machine, task: Task): Job<void> {
  const found: Verified = { checked: 0, bad: 0, first_bad: -1 };
  for (const vma of verifiable(task)) {
    const { vm_end } = vma;
    let vpn = next_mapped(task.mm!, vma.vm_start, vm_end);
    for (; vpn < vm_end; vpn = next_mapped(task.mm!, vpn + 1, vm_end)) {
      // Only who has memory that was swapped out changes anything by looking.
      const pte = get_pte(task.mm!, vpn);
      if (pte !== 0 && !pte_present(pte)) yield* access(m, task, vpn, false, 'verify');
      verify_page(m, task, vma, vpn, found);
      if (vpn % SLICE !== SLICE - 1) continue;
      yield;
      check_alive(m, task);
    }
  }
  verify_huge_pages(m, task, found);
  const { checked, bad, first_bad } = found;
  if (bad === 0) return;
  const where = `the first at page 0x${first_bad.toString(16)}`;
  throw new SpecError(EIO, `verify: ${bad} of ${checked} pages are wrong, ${where}`);
}

// ---- running

/** Pages touched between two points where other work may run. */
const SLICE = 128;
/** Pages given back between two such points: that is quicker. */
const BIG_SLICE = 1024;

/** The part of an address space that the last step made. */
interface Region {
  start: vpn_t;
  pages: number;
}

/** Checks an access's result; waits by yielding while a page is locked. */
function* access(m: Machine, task: Task, vpn: vpn_t, write: boolean, step: string): Job<void> {
  for (;;) {
    const err = write
      ? write_tag(m, task, vpn, content_of(task, vpn))
      : access_page(m, task, vpn, false);
    if (finish_call(m, task))
      throw new SpecError(ENOMEM, `process ${task.pid} was killed: no memory`);
    if (err === 0) return;
    if (err !== -EAGAIN) {
      throw new SpecError(
        -err,
        `${step}: process ${task.pid} failed at page 0x${vpn.toString(16)}`,
      );
    }
    yield;
    check_alive(m, task);
  }
}

function check_alive(m: Machine, task: Task): void {
  if (!is_alive(m, task)) {
    throw new SpecError(ESRCH, `process ${task.pid} was killed meanwhile`);
  }
}

function* touch(m: Machine, task: Task, region: Region, write: boolean, step: string): Job<void> {
  for (let i = 0; i < region.pages; i++) {
    yield* access(m, task, region.start + i, write, step);
    if (i % SLICE === SLICE - 1) {
      yield;
      check_alive(m, task);
    }
  }
}

function* give_back(m: Machine, task: Task, region: Region, text: string, spec: Spec): Job<void> {
  const pattern = parse_pattern(text);
  const prng = m.prng.fork(`free ${number_option(spec, 'seed', 0, 0, 2 ** 31)}`);
  const { start, pages } = region;
  const drop = function* (from: number, count: number): Job<void> {
    for (let done = 0; done < count; ) {
      // Pieces end where huge pages end, so that none is split that one call would leave whole.
      const at = start + from + done;
      const piece = Math.min(count - done, BIG_SLICE - (m.kernel.thp === undefined ? 0 : at % 512));
      const err = do_madvise(m, task.mm!, at, piece, MADV_DONTNEED);
      if (err !== 0) throw new SpecError(-err, `free: madvise failed for process ${task.pid}`);
      done += piece;
      if (piece < BIG_SLICE && done >= count) continue;
      yield;
      check_alive(m, task);
    }
  };
  const part = Math.floor((pages * pattern.n) / 100);
  if (pattern.kind === 'all') yield* drop(0, pages);
  else if (pattern.kind === 'low') yield* drop(0, part);
  else if (pattern.kind === 'high') yield* drop(pages - part, part);
  else if (pattern.kind === 'runs') {
    for (let i = pattern.n; i < pages; i += 2 * pattern.n) {
      yield* drop(i, Math.min(pattern.n, pages - i));
      if (Math.floor(i / SLICE) % 4 === 3) {
        yield;
        check_alive(m, task);
      }
    }
  } else if (pattern.kind !== 'none') {
    for (let i = 0; i < pages; i++) {
      const gone =
        pattern.kind === 'every' ? i % pattern.n === pattern.n - 1 : prng.chance(pattern.n, 100);
      if (gone) yield* drop(i, 1);
      if (i % SLICE === SLICE - 1) {
        yield;
        check_alive(m, task);
      }
    }
  }
}

/** Opens a file of the disk for mapping: given by control.ts, which knows the file systems. */
export type OpenForMap = (m: Machine, path: string, write: boolean) => MmapFile | number;

const ANON = MAP_PRIVATE | MAP_ANONYMOUS;

function map_region(
  m: Machine,
  task: Task,
  file: MmapFile | null,
  pages: number,
  prot: number,
  flags: number,
  step: string,
): Region {
  const start = run_as(m, task, () => do_mmap(m, task.mm!, file, 0, pages, prot, flags));
  if (start < 0) throw new SpecError(-start, `${step}: mmap of ${pages} pages failed`);
  return { start, pages };
}

function* run_step(
  m: Machine,
  task: Task,
  step: Step,
  spec: Spec,
  last: Region | null,
  open: OpenForMap,
): Job<Region | null> {
  const rw = PROT_READ | PROT_WRITE;
  const mm = task.mm!;
  let region = last;
  let write = true;
  switch (step.kind) {
    case 'anon':
    case 'mlock':
      region = map_region(m, task, null, step.size, rw, ANON, step.kind);
      break;
    case 'shared':
      region = map_region(m, task, null, step.size, rw, MAP_SHARED | MAP_ANONYMOUS, step.kind);
      break;
    case 'read':
      region = map_region(m, task, null, step.size, rw, ANON, step.kind);
      write = false;
      break;
    case 'heap': {
      const start = mm.brk;
      const end = start + step.size;
      if (run_as(m, task, () => do_brk(m, mm, end)) !== end) {
        throw new SpecError(ENOMEM, 'heap: brk failed');
      }
      region = { start, pages: step.size };
      break;
    }
    case 'map': {
      const opened = map_file(m, task, step, open);
      region = opened.region;
      write = opened.write;
      break;
    }
    case 'kernel':
      yield* kernel_pages(m, task, step);
      return last;
    case 'huge':
      yield* huge_pages(m, task, step);
      return last;
    case 'exec': {
      const err = run_as(m, task, () => do_execve(m, task, task.cmdline));
      if (err !== 0) throw new SpecError(-err, 'exec failed');
      task.lineage = [task.pid];
      return null;
    }
    case 'verify':
      yield* verify_all(m, task);
      return last;
    default: // write, free, collapse
      if (last === null) throw new SpecError(EINVAL, `${step.kind}: the process has no memory yet`);
  }
  if (region === null) return null;
  // The policy of the process holds before its pages come.
  if (spec.options.has('thp')) {
    const huge = number_option(spec, 'thp', 0, 0, 1);
    const advice = huge === 1 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
    const err = run_as(m, task, () => do_madvise(m, mm, region!.start, region!.pages, advice));
    if (err === -EINVAL)
      throw new SpecError(EINVAL, 'thp: this kernel has no transparent huge pages');
    if (err !== 0) throw new SpecError(-err, 'thp: madvise failed');
  }
  if (spec.options.has('merge')) {
    do_madvise(m, mm, region.start, region.pages, MADV_MERGEABLE);
  }
  if (step.kind === 'write') yield* rewrite(m, task, region);
  else if (step.kind === 'collapse') yield* collapse(m, task, region);
  else if (step.kind === 'mlock') {
    yield* lock_region(m, task, region);
    yield* touch(m, task, region, true, step.kind);
  } else if (step.kind !== 'free') yield* touch(m, task, region, write, step.kind);
  const pattern = step.options.get('pattern');
  if (pattern !== undefined) yield* give_back(m, task, region, pattern, spec);
  return region;
}

/** Locks a region piece by piece; the pieces merge into one area again. */
function* lock_region(m: Machine, task: Task, region: Region): Job<void> {
  for (let i = 0; i < region.pages; ) {
    const start = region.start + i;
    // Pieces that do not cut huge pages.
    const most = m.kernel.thp === undefined ? SLICE : 512 - (start % 512);
    const pages = Math.min(most, region.pages - i);
    i += pages;
    const err = run_as(m, task, () => do_mlock(m, task.mm!, start, pages, true));
    check_alive(m, task);
    if (err !== 0) throw new SpecError(-err, 'mlock failed: not enough memory');
    yield;
    check_alive(m, task);
  }
}

/** Asks for huge pages in the region, 512 pages at a time. */
function* collapse(m: Machine, task: Task, region: Region): Job<void> {
  const end = region.start + region.pages;
  for (let at = region.start; at < end; ) {
    const pages = Math.min(end - at, 512 - (at % 512));
    const err = run_as(m, task, () => do_madvise(m, task.mm!, at, pages, MADV_COLLAPSE));
    check_alive(m, task);
    if (err !== 0)
      throw new SpecError(-err, `collapse: madvise failed at page 0x${at.toString(16)}`);
    at += pages;
    yield;
    check_alive(m, task);
  }
}

/** Writes the pages again that are present. */
function* rewrite(m: Machine, task: Task, region: Region): Job<void> {
  for (let i = 0; i < region.pages; i++) {
    const vpn = region.start + i;
    if (get_pte(task.mm!, vpn) === 0) continue;
    yield* access(m, task, vpn, true, 'write');
    if (i % SLICE === SLICE - 1) {
      yield;
      check_alive(m, task);
    }
  }
}

function map_file(
  m: Machine,
  task: Task,
  step: Step,
  open: OpenForMap,
): { region: Region; write: boolean } {
  const mode = step.options.get('mode') ?? 'read';
  if (!['read', 'private', 'shared'].includes(mode)) {
    throw new SpecError(EINVAL, `mode=${mode}: read, private or shared is needed`);
  }
  const file = open(m, step.path, mode === 'shared');
  if (typeof file === 'number') throw new SpecError(-file, `map: cannot open ${step.path}`);
  const in_file = Math.ceil(file.mapping.i_size / 2 ** m.shape.page_shift);
  const pages = step.size === 0 ? in_file : Math.min(step.size, in_file);
  if (pages === 0) {
    file.open?.release();
    throw new SpecError(EINVAL, `map: ${step.path} is empty`);
  }
  const prot = mode === 'read' ? PROT_READ : PROT_READ | PROT_WRITE;
  const flags = mode === 'shared' ? MAP_SHARED : MAP_PRIVATE;
  const region = map_region(m, task, file, pages, prot, flags, 'map');
  // A shared file keeps what it holds: it is read, not written.
  return { region, write: mode === 'private' };
}

/** Maps huge pages and writes to some of them, to one page in each. */
function* huge_pages(m: Machine, task: Task, step: Step): Job<void> {
  const rw = PROT_READ | PROT_WRITE;
  const start = run_as(m, task, () =>
    do_mmap_hugetlb(m, task.mm!, m.default_hstate_idx, step.size, rw),
  );
  if (start < 0) {
    throw new SpecError(-start, `huge: the pool cannot promise ${step.size} pages`);
  }
  const touch = Math.min(step.size, Number(step.options.get('touch') ?? step.size));
  const size = 2 ** m.hstates[m.default_hstate_idx]!.order;
  for (let i = 0; i < touch; i++) {
    yield* access(m, task, start + i * size, true, 'huge');
    yield;
    check_alive(m, task);
  }
}

function* kernel_pages(m: Machine, task: Task, step: Step): Job<void> {
  const order = Number(step.options.get('order') ?? '0');
  if (!Number.isInteger(order) || order < 0 || order >= m.shape.max_order) {
    throw new SpecError(EINVAL, `order=${order}: 0 to ${m.shape.max_order - 1} is needed`);
  }
  for (let i = 0; i < step.size; i++) {
    const pfn = run_as(m, task, () => m.kernel.alloc_pages(m, GFP_KERNEL, order));
    if (pfn >= 0 && !is_alive(m, task)) m.kernel.__free_pages(m, pfn, order);
    check_alive(m, task);
    if (pfn < 0) throw new SpecError(ENOMEM, `kernel: no memory after ${i} blocks`);
    task.kernel_pages.push(pfn, order);
    if (i % SLICE === SLICE - 1) {
      yield;
      check_alive(m, task);
    }
  }
}

function* fork_children(m: Machine, parent: Task, spec: Spec, pids: number[]): Job<void> {
  const children = number_option(spec, 'children', 1, 0, 30000);
  const percent = number_option(spec, 'cow', 0, 0, 100);
  for (let i = 0; i < children; i++) {
    check_alive(m, parent);
    const child = run_as(m, parent, () => do_fork(m, parent));
    if (typeof child === 'number') {
      throw new SpecError(-child, `fork: child ${i + 1} of ${children} could not be made`);
    }
    pids.push(child.pid);
    if (percent > 0) yield* write_share(m, child, percent);
    yield;
  }
}

/** Whether the i-th of many is one of `percent` that are spread evenly. */
const in_share = (i: number, percent: number): boolean =>
  Math.floor(((i + 1) * percent) / 100) > Math.floor((i * percent) / 100);

/** Writes `percent` of the child's pages, spread evenly: each is copied. */
function* write_share(m: Machine, child: Task, percent: number): Job<void> {
  const writable = (vma: VmArea): boolean =>
    (vma.vm_flags & VM_WRITE) !== 0 && vma.vm_file === null && vma.vm_end <= child.mm!.start_stack;
  for (const vma of child.mm!.mmap.filter(is_vm_hugetlb_page)) {
    const size = 2 ** hstate_vma(m, vma).order;
    const pages = (vma.vm_end - vma.vm_start) / size;
    for (let i = 0; i < pages; i++) {
      if (!in_share(i, percent) || huge_pte(m, vma, vma.vm_start + i * size) === 0) continue;
      yield* access(m, child, vma.vm_start + i * size, true, 'fork');
      yield;
      check_alive(m, child);
    }
  }
  for (const vma of child.mm!.mmap.filter(writable)) {
    const region = { start: vma.vm_start, pages: vma.vm_end - vma.vm_start };
    for (let i = 0; i < region.pages; i++) {
      if (!in_share(i, percent) || get_pte(child.mm!, region.start + i) === 0) continue;
      yield* access(m, child, region.start + i, true, 'fork');
      if (i % SLICE !== SLICE - 1) continue;
      yield;
      check_alive(m, child);
    }
  }
}

function set_policy(m: Machine, task: Task, spec: Spec): void {
  const node = number_option(spec, 'node', -1, 0, m.nodes.length - 1);
  const name = spec.options.get('policy') ?? (node >= 0 ? 'bind' : 'default');
  const modes = ['default', 'prefer', 'bind', 'interleave'];
  const mode = modes.indexOf(name);
  if (mode < 0) throw new SpecError(EINVAL, `policy=${name}: bind, prefer or interleave is needed`);
  task.mm!.policy = [MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE][mode]!;
  task.mm!.policy_nid = Math.max(0, node);
}

/** The process that pid= names, or a new one. */
function process_for(m: Machine, spec: Spec): Task {
  const pid = number_option(spec, 'pid', 0, 1, 2 ** 15);
  if (pid > 0) {
    const task = m.tasks.get(pid);
    if (task === undefined) throw new SpecError(ESRCH, `there is no process ${pid}`);
    return task;
  }
  const name = spec.options.get('name') ?? spec.steps[0]?.kind ?? 'fork';
  const task = create_process(m, name);
  if (typeof task === 'number') throw new SpecError(-task, 'no memory for a new process');
  return task;
}

function* run_process(m: Machine, spec: Spec, open: OpenForMap, pids: number[]): Job<void> {
  const task = process_for(m, spec);
  const fresh = !spec.options.has('pid');
  if (fresh) pids.push(task.pid);
  try {
    if (fresh || spec.options.has('node')) set_policy(m, task, spec);
    const same = number_option(spec, 'same', task.same, 1, 65535);
    if (task.same !== 0 && same !== task.same) {
      throw new SpecError(EINVAL, `same=${same}: the process has same=${task.same} already`);
    }
    task.same = same;
    let region = last_region(task);
    for (const step of spec.steps) region = yield* run_step(m, task, step, spec, region, open);
    if (spec.fork) yield* fork_children(m, task, spec, pids);
    if (!fresh) pids.push(task.pid);
  } catch (error) {
    // A process that cannot do what it should is ended, so that nothing half made stays.
    const out_of_memory = error instanceof SpecError && error.errno === ENOMEM;
    if (fresh || out_of_memory) yield* do_exit_job(m, task, 1);
    if (fresh) pids.pop();
    throw error;
  }
}

/** Runs a job on another CPU: per-CPU lists and the local node are then that one's. */
function* on_cpu(m: Machine, cpu: number, job: Job<void>): Job<void> {
  for (;;) {
    const before = m.this_cpu;
    m.this_cpu = cpu;
    try {
      if (job.next().done) return;
    } finally {
      m.this_cpu = before;
    }
    yield;
  }
}

/** The area that a process mapped last: the lowest of its anonymous ones. */
function last_region(task: Task): Region | null {
  for (const vma of task.mm?.mmap ?? []) {
    if (vma.vm_file !== null || vma.vm_end > task.mm!.start_stack) continue;
    return { start: vma.vm_start, pages: vma.vm_end - vma.vm_start };
  }
  return null;
}

/**
 * Carries out one line. Ends in 0 or -errno; the pids that were started are then in m.spawn.pids,
 * a reason for failure in m.spawn.error.
 */
export function* spawn_workload(m: Machine, text: string, open: OpenForMap): Job {
  m.spawn.pids = [];
  m.spawn.error = '';
  const pids: number[] = [];
  try {
    const spec = parse_spec(m, text);
    const count = number_option(spec, 'count', 1, 1, 30000);
    const cpu = number_option(spec, 'cpu', m.this_cpu, 0, m.shape.nr_cpus - 1);
    for (let i = 0; i < count; i++) {
      yield* on_cpu(m, cpu, run_process(m, spec, open, pids));
      yield;
    }
    m.spawn.pids = pids;
    return 0;
  } catch (error) {
    if (!(error instanceof SpecError)) throw error;
    m.spawn.error = error.message;
    m.spawn.pids = pids;
    return -error.errno;
  }
}
