/**
 * /proc/meminfo as 2.6.35 prints it, byte for byte, and what nodeN/meminfo shares with it.
 *
 * Linux: fs/proc/meminfo.c, mm/hugetlb.c (hugetlb_report_meminfo), arch/x86/mm/pageattr.c
 * (arch_report_meminfo). Differs: of vmalloc space only the tables that are sized by memory and
 * swap are modelled, the rest of VmallocUsed and VmallocChunk is that of the recorded idle machines;
 * DirectMap is computed from the layout, since no kernel splits its mappings here.
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
import type { Machine, Zone } from '../../mm/mmzone.ts';
import {
  global_page_state,
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
  zone_page_state,
} from '../../mm/vmstat.ts';
import { large_system_hash_bytes } from './watermark.ts';

/** KiB of a kernel stack (THREAD_SIZE). */
export function thread_size_kb(m: Machine): number {
  return m.shape.machine === 'ppc64' ? 16 : 8;
}

/** Frames of RAM in a zone: present_pages and what its memmap took (page_alloc.c). */
function ram_pages(m: Machine, zone: Zone): number {
  const memmap = Math.ceil(
    (zone.spanned_pages * m.shape.sizeof_struct_page) / 2 ** m.shape.page_shift,
  );
  return zone.present_pages + memmap;
}

/** Pages of high memory, and how many of them are free. */
function high_memory(m: Machine): { total: number; free: number } {
  let total = 0;
  let free = 0;
  for (const zone of m.populated_zones) {
    if (zone.zone_idx !== m.shape.ZONE_HIGHMEM) continue;
    total += ram_pages(m, zone);
    free += zone_page_state(zone, NR_FREE_PAGES);
  }
  return { total, free };
}

/** Pages that one huge page is made of, in KiB. */
export function huge_page_kb(m: Machine): number {
  if (m.shape.machine === 'ppc64') return 16384;
  return pages_kb(m, 2 ** m.shape.pageblock_order);
}

/**
 * The kernel's own mapping of memory on x86: 2 MiB pages, but 4 KiB ones where the first 2 MiB (on
 * 32 bits: and the kernel's text) and a last, partial piece need them.
 */
function direct_map(seq: SeqFile, m: Machine): void {
  let low_end = 0;
  let high_kb = 0;
  const four_gb = 2 ** (32 - m.shape.page_shift);
  for (const zone of m.populated_zones) {
    if (zone.zone_idx === m.shape.ZONE_HIGHMEM || zone.zone_idx === m.shape.ZONE_DMA) continue;
    // Below 4 GiB a zone's only hole is at its end.
    const end = zone.zone_start_pfn + ram_pages(m, zone);
    if (zone.zone_start_pfn < four_gb) low_end = Math.max(low_end, end);
    else high_kb = Math.max(high_kb, pages_kb(m, end - four_gb));
  }
  const low_kb = pages_kb(m, low_end);
  const split = m.shape.machine === 'x86' ? 4096 : 2048;
  const small = Math.min(low_kb, split + (low_kb % 2048)) + (high_kb % 2048);
  seq.puts('DirectMap4k:    ').put_dec(small, 8).puts(' kB\n');
  seq
    .puts('DirectMap2M:    ')
    .put_dec(low_kb + high_kb - small, 8)
    .puts(' kB\n');
}

/** VmallocTotal, and VmallocUsed without the tables below, in KiB: see the head of this file. */
const VMALLOC: Record<string, readonly [number, number]> = {
  x86_64: [34359738367, 8292],
  x86: [122880, 60],
  ppc64: [8589934592, 8292],
};
/** What of the space is in no piece, in KiB: gaps between areas. */
const VMALLOC_GAPS: Record<string, number> = { x86_64: 72, x86: 36, ppc64: 72 };

/** Areas of vmalloc, each with a guard page behind it, in KiB: tables that are too large for kmalloc. */
function vmalloc_tables(m: Machine): number[] {
  const page = 2 ** (m.shape.page_shift - 10);
  const area = (bytes: number): number => Math.ceil(bytes / 1024 / page) * page + page;
  // One byte a slot of a swap area; the tables of dentries and inodes, which NUMA spreads.
  const tables = m.swap_info.map((swap) => area(swap.pages));
  if (m.shape.numa)
    for (const scale of [13, 14]) tables.push(area(large_system_hash_bytes(m, scale)));
  return tables;
}

function vmalloc_lines(seq: SeqFile, m: Machine): void {
  const [total, own] = VMALLOC[m.shape.machine]!;
  const used = vmalloc_tables(m).reduce((sum, kb) => sum + kb, own);
  const gaps = VMALLOC_GAPS[m.shape.machine]! + m.swap_info.length * 4;
  kb_line(seq, 'VmallocTotal', total);
  kb_line(seq, 'VmallocUsed', used);
  kb_line(seq, 'VmallocChunk', total - used - gaps);
}

/** fs/proc/meminfo.c: meminfo_proc_show. Stays below 2048 bytes: hugeadm reads it in one piece. */
export function meminfo_show(seq: SeqFile, m: Machine): void {
  const state = (item: number): number => pages_kb(m, global_page_state(m, item));
  const free = global_page_state(m, NR_FREE_PAGES);
  const buffers = nr_blockdev_pages(m);
  const swap_cache = m.swapper_space.nrpages;
  const cached = Math.max(0, global_page_state(m, NR_FILE_PAGES) - swap_cache - buffers);

  kb_line(seq, 'MemTotal', pages_kb(m, m.totalram_pages));
  kb_line(seq, 'MemFree', pages_kb(m, free));
  kb_line(seq, 'Buffers', pages_kb(m, buffers));
  kb_line(seq, 'Cached', pages_kb(m, cached));
  kb_line(seq, 'SwapCached', pages_kb(m, swap_cache));
  lru_lines(
    (label, pages) => kb_line(seq, label, pages_kb(m, pages)),
    (item) => global_page_state(m, item),
  );
  if (m.shape.ZONE_HIGHMEM >= 0) {
    const high = high_memory(m);
    kb_line(seq, 'HighTotal', pages_kb(m, high.total));
    kb_line(seq, 'HighFree', pages_kb(m, high.free));
    kb_line(seq, 'LowTotal', pages_kb(m, m.totalram_pages - high.total));
    kb_line(seq, 'LowFree', pages_kb(m, free - high.free));
  }
  kb_line(seq, 'SwapTotal', pages_kb(m, m.total_swap_pages));
  kb_line(seq, 'SwapFree', pages_kb(m, m.nr_swap_pages));
  kb_line(seq, 'Dirty', state(NR_FILE_DIRTY));
  kb_line(seq, 'Writeback', state(NR_WRITEBACK));
  kb_line(seq, 'AnonPages', state(NR_ANON_PAGES));
  kb_line(seq, 'Mapped', state(NR_FILE_MAPPED));
  kb_line(seq, 'Shmem', state(NR_SHMEM));
  kb_line(seq, 'Slab', state(NR_SLAB_RECLAIMABLE) + state(NR_SLAB_UNRECLAIMABLE));
  kb_line(seq, 'SReclaimable', state(NR_SLAB_RECLAIMABLE));
  kb_line(seq, 'SUnreclaim', state(NR_SLAB_UNRECLAIMABLE));
  kb_line(seq, 'KernelStack', global_page_state(m, NR_KERNEL_STACK) * thread_size_kb(m));
  kb_line(seq, 'PageTables', state(NR_PAGETABLE));
  kb_line(seq, 'NFS_Unstable', state(NR_UNSTABLE_NFS));
  kb_line(seq, 'Bounce', state(NR_BOUNCE));
  kb_line(seq, 'WritebackTmp', state(NR_WRITEBACK_TEMP));
  kb_line(seq, 'CommitLimit', pages_kb(m, commit_limit(m)));
  kb_line(seq, 'Committed_AS', pages_kb(m, m.vm_committed_as));
  vmalloc_lines(seq, m);
  huge_page_lines(seq, m);
  kb_line(seq, 'Hugepagesize', huge_page_kb(m));
  if (m.shape.machine !== 'ppc64') direct_map(seq, m);
}

export const meminfo_files: readonly FileRow<Machine>[] = [
  {
    path: '/proc/meminfo',
    mode: 0o444,
    show: meminfo_show,
    doc: 'memory in KiB by use, as free and hugeadm read it',
  },
];
