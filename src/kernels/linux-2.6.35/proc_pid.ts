/**
 * /proc/PID of 2.6.35: the lines of smaps and status, the words of pagemap.
 *
 * The files themselves are in fs/proc. Linux: fs/proc/array.c, fs/proc/task_mmu.c (v2.6.35).
 */
import { type ProcPidFormat, proc_pid_directory } from '../../fs/proc/base.ts';
import { PM_PRESENT, PM_SWAP } from '../../fs/proc/task_mmu.ts';
import type { Machine } from '../../mm/mmzone.ts';

/** The page shift, which stands in bits 55 to 60 of every word that is not empty. */
const page_shift_bits = (m: Machine): number => m.shape.page_shift * 2 ** 23;

const format: ProcPidFormat = {
  gate_vma: 'r-xp',
  smaps: [
    'Size',
    'Rss',
    'Pss',
    'Shared_Clean',
    'Shared_Dirty',
    'Private_Clean',
    'Private_Dirty',
    'Referenced',
    'Swap',
    'KernelPageSize',
    'MMUPageSize',
  ],
  status: [
    'Name',
    'State',
    'Tgid',
    'Pid',
    'PPid',
    'TracerPid',
    'Uid',
    'Gid',
    'FDSize',
    'Groups',
    'VmPeak',
    'VmSize',
    'VmLck',
    'VmHWM',
    'VmRSS',
    'VmData',
    'VmStk',
    'VmExe',
    'VmLib',
    'VmPTE',
    'VmSwap',
    'Threads',
    'SigQ',
    'SigPnd',
    'ShdPnd',
    'SigBlk',
    'SigIgn',
    'SigCgt',
    'CapInh',
    'CapPrm',
    'CapEff',
    'CapBnd',
    'Cpus_allowed',
    'Cpus_allowed_list',
    'voluntary_ctxt_switches',
    'nonvoluntary_ctxt_switches',
  ],
  stat_tail: () => '',
  pagemap: {
    migration_read: 30,
    hole_high: page_shift_bits, // PM_NOT_PRESENT
    swap_high: (m) => page_shift_bits(m) + PM_SWAP,
    present_high: (m) => page_shift_bits(m) + PM_PRESENT,
  },
};

export const proc_pid = proc_pid_directory(format);
