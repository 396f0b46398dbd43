/** The kernel and the machine shape that recordings of 2.6.35 are replayed with. */
import { linux_2_6_35 } from '../kernels/linux-2.6.35/profile.ts';
import type { KernelProfile, Shape } from '../mm/mmzone.ts';

export const REPLAY_KERNEL: KernelProfile = linux_2_6_35;

/** x86-64 with 4 KiB pages; records say how many CPUs and how large a pageblock. */
export const REPLAY_SHAPE: Shape = {
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
  nr_cpus: 1,
  numa: true,
  compaction: true,
};
