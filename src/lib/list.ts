/**
 * Circular doubly linked lists by index (include/linux/list.h).
 *
 * A link is a row of two Int32 columns; a list head is a row too, so there is no null case and
 * every operation is a handful of typed array stores. In the memmap rows 0..nr_pages-1 are page
 * frames and the rows behind them are heads. Differs from Linux: an unlinked row holds 0 in both
 * columns (Linux poisons), so that fresh zeroed memory means "on no list"; row 0 can therefore
 * never be on a list (frame 0 is reserved on every machine).
 */
import { BUG_ON } from './bug.ts';

/** The two columns. `next[x] === 0` means that x is on no list. */
export interface Links {
  readonly next: Int32Array;
  readonly prev: Int32Array;
}

export function INIT_LIST_HEAD(l: Links, head: number): void {
  l.next[head] = head;
  l.prev[head] = head;
}

function __list_add(l: Links, x: number, prev: number, next: number): void {
  BUG_ON(l.next[x] !== 0, 'list_add: the entry is on a list already');
  l.prev[next] = x;
  l.next[x] = next;
  l.prev[x] = prev;
  l.next[prev] = x;
}

/** Inserts x right after `head`: at the front of the list. */
export function list_add(l: Links, x: number, head: number): void {
  __list_add(l, x, head, l.next[head]!);
}

/** Inserts x right before `head`: at the end of the list. */
export function list_add_tail(l: Links, x: number, head: number): void {
  __list_add(l, x, l.prev[head]!, head);
}

/** Takes x off whatever list it is on. */
export function list_del(l: Links, x: number): void {
  const next = l.next[x]!;
  const prev = l.prev[x]!;
  BUG_ON(next === 0, 'list_del: the entry is on no list');
  l.prev[next] = prev;
  l.next[prev] = next;
  l.next[x] = 0;
  l.prev[x] = 0;
}

export function list_move(l: Links, x: number, head: number): void {
  list_del(l, x);
  list_add(l, x, head);
}

export function list_move_tail(l: Links, x: number, head: number): void {
  list_del(l, x);
  list_add_tail(l, x, head);
}

export function list_empty(l: Links, head: number): boolean {
  return l.next[head] === head;
}

/** True when row x is linked into some list. */
export function list_linked(l: Links, x: number): boolean {
  return l.next[x] !== 0;
}

/** Moves all entries of `from` to the front of `to`, in their order; `from` is empty afterwards. */
export function list_splice_init(l: Links, from: number, to: number): void {
  if (list_empty(l, from)) return;
  const first = l.next[from]!;
  const last = l.prev[from]!;
  const at = l.next[to]!;
  l.prev[first] = to;
  l.next[to] = first;
  l.next[last] = at;
  l.prev[at] = last;
  INIT_LIST_HEAD(l, from);
}

/** The entries from head to tail, as an array: for dumps and checks, never on a hot path. */
export function list_entries(l: Links, head: number): number[] {
  const entries: number[] = [];
  for (let x = l.next[head]!; x !== head; x = l.next[x]!) entries.push(x);
  return entries;
}
