/**
 * Whole-number functions that the kernel has for itself, for values below 2^53.
 *
 * Linux: lib/int_sqrt.c (later lib/math/int_sqrt.c), asm-generic/bitops/fls.h.
 */

/** The floor of the square root (int_sqrt.c). */
export function int_sqrt(x: number): number {
  let root = Math.floor(Math.sqrt(x));
  while (root * root > x) root--;
  while ((root + 1) * (root + 1) <= x) root++;
  return root;
}

/** The position of the highest set bit, counted from 1; 0 for 0 (fls). */
export function fls(x: number): number {
  return 32 - Math.clz32(x);
}
