/**
 * /proc/PID/{maps,smaps,numa_maps,pagemap}: what a simulated process has in its page tables.
 *
 * What changed between kernels is data: which lines smaps has, what a word of pagemap holds, how
 * the page of vsyscalls is mapped. SMAP_LINES knows every line that any of them prints.
 * Linux: fs/proc/task_mmu.c, mm/mempolicy.c (show_numa_map). Differs: there is no vdso area.
 */
import { EINVAL } from '../../lib/errno.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import {
  for_each_huge_page,
  hstate_vma,
  huge_page_frame,
  is_vm_hugetlb_page,
} from '../../mm/hugetlb.ts';
import {
  find_vma_index,
  type MmStruct,
  MPOL_BIND,
  MPOL_DEFAULT,
  MPOL_INTERLEAVE,
  TASK_SIZE_PAGES,
  VM_ACCOUNT,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_HUGEPAGE,
  VM_LOCKED,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_MERGEABLE,
  VM_NOHUGEPAGE,
  VM_READ,
  VM_SHARED,
  VM_WRITE,
  type VmArea,
} from '../../mm/mm_types.ts';
import { type Machine, page_zone } from '../../mm/mmzone.ts';
import {
  compound_head,
  PageActive,
  PageAnon,
  PageDirty,
  PageKsm,
  PageReferenced,
  PageReserved,
  PageSwapCache,
  PageUnevictable,
  PageWriteback,
  page_mapcount,
} from '../../mm/page.ts';
import {
  get_pte,
  is_migration_entry,
  is_swap_pte,
  is_write_migration_entry,
  next_mapped,
  PTRS_PER_PTE,
  pte_dirty,
  pte_pfn,
  pte_present,
  pte_table,
  pte_to_swp_entry,
  pte_young,
  swp_offset,
  swp_type,
} from '../../mm/page_table.ts';

/** A count of pages in KiB. */
export const pages_kb = (m: Machine, pages: number): number =>
  pages * 2 ** (m.shape.page_shift - 10);

// ---- maps

/** Column where names begin: 25 + sizeof(void *) * 6 (task_mmu.c: pad_len_spaces). */
function name_column(m: Machine): number {
  return 25 + (m.shape.machine === 'x86' ? 4 : 8) * 6;
}

const address = (m: Machine, vpn: number): string =>
  (vpn * 2 ** m.shape.page_shift).toString(16).padStart(8, '0');

/** A path with the given characters as octal (fs/seq_file.c: mangle_path). */
function mangle_path(path: string, escaped: string): string {
  let text = '';
  for (const c of path) {
    text += escaped.includes(c) ? `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}` : c;
  }
  return text;
}

function area_name(vma: VmArea): string {
  const mm = vma.vm_mm;
  if (vma.vm_file !== null) return mangle_path(vma.vm_file.path, '\n');
  if (vma.vm_start <= mm.start_brk && vma.vm_end >= mm.brk) return '[heap]';
  if (vma.vm_start <= mm.start_stack && vma.vm_end >= mm.start_stack) return '[stack]';
  return '';
}

function show_map_vma(seq: SeqFile, m: Machine, vma: VmArea): void {
  const flags = vma.vm_flags;
  const file = vma.vm_file;
  const offset = file === null ? 0 : vma.vm_pgoff * 2 ** m.shape.page_shift;
  const before = seq.count;
  seq.puts(`${address(m, vma.vm_start)}-${address(m, vma.vm_end)} `);
  seq.puts((flags & VM_READ) !== 0 ? 'r' : '-').puts((flags & VM_WRITE) !== 0 ? 'w' : '-');
  seq.puts((flags & VM_EXEC) !== 0 ? 'x' : '-').puts((flags & VM_MAYSHARE) !== 0 ? 's' : 'p');
  seq.puts(' ').put_hex(offset, 8).puts(' ');
  seq
    .put_hex(file?.dev_major ?? 0, 2)
    .puts(':')
    .put_hex(file?.dev_minor ?? 0, 2);
  seq
    .puts(' ')
    .put_dec(file?.ino ?? 0)
    .puts(' ');
  const name = area_name(vma);
  if (name !== '') {
    const len = seq.count - before;
    seq.put_str('', Math.max(1, name_column(m) - len)).puts(name);
  }
  seq.puts('\n');
}

/** Prints the areas of `mm`, and last the page of vsyscalls of every 64-bit process of x86. */
export function show_maps(seq: SeqFile, m: Machine, mm: MmStruct, gate_vma: string): void {
  for (const vma of mm.mmap) show_map_vma(seq, m, vma);
  if (m.shape.machine !== 'x86_64') return; // get_gate_vma
  const text = `ffffffffff600000-ffffffffff601000 ${gate_vma} 00000000 00:00 0 `;
  seq
    .puts(text)
    .put_str('', name_column(m) - text.length)
    .puts('[vsyscall]\n');
}

/**
 * Calls `visit` for every pte of an area that is not empty; a huge page counts as the ptes that would
 * map its parts.
 */
function for_each_pte(vma: VmArea, visit: (pte: number, whole: boolean) => void): void {
  const mm = vma.vm_mm;
  const end = vma.vm_end;
  for (let vpn = next_mapped(mm, vma.vm_start, end); vpn < end; vpn = next_mapped(mm, vpn, end)) {
    const whole = pte_table(mm, vpn) === null;
    const stop = Math.min(end, (vpn | (PTRS_PER_PTE - 1)) + 1);
    for (; vpn < stop; vpn++) {
      const pte = get_pte(mm, vpn);
      if (pte !== 0) visit(pte, whole);
    }
  }
}

/** A page of zeroes, a part of the huge one included: nobody's. */
function is_zero_page(m: Machine, pfn: number): boolean {
  return pfn === m.zero_pfn || compound_head(m.memmap, pfn) === m.huge_zero_pfn;
}

// ---- smaps

/** What smaps counts in an area: pages, and bytes where a page is shared out (struct mem_size_stats). */
class MemSizeStats {
  resident = 0;
  shared_clean = 0;
  shared_dirty = 0;
  private_clean = 0;
  private_dirty = 0;
  referenced = 0;
  anonymous = 0;
  /** Mapped as parts of huge pages. */
  anonymous_thp = 0;
  swap = 0;
  /** Bytes: each page divided by how often it is mapped. */
  pss = 0;
  pss_dirty = 0;
  pss_locked = 0;
  /** Huge pages count here alone. */
  shared_hugetlb = 0;
  private_hugetlb = 0;
}

/** Walks the ptes of an area (smaps_pte_range). */
function smap_gather_stats(m: Machine, vma: VmArea): MemSizeStats {
  const p = m.memmap;
  const mss = new MemSizeStats();
  const page_size = 2 ** m.shape.page_shift;
  if (is_vm_hugetlb_page(vma)) {
    for_each_huge_page(m, vma, (pte) => {
      const size = vma_pages(m, vma);
      if (p._count[pte_pfn(pte)]! > 1) mss.shared_hugetlb += size;
      else mss.private_hugetlb += size;
    });
    return mss;
  }
  for_each_pte(vma, (pte, whole) => {
    if (!pte_present(pte)) {
      mss.swap++;
      return;
    }
    const pfn = pte_pfn(pte);
    if (is_zero_page(m, pfn)) return;
    const head = compound_head(p, pfn);
    const count = page_mapcount(p, pfn);
    const share = page_size / count;
    const dirty = pte_dirty(pte) || PageDirty(p, head);
    if (whole) mss.anonymous_thp++;
    mss.resident++;
    mss.pss += share;
    if (pte_young(pte) || PageReferenced(p, head)) mss.referenced++;
    if (PageAnon(p, pfn)) mss.anonymous++;
    if (dirty) mss.pss_dirty += share;
    if ((vma.vm_flags & VM_LOCKED) !== 0) mss.pss_locked += share;
    if (count >= 2 && dirty) mss.shared_dirty++;
    else if (count >= 2) mss.shared_clean++;
    else if (dirty) mss.private_dirty++;
    else mss.private_clean++;
  });
  return mss;
}

/** Two letters for each flag, in the order of the flags (task_mmu.c: show_smap_vma_flags). */
const VM_FLAG_NAMES: readonly (readonly [number, string])[] = [
  [VM_READ, 'rd'],
  [VM_WRITE, 'wr'],
  [VM_EXEC, 'ex'],
  [VM_SHARED, 'sh'],
  [VM_MAYREAD, 'mr'],
  [VM_MAYWRITE, 'mw'],
  [VM_MAYEXEC, 'me'],
  [VM_MAYSHARE, 'ms'],
  [VM_GROWSDOWN, 'gd'],
  [VM_LOCKED, 'lo'],
  [VM_ACCOUNT, 'ac'],
  [VM_HUGEPAGE, 'hg'],
  [VM_NOHUGEPAGE, 'nh'],
  [VM_MERGEABLE, 'mg'],
];

/** Frames of a page of this area (hugetlb.c: vma_kernel_pagesize). */
const vma_pages = (m: Machine, vma: VmArea): number =>
  is_vm_hugetlb_page(vma) ? 2 ** hstate_vma(m, vma).order : 1;

/** Each line of smaps that shows a size: its value in KiB. */
const SMAP_LINES = {
  Size: (m: Machine, _: MemSizeStats, vma: VmArea) => pages_kb(m, vma.vm_end - vma.vm_start),
  KernelPageSize: (m: Machine, _: MemSizeStats, vma: VmArea) => pages_kb(m, vma_pages(m, vma)),
  MMUPageSize: (m: Machine, _: MemSizeStats, vma: VmArea) => pages_kb(m, vma_pages(m, vma)),
  Rss: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.resident),
  Pss: (_: Machine, mss: MemSizeStats) => Math.floor(mss.pss / 1024),
  Pss_Dirty: (_: Machine, mss: MemSizeStats) => Math.floor(mss.pss_dirty / 1024),
  Shared_Clean: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.shared_clean),
  Shared_Dirty: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.shared_dirty),
  Private_Clean: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.private_clean),
  Private_Dirty: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.private_dirty),
  Referenced: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.referenced),
  Anonymous: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.anonymous),
  LazyFree: () => 0,
  AnonHugePages: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.anonymous_thp),
  ShmemPmdMapped: () => 0,
  FilePmdMapped: () => 0,
  Shared_Hugetlb: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.shared_hugetlb),
  Private_Hugetlb: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.private_hugetlb),
  Swap: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.swap),
  SwapPss: (m: Machine, mss: MemSizeStats) => pages_kb(m, mss.swap),
  Locked: (_: Machine, mss: MemSizeStats) => Math.floor(mss.pss_locked / 1024),
} satisfies Record<string, (m: Machine, mss: MemSizeStats, vma: VmArea) => number>;

/** The names of the lines that show a size, and the two last ones of later kernels. */
export type SmapLine = keyof typeof SMAP_LINES | 'THPeligible' | 'VmFlags';

/** Prints an area with `lines` below it (show_smap). */
export function show_smap(seq: SeqFile, m: Machine, vma: VmArea, lines: readonly SmapLine[]): void {
  const mss = smap_gather_stats(m, vma);
  show_map_vma(seq, m, vma);
  for (const name of lines) {
    if (name === 'THPeligible') {
      const eligible = m.kernel.thp?.thp_eligible(m, vma) ?? false;
      seq.puts(`THPeligible:    ${eligible ? 1 : 0}\n`);
    } else if (name === 'VmFlags') {
      seq.puts('VmFlags: ');
      for (const [flag, letters] of VM_FLAG_NAMES) {
        if ((vma.vm_flags & flag) !== 0) seq.puts(`${letters} `);
      }
      seq.puts('\n');
    } else {
      seq
        .put_left(`${name}:`, 16)
        .put_dec(SMAP_LINES[name](m, mss, vma), 8)
        .puts(' kB\n');
    }
  }
}

// ---- numa_maps

/** mempolicy.c: mpol_to_str. */
function policy_name(m: Machine, vma: VmArea): string {
  let policy = vma.vm_policy;
  let nid = vma.vm_policy_nid;
  if (policy === MPOL_DEFAULT) {
    policy = vma.vm_mm.policy;
    nid = vma.vm_mm.policy_nid;
  }
  if (policy === MPOL_DEFAULT) return 'default';
  if (policy === MPOL_INTERLEAVE) {
    return m.nodes.length === 1 ? 'interleave:0' : `interleave:0-${m.nodes.length - 1}`;
  }
  return `${policy === MPOL_BIND ? 'bind' : 'prefer'}:${nid}`;
}

export function show_numa_map(seq: SeqFile, m: Machine, vma: VmArea): void {
  const p = m.memmap;
  const mm = vma.vm_mm;
  let pages = 0;
  let anon = 0;
  let dirty = 0;
  let active = 0;
  let writeback = 0;
  let swapcache = 0;
  let mapcount_max = 0;
  const node = new Array<number>(m.nodes.length).fill(0);
  const huge = is_vm_hugetlb_page(vma);
  const walk = huge ? for_each_huge_page.bind(null, m) : for_each_pte;
  walk(vma, (pte) => {
    if (!pte_present(pte)) return;
    const pfn = pte_pfn(pte);
    const head = compound_head(p, pfn);
    if (is_zero_page(m, pfn) || PageReserved(p, pfn) || PageKsm(p, pfn)) return;
    pages++;
    if (pte_dirty(pte) || PageDirty(p, head)) dirty++;
    if (PageSwapCache(p, head)) swapcache++;
    if (PageActive(p, head) || PageUnevictable(p, head)) active++;
    if (PageWriteback(p, head)) writeback++;
    if (PageAnon(p, head)) anon++;
    mapcount_max = Math.max(mapcount_max, page_mapcount(p, pfn));
    node[page_zone(m, pfn).nid]!++;
  });
  seq.puts(`${address(m, vma.vm_start)} ${policy_name(m, vma)}`);
  if (vma.vm_file !== null) seq.puts(` file=${mangle_path(vma.vm_file.path, '\n\t= ')}`);
  else if (vma.vm_start <= mm.brk && vma.vm_end >= mm.start_brk) seq.puts(' heap');
  else if (vma.vm_start <= mm.start_stack && vma.vm_end >= mm.start_stack) seq.puts(' stack');
  if (huge) seq.puts(' huge');
  if (pages > 0) {
    if (anon > 0) seq.puts(` anon=${anon}`);
    if (dirty > 0) seq.puts(` dirty=${dirty}`);
    if (pages !== anon && pages !== dirty) seq.puts(` mapped=${pages}`);
    if (mapcount_max > 1) seq.puts(` mapmax=${mapcount_max}`);
    if (swapcache > 0) seq.puts(` swapcache=${swapcache}`);
    if (active < pages && !huge) seq.puts(` active=${active}`);
    if (writeback > 0) seq.puts(` writeback=${writeback}`);
    for (let nid = 0; nid < node.length; nid++) {
      if (node[nid]! > 0) seq.puts(` N${nid}=${node[nid]}`);
    }
  }
  seq.puts('\n');
}

// ---- pagemap

// High words of a 64-bit entry: bits 63, 62, 61, 56.
export const PM_PRESENT = 0x80000000;
export const PM_SWAP = 0x40000000;
export const PM_FILE = 0x20000000;
export const PM_MMAP_EXCLUSIVE = 0x01000000;
const PM_ENTRY_BYTES = 8;

/** What a kernel puts into the words of pagemap beside frames and swap slots. */
export interface PagemapFormat {
  /** Type of a migration entry for reading: the first number behind the swap areas. */
  readonly migration_read: number;
  /** High word where there is no page table. */
  hole_high(m: Machine): number;
  /** High word of a swapped page, without the upper bits of its slot. */
  swap_high(m: Machine): number;
  /** High word of a page that is there. */
  present_high(m: Machine, pfn: number): number;
}

/** Copies entries of /proc/PID/pagemap: bytes read or -errno (task_mmu.c: pagemap_read). */
export function pagemap_read(
  m: Machine,
  mm: MmStruct,
  pos: number,
  buf: Uint8Array,
  format: PagemapFormat,
): number {
  if (pos % PM_ENTRY_BYTES !== 0 || buf.length % PM_ENTRY_BYTES !== 0) return -EINVAL;
  const first = pos / PM_ENTRY_BYTES;
  const count = Math.max(0, Math.min(buf.length / PM_ENTRY_BYTES, TASK_SIZE_PAGES - first));
  const view = new DataView(buf.buffer, buf.byteOffset, buf.byteLength);
  for (let i = 0; i < count; i++) {
    const vpn = first + i;
    let low = 0;
    let high = 0;
    const vma = mm.mmap[find_vma_index(mm, vpn)];
    const mapped = vma !== undefined && vma.vm_start <= vpn;
    const frame = mapped && is_vm_hugetlb_page(vma) ? huge_page_frame(m, mm, vpn) : -1;
    const pte = mapped && frame < 0 ? get_pte(mm, vpn) : 0;
    if (frame >= 0) {
      low = frame;
      high = format.present_high(m, low);
    } else if (!mapped || (pte === 0 && pte_table(mm, vpn) === null)) {
      high = format.hole_high(m);
    } else if (is_swap_pte(pte)) {
      const entry = pte_to_swp_entry(pte);
      const type = is_migration_entry(entry)
        ? format.migration_read + (is_write_migration_entry(entry) ? 1 : 0)
        : swp_type(entry);
      const frame = swp_offset(entry) * 32 + type;
      low = frame % 2 ** 32;
      high = Math.floor(frame / 2 ** 32) + format.swap_high(m);
    } else if (pte_present(pte)) {
      low = pte_pfn(pte);
      high = format.present_high(m, low);
    }
    view.setUint32(i * PM_ENTRY_BYTES, low, true);
    view.setUint32(i * PM_ENTRY_BYTES + 4, high, true);
  }
  return count * PM_ENTRY_BYTES;
}
