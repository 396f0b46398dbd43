/**
 * Rebuilding what owns the pages of a recorded zone: processes, files, LRU lists.
 *
 * The recording has each page's flags, reference count and map count, and the LRU lists. What it
 * cannot say is rebuilt in the way that explains it:
 * - anonymous pages belong to as many simulated processes as the highest map count asks for; each
 *   maps page n of the zone at page n of one area;
 * - file pages belong to one of three address spaces: dirty pages without buffers or blocks are the
 *   root file system's (in memory: unevictable, no way to write them), pages with buffers that are
 *   uptodate one by one are block device metadata, all others are data of a disk file system;
 * - the index of a file page is its place in the zone.
 */
import { BUG_ON } from '../lib/bug.ts';
import { list_add_tail } from '../lib/list.ts';
import {
  type AddressSpace,
  type AddressSpaceOperations,
  AS_UNEVICTABLE,
  BUFFER_MIGRATE_PAGE,
  MIGRATE_FALLBACK,
} from '../mm/address_space.ts';
import { create_empty_buffers } from '../mm/buffer.ts';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL } from '../mm/gfp.ts';
import {
  MmapFile,
  MmStruct,
  VM_MAYREAD,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_READ,
  VM_SHARED,
  VM_WRITE,
  VmArea,
} from '../mm/mm_types.ts';
import { type Machine, NR_LRU_LISTS, type Zone } from '../mm/mmzone.ts';
import { PAGE_MAPPING_ANON, type pfn_t } from '../mm/page.ts';
import {
  PG_buddy,
  PG_dirty,
  PG_lru,
  PG_mappedtodisk,
  PG_private,
  PG_uptodate,
} from '../mm/page_flags.ts';
import {
  _PAGE_DIRTY,
  _PAGE_RW,
  get_pte,
  mk_pte,
  pgd_alloc,
  pte_alloc,
  pte_pfn,
  pte_present,
  set_pte,
} from '../mm/page_table.ts';
import { radix_tree_insert, radix_tree_preload } from '../mm/radix_tree.ts';
import { anon_vma_clone, anon_vma_prepare } from '../mm/rmap.ts';

/** [first pfn, run, flags, count, mapcount, is_anon] */
export type PageRun = [number, number, number, number, number, number];

export interface RecordedPages {
  pages: PageRun[];
  /** inactive_anon, active_anon, inactive_file, active_file, unevictable; head first. */
  lru: number[][];
}

/** Where each process maps the zone's anonymous pages, and where files; in pages. */
const ANON_START = 0x1000;

const disk_aops: AddressSpaceOperations = {
  name: 'recorded disk file',
  migratepage: BUFFER_MIGRATE_PAGE,
  account_dirty: true,
};
const bdev_aops: AddressSpaceOperations = {
  name: 'recorded block device',
  migratepage: MIGRATE_FALLBACK,
  account_dirty: true,
};
const ramfs_aops: AddressSpaceOperations = {
  name: 'recorded root file system',
  migratepage: MIGRATE_FALLBACK,
  account_dirty: false,
};

/** The owners of a recorded zone's pages. */
export class Owners {
  readonly m: Machine;
  readonly zone: Zone;
  readonly processes: MmStruct[] = [];
  private readonly disk: AddressSpace;
  private readonly bdev: AddressSpace;
  private readonly rootfs: AddressSpace;

  constructor(m: Machine, zone: Zone) {
    this.m = m;
    this.zone = zone;
    this.disk = m.mappings.create(disk_aops, GFP_HIGHUSER_MOVABLE);
    this.bdev = m.mappings.create(bdev_aops, GFP_HIGHUSER_MOVABLE);
    this.rootfs = m.mappings.create(ramfs_aops, GFP_HIGHUSER_MOVABLE);
    this.rootfs.flags |= AS_UNEVICTABLE;
  }

  /**
   * Gives every page its owner, its flags and its counts, and fills the LRU lists. Zone counters are
   * left as they were. `busy` tells pages (relative) with a buffer that is in use.
   */
  load(r: RecordedPages, busy: ReadonlySet<number>): void {
    const { zone } = this;
    const vm_stat = zone.vm_stat.slice();
    this.create_processes(r.pages);
    for (const run of r.pages) {
      for (let i = 0; i < run[1]; i++) this.load_page(run, run[0] + i, busy.has(run[0] + i));
    }
    const p = this.m.memmap;
    for (let lru = 0; lru < NR_LRU_LISTS; lru++) {
      for (const rel of r.lru[lru]!) {
        const pfn = zone.zone_start_pfn + rel;
        BUG_ON((p.flags[pfn]! & PG_lru) === 0, 'recording: a page on an LRU list without PG_lru');
        list_add_tail(p, pfn, zone.lru + lru);
      }
    }
    zone.vm_stat.set(vm_stat);
  }

  /** The frame, relative to the zone, that now holds what was anonymous page `rel`; -1 if unmapped. */
  anon_pfn(rel: number): number {
    for (const mm of this.processes) {
      const pte = get_pte(mm, ANON_START + rel);
      if (pte_present(pte)) return pte_pfn(pte) - this.zone.zone_start_pfn;
    }
    return -1;
  }

  /** As many processes as the page with the most mappings needs; all share one anon_vma. */
  private create_processes(pages: readonly PageRun[]): void {
    const { m } = this;
    const span = this.zone.spanned_pages;
    let most = 0;
    for (const run of pages) {
      if ((run[2] & PG_lru) !== 0) most = Math.max(most, run[4]);
    }
    const files = [this.disk, this.bdev, this.rootfs].map(
      (mapping, i) => new MmapFile(mapping, '/recorded' + i, i + 1, 0, 0),
    );
    for (let i = 0; i < most; i++) {
      const mm = new MmStruct();
      BUG_ON(!pgd_alloc(m, mm), 'recording: no memory for page tables');
      const anon = this.add_area(mm, ANON_START, VM_READ | VM_WRITE, ANON_START);
      if (i === 0) {
        BUG_ON(anon_vma_prepare(m, anon) !== 0, 'recording: no memory for an anon_vma');
      } else {
        const first = this.processes[0]!.mmap[0]!;
        BUG_ON(anon_vma_clone(m, anon, first) !== 0, 'recording: no memory for an anon_vma');
        anon.anon_vma = first.anon_vma;
      }
      for (let f = 0; f < files.length; f++) {
        const flags = VM_READ | VM_SHARED | VM_MAYSHARE;
        const area = this.add_area(mm, ANON_START + (f + 1) * span, flags, 0);
        area.vm_file = files[f]!;
        files[f]!.mapping.i_mmap.push(area);
      }
      this.processes.push(mm);
    }
  }

  private add_area(mm: MmStruct, start: number, flags: number, pgoff: number): VmArea {
    const end = start + this.zone.spanned_pages;
    const area = new VmArea(mm, start, end, flags | VM_MAYREAD | VM_MAYWRITE, pgoff);
    mm.mmap.push(area);
    return area;
  }

  private load_page(run: PageRun, rel: number, busy: boolean): void {
    const [, , flags, count, mapcount, is_anon] = run;
    const p = this.m.memmap;
    const pfn = this.zone.zone_start_pfn + rel;
    p._count[pfn] = count;
    if ((flags & PG_buddy) !== 0 || (flags === 0 && count === 0)) return;
    if ((flags & PG_lru) !== 0) {
      if (is_anon !== 0) this.load_anon(pfn, rel, mapcount);
      else this.load_file(pfn, rel, flags, mapcount, busy);
    }
    p.flags[pfn] = flags;
    p._count[pfn] = count;
    p._mapcount[pfn] = mapcount;
  }

  private load_anon(pfn: pfn_t, rel: number, mapcount: number): void {
    const p = this.m.memmap;
    const anon_vma = this.processes[0]!.mmap[0]!.anon_vma!;
    p.mapping[pfn] = (anon_vma.id << 2) | PAGE_MAPPING_ANON;
    p.index[pfn] = ANON_START + rel;
    // The recorder had written to its pages: migration turns that into PG_dirty.
    const pte = mk_pte(pfn) | _PAGE_RW | _PAGE_DIRTY;
    for (let i = 0; i < mapcount; i++) this.map(i, ANON_START + rel, pte);
  }

  private load_file(pfn: pfn_t, rel: number, flags: number, mapcount: number, busy: boolean): void {
    const { m } = this;
    const p = m.memmap;
    const owned = PG_private | PG_mappedtodisk;
    let mapping = this.disk;
    if ((flags & (owned | PG_dirty)) === PG_dirty) mapping = this.rootfs;
    else if ((flags & (owned | PG_uptodate)) === PG_private) mapping = this.bdev;
    BUG_ON(radix_tree_preload(m, GFP_KERNEL) !== 0, 'recording: no memory for a radix tree');
    BUG_ON(
      radix_tree_insert(m, mapping.page_tree, rel, pfn) !== 0,
      'recording: two pages, one place',
    );
    mapping.nrpages++;
    p.mapping[pfn] = mapping.id << 2;
    p.index[pfn] = rel;
    if ((flags & PG_private) !== 0) this.add_buffers(pfn, flags, busy);
    const area = [this.disk, this.bdev, this.rootfs].indexOf(mapping) + 1;
    const start = ANON_START + area * this.zone.spanned_pages;
    for (let i = 0; i < mapcount; i++) this.map(i, start + rel, mk_pte(pfn));
  }

  private map(process: number, vpn: number, pte: number): void {
    const mm = this.processes[process]!;
    BUG_ON(pte_alloc(this.m, mm, vpn) === null, 'recording: no memory for page tables');
    set_pte(mm, vpn, pte);
  }

  private add_buffers(pfn: pfn_t, flags: number, busy: boolean): void {
    const { m } = this;
    m.memmap.flags[pfn] = flags & ~PG_private;
    BUG_ON(create_empty_buffers(m, pfn) !== 0, 'recording: no memory for buffers');
    if (busy) m.buffer_heads.b_count[m.memmap.private_[pfn]!] = 1;
  }
}
