/**
 * Processes: fork, exec, exit.
 *
 * A process takes what it takes in Linux: a task_struct and its companions from their slab caches, a
 * kernel stack of two pages, an address space with its page tables; all of it unmovable. fork copies
 * areas and page tables and shares pages until one side writes. exec gives a fresh address space
 * with a stack. A process that exits is gone at once: its parent is taken to have waited for it.
 * Linux: kernel/fork.c, kernel/exit.c, fs/exec.c of 2.6.35. Differs: no threads, no vdso page, no
 * address randomization; what RCU delays in Linux is freed at once.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EAGAIN, ENOMEM, ESRCH } from '../lib/errno.ts';
import type { Job } from '../lib/kthread.ts';
import { GFP_KERNEL } from './gfp.ts';
import { is_vm_hugetlb_page } from './hugetlb.ts';
import { put_page } from './lru.ts';
import { copy_page_range, finish_wait_on_page, get_user_page, zap_page_range } from './memory.ts';
import { munlock_vma_pages_range } from './mlock.ts';
import {
  alloc_pid,
  EXIT_DEAD,
  EXIT_ZOMBIE,
  type MmStruct,
  TASK_SIZE_PAGES,
  Task,
  VM_ACCOUNT,
  VM_DONTCOPY,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_LOCKED,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYWRITE,
  VM_READ,
  VM_STACK_INCOMPLETE_SETUP,
  VM_WRITE,
  VmArea,
} from './mm_types.ts';
import {
  copy_vma_struct,
  get_file,
  insert_vm_struct,
  mm_alloc,
  mmput,
  vm_enough_memory,
  vm_stat_account,
} from './mmap.ts';
import { type Machine, page_zone } from './mmzone.ts';
import { next_mapped } from './page_table.ts';
import {
  PROC_CRED,
  PROC_FILES,
  PROC_FS,
  PROC_PID,
  PROC_SIGHAND,
  PROC_SIGNAL,
  PROC_TASK_STRUCT,
  PROC_VMA,
  proc_object_alloc,
  proc_object_free,
} from './proc_caches.ts';
import { anon_vma_fork } from './rmap.ts';
import { mod_zone_page_state, NR_KERNEL_STACK } from './vmstat.ts';

/** The slab objects of a task, in the order in which fork takes them; the pid comes after the mm. */
const TASK_OBJECTS = [
  PROC_TASK_STRUCT,
  PROC_CRED,
  PROC_FILES,
  PROC_FS,
  PROC_SIGHAND,
  PROC_SIGNAL,
  PROC_PID,
];

/** Flags of a stack area (mm.h: VM_STACK_FLAGS). */
export const VM_STACK_FLAGS =
  VM_GROWSDOWN | VM_READ | VM_WRITE | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_ACCOUNT;
/** By how much exec grows the new stack (fs/exec.c: setup_arg_pages). */
const STACK_EXPAND_BYTES = 131072;
/** Where programs begin: address 0x400000; the heap follows a small program's data. */
const CODE_START_BYTES = 0x400000;
const HEAP_START_BYTES = 0x602000;

/** Order of a kernel stack: 8 KiB, on ppc64 16 KiB (thread_info.h: THREAD_ORDER). */
export function thread_order(m: Machine): number {
  const bytes = m.shape.machine.startsWith('ppc64') ? 16384 : 8192;
  return Math.max(0, Math.log2(bytes) - m.shape.page_shift);
}

/** A task with its kernel memory but without an address space; null without memory. */
function dup_task_struct(m: Machine, ppid: number, comm: string): Task | null {
  const pid = alloc_pid(m);
  if (pid < 0) return null;
  const task = new Task(pid, ppid, comm, null);
  task.start_time = m.clock.now_ms;
  for (let i = 0; i < TASK_OBJECTS.length - 1; i++) {
    if (!alloc_task_object(m, task) || (i === 0 && !alloc_thread_info(m, task))) {
      free_task(m, task);
      return null;
    }
  }
  return task;
}

/** The next of TASK_OBJECTS: false without memory. */
function alloc_task_object(m: Machine, task: Task): boolean {
  const object = proc_object_alloc(m, TASK_OBJECTS[task.objects.length]!);
  if (object === 0) return false;
  task.objects.push(object);
  return true;
}

function alloc_thread_info(m: Machine, task: Task): boolean {
  task.stack = m.kernel.alloc_pages(m, GFP_KERNEL, thread_order(m));
  if (task.stack < 0) return false;
  mod_zone_page_state(page_zone(m, task.stack), NR_KERNEL_STACK, 1);
  return true;
}

/** Gives all kernel memory of a task back, the youngest first (fork.c: free_task). */
function free_task(m: Machine, task: Task): void {
  for (let i = task.objects.length - 1; i > 0; i--) {
    proc_object_free(m, TASK_OBJECTS[i]!, task.objects[i]!);
  }
  if (task.stack >= 0) {
    mod_zone_page_state(page_zone(m, task.stack), NR_KERNEL_STACK, -1);
    m.kernel.__free_pages(m, task.stack, thread_order(m));
    task.stack = -1;
  }
  if (task.objects.length > 0) proc_object_free(m, PROC_TASK_STRUCT, task.objects[0]!);
  task.objects.length = 0;
}

/** Copies the areas and page tables of a process: 0 or -ENOMEM (fork.c: dup_mmap). */
function dup_mmap(m: Machine, mm: MmStruct, oldmm: MmStruct): number {
  mm.total_vm = oldmm.total_vm;
  mm.shared_vm = oldmm.shared_vm;
  mm.exec_vm = oldmm.exec_vm;
  mm.stack_vm = oldmm.stack_vm;
  mm.reserved_vm = oldmm.reserved_vm;
  mm.free_area_cache = oldmm.mmap_base;
  if ((m.kernel.ksm?.ksm_fork(m, mm, oldmm) ?? 0) !== 0) return -ENOMEM;
  m.kernel.thp?.khugepaged_fork(m, mm, oldmm);
  for (const mpnt of oldmm.mmap) {
    const pages = mpnt.vm_end - mpnt.vm_start;
    if ((mpnt.vm_flags & VM_DONTCOPY) !== 0) {
      mm.total_vm -= pages;
      vm_stat_account(mm, mpnt.vm_flags, mpnt.vm_file, -pages);
      continue;
    }
    const accounted = (mpnt.vm_flags & VM_ACCOUNT) !== 0;
    if (accounted && vm_enough_memory(m, pages) !== 0) return -ENOMEM;
    const tmp = copy_vma_struct(m, mm, mpnt);
    if (tmp === null) {
      if (accounted) m.vm_committed_as -= pages;
      return -ENOMEM;
    }
    if (anon_vma_fork(m, tmp, mpnt) !== 0) {
      proc_object_free(m, PROC_VMA, tmp.object);
      if (accounted) m.vm_committed_as -= pages;
      return -ENOMEM;
    }
    tmp.vm_flags &= ~VM_LOCKED;
    if (tmp.vm_file !== null) get_file(tmp.vm_file);
    insert_vm_struct(mm, tmp);
    const err = copy_page_range(m, mm, oldmm, mpnt);
    if (err !== 0) return err;
  }
  return 0;
}

/** A copy of an address space, or null without memory (fork.c: dup_mm). */
function dup_mm(m: Machine, oldmm: MmStruct): MmStruct | null {
  const mm = mm_alloc(m);
  if (mm === null) return null;
  mm.start_code = oldmm.start_code;
  mm.end_code = oldmm.end_code;
  mm.start_data = oldmm.start_data;
  mm.end_data = oldmm.end_data;
  mm.start_brk = oldmm.start_brk;
  mm.brk = oldmm.brk;
  mm.start_stack = oldmm.start_stack;
  mm.policy = oldmm.policy;
  mm.policy_nid = oldmm.policy_nid;
  if (dup_mmap(m, mm, oldmm) !== 0) {
    mmput(m, mm);
    return null;
  }
  mm.hiwater_rss = mm.rss_stat[0]! + mm.rss_stat[1]!;
  mm.hiwater_vm = mm.total_vm;
  return mm;
}

/**
 * Runs `call` on behalf of a task, which allocations and the OOM killer then know, and ends the
 * task if the killer chose it meanwhile.
 */
export function run_as<T>(m: Machine, task: Task, call: () => T): T {
  const current = m.current;
  m.current = task;
  const result = call();
  m.current = current;
  finish_call(m, task);
  return result;
}

/** The way back to user mode: true when the task was to die of an OOM kill, and is dead now. */
export function finish_call(m: Machine, task: Task): boolean {
  if (task.mm === null || !task.mm.oom_victim) return false;
  do_exit(m, task, 9);
  return true;
}

/** fork(2): the child, or -EAGAIN (no pid), -ENOMEM (fork.c: copy_process). */
export function do_fork(m: Machine, parent: Task): Task | number {
  if (parent.mm === null) return -ESRCH;
  if (m.tasks.size >= 32768 - 300) return -EAGAIN;
  const task = dup_task_struct(m, parent.pid, parent.comm);
  if (task === null) return -ENOMEM;
  task.cmdline = parent.cmdline;
  task.lineage = [...parent.lineage, task.pid];
  task.same = parent.same;
  const current = m.current;
  m.current = parent;
  const mm = dup_mm(m, parent.mm);
  const has_pid = mm !== null && alloc_task_object(m, task);
  m.current = current;
  if (mm === null || !has_pid) {
    if (mm !== null) mmput(m, mm);
    free_task(m, task);
    return -ENOMEM;
  }
  task.mm = mm;
  parent.nr_forked++;
  m.tasks.set(task.pid, task);
  return task;
}

/**
 * A new process with an empty program, as a child of init: the task, or -EAGAIN, -ENOMEM. It has a
 * stack whose first page is in use.
 */
export function create_process(m: Machine, comm: string): Task | number {
  if (m.tasks.size >= 32768 - 300) return -EAGAIN;
  const task = dup_task_struct(m, 1, comm.slice(0, 15));
  if (task === null) return -ENOMEM;
  task.cmdline = comm;
  m.tasks.set(task.pid, task);
  const err = do_execve(m, task, comm);
  if (err === 0 && alloc_task_object(m, task)) return task;
  do_exit(m, task, 1);
  return err !== 0 ? err : -ENOMEM;
}

/**
 * exec(2) of an empty program: a fresh address space with a stack and room for a heap. 0 or
 * -ENOMEM, and then the old address space stays (fs/exec.c: do_execve).
 */
export function do_execve(m: Machine, task: Task, comm: string): number {
  const mm = mm_alloc(m);
  if (mm === null) return -ENOMEM;
  if (task.mm !== null) {
    mm.policy = task.mm.policy;
    mm.policy_nid = task.mm.policy_nid;
  }
  const stack = setup_stack(m, mm);
  if (stack !== 0) {
    mmput(m, mm);
    return stack;
  }
  const shift = m.shape.page_shift;
  mm.start_code = Math.ceil(CODE_START_BYTES / 2 ** shift);
  mm.end_code = mm.start_code;
  mm.start_brk = Math.ceil(HEAP_START_BYTES / 2 ** shift);
  mm.brk = mm.start_brk;
  mm.start_data = mm.start_brk;
  mm.end_data = mm.start_brk;
  const old = task.mm;
  task.mm = mm;
  task.comm = comm.slice(0, 15);
  task.cmdline = comm;
  finish_wait_on_page(m, task);
  if (old !== null) mmput(m, old);
  return 0;
}

/**
 * The stack of a new program: one page with its arguments, in an area that migration leaves alone
 * until it has its final place (fs/exec.c: __bprm_mm_init, setup_arg_pages).
 */
function setup_stack(m: Machine, mm: MmStruct): number {
  const object = proc_object_alloc(m, PROC_VMA);
  if (object === 0) return -ENOMEM;
  const top = TASK_SIZE_PAGES;
  const flags = VM_STACK_FLAGS | VM_STACK_INCOMPLETE_SETUP;
  const vma = new VmArea(mm, top - 1, top, flags, top - 1);
  vma.object = object;
  insert_vm_struct(mm, vma);
  mm.total_vm = 1;
  mm.stack_vm = 1;
  m.vm_committed_as += 1;
  const page = get_user_page(m, vma, top - 1, true);
  if (page < 0) return page;
  put_page(m, page);
  vma.vm_flags &= ~VM_STACK_INCOMPLETE_SETUP;
  const grow = STACK_EXPAND_BYTES / 2 ** m.shape.page_shift;
  if (grow >= 1) {
    vma.vm_start -= grow;
    vma.vm_pgoff -= grow;
    mm.total_vm += grow;
    mm.stack_vm += grow;
    m.vm_committed_as += grow;
  }
  mm.start_stack = top - 1;
  return 0;
}

/** exit(2) or a deadly signal: everything is given back (exit.c: do_exit, release_task). */
export function do_exit(m: Machine, task: Task, code: number): void {
  BUG_ON(task.state === EXIT_DEAD, 'do_exit: the process has exited already');
  task.exit_code = code;
  finish_wait_on_page(m, task);
  const mm = task.mm;
  task.mm = null;
  if (mm !== null) mmput(m, mm);
  for (let i = 0; i < task.kernel_pages.length; i += 2) {
    m.kernel.__free_pages(m, task.kernel_pages[i]!, task.kernel_pages[i + 1]!);
  }
  task.kernel_pages.length = 0;
  task.state = EXIT_DEAD;
  m.tasks.delete(task.pid);
  // Children become init's.
  if (task.nr_forked > 0) {
    for (const child of m.tasks.values()) if (child.ppid === task.pid) child.ppid = 1;
  }
  free_task(m, task);
}

/** Pages that are unmapped between two points where other work may run. */
const EXIT_SLICE = 512;

/** False when a process is gone, or on its way. */
export function is_alive(m: Machine, task: Task): boolean {
  return m.tasks.get(task.pid) === task && task.state !== EXIT_ZOMBIE;
}

/**
 * do_exit in slices: pages go in the order in which do_exit frees them, the rest at the end. From
 * the first slice on the process does nothing any more. (unmap_vmas with its cond_resched)
 */
export function* do_exit_job(m: Machine, task: Task, code: number): Job<void> {
  if (!is_alive(m, task)) return;
  task.state = EXIT_ZOMBIE;
  const areas = task.mm === null || task.mm.mm_users > 1 ? [] : task.mm.mmap.slice();
  const slices = function* (vma: VmArea, work: typeof zap_page_range): Job<void> {
    for (let vpn = vma.vm_start; vpn < vma.vm_end; ) {
      // Whole page tables at a time; holes cost nothing.
      vpn = next_mapped(vma.vm_mm, vpn, vma.vm_end);
      const end = Math.min(vma.vm_end, (Math.floor(vpn / EXIT_SLICE) + 1) * EXIT_SLICE);
      if (vpn < end) work(m, vma, vpn, end);
      vpn = end;
      yield;
      if (m.tasks.get(task.pid) !== task) return;
    }
  };
  for (const vma of areas) {
    if ((vma.vm_flags & VM_LOCKED) !== 0) yield* slices(vma, munlock_vma_pages_range);
    if (m.tasks.get(task.pid) !== task) return;
  }
  for (const vma of areas) {
    // Huge pages are few, and no slice may cut one.
    if (is_vm_hugetlb_page(vma)) continue;
    yield* slices(vma, zap_page_range);
    if (m.tasks.get(task.pid) !== task) return;
  }
  do_exit(m, task, code);
}

/** Ends a process from outside: 0 or -ESRCH (kill -9). */
export function kill_process(m: Machine, pid: number): number {
  const task = m.tasks.get(pid);
  if (task === undefined) return -ESRCH;
  do_exit(m, task, 9);
  return 0;
}
