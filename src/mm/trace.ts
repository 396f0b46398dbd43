/**
 * The tracepoints that the shared mechanics fire, one row each. Kernels print them (their
 * trace.ts); a kernel adds events of its own to this object's table.
 * Linux: include/trace/events/kmem.h; compaction.h for the rows of kernels after 2.6.35, which had no
 * tracepoints of compaction: there begin and end are fired for experiments, and no file shows them.
 */
import { type TraceListener, Tracepoint } from '../lib/tracepoint.ts';

export class MmTrace {
  /** What a kernel's tracing has subscribed, by the event's name, so that it can unsubscribe. */
  readonly listeners: Map<string, TraceListener> = new Map();
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

  /** (migrate pfn, free pfn, sync, 0, zone id). */
  readonly mm_compaction_begin = new Tracepoint('mm_compaction_begin');
  /** (migrate pfn, free pfn, sync, status, zone id). */
  readonly mm_compaction_end = new Tracepoint('mm_compaction_end');
  /** (start pfn, end pfn, nr_scanned, nr_taken). */
  readonly mm_compaction_isolate_migratepages = new Tracepoint(
    'mm_compaction_isolate_migratepages',
  );
  /** (start pfn, end pfn, nr_scanned, nr_taken). */
  readonly mm_compaction_isolate_freepages = new Tracepoint('mm_compaction_isolate_freepages');
  /** (nr_migrated, nr_failed). */
  readonly mm_compaction_migratepages = new Tracepoint('mm_compaction_migratepages');
  /** (order, gfp, priority). */
  readonly mm_compaction_try_to_compact_pages = new Tracepoint(
    'mm_compaction_try_to_compact_pages',
  );
  /** (zone id, order, result). */
  readonly mm_compaction_finished = new Tracepoint('mm_compaction_finished');
  /** (zone id, order, result). */
  readonly mm_compaction_suitable = new Tracepoint('mm_compaction_suitable');
  /** (zone id, order, order failed, considered, defer shift). */
  readonly mm_compaction_deferred = new Tracepoint('mm_compaction_deferred');
  readonly mm_compaction_defer_compaction = new Tracepoint('mm_compaction_defer_compaction');
  readonly mm_compaction_defer_reset = new Tracepoint('mm_compaction_defer_reset');
  /** (nid). */
  readonly mm_compaction_kcompactd_sleep = new Tracepoint('mm_compaction_kcompactd_sleep');
  /** (nid, order, highest zone). */
  readonly mm_compaction_wakeup_kcompactd = new Tracepoint('mm_compaction_wakeup_kcompactd');
  readonly mm_compaction_kcompactd_wake = new Tracepoint('mm_compaction_kcompactd_wake');

  /** (mode, reason). */
  readonly mm_migrate_pages_start = new Tracepoint('mm_migrate_pages_start');
  /** (pages that moved, pages that did not, mode, reason). */
  readonly mm_migrate_pages = new Tracepoint('mm_migrate_pages');

  /** (nid). */
  readonly mm_vmscan_kswapd_sleep = new Tracepoint('mm_vmscan_kswapd_sleep');
  /** (nid, highest zone, order). */
  readonly mm_vmscan_kswapd_wake = new Tracepoint('mm_vmscan_kswapd_wake');
  /** (nid, highest zone, order, gfp). */
  readonly mm_vmscan_wakeup_kswapd = new Tracepoint('mm_vmscan_wakeup_kswapd');
  /** (order, gfp). */
  readonly mm_vmscan_direct_reclaim_begin = new Tracepoint('mm_vmscan_direct_reclaim_begin');
  /** (pages freed). */
  readonly mm_vmscan_direct_reclaim_end = new Tracepoint('mm_vmscan_direct_reclaim_end');
  /** (highest zone, order, LRU list, pages taken); values: pages asked for, pages looked at. */
  readonly mm_vmscan_lru_isolate = new Tracepoint('mm_vmscan_lru_isolate');
  /**
   * (nid, priority, file); values: scanned, reclaimed, dirty, under write-back, congested, marked for
   * freeing after their write, activated anonymous and file pages, kept for a reference, kept mapped.
   */
  readonly mm_vmscan_lru_shrink_inactive = new Tracepoint('mm_vmscan_lru_shrink_inactive');
  /** What an event has beyond five arguments; set before it is fired, and only when it is on. */
  readonly values: Float64Array = new Float64Array(16);
}
