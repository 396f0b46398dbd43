/**
 * /proc/PID of 6.1: the lines of smaps and status, the words of pagemap.
 *
 * Since 2.6.35 smaps and status have many more lines, and pagemap other bits. The files themselves
 * are in fs/proc. Linux: fs/proc/array.c, fs/proc/task_mmu.c (v6.1). Not compared with a recording:
 * there is none of 6.1.
 */
import { type ProcPidFormat, proc_pid_directory } from '../../fs/proc/base.ts';
import { PM_FILE, PM_MMAP_EXCLUSIVE, PM_PRESENT, PM_SWAP } from '../../fs/proc/task_mmu.ts';
import { PageAnon, page_mapcount } from '../../mm/page.ts';

/** All 41 capabilities. */
const CAP_FULL = '000001ffffffffff';

const format: ProcPidFormat = {
  gate_vma: '--xp',
  smaps: [
    'Size',
    'KernelPageSize',
    'MMUPageSize',
    'Rss',
    'Pss',
    'Pss_Dirty',
    'Shared_Clean',
    'Shared_Dirty',
    'Private_Clean',
    'Private_Dirty',
    'Referenced',
    'Anonymous',
    'LazyFree',
    'AnonHugePages',
    'ShmemPmdMapped',
    'FilePmdMapped',
    'Shared_Hugetlb',
    'Private_Hugetlb',
    'Swap',
    'SwapPss',
    'Locked',
    'THPeligible',
    'VmFlags',
  ],
  status: [
    'Name',
    'Umask',
    'State',
    'Tgid',
    'Ngid',
    'Pid',
    'PPid',
    'TracerPid',
    'Uid',
    'Gid',
    'FDSize',
    ['Groups', ' '],
    'NStgid',
    'NSpid',
    'NSpgid',
    'NSsid',
    'VmPeak',
    'VmSize',
    'VmLck',
    'VmPin',
    'VmHWM',
    'VmRSS',
    'RssAnon',
    'RssFile',
    'RssShmem',
    'VmData',
    'VmStk',
    'VmExe',
    'VmLib',
    'VmPTE',
    'VmSwap',
    'HugetlbPages',
    'CoreDumping',
    'THP_enabled',
    'Threads',
    'SigQ',
    'SigPnd',
    'ShdPnd',
    'SigBlk',
    'SigIgn',
    'SigCgt',
    'CapInh',
    ['CapPrm', CAP_FULL],
    ['CapEff', CAP_FULL],
    ['CapBnd', CAP_FULL],
    'CapAmb',
    'NoNewPrivs',
    'Seccomp',
    'Seccomp_filters',
    'Speculation_Store_Bypass',
    'SpeculationIndirectBranch',
    'Cpus_allowed',
    'Cpus_allowed_list',
    'Mems_allowed',
    'Mems_allowed_list',
    'voluntary_ctxt_switches',
    'nonvoluntary_ctxt_switches',
  ],
  // start_data, end_data, start_brk, arg_start, arg_end, env_start, env_end, exit_code.
  stat_tail: (m, mm) => ` 0 0 ${mm.start_brk * 2 ** m.shape.page_shift} 0 0 0 0 0`,
  pagemap: {
    migration_read: 28,
    hole_high: () => 0,
    swap_high: () => PM_SWAP,
    present_high(m, pfn) {
      const p = m.memmap;
      const file = !PageAnon(p, pfn) && pfn !== m.zero_pfn ? PM_FILE : 0;
      return PM_PRESENT + file + (page_mapcount(p, pfn) === 1 ? PM_MMAP_EXCLUSIVE : 0);
    },
  },
};

export const proc_pid = proc_pid_directory(format);
