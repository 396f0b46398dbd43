/**
 * Page flag bits. Linux: include/linux/page-flags.h (v2.6.35, 64-bit, with KSM and mlock), which
 * is also the numbering of the `flags` in recorded page tables.
 */
export const PG_locked = 1 << 0;
export const PG_error = 1 << 1;
export const PG_referenced = 1 << 2;
export const PG_uptodate = 1 << 3;
export const PG_dirty = 1 << 4;
export const PG_lru = 1 << 5;
export const PG_active = 1 << 6;
export const PG_slab = 1 << 7;
export const PG_checked = 1 << 8;
export const PG_arch_1 = 1 << 9;
export const PG_reserved = 1 << 10;
export const PG_private = 1 << 11;
export const PG_private_2 = 1 << 12;
export const PG_writeback = 1 << 13;
export const PG_head = 1 << 14;
export const PG_tail = 1 << 15;
export const PG_swapcache = 1 << 16;
export const PG_mappedtodisk = 1 << 17;
export const PG_reclaim = 1 << 18;
export const PG_buddy = 1 << 19;
export const PG_swapbacked = 1 << 20;
export const PG_unevictable = 1 << 21;
export const PG_mlocked = 1 << 22;
/** 6.1, of parts of a huge page: only one address space maps it (there it shares a bit). */
export const PG_anon_exclusive = 1 << 23;

/** Flags that must be clear when a page is freed (page_alloc.c: free_pages_check). */
export const PAGE_FLAGS_CHECK_AT_FREE =
  PG_lru |
  PG_locked |
  PG_private |
  PG_private_2 |
  PG_buddy |
  PG_writeback |
  PG_reserved |
  PG_slab |
  PG_swapcache |
  PG_active |
  PG_unevictable |
  PG_mlocked;
