/** x86-64 as the recorded kernels were built, one CPU: what test machines are made of or vary. */
import type { Shape } from '../../src/mm/mmzone.ts';

/** 2.6.35. Not src/arch.ts's: a test machine stays what it is when that changes. */
export const X86_64: Shape = {
  machine: 'x86_64',
  page_shift: 12,
  max_order: 11,
  pageblock_order: 9,
  zone_names: ['DMA', 'DMA32', 'Normal', 'Movable'],
  ZONE_DMA: 0,
  ZONE_DMA32: 1,
  ZONE_NORMAL: 2,
  ZONE_HIGHMEM: -1,
  ZONE_MOVABLE: 3,
  section_nr_pages: 32768,
  flatmem: false,
  sizeof_struct_page: 56,
  bytes_per_long: 8,
  nr_cpus: 1,
  numa: true,
  compaction: true,
};

/** The same of 6.1, as Debian configures it. */
export const X86_64_6_1: Shape = {
  ...X86_64,
  zone_names: ['DMA', 'DMA32', 'Normal', 'Movable', 'Device'],
  sizeof_struct_page: 64,
};
