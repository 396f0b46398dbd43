/**
 * /proc/kpageflags and /proc/kpagecount: a little-endian 64-bit word for each frame.
 *
 * The bits are an interface: later kernels only add some, of kinds of pages that are not here; from
 * 4.7 on those of free blocks and slabs are set in every frame (kpageflags_of_tails).
 * Linux: fs/proc/page.c, include/linux/kernel-page-flags.h. Differs: a slab page's count is 0, where
 * 2.6.35 shows what SLUB keeps in the same field.
 */

import { EINVAL } from '../../lib/errno.ts';
import type { FileRow } from '../../lib/file_row.ts';
import { for_each_huge_page, hstate_vma, is_vm_hugetlb_page } from '../../mm/hugetlb.ts';
import { type Machine, pfn_valid, zone_end_pfn } from '../../mm/mmzone.ts';
import {
  compound_head,
  PageAnon,
  PageKsm,
  page_mapcount,
  page_mapped,
  type pfn_t,
} from '../../mm/page.ts';
import {
  PG_active,
  PG_arch_1,
  PG_buddy,
  PG_checked,
  PG_dirty,
  PG_error,
  PG_head,
  PG_locked,
  PG_lru,
  PG_mappedtodisk,
  PG_mlocked,
  PG_private,
  PG_private_2,
  PG_reclaim,
  PG_referenced,
  PG_reserved,
  PG_slab,
  PG_swapbacked,
  PG_swapcache,
  PG_tail,
  PG_unevictable,
  PG_uptodate,
  PG_writeback,
} from '../../mm/page_flags.ts';
import { pte_pfn } from '../../mm/page_table.ts';

/** Bit of the word for each page flag, in the low half. */
const LOW_BITS: readonly [flag: number, bit: number][] = [
  [PG_locked, 0],
  [PG_error, 1],
  [PG_referenced, 2],
  [PG_uptodate, 3],
  [PG_dirty, 4],
  [PG_lru, 5],
  [PG_active, 6],
  [PG_slab, 7],
  [PG_writeback, 8],
  [PG_reclaim, 9],
  [PG_buddy, 10],
  [PG_swapcache, 13],
  [PG_swapbacked, 14],
  [PG_head, 15],
  [PG_tail, 16],
  [PG_unevictable, 18],
];
const KPF_MMAP = 1 << 11;
const KPF_ANON = 1 << 12;
const KPF_HUGE = 1 << 17;
const KPF_NOPAGE = 1 << 20;
const KPF_KSM = 1 << 21;
// Later kernels.
const KPF_THP = 1 << 22;
const KPF_ZERO_PAGE = 1 << 24;

/** The same for the high half: bits 32 and up, for kernel hackers. */
const HIGH_BITS: readonly [flag: number, bit: number][] = [
  [PG_reserved, 32],
  [PG_mlocked, 33],
  [PG_mappedtodisk, 34],
  [PG_private, 35],
  [PG_private_2, 36],
  [PG_checked, 37],
  [PG_arch_1, 38],
];

const ENTRY = 8;

/** Flags are translated by looking up their lower and their upper half. */
const HALF = 12;

/** What each half of a flags word contributes, bits counted from `base`. */
function translation(bits: readonly [flag: number, bit: number][], base: number): Uint32Array[] {
  return [0, HALF].map((shift) => {
    const table = new Uint32Array(2 ** HALF);
    for (let half = 0; half < table.length; half++) {
      for (const [flag, bit] of bits) {
        if (((half << shift) & flag) !== 0) table[half]! |= 1 << (bit - base);
      }
    }
    return table;
  });
}

const [LOW_LOWER, LOW_UPPER] = translation(LOW_BITS, 0) as [Uint32Array, Uint32Array];
const [HIGH_LOWER, HIGH_UPPER] = translation(HIGH_BITS, 32) as [Uint32Array, Uint32Array];

/** Whether a frame lies in a free block (mm/page_alloc.c: is_free_buddy_page). */
function is_free_buddy_page(m: Machine, pfn: pfn_t): boolean {
  const p = m.memmap;
  for (let order = 0; order < m.shape.max_order; order++) {
    const head = pfn - (pfn % 2 ** order);
    if ((p.flags[head]! & PG_buddy) !== 0 && p.private_[head]! >= order) return true;
  }
  return false;
}

/** What a kernel tells of every frame of a free block or a slab, not only of the first. */
function tail_flags(m: Machine, pfn: pfn_t, flags: number): number {
  const p = m.memmap;
  if ((flags & PG_tail) !== 0) return p.flags[compound_head(p, pfn)]! & PG_slab;
  return p._count[pfn] === 0 && is_free_buddy_page(m, pfn) ? PG_buddy : 0;
}

/** The low 32 bits of a frame's word (fs/proc/page.c: get_uflags). */
function kpage_flags_low(m: Machine, pfn: number): number {
  if (!pfn_valid(m, pfn)) return KPF_NOPAGE;
  const p = m.memmap;
  let flags = p.flags[pfn]!;
  if (m.kernel.kpageflags_of_tails && (flags & PG_buddy) === 0) flags |= tail_flags(m, pfn, flags);
  let word = LOW_LOWER[flags & (2 ** HALF - 1)]! | LOW_UPPER[flags >>> HALF]!;
  if ((flags & PG_slab) === 0 && page_mapped(p, pfn)) word |= KPF_MMAP;
  if (PageAnon(p, pfn)) word |= KPF_ANON;
  if (PageKsm(p, pfn)) word |= KPF_KSM;
  if ((flags & (PG_head | PG_tail)) !== 0) {
    const head = compound_head(p, pfn);
    if (PageAnon(p, head)) word |= KPF_THP;
    else if (head === m.huge_zero_pfn) word |= KPF_THP | KPF_ZERO_PAGE;
  }
  return word;
}

function kpage_flags_high(m: Machine, pfn: number): number {
  if (!pfn_valid(m, pfn)) return 0;
  const flags = m.memmap.flags[pfn]!;
  return HIGH_LOWER[flags & (2 ** HALF - 1)]! | HIGH_UPPER[flags >>> HALF]!;
}

function kpage_count(m: Machine, pfn: number): number {
  return pfn_valid(m, pfn) ? page_mapcount(m.memmap, pfn) : 0;
}

/**
 * Marks the frames of huge page pools among the words of a range, free and in use. (Linux' PageHuge
 * asks the destructor of the compound page; ours have none, but the pools and processes list them.)
 */
function mark_huge(m: Machine, view: DataView, start: number, end: number): void {
  const mark = (first: number, order: number): void => {
    const last = Math.min(end, first + 2 ** order);
    for (let pfn = Math.max(start, first); pfn < last; pfn++) {
      const at = (pfn - start) * ENTRY;
      view.setUint32(at, view.getUint32(at, true) | KPF_HUGE, true);
    }
  };
  for (const h of m.hstates) {
    for (const list of h.hugepage_freelists) for (const pfn of list) mark(pfn, h.order);
  }
  for (const task of m.tasks.values()) {
    for (const vma of task.mm?.mmap ?? []) {
      if (!is_vm_hugetlb_page(vma)) continue;
      const { order } = hstate_vma(m, vma);
      for_each_huge_page(m, vma, (pte) => mark(pte_pfn(pte), order));
    }
  }
}

/** One past the highest frame of RAM: the files end there. */
function max_pfn(m: Machine): number {
  let end = 0;
  for (const zone of m.populated_zones) end = Math.max(end, zone_end_pfn(zone));
  return end;
}

/** Words of `pos` on, as many as fit; -EINVAL unless offset and count are whole words. */
function read_words(
  m: Machine,
  pos: number,
  buf: Uint8Array,
  low: (m: Machine, pfn: number) => number,
  high: (m: Machine, pfn: number) => number,
): number {
  const count = Math.min(buf.length, max_pfn(m) * ENTRY - pos);
  if (pos % ENTRY !== 0 || count % ENTRY !== 0) return -EINVAL;
  if (count <= 0) return 0;
  const view = new DataView(buf.buffer, buf.byteOffset, count);
  let pfn = pos / ENTRY;
  for (let at = 0; at < count; at += ENTRY, pfn++) {
    view.setUint32(at, low(m, pfn), true);
    view.setUint32(at + 4, high(m, pfn), true);
  }
  return count;
}

const zero = (): number => 0;

function read_flags(m: Machine, pos: number, buf: Uint8Array): number {
  const count = read_words(m, pos, buf, kpage_flags_low, kpage_flags_high);
  if (count <= 0) return count;
  const first = pos / ENTRY;
  mark_huge(m, new DataView(buf.buffer, buf.byteOffset, count), first, first + count / ENTRY);
  return count;
}

export const proc_page_files: readonly FileRow<Machine>[] = [
  {
    path: '/proc/kpagecount',
    mode: 0o400,
    read_at: (m, pos, buf) => read_words(m, pos, buf, kpage_count, zero),
    doc: 'how often each frame is mapped: 64 bits a frame',
  },
  {
    path: '/proc/kpageflags',
    mode: 0o400,
    read_at: read_flags,
    doc: 'the flags of each frame: 64 bits a frame, as page-types reads them',
  },
];
