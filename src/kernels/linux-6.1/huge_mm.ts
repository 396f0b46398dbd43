/**
 * What transparent huge pages are set to, and which areas they are good for.
 *
 * Below khugepaged.ts and huge_memory.ts, which both ask. Without state (machines that are put together
 * instead of booted) nothing is enabled. A machine with less than 512 MiB boots with everything off.
 * Linux: include/linux/huge_mm.h, mm/huge_memory.c (hugepage_vma_check, hugepage_init). Differs: files
 * and shared memory are never mapped by huge pages, whatever shmem_enabled says; prctl's
 * PR_SET_THP_DISABLE does not exist.
 */

import { HPAGE_PMD_NR } from '../../mm/huge_memory.ts';
import {
  type MmStruct,
  VM_HUGEPAGE,
  VM_HUGETLB,
  VM_NOHUGEPAGE,
  VM_SPECIAL,
  type VmArea,
  type vpn_t,
} from '../../mm/mm_types.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { is_vma_temporary_stack } from '../../mm/rmap.ts';

/** Texts of `enabled` and `defrag`, in the order in which they are printed. */
export const ENABLED = ['always', 'madvise', 'never'] as const;
export const DEFRAG = ['always', 'defer', 'defer+madvise', 'madvise', 'never'] as const;
export const SHMEM_ENABLED = ['always', 'within_size', 'advise', 'never', 'deny', 'force'] as const;

/** A process that khugepaged looks at (mm_slot.h: struct mm_slot). */
export class KhugepagedMmSlot {
  readonly mm: MmStruct;
  /** Slab object. */
  readonly object: number;

  constructor(mm: MmStruct, object: number) {
    this.mm = mm;
    this.object = object;
  }
}

/** The settings below /sys/kernel/mm/transparent_hugepage, and where khugepaged stands. */
export class ThpState {
  enabled: (typeof ENABLED)[number] = 'never';
  defrag: (typeof DEFRAG)[number] = 'never';
  shmem_enabled: (typeof SHMEM_ENABLED)[number] = 'never';
  use_zero_page = 0;
  khugepaged_defrag = 0;
  pages_to_scan = HPAGE_PMD_NR * 8;
  scan_sleep_millisecs = 10000;
  alloc_sleep_millisecs = 60000;
  max_ptes_none = HPAGE_PMD_NR - 1;
  max_ptes_swap = HPAGE_PMD_NR / 8;
  max_ptes_shared = HPAGE_PMD_NR / 2;
  pages_collapsed = 0;
  full_scans = 0;
  /** Processes in the order in which they are looked at. */
  readonly mm_slots: KhugepagedMmSlot[] = [];
  /** Where the scan stands: a slot of the list, null between two rounds, and the next page. */
  scan_slot: KhugepagedMmSlot | null = null;
  scan_address: vpn_t = 0;
  /** Milliseconds since boot at which it goes on; a batch is under way. */
  wake_ms = 0;
  busy = false;
  /** Pages of the batch looked at, -1 between batches; rounds begun in it; it may still sleep once. */
  progress = -1;
  pass_through_head = 0;
  may_sleep = true;
}

/** The state, null on a machine without transparent huge pages. */
export function thp_state(m: Machine): ThpState | null {
  return (m.kernel_state.get('thp') as ThpState | undefined) ?? null;
}

/** Enabled for all areas, or for those that ask for it (huge_mm.h). */
export function hugepage_flags_enabled(k: ThpState): boolean {
  return k.enabled !== 'never';
}

/** Whether a huge page at `haddr`, which is aligned, would lie inside of the area (huge_mm.h). */
export function transhuge_vma_suitable(vma: VmArea, haddr: vpn_t): boolean {
  return haddr >= vma.vm_start && haddr + HPAGE_PMD_NR <= vma.vm_end;
}

/**
 * Whether an area is for huge pages: its own flags, what is enabled, its size except in a fault,
 * anonymous. smaps and faults also take areas that have no page yet. (huge_memory.c)
 */
export function hugepage_vma_check(
  m: Machine,
  vma: VmArea,
  vm_flags: number,
  smaps: boolean,
  in_pf: boolean,
  enforce_sysfs: boolean,
): boolean {
  if ((vm_flags & (VM_NOHUGEPAGE | VM_SPECIAL | VM_HUGETLB)) !== 0) return false;
  if (!in_pf) {
    const last = vma.vm_end - HPAGE_PMD_NR;
    if (!transhuge_vma_suitable(vma, last - (last & (HPAGE_PMD_NR - 1)))) return false;
  }
  const k = thp_state(m);
  if (k === null) return false;
  if (enforce_sysfs && k.enabled !== 'always') {
    if (k.enabled === 'never' || (vm_flags & VM_HUGEPAGE) === 0) return false;
  }
  if (vma.vm_file !== null || is_vma_temporary_stack(vma)) return false;
  return vma.anon_vma !== null || smaps || in_pf;
}
