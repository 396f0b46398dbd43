/**
 * One processor, shared by simulated processes as the fair scheduler shares it.
 *
 * A process is a generator that yields the milliseconds of the virtual clock which it has just
 * used, or a negative number to sleep for as long. Who has used least time runs next; who wakes up
 * has half a latency's advantage at most, and takes the processor from who has used more than a
 * millisecond above that. Work of the kernel is put on the clock by its counters, for whoever ran
 * meanwhile. After each slice the writes end that the disk has finished. kswapd and the flusher are
 * processes like others while they are awake. What sleeps inside of a call (lib/kthread.ts:
 * Pause) does so as part of its process; calls that cannot sleep let the processor stand still.
 * Linux: kernel/sched_fair.c. Differs: no priorities.
 */
import type { Prng } from '../../lib/prng.ts';
import type { Beside, Machine } from '../../mm/mmzone.ts';
import { complete_writeback, flusher_has_reason, flusher_tick } from '../../mm/page_writeback.ts';
import { SCHED_LATENCY, SCHED_MIN_GRANULARITY, SCHED_WAKEUP_GRANULARITY } from './costs.ts';
import {
  beside_others,
  type Calls,
  HighmemMoves,
  kernel_work,
  kswapd_has_reason,
  kswapd_thread,
} from './kernel_tasks.ts';

/**
 * A running program: yields the time that it used; negative: the time that it sleeps, infinite until
 * wake_up_all().
 */
export type Process = Generator<number, void, void>;

interface Entity {
  readonly process: Process;
  /** Time on the processor, milliseconds, as compared with others. */
  vruntime: number;
  /** The clock's time when it is to be woken. */
  until: number;
}

export class Scheduler implements Calls {
  readonly m: Machine;
  under_way = 0;
  private readonly prng: Prng;
  private readonly queue: Entity[] = [];
  private sleepers: Entity[] = [];
  private min_vruntime = 0;
  /** kswapd, while it is awake; its time on the processor so far. */
  private kswapd: Process | null = null;
  private kswapd_vruntime = 0;
  /** The flusher is awake. */
  private flushing = false;
  /** The kernel's work that is on the clock already. */
  private mark = 0;
  private readonly moves: HighmemMoves;
  /** Of the slice that is under way: time used, and how long it lasts. */
  private used = 0;
  private slice_ms = 0;
  private readonly alone: Beside;

  constructor(m: Machine) {
    this.m = m;
    this.prng = m.prng.fork('scheduler');
    this.moves = new HighmemMoves(m);
    this.alone = {
      cond_resched: () => {},
      sleep: (_m, ms) => this.pass(ms),
      spend: (ms) => this.spend(ms),
    };
  }

  /** Processes that have not ended. */
  get alive(): number {
    return (
      this.queue.length +
      this.sleepers.length -
      (this.kswapd === null ? 0 : 1) -
      (this.flushing ? 1 : 0)
    );
  }

  /** A new process: it has to wait for a slice's time. `slept`: an old one that wakes up. */
  start(process: Process, slept = false): void {
    const vruntime =
      this.min_vruntime + (slept ? -SCHED_LATENCY / 2 : this.share(this.queue.length + 1));
    this.queue.push({ process, vruntime, until: 0 });
  }

  /** Wakes up all who sleep until they are woken. */
  wake_up_all(): void {
    for (const e of this.sleepers) if (e.until === Infinity) e.until = this.m.clock.now_ms;
  }

  /** Takes a process off, whatever it is doing. */
  stop(process: Process): void {
    const at = this.queue.findIndex((e) => e.process === process);
    if (at >= 0) this.queue.splice(at, 1);
    this.sleepers = this.sleepers.filter((e) => e.process !== process);
    process.return();
  }

  /** Lets the clock move on by `ms`, in steps of a timer interrupt's length; others run. */
  idle(ms: number, step = 10): void {
    const until = this.m.clock.now_ms + ms;
    while (this.m.clock.now_ms < until) {
      if (this.slice()) continue;
      this.pass(Math.min(step, Math.max(0.1, until - this.m.clock.now_ms)));
    }
  }

  /** Runs until nobody is in the middle of a call of the kernel: the machine's state is whole. */
  settle(): void {
    this.run(() => this.under_way === 0);
  }

  private pass(ms: number): void {
    this.m.clock.now_ms += ms;
    complete_writeback(this.m);
    if (!this.flushing && flusher_has_reason(this.m)) {
      this.flushing = true;
      // It has slept for long, whenever it is woken.
      const e = { process: this.flusher(), vruntime: 0, until: 0 };
      e.vruntime = this.placed(e);
      this.queue.push(e);
    }
  }

  /** sched_slice: what each of `nr` runnable processes has of the processor in turn. */
  private share(nr: number): number {
    return Math.max(SCHED_LATENCY / nr, SCHED_MIN_GRANULARITY);
  }

  /** The flusher as a process, from waking up to sleeping. */
  private *flusher(): Process {
    yield* beside_others(this, flusher_tick(this.m));
    this.flushing = false;
  }

  /** Work of the kernel since last time, milliseconds. */
  private work(): number {
    const now = kernel_work(this.m, this.moves.count);
    const used = now - this.mark;
    this.mark = now;
    return used;
  }

  /** What slice() does with `ms` that a process yields, unless the slice ends or changes by it. */
  private spend(ms: number): boolean {
    const now = kernel_work(this.m, this.moves.count);
    const used = this.used + (now - this.mark) + ms;
    if (used >= this.slice_ms) return false;
    if (this.kswapd === null && kswapd_has_reason(this.m)) return false;
    this.used = used;
    this.mark = now;
    return true;
  }

  /** place_entity: who slept long gets half a latency, nobody more. */
  private placed(e: Entity): number {
    return Math.max(e.vruntime, this.min_vruntime - SCHED_LATENCY / 2);
  }

  private wake(): void {
    const now = this.m.clock.now_ms;
    for (let i = 0; i < this.sleepers.length; i++) {
      const e = this.sleepers[i]!;
      if (e.until > now) continue;
      e.vruntime = this.placed(e);
      this.queue.push(e);
      this.sleepers.splice(i--, 1);
    }
    this.wake_kswapd();
  }

  /** kswapd, if it was woken just now. */
  private wake_kswapd(): Entity | null {
    if (this.kswapd !== null || !kswapd_has_reason(this.m)) return null;
    this.kswapd = kswapd_thread(this);
    const e = { process: this.kswapd, vruntime: this.kswapd_vruntime, until: 0 };
    e.vruntime = this.placed(e);
    this.queue.push(e);
    return e;
  }

  private first_sleeper(): Entity | undefined {
    let first: Entity | undefined;
    for (const e of this.sleepers) if (first === undefined || e.until < first.until) first = e;
    return first;
  }

  /** Who has used least, off the queue. */
  private pick(): Entity | undefined {
    const { queue } = this;
    if (queue.length === 0) return undefined;
    let at = 0;
    for (let i = 1; i < queue.length; i++) if (queue[i]!.vruntime < queue[at]!.vruntime) at = i;
    return queue.splice(at, 1)[0];
  }

  /** One slice of the next process. False when nobody is left. */
  slice(): boolean {
    const { m } = this;
    this.wake();
    const e = this.pick();
    const sleeper = this.first_sleeper();
    if (e === undefined) {
      if (sleeper === undefined || sleeper.until === Infinity) return false;
      // In steps, so that nobody who is woken meanwhile waits for long.
      this.pass(Math.min(4, Math.max(0.01, sleeper.until - m.clock.now_ms)));
      return true;
    }
    this.min_vruntime = Math.max(this.min_vruntime, e.vruntime);
    // Ticks do not meet slices: a slice is longer or shorter by up to a half.
    let slice = this.share(this.queue.length + 1) * (0.5 + this.prng.below(1024) / 1024);
    if (sleeper !== undefined) {
      // When the first sleeper wakes up, it takes the processor if it is that much behind.
      const after = sleeper.until - m.clock.now_ms;
      const behind = this.placed(sleeper) + SCHED_WAKEUP_GRANULARITY - e.vruntime;
      slice = Math.min(slice, Math.max(after, behind, 0.01));
    }
    m.beside = this.alone;
    this.mark = kernel_work(m, this.moves.count);
    this.used = 0;
    this.slice_ms = slice;
    let asleep = -1;
    let ended = false;
    while (this.used < this.slice_ms && asleep < 0) {
      const step = e.process.next();
      this.used += this.work();
      if (step.done) {
        ended = true;
        break;
      }
      if (step.value < 0) asleep = -step.value;
      else this.used += step.value;
      const woken = this.wake_kswapd();
      if (woken !== null) {
        const until = woken.vruntime + SCHED_WAKEUP_GRANULARITY - e.vruntime;
        this.slice_ms = Math.min(this.slice_ms, until);
      }
    }
    m.beside = null;
    const used = Math.max(this.used, 0.01);
    e.vruntime += used;
    this.pass(used);
    if (ended) {
      if (e.process === this.kswapd) {
        this.kswapd = null;
        this.kswapd_vruntime = e.vruntime;
      }
    } else if (asleep >= 0) {
      e.until = m.clock.now_ms + asleep;
      this.sleepers.push(e);
    } else {
      this.queue.push(e);
    }
    return true;
  }

  /** Runs until nobody is left, or `until` says so. */
  run(until: () => boolean = () => false): void {
    while (!until() && this.slice());
  }
}
