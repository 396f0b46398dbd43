/**
 * /sys/kernel/mm/ksm of 6.1: what it has beside the files of all kernels.
 *
 * Linux: mm/ksm.c (v6.1). Which files there are is 6.1's, what writes return is recorded of a newer
 * kernel (host-6.18). Differs: max_page_sharing, merge_across_nodes, use_zero_pages and
 * stable_node_chains_prune_millisecs are kept without effect: a merged page has any number of users,
 * from any node, so that there are no chains and no copies of it; empty pages merge like others.
 */
import { counter_row, KSM, ksm_files, tunable_row } from '../../fs/sysfs/ksm.ts';
import { EBUSY, EINVAL, ERANGE } from '../../lib/errno.ts';
import type { FileRow } from '../../lib/file_row.ts';
import { type KsmState, ksm_state, ksm_state_of } from '../../mm/ksm_def.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { kstrtoul } from './hugetlb_files.ts';

const INT_MAX = 2n ** 31n - 1n;

type Switch = 'max_page_sharing' | 'merge_across_nodes' | 'use_zero_pages';

function row(
  name: Switch,
  value: number,
  store: (k: KsmState, text: string) => number,
  doc: string,
): FileRow<Machine> {
  return {
    path: `${KSM}/${name}`,
    mode: 0o644,
    show: (seq, m) => void seq.put_dec(ksm_state(m)?.[name] ?? value).puts('\n'),
    store(m, text) {
      const err = store(ksm_state_of(m), text);
      return err < 0 ? err : text.length;
    },
    doc,
  };
}

/** Sets what cannot change while there are merged pages. */
function set_unless_busy(k: KsmState, name: Switch, value: number): number {
  if (k[name] === value) return 0;
  if (k.pages_shared > 0) return -EBUSY;
  k[name] = value;
  return 0;
}

/** kstrtoint, of which numbers below 2 are refused. */
function max_page_sharing_store(k: KsmState, text: string): number {
  const negative = text.startsWith('-');
  const value = kstrtoul(negative ? text.slice(1) : text);
  if (typeof value === 'number') return value;
  if (value > INT_MAX + (negative ? 1n : 0n)) return -ERANGE;
  if (negative || value < 2n) return -EINVAL;
  return set_unless_busy(k, 'max_page_sharing', Number(value));
}

function merge_across_nodes_store(k: KsmState, text: string): number {
  const value = kstrtoul(text);
  if (typeof value === 'number') return value;
  return value > 1n ? -EINVAL : set_unless_busy(k, 'merge_across_nodes', Number(value));
}

/** lib/kstrtox.c: kstrtobool looks at one letter, at two of `on` and `off`. */
function use_zero_pages_store(k: KsmState, text: string): number {
  const word = /^(?:([yt1])|([nf0])|o(?:(n)|f))/i.exec(text);
  if (word === null) return -EINVAL;
  k.use_zero_pages = word[1] !== undefined || word[3] !== undefined ? 1 : 0;
  return 0;
}

export const ksm_files_6_1: readonly FileRow<Machine>[] = [
  ...ksm_files(kstrtoul),
  {
    ...row('merge_across_nodes', 1, merge_across_nodes_store, 'merge pages of several nodes; kept'),
    when: (m) => m.shape.numa,
  },
  row('max_page_sharing', 256, max_page_sharing_store, 'users that a merged page may have; kept'),
  counter_row('stable_node_chains', () => 0, 'contents with several merged pages'),
  counter_row('stable_node_dups', () => 0, 'merged pages beside the first of such a content'),
  tunable_row(
    kstrtoul,
    'stable_node_chains_prune_millisecs',
    2000,
    'how often chains are looked through; kept',
  ),
  row('use_zero_pages', 0, use_zero_pages_store, 'merge empty pages with the page of zeroes; kept'),
];
