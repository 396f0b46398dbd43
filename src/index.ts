/**
 * Pageblock as a library: boot a machine, look at it, make it work. Pure and synchronous: no I/O,
 * no wall time; runs in Node or a browser. mount/ serves what this gives over FUSE.
 */
export type { MachineName } from './arch.ts';
export type { Attr, Caller, Dirent, OpenFile, SetAttr, StatFs } from './fs/vfs.ts';
export { Vnode } from './fs/vfs.ts';
export { is_job, type Job, run_job } from './lib/kthread.ts';
export { advance_clock, boot, type MachineConfig } from './machine.ts';
export { type BlockDevice, MemoryBlockDevice } from './mm/block_device.ts';
export { discardable, set_section_alignment } from './mm/contents.ts';
export { debug_vm } from './mm/debug_vm.ts';
export type { Machine, Zone } from './mm/mmzone.ts';
export { swap_device_bytes } from './mm/swap_state.ts';
export { mount_root } from './mount_root.ts';
export { index_rows } from './sim/index_text.ts';
export { verify_file } from './sim/replay.ts';
export { set_fault } from './sim/test_files.ts';
export { fork_machine, load_machine, save_machine, state_hash } from './snapshot.ts';
