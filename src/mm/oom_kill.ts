/**
 * The OOM killer, as far as kernels agree: how somebody dies, and when another is looked for.
 *
 * How much a process deserves it is in the kernels' own oom_kill.ts. A victim that does not run dies
 * at once and its memory is free then; one on whose behalf the allocation is made is marked, may use
 * the last reserves, and dies when the call that it made returns (memory.ts).
 * Linux: mm/oom_kill.c.
 */
import { do_exit } from './fork.ts';
import { EXIT_DEAD, MPOL_BIND, type Task } from './mm_types.ts';
import type { Machine } from './mmzone.ts';

/** This oom_adj exempts a process (linux/oom.h). */
export const OOM_DISABLE = -17;
const SIGKILL = 9;

/** Kills one process, or marks it when it is the one that runs. False: it must not be killed. */
export function oom_kill_task(m: Machine, task: Task): boolean {
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
 * again; false when there was nobody. A process that is bound to nodes, or any that asks while
 * oom_kill_allocating_task is set, is killed itself; else `select` chooses, among those not tried yet.
 * `kill` kills it or one of its kin. (oom_kill.c: out_of_memory)
 */
export function kill_somebody(
  m: Machine,
  select: (m: Machine, but: ReadonlySet<Task>) => Task | null,
  kill: (m: Machine, task: Task) => boolean,
): boolean {
  const current = m.current;
  if (current !== null && current.mm !== null) {
    const bound = current.mm.policy === MPOL_BIND;
    const own = (m.sysctl['oom_kill_allocating_task'] ?? 0) !== 0;
    if ((bound || own) && kill(m, current)) return true;
  }
  const tried: Set<Task> = new Set();
  for (;;) {
    const victim = select(m, tried);
    if (victim === null) return false;
    if (kill(m, victim)) return true;
    tried.add(victim);
  }
}
