/**
 * /sys/devices/system/node as 6.1 prints it (recorded: debian-6.1/verbatim).
 *
 * Since 2.6.35 the lists end without a NUL, nodeN/meminfo begins without an empty line, nodeN/vmstat
 * and a few lists of nodes are new, and has_cpu tells the truth.
 * Linux: drivers/base/node.c, mm/compaction.c (compact_store). Differs: cpuN, memoryN, subsystem, power,
 * x86 and uevent are absent, as are the directories that the links lead to; cpulist has a size of 4096.
 */

import { kb_line, lru_lines, node_huge_page_lines, pages_kb } from '../../fs/proc/meminfo.ts';
import {
  all_nodes,
  NODE_DIR,
  node_common_files,
  node_compact_file,
  node_list,
  numa,
} from '../../fs/sysfs/node.ts';
import { bitmap_list } from '../../lib/bitmap.ts';
import type { FileRow } from '../../lib/file_row.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import { type Machine, nodes_with_memory } from '../../mm/mmzone.ts';
import type { nid_t } from '../../mm/page.ts';
import {
  NR_ANON_PAGES,
  NR_ANON_THPS,
  NR_BOUNCE,
  NR_FILE_DIRTY,
  NR_FILE_MAPPED,
  NR_FILE_PAGES,
  NR_FREE_PAGES,
  NR_KERNEL_STACK,
  NR_PAGETABLE,
  NR_SHMEM,
  NR_SLAB_RECLAIMABLE,
  NR_SLAB_UNRECLAIMABLE,
  NR_WRITEBACK,
  NR_WRITEBACK_TEMP,
  node_page_state,
} from '../../mm/vmstat.ts';
import { compact_store } from './compaction.ts';
import { node_vmstat_show, THREAD_SIZE_KB } from './vmstat.ts';

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
  lru_lines(kb, pages);
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
  node_huge_page_lines(seq, m, nid);
}

function nodes_state(seq: SeqFile, nids: readonly nid_t[]): void {
  seq.puts(bitmap_list(nids)).puts('\n');
}

/** A file that lists some nodes. */
const list = (name: string, doc: string, nids: (m: Machine) => nid_t[]): FileRow<Machine> =>
  node_list(name, doc, nids, nodes_state);

const nodes_with_cpus = (m: Machine): number[] =>
  m.nodes.filter((node) => node.cpus.length > 0).map((node) => node.nid);

export const node_files: readonly FileRow<Machine>[] = [
  list('possible', 'nodes that may exist', all_nodes),
  list('online', 'nodes that exist', all_nodes),
  list('has_normal_memory', 'nodes with memory that the kernel can use', nodes_with_memory),
  list('has_memory', 'nodes with memory', nodes_with_memory),
  list('has_cpu', 'nodes with CPUs', nodes_with_cpus),
  list('has_generic_initiator', 'nodes with devices that access memory: none', () => []),
  ...node_common_files(node_meminfo_show),
  {
    path: NODE_DIR + 'node{nid}/vmstat',
    mode: 0o444,
    show: (seq, m, ctx) => node_vmstat_show(seq, m, ctx.id),
    when: numa,
    doc: 'counters of pages of the node by kind',
  },
  node_compact_file(compact_store),
];
