/**
 * The data of write-back: which mappings are dirty since when, and what the flusher is about.
 * Linux: include/linux/writeback.h, backing-dev.h (struct bdi_writeback). Behaviour is in
 * page_writeback.ts.
 */
import type { AddressSpace } from './address_space.ts';

export class WritebackState {
  /** Mappings with dirty pages, the one that became dirty first in front (wb->b_dirty). */
  readonly b_dirty: Map<number, AddressSpace> = new Map();
  /** When the flusher looks for old data again, clock milliseconds. */
  next_periodic = 0;
  /** Set by who wrote too much: the flusher works until the background limit holds. */
  background_requested = false;
  /** Pages that reclaim asked the flusher to write (wakeup_flusher_threads). */
  nr_requested = 0;
  /** Pages of a mapping are being written: it must not begin again within itself. */
  writing = false;
  /** Pages dirtied since the limits were last looked at. */
  ratelimit = 0;
}
