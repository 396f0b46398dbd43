/**
 * Numbers as the kernel reads them from text: the sysctl parser and the strict parsers of sysfs.
 *
 * Text is a string with one character a byte, scanned by index. Numbers wrap at 64 bits and are
 * therefore bigints; files are written seldom. Every oddity here was recorded on the real kernel
 * (test/golden/linux-2.6.35/files, reference C5 to C7): which characters may follow a number, that
 * overflow wraps, that NUL is no end.
 * Linux: lib/vsprintf.c (simple_strtoul, strict_strtoul), kernel/sysctl.c (proc_get_long).
 */
import { EINVAL } from './errno.ts';

/** Longest text that proc_get_long looks at; a number must end before it (TMPBUFLEN - 1). */
const MAX_NUMBER_LENGTH = 21;
const MASK_64 = (1n << 64n) - 1n;

/** ctype.h: isspace. */
export function isspace(c: number): boolean {
  return c === 0x20 || (c >= 0x09 && c <= 0x0d);
}

function isdigit(c: number): boolean {
  return c >= 0x30 && c <= 0x39;
}

/** The value of a digit of base 16, or -1. NaN (behind the end) gives -1. */
function hex_digit(c: number): number {
  if (c >= 0x30 && c <= 0x39) return c - 0x30;
  const lower = c | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}

/** A number and the index behind its last digit. */
export interface ParsedNumber {
  value: bigint;
  end: number;
}

/**
 * Digits from `start` on, no sign, no white space; wraps at 64 bits. Base 0 guesses: 0x before a
 * hex digit is 16, any other leading 0 is 8, the rest 10 (lib/vsprintf.c: simple_strtoull).
 */
export function simple_strtoull(text: string, start: number, base: number): ParsedNumber {
  const prefixed = text.charCodeAt(start) === 0x30 && (text.charCodeAt(start + 1) | 0x20) === 0x78;
  if (base === 0) {
    if (prefixed && hex_digit(text.charCodeAt(start + 2)) >= 0) base = 16;
    else base = text.charCodeAt(start) === 0x30 ? 8 : 10;
  }
  let i = base === 16 && prefixed ? start + 2 : start;
  let value = 0n;
  for (; i < text.length; i++) {
    const digit = hex_digit(text.charCodeAt(i));
    if (digit < 0 || digit >= base) break;
    value = (value * BigInt(base) + BigInt(digit)) & MASK_64;
  }
  return { value, end: i };
}

/** One number of a sysctl write. */
export interface SysctlNumber extends ParsedNumber {
  neg: boolean;
}

/**
 * A number at `start`, without white space before it: optional minus, base guessed; behind it the
 * end of the text, a blank, tab or newline. Returns -EINVAL for anything else, and for 21 or more
 * characters, since the kernel looks no further (kernel/sysctl.c: proc_get_long).
 */
export function proc_get_long(text: string, start: number): SysctlNumber | number {
  if (start >= text.length) return -EINVAL;
  const window = text.slice(start, start + MAX_NUMBER_LENGTH);
  const neg = window.charCodeAt(0) === 0x2d;
  const digits = neg ? 1 : 0;
  if (!isdigit(window.charCodeAt(digits))) return -EINVAL;
  const { value, end } = simple_strtoull(window, digits, 0);
  if (end === MAX_NUMBER_LENGTH) return -EINVAL;
  if (start + end < text.length) {
    const next = text.charCodeAt(start + end);
    if (next !== 0x20 && next !== 0x09 && next !== 0x0a) return -EINVAL;
  }
  return { value, end: start + end, neg };
}

/** The first index from `start` on that is no white space (kernel/sysctl.c: proc_skip_spaces). */
export function skip_spaces(text: string, start: number): number {
  while (start < text.length && isspace(text.charCodeAt(start))) start++;
  return start;
}

/**
 * A whole text that is one number and at most one newline behind it; wraps at 64 bits. A NUL ends
 * the text. Returns -EINVAL for anything else (lib/vsprintf.c: strict_strtoul).
 */
export function strict_strtoul(text: string, base: number): bigint | number {
  const nul = text.indexOf('\0');
  const s = nul < 0 ? text : text.slice(0, nul);
  if (s.length === 0) return -EINVAL;
  const { value, end } = simple_strtoull(s, 0, base);
  if (end === 0) return -EINVAL;
  if (end === s.length || (end === s.length - 1 && s[end] === '\n')) return value;
  return -EINVAL;
}
