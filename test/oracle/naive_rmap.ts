/**
 * Reverse mapping without any: every page table of every process is scanned. Reads the machine's
 * data (tasks, areas, page table words) and shares no function with src/.
 */

interface Table {
  readonly pfn: number;
  readonly ptes: Int32Array | null;
  readonly tables: (Table | null)[] | null;
  /** Entries that map a huge page: words like ptes. */
  readonly pmds?: Int32Array | null;
}

interface Mm {
  pgd: Table | null;
  mmap: { vm_start: number; vm_end: number }[];
}

export interface NaiveMapping {
  pid: number;
  mm: Mm;
  vpn: number;
  /** By an entry of an upper table, together with 511 others. */
  whole: boolean;
}

/** By frame: who maps it. The pte word: bit 0 present, pfn from bit 4 on. */
export function naive_mappings(
  tasks: Iterable<{ pid: number; mm: Mm | null }>,
): Map<number, NaiveMapping[]> {
  const by_pfn: Map<number, NaiveMapping[]> = new Map();
  for (const task of tasks) {
    const { mm, pid } = task;
    if (mm === null || mm.pgd === null) continue;
    const add = (pfn: number, vpn: number, whole: boolean): void => {
      const list = by_pfn.get(pfn);
      if (list === undefined) by_pfn.set(pfn, [{ pid, mm, vpn, whole }]);
      else list.push({ pid, mm, vpn, whole });
    };
    const visit = (table: Table, first: number, span: number): void => {
      if (table.ptes !== null) {
        table.ptes.forEach((pte, i) => {
          if ((pte & 1) !== 0) add(pte >>> 4, first + i, false);
        });
        return;
      }
      table.pmds?.forEach((pmd, i) => {
        if ((pmd & 1) === 0) return;
        for (let k = 0; k < 512; k++) add((pmd >>> 4) + k, first + i * 512 + k, true);
      });
      table.tables!.forEach((below, i) => {
        if (below !== null) visit(below, first + i * span, span / 512);
      });
    };
    visit(mm.pgd, 0, 512 ** 3);
  }
  return by_pfn;
}
