/** What tests ask of a machine whichever kernel runs it: compaction and the pool of huge pages. */
import * as compaction_2_6_35 from '../../src/kernels/linux-2.6.35/compaction.ts';
import * as hugetlb_2_6_35 from '../../src/kernels/linux-2.6.35/hugetlb.ts';
import * as compaction_6_1 from '../../src/kernels/linux-6.1/compaction.ts';
import * as hugetlb_6_1 from '../../src/kernels/linux-6.1/hugetlb.ts';
import type { Job } from '../../src/lib/kthread.ts';
import type { Hstate } from '../../src/mm/hugetlb_def.ts';
import { type Machine, nodes_with_memory } from '../../src/mm/mmzone.ts';

const is_6_1 = (m: Machine): boolean => m.kernel.name === '6.1';

/** Compacts a node, as a write to nodeN/compact does. */
export function compact_node(m: Machine, nid: number): Job {
  return is_6_1(m) ? compaction_6_1.compact_store(m, nid) : compaction_2_6_35.compact_node(m, nid);
}

/** Compacts all nodes, as a write to compact_memory does. */
export function compact_nodes(m: Machine): Job {
  return is_6_1(m) ? compaction_6_1.compact_nodes(m) : compaction_2_6_35.compact_nodes(m);
}

/** Grows or shrinks a pool on all nodes. */
export function set_max_huge_pages(m: Machine, h: Hstate, count: number): Job {
  const { set_max_huge_pages } = is_6_1(m) ? hugetlb_6_1 : hugetlb_2_6_35;
  return set_max_huge_pages(m, h, count, nodes_with_memory(m));
}
