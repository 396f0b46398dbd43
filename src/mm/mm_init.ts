/**
 * Building a machine: memmap, nodes, zones, per-CPU lists, zonelists. Nothing is free yet.
 *
 * boot (src/machine.ts) computes the layout of a real machine and then frees its memory into the
 * zones; replay (src/sim/) assembles the very zone that was recorded and fills its lists.
 * Linux: mm/page_alloc.c (free_area_init_core, memmap_init_zone, build_zonelists), mm/mm_init.c.
 */
import { BUG_ON } from '../lib/bug.ts';
import { Clock } from '../lib/clock.ts';
import { Prng } from '../lib/prng.ts';
import { MIGRATE_MOVABLE, MIGRATE_TYPES } from './gfp.ts';
import {
  type KernelProfile,
  Machine,
  NR_LRU_LISTS,
  PerCpuPages,
  Pgdat,
  type Shape,
  Zone,
  zone_end_pfn,
} from './mmzone.ts';
import { Memmap, type nid_t, type pfn_t } from './page.ts';
import { MmTrace } from './trace.ts';

/** One zone of a layout. Zones must not overlap; a node's zones follow each other. */
export interface ZoneLayout {
  nid: nid_t;
  zone_idx: number;
  start_pfn: pfn_t;
  /** Frames from start to end, holes included. */
  spanned_pages: number;
  /** Frames less holes, memmap and boot reserve. */
  present_pages: number;
}

export interface AssembleOptions {
  shape: Shape;
  kernel: KernelProfile;
  zones: readonly ZoneLayout[];
  /** Frames with a memmap; by default up to the end of the last zone's section. */
  nr_pages?: number;
  seed?: number;
  boot_time_ms?: number;
  /** Nodes that exist although they have no zone here. */
  nr_nodes?: number;
}

/** List heads beside those of zones: private lists of compaction, reclaim, migration. */
const SPARE_HEADS = 256;

export const LOCAL_DISTANCE = 10;
export const REMOTE_DISTANCE = 20;

/** Distance between two nodes as the firmware's table would tell it (10 local, 20 remote). */
export function node_distance(a: nid_t, b: nid_t): number {
  return a === b ? LOCAL_DISTANCE : REMOTE_DISTANCE;
}

/**
 * Builds a machine of this shape. All lists are empty, all counters 0, every pageblock that starts
 * inside its zone MOVABLE; pages belong to nobody until they are freed or reserved.
 */
export function assemble_machine(options: AssembleOptions): Machine {
  const { shape, kernel } = options;
  const layouts = [...options.zones].sort((a, b) => a.start_pfn - b.start_pfn);
  const section = shape.section_nr_pages;
  let end = 0;
  for (const z of layouts) end = Math.max(end, z.start_pfn + z.spanned_pages);
  const nr_pages = options.nr_pages ?? Math.ceil(end / section) * section;
  BUG_ON(nr_pages < end, 'assemble_machine: a zone ends behind the memmap');

  const heads_per_zone =
    shape.max_order * MIGRATE_TYPES + NR_LRU_LISTS + shape.nr_cpus * kernel.nr_pcp_lists;
  const memmap = new Memmap(nr_pages, layouts.length * heads_per_zone + SPARE_HEADS);
  const m = new Machine(
    shape,
    kernel,
    memmap,
    new Clock(options.boot_time_ms ?? 0),
    new Prng(options.seed ?? 1),
    new MmTrace(),
  );

  let nr_nodes = options.nr_nodes ?? 0;
  for (const z of layouts) nr_nodes = Math.max(nr_nodes, z.nid + 1);
  for (let nid = 0; nid < nr_nodes; nid++) add_node(m, nid, layouts);
  for (const z of layouts) add_zone(m, z);
  for (const zone of m.zones) {
    if (zone === undefined || zone.present_pages === 0) continue;
    m.populated_zones.push(zone);
    m.nodes[zone.nid]!.zones.push(zone);
  }
  for (let cpu = 0; cpu < shape.nr_cpus; cpu++) {
    // CPUs are dealt to the nodes in runs, as firmware numbers them.
    const nid = Math.floor((cpu * nr_nodes) / shape.nr_cpus);
    m.cpu_to_node[cpu] = nid;
    m.nodes[nid]!.cpus.push(cpu);
  }
  build_all_zonelists(m);
  return m;
}

function add_node(m: Machine, nid: nid_t, layouts: readonly ZoneLayout[]): void {
  const own = layouts.filter((z) => z.nid === nid);
  const start = own.length > 0 ? own[0]!.start_pfn : 0;
  const last = own[own.length - 1];
  const end = last === undefined ? 0 : last.start_pfn + last.spanned_pages;
  m.nodes.push(new Pgdat(nid, start, end - start));
}

function add_zone(m: Machine, layout: ZoneLayout): void {
  const { shape, memmap } = m;
  const zone = new Zone(
    memmap,
    shape,
    layout.nid,
    layout.zone_idx,
    layout.start_pfn,
    layout.spanned_pages,
    layout.present_pages,
  );
  m.zones[zone.id] = zone;
  for (let cpu = 0; cpu < shape.nr_cpus; cpu++) {
    const lists = memmap.new_list_heads(m.kernel.nr_pcp_lists);
    const pcp = new PerCpuPages(lists, m.kernel.nr_pcp_lists);
    m.kernel.setup_pageset(m, zone, pcp);
    zone.pageset.push(pcp);
  }

  const start = zone.zone_start_pfn;
  const end = zone_end_pfn(zone);
  const order = shape.pageblock_order;
  // A block that two zones share: its upper part's zone is found first, then the lower part's.
  const first_block = start >>> order;
  if (start % 2 ** order !== 0) m.zone_of_block_low[first_block] = m.zone_of_block[first_block]!;
  for (let block = first_block; block <= (end - 1) >>> order; block++) {
    m.zone_of_block[block] = zone.id;
  }
  for (let s = Math.floor(start / shape.section_nr_pages); s * shape.section_nr_pages < end; s++) {
    m.section_valid[s] = 1;
  }
  // memmap_init_zone: each aligned frame of the zone makes the entry that it falls into MOVABLE; what
  // gets none keeps type 0, UNMOVABLE: a first block that begins before the zone, or with flat
  // memory, where entries count from the zone's start, a last one that begins after the last border.
  for (let pfn = Math.ceil(start / 2 ** order) * 2 ** order; pfn < end; pfn += 2 ** order) {
    zone.pageblock_flags[(pfn - zone.pageblock_base) >>> order] = MIGRATE_MOVABLE;
  }
}

/**
 * page_alloc.c: build_all_zonelists. Node order (each node's zones from the highest, nodes by
 * distance) or zone order (each zone type over all nodes), chosen as default_zonelist_order does.
 */
export function build_all_zonelists(m: Machine): void {
  const node_load = new Array<number>(m.nodes.length).fill(0);
  // numa_zonelist_order: 'd', 'n' or 'z' in either case.
  const wanted = (m.sysctl_string['numa_zonelist_order'] ?? 'default').slice(0, 1).toLowerCase();
  const zone_order =
    m.nodes.length > 1 &&
    (wanted === 'z' || (wanted !== 'n' && default_zonelist_order(m) === 'zone'));
  for (const node of m.nodes) {
    const order = node_order(m, node.nid, node_load);
    const all: Zone[] = [];
    if (zone_order) {
      for (let idx = m.shape.zone_names.length - 1; idx >= 0; idx--) {
        for (const nid of order) push_populated(m, nid, idx, all);
      }
    } else {
      for (const nid of order) {
        for (let idx = m.shape.zone_names.length - 1; idx >= 0; idx--) {
          push_populated(m, nid, idx, all);
        }
      }
    }
    node.node_zonelists[0] = all;
    node.node_zonelists[1] = m.shape.numa ? all.filter((zone) => zone.nid === node.nid) : all;
  }
}

function push_populated(m: Machine, nid: nid_t, idx: number, to: Zone[]): void {
  const zone = m.zones[nid * m.shape.zone_names.length + idx];
  if (zone !== undefined && zone.present_pages > 0) to.push(zone);
}

/** The nodes in the order that requests of `nid` try them (page_alloc.c: find_next_best_node). */
function node_order(m: Machine, nid: nid_t, node_load: number[]): nid_t[] {
  const nodes = m.nodes;
  const order: nid_t[] = [nid];
  const used = new Set<nid_t>(order);
  let load = nodes.length;
  let prev = nid;
  while (order.length < nodes.length) {
    let best = -1;
    let best_score = Number.POSITIVE_INFINITY;
    for (const other of nodes) {
      if (used.has(other.nid)) continue;
      let score = node_distance(nid, other.nid);
      if (other.nid < nid) score++;
      if (other.cpus.length > 0) score++;
      score = score * nodes.length * 64 + node_load[other.nid]!;
      if (score < best_score) {
        best_score = score;
        best = other.nid;
      }
    }
    // The first node of each distance group gets its load raised, so that ties spread.
    if (node_distance(nid, best) !== node_distance(nid, prev)) node_load[best] = load;
    load--;
    prev = best;
    used.add(best);
    order.push(best);
  }
  return order;
}

/** page_alloc.c: default_zonelist_order. */
function default_zonelist_order(m: Machine): 'node' | 'zone' {
  const { ZONE_NORMAL } = m.shape;
  let low_kmem = 0;
  let total = 0;
  for (const node of m.nodes) {
    let node_normal = 0;
    for (const zone of node.zones) {
      if (zone.zone_idx > ZONE_NORMAL) continue;
      if (zone.zone_idx < ZONE_NORMAL) low_kmem += zone.present_pages;
      if (zone.zone_idx === ZONE_NORMAL) node_normal += zone.present_pages;
      total += zone.present_pages;
    }
    if (node.zones.length > 0 && node_normal === 0) return 'node';
  }
  if (low_kmem === 0 || low_kmem > total / 2) return 'node';
  const average = total / (m.nodes.length + 1);
  for (const node of m.nodes) {
    let low = 0;
    let size = 0;
    for (const zone of node.zones) {
      if (zone.zone_idx > ZONE_NORMAL) continue;
      size += zone.present_pages;
      if (zone.zone_idx < ZONE_NORMAL) low += zone.present_pages;
    }
    if (low > 0 && size > average && low > (size * 70) / 100) return 'node';
  }
  return 'zone';
}
