/**
 * The machine: nodes, zones, and everything that hangs on them.
 *
 * All state of an emulated machine is reachable from one Machine; functions take it as their first
 * argument and nothing is global, so two machines in one process never touch each other. State is
 * plain data (typed arrays, numbers, instances without closures), so that it can be saved, restored
 * and hashed. What the running kernel decides is in `kernel`, a table of functions.
 * Linux: include/linux/mmzone.h (struct zone, pglist_data), page_alloc.c (zonelists).
 */
import { BUG_ON } from '../lib/bug.ts';
import type { Clock } from '../lib/clock.ts';
import { Faults } from '../lib/faults.ts';
import type { FileRow, RowDirectory } from '../lib/file_row.ts';
import type { Job } from '../lib/kthread.ts';
import type { Prng } from '../lib/prng.ts';
import { WriteLog } from '../lib/write_log.ts';
import { type AddressSpace, Mappings, RadixTreeNodes, swap_aops } from './address_space.ts';
import type { BlockQueue } from './block_device.ts';
import { BufferHeads } from './buffer_head.ts';
import { Contents } from './contents.ts';
import { __GFP_DMA, __GFP_DMA32, __GFP_HIGHMEM, __GFP_MOVABLE, MIGRATE_TYPES } from './gfp.ts';
import type { ThpOps } from './huge_memory.ts';
import type { Hstate, HugetlbOps } from './hugetlb_def.ts';
import type { AnonVma, MmStruct, Task } from './mm_types.ts';
import type { Memmap, nid_t, order_t, pfn_t } from './page.ts';
import type { Shrinker } from './reclaim_def.ts';
import type { KsmRmap } from './rmap.ts';
import { type KmemCache, SlabState } from './slub_def.ts';
import type { SwapInfo } from './swap_state.ts';
import type { MmTrace } from './trace.ts';
import { NR_VM_EVENT_ITEMS, NR_VM_ZONE_STAT_ITEMS } from './vmstat.ts';
import { WritebackState } from './writeback_def.ts';

export const WMARK_MIN = 0;
export const WMARK_LOW = 1;
export const WMARK_HIGH = 2;

// LRU lists of a zone, in the order of their counters.
export const LRU_INACTIVE_ANON = 0;
export const LRU_ACTIVE_ANON = 1;
export const LRU_INACTIVE_FILE = 2;
export const LRU_ACTIVE_FILE = 3;
export const LRU_UNEVICTABLE = 4;
export const NR_LRU_LISTS = 5;

export const DEF_PRIORITY = 12;
export const SWAP_CLUSTER_MAX = 32;
export const PAGEVEC_SIZE = 14;
export const PAGE_ALLOC_COSTLY_ORDER = 3;

/** What the architecture and the configuration fix: the same for the life of a machine. */
export interface Shape {
  readonly machine: string;
  /** log2 of the page size. */
  readonly page_shift: number;
  /** Orders are 0 .. max_order-1. */
  readonly max_order: number;
  readonly pageblock_order: order_t;
  /** Names by zone index: what gfp masks and lowmem reserves are indexed by. */
  readonly zone_names: readonly string[];
  /** Zone indexes; -1 where the configuration lacks the zone. */
  readonly ZONE_DMA: number;
  readonly ZONE_DMA32: number;
  readonly ZONE_NORMAL: number;
  readonly ZONE_HIGHMEM: number;
  readonly ZONE_MOVABLE: number;
  /** Frames per memmap section: pfn_valid is decided per section. */
  readonly section_nr_pages: number;
  /** Flat memory: pageblock types are indexed from the zone's start, not by aligned blocks. */
  readonly flatmem: boolean;
  /** sizeof(struct page) of the real kernel, for the memmap deduction and printed addresses. */
  readonly sizeof_struct_page: number;
  /** 8 on 64-bit machines, 4 on 32-bit ones: also the size of a pointer. */
  readonly bytes_per_long: number;
  readonly nr_cpus: number;
  /** Built with NUMA: node files, numa counters, zonelists by distance. */
  readonly numa: boolean;
  /** Booted with hugepagesz=1G on a processor that has such pages: a second pool, empty. */
  readonly gbpages?: boolean;
  /** Built with COMPACTION: the series' files and counters exist. */
  readonly compaction: boolean;
}

/** One CPU's lists of single pages in one zone (mmzone.h: struct per_cpu_pages). */
export class PerCpuPages {
  count = 0;
  high = 0;
  batch = 1;
  /** 6.1: grows while pages are freed and nothing is allocated (page_alloc.c: nr_pcp_free). */
  free_factor = 0;
  /** The head row of the first list; the lists follow each other. */
  readonly lists: number;
  readonly nr_lists: number;

  constructor(lists: number, nr_lists: number) {
    this.lists = lists;
    this.nr_lists = nr_lists;
  }
}

export class Zone {
  /** nid * MAX_NR_ZONES + zone_idx. */
  readonly id: number;
  readonly nid: nid_t;
  readonly zone_idx: number;
  readonly name: string;
  readonly zone_start_pfn: pfn_t;
  /** Frames from start to end, holes included. */
  readonly spanned_pages: number;
  /** Frames less holes, memmap and boot reserve: what watermarks are computed from. */
  present_pages: number;
  /**
   * Frames less holes alone. 6.1 prints these as present, and calls present_pages managed; kernels
   * before 3.8 do not know them.
   */
  ram_pages: number;

  /** Free blocks per order, all types together. */
  readonly nr_free: Int32Array;
  /** Head row of the list of order o and type t: free_list + o * MIGRATE_TYPES + t. */
  readonly free_list: number;
  /** Head row of LRU list l: lru + l. */
  readonly lru: number;
  readonly pageset: PerCpuPages[] = [];

  readonly watermark: Int32Array = new Int32Array(3);
  /** Pages kept from requests that could have used higher zones, by their zone index. */
  readonly lowmem_reserve: Int32Array;
  readonly vm_stat: Int32Array = new Int32Array(NR_VM_ZONE_STAT_ITEMS);
  /**
   * 2.6.35: changes of NR_FREE_PAGES that each CPU keeps to itself, at most stat_threshold of them,
   * and their sum: watermark tests do not see them yet (vmstat.c: vm_stat_diff). vm_stat has them.
   */
  readonly nr_free_diff: Int32Array;
  nr_free_unfolded = 0;
  stat_threshold = 0;

  /** Type per pageblock; index with pageblock_index. */
  readonly pageblock_flags: Uint8Array;
  /** The pfn that index 0 of pageblock_flags stands for. */
  readonly pageblock_base: pfn_t;

  pages_scanned = 0;
  all_unreclaimable = 0;
  prev_priority = DEF_PRIORITY;
  inactive_ratio = 1;
  /** LRU balance: pages scanned and rotated lately, [anon, file]. */
  readonly recent_scanned: Float64Array = new Float64Array(2);
  readonly recent_rotated: Float64Array = new Float64Array(2);
  /** Scan requests below SWAP_CLUSTER_MAX saved up, per LRU list. */
  readonly nr_saved_scan: Float64Array = new Float64Array(NR_LRU_LISTS);

  // Deferral of direct compaction, of the preferred zone (compaction.h).
  compact_considered = 0;
  compact_defer_shift = 0;

  /** 6.1: what reclaim from anonymous and from file pages has cost lately (swap.c: lru_note_cost). */
  readonly lru_cost: Float64Array = new Float64Array(2);

  // 6.1 only. Raises all watermarks for a while after a fallback (page_alloc.c: boost_watermark).
  watermark_boost = 0;
  /** ZONE_BOOSTED_WATERMARK: kswapd is to be woken for the boost. */
  boosted_watermark = false;
  /** Pages of the pageblocks reserved as HIGHATOMIC. */
  nr_reserved_highatomic = 0;
  /** Lowest order whose compaction failed. */
  compact_order_failed = 0;
  /** The scanners met: skip bits are stale and to be cleared. */
  compact_blockskip_flush = false;
  /** Where runs that are not of the whole zone start: [async, sync] for the migrate scanner. */
  readonly compact_cached_migrate_pfn: Int32Array = new Int32Array(2);
  compact_cached_free_pfn = 0;
  /** The same as the last reset of the skip bits found them. */
  compact_init_migrate_pfn = 0;
  compact_init_free_pfn = 0;
  /** PB_migrate_skip of each pageblock, indexed as pageblock_flags. */
  readonly pageblock_skip: Uint8Array;

  constructor(
    m: Memmap,
    shape: Shape,
    nid: nid_t,
    zone_idx: number,
    start_pfn: pfn_t,
    spanned_pages: number,
    present_pages: number,
  ) {
    this.id = nid * shape.zone_names.length + zone_idx;
    this.nid = nid;
    this.zone_idx = zone_idx;
    this.name = shape.zone_names[zone_idx]!;
    this.zone_start_pfn = start_pfn;
    this.spanned_pages = spanned_pages;
    this.present_pages = present_pages;
    this.ram_pages = present_pages;
    this.nr_free = new Int32Array(shape.max_order);
    this.nr_free_diff = new Int32Array(shape.nr_cpus);
    this.free_list = m.new_list_heads(shape.max_order * MIGRATE_TYPES);
    this.lru = m.new_list_heads(NR_LRU_LISTS);
    this.lowmem_reserve = new Int32Array(shape.zone_names.length);
    const block = 2 ** shape.pageblock_order;
    this.pageblock_base = shape.flatmem ? start_pfn : start_pfn - (start_pfn % block);
    const span = start_pfn + spanned_pages - this.pageblock_base;
    this.pageblock_flags = new Uint8Array(Math.ceil(span / block));
    this.pageblock_skip = new Uint8Array(this.pageblock_flags.length);
  }
}

/** One past the zone's last frame. */
export function zone_end_pfn(zone: Zone): pfn_t {
  return zone.zone_start_pfn + zone.spanned_pages;
}

/** A node: its zones and where its requests go (mmzone.h: pglist_data). */
export class Pgdat {
  readonly nid: nid_t;
  readonly node_start_pfn: pfn_t;
  readonly node_spanned_pages: number;
  /** Frames without holes, memmap included: nodeN/meminfo's MemTotal. */
  node_present_pages = 0;
  /** Populated zones by rising index. */
  readonly zones: Zone[] = [];
  /** [0] all nodes by preference, [1] this node only: zones in the order they are tried. */
  readonly node_zonelists: Zone[][] = [[], []];
  /** CPUs of this node. */
  readonly cpus: number[] = [];
  /** The largest order that kswapd was woken for since it last looked. */
  kswapd_max_order = 0;
  /** The order that kswapd balances for, and what it is doing (vmscan.ts: KSWAPD_*). */
  kswapd_order = 0;
  kswapd_state = 0;
  /** When a nap ends, clock milliseconds; somebody woke it. */
  /** Waits for congestion so far, of 100 ms each; they take no time by themselves. */
  kswapd_waits = 0;
  kswapd_nap_until = 0;
  kswapd_woken = false;
  /** Its balance_pgdat under way, in the terms of the kernel. */
  kswapd_run: object | null = null;
  /** 6.1: its runs in a row that reclaimed nothing; at 16 the node is left to direct reclaim. */
  kswapd_failures = 0;
  /**
   * 6.1: wakeups so far. For replays: the number of one whose turn comes late, because the scheduler
   * lets the task go on that woke it, and how many more cond_resched it waits for.
   */
  kswapd_wakeups = 0;
  kswapd_late_wakeup = -1;
  kswapd_late_by = 0;
  /** 6.1: compaction_proactiveness was written: kcompactd looks at once whether to compact. */
  proactive_compact_trigger = false;
  /** 6.1: what kcompactd was woken for, and when it next looks by itself, clock milliseconds. */
  kcompactd_max_order = 0;
  kcompactd_highest_zoneidx = 0;
  kcompactd_timeout_at = 0;
  kcompactd_woken = false;
  /** Huge pages that are no longer mapped in all their parts: head row of the list, 0 before it. */
  split_queue = 0;
  split_queue_len = 0;

  constructor(nid: nid_t, start_pfn: pfn_t, spanned_pages: number) {
    this.nid = nid;
    this.node_start_pfn = start_pfn;
    this.node_spanned_pages = spanned_pages;
  }
}

/** A thread of the kernel, as traces name it. */
export interface KernelThread {
  readonly pid: number;
  readonly comm: string;
}

/** What a kernel decides and the shared mechanics call. One constant table a kernel. */
export interface KernelProfile {
  readonly name: string;
  /** Lists of a PerCpuPages. */
  readonly nr_pcp_lists: number;
  /** The order of the blocks on the list with this index; without it all are single pages. */
  pcp_list_order?(m: Machine, list: number): order_t;
  /**
   * A freed block of an order below this goes to the tail of its list when the next merge is
   * likely: its buddy's parent is free as a whole (__free_one_page). Orders from the top:
   * 1 means all but the largest.
   */
  readonly tail_insert_margin: number;
  /** Free buddies of a pageblock or more may stay apart: types of pageblocks that do not merge. */
  readonly pageblocks_stay_apart?: true;
  /** Buffers on a CPU's list of those that it looked up last (buffer.c: BH_LRU_SIZE). */
  readonly bh_lru_size: number;
  /** Draining the vectors of all CPUs empties those lists, too (swap.c: lru_add_and_bh_lrus_drain). */
  readonly lru_drain_bh_lrus?: true;
  /** Sets high and batch of a new PerCpuPages (page_alloc.c: setup_pageset, zone_batchsize). */
  setup_pageset(m: Machine, zone: Zone, pcp: PerCpuPages): void;
  /**
   * __alloc_pages_nodemask through the zonelist of `nid` (the current CPU's node when < 0).
   * Returns the first frame of the block, with one reference, or -1.
   */
  alloc_pages(m: Machine, gfp: number, order: order_t, nid?: nid_t): pfn_t | -1;
  /** __free_pages: drops a reference, frees the block when it was the last. */
  __free_pages(m: Machine, pfn: pfn_t, order: order_t): void;
  /** Frees a block whose count is 0 already. */
  __free_pages_ok(m: Machine, pfn: pfn_t, order: order_t): void;
  /** Frees a single page whose count is 0 already, to this CPU's lists. */
  free_hot_cold_page(m: Machine, pfn: pfn_t, cold: boolean): void;
  /** Gives all of one CPU's lists back to the buddy lists. */
  drain_pages(m: Machine, cpu: number): void;
  /** Recomputes watermarks, reserves and ratios after min_free_kbytes or a ratio changed. */
  setup_per_zone_wmarks(m: Machine): void;
  setup_per_zone_lowmem_reserve(m: Machine): void;
  /** Runs every node's kswapd that was woken or whose nap is over, until it sleeps. */
  kswapd_tick?(m: Machine): Job;
  /** Lets kernel threads that wait for the CPU run, inside long work (sched.h: cond_resched). */
  cond_resched?(m: Machine): void;
  /** Runs every node's kcompactd that was woken or whose time has come. */
  kcompactd_tick?(m: Machine): Job;
  /** Runs ksmd's scans that are due. */
  ksmd_tick?(m: Machine): Job;
  /** Huge pages for processes, in a kernel that has pools. */
  readonly hugetlb?: HugetlbOps;
  /** Runs khugepaged's scans that are due. */
  khugepaged_tick?(m: Machine): Job;
  /** Transparent huge pages, in a kernel that has them. */
  readonly thp?: ThpOps;
  /** Reverse mapping of KSM pages, in a kernel that has KSM. */
  readonly ksm?: KsmRmap;
  /** /proc/kpageflags marks every frame of a free block or a slab, not only the first (4.7 on). */
  readonly kpageflags_of_tails?: true;
  /** Its virtual files under /proc and /sys. */
  readonly files: readonly FileRow<Machine>[];
  /** A write to sysfs may bring a page of text; without it a byte less (fs/sysfs/file.c, fs/kernfs). */
  readonly sysfs_takes_whole_pages?: true;
  /** Its directories that come and go: /proc/PID. */
  readonly file_directories: readonly RowDirectory<Machine>[];
}

/**
 * Direct compaction of 6.1 in wait for the block that it makes: whoever frees a fitting one hands it
 * over instead of putting it on a list (mm/internal.h: struct capture_control).
 */
export class CaptureControl {
  readonly zone: Zone;
  readonly order: order_t;
  /** The captured block, -1 while there is none. */
  page: pfn_t | -1 = -1;

  constructor(zone: Zone, order: order_t) {
    this.zone = zone;
    this.order = order;
  }
}

/** The pages of one CPU on their way to one LRU list (pagevec.h: struct pagevec). */
export class Pagevec {
  nr = 0;
  readonly pages: Int32Array = new Int32Array(PAGEVEC_SIZE);
}

/**
 * Spare list head rows for private lists (on the stack of a function, in Linux): taken for as long
 * as a list lives, given back empty.
 */
export class ListHeads {
  private readonly memmap: Memmap;
  private readonly free: number[] = [];
  /** Pairs that a call under way holds: its private lists, on which pages of the machine are. */
  in_use = 0;

  constructor(memmap: Memmap) {
    this.memmap = memmap;
  }

  /** Two empty heads in a row; the first is returned. */
  take(): number {
    this.in_use++;
    return this.take_for_good();
  }

  /** The same for a list that lives as long as the machine. */
  take_for_good(): number {
    return this.free.pop() ?? this.memmap.new_list_heads(2);
  }

  give_back(head: number): void {
    BUG_ON(
      this.memmap.next[head] !== head || this.memmap.next[head + 1] !== head + 1,
      'list_heads: given back with entries',
    );
    this.free.push(head);
    this.in_use--;
  }
}

/**
 * Other tasks of the processor, as experiments need them: a call that takes long lets them run where
 * the kernel has cond_resched, or sleeps. Mounts run other work between calls instead.
 */
export interface Beside {
  cond_resched(m: Machine): void;
  /** The caller sleeps for `ms` milliseconds at most. */
  sleep(m: Machine, ms: number): void;
  /** The running program has used `ms` milliseconds: true when it may go on, else nothing is counted. */
  spend(ms: number): boolean;
}

export class Machine {
  readonly shape: Shape;
  readonly kernel: KernelProfile;
  readonly memmap: Memmap;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly trace: MmTrace;
  readonly list_heads: ListHeads;

  /** By zone id; undefined where a node lacks the zone. */
  readonly zones: (Zone | undefined)[] = [];
  /** Zones with present pages, nodes ascending, by rising index: what /proc lists. */
  readonly populated_zones: Zone[] = [];
  readonly nodes: Pgdat[] = [];
  /** Zone id of each pageblock, and of its lower part where a zone starts inside the block. */
  readonly zone_of_block: Uint8Array;
  readonly zone_of_block_low: Uint8Array;
  /** 1 for each section that has a memmap. */
  readonly section_valid: Uint8Array;

  readonly vm_events: Float64Array = new Float64Array(NR_VM_EVENT_ITEMS);
  /** Values of plain sysctls by name; the kernel's table gives ranges and defaults. */
  readonly sysctl: Record<string, number> = {};
  /** Exact values of unsigned long ones above 2^53, and those that are text. */
  readonly sysctl_ulong: Record<string, bigint> = {};
  /** Writes to virtual files (fs/kernfs.ts), and what a tester put in their way. */
  readonly write_log = new WriteLog();
  readonly faults = new Faults();
  readonly sysctl_string: Record<string, string> = {};
  page_group_by_mobility_disabled = false;
  totalram_pages = 0;
  totalreserve_pages = 0;
  /** When the CPUs' shares of counters are folded next (vmstat.c: vmstat_update). */
  vmstat_due_ms = 0;
  /** Free swap slots; 0 without swap. */
  nr_swap_pages = 0;
  total_swap_pages = 0;

  /** The CPU that executes now. */
  this_cpu = 0;
  readonly cpu_to_node: Int32Array;
  /** [cpu][lru list] */
  readonly lru_add_pvecs: Pagevec[][] = [];
  readonly lru_rotate_pvecs: Pagevec[] = [];
  /** Pages that a pagevec frees together: scratch of release_pages. */
  readonly free_pvec: Pagevec = new Pagevec();

  /** The bytes of page frames, and content tags. */
  readonly contents: Contents;
  /** Address spaces by id. */
  readonly mappings: Mappings = new Mappings();
  /** The swap cache. */
  readonly swapper_space: AddressSpace;
  readonly radix_nodes: RadixTreeNodes;
  readonly buffer_heads: BufferHeads;
  readonly slab: SlabState;
  readonly writeback: WritebackState = new WritebackState();
  readonly block_devices: BlockQueue[] = [];
  /** File systems' own state by name, for who mounts them. */
  readonly file_systems: Map<string, object> = new Map();
  /** State of what a kernel adds to the shared mechanics (tracing, KSM), by name. */
  readonly kernel_state: Map<string, object> = new Map();

  // Processes (mm_types.ts).
  readonly tasks: Map<number, Task> = new Map();
  /** anon_vmas by id, live and free ones; row 0 is unused. */
  readonly anon_vmas: (AnonVma | null)[] = [null];
  /** Free ids; the last one is handed out next. */
  readonly anon_vma_free: number[] = [];
  last_pid = 299;
  /** The frame of zeroes that read faults map (empty_zero_page, in the kernel image). */
  zero_pfn: pfn_t = 0;
  /** The huge page of zeroes while there is one, and who holds it (huge_memory.c). */
  huge_zero_pfn: pfn_t | -1 = -1;
  huge_zero_refcount = 0;
  /** Pages promised to private writable areas (Committed_AS). */
  vm_committed_as = 0;
  /** Second result of page_referenced: VM_* of the areas that used the page. */
  rmap_vm_flags = 0;
  /** Slab caches of process objects, by PROC_* (proc_caches.ts); null until the first. */
  proc_caches: KmemCache[] | null = null;
  /** What the last spawn started, and why it failed (sim/workload.ts). */
  readonly spawn: { pids: number[]; error: string } = { pids: [], error: '' };
  /** Swap areas (swap_state.ts). */
  readonly swap_info: SwapInfo[] = [];

  /** Who runs when a call pauses; null: nobody. Not part of a saved machine. */
  beside: Beside | null = null;
  /** Jobs yield where they would wait, to somebody who lets time pass (lib/kthread.ts: Pause). */
  sleeps = false;

  /** Of the running task, in 6.1 (sched.h: current->capture_control). */
  capture_control: CaptureControl | null = null;
  // Reclaim (reclaim_def.ts).
  /** PF_* of whoever executes now. */
  current_flags = 0;
  /** The process on whose behalf the code runs, null for the kernel and for host programs. */
  current: Task | null = null;
  /** The kernel thread that the code belongs to, null for all others. */
  kthread: KernelThread | null = null;
  /** The address space that a fault is under way in, whoever caused it. */
  current_mm: MmStruct | null = null;
  /** Slab pages freed since a reclaimer last set it to 0 (struct reclaim_state). */
  reclaimed_slab = 0;
  readonly shrinkers: Shrinker[] = [];
  /** Huge page pools by size, and which is the default one. */
  readonly hstates: Hstate[] = [];
  default_hstate_idx = 0;

  /**
   * For tests of races: called at points where another CPU may act in the real kernel, with the
   * name of the point. Null in any other use.
   */
  other_cpu: ((point: string) => void) | null = null;

  constructor(
    shape: Shape,
    kernel: KernelProfile,
    memmap: Memmap,
    clock: Clock,
    prng: Prng,
    trace: MmTrace,
  ) {
    this.shape = shape;
    this.kernel = kernel;
    this.memmap = memmap;
    this.clock = clock;
    this.prng = prng;
    this.trace = trace;
    const page_size = 2 ** shape.page_shift;
    this.contents = new Contents(memmap.nr_pages, page_size);
    this.swapper_space = this.mappings.create(swap_aops, 0);
    this.radix_nodes = new RadixTreeNodes(shape.nr_cpus);
    this.buffer_heads = new BufferHeads(shape.nr_cpus, kernel.bh_lru_size);
    this.slab = new SlabState(shape);
    this.list_heads = new ListHeads(memmap);
    const blocks = Math.ceil(memmap.nr_pages / 2 ** shape.pageblock_order) + 1;
    this.zone_of_block = new Uint8Array(blocks);
    this.zone_of_block_low = new Uint8Array(blocks);
    this.section_valid = new Uint8Array(Math.ceil(memmap.nr_pages / shape.section_nr_pages) + 1);
    this.cpu_to_node = new Int32Array(shape.nr_cpus);
    for (let cpu = 0; cpu < shape.nr_cpus; cpu++) {
      this.lru_add_pvecs.push(Array.from({ length: NR_LRU_LISTS }, () => new Pagevec()));
      this.lru_rotate_pvecs.push(new Pagevec());
    }
  }
}

/** False for a frame without a memmap entry (mmzone.h: pfn_valid, SPARSEMEM). */
export function pfn_valid(m: Machine, pfn: pfn_t): boolean {
  if (pfn < 0 || pfn >= m.memmap.nr_pages) return false;
  return m.section_valid[Math.floor(pfn / m.shape.section_nr_pages)] !== 0;
}

/** The zone that a valid frame belongs to. */
export function page_zone(m: Machine, pfn: pfn_t): Zone {
  const block = pfn >>> m.shape.pageblock_order;
  const zone = m.zones[m.zone_of_block[block]!]!;
  if (pfn >= zone.zone_start_pfn) return zone;
  const low = m.zones[m.zone_of_block_low[block]!];
  BUG_ON(low === undefined, 'page_zone: the frame is in no zone');
  return low!;
}

/** The highest zone index that a mask may use (gfp.h: gfp_zone). */
export function gfp_zone(shape: Shape, gfp: number): number {
  if ((gfp & __GFP_DMA) !== 0) return shape.ZONE_DMA;
  if ((gfp & __GFP_DMA32) !== 0)
    return shape.ZONE_DMA32 >= 0 ? shape.ZONE_DMA32 : shape.ZONE_NORMAL;
  if ((gfp & __GFP_HIGHMEM) !== 0) {
    if ((gfp & __GFP_MOVABLE) !== 0) return shape.ZONE_MOVABLE;
    return shape.ZONE_HIGHMEM >= 0 ? shape.ZONE_HIGHMEM : shape.ZONE_NORMAL;
  }
  return shape.ZONE_NORMAL;
}

/** Nodes that memory can come from (nodemask.h: N_HIGH_MEMORY, N_MEMORY). */
export function nodes_with_memory(m: Machine): nid_t[] {
  return m.nodes.filter((node) => node.zones.length > 0).map((node) => node.nid);
}

/** The node whose memory the current CPU prefers. */
export function numa_node_id(m: Machine): nid_t {
  return m.cpu_to_node[m.this_cpu]!;
}
