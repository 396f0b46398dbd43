/**
 * Tracepoints (include/linux/tracepoint.h) over eventemitter3. `enabled` is a plain boolean, kept
 * by subscribe and unsubscribe, like a static key: a disabled event costs one load and a branch,
 * and callers compute arguments only behind it. Arguments are numbers. Listeners observe: they
 * must not change the machine and must not throw.
 */
import { EventEmitter } from 'eventemitter3';

export type TraceListener = (a: number, b: number, c: number, d: number, e: number) => void;

export class Tracepoint {
  readonly name: string;
  /** True while at least one listener is there. */
  enabled = false;
  private emitter = new EventEmitter();

  constructor(name: string) {
    this.name = name;
  }

  subscribe(listener: TraceListener): void {
    this.emitter.on('hit', listener);
    this.enabled = true;
  }

  unsubscribe(listener: TraceListener): void {
    this.emitter.off('hit', listener);
    this.enabled = this.emitter.listenerCount('hit') > 0;
  }

  emit(a = 0, b = 0, c = 0, d = 0, e = 0): void {
    this.emitter.emit('hit', a, b, c, d, e);
  }
}
