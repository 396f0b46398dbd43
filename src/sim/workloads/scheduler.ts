/**
 * One processor, shared by simulated processes: round robin with the slices of the fair scheduler.
 *
 * A process is a generator that yields the milliseconds of the virtual clock which it has just
 * used, or a negative number to sleep for as long. After each slice the clock moves on and what is
 * due runs: writes that the disk has finished, the flusher. kswapd is a process like others while it
 * is awake; it runs next when it is woken, as who has slept does.
 * Linux: kernel/sched_fair.c. Differs: no priorities, no wake-up preemption in the
 * middle of a slice.
 */
import { run_job } from '../../lib/kthread.ts';
import type { Prng } from '../../lib/prng.ts';
import { advance_clock } from '../../machine.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { flusher_tick } from '../../mm/page_writeback.ts';
import { SCHED_LATENCY, SCHED_MIN_GRANULARITY } from './costs.ts';
import { kswapd_has_reason, kswapd_thread } from './pool.ts';

/** A running program: yields the time that it used, negative: the time that it sleeps. */
export type Process = Generator<number, void, void>;

interface Sleeper {
  readonly process: Process;
  readonly until: number;
}

export class Scheduler {
  readonly m: Machine;
  private readonly prng: Prng;
  private readonly queue: Process[] = [];
  private sleepers: Sleeper[] = [];
  /** kswapd, while it is awake. */
  private kswapd: Process | null = null;

  constructor(m: Machine) {
    this.m = m;
    this.prng = m.prng.fork('scheduler');
  }

  /** Processes that have not ended. */
  get alive(): number {
    return this.queue.length + this.sleepers.length - (this.kswapd === null ? 0 : 1);
  }

  /** A new process at the end of the queue. */
  start(process: Process): void {
    this.queue.push(process);
  }

  /** Takes a process off, whatever it is doing. */
  stop(process: Process): void {
    const at = this.queue.indexOf(process);
    if (at >= 0) this.queue.splice(at, 1);
    this.sleepers = this.sleepers.filter((s) => s.process !== process);
    process.return();
  }

  /** Lets the clock move on by `ms` while nobody runs, in steps of a timer interrupt's length. */
  idle(ms: number, step = 10): void {
    for (let left = ms; left > 0; left -= step)
      run_job(advance_clock(this.m, Math.min(step, left)));
  }

  private pass(ms: number): void {
    this.m.clock.now_ms += ms;
    run_job(flusher_tick(this.m));
  }

  private wake(): void {
    if (this.sleepers.length === 0) return;
    const now = this.m.clock.now_ms;
    for (const s of this.sleepers) if (s.until <= now) this.queue.push(s.process);
    this.sleepers = this.sleepers.filter((s) => s.until > now);
  }

  /** One slice of the next process. False when nobody is left. */
  slice(): boolean {
    this.wake();
    if (this.kswapd === null && kswapd_has_reason(this.m)) {
      this.kswapd = kswapd_thread(this.m);
      this.queue.unshift(this.kswapd);
    }
    const process = this.queue.shift();
    if (process === undefined) {
      if (this.sleepers.length === 0) return false;
      const next = Math.min(...this.sleepers.map((s) => s.until));
      // In steps, so that nobody who is woken meanwhile waits for long.
      this.pass(Math.min(4, Math.max(0.1, next - this.m.clock.now_ms)));
      return true;
    }
    const share = Math.max(SCHED_LATENCY / (this.queue.length + 1), SCHED_MIN_GRANULARITY);
    // Ticks do not meet slices: a slice is longer or shorter by up to a half.
    const slice = share * (0.5 + this.prng.below(1024) / 1024);
    let used = 0;
    let asleep = -1;
    let ended = false;
    while (used < slice && asleep < 0) {
      const step = process.next();
      if (step.done) {
        ended = true;
        break;
      }
      if (step.value < 0) asleep = -step.value;
      else used += step.value;
    }
    this.pass(Math.max(used, 0.01));
    if (ended) {
      if (process === this.kswapd) this.kswapd = null;
      return true;
    }
    if (asleep >= 0) this.sleepers.push({ process, until: this.m.clock.now_ms + asleep });
    else this.queue.push(process);
    return true;
  }

  /** Runs until nobody is left, or `until` says so. */
  run(until: () => boolean = () => false): void {
    while (!until() && this.slice());
  }
}
