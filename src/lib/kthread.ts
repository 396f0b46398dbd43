/**
 * Work that can be interrupted where the kernel calls cond_resched (kernel/sched.c).
 *
 * A long action is a generator: it yields at each such point and returns its result. Library
 * callers run it to the end with run_job; the mount runs it in slices and answers other
 * requests in between. Between two yields the machine's state is whole: every list, counter
 * and reference is as any other task may see it in the real kernel.
 */
export type Job<T = number> = Generator<Pause, T, void>;

/**
 * What a job yields: nothing or 0 where the kernel has cond_resched. On a machine whose jobs sleep
 * (Machine.sleeps) also milliseconds above 0, for a congestion_wait of at most that long, and the
 * negative of a frame number, to wait until that page is not under write-back.
 */
export type Pause = number | undefined;

/** Runs a job to its end without a pause, returns its result. */
export function run_job<T>(job: Job<T>): T {
  for (;;) {
    const step = job.next();
    if (step.done) return step.value;
  }
}

/** True for what `write` and its like return when the answer comes later. */
export function is_job(result: number | Job): result is Job {
  return typeof result !== 'number';
}

/** The result of what may be a job, which is then run to its end. */
export function settle(result: number | Job): number {
  return is_job(result) ? run_job(result) : result;
}
