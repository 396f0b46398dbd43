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
import { do_exit } from '../../mm/fork.ts';
import { EXIT_DEAD, get_mm_rss, MM_SWAPENTS, MPOL_BIND, type Task } from '../../mm/mm_types.ts';
import type { Machine } from '../../mm/mmzone.ts';

/** This oom_adj exempts a process; the scale of oom_score_adj is 1000 (linux/oom.h). */
const OOM_DISABLE = -17;
const OOM_SCORE_ADJ_MAX = 1000;
const SIGKILL = 9;

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

/** Kills one process, or marks it when it is the one that runs. False: it must not be killed. */
function oom_kill_process(m: Machine, task: Task): boolean {
  if (task.mm === null || task.state === EXIT_DEAD || task.oom_adj === OOM_DISABLE) return false;
  if (task === m.current || task.mm === m.current?.mm || task.mm === m.current_mm) {
    // It has its chance already, and memory is out all the same.
    if (task.mm.oom_victim) return false;
    task.mm.oom_victim = true;
    return true;
  }
  do_exit(m, task, SIGKILL);
  return true;
}

/**
 * Frees memory by killing a process. True when one was killed or will be: the allocation may try
 * again; false when there was nobody. (oom_kill.c: out_of_memory)
 */
export function out_of_memory(m: Machine): boolean {
  const current = m.current;
  if (current !== null && current.mm !== null) {
    const bound = current.mm.policy === MPOL_BIND;
    const own = (m.sysctl['oom_kill_allocating_task'] ?? 0) !== 0;
    if ((bound || own) && oom_kill_process(m, current)) return true;
  }
  const tried: Set<Task> = new Set();
  for (;;) {
    const victim = select_bad_process(m, tried);
    if (victim === null) return false;
    if (oom_kill_process(m, victim)) return true;
    tried.add(victim);
  }
}
