/**
 * /sys/devices/system/node as 2.6.35 prints it, on machines built with NUMA.
 *
 * Linux: drivers/base/node.c, mm/vmscan.c (scan_unevictable_register_node), mm/compaction.c
 * (sysfs_compact_node). The quirks are the recorded ones: an empty line begins nodeN/meminfo, a NUL
 * ends the node lists, and has_cpu is empty, because nothing ever sets that state for CPUs that
 * are there at boot. There is no nodeN/vmstat in this kernel. Differs: cpuN links are absent, as is
 * the directory of CPUs that they lead to.
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
import { strict_strtoul } from '../../lib/kstrto.ts';
import type { Job } from '../../lib/kthread.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import { type Machine, nodes_with_memory } from '../../mm/mmzone.ts';
import type { nid_t } from '../../mm/page.ts';
import {
  NR_ANON_PAGES,
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
  NR_UNSTABLE_NFS,
  NR_WRITEBACK,
  NR_WRITEBACK_TEMP,
  node_page_state,
  zone_page_state,
} from '../../mm/vmstat.ts';
import { compact_node } from './compaction.ts';
import { node_hugepage_files } from './hugetlb_files.ts';
import { thread_size_kb } from './meminfo.ts';
import { scan_zone_unevictable_pages } from './unevictable.ts';

/** node.c: print_nodes_state. */
function nodes_state(seq: SeqFile, nids: readonly nid_t[]): void {
  if (nids.length > 0) seq.puts(bitmap_list(nids)).puts('\n\0');
}

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
  lru_lines(kb, pages);
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
  node_huge_page_lines(seq, m, nid);
}

export const node_files: readonly FileRow<Machine>[] = [
  node_list('possible', 'nodes that may exist', all_nodes, nodes_state),
  node_list('online', 'nodes that exist', all_nodes, nodes_state),
  node_list('has_normal_memory', 'nodes with memory', nodes_with_memory, nodes_state),
  node_list(
    'has_cpu',
    'empty: this kernel lists only nodes whose CPUs came after boot',
    () => [],
    nodes_state,
  ),
  ...node_common_files(node_meminfo_show),
  {
    path: NODE_DIR + 'node{nid}/scan_unevictable_pages',
    mode: 0o644,
    show(seq) {
      seq.puts('0\n');
    },
    store: (m, text, ctx) => scan_node(m, ctx.id, text),
    when: numa,
    doc: 'what is no number looks for pages that can be reclaimed after all; always reads 0',
  },
  ...node_hugepage_files,
  node_compact_file(compact_node),
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
