/**
 * Moves a machine's virtual clock with wall time, and gives its freed frames back to the host.
 *
 * A tick is a job: the kernel threads that are due run in slices like any other long action, and
 * no tick starts before the one before it has ended; what it missed is added to the next. Ticks
 * come every 10 ms while there is work or somebody asks, every 50 ms on an idle mount.
 * The clock is monotonic: a suspended host or a changed date moves it by what really passed.
 */
import type { Job } from '../src/lib/kthread.ts';
import type { JobRunner } from './jobs.ts';

export const BUSY_TICK = 10;
export const IDLE_TICK = 50;
const AWAKE_FOR = 200;
const GIVE_BACK_EVERY = 1000;
const GIVE_BACK_LATEST = 5000;
/** A tick never moves the clock further than this, so that one job stays short. */
const MAX_ADVANCE = 1000;

export interface Clocked {
  /** Virtual time moves on by `ms`; kernel threads run. */
  advance(ms: number): Job;
  /** Gives the frames that were freed since the last call back to the host. */
  giveBack(): Job;
}

export class ClockDriver {
  readonly #machine: Clocked;
  readonly #jobs: JobRunner;
  readonly #now: () => number;
  #timer: NodeJS.Timeout | undefined;
  #last: number;
  #lastGiveBack: number;
  #running = false;
  #givingBack = false;
  #stopped = false;

  constructor(machine: Clocked, jobs: JobRunner, now: () => number = () => performance.now()) {
    this.#machine = machine;
    this.#jobs = jobs;
    this.#now = now;
    this.#last = now();
    this.#lastGiveBack = this.#last;
  }

  start(): void {
    this.#stopped = false;
    this.#last = this.#now();
    this.#arm(BUSY_TICK);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #arm(delay: number): void {
    if (!this.#stopped) this.#timer = setTimeout(this.#tick, delay);
  }

  #tick = (): void => {
    const now = this.#now();
    const awake = this.#jobs.busy || now - this.#jobs.lastRequest < AWAKE_FOR;
    // Where it can, it waits for a moment when nobody does.
    const due = now - this.#lastGiveBack;
    if (!this.#givingBack && due >= (awake ? GIVE_BACK_LATEST : GIVE_BACK_EVERY)) {
      this.#lastGiveBack = now;
      this.#givingBack = true;
      this.#jobs.run(this.#machine.giveBack(), () => {
        this.#givingBack = false;
      });
    }
    if (!this.#running) {
      const ms = Math.min(now - this.#last, MAX_ADVANCE);
      this.#last += ms;
      this.#running = true;
      this.#jobs.run(this.#machine.advance(ms), () => {
        this.#running = false;
      });
    }
    this.#arm(awake || this.#running ? BUSY_TICK : IDLE_TICK);
  };
}
