/**
 * The tracepoints that the shared mechanics fire, one row each. Kernels print them (their
 * trace.ts); a kernel adds events of its own to this object's table.
 * Linux: include/trace/events/kmem.h.
 */
import { Tracepoint } from '../lib/tracepoint.ts';

export class MmTrace {
  /** (pfn or -1, order, gfp, migratetype): end of every request that got past the early checks. */
  readonly mm_page_alloc = new Tracepoint('mm_page_alloc');
  /** (pfn, order): every page or block freed. */
  readonly mm_page_free_direct = new Tracepoint('mm_page_free_direct');
  /** (pfn, order 0, cold): before a page of a pagevec is freed. */
  readonly mm_pagevec_free = new Tracepoint('mm_pagevec_free');
  /** (pfn or -1, order, migratetype, percpu_refill): every removal from the buddy lists. */
  readonly mm_page_alloc_zone_locked = new Tracepoint('mm_page_alloc_zone_locked');
  /** (pfn, order 0, migratetype): after a page went from a per-CPU list to the buddy lists. */
  readonly mm_page_pcpu_drain = new Tracepoint('mm_page_pcpu_drain');
  /** (pfn, alloc_order, fallback_order, alloc_migratetype, fallback_migratetype). */
  readonly mm_page_alloc_extfrag = new Tracepoint('mm_page_alloc_extfrag');
  /**
   * (cache id, object handle, bytes asked for, gfp), object 0 without memory. A page block has cache
   * -1 and its pfn (-1 without memory) as object, and a fifth argument: its order.
   */
  readonly kmalloc = new Tracepoint('kmalloc');
  readonly kmem_cache_alloc = new Tracepoint('kmem_cache_alloc');
  /** The same for a node that was asked for: (..., gfp, nid). */
  readonly kmalloc_node = new Tracepoint('kmalloc_node');
  readonly kmem_cache_alloc_node = new Tracepoint('kmem_cache_alloc_node');
  /** (cache id, object handle, first frame of its slab): before an object is freed; as kmalloc. */
  readonly kfree = new Tracepoint('kfree');
  /** The same, after the object was freed. */
  readonly kmem_cache_free = new Tracepoint('kmem_cache_free');
  /** (old pfn, new pfn): a page's contents and mappings have moved. Ours, not in 2.6.35. */
  readonly pageblock_page_moved = new Tracepoint('pageblock_page_moved');
}
