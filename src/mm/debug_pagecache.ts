/**
 * Checks of the page cache: a page is in its mapping's tree at its index, and only there.
 *
 * Trees are walked from their roots: their tags, the numbers of slots and pages, the swap cache, and
 * that no page is cached twice. Buffers of a page are as many as fit and lead back to it.
 */
import { type AddressSpace, RADIX_TREE_MAP_SIZE } from './address_space.ts';
import { bad, type DebugState, same } from './debug_state.ts';
import type { Machine } from './mmzone.ts';
import { PAGE_MAPPING_FLAGS, type pfn_t } from './page.ts';
import { PG_dirty, PG_private, PG_slab, PG_swapcache, PG_writeback } from './page_flags.ts';

// ---- page cache

/** Calls `visit` with each item of a mapping's tree, by walking its nodes. */
function for_each_item(
  m: Machine,
  mapping: AddressSpace,
  visit: (index: number, pfn: pfn_t, tags: number) => void,
): void {
  const root = mapping.page_tree;
  if (root.rnode === 0) return;
  if (root.height === 0) {
    visit(0, root.rnode, root.tags);
    return;
  }
  const nodes = m.radix_nodes;
  const tag_words = nodes.tags.length / (nodes.slots.length / RADIX_TREE_MAP_SIZE);
  const descend = (node: number, level: number, base: number): void => {
    let count = 0;
    for (let i = 0; i < RADIX_TREE_MAP_SIZE; i++) {
      const item = nodes.slots[node * RADIX_TREE_MAP_SIZE + i]!;
      if (item === 0) continue;
      count++;
      const index = base + i * RADIX_TREE_MAP_SIZE ** level;
      if (level > 0) {
        descend(item, level - 1, index);
        continue;
      }
      let tags = 0;
      for (let t = 0; t < tag_words / 2; t++) {
        const word = nodes.tags[node * tag_words + t * 2 + (i >>> 5)]!;
        if ((word & (1 << (i & 31))) !== 0) tags |= 1 << t;
      }
      visit(index, item, tags);
    }
    same(m, `mapping ${mapping.id}: slots used in a tree node`, nodes.count[node]!, count);
  };
  descend(root.rnode, root.height - 1, 0);
}

export function check_page_cache(m: Machine, d: DebugState): void {
  const p = m.memmap;
  const swap = m.swapper_space;
  for (const mapping of new Set([...m.mappings.all(), swap])) {
    let nr = 0;
    for_each_item(m, mapping, (index, pfn, tags) => {
      nr++;
      if (d.cached[pfn] !== 0) bad(m, 'a page is in the page cache twice', pfn);
      d.cached[pfn] = 1;
      const flags = p.flags[pfn]!;
      if (p._count[pfn]! <= 0) bad(m, 'a cached page without a reference', pfn);
      if (mapping === swap) {
        if ((flags & PG_swapcache) === 0 || p.private_[pfn] !== index) {
          bad(m, `in the swap cache at ${index}`, pfn);
        }
        return;
      }
      if (p.mapping[pfn] !== mapping.id << 2) bad(m, `in the tree of mapping ${mapping.id}`, pfn);
      if (p.index[pfn] !== index) bad(m, `in its mapping's tree at ${index}`, pfn);
      if ((flags & PG_dirty) !== 0 && mapping.a_ops.account_dirty && (tags & 1) === 0) {
        bad(m, 'a dirty page without the dirty tag', pfn);
      }
      if (((flags & PG_writeback) !== 0) !== ((tags & 2) !== 0)) {
        bad(m, 'PG_writeback and the write-back tag disagree', pfn);
      }
    });
    same(m, `mapping ${mapping.id}: nrpages`, mapping.nrpages, nr);
  }
  for (let pfn = 1; pfn < p.nr_pages; pfn++) {
    const mapping = p.mapping[pfn]!;
    const file = mapping !== 0 && (mapping & PAGE_MAPPING_FLAGS) === 0;
    const in_swap = (p.flags[pfn]! & PG_swapcache) !== 0;
    if ((file || in_swap) !== (d.cached[pfn] !== 0)) bad(m, 'mapping and page cache disagree', pfn);
  }
}

export function check_buffers(m: Machine): void {
  const p = m.memmap;
  const b = m.buffer_heads;
  for (let pfn = 1; pfn < p.nr_pages; pfn++) {
    if ((p.flags[pfn]! & PG_private) === 0) continue;
    if ((p.flags[pfn]! & PG_slab) !== 0) bad(m, 'a slab page with buffers', pfn);
    const first = p.private_[pfn]!;
    let bh = first;
    do {
      if (bh <= 0) bad(m, 'PG_private without buffers', pfn);
      if (b.b_page[bh] !== pfn) bad(m, `buffer ${bh} belongs to page ${b.b_page[bh]}`, pfn);
      if (b.b_count[bh]! < 0) bad(m, `buffer ${bh} has a negative count`, pfn);
      bh = b.b_this_page[bh]!;
    } while (bh !== first);
  }
  const listed: Map<number, number> = new Map();
  for (const bhs of b.bh_lrus) {
    for (const bh of bhs) if (bh !== 0) listed.set(bh, (listed.get(bh) ?? 0) + 1);
    const own = [...bhs].filter((bh) => bh !== 0);
    if (new Set(own).size !== own.length) bad(m, "a buffer is twice on a CPU's list");
    if (own.length < bhs.length && bhs[own.length] !== 0) bad(m, "a CPU's buffers have a gap");
  }
  for (const [bh, nr] of listed) {
    if (b.b_count[bh]! < nr) bad(m, `buffer ${bh} is on ${nr} lists of CPUs`, b.b_page[bh]);
    if ((p.flags[b.b_page[bh]!]! & PG_private) === 0)
      bad(m, 'a listed buffer has gone', b.b_page[bh]);
  }
}
