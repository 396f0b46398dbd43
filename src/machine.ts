/**
 * Booting: from a configuration to a machine whose memory is free, as after init has started.
 *
 * 1. The firmware's memory map gives RAM ranges; nodes and zones are cut from them.
 * 2. What the kernel image, per-CPU areas and the memmap itself occupy is reserved; holes too.
 * 3. Everything else is freed upwards, which leaves the largest blocks highest address first.
 * 4. Zonelists, grouping by mobility, watermarks, RESERVE blocks.
 * 5. The first allocations: hash tables, slab caches, kernel threads.
 * Linux: arch/x86/kernel/setup.c, mm/bootmem.c, mm/sparse-vmemmap.c, init/main.c. The reservations
 * are those of the recorded machines; their sizes follow memory size, CPUs and nodes as there.
 */
import {
  type MachineName,
  machine_shape,
  node_borders,
  type PfnRange,
  ram_ranges,
  zone_ranges,
} from './arch.ts';
import { disk_mount } from './fs/disk/index.ts';
import { linux_2_6_35 } from './kernels/linux-2.6.35/profile.ts';
import { kernel_boot } from './kernels/linux-2.6.35/setup.ts';
import { large_system_hash_bytes } from './kernels/linux-2.6.35/watermark.ts';
import { linux_6_1 } from './kernels/linux-6.1/profile.ts';
import {
  free_bootmem as free_bootmem_61,
  kernel_boot as kernel_boot_61,
  kernel_shape as kernel_shape_61,
} from './kernels/linux-6.1/setup.ts';
import type { Job } from './lib/kthread.ts';
import type { BlockDevice } from './mm/block_device.ts';
import { add_to_free_list } from './mm/buddy.ts';
import { as_kthread } from './mm/kthread.ts';
import { assemble_machine, type ZoneLayout } from './mm/mm_init.ts';
import {
  type KernelProfile,
  type KernelThread,
  type Machine,
  type PerCpuPages,
  page_zone,
  pfn_valid,
  type Shape,
  type Zone,
  zone_end_pfn,
} from './mm/mmzone.ts';
import { PG_reserved } from './mm/page_flags.ts';
import { flusher_tick } from './mm/page_writeback.ts';
import { get_pageblock_migratetype } from './mm/pageblock.ts';
import { swapon } from './mm/swap_state.ts';
import { NR_FREE_PAGES, PGFREE } from './mm/vmstat.ts';

/** What `pageblock mount` and library callers may choose. Every field has a default. */
export interface MachineConfig {
  kernel?: KernelName;
  /** false: a kernel built without memory compaction ("vanilla"). */
  compaction?: boolean;
  machine?: MachineName;
  /** Bytes of RAM. */
  memory?: number;
  nodes?: number;
  /** false: a kernel built without NUMA. */
  numa?: boolean;
  cpus?: number;
  seed?: number;
  /** ppc64 only: 4096 or 65536. */
  page_size?: number;
  /** Huge pages of 1 GiB beside those of 2 MiB, as hugepagesz=1G does (x86_64). */
  gbpages?: boolean;
  /** Bytes of the swap area, its header page included; 0: no swap. */
  swap?: number;
  /** What swap is written to, of swap_device_bytes; without one it lies in the program's memory. */
  swap_device?: BlockDevice;
  /** Wall clock at boot, milliseconds since the epoch. */
  boot_time_ms?: number;
  /** What the emulated disk stores to; without one there is no /disk. */
  disk?: BlockDevice;
  /** Owner of the files on the emulated disk's root. */
  uid?: number;
  gid?: number;
}

export type KernelName = '2.6.35' | '6.1';

/** What booting asks of a kernel's folder. */
interface BootKernel {
  readonly profile: KernelProfile;
  kernel_boot(m: Machine): void;
  /** What it changes of the machine's shape. */
  kernel_shape?(shape: Shape): Shape;
  /** How it frees boot memory, where it does that in its own way. */
  free_bootmem?(m: Machine, start: number, end: number): void;
}

const KERNELS: Record<KernelName, BootKernel> = {
  '2.6.35': { profile: linux_2_6_35, kernel_boot },
  '6.1': {
    profile: linux_6_1,
    kernel_boot: kernel_boot_61,
    kernel_shape: kernel_shape_61,
    free_bootmem: free_bootmem_61,
  },
};

const MIB = 2 ** 20;
const MAX_NODES = 64;
const MAX_CPUS = 64;
/** Frames that x86-64's zone 0 does without: firmware, trampoline; page tables come on top. */
const DMA_RESERVE = 97;

/** A configuration with every choice made; throws RangeError with one line on what cannot be. */
export function resolve_config(
  config: MachineConfig,
): Required<Omit<MachineConfig, 'disk' | 'swap_device'>> {
  const machine = config.machine ?? 'x86_64';
  const numa = config.numa ?? machine !== 'x86';
  const c = {
    kernel: config.kernel ?? '2.6.35',
    compaction: config.compaction ?? true,
    machine,
    memory: config.memory ?? 2048 * MIB,
    nodes: config.nodes ?? 1,
    numa,
    cpus: config.cpus ?? 1,
    seed: config.seed ?? 1,
    page_size: config.page_size ?? 4096,
    swap: config.swap ?? 0,
    gbpages: config.gbpages ?? false,
    boot_time_ms: config.boot_time_ms ?? 0,
    uid: config.uid ?? 0,
    gid: config.gid ?? 0,
  };
  const whole = (value: number, name: string, min: number, max: number): void => {
    if (!Number.isInteger(value) || value < min || value > max) {
      throw new RangeError(`${name} must be a whole number from ${min} to ${max}, not ${value}`);
    }
  };
  if (KERNELS[c.kernel] === undefined) {
    throw new RangeError(`no kernel ${c.kernel}: choose ${Object.keys(KERNELS).join(' or ')}`);
  }
  if (c.kernel === '6.1' && machine !== 'x86_64') {
    throw new RangeError('kernel 6.1 runs on machine x86_64 alone');
  }
  if (!['x86_64', 'x86', 'ppc64'].includes(machine)) {
    throw new RangeError(`no machine ${machine}: choose x86_64, x86 or ppc64`);
  }
  whole(c.cpus, 'cpus', 1, MAX_CPUS);
  whole(c.nodes, 'nodes', 1, MAX_NODES);
  whole(c.seed, 'seed', 0, 2 ** 32 - 1);
  if (c.memory < 64 * MIB || c.memory > 2 ** 40 || !Number.isFinite(c.memory)) {
    throw new RangeError('memory must be from 64M to 1T');
  }
  if (machine === 'x86' && c.memory > 64 * 1024 * MIB) {
    throw new RangeError('memory of an x86 machine (PAE) must be at most 64G');
  }
  if (c.page_size !== 4096 && !(machine === 'ppc64' && c.page_size === 65536)) {
    throw new RangeError('page size must be 4096, or 65536 on ppc64');
  }
  if (c.swap !== 0 && (c.swap < 2 * c.page_size || c.swap > 2 ** 40)) {
    throw new RangeError('swap must be from two pages to 1T');
  }
  if (c.gbpages && machine !== 'x86_64') {
    throw new RangeError('huge pages of 1G need machine x86_64');
  }
  if (machine === 'x86' && numa) throw new RangeError('an x86 machine has no NUMA');
  if (c.nodes > 1 && !numa) {
    throw new RangeError(`more than one node needs a kernel with NUMA (machine ${machine})`);
  }
  if (c.memory / c.nodes < 64 * MIB) {
    throw new RangeError(`${c.nodes} nodes need at least ${c.nodes * 64}M of memory`);
  }
  return c;
}

/** Boots a machine. Throws RangeError when the configuration cannot be. */
export function boot(config: MachineConfig = {}): Machine {
  const c = resolve_config(config);
  const arch = {
    memory: c.memory,
    cpus: c.cpus,
    numa: c.numa,
    compaction: c.compaction,
    page_shift: Math.log2(c.page_size),
  };
  const kernel = KERNELS[c.kernel];
  const any_shape = machine_shape(c.machine, arch);
  const kernels_shape = kernel.kernel_shape?.(any_shape) ?? any_shape;
  const shape = c.gbpages ? { ...kernels_shape, gbpages: true } : kernels_shape;
  const ram = ram_ranges(c.machine, arch);
  const borders = node_borders(ram, c.nodes, shape.page_shift);
  // As recorded on 2.6.35; the recorded 6.1 has one page.
  const tables = kernel.profile.name === '2.6.35' ? direct_map_pages(ram) : 1;
  const m = assemble_machine({
    shape,
    kernel: kernel.profile,
    zones: zone_layouts(shape, ram, borders, tables),
    nr_nodes: c.nodes,
    seed: c.seed,
    boot_time_ms: c.boot_time_ms,
  });
  for (let nid = 0; nid < c.nodes; nid++) {
    m.nodes[nid]!.node_present_pages = ram_between(ram, borders[nid]!, borders[nid + 1]!);
  }
  mark_sections(m, ram);
  const reserved = boot_reservations(m, borders, tables);
  const free = subtract(ram, reserved);
  reserve_the_rest(m, free);
  // Until init the per-CPU lists are the boot pagesets: every page goes straight through them.
  for_each_pageset(m, (_zone, pcp) => {
    pcp.high = 0;
    pcp.batch = 1;
  });
  for (const range of free) {
    if (kernel.free_bootmem !== undefined) kernel.free_bootmem(m, range.start, range.end);
    else free_bootmem(m, range);
  }
  for (const zone of m.populated_zones) {
    zone.ram_pages = ram_between(ram, zone.zone_start_pfn, zone_end_pfn(zone));
  }
  for_each_pageset(m, (zone, pcp) => m.kernel.setup_pageset(m, zone, pcp));
  // empty_zero_page: a page of the kernel's bss, which is reserved.
  m.zero_pfn = shape.machine === 'ppc64' ? 128 : 0x1380;
  kernel.kernel_boot(m);
  const slots = Math.floor(c.swap / c.page_size);
  if (slots > 0 && swapon(m, '/dev/vda2', slots, config.swap_device) < 0) {
    throw new RangeError('the device is too small for the swap area');
  }
  if (config.disk !== undefined && disk_mount(m, config.disk, c.uid, c.gid) !== 0) {
    throw new RangeError('the disk is too small for a file system, or the memory for its tables');
  }
  return m;
}

function ram_between(ram: readonly PfnRange[], start: number, end: number): number {
  let pages = 0;
  for (const r of ram) pages += Math.max(0, Math.min(r.end, end) - Math.max(r.start, start));
  return pages;
}

/**
 * What a zone has of `frames` frames of RAM among `spanned`: the memmap is deducted, even where it
 * lies elsewhere, and from zone 0 what was taken before, page tables among it (page_alloc.c:
 * free_area_init_core).
 */
export function zone_present_pages(
  shape: Shape,
  zone_idx: number,
  spanned: number,
  frames: number,
  tables: number,
): number {
  const memmap = Math.ceil((spanned * shape.sizeof_struct_page) / 2 ** shape.page_shift);
  const present = Math.max(0, frames - memmap);
  // dma_reserve: what the firmware and the boot code took below 16 MiB (recorded: 98 or 99 pages, C4).
  if (zone_idx === 0 && shape.machine === 'x86_64') return present - DMA_RESERVE - tables;
  return present;
}

/**
 * Pages of tables for the kernel's mapping of RAM on x86-64: the first GiB has its own, each further
 * one takes a page, each 512 GiB one more, and so does a piece that is no whole 2 MiB
 * (init.c: init_memory_mapping).
 */
function direct_map_pages(ram: readonly PfnRange[]): number {
  const gib = 2 ** 18;
  let pages = 0;
  for (const { start, end } of ram) {
    if (start < 0x100) continue;
    const from = Math.max(gib, Math.floor(start / gib) * gib);
    pages += Math.max(0, Math.ceil((end - from) / gib)) + (end % 512 === 0 ? 0 : 1);
    if (end > 512 * gib) pages++;
  }
  return pages;
}

/** Zones of each node, with the deductions of free_area_init_core. */
function zone_layouts(
  shape: Shape,
  ram: readonly PfnRange[],
  borders: readonly number[],
  tables: number,
): ZoneLayout[] {
  const layouts: ZoneLayout[] = [];
  const kinds = zone_ranges(shape, borders[borders.length - 1]!);
  for (let nid = 0; nid + 1 < borders.length; nid++) {
    kinds.forEach((kind, zone_idx) => {
      const start = Math.max(kind.start, borders[nid]!);
      const end = Math.min(kind.end, borders[nid + 1]!);
      const frames = start < end ? ram_between(ram, start, end) : 0;
      if (frames === 0) return;
      const spanned = end - start;
      layouts.push({
        nid,
        zone_idx,
        start_pfn: start,
        spanned_pages: spanned,
        present_pages: zone_present_pages(shape, zone_idx, spanned, frames, tables),
      });
    });
  }
  return layouts;
}

/** Only sections with RAM have a memmap: the hole below 4 GiB has none. */
function mark_sections(m: Machine, ram: readonly PfnRange[]): void {
  const size = m.shape.section_nr_pages;
  m.section_valid.fill(0);
  if (m.shape.flatmem) {
    m.section_valid.fill(1, 0, Math.ceil(m.memmap.nr_pages / size));
    return;
  }
  for (const r of ram) {
    m.section_valid.fill(1, Math.floor(r.start / size), Math.ceil(r.end / size));
  }
}

/** What is in use before the allocator exists, in frames (dmesg of the recorded machines). */
function boot_reservations(m: Machine, borders: readonly number[], tables: number): PfnRange[] {
  const { shape } = m;
  const page_size = 2 ** shape.page_shift;
  const pages = (bytes: number): number => Math.ceil(bytes / page_size);
  const reserved: PfnRange[] = [];
  const take = (start: number, nr: number): number => {
    reserved.push({ start, end: start + nr });
    return start + nr;
  };

  // As recorded on 2.6.35; 6.1 has memblock.
  const recorded = m.kernel.name === '2.6.35';
  const sparse = shape.machine === 'x86_64' && recorded;
  let next: number;
  if (shape.machine === 'ppc64') {
    next = take(0, pages(12 * MIB)); // kernel text, data and bss at address 0
  } else if (shape.machine === 'x86') {
    x86_boot_pages(take, m);
    return reserved;
  } else {
    take(0x1, 2); // real-mode trampoline
    // Tables of the direct mapping: below 640 KiB, or behind 1 MiB when they do not fit there.
    take(tables > 0x97 - 2 ? 0x100 : 0x8, tables);
    // Text and data, then bss; the init sections between them are freed once init runs, and so are
    // 12 KiB of alternatives for more than one processor.
    take(0x1000, sparse ? 0x30f : 0x312);
    next = take(0x1372, 0x63);
    if (sparse) {
      next = sparse_init_pages(take, borders[1]!);
      const hashes = shape.numa ? pid_hash_pages(m) : pid_hash_pages(m) + hash_pages(m);
      next = take(next, BOOTMEM_PAGES + hashes + wait_table_pages(m, 0));
    } else next = percpu_pages(take, 0x1400, shape.nr_cpus, 25);
  }

  // The memmap. x86-64 and ppc64: virtual, in 2 MiB (16 MiB) blocks on the node they describe.
  const block_pages = shape.machine === 'ppc64' ? 2 ** (24 - shape.page_shift) : 512;
  const block_bytes = block_pages * page_size;
  let mapped = -1;
  let behind = next;
  for (let nid = 0; nid + 1 < borders.length; nid++) {
    const start = borders[nid]!;
    // pg_data_t, and the bitmap of boot memory, which x86-64 gives back.
    let at = nid === 0 ? next : take(start, sparse ? 3 : 4);
    if (sparse && nid > 0) {
      at = take(at + pages((borders[nid + 1]! - start) / 8), wait_table_pages(m, nid));
    }
    for (let s = 0; s * shape.section_nr_pages < m.memmap.nr_pages; s++) {
      if (m.section_valid[s] === 0) continue;
      const first = Math.max(s * shape.section_nr_pages, start);
      if (first >= Math.min((s + 1) * shape.section_nr_pages, borders[nid + 1]!)) continue;
      const bytes = shape.section_nr_pages * shape.sizeof_struct_page;
      const last_block = Math.ceil(((s + 1) * bytes) / block_bytes) - 1;
      for (let b = Math.floor((s * bytes) / block_bytes); b <= last_block; b++) {
        if (b <= mapped) continue;
        at = take(Math.ceil(at / block_pages) * block_pages, block_pages);
        mapped = b;
      }
    }
    if (nid === 0) behind = at;
  }
  if (sparse) percpu_pages(take, shape.nr_cpus === 1 ? 0x1400 : behind, shape.nr_cpus, 25);
  return reserved;
}

type Take = (start: number, nr: number) => number;

/**
 * The per-CPU areas: a unit of 2 MiB for each CPU, of which `kept` pages are kept. Returns where
 * they end.
 */
function percpu_pages(take: Take, start: number, nr_cpus: number, kept: number): number {
  const unit = 512;
  const first = Math.ceil(start / unit) * unit;
  for (let cpu = 0; cpu < nr_cpus; cpu++) take(first + cpu * unit, kept);
  return first + nr_cpus * unit;
}

/** What many small requests of boot code take on x86-64: as many pages as the recorded machine lacks. */
const BOOTMEM_PAGES = 9;

/**
 * Pages of the wait queue tables of a node's zones (page_alloc.c: zone_wait_table_init). Tables of
 * less than a page share one with other small requests.
 */
function wait_table_pages(m: Machine, nid: number): number {
  const entry = m.shape.machine === 'x86' ? 12 : 24;
  let pages = 0;
  for (const zone of m.nodes[nid]!.zones) {
    const queues = 2 ** Math.ceil(Math.log2(Math.floor(zone.spanned_pages / 256)));
    const bytes = Math.min(4096, Math.max(4, queues)) * entry;
    if (bytes >= 4096) pages += Math.ceil(bytes / 4096);
  }
  return pages;
}

/** Pages of the table of process ids, which lies in boot memory (kernel/pid.c: pidhash_init). */
function pid_hash_pages(m: Machine): number {
  return Math.ceil(large_system_hash_bytes(m, 18, 4096) / 2 ** m.shape.page_shift);
}

/** Pages of the tables of dentries and inodes, which only a kernel with NUMA makes later. */
function hash_pages(m: Machine): number {
  return (
    (large_system_hash_bytes(m, 13) + large_system_hash_bytes(m, 14)) / 2 ** m.shape.page_shift
  );
}

/**
 * 32-bit x86 from the kernel image upwards: text and data, bss, the page tables made by brk, the
 * memmap, tables (dmesg of the recorded machine lists them all).
 */
function x86_boot_pages(take: Take, m: Machine): void {
  take(0x1, 7); // trampolines, wake-up code of ACPI, page tables
  // Between data and bss: init sections and alternatives for more than one processor, freed later.
  take(0x1000, 0x32d);
  const brk = take(0x137e, 0x62);
  const bootmem = take(brk, 13 + 1);
  const page_size = 2 ** m.shape.page_shift;
  const memmap = Math.ceil((m.memmap.nr_pages * m.shape.sizeof_struct_page) / page_size);
  const tables = take(bootmem, memmap);
  const next = take(tables, wait_table_pages(m, 0) + pid_hash_pages(m));
  take(percpu_pages(take, next, m.shape.nr_cpus, 11) - 512 + 11, hash_pages(m));
}

/**
 * What setting up the memmap leaves behind the kernel image, `end0` being the end of node 0: its
 * pg_data_t, a page with the maps of the sections' pageblock types, page tables. Two arrays of 4 MiB
 * lie between them meanwhile, and are free again afterwards. Returns where the memmap begins
 * (mm/sparse.c: sparse_init; dmesg of the recorded machine).
 */
function sparse_init_pages(take: Take, end0: number): number {
  const array = 1024;
  const bootmap = take(0x13d5, 3);
  const usemap = bootmap + Math.ceil(end0 / 8 / 4096) + array;
  const tables = take(usemap, 1) + array - 1;
  return take(tables, 3);
}

/** The parts of `ranges` that no range of `holes` covers. */
function subtract(ranges: readonly PfnRange[], holes: readonly PfnRange[]): PfnRange[] {
  const sorted = [...holes].sort((a, b) => a.start - b.start);
  const left: PfnRange[] = [];
  for (const r of ranges) {
    let at = r.start;
    for (const h of sorted) {
      if (h.end <= at || h.start >= r.end) continue;
      if (h.start > at) left.push({ start: at, end: h.start });
      at = Math.max(at, h.end);
    }
    if (at < r.end) left.push({ start: at, end: r.end });
  }
  return left;
}

/** Frames of zones that are not going to be free: holes and reservations (PG_reserved). */
function reserve_the_rest(m: Machine, free: readonly PfnRange[]): void {
  const p = m.memmap;
  for (const zone of m.zones) {
    if (zone === undefined) continue;
    const span = { start: zone.zone_start_pfn, end: zone_end_pfn(zone) };
    for (const r of subtract([span], free)) {
      for (let pfn = r.start; pfn < r.end; pfn++) {
        if (!pfn_valid(m, pfn)) continue;
        p.flags[pfn] = PG_reserved;
        p._count[pfn] = 1;
      }
    }
  }
}

/**
 * Frees a range of boot memory upwards: single pages up to a 64-page border, then in 64s. A whole
 * block of the largest order would only be merged from 16 such chunks, so it is put on its list at
 * once. (bootmem.c: free_all_bootmem_core, __free_pages_bootmem)
 */
export function free_bootmem(m: Machine, range: PfnRange): void {
  const top = m.shape.max_order - 1;
  const top_pages = 2 ** top;
  const chunk_order = m.shape.machine === 'x86' ? 5 : 6;
  const chunk = 2 ** chunk_order;
  for (let pfn = range.start; pfn < range.end; ) {
    const zone: Zone = page_zone(m, pfn);
    const end = Math.min(range.end, zone_end_pfn(zone));
    if (pfn % top_pages === 0 && pfn + top_pages <= end && !is_highmem_x86(m, zone)) {
      const last = pfn + top_pages - chunk;
      add_to_free_list(m, zone, pfn, top, get_pageblock_migratetype(m, zone, last));
      zone.vm_stat[NR_FREE_PAGES]! += top_pages;
      m.vm_events[PGFREE]! += top_pages;
      m.totalram_pages += top_pages;
      pfn += top_pages;
    } else if (pfn % chunk === 0 && pfn + chunk <= end && !is_highmem_x86(m, zone)) {
      m.kernel.__free_pages_ok(m, pfn, chunk_order);
      m.totalram_pages += chunk;
      pfn += chunk;
    } else {
      m.kernel.free_hot_cold_page(m, pfn, false);
      m.totalram_pages++;
      pfn++;
    }
  }
}

function for_each_pageset(m: Machine, visit: (zone: Zone, pcp: PerCpuPages) => void): void {
  for (const zone of m.populated_zones) for (const pcp of zone.pageset) visit(zone, pcp);
}

/** HighMem is freed page by page (init_32.c: add_one_highpage_init). */
function is_highmem_x86(m: Machine, zone: Zone): boolean {
  return m.shape.ZONE_HIGHMEM >= 0 && zone.zone_idx === m.shape.ZONE_HIGHMEM;
}

/** The flusher of the only disk, as traces name it. */
const FLUSHER: KernelThread = { pid: 40, comm: 'flush-254:0' };

/**
 * Moves the virtual clock by `ms` milliseconds and runs what is due: writes that a disk would have
 * finished by now, the flusher, kswapd, ksmd. Ends in 0.
 */
export function* advance_clock(m: Machine, ms: number): Job {
  m.clock.now_ms += ms;
  yield* as_kthread(m, FLUSHER, flusher_tick(m));
  if (m.kernel.kswapd_tick !== undefined) yield* m.kernel.kswapd_tick(m);
  if (m.kernel.kcompactd_tick !== undefined) yield* m.kernel.kcompactd_tick(m);
  if (m.kernel.khugepaged_tick !== undefined) yield* m.kernel.khugepaged_tick(m);
  if (m.kernel.ksmd_tick !== undefined) yield* m.kernel.ksmd_tick(m);
  return 0;
}
