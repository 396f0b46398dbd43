/**
 * The slab allocator: small kernel objects in pages of their own (SLUB).
 *
 * Each CPU allocates from one frozen slab; slabs with free objects that no CPU holds are on their
 * node's partial list; full slabs are on no list and come back when one of their objects is
 * freed. The pages are real: taken from the page allocator, PG_slab, counted as reclaimable or
 * not. Object lists are last in, first out, and a fresh slab hands out its objects by address.
 * Linux: mm/slub.c. Differs: objects have no bytes, only a handle (slub_def.ts); a slab that is
 * to be freed after an RCU grace period is freed at once; the fallback to other nodes' partial
 * slabs (get_any_partial) always takes place, where Linux draws 1000 of 1024 by cycle counter.
 */
import { BUG_ON } from '../lib/bug.ts';
import {
  __GFP_COMP,
  __GFP_DMA,
  __GFP_FS,
  __GFP_HARDWALL,
  __GFP_HIGH,
  __GFP_IO,
  __GFP_NOFAIL,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_RECLAIMABLE,
  __GFP_REPEAT,
  __GFP_THISNODE,
  __GFP_WAIT,
} from './gfp.ts';
import { gfp_zone, type Machine, numa_node_id, page_zone } from './mmzone.ts';
import { ClearPageFlag, type order_t, type pfn_t, SetPageFlag } from './page.ts';
import { PG_slab } from './page_flags.ts';
import type { KmemCache, KmemCacheCpu, KmemCacheNode, KmemCacheOptions } from './slub_def.ts';
import { mod_zone_page_state, NR_SLAB_RECLAIMABLE, NR_SLAB_UNRECLAIMABLE } from './vmstat.ts';

/** What a cache's pages inherit of the caller's mask (mm/internal.h). */
const GFP_RECLAIM_MASK =
  __GFP_WAIT |
  __GFP_HIGH |
  __GFP_IO |
  __GFP_FS |
  __GFP_NOWARN |
  __GFP_REPEAT |
  __GFP_NOFAIL |
  __GFP_NORETRY |
  __GFP_NOMEMALLOC;
const GFP_CONSTRAINT_MASK = __GFP_HARDWALL | __GFP_THISNODE;

/** Creates a cache; its first slab is taken with the first object. Never fails. */
export function kmem_cache_create(
  m: Machine,
  name: string,
  object_size: number,
  options: KmemCacheOptions = {},
): KmemCache {
  return m.slab.create(name, object_size, options);
}

/** A slab row, with columns large enough for it. */
function new_row(s: KmemCache): number {
  const row = s.free_rows.pop() ?? s.nr_rows++;
  if (row >= s.slab_pfn.length) {
    const rows = Math.max(16, s.slab_pfn.length * 2);
    const grow = <T extends Int32Array | Uint8Array>(column: T, fresh: T): T => {
      fresh.set(column);
      return fresh;
    };
    s.slab_pfn = grow(s.slab_pfn, new Int32Array(rows));
    s.slab_inuse = grow(s.slab_inuse, new Int32Array(rows));
    s.slab_objects = grow(s.slab_objects, new Int32Array(rows));
    s.slab_freelist = grow(s.slab_freelist, new Int32Array(rows));
    s.slab_order = grow(s.slab_order, new Uint8Array(rows));
    s.slab_nid = grow(s.slab_nid, new Uint8Array(rows));
    s.slab_frozen = grow(s.slab_frozen, new Uint8Array(rows));
    s.slab_next = grow(s.slab_next, new Int32Array(rows));
    s.slab_prev = grow(s.slab_prev, new Int32Array(rows));
    s.free_pointer = grow(s.free_pointer, new Int32Array(rows * s.objects + 1));
  }
  return row;
}

function slab_counter(s: KmemCache): number {
  return s.reclaimable() ? NR_SLAB_RECLAIMABLE : NR_SLAB_UNRECLAIMABLE;
}

function alloc_slab_page(m: Machine, gfp: number, order: order_t, nid: number): pfn_t | -1 {
  return m.kernel.alloc_pages(m, order > 0 ? gfp | __GFP_COMP : gfp, order, nid);
}

/** slub.c: new_slab, allocate_slab. A row with all objects free, or -1. */
function new_slab(m: Machine, s: KmemCache, gfp: number, nid: number): number {
  let flags = gfp & (GFP_RECLAIM_MASK | GFP_CONSTRAINT_MASK);
  if (s.reclaimable()) flags |= __GFP_RECLAIMABLE;
  let order = s.order;
  let objects = s.objects;
  // The large order is a wish: no warning, no effort, then the least order with all effort.
  const eager = (flags | __GFP_NOWARN | __GFP_NORETRY) & ~__GFP_NOFAIL;
  let pfn = alloc_slab_page(m, eager, order, nid);
  if (pfn < 0) {
    order = s.min_order;
    objects = s.min_objects;
    pfn = alloc_slab_page(m, flags, order, nid);
    if (pfn < 0) return -1;
  }
  const p = m.memmap;
  const zone = page_zone(m, pfn);
  const row = new_row(s);
  s.slab_pfn[row] = pfn;
  s.slab_inuse[row] = 0;
  s.slab_objects[row] = objects;
  s.slab_order[row] = order;
  s.slab_nid[row] = zone.nid;
  s.slab_frozen[row] = 0;
  const first = row * s.objects + 1;
  for (let i = 0; i < objects; i++) s.free_pointer[first + i] = first + i + 1;
  s.free_pointer[first + objects - 1] = 0;
  s.slab_freelist[row] = first;

  SetPageFlag(p, pfn, PG_slab);
  p.private_[pfn] = s.id;
  p.index[pfn] = row;
  mod_zone_page_state(zone, slab_counter(s), 1 << order);
  const n = s.get_node(zone.nid);
  n.nr_slabs++;
  n.total_objects += objects;
  return row;
}

/** slub.c: discard_slab. Gives the pages of an empty slab back. */
function discard_slab(m: Machine, s: KmemCache, row: number): void {
  BUG_ON(s.slab_inuse[row] !== 0, 'discard_slab: objects are in use');
  const pfn = s.slab_pfn[row]!;
  const order = s.slab_order[row]!;
  const zone = page_zone(m, pfn);
  const n = s.get_node(zone.nid);
  n.nr_slabs--;
  n.total_objects -= s.slab_objects[row]!;
  mod_zone_page_state(zone, slab_counter(s), -(1 << order));
  ClearPageFlag(m.memmap, pfn, PG_slab);
  m.memmap.private_[pfn] = 0;
  m.memmap.index[pfn] = 0;
  s.slab_pfn[row] = -1;
  s.free_rows.push(row);
  m.reclaimed_slab += 1 << order;
  m.kernel.__free_pages(m, pfn, order);
}

function add_partial(s: KmemCache, n: KmemCacheNode, row: number, tail: boolean): void {
  n.nr_partial++;
  const before = tail ? n.last : -1;
  const after = tail ? -1 : n.first;
  s.slab_prev[row] = before;
  s.slab_next[row] = after;
  if (before >= 0) s.slab_next[before] = row;
  else n.first = row;
  if (after >= 0) s.slab_prev[after] = row;
  else n.last = row;
}

function remove_partial(s: KmemCache, n: KmemCacheNode, row: number): void {
  n.nr_partial--;
  const before = s.slab_prev[row]!;
  const after = s.slab_next[row]!;
  if (before >= 0) s.slab_next[before] = after;
  else n.first = after;
  if (after >= 0) s.slab_prev[after] = before;
  else n.last = before;
}

/** slub.c: get_partial_node. The first partial slab of a node, frozen; -1 when it has none. */
function get_partial_node(s: KmemCache, n: KmemCacheNode): number {
  const row = n.first;
  if (row < 0) return -1;
  remove_partial(s, n, row);
  s.slab_frozen[row] = 1;
  return row;
}

/** slub.c: get_partial. From the wanted node; without a wish, also from others that have plenty. */
function get_partial(m: Machine, s: KmemCache, gfp: number, nid: number): number {
  const home = nid < 0 ? numa_node_id(m) : nid;
  const row = get_partial_node(s, s.get_node(home));
  if (row >= 0 || (gfp & __GFP_THISNODE) !== 0 || nid >= 0) return row;
  const highest = gfp_zone(m.shape, gfp);
  for (const zone of m.nodes[numa_node_id(m)]!.node_zonelists[0]!) {
    if (zone.zone_idx > highest) continue;
    const n = s.get_node(zone.nid);
    if (n.nr_partial <= s.min_partial) continue;
    const other = get_partial_node(s, n);
    if (other >= 0) return other;
  }
  return -1;
}

/** slub.c: deactivate_slab, unfreeze_slab. The CPU lets its slab go. */
function deactivate_slab(m: Machine, s: KmemCache, c: KmemCacheCpu): void {
  const row = c.page;
  // A slab whose objects are still cached goes first in line: they are hot.
  const tail = c.freelist === 0;
  while (c.freelist !== 0) {
    const object = c.freelist;
    c.freelist = s.free_pointer[object]!;
    s.free_pointer[object] = s.slab_freelist[row]!;
    s.slab_freelist[row] = object;
    s.slab_inuse[row]!--;
  }
  c.page = -1;
  s.slab_frozen[row] = 0;
  const n = s.get_node(s.slab_nid[row]!);
  if (s.slab_inuse[row]! > 0) {
    if (s.slab_freelist[row] !== 0) add_partial(s, n, row, tail);
  } else if (n.nr_partial < s.min_partial) {
    // Kept, so that the next allocation needs no page; last, so that it may still go.
    add_partial(s, n, row, true);
  } else {
    discard_slab(m, s, row);
  }
}

/** slub.c: __slab_alloc. Gives the CPU a slab with free objects; false without memory. */
function refill_cpu_slab(
  m: Machine,
  s: KmemCache,
  c: KmemCacheCpu,
  gfp: number,
  nid: number,
): boolean {
  if (c.page >= 0) {
    // Objects that were freed to this slab from elsewhere come first.
    const node_match = nid < 0 || c.node === nid;
    if (!node_match || s.slab_freelist[c.page] === 0) deactivate_slab(m, s, c);
  }
  if (c.page < 0) {
    let row = get_partial(m, s, gfp, nid);
    if (row < 0) {
      row = new_slab(m, s, gfp, nid);
      if (row < 0) return false;
      // Reclaim may have run, and have given this CPU a slab meanwhile.
      if (c.page >= 0) deactivate_slab(m, s, c);
      s.slab_frozen[row] = 1;
    }
    c.page = row;
  }
  const row = c.page;
  c.freelist = s.slab_freelist[row]!;
  c.node = s.slab_nid[row]!;
  s.slab_freelist[row] = 0;
  s.slab_inuse[row] = s.slab_objects[row]!;
  return true;
}

/** slub.c: slab_alloc. An object, or 0 without memory. */
function slab_alloc(m: Machine, s: KmemCache, gfp: number, nid: number): number {
  const c = s.cpu_slab[m.this_cpu]!;
  if (c.freelist === 0 || (nid >= 0 && c.node !== nid)) {
    if (!refill_cpu_slab(m, s, c, gfp, nid)) return 0;
  }
  const object = c.freelist;
  c.freelist = s.free_pointer[object]!;
  s.free_pointer[object] = -1;
  return object;
}

/**
 * Takes an object; `gfp` is the mask for its page, `nid` the node it must lie on (-1: any).
 * Returns its handle, or 0 without memory (slub.c: kmem_cache_alloc, kmem_cache_alloc_node).
 */
export function kmem_cache_alloc(m: Machine, s: KmemCache, gfp: number, nid = -1): number {
  const object = slab_alloc(m, s, gfp, nid);
  const trace = nid < 0 ? m.trace.kmem_cache_alloc : m.trace.kmem_cache_alloc_node;
  if (trace.enabled) trace.emit(s.id, object, s.object_size, gfp, nid);
  return object;
}

/** Gives an object back (slub.c: kmem_cache_free). */
export function kmem_cache_free(m: Machine, s: KmemCache, object: number): void {
  const trace = m.trace.kmem_cache_free;
  const pfn = trace.enabled ? s.object_pfn(object) : -1;
  slab_free(m, s, object);
  if (trace.enabled) trace.emit(s.id, object, pfn);
}

/** slub.c: slab_free, __slab_free. */
function slab_free(m: Machine, s: KmemCache, object: number): void {
  BUG_ON(object <= 0 || s.free_pointer[object] !== -1, 'kmem_cache_free: not an object in use');
  const row = Math.floor((object - 1) / s.objects);
  const c = s.cpu_slab[m.this_cpu]!;
  if (c.page === row) {
    s.free_pointer[object] = c.freelist;
    c.freelist = object;
    return;
  }
  const prior = s.slab_freelist[row]!;
  s.free_pointer[object] = prior;
  s.slab_freelist[row] = object;
  s.slab_inuse[row]!--;
  if (s.slab_frozen[row] !== 0) return;
  const n = s.get_node(s.slab_nid[row]!);
  if (s.slab_inuse[row] === 0) {
    if (prior !== 0) remove_partial(s, n, row);
    discard_slab(m, s, row);
  } else if (prior === 0) {
    // It was full and on no list.
    add_partial(s, n, row, true);
  }
}

/**
 * Frees all empty partial slabs and lets the CPUs' slabs go, the fullest first in line
 * afterwards (slub.c: kmem_cache_shrink).
 */
export function kmem_cache_shrink(m: Machine, s: KmemCache): void {
  for (const c of s.cpu_slab) if (c.page >= 0) deactivate_slab(m, s, c);
  for (const n of s.node) {
    const rows: number[] = [];
    for (let row = n.first; row >= 0; row = s.slab_next[row]!) rows.push(row);
    for (const row of rows) remove_partial(s, n, row);
    rows.sort((a, b) => s.slab_inuse[b]! - s.slab_inuse[a]!);
    for (const row of rows) {
      if (s.slab_inuse[row] === 0) discard_slab(m, s, row);
      else add_partial(s, n, row, true);
    }
  }
}

/** One row of /proc/slabinfo (slub.c: s_show). */
export interface SlabInfo {
  name: string;
  active_objs: number;
  num_objs: number;
  objsize: number;
  objperslab: number;
  pagesperslab: number;
  num_slabs: number;
}

/** Objects that CPUs hold ready count as active, as in Linux. */
export function get_slabinfo(s: KmemCache): SlabInfo {
  let num_slabs = 0;
  let num_objs = 0;
  let free = 0;
  for (const n of s.node) {
    num_slabs += n.nr_slabs;
    num_objs += n.total_objects;
    for (let row = n.first; row >= 0; row = s.slab_next[row]!) {
      free += s.slab_objects[row]! - s.slab_inuse[row]!;
    }
  }
  return {
    name: s.name,
    active_objs: num_objs - free,
    num_objs,
    objsize: s.size,
    objperslab: s.objects,
    pagesperslab: 1 << s.order,
    num_slabs,
  };
}

/** A block of kmalloc: cache number and object, or a whole page block. Radix of the encoding. */
const KMALLOC_RADIX = 64;

/**
 * Takes `size` bytes of kernel memory. Returns a handle for kfree, or 0 without memory. Above
 * 8 KiB whole page blocks are taken, which count as no slab (slub.c: kmalloc_large).
 */
export function kmalloc(m: Machine, size: number, gfp: number): number {
  const caches = m.slab.kmalloc_caches;
  const trace = m.trace.kmalloc;
  for (let i = 0; i < caches.length; i++) {
    const s = caches[i]!;
    if (size > s.object_size) continue;
    const object = slab_alloc(m, s, gfp & ~__GFP_DMA, -1);
    if (trace.enabled) trace.emit(s.id, object, size, gfp);
    return object === 0 ? 0 : object * KMALLOC_RADIX + i;
  }
  let order = 0;
  while (2 ** (m.shape.page_shift + order) < size) order++;
  if (order >= m.shape.max_order) return 0;
  const pfn = m.kernel.alloc_pages(m, gfp | __GFP_COMP, order);
  if (trace.enabled) trace.emit(-1, pfn, size, gfp, order);
  return pfn < 0 ? 0 : pfn * KMALLOC_RADIX + caches.length + order;
}

export function kfree(m: Machine, handle: number): void {
  const caches = m.slab.kmalloc_caches;
  const kind = handle % KMALLOC_RADIX;
  const value = Math.floor(handle / KMALLOC_RADIX);
  const large = kind >= caches.length;
  if (m.trace.kfree.enabled) {
    const pfn = large ? value : value > 0 ? caches[kind]!.object_pfn(value) : -1;
    m.trace.kfree.emit(large ? -1 : caches[kind]!.id, value, pfn);
  }
  if (handle === 0) return;
  if (large) m.kernel.__free_pages(m, value, kind - caches.length);
  else slab_free(m, caches[kind]!, value);
}
