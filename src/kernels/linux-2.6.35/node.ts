/**
 * /sys/devices/system/node as 2.6.35 prints it, on machines built with NUMA.
 *
 * Linux: drivers/base/node.c, mm/vmscan.c (scan_unevictable_register_node), mm/compaction.c
 * (sysfs_compact_node). The quirks are the recorded ones: an empty line begins nodeN/meminfo, a NUL
 * ends the node lists, and has_cpu is empty, because nothing ever sets that state for CPUs that
 * are there at boot. There is no nodeN/vmstat in this kernel. Differs: cpuN links are absent, as is
 * the directory of CPUs that they lead to.
 */
import { bitmap_list, bitmap_mask } from '../../lib/bitmap.ts';
import type { FileRow } from '../../lib/file_row.ts';
import { strict_strtoul } from '../../lib/kstrto.ts';
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
  NR_UNSTABLE_NFS,
  NR_WRITEBACK,
  NR_WRITEBACK_TEMP,
  NUMA_HIT,
  node_page_state,
  zone_page_state,
} from '../../mm/vmstat.ts';
import { compact_node } from './compaction.ts';
import { node_hugepage_files } from './hugetlb_files.ts';
import { kb_line, pages_kb, thread_size_kb } from './meminfo.ts';
import { scan_zone_unevictable_pages } from './unevictable.ts';

/** The parts of numastat in the order of the counters from NUMA_HIT on. */
const NUMASTAT_NAMES = [
  'numa_hit',
  'numa_miss',
  'numa_foreign',
  'interleave_hit',
  'local_node',
  'other_node',
];

/** node.c: print_nodes_state. */
function nodes_state(seq: SeqFile, nids: readonly number[]): void {
  if (nids.length > 0) seq.puts(bitmap_list(nids)).puts('\n\0');
}

const all_nodes = (m: Machine): number[] => m.nodes.map((node) => node.nid);

/** node.c: node_read_meminfo. */
export function node_meminfo_show(seq: SeqFile, m: Machine, nid: nid_t): void {
  const node = m.nodes[nid]!;
  const pages = (item: number): number => node_page_state(m, nid, item);
  const line = (label: string, kb: number): void => {
    seq.puts('Node ').put_dec(nid).puts(' ');
    kb_line(seq, label, kb);
  };
  const kb = (label: string, nr_pages: number): void => line(label, pages_kb(m, nr_pages));
  const free = pages(NR_FREE_PAGES);
  seq.puts('\n');
  kb('MemTotal', node.node_present_pages);
  kb('MemFree', free);
  kb('MemUsed', node.node_present_pages - free);
  kb('Active', pages(NR_ACTIVE_ANON) + pages(NR_ACTIVE_FILE));
  kb('Inactive', pages(NR_INACTIVE_ANON) + pages(NR_INACTIVE_FILE));
  kb('Active(anon)', pages(NR_ACTIVE_ANON));
  kb('Inactive(anon)', pages(NR_INACTIVE_ANON));
  kb('Active(file)', pages(NR_ACTIVE_FILE));
  kb('Inactive(file)', pages(NR_INACTIVE_FILE));
  kb('Unevictable', pages(NR_UNEVICTABLE));
  kb('Mlocked', pages(NR_MLOCK));
  if (m.shape.ZONE_HIGHMEM >= 0) {
    let high_total = 0;
    let high_free = 0;
    for (const zone of node.zones) {
      if (zone.zone_idx !== m.shape.ZONE_HIGHMEM) continue;
      high_total += zone.present_pages;
      high_free += zone_page_state(zone, NR_FREE_PAGES);
    }
    kb('HighTotal', high_total);
    kb('HighFree', high_free);
    kb('LowTotal', node.node_present_pages - high_total);
    kb('LowFree', free - high_free);
  }
  kb('Dirty', pages(NR_FILE_DIRTY));
  kb('Writeback', pages(NR_WRITEBACK));
  kb('FilePages', pages(NR_FILE_PAGES));
  kb('Mapped', pages(NR_FILE_MAPPED));
  kb('AnonPages', pages(NR_ANON_PAGES));
  kb('Shmem', pages(NR_SHMEM));
  line('KernelStack', pages(NR_KERNEL_STACK) * thread_size_kb(m));
  kb('PageTables', pages(NR_PAGETABLE));
  kb('NFS_Unstable', pages(NR_UNSTABLE_NFS));
  kb('Bounce', pages(NR_BOUNCE));
  kb('WritebackTmp', pages(NR_WRITEBACK_TEMP));
  kb('Slab', pages(NR_SLAB_RECLAIMABLE) + pages(NR_SLAB_UNRECLAIMABLE));
  kb('SReclaimable', pages(NR_SLAB_RECLAIMABLE));
  kb('SUnreclaim', pages(NR_SLAB_UNRECLAIMABLE));
  const h = default_hstate(m);
  const huge: Record<string, number> = {
    Total: h?.nr_huge_pages_node[nid] ?? 0,
    Free: h?.free_huge_pages_node[nid] ?? 0,
    Surp: h?.surplus_huge_pages_node[nid] ?? 0,
  };
  for (const name of ['Total', 'Free', 'Surp']) {
    seq.puts('Node ').put_dec(nid).puts(' ');
    seq
      .put_left('HugePages_' + name + ':', 17)
      .put_dec(huge[name]!, 5)
      .puts('\n');
  }
}

const DIR = '/sys/devices/system/node/';
const numa = (m: Machine): boolean => m.shape.numa;

export const node_files: readonly FileRow<Machine>[] = [
  {
    path: DIR + 'possible',
    mode: 0o444,
    show: (seq, m) => nodes_state(seq, all_nodes(m)),
    when: numa,
    doc: 'nodes that may exist',
  },
  {
    path: DIR + 'online',
    mode: 0o444,
    show: (seq, m) => nodes_state(seq, all_nodes(m)),
    when: numa,
    doc: 'nodes that exist',
  },
  {
    path: DIR + 'has_normal_memory',
    mode: 0o444,
    show: (seq, m) => nodes_state(seq, nodes_with_memory(m)),
    when: numa,
    doc: 'nodes with memory',
  },
  {
    path: DIR + 'has_cpu',
    mode: 0o444,
    show: (seq) => nodes_state(seq, []),
    when: numa,
    doc: 'empty: this kernel lists only nodes whose CPUs came after boot',
  },
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
    path: DIR + 'node{nid}/scan_unevictable_pages',
    mode: 0o644,
    show(seq) {
      seq.puts('0\n');
    },
    store: (m, text, ctx) => scan_node(m, ctx.id, text),
    when: numa,
    doc: 'what is no number looks for pages that can be reclaimed after all; always reads 0',
  },
  ...node_hugepage_files,
  {
    path: DIR + 'node{nid}/compact',
    mode: 0o200,
    store: (m, text, ctx) => compact_whole_node(m, ctx.id, text.length),
    when: (m) => m.shape.numa && m.shape.compaction,
    doc: 'any write compacts the zones of this node and returns when that is done',
  },
];

/**
 * vmscan.c: write_scan_unevictable_node. It looks at whether the parser failed, not at what it
 * found: any number does nothing. One character is taken of whatever was written.
 */
function* scan_node(m: Machine, nid: nid_t, text: string): Job {
  if (typeof strict_strtoul(text, 10) === 'number') {
    for (const zone of m.nodes[nid]!.zones) yield* scan_zone_unevictable_pages(m, zone);
  }
  return 1;
}

/** compaction.c: sysfs_compact_node. All of the text is taken, whatever it says. */
function* compact_whole_node(m: Machine, nid: nid_t, length: number): Job {
  yield* compact_node(m, nid);
  return length;
}
