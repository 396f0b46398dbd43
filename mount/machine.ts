/**
 * The one place where mount/ meets the emulated machine (src/index.ts).
 *
 * It boots a machine from the command line's options and hands out what a server needs: the tree
 * to serve, the clock to move, the freed frames to give back. Pages count from the first address
 * of a section that is divisible by the host's page size, which only native code can know.
 */
import type { Vnode } from '../src/fs/vfs.ts';
import {
  advance_clock,
  boot,
  discardable,
  type Machine,
  mount_root,
  set_fault,
  set_section_alignment,
  swap_device_bytes,
} from '../src/index.ts';
import type { Job } from '../src/lib/kthread.ts';
import type { MountOptions } from './config.ts';
import type { HostDisk } from './host_disk.ts';
import { find, writeMachineFile } from './machine_file.ts';
import { alignOffset, discard } from './native.ts';
import { Failure } from './transport.ts';

export interface ServedMachine {
  readonly root: Vnode;
  advance(ms: number): Job;
  giveBack(): Job;
}

/** Bytes that the swap area takes of the disk's host file. */
export function swapBytes(options: MountOptions): number {
  const slots = Math.floor((options.swap ?? 0) / options.pageSize);
  return slots > 1 ? swap_device_bytes(slots, options.pageSize) : 0;
}

export function bootMachine(options: MountOptions, disk: HostDisk): ServedMachine {
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  set_section_alignment(alignOffset);
  let machine: Machine;
  try {
    machine = boot({
      kernel: options.kernel,
      compaction: options.compaction,
      machine: options.machine,
      memory: options.memory,
      nodes: options.nodes,
      // A machine that never has NUMA says so itself.
      ...(options.numa ? {} : { numa: false }),
      page_size: options.pageSize,
      gbpages: options.hugepagesz !== undefined,
      ...(options.swap === undefined ? {} : { swap: options.swap }),
      ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
      ...(options.seed === undefined ? {} : { seed: options.seed }),
      boot_time_ms: Date.now(),
      disk,
      ...(disk.swap === undefined ? {} : { swap_device: disk.swap }),
      uid,
      gid,
    });
  } catch (error) {
    if (error instanceof RangeError) throw new Failure(error.message);
    throw error;
  }
  const root = mount_root(machine, { uid, gid });
  if (options.config !== undefined) writeMachineFile(root, uid, gid, options.config);
  for (const spec of options.fault ?? []) {
    if (set_fault(machine, spec) < 0) {
      throw new Failure(`no such fault: '${spec}'; docs/clients.md lists what --fault takes`);
    }
    // A fault on a misspelt name would never come. Processes come later.
    const path = /^\s*(?:file|value)\s+(\S+)/.exec(spec)?.[1];
    if (path !== undefined && !/^\/proc\/\d/.test(path) && typeof find(root, path) === 'number') {
      throw new Failure(`--fault '${spec}': this machine has no file ${path}`);
    }
  }
  machine.write_log.clear();
  return {
    root,
    advance: (ms) => advance_clock(machine, ms),
    giveBack: () => discardable(machine, discard),
  };
}
