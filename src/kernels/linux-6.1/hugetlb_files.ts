/**
 * /sys/kernel/mm/hugepages and nodeN/hugepages of 6.1.
 *
 * A number is decimal, with at most one newline behind it; above 64 bits is ERANGE. A pool that
 * cannot be made as large as asked is no error (recorded: debian-6.1/verbatim/probe.jsonl).
 * Linux: mm/hugetlb.c (hstate_attrs, per_node_hstate_attrs), lib/kstrtox.c.
 */
import { EINVAL, ERANGE } from '../../lib/errno.ts';
import type { FileRow, RowContext } from '../../lib/file_row.ts';
import type { Job } from '../../lib/kthread.ts';
import { default_hstate, type Hstate } from '../../mm/hugetlb_def.ts';
import { type Machine, nodes_with_memory } from '../../mm/mmzone.ts';
import { set_max_huge_pages, set_node_huge_pages } from './hugetlb.ts';

/** A whole text that is one decimal number: the number, or -EINVAL, -ERANGE (kstrtoul). */
export function kstrtoul(text: string): bigint | number {
  const nul = text.indexOf('\0');
  const digits = /^\+?([0-9]+)\n?$/.exec(nul < 0 ? text : text.slice(0, nul));
  // JavaScript's $ matches at the end alone, so a second newline is refused.
  if (digits === null) return -EINVAL;
  const value = BigInt(digits[1]!);
  return value >= 1n << 64n ? -ERANGE : value;
}

/** A job that returns `length` when `work` is done. */
function* then(work: Job, length: number): Job {
  yield* work;
  return length;
}

/** Parses, then does what the file is for; sysfs takes all of a good text. */
function store_number(
  text: string,
  h: Hstate,
  act: (h: Hstate, value: bigint) => Job | null,
): number | Job {
  const value = kstrtoul(text);
  if (typeof value === 'number') return value;
  const work = act(h, value);
  return work === null ? text.length : then(work, text.length);
}

const OVERCOMMIT = 'nr_overcommit_hugepages';

/** An unsigned long: what does not fit a number is kept beside it. */
export function set_overcommit(m: Machine, h: Hstate, value: bigint): void {
  h.nr_overcommit_huge_pages = Number(value);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) m.sysctl_ulong[OVERCOMMIT] = value;
  else delete m.sysctl_ulong[OVERCOMMIT];
}

export function get_overcommit(m: Machine): bigint {
  const h = default_hstate(m);
  return m.sysctl_ulong[OVERCOMMIT] ?? BigInt(h?.nr_overcommit_huge_pages ?? 0);
}

/** The pool of a size in KiB; undefined on a machine without it. */
const hstate_of = (m: Machine, size_kb: number): Hstate | undefined =>
  m.hstates.find((h) => h.size_kb === size_kb);

const GIGANTIC_KB = 2 ** 20;

/** A file of one number of a pool, `get` of it. */
function row(
  size_kb: number,
  path: string,
  doc: string,
  get: (h: Hstate, ctx: RowContext, m: Machine) => number | bigint,
  store?: (m: Machine, text: string, h: Hstate, ctx: RowContext) => number | Job,
): FileRow<Machine> {
  const result: FileRow<Machine> = {
    path,
    mode: store === undefined ? 0o444 : 0o644,
    show(seq, m, ctx) {
      seq.put_dec(get(hstate_of(m, size_kb)!, ctx, m)).puts('\n');
    },
    when: (m) => hstate_of(m, size_kb) !== undefined,
    doc,
  };
  if (store === undefined) return result;
  return { ...result, store: (m, text, ctx) => store(m, text, hstate_of(m, size_kb)!, ctx) };
}

function resize(m: Machine, text: string, h: Hstate): number | Job {
  return store_number(text, h, (_, count) =>
    set_max_huge_pages(m, h, Number(count), nodes_with_memory(m)),
  );
}

function overcommit_store(m: Machine, text: string, h: Hstate): number | Job {
  // Beyond the pool no page of this size could be found.
  if (h.size_kb === GIGANTIC_KB) return -EINVAL;
  return store_number(text, h, (_, count) => {
    set_overcommit(m, h, count);
    return null;
  });
}

/** The files of a pool in its own directory. */
function pool_files(size_kb: number): FileRow<Machine>[] {
  const file = (
    name: string,
    doc: string,
    get: (h: Hstate, ctx: RowContext, m: Machine) => number | bigint,
    store?: (m: Machine, text: string, h: Hstate) => number | Job,
  ): FileRow<Machine> =>
    row(size_kb, `/sys/kernel/mm/hugepages/hugepages-${size_kb}kB/${name}`, doc, get, store);
  return [
    file('free_hugepages', 'pages of the pool that nobody uses', (h) => h.free_huge_pages),
    file(
      'nr_hugepages',
      'pages in the pool; a write grows or shrinks it',
      (h) => h.nr_huge_pages,
      resize,
    ),
    file('nr_hugepages_mempolicy', 'the same', (h) => h.nr_huge_pages, resize),
    file(
      'nr_overcommit_hugepages',
      'pages that mappings may take beyond the pool',
      (_h, _ctx, m) => (size_kb === GIGANTIC_KB ? 0 : get_overcommit(m)),
      overcommit_store,
    ),
    file('resv_hugepages', 'free pages that are promised', (h) => h.resv_huge_pages),
    file('surplus_hugepages', 'pages beyond the size of the pool', (h) => h.surplus_huge_pages),
  ];
}

/** The files of a node's share of a pool. */
function node_pool_files(size_kb: number): FileRow<Machine>[] {
  const dir = `/sys/devices/system/node/node{nid}/hugepages/hugepages-${size_kb}kB/`;
  return [
    row(
      size_kb,
      `${dir}free_hugepages`,
      "the node's pages of the pool that nobody uses",
      (h, ctx) => h.free_huge_pages_node[ctx.id]!,
    ),
    row(
      size_kb,
      `${dir}nr_hugepages`,
      "the node's pages in the pool; a write grows or shrinks it on this node",
      (h, ctx) => h.nr_huge_pages_node[ctx.id]!,
      (m, text, h, ctx) =>
        store_number(text, h, (_, count) => set_node_huge_pages(m, h, Number(count), ctx.id)),
    ),
    row(
      size_kb,
      `${dir}surplus_hugepages`,
      "the node's pages beyond the size of the pool",
      (h, ctx) => h.surplus_huge_pages_node[ctx.id]!,
    ),
    ...demote_files(dir, size_kb),
  ];
}

/** Bytes of `2M`, `2048kB`; what follows the suffix does not count (lib/cmdline.c: memparse). */
function memparse(text: string): number {
  const [, digits, suffix] = /^(\d*)([kmg]?)/i.exec(text)!;
  return Number(digits) * 1024 ** ' kmg'.indexOf(suffix!.toLowerCase() || ' ');
}

/** Splitting pages of a pool into the next smaller size; only a larger size than 2 MiB has one. */
function demote_files(dir: string, size_kb: number): FileRow<Machine>[] {
  if (size_kb !== GIGANTIC_KB) return [];
  const when = (m: Machine): boolean => hstate_of(m, size_kb) !== undefined;
  return [
    {
      path: `${dir}demote`,
      mode: 0o200,
      // As many as there are free: this pool is empty.
      store(_m, text) {
        const value = kstrtoul(text);
        return typeof value === 'number' ? value : text.length;
      },
      when,
      doc: 'splits so many free pages into smaller ones',
    },
    {
      path: `${dir}demote_size`,
      mode: 0o644,
      show: (seq) => void seq.puts('2048kB\n'),
      store: (_m, text) => (memparse(text) === 2 ** 21 ? text.length : -EINVAL),
      when,
      doc: 'the size into which demote splits',
    },
  ];
}

export const hugepage_files: readonly FileRow<Machine>[] = [
  ...pool_files(2048),
  ...pool_files(GIGANTIC_KB),
  ...demote_files(`/sys/kernel/mm/hugepages/hugepages-${GIGANTIC_KB}kB/`, GIGANTIC_KB),
];

export const node_hugepage_files: readonly FileRow<Machine>[] = [
  ...node_pool_files(2048),
  ...node_pool_files(GIGANTIC_KB),
];
