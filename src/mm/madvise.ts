/**
 * What changes areas that exist: mprotect, madvise, mlock, mbind.
 *
 * Each walks the areas of a range, gives each part its new properties by merging or splitting
 * (mmap.ts: vma_with_flags) and then treats the pages. A hole in the range ends the walk.
 * Linux: mm/mprotect.c, mm/madvise.c, mm/mlock.c (do_mlock), mm/mempolicy.c (mbind) of 2.6.35.
 * Differs: MADV_WILLNEED and MADV_REMOVE do nothing; the limit on locked memory is not modelled,
 * since simulated processes run as root.
 */
import { EINVAL, ENOMEM } from '../lib/errno.ts';
import { __split_huge_pmd, change_huge_pmd, HPAGE_PMD_NR } from './huge_memory.ts';
import { hugetlb_change_protection, is_vm_hugetlb_page } from './hugetlb.ts';
import { lru_add_drain_all } from './lru.ts';
import { zap_page_range } from './memory.ts';
import { __mlock_vma_pages_range, munlock_vma_pages_range } from './mlock.ts';
import {
  find_vma_index,
  type MmStruct,
  MPOL_DEFAULT,
  TASK_SIZE_PAGES,
  VM_ACCOUNT,
  VM_DONTCOPY,
  VM_EXEC,
  VM_HUGEPAGE,
  VM_HUGETLB,
  VM_LOCKED,
  VM_MAYSHARE,
  VM_MERGEABLE,
  VM_NOHUGEPAGE,
  VM_NORESERVE,
  VM_RAND_READ,
  VM_READ,
  VM_SEQ_READ,
  VM_SHARED,
  VM_SPECIAL,
  VM_WRITE,
  type VmArea,
  type vpn_t,
} from './mm_types.ts';
import { vm_enough_memory, vm_stat_account, vma_with_flags } from './mmap.ts';
import type { Machine } from './mmzone.ts';
import {
  is_write_migration_entry,
  make_migration_entry_read,
  next_mapped,
  pmd_huge,
  pte_present,
  pte_table,
  pte_to_swp_entry,
  pte_wrprotect,
  swp_entry_to_pte,
} from './page_table.ts';

export const MADV_NORMAL = 0;
export const MADV_RANDOM = 1;
export const MADV_SEQUENTIAL = 2;
export const MADV_WILLNEED = 3;
export const MADV_DONTNEED = 4;
export const MADV_DONTFORK = 10;
export const MADV_DOFORK = 11;
export const MADV_MERGEABLE = 12;
export const MADV_UNMERGEABLE = 13;
export const MADV_HUGEPAGE = 14;
export const MADV_NOHUGEPAGE = 15;
export const MADV_COLLAPSE = 25;

/** Calls `change` for each area's part of [start, end); -ENOMEM at the first hole. */
export function for_each_part(
  mm: MmStruct,
  start: vpn_t,
  end: vpn_t,
  change: (vma: VmArea, from: vpn_t, to: vpn_t) => number,
): number {
  for (let vpn = start; vpn < end; ) {
    const vma = mm.mmap[find_vma_index(mm, vpn)];
    if (vma === undefined || vma.vm_start > vpn) return -ENOMEM;
    const to = Math.min(end, vma.vm_end);
    const err = change(vma, vpn, to);
    if (err !== 0) return err;
    vpn = to;
  }
  return 0;
}

/** Takes write permission off all ptes of a range, present or migrating (mprotect.c). */
function change_protection(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): void {
  const mm = vma.vm_mm;
  for (let vpn = next_mapped(mm, start, end); vpn < end; vpn = next_mapped(mm, vpn, end)) {
    const stop = Math.min(end, (vpn | 511) + 1);
    if (pmd_huge(mm, vpn) !== 0) {
      if (stop - vpn === HPAGE_PMD_NR) {
        change_huge_pmd(mm, vpn);
        vpn = stop;
        continue;
      }
      __split_huge_pmd(m, vma, vpn);
    }
    const ptes = pte_table(mm, vpn)!.ptes!;
    for (; vpn < stop; vpn++) {
      const pte = ptes[vpn & 511]!;
      if (pte === 0) continue;
      if (pte_present(pte)) {
        ptes[vpn & 511] = pte_wrprotect(pte);
        continue;
      }
      const entry = pte_to_swp_entry(pte);
      if (!is_write_migration_entry(entry)) continue;
      ptes[vpn & 511] = swp_entry_to_pte(make_migration_entry_read(entry));
    }
  }
}

/**
 * Changes the permissions of [start, start + len): 0, -ENOMEM. Write permission comes back page by
 * page, with the next write fault. (mprotect.c)
 */
export function do_mprotect(
  m: Machine,
  mm: MmStruct,
  start: vpn_t,
  len: number,
  prot: number,
): number {
  return for_each_part(mm, start, start + len, (vma, from, to) => {
    const old = vma.vm_flags;
    let flags = (old & ~(VM_READ | VM_WRITE | VM_EXEC)) | (prot & 7);
    if (flags === old) return 0;
    let charged = 0;
    const uncharged = (old & (VM_ACCOUNT | VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE)) === 0;
    if ((flags & VM_WRITE) !== 0 && uncharged) {
      charged = to - from;
      if (vm_enough_memory(m, charged) !== 0) return -ENOMEM;
      flags |= VM_ACCOUNT;
    }
    const part = vma_with_flags(m, vma, from, to, flags);
    if (part === null) {
      m.vm_committed_as -= charged;
      return -ENOMEM;
    }
    part.vm_flags = flags;
    if (is_vm_hugetlb_page(part)) hugetlb_change_protection(m, part, from, to);
    else change_protection(m, part, from, to);
    vm_stat_account(mm, old, part.vm_file, -(to - from));
    vm_stat_account(mm, flags, part.vm_file, to - from);
    return 0;
  });
}

/** Advice about [start, start + len): 0, -EINVAL, -ENOMEM (madvise.c). */
export function do_madvise(
  m: Machine,
  mm: MmStruct,
  start: vpn_t,
  len: number,
  advice: number,
): number {
  return for_each_part(mm, start, start + len, (vma, from, to) => {
    let flags = vma.vm_flags;
    switch (advice) {
      case MADV_DONTNEED:
        if ((flags & (VM_LOCKED | VM_HUGETLB)) !== 0) return -EINVAL;
        zap_page_range(m, vma, from, to);
        return 0;
      case MADV_NORMAL:
        flags &= ~(VM_RAND_READ | VM_SEQ_READ);
        break;
      case MADV_SEQUENTIAL:
        flags = (flags & ~VM_RAND_READ) | VM_SEQ_READ;
        break;
      case MADV_RANDOM:
        flags = (flags & ~VM_SEQ_READ) | VM_RAND_READ;
        break;
      case MADV_DONTFORK:
        flags |= VM_DONTCOPY;
        break;
      case MADV_DOFORK:
        flags &= ~VM_DONTCOPY;
        break;
      case MADV_MERGEABLE:
        // Areas that cannot be merged are ignored.
        if (m.kernel.ksm !== undefined) {
          const ret = m.kernel.ksm.ksm_madvise_mergeable(m, vma);
          if (ret < 0) return ret;
          if (ret > 0) flags |= VM_MERGEABLE;
        } else if ((flags & (VM_SHARED | VM_MAYSHARE | VM_SPECIAL)) === 0) flags |= VM_MERGEABLE;
        break;
      case MADV_UNMERGEABLE:
        if (m.kernel.ksm !== undefined) {
          const err = m.kernel.ksm.ksm_madvise_unmergeable(m, vma, from, to);
          if (err !== 0) return err;
        }
        flags &= ~VM_MERGEABLE;
        break;
      case MADV_HUGEPAGE:
        if (m.kernel.thp === undefined) return -EINVAL;
        flags = (flags & ~VM_NOHUGEPAGE) | VM_HUGEPAGE;
        // khugepaged looks at it without waiting for a fault.
        m.kernel.thp.khugepaged_enter_vma(m, vma, flags);
        break;
      case MADV_NOHUGEPAGE:
        if (m.kernel.thp === undefined) return -EINVAL;
        flags = (flags & ~VM_HUGEPAGE) | VM_NOHUGEPAGE;
        break;
      case MADV_COLLAPSE:
        return m.kernel.thp?.madvise_collapse(m, vma, from, to) ?? -EINVAL;
      case MADV_WILLNEED:
        return 0;
      default:
        return -EINVAL;
    }
    if (flags === vma.vm_flags) return 0;
    const part = vma_with_flags(m, vma, from, to, flags);
    if (part === null) return -ENOMEM;
    part.vm_flags = flags;
    return 0;
  });
}

/** Sets the memory policy of [start, start + len), for pages yet to come: 0 or -ENOMEM. */
export function do_mbind(
  m: Machine,
  mm: MmStruct,
  start: vpn_t,
  len: number,
  policy: number,
  nid: number,
): number {
  if (policy !== MPOL_DEFAULT && (nid < 0 || nid >= m.nodes.length)) return -EINVAL;
  return for_each_part(mm, start, start + len, (vma, from, to) => {
    const part = vma_with_flags(m, vma, from, to, vma.vm_flags, policy, nid);
    if (part === null) return -ENOMEM;
    part.vm_policy = policy;
    part.vm_policy_nid = nid;
    return 0;
  });
}

/** Locks or unlocks a part of one area (mlock.c: mlock_fixup). */
function mlock_fixup(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t, lock: boolean): number {
  const mm = vma.vm_mm;
  const flags = lock ? vma.vm_flags | VM_LOCKED : vma.vm_flags & ~VM_LOCKED;
  if (flags === vma.vm_flags) return 0;
  if ((vma.vm_flags & VM_SPECIAL) !== 0) return 0;
  const part = vma_with_flags(m, vma, start, end, flags);
  if (part === null) return -ENOMEM;
  const pages = end - start;
  mm.locked_vm += lock ? pages : -pages;
  if (!lock) {
    munlock_vma_pages_range(m, part, start, end);
    return 0;
  }
  part.vm_flags = flags;
  return __mlock_vma_pages_range(m, part, start, end);
}

/** Locks or unlocks [start, start + len): 0, -EINVAL, -ENOMEM, -EAGAIN (mlock.c: do_mlock). */
export function do_mlock(
  m: Machine,
  mm: MmStruct,
  start: vpn_t,
  len: number,
  lock: boolean,
): number {
  if (len < 0 || start + len > TASK_SIZE_PAGES) return -EINVAL;
  if (lock) lru_add_drain_all(m);
  mm.mmap_sem_locked = true;
  const err = for_each_part(mm, start, start + len, (vma, from, to) =>
    mlock_fixup(m, vma, from, to, lock),
  );
  mm.mmap_sem_locked = false;
  return err;
}
