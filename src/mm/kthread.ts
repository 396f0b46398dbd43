/**
 * Running a kernel thread's job as that thread: m.kthread names it while a slice of it runs, and
 * nobody else's slice in between. Linux: kernel/kthread.c; the scheduler does this by itself there.
 */
import type { Job } from '../lib/kthread.ts';
import type { KernelThread, Machine } from './mmzone.ts';

/** The same job, each slice of it under the thread's name and on nobody's behalf. */
export function* as_kthread(m: Machine, thread: KernelThread, job: Job): Job {
  for (;;) {
    const before = m.kthread;
    const task = m.current;
    const mm = m.current_mm;
    m.kthread = thread;
    m.current = null;
    m.current_mm = null;
    const step = job.next();
    m.kthread = before;
    m.current = task;
    m.current_mm = mm;
    if (step.done) return step.value;
    yield step.value;
  }
}
