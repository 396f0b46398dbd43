/**
 * /proc/meminfo as 6.1 prints it, byte for byte (recorded: debian-6.1/verbatim), and what
 * nodeN/meminfo shares with it.
 *
 * New since 2.6.35 is above all MemAvailable: what programs may take before the machine swaps.
 * Linux: fs/proc/meminfo.c, mm/page_alloc.c (si_mem_available). Differs: vmalloc space and per-CPU
 * memory are not modelled: as recorded on an idle machine; so is what of the direct mapping is split.
 */
import {
  commit_limit,
  huge_page_lines,
  kb_line,
  lru_lines,
  nr_blockdev_pages,
  pages_kb,
} from '../../fs/proc/meminfo.ts';
import type { FileRow } from '../../lib/file_row.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import { hugetlb_total_pages } from '../../mm/hugetlb_def.ts';
import { type Machine, WMARK_LOW } from '../../mm/mmzone.ts';
import {
  global_page_state,
  NR_ACTIVE_FILE,
  NR_ANON_PAGES,
  NR_ANON_THPS,
  NR_BOUNCE,
  NR_FILE_DIRTY,
  NR_FILE_MAPPED,
  NR_FILE_PAGES,
  NR_FREE_PAGES,
  NR_INACTIVE_FILE,
  NR_KERNEL_STACK,
  NR_PAGETABLE,
  NR_SHMEM,
  NR_SLAB_RECLAIMABLE,
  NR_SLAB_UNRECLAIMABLE,
  NR_WRITEBACK,
  NR_WRITEBACK_TEMP,
} from '../../mm/vmstat.ts';
import { THREAD_SIZE_KB } from './vmstat.ts';
import { wmark_pages } from './watermark.ts';

/** KiB as recorded: see the head of this file. */
const VMALLOC_TOTAL_KB = 13743895347199;
const VMALLOC_USED_KB = 12540;
const PERCPU_KB = 260;
const DIRECT_MAP_4K_KB = 32640;

/**
 * Pages that can be had without swapping: free ones beyond the reserves, and what of page cache and
 * reclaimable slabs need not stay. (page_alloc.c: si_mem_available)
 */
export function si_mem_available(m: Machine): number {
  let wmark_low = 0;
  for (const zone of m.populated_zones) wmark_low += wmark_pages(zone, WMARK_LOW);
  const share = (pages: number): number => pages - Math.min(Math.floor(pages / 2), wmark_low);
  const available =
    global_page_state(m, NR_FREE_PAGES) -
    m.totalreserve_pages +
    share(global_page_state(m, NR_ACTIVE_FILE) + global_page_state(m, NR_INACTIVE_FILE)) +
    share(global_page_state(m, NR_SLAB_RECLAIMABLE));
  return Math.max(0, available);
}

/** The kernel's own mapping of memory: 2 MiB pages but for its first part. */
function direct_map(seq: SeqFile, m: Machine): void {
  let ram = 0;
  for (const zone of m.populated_zones) ram = Math.max(ram, zone.zone_start_pfn + zone.ram_pages);
  const total = pages_kb(m, ram);
  const small = Math.min(total, DIRECT_MAP_4K_KB);
  kb_line(seq, 'DirectMap4k', small);
  kb_line(seq, 'DirectMap2M', Math.floor((total - small) / 2048) * 2048);
  kb_line(seq, 'DirectMap1G', 0);
}

/** fs/proc/meminfo.c: meminfo_proc_show. */
export function meminfo_show(seq: SeqFile, m: Machine): void {
  const pages = (item: number): number => global_page_state(m, item);
  const kb = (label: string, nr: number): void => kb_line(seq, label, pages_kb(m, nr));
  const buffers = nr_blockdev_pages(m);
  const swap_cache = m.swapper_space.nrpages;
  const slab = pages(NR_SLAB_RECLAIMABLE);
  kb('MemTotal', m.totalram_pages);
  kb('MemFree', pages(NR_FREE_PAGES));
  kb('MemAvailable', si_mem_available(m));
  kb('Buffers', buffers);
  kb('Cached', Math.max(0, pages(NR_FILE_PAGES) - swap_cache - buffers));
  kb('SwapCached', swap_cache);
  lru_lines(kb, pages);
  kb('SwapTotal', m.total_swap_pages);
  kb('SwapFree', m.nr_swap_pages);
  kb('Zswap', 0);
  kb('Zswapped', 0);
  kb('Dirty', pages(NR_FILE_DIRTY));
  kb('Writeback', pages(NR_WRITEBACK));
  kb('AnonPages', pages(NR_ANON_PAGES));
  kb('Mapped', pages(NR_FILE_MAPPED));
  kb('Shmem', pages(NR_SHMEM));
  kb('KReclaimable', slab);
  kb('Slab', slab + pages(NR_SLAB_UNRECLAIMABLE));
  kb('SReclaimable', slab);
  kb('SUnreclaim', pages(NR_SLAB_UNRECLAIMABLE));
  kb_line(seq, 'KernelStack', pages(NR_KERNEL_STACK) * THREAD_SIZE_KB);
  kb('PageTables', pages(NR_PAGETABLE));
  kb('SecPageTables', 0);
  kb('NFS_Unstable', 0);
  kb('Bounce', pages(NR_BOUNCE));
  kb('WritebackTmp', pages(NR_WRITEBACK_TEMP));
  kb('CommitLimit', commit_limit(m));
  kb('Committed_AS', m.vm_committed_as);
  kb_line(seq, 'VmallocTotal', VMALLOC_TOTAL_KB);
  kb_line(seq, 'VmallocUsed', VMALLOC_USED_KB);
  kb_line(seq, 'VmallocChunk', 0);
  kb_line(seq, 'Percpu', PERCPU_KB);
  seq.puts('HardwareCorrupted:     0 kB\n');
  kb('AnonHugePages', pages(NR_ANON_THPS));
  kb('ShmemHugePages', 0);
  kb('ShmemPmdMapped', 0);
  kb('FileHugePages', 0);
  kb('FilePmdMapped', 0);
  huge_page_lines(seq, m);
  kb('Hugepagesize', 2 ** m.shape.pageblock_order);
  kb('Hugetlb', hugetlb_total_pages(m));
  direct_map(seq, m);
}

export const meminfo_files: readonly FileRow<Machine>[] = [
  {
    path: '/proc/meminfo',
    mode: 0o444,
    show: meminfo_show,
    doc: 'memory in KiB by use, as free reads it',
  },
];
