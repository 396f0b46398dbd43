/**
 * /sys/devices/system/node as 6.1 prints it (recorded: debian-6.1/verbatim).
 *
 * Since 2.6.35 the lists end without a NUL, nodeN/meminfo begins without an empty line, nodeN/vmstat
 * and a few lists of nodes are new, and has_cpu tells the truth.
 * Linux: drivers/base/node.c, mm/compaction.c (compact_store). Differs: cpuN, memoryN, subsystem, power,
 * x86 and uevent are absent, as are the directories that the links lead to; cpulist has a size of 4096.
 */
import { bitmap_list, bitmap_mask } from '../../lib/bitmap.ts';
import type { FileRow } from '../../lib/file_row.ts';
import type { Job } from '../../lib/kthread.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import { default_hstate } from '../../mm/hugetlb_def.ts';
import { node_distance } from '../../mm/mm_init.ts';
import { type Machine, nodes_with_memory } from '../../mm/mmzone.ts';
import type { nid_t } from '../../mm/page.ts';
import {
  NR_ACTIVE_ANON,
  NR_ACTIVE_FILE,
  NR_ANON_PAGES,
  NR_ANON_THPS,
  NR_BOUNCE,
  NR_FILE_DIRTY,
  NR_FILE_MAPPED,
  NR_FILE_PAGES,
  NR_FREE_PAGES,
  NR_INACTIVE_ANON,
  NR_INACTIVE_FILE,
  NR_KERNEL_STACK,
  NR_MLOCK,
  NR_PAGETABLE,
  NR_SHMEM,
  NR_SLAB_RECLAIMABLE,
  NR_SLAB_UNRECLAIMABLE,
  NR_UNEVICTABLE,
  NR_WRITEBACK,
  NR_WRITEBACK_TEMP,
  NUMA_HIT,
  node_page_state,
} from '../../mm/vmstat.ts';
import { compact_store } from './compaction.ts';
import { kb_line, pages_kb } from './meminfo.ts';
import { node_vmstat_show, THREAD_SIZE_KB } from './vmstat.ts';

/** The parts of numastat in the order of the counters from NUMA_HIT on. */
const NUMASTAT_NAMES = [
  'numa_hit',
  'numa_miss',
  'numa_foreign',
  'interleave_hit',
  'local_node',
  'other_node',
];

/** node.c: node_read_meminfo. */
export function node_meminfo_show(seq: SeqFile, m: Machine, nid: nid_t): void {
  const pages = (item: number): number => node_page_state(m, nid, item);
  const line = (label: string, kb: number): void => {
    seq.puts('Node ').put_dec(nid).puts(' ');
    kb_line(seq, label, kb);
  };
  const kb = (label: string, nr_pages: number): void => line(label, pages_kb(m, nr_pages));
  let total = 0;
  for (const zone of m.nodes[nid]!.zones) total += zone.present_pages;
  const free = pages(NR_FREE_PAGES);
  const slab = pages(NR_SLAB_RECLAIMABLE);
  kb('MemTotal', total);
  kb('MemFree', free);
  kb('MemUsed', total - free);
  kb('SwapCached', 0);
  kb('Active', pages(NR_ACTIVE_ANON) + pages(NR_ACTIVE_FILE));
  kb('Inactive', pages(NR_INACTIVE_ANON) + pages(NR_INACTIVE_FILE));
  kb('Active(anon)', pages(NR_ACTIVE_ANON));
  kb('Inactive(anon)', pages(NR_INACTIVE_ANON));
  kb('Active(file)', pages(NR_ACTIVE_FILE));
  kb('Inactive(file)', pages(NR_INACTIVE_FILE));
  kb('Unevictable', pages(NR_UNEVICTABLE));
  kb('Mlocked', pages(NR_MLOCK));
  kb('Dirty', pages(NR_FILE_DIRTY));
  kb('Writeback', pages(NR_WRITEBACK));
  kb('FilePages', pages(NR_FILE_PAGES));
  kb('Mapped', pages(NR_FILE_MAPPED));
  kb('AnonPages', pages(NR_ANON_PAGES));
  kb('Shmem', pages(NR_SHMEM));
  line('KernelStack', pages(NR_KERNEL_STACK) * THREAD_SIZE_KB);
  kb('PageTables', pages(NR_PAGETABLE));
  kb('SecPageTables', 0);
  kb('NFS_Unstable', 0);
  kb('Bounce', pages(NR_BOUNCE));
  kb('WritebackTmp', pages(NR_WRITEBACK_TEMP));
  kb('KReclaimable', slab);
  kb('Slab', slab + pages(NR_SLAB_UNRECLAIMABLE));
  kb('SReclaimable', slab);
  kb('SUnreclaim', pages(NR_SLAB_UNRECLAIMABLE));
  kb('AnonHugePages', pages(NR_ANON_THPS));
  kb('ShmemHugePages', 0);
  kb('ShmemPmdMapped', 0);
  // One blank less than the others have.
  for (const label of ['FileHugePages: ', 'FilePmdMapped: ']) {
    seq.puts('Node ').put_dec(nid).puts(' ').puts(label).put_dec(0, 8).puts(' kB\n');
  }
  const h = default_hstate(m);
  const huge: readonly (readonly [string, number])[] = [
    ['HugePages_Total:', h?.nr_huge_pages_node[nid] ?? 0],
    ['HugePages_Free:', h?.free_huge_pages_node[nid] ?? 0],
    ['HugePages_Surp:', h?.surplus_huge_pages_node[nid] ?? 0],
  ];
  for (const [label, nr] of huge) {
    seq.puts('Node ').put_dec(nid).puts(' ');
    seq.put_left(label, 17).put_dec(nr, 5).puts('\n');
  }
}

const DIR = '/sys/devices/system/node/';
const numa = (m: Machine): boolean => m.shape.numa;

/** A file that lists some nodes. */
function node_list(
  name: string,
  doc: string,
  nids: (m: Machine) => readonly number[],
): FileRow<Machine> {
  return {
    path: DIR + name,
    mode: 0o444,
    show: (seq, m) => {
      seq.puts(bitmap_list(nids(m))).puts('\n');
    },
    when: numa,
    doc,
  };
}

const all_nodes = (m: Machine): number[] => m.nodes.map((node) => node.nid);
const nodes_with_cpus = (m: Machine): number[] =>
  m.nodes.filter((node) => node.cpus.length > 0).map((node) => node.nid);

export const node_files: readonly FileRow<Machine>[] = [
  node_list('possible', 'nodes that may exist', all_nodes),
  node_list('online', 'nodes that exist', all_nodes),
  node_list('has_normal_memory', 'nodes with memory that the kernel can use', nodes_with_memory),
  node_list('has_memory', 'nodes with memory', nodes_with_memory),
  node_list('has_cpu', 'nodes with CPUs', nodes_with_cpus),
  node_list('has_generic_initiator', 'nodes with devices that access memory: none', () => []),
  {
    path: DIR + 'node{nid}/cpumap',
    mode: 0o444,
    show(seq, m, ctx) {
      seq.puts(bitmap_mask(m.nodes[ctx.id]!.cpus, m.shape.nr_cpus)).puts('\n');
    },
    when: numa,
    doc: 'CPUs of the node as a bit mask',
  },
  {
    path: DIR + 'node{nid}/cpulist',
    mode: 0o444,
    show(seq, m, ctx) {
      seq.puts(bitmap_list(m.nodes[ctx.id]!.cpus)).puts('\n');
    },
    when: numa,
    doc: 'CPUs of the node as a list',
  },
  {
    path: DIR + 'node{nid}/meminfo',
    mode: 0o444,
    show: (seq, m, ctx) => node_meminfo_show(seq, m, ctx.id),
    when: numa,
    doc: "the node's memory in KiB by use",
  },
  {
    path: DIR + 'node{nid}/numastat',
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
    path: DIR + 'node{nid}/distance',
    mode: 0o444,
    show(seq, m, ctx) {
      seq.puts(m.nodes.map((node) => node_distance(ctx.id, node.nid)).join(' ')).puts('\n');
    },
    when: numa,
    doc: 'distance to each node; 10 is the node itself',
  },
  {
    path: DIR + 'node{nid}/vmstat',
    mode: 0o444,
    show: (seq, m, ctx) => node_vmstat_show(seq, m, ctx.id),
    when: numa,
    doc: 'counters of pages of the node by kind',
  },
  {
    path: DIR + 'node{nid}/compact',
    mode: 0o200,
    store: (m, text, ctx) => compact_whole_node(m, ctx.id, text.length),
    when: (m) => m.shape.numa && m.shape.compaction,
    doc: 'any write compacts the zones of this node and returns when that is done',
  },
];

/** All of the text is taken, whatever it says (recorded: probe.jsonl). */
function* compact_whole_node(m: Machine, nid: nid_t, length: number): Job {
  yield* compact_store(m, nid);
  return length;
}
