/**
 * The OOM killer of 6.1: choosing the simulated process that dies when memory is out.
 *
 * The badness of a process is the memory that it holds: pages, swap entries, page tables; oom_adj
 * moves it by shares of all memory. A victim that does not run dies at once and its memory is free
 * when out_of_memory returns; one on whose behalf the allocation is made may use the last reserves
 * from then on, and dies when the call that it made returns (memory.ts).
 * Linux: mm/oom_kill.c. Differs: with nobody left to kill the real kernel panics; here the
 * allocation fails. Processes have oom_adj of -17 to 15, where 6.1 has oom_score_adj.
 */

import { get_mm_rss, MM_SWAPENTS, type Task } from '../../mm/mm_types.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { kill_somebody, OOM_DISABLE, oom_kill_task } from '../../mm/oom_kill.ts';

/** The scale of oom_score_adj (linux/oom.h). */
const OOM_SCORE_ADJ_MAX = 1000;

/** How much a process deserves to be killed; null: not at all (oom_kill.c: oom_badness). */
export function oom_badness(m: Machine, task: Task): number | null {
  const mm = task.mm;
  if (mm === null || task.oom_adj === OOM_DISABLE || mm.oom_victim) return null;
  const adj = Math.trunc((task.oom_adj * OOM_SCORE_ADJ_MAX) / -OOM_DISABLE);
  const points = get_mm_rss(mm) + mm.rss_stat[MM_SWAPENTS]! + mm.nr_ptes;
  const total = m.totalram_pages + m.total_swap_pages;
  return points + adj * Math.floor(total / OOM_SCORE_ADJ_MAX);
}

/** The process with the most points; null when there is none (oom_kill.c). */
function select_bad_process(m: Machine, but: ReadonlySet<Task>): Task | null {
  let chosen: Task | null = null;
  let chosen_points = Number.NEGATIVE_INFINITY;
  for (const task of m.tasks.values()) {
    // Threads of the kernel and init are no candidates.
    if (task.mm === null || task.pid === 1 || but.has(task)) continue;
    const points = oom_badness(m, task);
    if (points === null || points < chosen_points) continue;
    chosen = task;
    chosen_points = points;
  }
  return chosen;
}

/** Frees memory by killing a process (mm/oom_kill.ts). */
export function out_of_memory(m: Machine): boolean {
  return kill_somebody(m, select_bad_process, oom_kill_task);
}
