/**
 * Growing a pool of huge pages beside whatever else runs.
 *
 * The grower is a process: it takes page after page, and compacts and reclaims for itself where the
 * kernel does, while kswapd, once it is woken, is a second one. So reclaim happens while the pool
 * grows, not between two pages, and where it stops is a matter of time, as on a real machine.
 * Linux: mm/hugetlb.c (set_max_huge_pages).
 */
import { alloc_fresh_huge_page } from '../../kernels/linux-2.6.35/hugetlb.ts';
import type { Hstate } from '../../mm/hugetlb_def.ts';
import { COST } from './costs.ts';
import { beside_others } from './kernel_tasks.ts';
import type { Process, Scheduler } from './scheduler.ts';

/** One write of nr_hugepages, as part of a process. */
export function* grow_pool(s: Scheduler, h: Hstate, target: number): Process {
  while (h.nr_huge_pages < target) {
    if (!(yield* beside_others(s, alloc_fresh_huge_page(s.m, h, [0])))) return;
    yield COST.huge_page;
  }
}
