/**
 * The one place where mount/ meets the emulated machine (src/index.ts).
 *
 * It boots a machine from the command line's options and hands out what a server needs: the tree
 * to serve, the clock to move, the freed frames to give back. Pages count from the first address
 * of a section that is divisible by the host's page size, which only native code can know.
 */
import type { Vnode } from '../src/fs/vfs.ts';
import type { Job } from '../src/lib/kthread.ts';
import type { MountOptions } from './config.ts';
import type { HostDisk } from './host_disk.ts';
import { alignOffset, discard } from './native.ts';
import { Failure } from './transport.ts';

export interface ServedMachine {
  readonly root: Vnode;
  advance(ms: number): Job;
  giveBack(): void;
}

// TEMPORARY until src/index.ts lands: its expected surface.
interface Source {
  boot(config: object): unknown;
  mount_root(machine: unknown): Vnode;
  advance_clock(machine: unknown, ms: number): Job;
  discardable(
    machine: unknown,
    visit: (buffer: SharedArrayBuffer, offsets: Uint32Array, count: number) => void,
  ): void;
  set_section_alignment(fn: (buffer: SharedArrayBuffer) => number): void;
}

export async function bootMachine(options: MountOptions, disk: HostDisk): Promise<ServedMachine> {
  const name = process.env['PAGEBLOCK_MACHINE'] ?? new URL('../src/index.js', import.meta.url).href;
  const source = (await import(name)) as Source;
  source.set_section_alignment(alignOffset);
  let machine: unknown;
  try {
    machine = source.boot({
      kernel: options.kernel,
      compaction: options.compaction,
      machine: options.machine,
      memory: options.memory,
      nodes: options.nodes,
      ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
      ...(options.seed === undefined ? {} : { seed: options.seed }),
      boot_time_ms: Date.now(),
      disk,
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
    });
  } catch (error) {
    if (error instanceof RangeError) throw new Failure(error.message);
    throw error;
  }
  return {
    root: source.mount_root(machine),
    advance: (ms) => source.advance_clock(machine, ms),
    giveBack: () => source.discardable(machine, discard),
  };
}
