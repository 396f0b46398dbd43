/**
 * Pages on their way out of an address space: collected while ptes are cleared, freed afterwards.
 *
 * With one CPU a page is freed at once; with more, up to 506 pages wait until no CPU can use them
 * through its TLB, and are then freed in groups of a pagevec. Page table pages go the same way.
 * Linux: include/asm-generic/tlb.h (struct mmu_gather). Differs: one per call, not one per CPU.
 */
import type { Machine } from './mmzone.ts';
import type { pfn_t } from './page.ts';
import { free_page_and_swap_cache, free_pages_and_swap_cache } from './swap_state.ts';

const FREE_PTE_NR = 506;

export class MmuGather {
  private readonly fast: boolean;
  private readonly pages: Int32Array;
  private nr = 0;

  /** tlb_gather_mmu */
  constructor(m: Machine) {
    this.fast = m.shape.nr_cpus === 1;
    this.pages = new Int32Array(this.fast ? 0 : FREE_PTE_NR);
  }

  /** Drops a reference to the page, now or with the next flush. */
  tlb_remove_page(m: Machine, pfn: pfn_t): void {
    if (this.fast) {
      free_page_and_swap_cache(m, pfn);
      return;
    }
    this.pages[this.nr++] = pfn;
    if (this.nr === FREE_PTE_NR) this.tlb_flush_mmu(m);
  }

  private tlb_flush_mmu(m: Machine): void {
    const nr = this.nr;
    this.nr = 0;
    free_pages_and_swap_cache(m, this.pages, nr);
  }

  /** tlb_finish_mmu */
  tlb_finish_mmu(m: Machine): void {
    if (this.nr > 0) this.tlb_flush_mmu(m);
  }
}
