/**
 * What all kernels have alike in /sys/devices/system/node, on machines built with NUMA.
 *
 * Lists of nodes, which each kernel ends in its own way; a node's CPUs, distances, numastat; meminfo
 * with the kernel's text; compact, which hands the node to the kernel's compaction.
 * Linux: drivers/base/node.c, mm/compaction.c (sysfs_compact_node).
 */
import { bitmap_list, bitmap_mask } from '../../lib/bitmap.ts';
import type { FileRow } from '../../lib/file_row.ts';
import type { Job } from '../../lib/kthread.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import { node_distance } from '../../mm/mm_init.ts';
import type { Machine } from '../../mm/mmzone.ts';
import type { nid_t } from '../../mm/page.ts';
import { NUMA_HIT, node_page_state } from '../../mm/vmstat.ts';

export const NODE_DIR = '/sys/devices/system/node/';
export const numa = (m: Machine): boolean => m.shape.numa;
export const all_nodes = (m: Machine): nid_t[] => m.nodes.map((node) => node.nid);

/** The parts of numastat in the order of the counters from NUMA_HIT on. */
const NUMASTAT_NAMES = [
  'numa_hit',
  'numa_miss',
  'numa_foreign',
  'interleave_hit',
  'local_node',
  'other_node',
];

/** A file that lists some nodes, as the kernel's `nodes_state` prints them. */
export function node_list(
  name: string,
  doc: string,
  nids: (m: Machine) => readonly nid_t[],
  nodes_state: (seq: SeqFile, nids: readonly nid_t[]) => void,
): FileRow<Machine> {
  return {
    path: NODE_DIR + name,
    mode: 0o444,
    show: (seq, m) => nodes_state(seq, nids(m)),
    when: numa,
    doc,
  };
}

/** The files of a node that differ in nothing but the text of its meminfo. */
export const node_common_files = (
  meminfo_show: (seq: SeqFile, m: Machine, nid: nid_t) => void,
): readonly FileRow<Machine>[] => [
  {
    path: NODE_DIR + 'node{nid}/cpumap',
    mode: 0o444,
    show(seq, m, ctx) {
      seq.puts(bitmap_mask(m.nodes[ctx.id]!.cpus, m.shape.nr_cpus)).puts('\n');
    },
    when: numa,
    doc: 'CPUs of the node as a bit mask',
  },
  {
    path: NODE_DIR + 'node{nid}/cpulist',
    mode: 0o444,
    show(seq, m, ctx) {
      seq.puts(bitmap_list(m.nodes[ctx.id]!.cpus)).puts('\n');
    },
    when: numa,
    doc: 'CPUs of the node as a list',
  },
  {
    path: NODE_DIR + 'node{nid}/meminfo',
    mode: 0o444,
    show: (seq, m, ctx) => meminfo_show(seq, m, ctx.id),
    when: numa,
    doc: "the node's memory in KiB by use",
  },
  {
    path: NODE_DIR + 'node{nid}/numastat',
    mode: 0o444,
    show(seq, m, ctx) {
      for (let i = 0; i < NUMASTAT_NAMES.length; i++) {
        seq.puts(NUMASTAT_NAMES[i]!).puts(' ');
        seq.put_dec(node_page_state(m, ctx.id, NUMA_HIT + i)).puts('\n');
      }
    },
    when: numa,
    doc: 'allocations on the node by where they were wanted',
  },
  {
    path: NODE_DIR + 'node{nid}/distance',
    mode: 0o444,
    show(seq, m, ctx) {
      seq.puts(m.nodes.map((node) => node_distance(ctx.id, node.nid)).join(' ')).puts('\n');
    },
    when: numa,
    doc: 'distance to each node; 10 is the node itself',
  },
];

/** nodeN/compact: any write has `compact` run over the node, and is taken as a whole. */
export function node_compact_file(compact: (m: Machine, nid: nid_t) => Job): FileRow<Machine> {
  function* compact_whole_node(m: Machine, nid: nid_t, length: number): Job {
    yield* compact(m, nid);
    return length;
  }
  return {
    path: NODE_DIR + 'node{nid}/compact',
    mode: 0o200,
    store: (m, text, ctx) => compact_whole_node(m, ctx.id, text.length),
    when: (m) => m.shape.numa && m.shape.compaction,
    doc: 'any write compacts the zones of this node and returns when that is done',
  };
}
