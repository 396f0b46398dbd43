/**
 * A command of a shell, as part of a simulation: a process that forks, becomes a program, works, ends.
 *
 * All of it is the machine's own fork, exec, faults and exit (userland.ts), at the prices of
 * costs.ts. Linux: none; what fork(2), execve(2) and exit(2) do is in src/mm/fork.ts.
 */
import { do_exit } from '../../mm/fork.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { COST } from './costs.ts';
import type { Process } from './scheduler.ts';
import { exec, type Program, run_image, type Shell } from './userland.ts';

/** Forks, becomes `program`, does `work`, ends. Without memory for that, nothing is done. */
export function* command(m: Machine, shell: Shell, program: Program, work: () => Process): Process {
  const child = shell.fork();
  yield COST.fork;
  if (child === null) return;
  yield (shell.child_before_exec(child) + shell.note_job(0)) * COST.fault;
  const image = exec(m, child, shell.root, program);
  yield COST.exec;
  if (image !== null) {
    yield Math.max(0, run_image(m, child, image)) * COST.fault;
    yield* work();
  }
  yield COST.exit;
  if (m.tasks.get(child.pid) === child) do_exit(m, child, 0);
}
