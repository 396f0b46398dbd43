/**
 * The machines that can be booted: what each architecture fixes, and where its RAM lies.
 *
 * x86_64: 4 KiB pages, zones DMA, DMA32, Normal, NUMA kernel. x86: 32-bit with PAE and HighMem, flat
 * memory, no NUMA. ppc64: one DMA zone, 16 MiB huge pages, page blocks and largest blocks, 4 KiB or
 * 64 KiB pages. Sizes and boundaries: reference 1.2, 1.3; the firmware's reservations are those of
 * the recorded machines (QEMU "pc", dmesg of files/), so that their numbers come out.
 * Linux: arch/x86/kernel/e820.c, arch/x86/mm/init_64.c, init_32.c, arch/powerpc/mm.
 */
import type { Shape } from './mm/mmzone.ts';

export type MachineName = 'x86_64' | 'x86' | 'ppc64';

/** A range of page frames [start, end). */
export interface PfnRange {
  start: number;
  end: number;
}

export interface ArchOptions {
  memory: number;
  cpus: number;
  numa: boolean;
  compaction: boolean;
  page_shift: number;
}

/** Frames at the top of low RAM that the firmware keeps for its tables (recorded: 0x1ffdd of 0x20000). */
const ACPI_PAGES = 0x23;
/** RAM above this address is moved behind 4 GiB, to leave room for devices. */
const BELOW_4G_END = 0xc0000;
/** One past the last frame of low memory on 32-bit x86, as recorded (reference C14). */
const X86_MAX_LOW_PFN = 0x37bfe;

/** The shape of a machine of this kind. */
export function machine_shape(machine: MachineName, o: ArchOptions): Shape {
  const common = { machine, nr_cpus: o.cpus, compaction: o.compaction };
  if (machine === 'x86_64') {
    return {
      ...common,
      page_shift: 12,
      max_order: 11,
      pageblock_order: 9,
      zone_names: ['DMA', 'DMA32', 'Normal', 'Movable'],
      ZONE_DMA: 0,
      ZONE_DMA32: 1,
      ZONE_NORMAL: 2,
      ZONE_HIGHMEM: -1,
      ZONE_MOVABLE: 3,
      section_nr_pages: 32768, // SECTION_SIZE_BITS 27
      flatmem: false,
      sizeof_struct_page: 56,
      bytes_per_long: 8,
      numa: o.numa,
    };
  }
  if (machine === 'x86') {
    return {
      ...common,
      page_shift: 12,
      max_order: 11,
      pageblock_order: 9,
      zone_names: ['DMA', 'Normal', 'HighMem', 'Movable'],
      ZONE_DMA: 0,
      ZONE_DMA32: -1,
      ZONE_NORMAL: 1,
      ZONE_HIGHMEM: 2,
      ZONE_MOVABLE: 3,
      section_nr_pages: 32768,
      flatmem: true,
      sizeof_struct_page: 32,
      bytes_per_long: 4,
      numa: false,
    };
  }
  const small = o.page_shift === 12;
  return {
    ...common,
    page_shift: o.page_shift,
    max_order: small ? 13 : 9,
    pageblock_order: small ? 12 : 8,
    zone_names: ['DMA', 'Normal', 'Movable'],
    ZONE_DMA: 0,
    ZONE_DMA32: -1,
    ZONE_NORMAL: 1,
    ZONE_HIGHMEM: -1,
    ZONE_MOVABLE: 2,
    section_nr_pages: 2 ** (24 - o.page_shift), // SECTION_SIZE_BITS 24
    flatmem: false,
    sizeof_struct_page: 56,
    bytes_per_long: 8,
    numa: o.numa,
  };
}

/** One past the highest frame that a page table entry can hold (mm/page_table.ts). */
const MAX_PFN = 2 ** 28;

/** The RAM that the kernel registers, ascending, in frames. */
export function ram_ranges(machine: MachineName, o: ArchOptions): PfnRange[] {
  const frames = Math.floor(o.memory / 2 ** o.page_shift);
  if (machine === 'ppc64') return [{ start: 0, end: frames }];
  const low_end = Math.min(frames, BELOW_4G_END);
  const ranges = [
    // Frame 0 and 640 KiB to 1 MiB belong to the firmware (trim_bios_range).
    { start: 1, end: 0x9f },
    { start: 0x100, end: low_end - ACPI_PAGES },
  ];
  // Page table entries hold 28 bits of frame number: what the hole pushes above 1 TiB is not used.
  const end = Math.min(0x100000 + frames - low_end, MAX_PFN);
  if (frames > low_end) ranges.push({ start: 0x100000, end });
  return ranges;
}

/** Where each zone index begins and ends, for RAM that ends at `end_pfn`. */
export function zone_ranges(shape: Shape, end_pfn: number): PfnRange[] {
  const ranges: PfnRange[] = shape.zone_names.map(() => ({ start: 0, end: 0 }));
  if (shape.machine === 'ppc64') {
    ranges[0] = { start: 0, end: end_pfn };
    return ranges;
  }
  ranges[0] = { start: 1, end: Math.min(4096, end_pfn) };
  if (shape.machine === 'x86_64') {
    ranges[1] = { start: 4096, end: Math.min(0x100000, end_pfn) };
    if (end_pfn > 0x100000) ranges[2] = { start: 0x100000, end: end_pfn };
    return ranges;
  }
  const low_end = Math.min(X86_MAX_LOW_PFN, end_pfn);
  ranges[1] = { start: 4096, end: low_end };
  if (end_pfn > low_end) ranges[2] = { start: low_end, end: end_pfn };
  return ranges;
}

/**
 * Splits the RAM over `nodes` as evenly as 64 MiB borders allow, by address (recorded: fake nodes).
 * Returns the first frame of each node, and the end of the last.
 */
export function node_borders(
  ram: readonly PfnRange[],
  nodes: number,
  page_shift: number,
): number[] {
  const align = 2 ** (26 - page_shift);
  let total = 0;
  for (const r of ram) total += r.end - r.start;
  const borders = [ram[0]!.start];
  for (let n = 1; n < nodes; n++) {
    let left = Math.floor((total * n) / nodes);
    for (const r of ram) {
      const size = r.end - r.start;
      if (left >= size) {
        left -= size;
        continue;
      }
      borders.push(Math.round((r.start + left) / align) * align);
      break;
    }
  }
  borders.push(ram[ram.length - 1]!.end);
  return borders;
}
