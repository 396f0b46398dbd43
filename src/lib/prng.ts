/**
 * The seeded generator: xoshiro128** (Blackman and Vigna, 2018), seeded through splitmix32.
 * Integer results only, so that every engine gives the same sequence. `fork` gives each user a
 * stream of its own: a draw added in one place does not shift all others.
 */
export class Prng {
  private s: Uint32Array = new Uint32Array(4);

  constructor(seed: number) {
    let x = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      x = (x + 0x9e3779b9) >>> 0;
      let z = x;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      this.s[i] = (z ^ (z >>> 16)) >>> 0;
    }
  }

  /** The next 32 random bits, 0 .. 2^32-1. */
  u32(): number {
    const s = this.s;
    const s1 = s[1]!;
    let r = Math.imul(s1, 5);
    r = Math.imul((r << 7) | (r >>> 25), 9);
    const t = s1 << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s1;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    const s3 = s[3]!;
    s[3] = (s3 << 11) | (s3 >>> 21);
    return r >>> 0;
  }

  /** A uniform integer in 0 .. n-1, for 1 <= n <= 2^32; without modulo bias. */
  below(n: number): number {
    const limit = 4294967296 - (4294967296 % n);
    for (;;) {
      const r = this.u32();
      if (r < limit) return r % n;
    }
  }

  /** A uniform integer in a .. b, both included. */
  range(a: number, b: number): number {
    return a + this.below(b - a + 1);
  }

  /** True in num of den cases. */
  chance(num: number, den: number): boolean {
    return this.below(den) < num;
  }

  /** An index into `weights`, drawn in proportion to them. */
  weighted(weights: readonly number[]): number {
    let total = 0;
    for (const w of weights) total += w;
    let r = this.below(total);
    for (let i = 0; i < weights.length; i++) {
      r -= weights[i]!;
      if (r < 0) return i;
    }
    return weights.length - 1;
  }

  /** A generator of its own for the user `name`; does not advance this one. */
  fork(name: string): Prng {
    let h = 2166136261;
    for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 16777619);
    return new Prng((this.s[0]! ^ this.s[3]! ^ h) >>> 0);
  }
}
