/**
 * /sys/kernel/mm/transparent_hugepage of 6.1.
 *
 * Words are taken exactly, numbers as decimals with at most one newline behind them. Recorded:
 * debian-6.1/verbatim/thp.values; for what has not changed since, the refusals of a newer kernel
 * (test/golden/host-6.18). Linux: mm/huge_memory.c, mm/khugepaged.c, mm/shmem.c (shmem_enabled).
 */
import { EINVAL } from '../../lib/errno.ts';
import type { FileRow } from '../../lib/file_row.ts';
import { HPAGE_PMD_NR } from '../../mm/huge_memory.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { DEFRAG, ENABLED, SHMEM_ENABLED, type ThpState, thp_state } from './huge_mm.ts';
import { kstrtoul } from './hugetlb_files.ts';
import { start_stop_khugepaged, wake_khugepaged } from './khugepaged.ts';

const DIR = '/sys/kernel/mm/transparent_hugepage/';
const UINT_MAX = 2n ** 32n - 1n;
/** The longest text that shmem_enabled looks at, with the NUL behind it. */
const SHMEM_TEXT_MAX = 16;

type WordSetting = 'enabled' | 'defrag' | 'shmem_enabled';
type NumberSetting = {
  [K in keyof ThpState]: ThpState[K] extends number ? K : never;
}[keyof ThpState];

/** A file of one word out of several; the one that holds is in brackets. */
function words(
  name: WordSetting,
  all: readonly string[],
  doc: string,
  max_length: number,
  written?: (m: Machine) => void,
): FileRow<Machine> {
  return {
    path: DIR + name,
    mode: 0o644,
    show(seq, m) {
      const now = thp_state(m)![name];
      seq.puts(all.map((word) => (word === now ? `[${word}]` : word)).join(' ')).puts('\n');
    },
    store(m, text) {
      const nul = text.indexOf('\0');
      const word = (nul < 0 ? text : text.slice(0, nul)).replace(/\n$/, '');
      if (text.length > max_length || !all.includes(word)) return -EINVAL;
      (thp_state(m) as Record<WordSetting, string>)[name] = word;
      written?.(m);
      return text.length;
    },
    when: (m) => thp_state(m) !== null,
    doc,
  };
}

/** A file of one number from min to max; `plain` tells overflow as it is, others as EINVAL. */
function number(
  path: string,
  name: NumberSetting,
  min: bigint,
  max: bigint,
  doc: string,
  o: { plain?: true; wakes?: true } = {},
): FileRow<Machine> {
  return {
    path: DIR + path,
    mode: 0o644,
    show: (seq, m) => void seq.put_dec(thp_state(m)![name]).puts('\n'),
    store(m, text) {
      const value = kstrtoul(text);
      if (typeof value === 'number') return o.plain ? value : -EINVAL;
      if (value < min || value > max) return -EINVAL;
      const k = thp_state(m)!;
      k[name] = Number(value);
      if (o.wakes) wake_khugepaged(m, k);
      return text.length;
    },
    when: (m) => thp_state(m) !== null,
    doc,
  };
}

/** A file that is only read. */
function counter(path: string, doc: string, get: (m: Machine) => number): FileRow<Machine> {
  return {
    path: DIR + path,
    mode: 0o444,
    show: (seq, m) => void seq.put_dec(get(m)).puts('\n'),
    when: (m) => thp_state(m) !== null,
    doc,
  };
}

const KHUGEPAGED = 'khugepaged/';
const MAX_PTES = BigInt(HPAGE_PMD_NR - 1);

export const transparent_hugepage_files: readonly FileRow<Machine>[] = [
  words('defrag', DEFRAG, 'what a fault may do to get a huge page', Number.POSITIVE_INFINITY),
  words(
    'enabled',
    ENABLED,
    'which areas get huge pages: all, those that ask by madvise, none',
    Number.POSITIVE_INFINITY,
    start_stop_khugepaged,
  ),
  counter('hpage_pmd_size', 'bytes of a transparent huge page', (m) => {
    return HPAGE_PMD_NR * 2 ** m.shape.page_shift;
  }),
  number(
    `${KHUGEPAGED}alloc_sleep_millisecs`,
    'alloc_sleep_millisecs',
    0n,
    UINT_MAX,
    'how long khugepaged waits after it could not get a huge page',
    { wakes: true },
  ),
  number(
    `${KHUGEPAGED}defrag`,
    'khugepaged_defrag',
    0n,
    1n,
    'whether khugepaged may compact and reclaim for a huge page',
    { plain: true },
  ),
  counter(`${KHUGEPAGED}full_scans`, 'how often all processes were looked at', (m) => {
    return thp_state(m)!.full_scans;
  }),
  number(
    `${KHUGEPAGED}max_ptes_none`,
    'max_ptes_none',
    0n,
    MAX_PTES,
    'pages that may be absent where khugepaged makes a huge page',
  ),
  number(
    `${KHUGEPAGED}max_ptes_shared`,
    'max_ptes_shared',
    0n,
    MAX_PTES,
    'pages that several processes may map there',
  ),
  number(
    `${KHUGEPAGED}max_ptes_swap`,
    'max_ptes_swap',
    0n,
    MAX_PTES,
    'pages that may be swapped out there',
  ),
  counter(`${KHUGEPAGED}pages_collapsed`, 'huge pages that khugepaged made', (m) => {
    return thp_state(m)!.pages_collapsed;
  }),
  number(
    `${KHUGEPAGED}pages_to_scan`,
    'pages_to_scan',
    1n,
    UINT_MAX,
    'pages that khugepaged looks at between two sleeps',
  ),
  number(
    `${KHUGEPAGED}scan_sleep_millisecs`,
    'scan_sleep_millisecs',
    0n,
    UINT_MAX,
    'how long khugepaged sleeps then',
    { wakes: true },
  ),
  words(
    'shmem_enabled',
    SHMEM_ENABLED,
    'which shared memory gets huge pages; kept',
    SHMEM_TEXT_MAX - 1,
  ),
  number(
    'use_zero_page',
    'use_zero_page',
    0n,
    1n,
    'whether a read of untouched memory maps a huge page of zeroes',
    { plain: true },
  ),
];
