/**
 * What things cost on the virtual clock, and how the one processor is shared: one table for all
 * machines and all experiments.
 *
 * The values are those of the recorded machine, an emulated processor without acceleration that needs tens of
 * microseconds where a real one needs one. What programs cost was measured in such an emulator (QEMU 7.2,
 * 2.6 GHz, Linux 6.1, a static shell and dd, ext3): 2.25 ms for a fork, 58 faults and the end; 9 ms for a
 * program that does nothing, with 140 faults; 0.6 to create a file; 0.05 to 0.1 for a block of a file, 0.010
 * to 0.015 to write it out. Clean pages are dropped at 3.0 us a page there, at 2.2 in the recordings: so
 * everything is multiplied by 0.7. A fill of 4096 files as recorded took 20 ms a file there, 14 here. How the
 * 9 ms divide is an estimate. Only ratios matter: they decide how finely processes are interleaved.
 * Linux: kernel/sched_fair.c (sysctl_sched_latency, sched_min_granularity) for the time slices.
 */

/** Milliseconds. */
export const COST = {
  /** fork(2) of a small shell, without the faults that follow. */
  fork: 0.6,
  exec: 4,
  exit: 0.4,
  /** A minor fault. */
  fault: 0.012,
  /** Creating or opening a file, closing it, removing its name. */
  create: 0.4,
  unlink: 0.9,
  /** One block of 4 KiB written to the page cache, or read from it. */
  write_block: 0.055,
  /** Opening and closing a file that is in core, and reading a cached block, on a real processor. */
  open_cached: 0.01,
  read_cached: 0.003,
  /** One stat or readdir entry of a walk. */
  stat: 0.1,
  /** Taking a huge page that is there (recorded: 5 ms for 50). */
  huge_page: 0.1,
  /**
   * Work of the kernel: a page scanned on the LRU lists, a page of a dropped inode, a page moved, an
   * attempt to compact. From the durations of 72 steps of golden t1 (least absolute deviations; the
   * pages of the pool themselves 0.08).
   */
  page_scanned: 0.0025,
  page_dropped: 0.0022,
  page_moved: 0.0036,
  /**
   * More for a page of HighMem that moves: it is copied through two temporary mappings, by words of
   * 4 bytes. When such a mapping is taken away (invlpg of an address near those that large pages map),
   * an emulator without acceleration drops its whole TLB. Measured in one (QEMU 7.2, 2.6 GHz; a
   * program with the same paging): 2.6 to 3.5 us for the mappings with 20 to 30 other pages in use, 2.5 for
   * the copy; that 1.25 of the copy is due to short words is an estimate. Any value from 0.003 to 0.012
   * gives the recorded number of moved pages within its tolerance.
   */
  highmem_moved: 0.004,
  compaction: 0.1,
  frame_scanned: 0.000025,
  /** Writing a page of a file to the disk: a request of its own, merged with its neighbours. */
  page_written: 0.01,
  /** A block of metadata that goes to the log of a journal (estimate: two or three requests' worth). */
  log_block: 0.03,
  /** Work of the kernel on a page that goes to swap: unmapping, a slot, a request. */
  page_swapped: 0.09,
  /** Waiting for a page from swap. */
  swap_in: 0.5,
  /** One round of kswapd over the zones that finds little to do. */
  kswapd_round: 0.02,
  /** Between two steps of the first test, while the counters are read and stored. */
  between_steps: 60,
} as const;

/** sched_latency: every runnable process runs once in it while there are few. */
export const SCHED_LATENCY = 6;
/** sched_wakeup_granularity: by how much a woken task must be behind to preempt. */
export const SCHED_WAKEUP_GRANULARITY = 1;
/** sched_min_granularity: the shortest slice when there are many. */
export const SCHED_MIN_GRANULARITY = 2;

/**
 * A disk of 2010 with 7200 turns a minute: 80 MB a second; a seek and half a turn, 12 ms, shared by some
 * four reads, since files of a directory lie behind each other and a reader goes on for a while
 * before the next one has its turn (block/cfq-iosched.c); writes come in order, mostly.
 */
export const DISK_OF_2010 = { bytes_per_ms: 80_000, ms_per_read: 3, ms_per_write: 0.1 } as const;
