/**
 * The OOM killer of 2.6.35: choosing the simulated process that dies when memory is out.
 *
 * Each process has a badness: the size of its address space and half of its children's, less for
 * having run long, times or divided by powers of two by its oom_adj. Of the worst one a child is
 * killed first, if it has memory of its own. A victim that does not run dies at once and its memory
 * is free when out_of_memory returns; one on whose behalf the allocation is made may use the last
 * reserves from then on, and dies when the call that it made returns (memory.ts).
 * Linux: mm/oom_kill.c. Differs: with nobody left to kill the real kernel panics; here the
 * allocation fails. All simulated processes are the superuser's, and use no CPU time.
 */

import { int_sqrt } from '../../lib/math.ts';
import type { Task } from '../../mm/mm_types.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { kill_somebody, OOM_DISABLE, oom_kill_task } from '../../mm/oom_kill.ts';

/** How much a process deserves to be killed; 0: not at all (oom_kill.c: badness). */
export function badness(m: Machine, task: Task): number {
  const mm = task.mm;
  if (mm === null || task.oom_adj === OOM_DISABLE) return 0;
  let points = mm.total_vm;
  // Forking servers: half of each child that has memory of its own.
  for (const child of m.tasks.values()) {
    if (child.ppid !== task.pid || child.mm === null || child.mm === mm) continue;
    points += Math.floor(child.mm.total_vm / 2) + 1;
  }
  const uptime = Math.floor(m.clock.now_ms / 1000);
  const started = Math.floor(task.start_time / 1000);
  const run_time = uptime >= started ? Math.floor((uptime - started) / 1024) : 0;
  if (run_time > 0) points = Math.floor(points / int_sqrt(int_sqrt(run_time)));
  // CAP_SYS_ADMIN and CAP_SYS_RAWIO: important, and able to be rude to the hardware.
  points = Math.floor(Math.floor(points / 4) / 4);
  if (task.oom_adj > 0) points = Math.max(1, points) * 2 ** task.oom_adj;
  else if (task.oom_adj < 0) points = Math.floor(points / 2 ** -task.oom_adj);
  return points;
}

/** The process with the most points; null when there is none (oom_kill.c). */
function select_bad_process(m: Machine, but: ReadonlySet<Task>): Task | null {
  let chosen: Task | null = null;
  let chosenpoints = 0;
  for (const task of m.tasks.values()) {
    // Threads of the kernel and init are no candidates.
    if (task.mm === null || task.pid === 1 || but.has(task)) continue;
    const points = badness(m, task);
    if (points > chosenpoints || chosen === null) {
      if (task.oom_adj === OOM_DISABLE) continue;
      chosen = task;
      chosenpoints = points;
    }
  }
  return chosen;
}

/** Kills a child of the process with memory of its own, else the process (oom_kill.c). */
function oom_kill_process(m: Machine, task: Task): boolean {
  for (const child of m.tasks.values()) {
    if (child.ppid !== task.pid || child.mm === task.mm) continue;
    if (oom_kill_task(m, child)) return true;
  }
  return oom_kill_task(m, task);
}

/**
 * Frees memory by killing a process (mm/oom_kill.ts). A request that was restricted by a memory
 * policy kills the process that made it.
 */
export function out_of_memory(m: Machine): boolean {
  return kill_somebody(m, select_bad_process, oom_kill_process);
}
