/**
 * The virtual clock. Nothing in src/ looks at wall time: experiments move this clock by what
 * operations cost, and mount/ moves it with the host's time. Milliseconds are plain numbers with
 * fractions. Linux: kernel/time, HZ = 250 as on the recorded machines.
 */
export const HZ = 250;

export class Clock {
  /** Milliseconds since boot. */
  now_ms = 0;
  /** What the wall clock showed at boot, milliseconds since the epoch. */
  readonly boot_time_ms: number;

  constructor(boot_time_ms = 0) {
    this.boot_time_ms = boot_time_ms;
  }

  /** Wall time of the emulated machine, milliseconds since the epoch. */
  real_ms(): number {
    return this.boot_time_ms + this.now_ms;
  }

  /** Timer ticks since boot. */
  jiffies(): number {
    return Math.floor((this.now_ms * HZ) / 1000);
  }
}
