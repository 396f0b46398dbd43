/**
 * The data of KSM: rmap_items, stable nodes, the list of address spaces, where the scan is.
 *
 * rmap_items and nodes are rows of integer columns and are used again after they were freed, the last
 * freed first; links are row numbers, 0 is none. Behaviour is in ksm.ts.
 * Linux: mm/ksm.c of 2.6.35 (struct mm_slot, ksm_scan, stable_node, rmap_item).
 */
import { RbColumns, RbRoot } from '../lib/rbtree.ts';
import type { MmStruct, vpn_t } from './mm_types.ts';
import type { Machine } from './mmzone.ts';
import type { pfn_t } from './page.ts';
import { kmem_cache_create } from './slub.ts';
import type { KmemCache } from './slub_def.ts';

// What ksm_run may be.
export const KSM_RUN_STOP = 0;
export const KSM_RUN_MERGE = 1;
export const KSM_RUN_UNMERGE = 2;

/** Flags of an rmap_item, beside the number of the scan that put it into the unstable tree. */
export const SEQNR_MASK = 0xff;
export const UNSTABLE_FLAG = 0x100;
export const STABLE_FLAG = 0x200;

/** An address space that has offered areas (ksm.c: struct mm_slot). */
export class KsmMmSlot {
  readonly mm: MmStruct;
  /** Its first rmap_item; they go by rising address. */
  rmap_list = 0;
  /** Neighbours on the list of all, 0 is its head. */
  next = 0;
  prev = 0;
  /** Slab object. */
  object = 0;

  constructor(mm: MmStruct) {
    this.mm = mm;
  }
}

/** Integer columns that grow together, and rows to be used again, the last freed first. */
export class KsmColumns {
  readonly cols: Int32Array[] = [];
  readonly rb: RbColumns = new RbColumns();
  readonly free: number[] = [];
  nr_rows = 1;

  constructor(count: number) {
    for (let i = 0; i < count; i++) this.cols.push(new Int32Array(16));
  }

  /** A row of zeroes. */
  take(): number {
    const row = this.free.pop() ?? this.nr_rows++;
    if (row >= this.cols[0]!.length) {
      for (let i = 0; i < this.cols.length; i++) {
        const wider = new Int32Array(row * 2);
        wider.set(this.cols[i]!);
        this.cols[i] = wider;
      }
    }
    this.rb.grow(row + 1);
    for (const col of this.cols) col[row] = 0;
    return row;
  }
}

// Columns of rmap_items: address, flags, the slot of the mm, the next of that mm, checksum, id of
// the anon_vma, stable node, neighbours on the node's list, slab object.
export const VPN = 0;
export const FLAGS = 1;
export const SLOT = 2;
export const NEXT = 3;
export const CHECKSUM = 4;
export const ANON_VMA = 5;
export const NODE = 6;
export const HNEXT = 7;
export const HPREV = 8;
export const OBJECT = 9;
// Columns of stable nodes: the page, the first rmap_item, slab object.
export const KPFN = 0;
export const FIRST = 1;
export const NODE_OBJECT = 2;

/** All state of KSM. */
export class KsmState {
  readonly items: KsmColumns = new KsmColumns(10);
  readonly nodes: KsmColumns = new KsmColumns(3);
  readonly root_stable: RbRoot = new RbRoot();
  readonly root_unstable: RbRoot = new RbRoot();
  /** By id; row 0 is the head of the list of all. */
  readonly slots: (KsmMmSlot | null)[];
  readonly slot_free: number[] = [];

  // The scan: which slot (0: between two full scans), from which address on, the rmap_item before
  // it (0: none of this slot), full scans done.
  cursor = 0;
  address: vpn_t = 0;
  rmap_prev = 0;
  seqnr = 0;
  /** The page that goes with the rmap_item found last; the scan holds a reference. */
  scan_page: pfn_t | -1 = -1;
  /** A scan or an unmerging is under way (ksm_thread_mutex). */
  busy = false;
  /** When ksmd wakes next, clock milliseconds. */
  wake_ms = 0;

  // The files in /sys/kernel/mm/ksm.
  run = KSM_RUN_STOP;
  sleep_millisecs = 20;
  pages_to_scan = 100;
  // Files of later kernels, kept for them.
  max_page_sharing = 256;
  merge_across_nodes = 1;
  use_zero_pages = 0;
  stable_node_chains_prune_millisecs = 2000;
  pages_shared = 0;
  pages_sharing = 0;
  pages_unshared = 0;
  rmap_items = 0;

  readonly rmap_item_cache: KmemCache;
  readonly stable_node_cache: KmemCache;
  readonly mm_slot_cache: KmemCache;

  constructor(m: Machine) {
    this.slots = [new KsmMmSlot(null as never)];
    const small = m.shape.bytes_per_long === 4;
    this.rmap_item_cache = kmem_cache_create(m, 'ksm_rmap_item', small ? 32 : 64);
    this.stable_node_cache = kmem_cache_create(m, 'ksm_stable_node', small ? 20 : 40);
    this.mm_slot_cache = kmem_cache_create(m, 'ksm_mm_slot', small ? 24 : 48);
  }
}

/** KSM's state, null before it was used for the first time. */
export function ksm_state(m: Machine): KsmState | null {
  return (m.kernel_state.get('ksm') as KsmState | undefined) ?? null;
}

/** KSM's state, made when there is none. */
export function ksm_state_of(m: Machine): KsmState {
  let k = ksm_state(m);
  if (k === null) {
    k = new KsmState(m);
    m.kernel_state.set('ksm', k);
  }
  return k;
}
