/**
 * Kernel samepage merging: pages of equal content become one page that nobody may write.
 *
 * Processes offer areas with MADV_MERGEABLE. A scan looks at one page at a time: has it a twin in the
 * stable tree (merged pages), its pte is pointed there; else, when it has not changed since the last
 * scan, it is looked up in the unstable tree (candidates, forgotten after each full scan), and two
 * equal ones are merged into a new stable page. A write to a merged page copies it as after a fork.
 * For each page looked at there is an rmap_item; those of merged pages hang on the page's stable node
 * and are its reverse mapping. They hold their anon_vma by its external_refcount. The mapping column
 * of a merged page is node << 2 | PAGE_MAPPING_ANON | PAGE_MAPPING_KSM, node 0 for a moment only.
 * rmap_items and nodes are rows of columns, links are row numbers, 0 is none.
 * Linux: mm/ksm.c of 2.6.35. Differs: content is the tag, and bytes where a page has some; the
 * checksum is of them; a scan pauses inside a long empty area too. The page lock that keeps Linux's
 * walks from each other is not needed: nothing else runs between two pauses. A page that comes from
 * swap is copied only where it could not be mapped (2.6.36; 2.6.35 copies for each child as well).
 */
import { BUG_ON } from '../lib/bug.ts';
import { EFAULT, ENOMEM } from '../lib/errno.ts';
import type { Job } from '../lib/kthread.ts';
import { type RbColumns, rb_erase, rb_insert } from '../lib/rbtree.ts';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL } from './gfp.ts';
import { split_huge_page_to_list } from './huge_memory.ts';
import { is_mlocked_vma, mlock_vma_page } from './internal.ts';
import {
  ANON_VMA,
  CHECKSUM,
  FIRST,
  FLAGS,
  HNEXT,
  HPREV,
  KPFN,
  KSM_RUN_MERGE,
  KsmMmSlot,
  type KsmState,
  ksm_state,
  ksm_state_of,
  NEXT,
  NODE,
  NODE_OBJECT,
  OBJECT,
  SEQNR_MASK,
  SLOT,
  STABLE_FLAG,
  UNSTABLE_FLAG,
  VPN,
} from './ksm_def.ts';
import {
  add_page_to_unevictable_list,
  lru_cache_add_lru,
  mark_page_accessed,
  put_page,
} from './lru.ts';
import {
  alloc_page_vma,
  follow_page,
  handle_mm_fault,
  VM_FAULT_OOM,
  VM_FAULT_SIGBUS,
  VM_FAULT_WRITE,
} from './memory.ts';
import {
  find_vma,
  find_vma_index,
  linear_page_index,
  type MmStruct,
  VM_DONTEXPAND,
  VM_HUGETLB,
  VM_IO,
  VM_LOCKED,
  VM_MAYSHARE,
  VM_MERGEABLE,
  VM_NONLINEAR,
  VM_PFNMAP,
  VM_RESERVED,
  VM_SHARED,
  type VmArea,
  type vpn_t,
} from './mm_types.ts';
import { mmdrop } from './mmap.ts';
import { LRU_ACTIVE_ANON, type Machine } from './mmzone.ts';
import {
  compound_head,
  get_page,
  get_page_unless_zero,
  PAGE_MAPPING_FLAGS,
  PageAnon,
  PageCompound,
  PageKsm,
  PageMlocked,
  PageSwapCache,
  page_count,
  page_mapcount,
  page_mapped,
  type pfn_t,
  SetPageFlag,
  trylock_page,
  unlock_page,
} from './page.ts';
import { PG_dirty, PG_locked, PG_swapbacked, PG_uptodate } from './page_flags.ts';
import { mk_pte, next_mapped, pte_write, pte_wrprotect } from './page_table.ts';
import {
  drop_anon_vma,
  get_anon_vma,
  type KsmRmap,
  munlock_vma_page,
  page_add_anon_rmap,
  page_anon_vma,
  page_check_address,
  page_referenced_one,
  page_remove_rmap,
  type RmapOne,
  SWAP_AGAIN,
  SWAP_FAIL,
  try_to_unmap_one,
  vma_address,
} from './rmap.ts';
import { kmem_cache_alloc, kmem_cache_free } from './slub.ts';
import { KSM_SWPIN_COPY } from './vmstat.ts';

/** Addresses that a scan looks at before it pauses, when it finds nothing to merge. */
const SCAN_STRIDE = 4096;
/** scan_get_next_rmap_item found nothing yet and wants a pause. */
const PAUSE = -1;

// ---- objects

function alloc_rmap_item(m: Machine, k: KsmState): number {
  const object = kmem_cache_alloc(m, k.rmap_item_cache, GFP_KERNEL);
  if (object === 0) return 0;
  const item = k.items.take();
  k.items.cols[OBJECT]![item] = object;
  k.rmap_items++;
  return item;
}

function free_rmap_item(m: Machine, k: KsmState, item: number): void {
  kmem_cache_free(m, k.rmap_item_cache, k.items.cols[OBJECT]![item]!);
  k.items.free.push(item);
  k.rmap_items--;
}

function free_stable_node(m: Machine, k: KsmState, node: number): void {
  kmem_cache_free(m, k.stable_node_cache, k.nodes.cols[NODE_OBJECT]![node]!);
  k.nodes.free.push(node);
}

/** list_add_tail before slot `before`. */
function link_slot(k: KsmState, id: number, before: number): void {
  const slot = k.slots[id]!;
  slot.next = before;
  slot.prev = k.slots[before]!.prev;
  k.slots[slot.prev]!.next = id;
  k.slots[before]!.prev = id;
}

function unlink_slot(k: KsmState, id: number): void {
  const slot = k.slots[id]!;
  k.slots[slot.prev]!.next = slot.next;
  k.slots[slot.next]!.prev = slot.prev;
}

/** Forgets a slot that is on no list; its address space may go. */
function free_mm_slot(m: Machine, k: KsmState, id: number): void {
  const slot = k.slots[id]!;
  slot.mm.ksm_slot = 0;
  kmem_cache_free(m, k.mm_slot_cache, slot.object);
  k.slots[id] = null;
  k.slot_free.push(id);
  mmdrop(m, slot.mm);
}

/** The address space is being torn down (ksm_test_exit). */
const ksm_test_exit = (mm: MmStruct): boolean => mm.mm_users === 0;

const item_mm = (k: KsmState, item: number): MmStruct => k.slots[k.items.cols[SLOT]![item]!]!.mm;

/** Adds an address space, just behind where the scan is: 0 or -ENOMEM. */
function __ksm_enter(m: Machine, mm: MmStruct): number {
  const k = ksm_state_of(m);
  const object = kmem_cache_alloc(m, k.mm_slot_cache, GFP_KERNEL);
  if (object === 0) return -ENOMEM;
  const needs_wakeup = k.slots[0]!.next === 0;
  const id = k.slot_free.pop() ?? k.slots.length;
  k.slots[id] = new KsmMmSlot(mm);
  k.slots[id]!.object = object;
  link_slot(k, id, k.cursor);
  mm.ksm_slot = id;
  mm.mm_count++;
  if (needs_wakeup) k.wake_ms = m.clock.now_ms;
  return 0;
}

/**
 * The address space exits: a slot without rmap_items goes at once, another one is left for the scan,
 * which frees it next.
 */
function ksm_exit(m: Machine, mm: MmStruct): void {
  if (mm.ksm_slot === 0) return;
  const k = ksm_state_of(m);
  const id = mm.ksm_slot;
  if (k.cursor === id) return;
  unlink_slot(k, id);
  if (k.slots[id]!.rmap_list === 0) free_mm_slot(m, k, id);
  else {
    // list_move: behind the head of the scan.
    const after = k.slots[k.cursor]!.next;
    link_slot(k, id, after);
  }
}

// ---- undoing

/** Copies the page at an address if it is merged: 0 or -ENOMEM. */
function break_ksm(m: Machine, vma: VmArea, vpn: vpn_t): number {
  for (;;) {
    const pfn = follow_page(m, vma.vm_mm, vpn);
    if (pfn < 0 || !PageKsm(m.memmap, pfn)) return 0;
    get_page(m.memmap, pfn);
    const ret = handle_mm_fault(m, null, vma.vm_mm, vma, vpn, true);
    put_page(m, pfn);
    if ((ret & VM_FAULT_OOM) !== 0) return -ENOMEM;
    if ((ret & (VM_FAULT_WRITE | VM_FAULT_SIGBUS)) !== 0) return 0;
  }
}

/** The mergeable area of an rmap_item, or null. */
function mergeable_vma(k: KsmState, item: number): VmArea | null {
  const mm = item_mm(k, item);
  if (ksm_test_exit(mm)) return null;
  const vpn = k.items.cols[VPN]![item]!;
  const vma = find_vma(mm, vpn);
  if (vma === null || vma.vm_start > vpn) return null;
  return (vma.vm_flags & VM_MERGEABLE) === 0 || vma.anon_vma === null ? null : vma;
}

function drop_item_anon_vma(m: Machine, k: KsmState, item: number): void {
  drop_anon_vma(m, m.anon_vmas[k.items.cols[ANON_VMA]![item]!]!);
  k.items.cols[ANON_VMA]![item] = 0;
}

function break_cow(m: Machine, k: KsmState, item: number): void {
  drop_item_anon_vma(m, k, item);
  const vma = mergeable_vma(k, item);
  if (vma !== null) break_ksm(m, vma, k.items.cols[VPN]![item]!);
}

/** Gives every page of a part of an area its own copy: 0 or -ENOMEM. */
function unmerge_ksm_pages(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): number {
  const mm = vma.vm_mm;
  for (let vpn = next_mapped(mm, start, end); vpn < end; vpn = next_mapped(mm, vpn + 1, end)) {
    const err = break_ksm(m, vma, vpn);
    if (err !== 0) return err;
  }
  return 0;
}

// ---- nodes and rmap_items

const stable_mapping = (node: number): number => (node << 2) | PAGE_MAPPING_FLAGS;

/** The stable node of a merged page, 0 for a page that is not yet in the tree. */
export function page_stable_node(m: Machine, pfn: pfn_t): number {
  return PageKsm(m.memmap, pfn) ? m.memmap.mapping[pfn]! >>> 2 : 0;
}

/** The first rmap_item of a node counts as the page, the others as its sharers. */
function count_item(k: KsmState, first: boolean, delta: number): void {
  if (first) k.pages_shared += delta;
  else k.pages_sharing += delta;
}

/** The node's page was freed or is another's now. */
function remove_node_from_stable_tree(m: Machine, k: KsmState, node: number): void {
  const { cols } = k.items;
  for (let item = k.nodes.cols[FIRST]![node]!; item !== 0; ) {
    const next = cols[HNEXT]![item]!;
    count_item(k, next === 0, -1);
    drop_item_anon_vma(m, k, item);
    cols[FLAGS]![item] = 0;
    cols[NODE]![item] = 0;
    item = next;
  }
  rb_erase(k.nodes.rb, k.root_stable, node);
  free_stable_node(m, k, node);
}

/** The page of a node with a reference, -1 when it has gone; then the node goes too. */
function get_ksm_page(m: Machine, k: KsmState, node: number): pfn_t | -1 {
  const pfn = k.nodes.cols[KPFN]![node]!;
  if (m.memmap.mapping[pfn] === stable_mapping(node) && get_page_unless_zero(m.memmap, pfn)) {
    return pfn;
  }
  remove_node_from_stable_tree(m, k, node);
  return -1;
}

/** Takes an rmap_item out of whichever tree it is in. */
function remove_rmap_item_from_tree(m: Machine, k: KsmState, item: number): void {
  const { cols } = k.items;
  const flags = cols[FLAGS]![item]!;
  if ((flags & STABLE_FLAG) !== 0) {
    const node = cols[NODE]![item]!;
    const pfn = get_ksm_page(m, k, node);
    if (pfn < 0) return;
    const next = cols[HNEXT]![item]!;
    const prev = cols[HPREV]![item]!;
    if (prev !== 0) cols[HNEXT]![prev] = next;
    else k.nodes.cols[FIRST]![node] = next;
    if (next !== 0) cols[HPREV]![next] = prev;
    put_page(m, pfn);
    count_item(k, k.nodes.cols[FIRST]![node] === 0, -1);
    drop_item_anon_vma(m, k, item);
    cols[NODE]![item] = 0;
    cols[FLAGS]![item] = 0;
  } else if ((flags & UNSTABLE_FLAG) !== 0) {
    // The tree of an earlier scan was forgotten as a whole.
    const age = (k.seqnr - flags) & SEQNR_MASK;
    BUG_ON(age > 1, 'ksm: an rmap_item was left in the unstable tree');
    if (age === 0) rb_erase(k.items.rb, k.root_unstable, item);
    k.pages_unshared--;
    cols[FLAGS]![item] = 0;
  }
}

/** The link that follows an rmap_item of a slot; item 0 stands for the slot itself. */
function next_item(k: KsmState, slot: KsmMmSlot, item: number): number {
  return item === 0 ? slot.rmap_list : k.items.cols[NEXT]![item]!;
}

function set_next_item(k: KsmState, slot: KsmMmSlot, item: number, next: number): void {
  if (item === 0) slot.rmap_list = next;
  else k.items.cols[NEXT]![item] = next;
}

/** Frees the rmap_items behind `after`. */
function remove_trailing_rmap_items(m: Machine, k: KsmState, slot: KsmMmSlot, after: number): void {
  for (let item = next_item(k, slot, after); item !== 0; item = next_item(k, slot, after)) {
    set_next_item(k, slot, after, k.items.cols[NEXT]![item]!);
    remove_rmap_item_from_tree(m, k, item);
    free_rmap_item(m, k, item);
  }
}

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
function calc_checksum(m: Machine, pfn: pfn_t): number {
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
function split_for_merging(m: Machine, pfn: pfn_t): boolean {
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
function try_to_merge_with_ksm_page(
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
function try_to_merge_two_pages(
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

// ---- what the rest of mm calls

/** A child of an address space with mergeable areas has them too: 0 or -ENOMEM. */
function ksm_fork(m: Machine, mm: MmStruct, oldmm: MmStruct): number {
  return oldmm.ksm_slot !== 0 ? __ksm_enter(m, mm) : 0;
}

const KSM_NEVER =
  VM_SHARED |
  VM_MAYSHARE |
  VM_PFNMAP |
  VM_IO |
  VM_DONTEXPAND |
  VM_RESERVED |
  VM_HUGETLB |
  VM_NONLINEAR;

/** MADV_MERGEABLE for an area: 1, or 0 for one that cannot be merged or is, or -ENOMEM. */
function ksm_madvise_mergeable(m: Machine, vma: VmArea): number {
  if ((vma.vm_flags & (KSM_NEVER | VM_MERGEABLE)) !== 0) return 0;
  if (vma.vm_mm.ksm_slot === 0) {
    const err = __ksm_enter(m, vma.vm_mm);
    if (err !== 0) return err;
  }
  return 1;
}

/** MADV_UNMERGEABLE for a part of an area: 0, or -ENOMEM, and then it stays mergeable. */
function ksm_madvise_unmergeable(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): number {
  if ((vma.vm_flags & VM_MERGEABLE) === 0 || vma.anon_vma === null) return 0;
  return unmerge_ksm_pages(m, vma, start, end);
}

/**
 * A locked page came from swap: may it be mapped here? A page that was merged when it went out
 * belongs to the first who brings it in; the others get a copy, locked too. -1 without memory. The
 * old page is unlocked and its reference dropped when it is not the result.
 * (ksm_might_need_to_copy, ksm_does_need_to_copy)
 */
function ksm_might_need_to_copy(m: Machine, pfn: pfn_t, vma: VmArea, vpn: vpn_t): pfn_t | -1 {
  const p = m.memmap;
  const anon_vma = page_anon_vma(m, pfn);
  if (anon_vma === null) return pfn;
  if (p.index[pfn] === linear_page_index(vma, vpn)) {
    let avc = vma.avc_first;
    while (avc !== null && avc.anon_vma !== anon_vma) avc = avc.vma_next;
    if (avc !== null) return pfn;
  }
  unlock_page(p, pfn);
  const copy = alloc_page_vma(m, GFP_HIGHUSER_MOVABLE, vma, vpn);
  if (copy >= 0) {
    m.vm_events[KSM_SWPIN_COPY]!++;
    m.contents.copy_page(pfn, copy);
    SetPageFlag(p, copy, PG_dirty | PG_uptodate | PG_swapbacked | PG_locked);
    if (is_mlocked_vma(m, vma, copy)) add_page_to_unevictable_list(m, copy);
    else lru_cache_add_lru(m, copy, LRU_ACTIVE_ANON);
  }
  put_page(m, pfn);
  return copy;
}

/** The node of a merged page that has moved follows it (ksm_migrate_page). */
function ksm_migrate_page(m: Machine, new_: pfn_t): void {
  const node = page_stable_node(m, new_);
  if (node !== 0) ksm_state_of(m).nodes.cols[KPFN]![node] = new_;
}

/**
 * Calls `visit` for each area that may map a merged page, with its address: first the areas that
 * were scanned, then those of forks since. Stops when it returns true.
 */
function for_each_ksm_vma(
  m: Machine,
  pfn: pfn_t,
  visit: (vma: VmArea, vpn: vpn_t) => boolean,
): void {
  const node = page_stable_node(m, pfn);
  if (node === 0) return;
  const k = ksm_state_of(m);
  const { cols } = k.items;
  for (let forks = 0; forks < 2; forks++) {
    for (let item = k.nodes.cols[FIRST]![node]!; item !== 0; item = cols[HNEXT]![item]!) {
      const mm = item_mm(k, item);
      const vpn = cols[VPN]![item]!;
      const anon_vma = m.anon_vmas[cols[ANON_VMA]![item]!]!;
      for (let avc = anon_vma.head; avc !== null; avc = avc.av_next) {
        const { vma } = avc;
        if (vpn < vma.vm_start || vpn >= vma.vm_end) continue;
        if ((mm === vma.vm_mm) === (forks === 1)) continue;
        if (visit(vma, vpn)) return;
      }
    }
  }
}

function page_referenced_ksm(m: Machine, pfn: pfn_t): number {
  let mapcount = page_mapcount(m.memmap, pfn);
  let referenced = 0;
  for_each_ksm_vma(m, pfn, (vma, vpn) => {
    const table = page_check_address(pfn, vma.vm_mm, vpn);
    if (table === null) return false;
    referenced += page_referenced_one(m, table, vma, vpn);
    return --mapcount === 0 || (m.rmap_vm_flags & VM_LOCKED) !== 0;
  });
  return referenced;
}

function try_to_unmap_ksm(m: Machine, pfn: pfn_t, flags: number): number {
  if (page_stable_node(m, pfn) === 0) return SWAP_FAIL;
  let ret = SWAP_AGAIN;
  for_each_ksm_vma(m, pfn, (vma, vpn) => {
    ret = try_to_unmap_one(m, pfn, vma, vpn, flags);
    return ret !== SWAP_AGAIN || !page_mapped(m.memmap, pfn);
  });
  return ret;
}

function rmap_walk_ksm(m: Machine, pfn: pfn_t, rmap_one: RmapOne, arg: number): number {
  let ret = SWAP_AGAIN;
  for_each_ksm_vma(m, pfn, (vma, vpn) => {
    ret = rmap_one(m, pfn, vma, vpn, arg);
    return ret !== SWAP_AGAIN;
  });
  return ret;
}

/** What a kernel with KSM puts into its profile. */
export const ksm_ops: KsmRmap = {
  try_to_unmap_ksm,
  page_referenced_ksm,
  rmap_walk_ksm,
  ksm_fork,
  ksm_exit,
  ksm_madvise_mergeable,
  ksm_madvise_unmergeable,
  ksm_might_need_to_copy,
  ksm_migrate_page,
};

// ---- for debug_vm

/**
 * True when a merged page and its node know each other. Not every pte of the page needs to be known:
 * a child's is found through its parent's rmap_item, and when the parent has exited, through none
 * until the scan has come to the child, as in Linux.
 */
export function is_stable_page(m: Machine, pfn: pfn_t): boolean {
  const node = page_stable_node(m, pfn);
  return node === 0 || ksm_state_of(m).nodes.cols[KPFN]![node] === pfn;
}

/** The first thing that is wrong with the counters, lists and trees, or null. */
export function check_ksm(m: Machine): string | null {
  const k = ksm_state(m);
  if (k === null) return null;
  const { cols } = k.items;
  let shared = 0;
  let sharing = 0;
  let unshared = 0;
  let items = 0;
  const held = new Map<number, number>();
  for (let id = k.slots[0]!.next; id !== 0; id = k.slots[id]!.next) {
    const slot = k.slots[id]!;
    if (slot.mm.ksm_slot !== id) return 'an address space does not know its slot';
    let last = -1;
    for (let item = slot.rmap_list; item !== 0; item = cols[NEXT]![item]!) {
      items++;
      if (cols[SLOT]![item] !== id) return 'an rmap_item of another slot';
      if (cols[VPN]![item]! <= last) return 'rmap_items out of order';
      last = cols[VPN]![item]!;
      const flags = cols[FLAGS]![item]!;
      if ((flags & UNSTABLE_FLAG) !== 0) unshared++;
      if ((flags & STABLE_FLAG) === 0) continue;
      const anon_vma = cols[ANON_VMA]![item]!;
      held.set(anon_vma, (held.get(anon_vma) ?? 0) + 1);
      if (k.nodes.cols[FIRST]![cols[NODE]![item]!] === item) shared++;
      else sharing++;
    }
  }
  if (items !== k.rmap_items) return `${k.rmap_items} rmap_items, ${items} found`;
  if (shared !== k.pages_shared) return `pages_shared ${k.pages_shared}, ${shared} found`;
  if (sharing !== k.pages_sharing) return `pages_sharing ${k.pages_sharing}, ${sharing} found`;
  if (unshared !== k.pages_unshared) return `pages_unshared ${k.pages_unshared}, ${unshared} found`;
  for (const [id, count] of held) {
    if (m.anon_vmas[id]!.external_refcount < count) return `anon_vma ${id} is not held`;
  }
  return check_trees(k);
}

/** Rows of a tree, null when its links disagree. */
function rows_of_tree(c: RbColumns, root: number): number[] | null {
  const rows: number[] = [];
  const open: number[] = root === 0 ? [] : [root];
  for (let row = open.pop(); row !== undefined; row = open.pop()) {
    rows.push(row);
    for (const child of [c.left[row]!, c.right[row]!]) {
      if (child === 0) continue;
      if (c.parent[child] !== row || rows.length > c.left.length) return null;
      open.push(child);
    }
  }
  return rows;
}

function check_trees(k: KsmState): string | null {
  const nodes = rows_of_tree(k.nodes.rb, k.root_stable.node);
  if (nodes === null) return 'the stable tree is broken';
  if (nodes.length !== k.nodes.nr_rows - 1 - k.nodes.free.length) return 'a node is in no tree';
  // Between two scans the unstable tree is what the last one left.
  if (k.cursor === 0) return null;
  const items = rows_of_tree(k.items.rb, k.root_unstable.node);
  if (items === null) return 'the unstable tree is broken';
  const fresh = UNSTABLE_FLAG | (k.seqnr & SEQNR_MASK);
  for (const item of items) {
    if (k.items.cols[FLAGS]![item] !== fresh) return 'an rmap_item is left in the unstable tree';
  }
  return null;
}
