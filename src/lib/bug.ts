/**
 * BUG_ON and WARN_ON (include/asm-generic/bug.h). A broken invariant throws KernelBug, which
 * nothing in src/ catches. Messages are literals: building a string per call costs 20 times
 * the check. Details are dumped by whoever catches it (debug_vm: dump_page).
 */
export class KernelBug extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'KernelBug';
  }
}

/** Throws KernelBug when `condition` holds: the state is broken and going on would hide it. */
export function BUG_ON(condition: boolean, message: string): void {
  if (condition) BUG(message);
}

/** Throws KernelBug. */
export function BUG(message: string): never {
  throw new KernelBug(message);
}
