/**
 * What a file's cached pages hang on: the address space, its operations, and the table of all.
 *
 * The mapping column of a file page holds the address space's id << 2; `Mappings` turns it back.
 * Only data here, no behaviour: filemap.ts, buffer.ts and page_writeback.ts act on it.
 * Linux: include/linux/fs.h (struct address_space, struct address_space_operations). Differs: the
 * migration method is a constant instead of a pointer, so that migrate.ts imports no file system;
 * write-back keeps its list of address spaces, where Linux keeps inodes.
 */
import { BUG_ON } from '../lib/bug.ts';
import type { VmArea } from './mm_types.ts';
import type { Machine } from './mmzone.ts';
import type { pfn_t } from './page.ts';

/** How a mapping's pages migrate (address_space_operations.migratepage). */
export const MIGRATE_PAGE = 1;
export const BUFFER_MIGRATE_PAGE = 2;
/** No method: fallback_migrate_page writes dirty pages out and drops buffers. */
export const MIGRATE_FALLBACK = 0;

/** AddressSpace.flags (pagemap.h: enum mapping_flags). */
export const AS_EIO = 1;
export const AS_ENOSPC = 2;
export const AS_UNEVICTABLE = 8;

/** Page indexes are below this: 16 TiB of 4 KiB pages. */
export const MAX_PAGE_INDEX = 2 ** 32;

/** What a kind of mapping can do. Constant tables; `name` identifies them in a saved machine. */
export interface AddressSpaceOperations {
  readonly name: string;
  readonly migratepage: number;
  /** False for pages that are never dirty in the sense of write-back (swap cache, memory files). */
  readonly account_dirty: boolean;
  /** Fills a locked page of the cache from the device. 0 (uptodate, unlocked) or -errno. */
  readpage?(m: Machine, mapping: AddressSpace, pfn: pfn_t): number;
  /**
   * Starts writing a locked page whose dirty bit is clear already; returns with it unlocked and
   * under write-back. 0, -errno, or AOP_WRITEPAGE_ACTIVATE with the page still locked.
   */
  writepage?(m: Machine, mapping: AddressSpace, pfn: pfn_t): number;
  /**
   * A process touches a page of a mapping: the page, locked, uptodate and with a reference. -EIO,
   * -ENOMEM, -EAGAIN. Without it the page is read from the device (filemap_fault).
   */
  fault?(m: Machine, mapping: AddressSpace, index: number): pfn_t;
  /** Marks a page dirty; without it the page alone is marked, its buffers are not. */
  set_page_dirty?(m: Machine, mapping: AddressSpace, pfn: pfn_t): boolean;
  /**
   * The device's block that holds a block of the file, in units of BLOCK_SIZE; -1 for a hole. With
   * `create` a hole gets a block, or the answer is -errno below -1.
   */
  get_block?(m: Machine, mapping: AddressSpace, block: number, create: boolean): number;
  /** After all pages of a mapping were cleaned or written: the file system's own bookkeeping. */
  write_inode?(m: Machine, mapping: AddressSpace): void;
}

export const RADIX_TREE_MAP_SIZE = 64;
export const RADIX_TREE_MAX_TAGS = 3;

/** The radix tree of a mapping: page index to frame (lib/radix-tree.c). */
export class RadixTreeRoot {
  height = 0;
  /** Height 0: the item of index 0, or 0. Else the handle of the top node. */
  rnode = 0;
  /** Bit t: some item has tag t. */
  tags = 0;
}

/** The contents of all radix tree nodes, by handle of the node's object. */
export class RadixTreeNodes {
  /** 64 slots a node: handles of nodes below, or items at the lowest level; 0: empty. */
  slots: Int32Array = new Int32Array(RADIX_TREE_MAP_SIZE * 64);
  /** Slots in use. */
  count: Uint8Array = new Uint8Array(64);
  /** Tag t of slots 0..31 and 32..63: [(node * 3 + t) * 2] and the next. */
  tags: Int32Array = new Int32Array(64 * RADIX_TREE_MAX_TAGS * 2);
  /** Reserve of each CPU (struct radix_tree_preload). */
  readonly preloads: number[][] = [];

  constructor(nr_cpus: number) {
    for (let cpu = 0; cpu < nr_cpus; cpu++) this.preloads.push([]);
  }

  /** Makes room for a handle. */
  reserve(node: number): void {
    if (node < this.count.length) return;
    const size = Math.max(this.count.length * 2, node + 1);
    const slots = new Int32Array(size * RADIX_TREE_MAP_SIZE);
    slots.set(this.slots);
    this.slots = slots;
    const count = new Uint8Array(size);
    count.set(this.count);
    this.count = count;
    const tags = new Int32Array(size * RADIX_TREE_MAX_TAGS * 2);
    tags.set(this.tags);
    this.tags = tags;
  }
}

export class AddressSpace {
  readonly id: number;
  readonly a_ops: AddressSpaceOperations;
  /** What owns the pages: an inode of a file system, in its own terms. */
  host: object | null;
  /** Mask for its pages (mapping_gfp_mask). */
  readonly gfp_mask: number;
  /** Device to write to: index in m.block_devices, -1 for none. */
  readonly bdev: number;
  nrpages = 0;
  flags = 0;
  readonly page_tree: RadixTreeRoot = new RadixTreeRoot();
  /** VMAs that map this file, for the reverse mapping. */
  readonly i_mmap: VmArea[] = [];
  /** Milliseconds of the clock when the first page became dirty; -1 while on no dirty list. */
  dirtied_when = -1;
  /** Index where the next partial write-back goes on. */
  writeback_index = 0;
  /** File size in bytes: what reads stop at and write-back cuts at. */
  i_size = 0;

  constructor(
    id: number,
    a_ops: AddressSpaceOperations,
    gfp_mask: number,
    host: object | null = null,
    bdev = -1,
  ) {
    this.id = id;
    this.a_ops = a_ops;
    this.gfp_mask = gfp_mask;
    this.host = host;
    this.bdev = bdev;
  }

  /** MIGRATE_PAGE, BUFFER_MIGRATE_PAGE or MIGRATE_FALLBACK. */
  get migratepage(): number {
    return this.a_ops.migratepage;
  }
}

/** Address spaces by id; ids start at 1, freed ones are used again, the last freed first. */
export class Mappings {
  private readonly table: (AddressSpace | null)[] = [null];
  private readonly free_ids: number[] = [];

  create(
    a_ops: AddressSpaceOperations,
    gfp_mask: number,
    host: object | null = null,
    bdev = -1,
  ): AddressSpace {
    const id = this.free_ids.pop() ?? this.table.length;
    const mapping = new AddressSpace(id, a_ops, gfp_mask, host, bdev);
    this.table[id] = mapping;
    return mapping;
  }

  /** The mapping with this id. Precondition: it is alive. */
  get(id: number): AddressSpace {
    const mapping = this.table[id];
    BUG_ON(mapping == null, 'mappings: no such address space');
    return mapping!;
  }

  /** False once it was destroyed: for who pauses with a mapping in hand. */
  is_alive(mapping: AddressSpace): boolean {
    return this.table[mapping.id] === mapping;
  }

  /** Forgets a mapping. Precondition: it has no pages. */
  destroy(mapping: AddressSpace): void {
    BUG_ON(mapping.nrpages !== 0, 'mappings: pages are left');
    BUG_ON(this.table[mapping.id] !== mapping, 'mappings: freed twice');
    this.table[mapping.id] = null;
    this.free_ids.push(mapping.id);
  }

  /** All that are alive, by id: for write-back, drop_caches and checks. */
  all(): AddressSpace[] {
    const alive: AddressSpace[] = [];
    for (const mapping of this.table) if (mapping !== null) alive.push(mapping);
    return alive;
  }
}

/** swap_state.c: swap_aops. */
export const swap_aops: AddressSpaceOperations = {
  name: 'swap',
  migratepage: MIGRATE_PAGE,
  account_dirty: false,
};
