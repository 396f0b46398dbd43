/**
 * The sysfs files of huge page pools: one directory a size, for the machine and for each node.
 *
 * Numbers are read strictly and in decimal; what is not a number makes the write return 0, neither
 * an error nor progress. The global file's number is the pool's persistent size, a node's file
 * counts that node's pages alone; both show surplus pages too. Growing takes long: a job.
 * Linux: mm/hugetlb.c (nr_hugepages_store_common and the attributes around it). Recorded in
 * test/golden/linux-2.6.35/files/*\/errno_table.
 */
import { EIO } from '../../lib/errno.ts';
import type { FileRow, RowContext } from '../../lib/file_row.ts';
import { strict_strtoul } from '../../lib/kstrto.ts';
import type { Job } from '../../lib/kthread.ts';
import type { Hstate } from '../../mm/hugetlb_def.ts';
import { type Machine, nodes_with_memory } from '../../mm/mmzone.ts';
import type { nid_t } from '../../mm/page.ts';
import { set_max_huge_pages } from './hugetlb.ts';

/** All sizes that some machine has (hugetlb.ts: SIZES_KB), in the order of their directories. */
const SIZES = [64, 2048, 16384, 1048576, 16777216];

function hstate_of(m: Machine, size_kb: number): Hstate | undefined {
  return m.hstates.find((h) => h.size_kb === size_kb);
}

/** A write of nr_hugepages; `nid` below 0: of the whole pool (nr_hugepages_store_common). */
function* store_nr(m: Machine, h: Hstate, nid: nid_t, value: bigint, length: number): Job {
  let count = Number(value);
  let allowed = nodes_with_memory(m);
  if (nid >= 0) {
    // The rest of the pool stays as it is.
    count += h.nr_huge_pages - h.nr_huge_pages_node[nid]!;
    allowed = [nid];
  }
  h.max_huge_pages = yield* set_max_huge_pages(m, h, count, allowed);
  return length;
}

function nr_row(size_kb: number, dir: string, name: string, doc: string): FileRow<Machine> {
  const per_node = dir.includes('{nid}');
  return {
    path: `${dir}/${name}`,
    mode: 0o644,
    show(seq, m, ctx) {
      const h = hstate_of(m, size_kb)!;
      seq.put_dec(per_node ? h.nr_huge_pages_node[ctx.id]! : h.nr_huge_pages).puts('\n');
    },
    store(m, text, ctx) {
      const value = strict_strtoul(text, 10);
      if (typeof value === 'number') return 0;
      return store_nr(m, hstate_of(m, size_kb)!, per_node ? ctx.id : -1, value, text.length);
    },
    when: when(size_kb, per_node || name.endsWith('mempolicy')),
    doc,
  };
}

/** The pool exists on this machine; `numa`: and its kernel has NUMA. */
function when(size_kb: number, numa: boolean): (m: Machine) => boolean {
  return (m) => hstate_of(m, size_kb) !== undefined && (!numa || m.shape.numa);
}

function ro_row(
  size_kb: number,
  dir: string,
  name: string,
  doc: string,
  value: (h: Hstate, ctx: RowContext) => number,
): FileRow<Machine> {
  return {
    path: `${dir}/${name}`,
    mode: 0o444,
    show(seq, m, ctx) {
      seq.put_dec(value(hstate_of(m, size_kb)!, ctx)).puts('\n');
    },
    // Reached after chmod only: sysfs refuses the open before.
    store: () => -EIO,
    when: when(size_kb, dir.includes('{nid}')),
    doc,
  };
}

/** Where m.sysctl_ulong keeps a value that no number holds exactly. */
const exact_key = (h: Hstate): string => `nr_overcommit_hugepages.${h.size_kb}`;

/** Sets how many pages mappings may take beyond the pool. */
export function set_overcommit(m: Machine, h: Hstate, value: bigint): void {
  h.nr_overcommit_huge_pages = Number(value);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) m.sysctl_ulong[exact_key(h)] = value;
  else delete m.sysctl_ulong[exact_key(h)];
}

export function get_overcommit(m: Machine, h: Hstate): bigint {
  return m.sysctl_ulong[exact_key(h)] ?? BigInt(h.nr_overcommit_huge_pages);
}

function overcommit_row(size_kb: number, dir: string): FileRow<Machine> {
  return {
    path: `${dir}/nr_overcommit_hugepages`,
    mode: 0o644,
    show(seq, m) {
      seq.put_dec(get_overcommit(m, hstate_of(m, size_kb)!)).puts('\n');
    },
    store(m, text) {
      const value = strict_strtoul(text, 10);
      if (typeof value === 'number') return 0;
      set_overcommit(m, hstate_of(m, size_kb)!, value);
      return text.length;
    },
    when: when(size_kb, false),
    doc: 'pages of this size that mappings may take beyond the pool',
  };
}

function global_rows(size_kb: number): FileRow<Machine>[] {
  const dir = `/sys/kernel/mm/hugepages/hugepages-${size_kb}kB`;
  return [
    nr_row(size_kb, dir, 'nr_hugepages', 'pages of this size in the pool; a write resizes it'),
    overcommit_row(size_kb, dir),
    ro_row(size_kb, dir, 'free_hugepages', 'of these, not in use', (h) => h.free_huge_pages),
    ro_row(size_kb, dir, 'resv_hugepages', 'of the free ones, promised', (h) => h.resv_huge_pages),
    ro_row(size_kb, dir, 'surplus_hugepages', 'beyond the pool', (h) => h.surplus_huge_pages),
    nr_row(
      size_kb,
      dir,
      'nr_hugepages_mempolicy',
      'nr_hugepages, on the nodes of the memory policy of who writes',
    ),
  ];
}

function node_rows(size_kb: number): FileRow<Machine>[] {
  const dir = `/sys/devices/system/node/node{nid}/hugepages/hugepages-${size_kb}kB`;
  return [
    nr_row(size_kb, dir, 'nr_hugepages', "the node's pages of this size; a write resizes"),
    ro_row(
      size_kb,
      dir,
      'free_hugepages',
      'of these, not in use',
      (h, ctx) => h.free_huge_pages_node[ctx.id]!,
    ),
    ro_row(
      size_kb,
      dir,
      'surplus_hugepages',
      'of these, beyond the pool',
      (h, ctx) => h.surplus_huge_pages_node[ctx.id]!,
    ),
  ];
}

export const hugepage_files: readonly FileRow<Machine>[] = SIZES.flatMap(global_rows);
export const node_hugepage_files: readonly FileRow<Machine>[] = SIZES.flatMap(node_rows);
