/**
 * /proc/PID of simulated processes in 6.1: maps, smaps, numa_maps, pagemap, status, stat, statm,
 * cmdline, comm.
 *
 * A row's object is the Task; a file that is still open when its process has exited fails with
 * ESRCH. Since 2.6.35 smaps and status have many more lines, and pagemap other bits.
 * Linux: fs/proc/base.c, fs/proc/array.c, fs/proc/task_mmu.c, mm/mempolicy.c. Differs: what is not
 * modelled (signals, CPU time, name spaces) prints what an idle process of root shows; there is no
 * vdso area. Not compared with a recording: there is none of 6.1.
 */
import { EINVAL, ESRCH } from '../../lib/errno.ts';
import type { FileRow, RowContext, RowDirectory } from '../../lib/file_row.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import {
  EXIT_ZOMBIE,
  find_vma_index,
  get_mm_rss,
  MM_ANONPAGES,
  MM_FILEPAGES,
  MM_SWAPENTS,
  type MmStruct,
  MPOL_BIND,
  MPOL_DEFAULT,
  MPOL_INTERLEAVE,
  TASK_RUNNING,
  TASK_SIZE_PAGES,
  type Task,
  VM_ACCOUNT,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_LOCKED,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_READ,
  VM_SHARED,
  VM_WRITE,
  type VmArea,
} from '../../mm/mm_types.ts';
import { type Machine, page_zone } from '../../mm/mmzone.ts';
import {
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

const task_of = (ctx: RowContext): Task => ctx.object as Task;
const kb = (m: Machine, pages: number): number => pages * 2 ** (m.shape.page_shift - 10);

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

/** The page of vsyscalls, which every 64-bit process of x86 lists last (get_gate_vma). */
function show_gate_vma(seq: SeqFile, m: Machine): void {
  if (m.shape.machine !== 'x86_64') return;
  const text = 'ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 ';
  seq
    .puts(text)
    .put_str('', name_column(m) - text.length)
    .puts('[vsyscall]\n');
}

function maps_show(seq: SeqFile, m: Machine, ctx: RowContext): number {
  const { mm } = task_of(ctx);
  if (mm === null) return -ESRCH;
  for (const vma of mm.mmap) show_map_vma(seq, m, vma);
  show_gate_vma(seq, m);
  return 0;
}

/** Calls `visit` for every pte of an area that is not empty. */
function for_each_pte(vma: VmArea, visit: (pte: number) => void): void {
  const mm = vma.vm_mm;
  const end = vma.vm_end;
  for (let vpn = next_mapped(mm, vma.vm_start, end); vpn < end; vpn = next_mapped(mm, vpn, end)) {
    const ptes = pte_table(mm, vpn)!.ptes!;
    const stop = Math.min(end, (vpn | (PTRS_PER_PTE - 1)) + 1);
    for (; vpn < stop; vpn++) {
      const pte = ptes[vpn & (PTRS_PER_PTE - 1)]!;
      if (pte !== 0) visit(pte);
    }
  }
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
];

/** task_mmu.c: show_smap. */
function show_smap(seq: SeqFile, m: Machine, vma: VmArea): void {
  const p = m.memmap;
  let rss = 0;
  let pss = 0;
  let pss_dirty = 0;
  let pss_locked = 0;
  let referenced = 0;
  let anonymous = 0;
  let swap = 0;
  const page_size = 2 ** m.shape.page_shift;
  const by_kind = [0, 0, 0, 0]; // shared clean, shared dirty, private clean, private dirty
  for_each_pte(vma, (pte) => {
    if (!pte_present(pte)) {
      swap++;
      return;
    }
    const pfn = pte_pfn(pte);
    if (pfn === m.zero_pfn) return;
    rss++;
    if (pte_young(pte) || PageReferenced(p, pfn)) referenced++;
    const count = page_mapcount(p, pfn);
    const dirty = pte_dirty(pte) || PageDirty(p, pfn) ? 1 : 0;
    by_kind[(count >= 2 ? 0 : 2) + dirty]!++;
    if (PageAnon(p, pfn)) anonymous++;
    pss += page_size / count;
    if (dirty === 1) pss_dirty += page_size / count;
    if ((vma.vm_flags & VM_LOCKED) !== 0) pss_locked += page_size / count;
  });
  show_map_vma(seq, m, vma);
  const line = (label: string, value: number): void => {
    seq.put_left(label, 16).put_dec(value, 8).puts(' kB\n');
  };
  line('Size:', kb(m, vma.vm_end - vma.vm_start));
  line('KernelPageSize:', kb(m, 1));
  line('MMUPageSize:', kb(m, 1));
  line('Rss:', kb(m, rss));
  line('Pss:', Math.floor(pss / 1024));
  line('Pss_Dirty:', Math.floor(pss_dirty / 1024));
  line('Shared_Clean:', kb(m, by_kind[0]!));
  line('Shared_Dirty:', kb(m, by_kind[1]!));
  line('Private_Clean:', kb(m, by_kind[2]!));
  line('Private_Dirty:', kb(m, by_kind[3]!));
  line('Referenced:', kb(m, referenced));
  line('Anonymous:', kb(m, anonymous));
  for (const label of ['LazyFree:', 'AnonHugePages:', 'ShmemPmdMapped:', 'FilePmdMapped:']) {
    line(label, 0);
  }
  line('Shared_Hugetlb:', 0);
  seq.puts('Private_Hugetlb:       0 kB\n');
  line('Swap:', kb(m, swap));
  line('SwapPss:', kb(m, swap));
  line('Locked:', Math.floor(pss_locked / 1024));
  seq.puts('THPeligible:    0\nVmFlags: ');
  for (const [flag, name] of VM_FLAG_NAMES) {
    if ((vma.vm_flags & flag) !== 0) seq.puts(name + ' ');
  }
  seq.puts('\n');
}

function smaps_show(seq: SeqFile, m: Machine, ctx: RowContext): number {
  const { mm } = task_of(ctx);
  if (mm === null) return -ESRCH;
  for (const vma of mm.mmap) show_smap(seq, m, vma);
  return 0;
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

function show_numa_map(seq: SeqFile, m: Machine, vma: VmArea): void {
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
  for_each_pte(vma, (pte) => {
    if (!pte_present(pte)) return;
    const pfn = pte_pfn(pte);
    if (pfn === m.zero_pfn || PageReserved(p, pfn) || PageKsm(p, pfn)) return;
    pages++;
    if (pte_dirty(pte) || PageDirty(p, pfn)) dirty++;
    if (PageSwapCache(p, pfn)) swapcache++;
    if (PageActive(p, pfn) || PageUnevictable(p, pfn)) active++;
    if (PageWriteback(p, pfn)) writeback++;
    if (PageAnon(p, pfn)) anon++;
    mapcount_max = Math.max(mapcount_max, page_mapcount(p, pfn));
    node[page_zone(m, pfn).nid]!++;
  });
  seq.puts(`${address(m, vma.vm_start)} ${policy_name(m, vma)}`);
  if (vma.vm_file !== null) seq.puts(` file=${mangle_path(vma.vm_file.path, '\n\t= ')}`);
  else if (vma.vm_start <= mm.brk && vma.vm_end >= mm.start_brk) seq.puts(' heap');
  else if (vma.vm_start <= mm.start_stack && vma.vm_end >= mm.start_stack) seq.puts(' stack');
  if (pages > 0) {
    if (anon > 0) seq.puts(` anon=${anon}`);
    if (dirty > 0) seq.puts(` dirty=${dirty}`);
    if (pages !== anon && pages !== dirty) seq.puts(` mapped=${pages}`);
    if (mapcount_max > 1) seq.puts(` mapmax=${mapcount_max}`);
    if (swapcache > 0) seq.puts(` swapcache=${swapcache}`);
    if (active < pages) seq.puts(` active=${active}`);
    if (writeback > 0) seq.puts(` writeback=${writeback}`);
    for (let nid = 0; nid < node.length; nid++) {
      if (node[nid]! > 0) seq.puts(` N${nid}=${node[nid]}`);
    }
  }
  seq.puts('\n');
}

function numa_maps_show(seq: SeqFile, m: Machine, ctx: RowContext): number {
  const { mm } = task_of(ctx);
  if (mm === null) return -ESRCH;
  for (const vma of mm.mmap) show_numa_map(seq, m, vma);
  return 0;
}

// ---- pagemap

// High words of a 64-bit entry: bits 63, 62, 61, 56.
const PM_PRESENT = 0x80000000;
const PM_SWAP = 0x40000000;
const PM_FILE = 0x20000000;
const PM_MMAP_EXCLUSIVE = 0x01000000;
const PM_ENTRY_BYTES = 8;
/** Types of migration entries: behind the swap areas. */
const LINUX_MIGRATION_READ = 28;

/** Copies entries of /proc/PID/pagemap: bytes read or -errno (task_mmu.c: pagemap_read). */
export function pagemap_read(m: Machine, mm: MmStruct, pos: number, buf: Uint8Array): number {
  if (pos % PM_ENTRY_BYTES !== 0 || buf.length % PM_ENTRY_BYTES !== 0) return -EINVAL;
  const first = pos / PM_ENTRY_BYTES;
  const count = Math.max(0, Math.min(buf.length / PM_ENTRY_BYTES, TASK_SIZE_PAGES - first));
  const view = new DataView(buf.buffer, buf.byteOffset, buf.byteLength);
  const p = m.memmap;
  for (let i = 0; i < count; i++) {
    const vpn = first + i;
    let low = 0;
    let high = 0;
    const vma = mm.mmap[find_vma_index(mm, vpn)];
    const table = vma !== undefined && vma.vm_start <= vpn ? pte_table(mm, vpn) : null;
    const pte = table === null ? 0 : table.ptes![vpn & (PTRS_PER_PTE - 1)]!;
    if (is_swap_pte(pte)) {
      const entry = pte_to_swp_entry(pte);
      const type = is_migration_entry(entry)
        ? LINUX_MIGRATION_READ + (is_write_migration_entry(entry) ? 1 : 0)
        : swp_type(entry);
      const frame = swp_offset(entry) * 32 + type;
      low = frame % 2 ** 32;
      high = Math.floor(frame / 2 ** 32) + PM_SWAP;
    } else if (pte_present(pte)) {
      const pfn = pte_pfn(pte);
      low = pfn;
      high = PM_PRESENT;
      if (!PageAnon(p, pfn) && pfn !== m.zero_pfn) high += PM_FILE;
      if (page_mapcount(p, pfn) === 1) high += PM_MMAP_EXCLUSIVE;
    }
    view.setUint32(i * PM_ENTRY_BYTES, low, true);
    view.setUint32(i * PM_ENTRY_BYTES + 4, high, true);
  }
  return count * PM_ENTRY_BYTES;
}

// ---- status, stat, statm

/** `%*pb` of the first `n` bits: 32-bit groups, all of them on a kernel for up to 64. */
function mask_text(bits: number): string {
  let text = '';
  for (let low = Math.max(0, Math.ceil(bits / 32) - 1) * 32; low >= 0; low -= 32) {
    const width = Math.min(32, bits - low);
    const group = width === 32 ? 0xffffffff : 2 ** width - 1;
    text += (text === '' ? '' : ',') + group.toString(16).padStart(text === '' ? 1 : 8, '0');
  }
  return text;
}

const list_text = (bits: number): string => (bits === 1 ? '0' : `0-${bits - 1}`);

const state_text = (task: Task): string =>
  task.state === TASK_RUNNING
    ? 'R (running)'
    : task.state === EXIT_ZOMBIE
      ? 'Z (zombie)'
      : 'S (sleeping)';

function status_show(seq: SeqFile, m: Machine, ctx: RowContext): number {
  const task = task_of(ctx);
  const { mm } = task;
  if (mm === null) return -ESRCH;
  const { pid } = task;
  seq.puts(`Name:\t${task.comm}\nUmask:\t0022\nState:\t${state_text(task)}\n`);
  seq.puts(`Tgid:\t${pid}\nNgid:\t0\nPid:\t${pid}\nPPid:\t${task.ppid}\nTracerPid:\t0\n`);
  seq.puts('Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t \n');
  for (const label of ['NStgid', 'NSpid', 'NSpgid', 'NSsid']) seq.puts(`${label}:\t${pid}\n`);
  const line = (label: string, value: number): void => {
    seq.puts(`${label}:\t`).put_dec(value, 8).puts(' kB\n');
  };
  const text = kb(m, mm.end_code - mm.start_code);
  line('VmPeak', kb(m, Math.max(mm.hiwater_vm, mm.total_vm)));
  line('VmSize', kb(m, mm.total_vm));
  line('VmLck', kb(m, mm.locked_vm));
  line('VmPin', 0);
  line('VmHWM', kb(m, Math.max(mm.hiwater_rss, get_mm_rss(mm))));
  line('VmRSS', kb(m, get_mm_rss(mm)));
  line('RssAnon', kb(m, mm.rss_stat[MM_ANONPAGES]!));
  line('RssFile', kb(m, mm.rss_stat[MM_FILEPAGES]!));
  line('RssShmem', 0);
  line('VmData', kb(m, mm.total_vm - mm.shared_vm - mm.stack_vm));
  line('VmStk', kb(m, mm.stack_vm));
  line('VmExe', text);
  line('VmLib', kb(m, mm.exec_vm) - text);
  line('VmPTE', (PTRS_PER_PTE * 8 * mm.nr_ptes) / 1024);
  line('VmSwap', kb(m, mm.rss_stat[MM_SWAPENTS]!));
  line('HugetlbPages', 0);
  seq
    .puts('CoreDumping:\t0\nTHP_enabled:\t1\nThreads:\t1\nSigQ:\t0/')
    .put_dec(Math.floor(m.totalram_pages / 8 / 2))
    .puts('\n');
  const zeroes = '0'.repeat(16);
  for (const label of ['SigPnd', 'ShdPnd', 'SigBlk', 'SigIgn', 'SigCgt', 'CapInh']) {
    seq.puts(`${label}:\t${zeroes}\n`);
  }
  for (const label of ['CapPrm', 'CapEff', 'CapBnd']) seq.puts(`${label}:\t000001ffffffffff\n`);
  seq.puts(`CapAmb:\t${zeroes}\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n`);
  seq.puts('Speculation_Store_Bypass:\tthread vulnerable\n');
  seq.puts('SpeculationIndirectBranch:\tconditional enabled\n');
  const cpus = m.shape.nr_cpus;
  seq.puts(`Cpus_allowed:\t${mask_text(cpus)}\nCpus_allowed_list:\t${list_text(cpus)}\n`);
  const nodes = m.nodes.length;
  seq.puts(`Mems_allowed:\t${mask_text(nodes)}\nMems_allowed_list:\t${list_text(nodes)}\n`);
  seq.puts('voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n');
  return 0;
}

function stat_show(seq: SeqFile, m: Machine, ctx: RowContext): number {
  const task = task_of(ctx);
  const { mm } = task;
  if (mm === null) return -ESRCH;
  const page = 2 ** m.shape.page_shift;
  const state = state_text(task)[0]!;
  seq.puts(`${task.pid} (${task.comm}) ${state} ${task.ppid} ${task.pid} ${task.pid} 0 -1 0 `);
  seq.puts(`${task.min_flt} 0 ${task.maj_flt} 0 0 0 0 0 20 0 1 0 `);
  // Start time in clock ticks of 10 ms, whatever HZ is.
  seq.puts(`${Math.floor(task.start_time / 10)} ${mm.total_vm * page} ${get_mm_rss(mm)} `);
  seq.puts(`18446744073709551615 ${mm.start_code * page} ${mm.end_code * page} `);
  seq.puts(`${mm.start_stack * page} 0 0 0 0 0 0 0 0 0 17 ${m.this_cpu} 0 0 0 0 0 `);
  seq.puts(`0 0 ${mm.start_brk * page} 0 0 0 0 0\n`);
  return 0;
}

function statm_show(seq: SeqFile, _m: Machine, ctx: RowContext): number {
  const { mm } = task_of(ctx);
  if (mm === null) return -ESRCH;
  const shared = mm.rss_stat[MM_FILEPAGES]!;
  seq.puts(`${mm.total_vm} ${shared + mm.rss_stat[MM_ANONPAGES]!} ${shared} `);
  seq.puts(`${mm.end_code - mm.start_code} 0 ${mm.total_vm - mm.shared_vm} 0\n`);
  return 0;
}

const DIR = '/proc/{pid}';

const rows: readonly FileRow<Machine>[] = [
  {
    path: `${DIR}/status`,
    mode: 0o444,
    show: status_show,
    doc: 'name, state, sizes in KiB',
  },
  {
    path: `${DIR}/comm`,
    mode: 0o644,
    show(seq, _m, ctx) {
      const task = task_of(ctx);
      if (task.mm === null) return -ESRCH;
      seq.puts(`${task.comm}\n`);
      return 0;
    },
    // Only a process itself may change it.
    store: () => -EINVAL,
    doc: 'name of the process',
  },
  {
    path: `${DIR}/cmdline`,
    mode: 0o444,
    show(seq, _m, ctx) {
      const task = task_of(ctx);
      if (task.mm === null) return -ESRCH;
      seq.puts(`${task.cmdline.split(' ').join('\0')}\0`);
      return 0;
    },
    doc: 'what was spawned, words separated by NUL',
  },
  {
    path: `${DIR}/stat`,
    mode: 0o444,
    show: stat_show,
    doc: 'the same in one line of numbers',
  },
  {
    path: `${DIR}/statm`,
    mode: 0o444,
    show: statm_show,
    doc: 'sizes in pages: total, resident, file, text, 0, data, 0',
  },
  { path: `${DIR}/maps`, mode: 0o444, show: maps_show, doc: 'areas of the address space' },
  {
    path: `${DIR}/numa_maps`,
    mode: 0o444,
    show: numa_maps_show,
    when: (m) => m.shape.numa,
    doc: 'areas with memory policy and pages per node',
  },
  {
    path: `${DIR}/smaps`,
    mode: 0o444,
    show: smaps_show,
    doc: 'areas with resident, shared, private and swapped sizes',
  },
  {
    path: `${DIR}/pagemap`,
    mode: 0o400,
    read_at(m, pos, buf, ctx) {
      const { mm } = task_of(ctx);
      return mm === null ? -ESRCH : pagemap_read(m, mm, pos, buf);
    },
    doc: 'a 64-bit entry for each virtual page: frame or swap slot',
  },
];

/** /proc/PID of all simulated processes. */
export const proc_pid_directory: RowDirectory<Machine> = {
  path: DIR,
  mode: 0o555,
  names: (m) => [...m.tasks.keys()].sort((a, b) => a - b).map(String),
  find(m, name) {
    if (!/^[1-9][0-9]{0,5}$/.test(name)) return null;
    return m.tasks.get(Number(name)) ?? null;
  },
  rows,
};
