/**
 * Allocation masks: which zone, which mobility, what the allocator may do.
 * Linux: include/linux/gfp.h. The bits are those of 2.6.35; kernels that print other values
 * translate when they print.
 */
export const __GFP_DMA = 0x1;
export const __GFP_HIGHMEM = 0x2;
export const __GFP_DMA32 = 0x4;
export const __GFP_MOVABLE = 0x8;
export const __GFP_WAIT = 0x10;
export const __GFP_HIGH = 0x20;
export const __GFP_IO = 0x40;
export const __GFP_FS = 0x80;
export const __GFP_COLD = 0x100;
export const __GFP_NOWARN = 0x200;
export const __GFP_REPEAT = 0x400;
export const __GFP_NOFAIL = 0x800;
export const __GFP_NORETRY = 0x1000;
export const __GFP_COMP = 0x4000;
export const __GFP_ZERO = 0x8000;
export const __GFP_NOMEMALLOC = 0x10000;
export const __GFP_HARDWALL = 0x20000;
export const __GFP_THISNODE = 0x40000;
export const __GFP_RECLAIMABLE = 0x80000;

export const GFP_NOWAIT = 0;
export const GFP_ATOMIC = __GFP_HIGH;
export const GFP_NOIO = __GFP_WAIT;
export const GFP_NOFS = __GFP_WAIT | __GFP_IO;
export const GFP_KERNEL = __GFP_WAIT | __GFP_IO | __GFP_FS;
export const GFP_TEMPORARY = GFP_KERNEL | __GFP_RECLAIMABLE;
export const GFP_USER = GFP_KERNEL | __GFP_HARDWALL;
export const GFP_HIGHUSER = GFP_USER | __GFP_HIGHMEM;
export const GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER | __GFP_MOVABLE;
/** All of these on NUMA: no slow path at all (page_alloc.c: __alloc_pages_slowpath). */
export const GFP_THISNODE = __GFP_THISNODE | __GFP_NOWARN | __GFP_NORETRY;

export const MIGRATE_UNMOVABLE = 0;
export const MIGRATE_RECLAIMABLE = 1;
export const MIGRATE_MOVABLE = 2;
/** Also the number of types that per-CPU lists hold (MIGRATE_PCPTYPES). */
export const MIGRATE_RESERVE = 3;
export const MIGRATE_ISOLATE = 4;
export const MIGRATE_TYPES = 5;
export const MIGRATE_PCPTYPES = 3;

/** Free-list type of a request while grouping by mobility is on (gfp.h: allocflags_to_migratetype). */
export function allocflags_to_migratetype(gfp: number): number {
  return ((gfp & __GFP_MOVABLE) !== 0 ? 2 : 0) | ((gfp & __GFP_RECLAIMABLE) !== 0 ? 1 : 0);
}
