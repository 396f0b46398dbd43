/**
 * The whole state of a machine as one value: saved to a buffer, restored, forked, hashed.
 *
 * Everything reachable from the Machine is state (lib/snapshot.ts). Code is not: the kernel's table
 * and operation tables are written by name. Nor are tracepoints, whose listeners belong to whoever
 * listens, nor a disk that lies outside (a host file): it is written by its place and must be given
 * again when the machine is restored. Swap is state wherever it lies: what its slots hold is saved.
 */

import { FreedBlocks } from './fs/disk/balloc.ts';
import { Directory, DiskFs, DiskInode, Group, IndirectBlock } from './fs/disk/disk_fs.ts';
import { disk_aops } from './fs/disk/inode.ts';
import { dcache_shrinker, icache_shrinker } from './fs/disk/shrink.ts';
import { DiskFile } from './fs/disk/vnode.ts';
import { restore_tracing, TraceState } from './fs/tracefs/trace.ts';
import { TraceArch } from './fs/tracefs/trace_events.ts';
import { BalancePgdat } from './kernels/linux-2.6.35/kswapd.ts';
import { linux_2_6_35 } from './kernels/linux-2.6.35/profile.ts';
import { trace_2_6_35 } from './kernels/linux-2.6.35/trace_events.ts';
import { ScanControl } from './kernels/linux-2.6.35/vmscan.ts';
import {
  deferred_split_shrinker,
  huge_zero_page_shrinker,
} from './kernels/linux-6.1/huge_memory.ts';
import { KhugepagedMmSlot, ThpState } from './kernels/linux-6.1/huge_mm.ts';
import { KswapdRun } from './kernels/linux-6.1/kswapd.ts';
import { linux_6_1 } from './kernels/linux-6.1/profile.ts';
import { trace_6_1 } from './kernels/linux-6.1/trace_events.ts';
import { ScanControl as ScanControl_6_1 } from './kernels/linux-6.1/vmscan.ts';
import { Clock } from './lib/clock.ts';
import { Faults } from './lib/faults.ts';
import { Prng } from './lib/prng.ts';
import { RbColumns, RbRoot } from './lib/rbtree.ts';
import { RingBufferPerCpu } from './lib/ring_buffer.ts';
import { hash_snapshot, load_snapshot, SnapshotRegistry, save_snapshot } from './lib/snapshot.ts';
import { WriteLog } from './lib/write_log.ts';
import {
  AddressSpace,
  Mappings,
  RadixTreeNodes,
  RadixTreeRoot,
  swap_aops,
} from './mm/address_space.ts';
import { type BlockDevice, BlockQueue, MemoryBlockDevice } from './mm/block_device.ts';
import { def_blk_aops } from './mm/buffer.ts';
import { BufferHeads } from './mm/buffer_head.ts';
import { Contents } from './mm/contents.ts';
import { FileRaState } from './mm/filemap.ts';
import { HugetlbInode, hugetlbfs_aops } from './mm/hugetlb.ts';
import { Hstate, ResvMap } from './mm/hugetlb_def.ts';
import { KsmColumns, KsmMmSlot, KsmState } from './mm/ksm_def.ts';
import { AnonVma, AnonVmaChain, MmapFile, MmStruct, Task, VmArea } from './mm/mm_types.ts';
import { ListHeads, Machine, Pagevec, PerCpuPages, Pgdat, Zone } from './mm/mmzone.ts';
import { Memmap } from './mm/page.ts';
import { PageTable } from './mm/page_table.ts';
import { Shrinker } from './mm/reclaim_def.ts';
import { ShmemInode, shmem_aops } from './mm/shmem.ts';
import { KmemCache, KmemCacheCpu, KmemCacheNode, SlabState } from './mm/slub_def.ts';
import { copy_swap_slots, SwapInfo } from './mm/swap_state.ts';
import { MmuGather } from './mm/tlb.ts';
import { MmTrace } from './mm/trace.ts';
import { WritebackState } from './mm/writeback_def.ts';

/** What a saved machine is made of; `m` for the devices that lie outside of it. */
function registry(devices: readonly BlockDevice[]): SnapshotRegistry {
  const r = new SnapshotRegistry()
    .add_class(Machine, Memmap, Zone, Pgdat, PerCpuPages, Pagevec, ListHeads, Clock, Prng, Contents)
    .add_class(AddressSpace, Mappings, RadixTreeNodes, RadixTreeRoot, WritebackState, BlockQueue)
    .add_class(BufferHeads, FileRaState, KmemCache, KmemCacheCpu, KmemCacheNode, SlabState)
    .add_class(AnonVma, AnonVmaChain, MmapFile, MmStruct, Task, VmArea, PageTable, MmuGather)
    .add_class(
      SwapInfo,
      Shrinker,
      Hstate,
      ResvMap,
      HugetlbInode,
      MemoryBlockDevice,
      BalancePgdat,
      ScanControl,
    )
    .add_class(
      DiskFs,
      DiskInode,
      DiskFile,
      Directory,
      Group,
      IndirectBlock,
      FreedBlocks,
      ShmemInode,
    )
    .add_class(KswapdRun)
    .add_class_as('ScanControl 6.1', ScanControl_6_1)
    .add_class(KsmState, KsmColumns, KsmMmSlot, RbColumns, RbRoot)
    .add_class(TraceState, TraceArch, RingBufferPerCpu)
    .add_class(Faults, WriteLog)
    .add_factory(MmTrace, () => new MmTrace())
    .add_external('kernel 2.6.35', linux_2_6_35)
    .add_external('kernel 6.1', linux_6_1)
    .add_external('tracing of 2.6.35', trace_2_6_35)
    .add_external('tracing of 6.1', trace_6_1)
    .add_external('swap_aops', swap_aops)
    .add_external('def_blk_aops', def_blk_aops)
    .add_external('disk_aops', disk_aops)
    .add_external('shmem_aops', shmem_aops)
    .add_class(ThpState, KhugepagedMmSlot)
    .add_external(huge_zero_page_shrinker.name, huge_zero_page_shrinker)
    .add_external(deferred_split_shrinker.name, deferred_split_shrinker)
    .add_external('hugetlbfs_aops', hugetlbfs_aops)
    .add_external(dcache_shrinker.name, dcache_shrinker)
    .add_external(icache_shrinker.name, icache_shrinker);
  devices.forEach((device, i) => {
    if (!(device instanceof MemoryBlockDevice)) r.add_external(`block device ${i}`, device);
  });
  return r;
}

/** The registry for a machine that is: of swap, wherever it lies, what the used slots hold. */
function registry_of(m: Machine): SnapshotRegistry {
  const r = registry(m.block_devices.map((queue) => queue.device));
  for (const si of m.swap_info) {
    const { device } = m.block_devices[si.bdev]!;
    const copy = new MemoryBlockDevice(device.size);
    copy_swap_slots(m, si, device, copy);
    r.add_stand_in(device, copy);
  }
  return r;
}

/**
 * The machine's state in one buffer. Disks in memory are part of it, other disks are not. Throws
 * while a job is under way that holds pages on lists of its own (a compaction, say): how far it came
 * is not state, so nobody could give these pages back. kswapd is state and may be at work.
 */
export function save_machine(m: Machine): Uint8Array {
  if (m.list_heads.in_use !== 0) {
    throw new Error('a machine cannot be saved while a job of it holds pages: run the job first');
  }
  return save_snapshot(m, registry_of(m));
}

/**
 * A machine as it was saved; `devices` replace, by position, the disks that lay outside of it. One
 * in the place of a swap area is filled with what the slots held.
 */
export function load_machine(saved: Uint8Array, devices: readonly BlockDevice[] = []): Machine {
  const m = load_snapshot<Machine>(saved, registry(devices));
  for (const si of m.swap_info) {
    const queue = m.block_devices[si.bdev]!;
    const given = devices[si.bdev];
    if (given === undefined) continue;
    copy_swap_slots(m, si, queue.device, given);
    queue.device = given;
  }
  restore_tracing(m);
  return m;
}

/** A copy that goes its own way, its swap in memory. Outside disks would be shared: only without. */
export function fork_machine(m: Machine): Machine {
  const devices = m.block_devices.map((queue) => queue.device);
  for (const si of m.swap_info) delete devices[si.bdev];
  return load_machine(save_machine(m), devices);
}

/** 16 hexadecimal digits that differ when any bit of the state does. */
export function state_hash(m: Machine): string {
  return hash_snapshot(m, registry_of(m));
}
