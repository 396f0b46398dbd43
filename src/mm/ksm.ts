/**
 * Kernel samepage merging: pages of equal content become one page that nobody may write.
 *
 * Processes offer areas with MADV_MERGEABLE. A scan looks at one page at a time: has it a twin in the
 * stable tree (merged pages), its pte is pointed there; else, when it has not changed since the last
 * scan, it is looked up in the unstable tree (candidates, forgotten after each full scan), and two
 * equal ones are merged into a new stable page. A write to a merged page copies it as after a fork.
 * This file has the trees and the scan; rmap_items and nodes are in ksm_items.ts, the merging of two pages
 * in ksm_merge.ts, the reverse mapping and what the rest of mm calls in ksm_rmap.ts.
 * Linux: mm/ksm.c of 2.6.35. Differs: a scan pauses inside a long empty area too. The page lock that
 * keeps Linux's walks from each other is not needed: nothing else runs between two pauses.
 */
import { BUG_ON } from '../lib/bug.ts';
import type { Job } from '../lib/kthread.ts';
import { rb_insert } from '../lib/rbtree.ts';
import { GFP_KERNEL } from './gfp.ts';
import {
  CHECKSUM,
  FIRST,
  FLAGS,
  HNEXT,
  HPREV,
  KPFN,
  KSM_RUN_MERGE,
  type KsmState,
  ksm_state_of,
  NEXT,
  NODE,
  NODE_OBJECT,
  SEQNR_MASK,
  SLOT,
  STABLE_FLAG,
  UNSTABLE_FLAG,
  VPN,
} from './ksm_def.ts';
import {
  alloc_rmap_item,
  break_cow,
  count_item,
  free_mm_slot,
  free_rmap_item,
  get_ksm_page,
  ksm_test_exit,
  mergeable_vma,
  next_item,
  page_stable_node,
  remove_rmap_item_from_tree,
  remove_trailing_rmap_items,
  set_next_item,
  stable_mapping,
  unlink_slot,
  unmerge_ksm_pages,
} from './ksm_items.ts';
import {
  calc_checksum,
  memcmp_pages,
  split_for_merging,
  try_to_merge_two_pages,
  try_to_merge_with_ksm_page,
} from './ksm_merge.ts';
import { put_page } from './lru.ts';
import { follow_page } from './memory.ts';
import { find_vma_index, VM_MERGEABLE, type vpn_t } from './mm_types.ts';
import type { Machine } from './mmzone.ts';
import { compound_head, get_page, PageAnon, PageCompound, PageKsm, type pfn_t } from './page.ts';
import { next_mapped } from './page_table.ts';
import { kmem_cache_alloc } from './slub.ts';

/** Addresses that a scan looks at before it pauses, when it finds nothing to merge. */
const SCAN_STRIDE = 4096;
/** scan_get_next_rmap_item found nothing yet and wants a pause. */
const PAUSE = -1;

function stable_tree_search(m: Machine, k: KsmState, pfn: pfn_t): pfn_t | -1 {
  if (page_stable_node(m, pfn) !== 0) {
    // Merged already, and mapped here by a fork.
    m.memmap._count[pfn]!++;
    return pfn;
  }
  for (let node = k.root_stable.node; node !== 0; ) {
    const tree_page = get_ksm_page(m, k, node);
    if (tree_page < 0) return -1;
    const ret = memcmp_pages(m, pfn, tree_page);
    if (ret === 0) return tree_page;
    put_page(m, tree_page);
    node = ret < 0 ? k.nodes.rb.left[node]! : k.nodes.rb.right[node]!;
  }
  return -1;
}

/** Makes the node of a new merged page; 0 without memory or when its content is there already. */
function stable_tree_insert(m: Machine, k: KsmState, kpage: pfn_t): number {
  let parent = 0;
  let left = false;
  for (let at = k.root_stable.node; at !== 0; ) {
    const tree_page = get_ksm_page(m, k, at);
    if (tree_page < 0) return 0;
    const ret = memcmp_pages(m, kpage, tree_page);
    put_page(m, tree_page);
    if (ret === 0) return 0;
    parent = at;
    left = ret < 0;
    at = left ? k.nodes.rb.left[at]! : k.nodes.rb.right[at]!;
  }
  const object = kmem_cache_alloc(m, k.stable_node_cache, GFP_KERNEL);
  if (object === 0) return 0;
  const node = k.nodes.take();
  k.nodes.cols[NODE_OBJECT]![node] = object;
  k.nodes.cols[KPFN]![node] = kpage;
  rb_insert(k.nodes.rb, k.root_stable, node, parent, left);
  m.memmap.mapping[kpage] = stable_mapping(node);
  return node;
}

/** The page of a candidate with a reference, -1 when it is none any more. */
function get_mergeable_page(m: Machine, k: KsmState, item: number): pfn_t | -1 {
  const vma = mergeable_vma(k, item);
  if (vma === null) return -1;
  const pfn = follow_page(m, vma.vm_mm, k.items.cols[VPN]![item]!);
  if (pfn < 0 || !PageAnon(m.memmap, pfn)) return -1;
  get_page(m.memmap, pfn);
  return pfn;
}

/**
 * The candidate of the same content, whose page is left in k.scan_page's place with a reference: its
 * rmap_item, and the page by `found`. Without one the rmap_item becomes a candidate: 0.
 */
function unstable_tree_search_insert(
  m: Machine,
  k: KsmState,
  item: number,
  pfn: pfn_t,
  found: { page: pfn_t | -1 },
): number {
  let parent = 0;
  let left = false;
  for (let at = k.root_unstable.node; at !== 0; ) {
    const tree_page = get_mergeable_page(m, k, at);
    if (tree_page < 0) return 0;
    // A page that a fork shares is no twin of itself.
    if (tree_page === pfn) {
      put_page(m, tree_page);
      return 0;
    }
    const ret = memcmp_pages(m, pfn, tree_page);
    if (ret === 0) {
      found.page = tree_page;
      return at;
    }
    put_page(m, tree_page);
    parent = at;
    left = ret < 0;
    at = left ? k.items.rb.left[at]! : k.items.rb.right[at]!;
  }
  k.items.cols[FLAGS]![item] = UNSTABLE_FLAG | (k.seqnr & SEQNR_MASK);
  rb_insert(k.items.rb, k.root_unstable, item, parent, left);
  k.pages_unshared++;
  return 0;
}

function stable_tree_append(k: KsmState, item: number, node: number): void {
  const { cols } = k.items;
  const first = k.nodes.cols[FIRST]![node]!;
  cols[NODE]![item] = node;
  cols[FLAGS]![item] = STABLE_FLAG;
  cols[HPREV]![item] = 0;
  cols[HNEXT]![item] = first;
  if (first !== 0) cols[HPREV]![first] = item;
  k.nodes.cols[FIRST]![node] = item;
  count_item(k, first === 0, 1);
}

/** One page of the scan: into the stable tree, the unstable tree, or only remembered. */
function cmp_and_merge_page(m: Machine, k: KsmState, pfn: pfn_t, item: number): void {
  remove_rmap_item_from_tree(m, k, item);
  const kpage = stable_tree_search(m, k, pfn);
  if (kpage >= 0) {
    if (try_to_merge_with_ksm_page(m, k, item, pfn, kpage) === 0) {
      stable_tree_append(k, item, page_stable_node(m, kpage));
    }
    put_page(m, kpage);
    return;
  }
  const checksum = calc_checksum(m, pfn);
  if (k.items.cols[CHECKSUM]![item] !== checksum) {
    k.items.cols[CHECKSUM]![item] = checksum;
    return;
  }
  const found: { page: pfn_t | -1 } = { page: -1 };
  const tree_item = unstable_tree_search_insert(m, k, item, pfn, found);
  if (tree_item === 0) return;
  // Two parts of one huge page hold two references to it: then it can be split only afterwards.
  const p = m.memmap;
  const together = PageCompound(p, pfn) && compound_head(p, pfn) === compound_head(p, found.page);
  const merged = try_to_merge_two_pages(m, k, item, pfn, tree_item, found.page);
  put_page(m, found.page);
  if (!merged) {
    if (together && PageCompound(p, pfn)) split_for_merging(m, pfn);
    return;
  }
  remove_rmap_item_from_tree(m, k, tree_item);
  const node = stable_tree_insert(m, k, pfn);
  if (node !== 0) {
    stable_tree_append(k, tree_item, node);
    stable_tree_append(k, item, node);
  } else {
    // A merged page outside of the tree would never be found again.
    break_cow(m, k, tree_item);
    break_cow(m, k, item);
  }
}

// ---- the scan

/** The rmap_item of an address, made when there is none; those before it are of the past. */
function get_next_rmap_item(m: Machine, k: KsmState, slot_id: number, vpn: vpn_t): number {
  const { cols } = k.items;
  const slot = k.slots[slot_id]!;
  const prev = k.rmap_prev;
  for (let item = next_item(k, slot, prev); item !== 0; item = next_item(k, slot, prev)) {
    if (cols[VPN]![item] === vpn) return item;
    if (cols[VPN]![item]! > vpn) break;
    set_next_item(k, slot, prev, cols[NEXT]![item]!);
    remove_rmap_item_from_tree(m, k, item);
    free_rmap_item(m, k, item);
  }
  const item = alloc_rmap_item(m, k);
  if (item === 0) return 0;
  // Columns may have been replaced by wider ones.
  k.items.cols[SLOT]![item] = slot_id;
  k.items.cols[VPN]![item] = vpn;
  k.items.cols[NEXT]![item] = next_item(k, slot, prev);
  set_next_item(k, slot, prev, item);
  return item;
}

/**
 * The next page of the scan: its rmap_item, the page in k.scan_page with a reference. 0 at the end of
 * a full scan, or without memory; PAUSE to be called again.
 */
function scan_get_next_rmap_item(m: Machine, k: KsmState): number {
  if (k.slots[0]!.next === 0) return 0;
  if (k.cursor === 0) {
    k.root_unstable.node = 0;
    k.cursor = k.slots[0]!.next;
    k.address = 0;
    k.rmap_prev = 0;
  }
  let budget = SCAN_STRIDE;
  while (k.cursor !== 0) {
    const id = k.cursor;
    const slot = k.slots[id]!;
    const { mm } = slot;
    let at = ksm_test_exit(mm) ? mm.mmap.length : find_vma_index(mm, k.address);
    for (; at < mm.mmap.length; at++) {
      const vma = mm.mmap[at]!;
      if ((vma.vm_flags & VM_MERGEABLE) === 0) continue;
      if (k.address < vma.vm_start) k.address = vma.vm_start;
      if (vma.anon_vma === null) k.address = vma.vm_end;
      while (k.address < vma.vm_end) {
        k.address = next_mapped(mm, k.address, vma.vm_end);
        if (k.address >= vma.vm_end) break;
        if (budget-- === 0) return PAUSE;
        const pfn = follow_page(m, mm, k.address);
        if (pfn >= 0 && PageAnon(m.memmap, pfn)) {
          get_page(m.memmap, pfn);
          const item = get_next_rmap_item(m, k, id, k.address);
          if (item !== 0) {
            k.scan_page = pfn;
            k.rmap_prev = item;
            k.address++;
          } else put_page(m, pfn);
          return item;
        }
        k.address++;
      }
    }
    if (ksm_test_exit(mm)) {
      k.address = 0;
      k.rmap_prev = 0;
    }
    remove_trailing_rmap_items(m, k, slot, k.rmap_prev);
    k.cursor = slot.next;
    if (k.address === 0) {
      // No mergeable area at all.
      unlink_slot(k, id);
      free_mm_slot(m, k, id);
    }
    k.address = 0;
    k.rmap_prev = 0;
  }
  k.seqnr++;
  return 0;
}

/** Scans at most `pages` pages; ends early after a full scan. Returns 0. (ksm_do_scan) */
export function* ksm_do_scan(m: Machine, pages: number): Job {
  const k = ksm_state_of(m);
  BUG_ON(k.busy, 'ksm_do_scan: a scan is under way');
  k.busy = true;
  for (; pages > 0; pages--) {
    let item = scan_get_next_rmap_item(m, k);
    while (item === PAUSE) {
      yield;
      item = scan_get_next_rmap_item(m, k);
    }
    if (item === 0) break;
    const pfn = k.scan_page;
    k.scan_page = -1;
    const in_stable_tree = (k.items.cols[FLAGS]![item]! & STABLE_FLAG) !== 0;
    if (!PageKsm(m.memmap, pfn) || !in_stable_tree) cmp_and_merge_page(m, k, pfn, item);
    put_page(m, pfn);
    yield;
  }
  k.busy = false;
  return 0;
}

/** Whether there is anything to scan (ksmd_should_run). */
export function ksmd_should_run(k: KsmState): boolean {
  return (k.run & KSM_RUN_MERGE) !== 0 && k.slots[0]!.next !== 0;
}

/**
 * Gives every page of all address spaces its own copy and forgets all rmap_items: 0 or -ENOMEM. The
 * slots stay for the next run.
 */
export function* unmerge_and_remove_all_rmap_items(m: Machine): Job {
  const k = ksm_state_of(m);
  // The scan's cursor keeps the slot from being freed by an exit during a pause.
  k.cursor = k.slots[0]!.next;
  let err = 0;
  while (k.cursor !== 0 && err === 0) {
    const id = k.cursor;
    const slot = k.slots[id]!;
    const { mm } = slot;
    for (let vpn = 0; !ksm_test_exit(mm); ) {
      const vma = mm.mmap[find_vma_index(mm, vpn)];
      if (vma === undefined) break;
      const start = Math.max(vpn, vma.vm_start);
      const end = Math.min(vma.vm_end, start + SCAN_STRIDE);
      vpn = vma.vm_end;
      if ((vma.vm_flags & VM_MERGEABLE) === 0 || vma.anon_vma === null) continue;
      err = unmerge_ksm_pages(m, vma, start, end);
      if (err !== 0) break;
      vpn = end;
      yield;
    }
    if (err !== 0) break;
    remove_trailing_rmap_items(m, k, slot, 0);
    k.cursor = slot.next;
    if (ksm_test_exit(mm)) {
      unlink_slot(k, id);
      free_mm_slot(m, k, id);
    }
  }
  k.cursor = 0;
  if (err === 0) k.seqnr = 0;
  return err;
}
