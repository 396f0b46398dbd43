/**
 * Merging two pages of equal content: compared, made read-only, one put in the place of the other.
 *
 * A page is taken out of use by others first: its pte loses write permission, and a page with other
 * references than its ptes is left alone. Huge pages are split before.
 * Linux: mm/ksm.c (memcmp_pages, write_protect_page, replace_page, try_to_merge_*). Differs: content is
 * the tag, and bytes where a page has some; the checksum is of them.
 */
import { EFAULT } from '../lib/errno.ts';
import { split_huge_page_to_list } from './huge_memory.ts';
import { mlock_vma_page } from './internal.ts';
import { ANON_VMA, type KsmState, VPN } from './ksm_def.ts';
import { break_cow, item_mm, ksm_test_exit, stable_mapping } from './ksm_items.ts';
import { mark_page_accessed, put_page } from './lru.ts';
import { find_vma, VM_LOCKED, VM_MERGEABLE, type VmArea } from './mm_types.ts';
import type { Machine } from './mmzone.ts';
import {
  compound_head,
  get_page,
  PageAnon,
  PageCompound,
  PageMlocked,
  PageSwapCache,
  page_count,
  page_mapcount,
  type pfn_t,
  trylock_page,
  unlock_page,
} from './page.ts';
import { mk_pte, pte_write, pte_wrprotect } from './page_table.ts';
import {
  get_anon_vma,
  munlock_vma_page,
  page_add_anon_rmap,
  page_check_address,
  page_remove_rmap,
  vma_address,
} from './rmap.ts';

// ---- content

const scratch_a = new Uint8Array(65536);
const scratch_b = new Uint8Array(65536);

/** Orders pages by content: 0 when they are equal (memcmp_pages). */
export function memcmp_pages(m: Machine, a: pfn_t, b: pfn_t): number {
  const { contents } = m;
  const tag = contents.get_tag(a) - contents.get_tag(b);
  if (tag !== 0) return tag;
  if (!contents.is_touched(a) && !contents.is_touched(b)) return 0;
  const size = contents.page_size;
  contents.read_page(a, 0, scratch_a, 0, size);
  contents.read_page(b, 0, scratch_b, 0, size);
  for (let i = 0; i < size; i++) {
    if (scratch_a[i] !== scratch_b[i]) return scratch_a[i]! - scratch_b[i]!;
  }
  return 0;
}

/** calc_checksum: any change of the content changes it, as far as 32 bits go. */
export function calc_checksum(m: Machine, pfn: pfn_t): number {
  let sum = m.contents.get_tag(pfn) | 0;
  if (!m.contents.is_touched(pfn)) return sum;
  const size = m.contents.page_size;
  m.contents.read_page(pfn, 0, scratch_a, 0, size);
  for (let i = 0; i < size; i++) sum = (Math.imul(sum, 31) + scratch_a[i]!) | 0;
  return sum;
}

// ---- merging

/** Takes write permission from the only pte of a page that nobody else uses: 0 or -EFAULT. */
function write_protect_page(m: Machine, vma: VmArea, pfn: pfn_t): number {
  const vpn = vma_address(m, pfn, vma);
  const table = vpn < 0 ? null : page_check_address(pfn, vma.vm_mm, vpn);
  if (table === null) return -EFAULT;
  const pte = table.ptes![vpn & 511]!;
  if (!pte_write(pte)) return 0;
  // Whoever else holds a reference may be writing to it.
  const swapped = PageSwapCache(m.memmap, pfn) ? 1 : 0;
  if (page_mapcount(m.memmap, pfn) + 1 + swapped !== page_count(m.memmap, pfn)) return -EFAULT;
  table.ptes![vpn & 511] = pte_wrprotect(pte);
  return 0;
}

/** Points the pte of a page to the merged page instead: 0 or -EFAULT. */
function replace_page(m: Machine, vma: VmArea, pfn: pfn_t, kpage: pfn_t): number {
  const vpn = vma_address(m, pfn, vma);
  const table = vpn < 0 ? null : page_check_address(pfn, vma.vm_mm, vpn);
  if (table === null) return -EFAULT;
  m.memmap._count[kpage]!++;
  page_add_anon_rmap(m, kpage, vma, vpn);
  table.ptes![vpn & 511] = mk_pte(kpage);
  page_remove_rmap(m, pfn);
  put_page(m, pfn);
  return 0;
}

/** Splits the huge page that pfn is a part of; the caller's reference is one to the part then. */
export function split_for_merging(m: Machine, pfn: pfn_t): boolean {
  const p = m.memmap;
  const head = compound_head(p, pfn);
  if (!trylock_page(p, head)) return false;
  const err = split_huge_page_to_list(m, head);
  unlock_page(p, head);
  if (err !== 0) return false;
  get_page(p, pfn);
  put_page(m, head);
  return true;
}

/**
 * Makes a page a merged one (kpage -1), or merges it into one: 0 or -EFAULT. The caller holds a
 * reference to both. (try_to_merge_one_page)
 */
function try_to_merge_one_page(m: Machine, vma: VmArea, pfn: pfn_t, kpage: pfn_t | -1): number {
  const p = m.memmap;
  if (pfn === kpage) return 0;
  if ((vma.vm_flags & VM_MERGEABLE) === 0 || !PageAnon(p, pfn)) return -EFAULT;
  if (PageCompound(p, pfn) && !split_for_merging(m, pfn)) return -EFAULT;
  if (!trylock_page(p, pfn)) return -EFAULT;
  let err = write_protect_page(m, vma, pfn);
  if (err === 0) {
    if (kpage < 0) {
      p.mapping[pfn] = stable_mapping(0);
      mark_page_accessed(m, pfn);
    } else {
      err = memcmp_pages(m, pfn, kpage) === 0 ? replace_page(m, vma, pfn, kpage) : -EFAULT;
    }
  }
  if ((vma.vm_flags & VM_LOCKED) !== 0 && kpage >= 0 && err === 0) {
    munlock_vma_page(m, pfn);
    if (!PageMlocked(p, kpage) && trylock_page(p, kpage)) {
      mlock_vma_page(m, kpage);
      unlock_page(p, kpage);
    }
  }
  unlock_page(p, pfn);
  return err;
}

/** The same for the page at an rmap_item, which holds its anon_vma from then on. */
export function try_to_merge_with_ksm_page(
  m: Machine,
  k: KsmState,
  item: number,
  pfn: pfn_t,
  kpage: pfn_t | -1,
): number {
  const mm = item_mm(k, item);
  if (ksm_test_exit(mm)) return -EFAULT;
  const vpn = k.items.cols[VPN]![item]!;
  const vma = find_vma(mm, vpn);
  if (vma === null || vma.vm_start > vpn) return -EFAULT;
  const err = try_to_merge_one_page(m, vma, pfn, kpage);
  if (err !== 0) return err;
  get_anon_vma(vma.anon_vma!);
  k.items.cols[ANON_VMA]![item] = vma.anon_vma!.id;
  return 0;
}

/** Merges two equal pages: whether they are one now. */
export function try_to_merge_two_pages(
  m: Machine,
  k: KsmState,
  item: number,
  pfn: pfn_t,
  tree_item: number,
  tree_page: pfn_t,
): boolean {
  if (try_to_merge_with_ksm_page(m, k, item, pfn, -1) !== 0) return false;
  if (try_to_merge_with_ksm_page(m, k, tree_item, tree_page, pfn) === 0) return true;
  // A merged page with one pte only.
  break_cow(m, k, item);
  return false;
}

/** The merged page of the same content with a reference, or -1. */
