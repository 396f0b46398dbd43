/**
 * Filters of trace events: which records of an enabled event are kept.
 *
 * A filter is an expression over the fields of a record, `order > 0 && (gfp_flags == 0x20 || ...)`.
 * It is parsed to postfix with an operator stack, checked against the event's fields, and evaluated
 * over the record before that is written to the ring buffer. A filter that cannot be is refused with
 * EINVAL; then the filter file shows it with the reason below, and the event has no filter.
 * Linux: kernel/trace/trace_events_filter.c of 2.6.35, whose errors all point to the first column.
 * The memory events have no string fields: `~`, for strings only, is always refused.
 */
import { EINVAL, ENOSPC } from '../../lib/errno.ts';
import { isspace, simple_strtoull } from '../../lib/kstrto.ts';
import { find_event_field, type TraceArch } from './trace_events.ts';

const MAX_FILTER_PRED = 32;
const MAX_FILTER_STR_VAL = 256;

/** Operators by rising precedence, two-character ones before their first character alone. */
const OPERATORS: readonly [string, number][] = [
  ['||', 1],
  ['&&', 2],
  ['~', 4],
  ['!=', 4],
  ['==', 4],
  ['<', 5],
  ['<=', 5],
  ['>', 5],
  ['>=', 5],
];

const ERR_INVALID_OP = 'Invalid operator';
const ERR_UNBALANCED_PAREN = 'Unbalanced parens';
const ERR_TOO_MANY_OPERANDS = 'Too many operands';
const ERR_OPERAND_TOO_LONG = 'Operand too long';
const ERR_FIELD_NOT_FOUND = 'Field not found';
const ERR_ILLEGAL_FIELD_OP = 'Illegal operation for field type';
const ERR_ILLEGAL_INTVAL = 'Illegal integer value';
const ERR_BAD_SUBSYS_FILTER = "Couldn't find or set field in one of a subsystem's events";
const ERR_TOO_MANY_PREDS = 'Too many terms in predicate expression';
const ERR_MISSING_FIELD = 'Missing field name and/or value';
const ERR_INVALID_FILTER = 'Meaningless filter expression';

/** One step of a filter in postfix: a comparison of a field, or && or || of the two before. */
export interface FilterPred {
  readonly op: string;
  /** Byte offset and size of the field; size 0 for && and ||. */
  readonly offset: number;
  readonly size: number;
  readonly signed: boolean;
  readonly value: bigint;
}

/** What an event or a subsystem has: the steps, empty without a filter, and the file's text. */
export interface EventFilter {
  preds: FilterPred[];
  text: string | null;
}

class FilterError {
  readonly text: string;
  readonly errno: number;
  constructor(text: string, errno = -EINVAL) {
    this.text = text;
    this.errno = errno;
  }
}

/** An operand or an operator of the postfix expression. */
interface Postfix {
  readonly op: string | null;
  readonly operand: string;
}

function precedence(op: string): number {
  for (const [text, value] of OPERATORS) if (text === op) return value;
  return 0; // an opening parenthesis
}

/** filter_parse: infix to postfix. */
function filter_parse(infix: string): Postfix[] | FilterError {
  const postfix: Postfix[] = [];
  const stack: string[] = [];
  let operand = '';
  const end_operand = (): void => {
    if (operand !== '') postfix.push({ op: null, operand });
    operand = '';
  };
  let in_string = false;
  for (let i = 0; i < infix.length; i++) {
    const ch = infix[i]!;
    if (ch === '"') {
      in_string = !in_string;
      continue;
    }
    if (!in_string) {
      if (isspace(ch.charCodeAt(0))) continue;
      if (OPERATORS.some(([text]) => text[0] === ch)) {
        let op = infix.slice(i, i + 2);
        if (OPERATORS.some(([text]) => text === op)) i++;
        else op = ch;
        if (!OPERATORS.some(([text]) => text === op)) return new FilterError(ERR_INVALID_OP);
        end_operand();
        while (stack.length > 0 && precedence(stack[stack.length - 1]!) >= precedence(op)) {
          postfix.push({ op: stack.pop()!, operand: '' });
        }
        stack.push(op);
        continue;
      }
      if (ch === '(') {
        stack.push('(');
        continue;
      }
      if (ch === ')') {
        end_operand();
        let top = stack.pop();
        for (; top !== undefined && top !== '('; top = stack.pop()) {
          postfix.push({ op: top, operand: '' });
        }
        if (top === undefined) return new FilterError(ERR_UNBALANCED_PAREN);
        continue;
      }
    }
    if (operand.length === MAX_FILTER_STR_VAL - 1) return new FilterError(ERR_OPERAND_TOO_LONG);
    operand += ch;
  }
  end_operand();
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    if (top === '(') return new FilterError(ERR_UNBALANCED_PAREN);
    postfix.push({ op: top, operand: '' });
  }
  return postfix;
}

const is_logical = (op: string): boolean => op === '&&' || op === '||';

/** check_preds, replace_preds: the steps for one event. */
function replace_preds(
  arch: TraceArch,
  event: number,
  postfix: readonly Postfix[],
): FilterPred[] | FilterError {
  const operators = postfix.filter((elt) => elt.op !== null);
  const logical = operators.filter((elt) => is_logical(elt.op!)).length;
  const normal = operators.length - logical;
  if (normal === 0 || logical >= normal) return new FilterError(ERR_INVALID_FILTER);
  const preds: FilterPred[] = [];
  let operands: string[] = [];
  for (const elt of postfix) {
    if (elt.op === null) {
      if (operands.length === 2) return new FilterError(ERR_TOO_MANY_OPERANDS);
      operands.push(elt.operand);
      continue;
    }
    if (preds.length === MAX_FILTER_PRED) return new FilterError(ERR_TOO_MANY_PREDS, -ENOSPC);
    if (is_logical(elt.op)) {
      preds.push({ op: elt.op, offset: 0, size: 0, signed: false, value: 0n });
    } else {
      if (operands.length < 2) return new FilterError(ERR_MISSING_FIELD);
      const pred = create_pred(arch, event, elt.op, operands[0]!, operands[1]!);
      if (pred instanceof FilterError) return pred;
      preds.push(pred);
    }
    operands = [];
  }
  return preds;
}

/** create_pred, filter_add_pred: one comparison of a field with a number. */
function create_pred(
  arch: TraceArch,
  event: number,
  op: string,
  name: string,
  text: string,
): FilterPred | FilterError {
  const field = find_event_field(arch, event, name);
  if (field === undefined) return new FilterError(ERR_FIELD_NOT_FOUND);
  if (op === '~') return new FilterError(ERR_ILLEGAL_FIELD_OP);
  const value = strict_strtoll(text, field.signed);
  if (value === null) return new FilterError(ERR_ILLEGAL_INTVAL);
  // The comparison is one of the field's own type.
  const bits = field.size * 8;
  return {
    op,
    offset: field.offset,
    size: field.size,
    signed: field.signed,
    value: field.signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value),
  };
}

/** A whole text that is one number, with a sign where that is allowed (strict_strtoll). */
function strict_strtoll(text: string, signed: boolean): bigint | null {
  const negative = signed && text[0] === '-';
  const start = negative ? 1 : 0;
  const { value, end } = simple_strtoull(text, start, 0);
  if (end === start || end !== text.length) return null;
  return negative ? -value : value;
}

/**
 * Whether a record passes: its bytes are words of `entry`. An operator that lacks what it combines
 * lets nothing pass, and what was computed last decides (filter_match_preds).
 */
export function filter_match_preds(preds: readonly FilterPred[], entry: Int32Array): boolean {
  const stack: boolean[] = [];
  let match = false;
  for (const pred of preds) {
    if (pred.size === 0) {
      const b = stack.pop();
      const a = stack.pop();
      if (a === undefined || b === undefined) return false;
      match = pred.op === '&&' ? a && b : a || b;
    } else {
      match = compare(pred, field_value(pred, entry));
    }
    stack.push(match);
  }
  return match;
}

function field_value(pred: FilterPred, entry: Int32Array): bigint {
  const at = pred.offset >>> 2;
  const low = BigInt(entry[at]! >>> 0);
  const bits = pred.size * 8;
  let value = low >> BigInt((pred.offset & 3) * 8);
  if (pred.size === 8) value = (BigInt(entry[at + 1]! >>> 0) << 32n) | low;
  return pred.signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
}

function compare(pred: FilterPred, value: bigint): boolean {
  switch (pred.op) {
    case '==':
      return value === pred.value;
    case '!=':
      return value !== pred.value;
    case '<':
      return value < pred.value;
    case '<=':
      return value <= pred.value;
    case '>':
      return value > pred.value;
    default:
      return value >= pred.value;
  }
}

/** What the filter file shows of a filter that was refused (append_filter_err). */
function refused(text: string, error: FilterError): string {
  return `${text}\n^\nparse_error: ${error.text}\n`;
}

/** Text as strstrip leaves it for what follows: blanks behind it are gone, before it stay. */
function strip_tail(text: string): string {
  let end = text.length;
  while (end > 0 && isspace(text.charCodeAt(end - 1))) end--;
  return text.slice(0, end);
}

/** "0" alone takes the filter away. */
function clears(text: string): boolean {
  let start = 0;
  while (start < text.length && isspace(text.charCodeAt(start))) start++;
  return text.slice(start) === '0';
}

/** A write to an event's filter file: 0 or -errno (apply_event_filter). */
export function apply_event_filter(
  arch: TraceArch,
  event: number,
  filter: EventFilter,
  written: string,
): number {
  const text = strip_tail(written);
  filter.preds = [];
  if (clears(text)) {
    filter.text = null;
    return 0;
  }
  filter.text = text;
  const postfix = filter_parse(text);
  const preds = postfix instanceof FilterError ? postfix : replace_preds(arch, event, postfix);
  if (preds instanceof FilterError) {
    filter.text = refused(text, preds);
    return preds.errno;
  }
  filter.preds = preds;
  return 0;
}

/**
 * A write to a subsystem's filter file: every event that has all the fields gets the filter, the
 * others keep theirs; -EINVAL when there is none (apply_subsystem_event_filter).
 */
export function apply_subsystem_event_filter(
  arch: TraceArch,
  events: readonly number[],
  filters: readonly EventFilter[],
  system: EventFilter,
  written: string,
): number {
  const text = strip_tail(written);
  if (clears(text)) {
    for (const event of events) {
      filters[event]!.preds = [];
      filters[event]!.text = null;
    }
    system.text = null;
    return 0;
  }
  system.text = text;
  const postfix = filter_parse(text);
  if (postfix instanceof FilterError) {
    system.text = refused(text, postfix);
    return postfix.errno;
  }
  let fits = false;
  for (const event of events) {
    const preds = replace_preds(arch, event, postfix);
    if (preds instanceof FilterError) continue;
    filters[event]!.preds = preds;
    filters[event]!.text = text;
    fits = true;
  }
  if (fits) return 0;
  system.text = refused(text, new FilterError(ERR_BAD_SUBSYS_FILTER));
  return -EINVAL;
}
