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
import type { Machine } from '../../mm/mmzone.ts';
import { nodes_with_memory, set_max_huge_pages, set_node_huge_pages } from './hugetlb.ts';

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
  m: Machine,
  text: string,
  act: (h: Hstate, value: bigint) => Job | null,
): number | Job {
  const value = kstrtoul(text);
  if (typeof value === 'number') return value;
  const work = act(default_hstate(m)!, value);
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

const DIR = '/sys/kernel/mm/hugepages/hugepages-2048kB/';
const NODE_DIR = '/sys/devices/system/node/node{nid}/hugepages/hugepages-2048kB/';

/** A file of one number of the pool, `get` of it. */
function row(
  path: string,
  doc: string,
  get: (h: Hstate, ctx: RowContext, m: Machine) => number | bigint,
  store?: (m: Machine, text: string, ctx: RowContext) => number | Job,
): FileRow<Machine> {
  const result: FileRow<Machine> = {
    path,
    mode: store === undefined ? 0o444 : 0o644,
    show(seq, m, ctx) {
      seq.put_dec(get(default_hstate(m)!, ctx, m)).puts('\n');
    },
    when: (m) => default_hstate(m) !== undefined,
    doc,
  };
  return store === undefined ? result : { ...result, store };
}

function resize(m: Machine, text: string): number | Job {
  return store_number(m, text, (h, count) =>
    set_max_huge_pages(m, h, Number(count), nodes_with_memory(m)),
  );
}

export const hugepage_files: readonly FileRow<Machine>[] = [
  row(DIR + 'free_hugepages', 'pages of the pool that nobody uses', (h) => h.free_huge_pages),
  row(
    DIR + 'nr_hugepages',
    'pages in the pool; a write grows or shrinks it',
    (h) => h.nr_huge_pages,
    resize,
  ),
  row(DIR + 'nr_hugepages_mempolicy', 'the same', (h) => h.nr_huge_pages, resize),
  row(
    DIR + 'nr_overcommit_hugepages',
    'pages that mappings may take beyond the pool',
    (_h, _ctx, m) => get_overcommit(m),
    (m, text) =>
      store_number(m, text, (h, count) => {
        set_overcommit(m, h, count);
        return null;
      }),
  ),
  row(DIR + 'resv_hugepages', 'free pages that are promised', (h) => h.resv_huge_pages),
  row(DIR + 'surplus_hugepages', 'pages beyond the size of the pool', (h) => h.surplus_huge_pages),
];

export const node_hugepage_files: readonly FileRow<Machine>[] = [
  row(
    NODE_DIR + 'free_hugepages',
    "the node's pages of the pool that nobody uses",
    (h, ctx) => h.free_huge_pages_node[ctx.id]!,
  ),
  row(
    NODE_DIR + 'nr_hugepages',
    "the node's pages in the pool; a write grows or shrinks it on this node",
    (h, ctx) => h.nr_huge_pages_node[ctx.id]!,
    (m, text, ctx) =>
      store_number(m, text, (h, count) => set_node_huge_pages(m, h, Number(count), ctx.id)),
  ),
  row(
    NODE_DIR + 'surplus_hugepages',
    "the node's pages beyond the size of the pool",
    (h, ctx) => h.surplus_huge_pages_node[ctx.id]!,
  ),
];
