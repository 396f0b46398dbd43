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
import { do_exit } from '../../mm/fork.ts';
import { EXIT_DEAD, MPOL_BIND, type Task } from '../../mm/mm_types.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { int_sqrt } from './watermark.ts';

/** This oom_adj exempts a process (include/linux/oom.h). */
const OOM_DISABLE = -17;
const SIGKILL = 9;

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

/** Kills one process, or marks it when it is the one that runs. False: it must not be killed. */
function oom_kill_task(m: Machine, task: Task): boolean {
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

/** Kills a child of the process with memory of its own, else the process (oom_kill.c). */
function oom_kill_process(m: Machine, task: Task): boolean {
  for (const child of m.tasks.values()) {
    if (child.ppid !== task.pid || child.mm === task.mm) continue;
    if (oom_kill_task(m, child)) return true;
  }
  return oom_kill_task(m, task);
}

/**
 * Frees memory by killing a process. True when one was killed or will be: the allocation may try
 * again; false when there was nobody (oom_kill.c: out_of_memory). A request that was restricted by
 * a memory policy kills the process that made it.
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
