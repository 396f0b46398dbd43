/**
 * Checks of KSM: trees, rmap_items, stable nodes and the pages they stand for, recounted.
 *
 * Every item is on the list of its address space once, and in a tree or on a node as its flags say;
 * links of trees agree in both directions; every stable page's node leads back to it; counters are
 * what was counted.
 */
import type { RbColumns } from '../lib/rbtree.ts';
import {
  ANON_VMA,
  FIRST,
  FLAGS,
  KPFN,
  type KsmState,
  ksm_state,
  ksm_state_of,
  NEXT,
  NODE,
  SEQNR_MASK,
  SLOT,
  STABLE_FLAG,
  UNSTABLE_FLAG,
  VPN,
} from './ksm_def.ts';
import { page_stable_node } from './ksm_items.ts';
import type { Machine } from './mmzone.ts';
import type { pfn_t } from './page.ts';

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
