/**
 * Page index to page frame: the radix tree of a mapping, 64 slots a node, with tags.
 *
 * Nodes are objects of the radix_tree_node slab cache, and their contents columns indexed by the
 * object's handle: slots, counts, tag bits. An item at index 0 alone needs no node. As in Linux
 * each CPU keeps nodes in reserve: radix_tree_preload fills the reserve or fails before anything
 * was changed, and inserting takes nodes from the reserve alone. Items are pfns, never 0.
 * Linux: lib/radix-tree.c. Differs: three tags instead of 2.6.35's two (later kernels have
 * TOWRITE); removed nodes are freed at once instead of after an RCU grace period.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EEXIST, ENOMEM } from '../lib/errno.ts';
import {
  MAX_PAGE_INDEX,
  RADIX_TREE_MAP_SIZE,
  RADIX_TREE_MAX_TAGS,
  type RadixTreeNodes,
  type RadixTreeRoot,
} from './address_space.ts';
import type { Machine } from './mmzone.ts';
import { kmem_cache_alloc, kmem_cache_free } from './slub.ts';

export const PAGECACHE_TAG_DIRTY = 0;
export const PAGECACHE_TAG_WRITEBACK = 1;
export const PAGECACHE_TAG_TOWRITE = 2;

const NR_TAGS = RADIX_TREE_MAX_TAGS;
const MAP_SHIFT = 6;
const MAP_SIZE = RADIX_TREE_MAP_SIZE;
const MAP_MASK = 63;
/** Nodes that one insertion may need: the height of a tree of 64-bit indexes. */
export const RADIX_TREE_MAX_PATH = 11;

/** The path from the top to a slot, filled by functions that walk up again: not re-entrant. */
const path_node = new Int32Array(RADIX_TREE_MAX_PATH);
const path_offset = new Int32Array(RADIX_TREE_MAX_PATH);

/** The highest index that a tree of this height holds (lib/radix-tree.c: height_to_maxindex). */
const height_to_maxindex: readonly number[] = Array.from(
  { length: RADIX_TREE_MAX_PATH + 1 },
  (_, height) => MAP_SIZE ** height - 1,
);

function radix_tree_maxindex(height: number): number {
  return height_to_maxindex[height]!;
}

/** Digit of the index at a level; level 0 is the lowest. */
function digit(index: number, level: number): number {
  // Page indexes have 32 bits at most: level 5 is the highest with digits.
  return level > 5 ? 0 : (index >>> (level * MAP_SHIFT)) & MAP_MASK;
}

/** Fills this CPU's reserve. 0, or -ENOMEM with what could be had kept for the next caller. */
export function radix_tree_preload(m: Machine, gfp: number): number {
  const reserve = m.radix_nodes.preloads[m.this_cpu]!;
  while (reserve.length < RADIX_TREE_MAX_PATH) {
    const node = kmem_cache_alloc(m, m.slab.radix_tree_node, gfp);
    if (node === 0) return -ENOMEM;
    // Getting memory may have run code that filled the reserve itself.
    if (reserve.length < RADIX_TREE_MAX_PATH) reserve.push(node);
    else kmem_cache_free(m, m.slab.radix_tree_node, node);
  }
  return 0;
}

function radix_tree_node_alloc(m: Machine): number {
  const node = m.radix_nodes.preloads[m.this_cpu]!.pop();
  if (node === undefined) return 0;
  const nodes = m.radix_nodes;
  nodes.reserve(node);
  nodes.count[node] = 0;
  nodes.slots.fill(0, node * MAP_SIZE, (node + 1) * MAP_SIZE);
  nodes.tags.fill(0, node * NR_TAGS * 2, (node + 1) * NR_TAGS * 2);
  return node;
}

function radix_tree_node_free(m: Machine, node: number): void {
  kmem_cache_free(m, m.slab.radix_tree_node, node);
}

function tag_word(node: number, tag: number, offset: number): number {
  return (node * NR_TAGS + tag) * 2 + (offset >>> 5);
}

function tag_get(nodes: RadixTreeNodes, node: number, tag: number, offset: number): boolean {
  return (nodes.tags[tag_word(node, tag, offset)]! & (1 << (offset & 31))) !== 0;
}

function tag_set(nodes: RadixTreeNodes, node: number, tag: number, offset: number): void {
  nodes.tags[tag_word(node, tag, offset)]! |= 1 << (offset & 31);
}

function tag_clear(nodes: RadixTreeNodes, node: number, tag: number, offset: number): void {
  nodes.tags[tag_word(node, tag, offset)]! &= ~(1 << (offset & 31));
}

function any_tag_set(nodes: RadixTreeNodes, node: number, tag: number): boolean {
  const word = (node * NR_TAGS + tag) * 2;
  return (nodes.tags[word]! | nodes.tags[word + 1]!) !== 0;
}

/** Puts levels on top until the index fits; false when the reserve ran out. */
function radix_tree_extend(m: Machine, root: RadixTreeRoot, index: number): boolean {
  let height = root.height + 1;
  while (index > radix_tree_maxindex(height)) height++;
  if (root.rnode === 0) {
    root.height = height;
    return true;
  }
  const nodes = m.radix_nodes;
  while (root.height < height) {
    const node = radix_tree_node_alloc(m);
    if (node === 0) return false;
    nodes.slots[node * MAP_SIZE] = root.rnode;
    nodes.count[node] = 1;
    for (let tag = 0; tag < NR_TAGS; tag++) {
      if ((root.tags & (1 << tag)) !== 0) tag_set(nodes, node, tag, 0);
    }
    root.rnode = node;
    root.height++;
  }
  return true;
}

/** Puts an item at an index. 0, -EEXIST, or -ENOMEM without a preload. */
export function radix_tree_insert(
  m: Machine,
  root: RadixTreeRoot,
  index: number,
  item: number,
): number {
  BUG_ON(item === 0, 'radix_tree_insert: an empty item');
  if (index > radix_tree_maxindex(root.height) && !radix_tree_extend(m, root, index)) {
    return -ENOMEM;
  }
  const nodes = m.radix_nodes;
  if (root.height === 0) {
    if (root.rnode !== 0) return -EEXIST;
    root.rnode = item;
    return 0;
  }
  let node = root.rnode;
  if (node === 0) {
    node = radix_tree_node_alloc(m);
    if (node === 0) return -ENOMEM;
    root.rnode = node;
  }
  for (let level = root.height - 1; level > 0; level--) {
    const slot = node * MAP_SIZE + digit(index, level);
    let below = nodes.slots[slot]!;
    if (below === 0) {
      below = radix_tree_node_alloc(m);
      if (below === 0) return -ENOMEM;
      nodes.slots[slot] = below;
      nodes.count[node]!++;
    }
    node = below;
  }
  const slot = node * MAP_SIZE + (index & MAP_MASK);
  if (nodes.slots[slot] !== 0) return -EEXIST;
  nodes.slots[slot] = item;
  nodes.count[node]!++;
  return 0;
}

/** The lowest node on the way to an index, or 0. Precondition: height > 0. */
function leaf_of(nodes: RadixTreeNodes, root: RadixTreeRoot, index: number): number {
  if (index > radix_tree_maxindex(root.height)) return 0;
  let node = root.rnode;
  for (let level = root.height - 1; level > 0 && node !== 0; level--) {
    node = nodes.slots[node * MAP_SIZE + digit(index, level)]!;
  }
  return node;
}

/** The item at an index, 0 when there is none. */
export function radix_tree_lookup(m: Machine, root: RadixTreeRoot, index: number): number {
  if (root.height === 0) return index === 0 ? root.rnode : 0;
  const nodes = m.radix_nodes;
  const leaf = leaf_of(nodes, root, index);
  return leaf === 0 ? 0 : nodes.slots[leaf * MAP_SIZE + (index & MAP_MASK)]!;
}

/** Puts another item in the place of one that is there; tags stay. */
export function radix_tree_replace(
  m: Machine,
  root: RadixTreeRoot,
  index: number,
  item: number,
): void {
  if (root.height === 0) {
    BUG_ON(index !== 0 || root.rnode === 0, 'radix_tree_replace: no item');
    root.rnode = item;
    return;
  }
  const nodes = m.radix_nodes;
  const leaf = leaf_of(nodes, root, index);
  const slot = leaf * MAP_SIZE + (index & MAP_MASK);
  BUG_ON(leaf === 0 || nodes.slots[slot] === 0, 'radix_tree_replace: no item');
  nodes.slots[slot] = item;
}

/** Notes the path to an index; false when no item is there. Precondition: height > 0. */
function find_path(nodes: RadixTreeNodes, root: RadixTreeRoot, index: number): boolean {
  if (index > radix_tree_maxindex(root.height)) return false;
  let node = root.rnode;
  for (let level = root.height - 1; level >= 0; level--) {
    if (node === 0) return false;
    const offset = digit(index, level);
    path_node[level] = node;
    path_offset[level] = offset;
    node = nodes.slots[node * MAP_SIZE + offset]!;
  }
  return node !== 0;
}

/** Sets a tag on the item at an index, and on the path to it. */
export function radix_tree_tag_set(
  m: Machine,
  root: RadixTreeRoot,
  index: number,
  tag: number,
): void {
  const nodes = m.radix_nodes;
  if (root.height === 0) {
    BUG_ON(index !== 0 || root.rnode === 0, 'radix_tree_tag_set: no item');
  } else {
    BUG_ON(!find_path(nodes, root, index), 'radix_tree_tag_set: no item');
    for (let level = root.height - 1; level >= 0; level--) {
      tag_set(nodes, path_node[level]!, tag, path_offset[level]!);
    }
  }
  root.tags |= 1 << tag;
}

/** Clears a tag on an item, and on each node above that has no tagged item left. */
export function radix_tree_tag_clear(
  m: Machine,
  root: RadixTreeRoot,
  index: number,
  tag: number,
): void {
  const nodes = m.radix_nodes;
  if (root.height === 0) {
    if (index === 0) root.tags &= ~(1 << tag);
    return;
  }
  if (!find_path(nodes, root, index)) return;
  clear_tag_on_path(nodes, root, tag);
}

function clear_tag_on_path(nodes: RadixTreeNodes, root: RadixTreeRoot, tag: number): void {
  for (let level = 0; level < root.height; level++) {
    const node = path_node[level]!;
    if (!tag_get(nodes, node, tag, path_offset[level]!)) return;
    tag_clear(nodes, node, tag, path_offset[level]!);
    if (any_tag_set(nodes, node, tag)) return;
  }
  root.tags &= ~(1 << tag);
}

/** True when the item at an index has the tag. */
export function radix_tree_tag_get(
  m: Machine,
  root: RadixTreeRoot,
  index: number,
  tag: number,
): boolean {
  if ((root.tags & (1 << tag)) === 0) return false;
  if (root.height === 0) return index === 0;
  const nodes = m.radix_nodes;
  const leaf = leaf_of(nodes, root, index);
  return leaf !== 0 && tag_get(nodes, leaf, tag, index & MAP_MASK);
}

export function radix_tree_tagged(root: RadixTreeRoot, tag: number): boolean {
  return (root.tags & (1 << tag)) !== 0;
}

/** Takes levels off the top while only the first slot is used. */
function radix_tree_shrink(m: Machine, root: RadixTreeRoot): void {
  const nodes = m.radix_nodes;
  while (root.height > 0) {
    const node = root.rnode;
    const below = nodes.slots[node * MAP_SIZE]!;
    if (nodes.count[node] !== 1 || below === 0) return;
    root.rnode = below;
    root.height--;
    radix_tree_node_free(m, node);
  }
}

/** Removes the item at an index with its tags; returns it, or 0. Frees nodes that got empty. */
export function radix_tree_delete(m: Machine, root: RadixTreeRoot, index: number): number {
  const nodes = m.radix_nodes;
  if (root.height === 0) {
    if (index !== 0) return 0;
    const item = root.rnode;
    root.rnode = 0;
    root.tags = 0;
    return item;
  }
  if (!find_path(nodes, root, index)) return 0;
  const item = nodes.slots[path_node[0]! * MAP_SIZE + path_offset[0]!]!;
  for (let tag = 0; tag < NR_TAGS; tag++) {
    if ((root.tags & (1 << tag)) !== 0) clear_tag_on_path(nodes, root, tag);
  }
  for (let level = 0; level < root.height; level++) {
    const node = path_node[level]!;
    nodes.slots[node * MAP_SIZE + path_offset[level]!] = 0;
    if (--nodes.count[node]! > 0) {
      if (node === root.rnode) radix_tree_shrink(m, root);
      return item;
    }
    radix_tree_node_free(m, node);
  }
  root.height = 0;
  root.rnode = 0;
  root.tags = 0;
  return item;
}

/**
 * Collects items from index `first` on, in order, at most `max`, into `items` and their indexes
 * into `indexes`; with `tag` >= 0 only those that have it. Returns how many.
 */
export function radix_tree_gang_lookup(
  m: Machine,
  root: RadixTreeRoot,
  first: number,
  items: Int32Array,
  indexes: Float64Array,
  max: number,
  tag = -1,
): number {
  if (tag >= 0 && (root.tags & (1 << tag)) === 0) return 0;
  if (root.height === 0) {
    if (first > 0 || root.rnode === 0 || max === 0) return 0;
    items[0] = root.rnode;
    indexes[0] = 0;
    return 1;
  }
  const nodes = m.radix_nodes;
  const last = Math.min(radix_tree_maxindex(root.height), MAX_PAGE_INDEX - 1);
  let found = 0;
  let index = first;
  while (index <= last && found < max) {
    // Down to the leaf of `index`; an empty slot on the way skips all that lies below it.
    let node = root.rnode;
    let level = root.height - 1;
    let skip = 0;
    for (; level > 0; level--) {
      const offset = digit(index, level);
      const below = nodes.slots[node * MAP_SIZE + offset]!;
      if (below === 0 || (tag >= 0 && !tag_get(nodes, node, tag, offset))) {
        skip = 64 ** level;
        break;
      }
      node = below;
    }
    if (skip > 0) {
      index = (Math.floor(index / skip) + 1) * skip;
      continue;
    }
    const base = index - (index % MAP_SIZE);
    for (let offset = index % MAP_SIZE; offset < MAP_SIZE && found < max; offset++) {
      const item = nodes.slots[node * MAP_SIZE + offset]!;
      if (item === 0 || (tag >= 0 && !tag_get(nodes, node, tag, offset))) continue;
      items[found] = item;
      indexes[found++] = base + offset;
    }
    index = base + MAP_SIZE;
  }
  return found;
}

/** The first index from `index` on without an item, looking at most `max` further. */
export function radix_tree_next_hole(
  m: Machine,
  root: RadixTreeRoot,
  index: number,
  max: number,
): number {
  let i = 0;
  while (i < max && radix_tree_lookup(m, root, index + i) !== 0) i++;
  return index + i;
}

/** The first index from `index` downwards without an item, looking at most `max` further. */
export function radix_tree_prev_hole(
  m: Machine,
  root: RadixTreeRoot,
  index: number,
  max: number,
): number {
  let i = 0;
  while (i < max && index - i >= 0 && radix_tree_lookup(m, root, index - i) !== 0) i++;
  return index - i;
}
