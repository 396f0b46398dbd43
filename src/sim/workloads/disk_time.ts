/**
 * The time that reading takes: a disk with one arm, which who misses the caches waits for.
 *
 * Block devices answer reads at once (mm/block_device.ts). Here a process that has read sleeps until
 * a disk would have done so, after those who asked before. A step between `begin` and `wait` is not
 * interrupted, so all that was read in it is the caller's.
 */
import type { Machine } from '../../mm/mmzone.ts';

/** A disk's speed: bytes per millisecond, and the milliseconds before the first byte. */
export interface DiskSpeed {
  readonly bytes_per_ms: number;
  /** For a read, which somebody waits for and which is therefore not put into order. */
  readonly ms_per_read: number;
  /** For a write among many: the elevator sorts them. */
  readonly ms_per_write: number;
}

export class Reads {
  private readonly m: Machine;
  private readonly speed: DiskSpeed;
  private requests = 0;
  private bytes = 0;
  private busy_until = 0;

  constructor(m: Machine, speed: DiskSpeed) {
    this.m = m;
    this.speed = speed;
  }

  begin(): void {
    this.requests = 0;
    this.bytes = 0;
    for (const q of this.m.block_devices) {
      this.requests += q.reads;
      this.bytes += q.read_bytes;
    }
  }

  /** Milliseconds until what was read since `begin` is there; 0 when nothing was. */
  wait(): number {
    const { requests, bytes, speed } = this;
    this.begin();
    const asked = this.requests - requests;
    if (asked === 0) return 0;
    const now = this.m.clock.now_ms;
    const took = asked * speed.ms_per_read + (this.bytes - bytes) / speed.bytes_per_ms;
    this.busy_until = Math.max(this.busy_until, now) + took;
    return this.busy_until - now;
  }
}
