/**
 * KSM's rmap_items, stable nodes and address spaces: made, linked, undone.
 *
 * For each page looked at there is an rmap_item; those of merged pages hang on the page's stable node
 * and are its reverse mapping. They hold their anon_vma by its external_refcount. The mapping column
 * of a merged page is node << 2 | PAGE_MAPPING_ANON | PAGE_MAPPING_KSM, node 0 for a moment only.
 * rmap_items and nodes are rows of columns (ksm_def.ts), links are row numbers, 0 is none.
 * Linux: mm/ksm.c of 2.6.35, its first half.
 */
import { BUG_ON } from '../lib/bug.ts';
import { ENOMEM } from '../lib/errno.ts';
import { rb_erase } from '../lib/rbtree.ts';
import { GFP_KERNEL } from './gfp.ts';
import {
  ANON_VMA,
  FIRST,
  FLAGS,
  HNEXT,
  HPREV,
  KPFN,
  KsmMmSlot,
  type KsmState,
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
import { put_page } from './lru.ts';
import {
  follow_page,
  handle_mm_fault,
  VM_FAULT_OOM,
  VM_FAULT_SIGBUS,
  VM_FAULT_WRITE,
} from './memory.ts';
import { find_vma, type MmStruct, VM_MERGEABLE, type VmArea, type vpn_t } from './mm_types.ts';
import { mmdrop } from './mmap.ts';
import type { Machine } from './mmzone.ts';
import { get_page, get_page_unless_zero, PAGE_MAPPING_FLAGS, PageKsm, type pfn_t } from './page.ts';
import { next_mapped } from './page_table.ts';
import { drop_anon_vma } from './rmap.ts';
import { kmem_cache_alloc, kmem_cache_free } from './slub.ts';

// ---- objects

export function alloc_rmap_item(m: Machine, k: KsmState): number {
  const object = kmem_cache_alloc(m, k.rmap_item_cache, GFP_KERNEL);
  if (object === 0) return 0;
  const item = k.items.take();
  k.items.cols[OBJECT]![item] = object;
  k.rmap_items++;
  return item;
}

export function free_rmap_item(m: Machine, k: KsmState, item: number): void {
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

export function unlink_slot(k: KsmState, id: number): void {
  const slot = k.slots[id]!;
  k.slots[slot.prev]!.next = slot.next;
  k.slots[slot.next]!.prev = slot.prev;
}

/** Forgets a slot that is on no list; its address space may go. */
export function free_mm_slot(m: Machine, k: KsmState, id: number): void {
  const slot = k.slots[id]!;
  slot.mm.ksm_slot = 0;
  kmem_cache_free(m, k.mm_slot_cache, slot.object);
  k.slots[id] = null;
  k.slot_free.push(id);
  mmdrop(m, slot.mm);
}

/** The address space is being torn down (ksm_test_exit). */
export const ksm_test_exit = (mm: MmStruct): boolean => mm.mm_users === 0;

export const item_mm = (k: KsmState, item: number): MmStruct =>
  k.slots[k.items.cols[SLOT]![item]!]!.mm;

/** Adds an address space, just behind where the scan is: 0 or -ENOMEM. */
export function __ksm_enter(m: Machine, mm: MmStruct): number {
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
export function ksm_exit(m: Machine, mm: MmStruct): void {
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
export function mergeable_vma(k: KsmState, item: number): VmArea | null {
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

export function break_cow(m: Machine, k: KsmState, item: number): void {
  drop_item_anon_vma(m, k, item);
  const vma = mergeable_vma(k, item);
  if (vma !== null) break_ksm(m, vma, k.items.cols[VPN]![item]!);
}

/** Gives every page of a part of an area its own copy: 0 or -ENOMEM. */
export function unmerge_ksm_pages(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): number {
  const mm = vma.vm_mm;
  for (let vpn = next_mapped(mm, start, end); vpn < end; vpn = next_mapped(mm, vpn + 1, end)) {
    const err = break_ksm(m, vma, vpn);
    if (err !== 0) return err;
  }
  return 0;
}

// ---- nodes and rmap_items

export const stable_mapping = (node: number): number => (node << 2) | PAGE_MAPPING_FLAGS;

/** The stable node of a merged page, 0 for a page that is not yet in the tree. */
export function page_stable_node(m: Machine, pfn: pfn_t): number {
  return PageKsm(m.memmap, pfn) ? m.memmap.mapping[pfn]! >>> 2 : 0;
}

/** The first rmap_item of a node counts as the page, the others as its sharers. */
export function count_item(k: KsmState, first: boolean, delta: number): void {
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
export function get_ksm_page(m: Machine, k: KsmState, node: number): pfn_t | -1 {
  const pfn = k.nodes.cols[KPFN]![node]!;
  if (m.memmap.mapping[pfn] === stable_mapping(node) && get_page_unless_zero(m.memmap, pfn)) {
    return pfn;
  }
  remove_node_from_stable_tree(m, k, node);
  return -1;
}

/** Takes an rmap_item out of whichever tree it is in. */
export function remove_rmap_item_from_tree(m: Machine, k: KsmState, item: number): void {
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
export function next_item(k: KsmState, slot: KsmMmSlot, item: number): number {
  return item === 0 ? slot.rmap_list : k.items.cols[NEXT]![item]!;
}

export function set_next_item(k: KsmState, slot: KsmMmSlot, item: number, next: number): void {
  if (item === 0) slot.rmap_list = next;
  else k.items.cols[NEXT]![item] = next;
}

/** Frees the rmap_items behind `after`. */
export function remove_trailing_rmap_items(
  m: Machine,
  k: KsmState,
  slot: KsmMmSlot,
  after: number,
): void {
  for (let item = next_item(k, slot, after); item !== 0; item = next_item(k, slot, after)) {
    set_next_item(k, slot, after, k.items.cols[NEXT]![item]!);
    remove_rmap_item_from_tree(m, k, item);
    free_rmap_item(m, k, item);
  }
}
