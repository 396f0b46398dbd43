/** The two fragmentation indexes in exact integers, from reference 8.1-8.3. No code of src/. */

export function naive_unusable(nr_free: readonly number[], order: number): number {
  let free = 0n;
  let suitable = 0n;
  nr_free.forEach((blocks, o) => {
    free += BigInt(blocks) << BigInt(o);
    if (o >= order) suitable += BigInt(blocks) << BigInt(o - order);
  });
  if (free === 0n) return 1000;
  return Number(((free - (suitable << BigInt(order))) * 1000n) / free);
}

export function naive_extfrag(nr_free: readonly number[], order: number): number {
  let free = 0n;
  let blocks = 0n;
  nr_free.forEach((n, o) => {
    free += BigInt(n) << BigInt(o);
    blocks += BigInt(n);
  });
  if (blocks === 0n) return 0;
  if (nr_free.some((n, o) => o >= order && n > 0)) return -1000;
  return 1000 - Number((1000n + (free * 1000n) / (1n << BigInt(order))) / blocks);
}

/** C's "%d.%03d" of v / 1000 and v % 1000. */
export function naive_print(v: number): string {
  const text = String(Math.abs(v) % 1000);
  const rest = v % 1000 < 0 ? `-${text.padStart(2, '0')}` : text.padStart(3, '0');
  return `${Math.trunc(v / 1000)}.${rest}`;
}
