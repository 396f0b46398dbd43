/**
 * The data of the slab allocator: caches, their per-CPU slabs and partial lists. Behaviour is in
 * slub.ts.
 *
 * An object is a handle: row * objects + index + 1 inside its cache, a positive int32, so that
 * columns of what the object holds can be indexed by it. Rows of slabs are columns of the cache
 * and are used again after the slab's pages were freed, the last freed first.
 * Linux: include/linux/slub_def.h (struct kmem_cache, kmem_cache_cpu, kmem_cache_node). Differs:
 * the free pointers lie in a column, not in the free objects; caches of equal size are not
 * merged (as with slub_nomerge).
 */
import { BUG } from '../lib/bug.ts';
import type { nid_t, order_t, pfn_t } from './page.ts';

/** kmem_cache.flags (slab.h). */
export const SLAB_HWCACHE_ALIGN = 0x2000;
export const SLAB_RECLAIM_ACCOUNT = 0x20000;
export const SLAB_DESTROY_BY_RCU = 0x80000;

const SLUB_MAX_ORDER = 3;
const MIN_PARTIAL = 5;
const MAX_PARTIAL = 10;
const CACHE_LINE = 64;

/** One CPU's slab: it allocates from `freelist`, which belongs to slab row `page` (-1: none). */
export class KmemCacheCpu {
  page = -1;
  freelist = 0;
  node: nid_t = -1;
}

/** One node's partly used slabs: a list of rows, and what the node has in all. */
export class KmemCacheNode {
  nr_partial = 0;
  /** First and last row of the partial list, -1 when empty. */
  first = -1;
  last = -1;
  nr_slabs = 0;
  total_objects = 0;
}

/** Position of the highest set bit, from 1; 0 for 0 (bitops.h: fls). */
function fls(x: number): number {
  return 32 - Math.clz32(x);
}

/** slub.c: slab_order. The lowest order that wastes at most 1/fract_leftover of the slab. */
function slab_order(
  page_size: number,
  size: number,
  min_objects: number,
  max_order: number,
  fract_leftover: number,
): number {
  const page_shift = 31 - Math.clz32(page_size);
  let order = Math.max(0, fls(min_objects * size - 1) - page_shift);
  for (; order <= max_order; order++) {
    const slab_size = page_size * 2 ** order;
    if (slab_size < min_objects * size) continue;
    if (slab_size % size <= Math.floor(slab_size / fract_leftover)) break;
  }
  return order;
}

/** slub.c: calculate_order, with the boot parameters' defaults. -1 when no order is large enough. */
export function calculate_order(
  page_size: number,
  size: number,
  nr_cpus: number,
  max_order: number,
): order_t {
  const most = Math.floor((page_size * 2 ** SLUB_MAX_ORDER) / size);
  let min_objects = Math.min(4 * (fls(nr_cpus) + 1), most);
  for (; min_objects > 1; min_objects--) {
    for (let fraction = 16; fraction >= 4; fraction /= 2) {
      const order = slab_order(page_size, size, min_objects, SLUB_MAX_ORDER, fraction);
      if (order <= SLUB_MAX_ORDER) return order;
    }
  }
  let order = slab_order(page_size, size, 1, SLUB_MAX_ORDER, 1);
  if (order <= SLUB_MAX_ORDER) return order;
  order = slab_order(page_size, size, 1, max_order - 1, 1);
  return order < max_order ? order : -1;
}

export interface KmemCacheOptions {
  reclaimable?: boolean;
  hwcache_align?: boolean;
  destroy_by_rcu?: boolean;
  ctor?: boolean;
  align?: number;
}

export class KmemCache {
  readonly id: number;
  readonly name: string;
  readonly flags: number;
  /** Bytes that the user asked for (objsize), and with free pointer and alignment (size). */
  readonly object_size: number;
  readonly size: number;
  readonly align: number;
  /** Preferred order and its number of objects; the least order that holds one object. */
  readonly order: order_t;
  readonly objects: number;
  readonly min_order: order_t;
  readonly min_objects: number;
  readonly min_partial: number;
  readonly cpu_slab: KmemCacheCpu[] = [];
  readonly node: KmemCacheNode[] = [];

  // Columns by slab row.
  /** First frame of the slab; -1 for a row that is not in use. */
  slab_pfn: Int32Array = new Int32Array(0);
  /** Objects in use; those of a frozen slab all count as used. */
  slab_inuse: Int32Array = new Int32Array(0);
  slab_objects: Int32Array = new Int32Array(0);
  /** First free object of the slab's own list, 0 when there is none. */
  slab_freelist: Int32Array = new Int32Array(0);
  slab_order: Uint8Array = new Uint8Array(0);
  slab_nid: Uint8Array = new Uint8Array(0);
  /** 1 while a CPU allocates from it (PG_slub_frozen). */
  slab_frozen: Uint8Array = new Uint8Array(0);
  slab_next: Int32Array = new Int32Array(0);
  slab_prev: Int32Array = new Int32Array(0);
  /** Rows in use or used before. */
  nr_rows = 0;
  readonly free_rows: number[] = [];
  /** By handle: the next free object of the same list; -1 for an object in use. */
  free_pointer: Int32Array = new Int32Array(0);

  constructor(
    id: number,
    name: string,
    object_size: number,
    options: KmemCacheOptions,
    page_size: number,
    nr_cpus: number,
    max_order: number,
    word: number,
  ) {
    this.id = id;
    this.name = name;
    this.object_size = object_size;
    let flags = 0;
    if (options.reclaimable) flags |= SLAB_RECLAIM_ACCOUNT;
    if (options.hwcache_align) flags |= SLAB_HWCACHE_ALIGN;
    if (options.destroy_by_rcu) flags |= SLAB_DESTROY_BY_RCU;
    this.flags = flags;
    // calculate_alignment, calculate_sizes
    let align = Math.max(options.align ?? word, word);
    if (options.hwcache_align) {
      let line = CACHE_LINE;
      while (object_size <= line / 2) line /= 2;
      align = Math.max(align, line);
    }
    this.align = align;
    let size = Math.ceil(object_size / word) * word;
    // A constructed or still readable object cannot hold the free pointer itself.
    if (options.ctor || options.destroy_by_rcu) size += word;
    size = Math.ceil(size / align) * align;
    this.size = size;
    this.order = calculate_order(page_size, size, nr_cpus, max_order);
    if (this.order < 0) BUG('kmem_cache_create: the object is too large');
    this.objects = Math.floor((page_size * 2 ** this.order) / size);
    let min_order = 0;
    while (page_size * 2 ** min_order < size) min_order++;
    this.min_order = min_order;
    this.min_objects = Math.floor((page_size * 2 ** min_order) / size);
    const log = 31 - Math.clz32(size);
    this.min_partial = Math.min(MAX_PARTIAL, Math.max(MIN_PARTIAL, log));
    for (let cpu = 0; cpu < nr_cpus; cpu++) this.cpu_slab.push(new KmemCacheCpu());
  }

  /** The record of a node; made when it is first asked for. */
  get_node(nid: nid_t): KmemCacheNode {
    while (this.node.length <= nid) this.node.push(new KmemCacheNode());
    return this.node[nid]!;
  }

  /** True when its pages count as reclaimable. */
  reclaimable(): boolean {
    return (this.flags & SLAB_RECLAIM_ACCOUNT) !== 0;
  }

  /** First frame of the slab that an object lies in. */
  object_pfn(object: number): pfn_t {
    return this.slab_pfn[Math.floor((object - 1) / this.objects)]!;
  }
}

const R = { reclaimable: true };
const H = { hwcache_align: true };

/**
 * The caches that a 2.6.35 kernel creates while it boots: name, object size with 64 and with 32 bits,
 * options. For caches without constructor the recorded x86-64 machine confirms the sizes
 * (../shared/golden: /sys/kernel/slab has :at-0000192, :t-0000176 and so on). No 32-bit sizes were
 * recorded: they follow from the structures' fields with pointers of 4 bytes (a dentry is padded to
 * 128 there). With them a machine full of small files has half as much in reclaimable caches as one
 * with 64 bits, as recorded.
 */
const BOOT_CACHES: readonly [string, number, number, KmemCacheOptions][] = [
  ['kmem_cache_node', 64, 36, H],
  ['idr_layer_cache', 544, 148, {}],
  ['vm_area_struct', 176, 88, {}],
  ['radix_tree_node', 552, 288, { reclaimable: true, ctor: true }],
  ['task_struct', 1440, 1008, {}],
  ['task_xstate', 512, 512, { align: 16 }],
  ['sighand_cache', 2088, 1296, { hwcache_align: true, destroy_by_rcu: true, ctor: true }],
  ['signal_cache', 1008, 576, H],
  ['files_cache', 704, 320, H],
  ['fs_cache', 64, 40, H],
  ['mm_struct', 824, 436, H],
  ['cred_jar', 168, 96, H],
  ['pid', 80, 44, H],
  ['nsproxy', 48, 24, {}],
  ['anon_vma', 24, 16, { destroy_by_rcu: true, ctor: true }],
  ['anon_vma_chain', 48, 24, {}],
  ['filp', 184, 124, H],
  ['names_cache', 4096, 4096, H],
  ['dentry', 192, 128, R],
  ['inode_cache', 536, 328, { reclaimable: true, ctor: true }],
  ['proc_inode_cache', 584, 352, { reclaimable: true, ctor: true }],
  ['sysfs_dir_cache', 80, 48, {}],
  ['shmem_inode_cache', 720, 420, { ctor: true }],
  ['bdev_cache', 768, 440, { hwcache_align: true, reclaimable: true, ctor: true }],
  ['ext2_inode_cache', 712, 464, { reclaimable: true, ctor: true }],
  ['buffer_head', 104, 56, R],
  ['bio-0', 176, 128, H],
  ['biovec-256', 4096, 3072, H],
  ['blkdev_requests', 328, 204, {}],
  ['blkdev_queue', 2120, 1116, {}],
  ['kmalloc-8', 8, 8, {}],
  ['kmalloc-16', 16, 16, {}],
  ['kmalloc-32', 32, 32, {}],
  ['kmalloc-64', 64, 64, {}],
  ['kmalloc-96', 96, 96, {}],
  ['kmalloc-128', 128, 128, {}],
  ['kmalloc-192', 192, 192, {}],
  ['kmalloc-256', 256, 256, {}],
  ['kmalloc-512', 512, 512, {}],
  ['kmalloc-1024', 1024, 1024, {}],
  ['kmalloc-2048', 2048, 2048, {}],
  ['kmalloc-4096', 4096, 4096, {}],
  ['kmalloc-8192', 8192, 8192, {}],
];

/** What of a machine's shape (mmzone.ts) decides how slabs look. */
interface SlabShape {
  readonly page_shift: number;
  readonly nr_cpus: number;
  readonly max_order: number;
  readonly bytes_per_long: number;
  readonly numa: boolean;
}

/** All caches of a machine. Those that hot paths use have a field of their own. */
export class SlabState {
  readonly caches: KmemCache[] = [];
  /** kmalloc caches by rising size. */
  readonly kmalloc_caches: KmemCache[] = [];
  readonly radix_tree_node: KmemCache;
  readonly buffer_head: KmemCache;
  private readonly page_size: number;
  private readonly nr_cpus: number;
  private readonly max_order: number;
  private readonly word: number;

  constructor(shape: SlabShape) {
    this.page_size = 2 ** shape.page_shift;
    this.nr_cpus = shape.nr_cpus;
    this.max_order = shape.max_order;
    this.word = shape.bytes_per_long;
    for (const [name, size_64, size_32, options] of BOOT_CACHES) {
      // Only a kernel with NUMA takes the records of nodes from a cache.
      if (name === 'kmem_cache_node' && !shape.numa) continue;
      const cache = this.create(name, this.word === 8 ? size_64 : size_32, options);
      if (name.startsWith('kmalloc-')) this.kmalloc_caches.push(cache);
    }
    this.radix_tree_node = this.find('radix_tree_node');
    this.buffer_head = this.find('buffer_head');
  }

  create(name: string, object_size: number, options: KmemCacheOptions): KmemCache {
    const cache = new KmemCache(
      this.caches.length,
      name,
      object_size,
      options,
      this.page_size,
      this.nr_cpus,
      this.max_order,
      this.word,
    );
    this.caches.push(cache);
    return cache;
  }

  /** The cache of this name. Precondition: it exists. */
  find(name: string): KmemCache {
    for (const cache of this.caches) if (cache.name === name) return cache;
    return BUG('slab: no such cache');
  }
}
