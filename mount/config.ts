/**
 * The options of `pageblock mount`, from text to values, with one clear line for each mistake.
 */
import { InvalidArgumentError } from 'commander';

export interface MountOptions {
  readonly kernel: '2.6.35' | '6.1';
  readonly compaction: boolean;
  readonly machine: 'x86_64' | 'x86' | 'ppc64';
  readonly memory: number;
  readonly nodes: number;
  /** false: a kernel built without NUMA. */
  readonly numa: boolean;
  /** Bytes of a page: 65536 only on ppc64. */
  readonly pageSize: number;
  /** Bytes of a second size of huge pages: 1 GiB. */
  readonly hugepagesz?: number;
  /** Bytes of swap; none by default. */
  readonly swap?: number;
  readonly cpus?: number;
  readonly seed?: number;
  readonly disk?: string;
  /** A machine file (machine_file.ts). */
  readonly config?: string;
  /** Faults as sim/test_files.ts describes them. */
  readonly fault?: readonly string[];
  readonly foreground?: boolean;
  readonly allowOther?: boolean;
}

const UNITS: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** A size such as 512M or 2G, in bytes. */
export function parseSize(text: string): number {
  const match = /^(\d+)([KMGT]?)(?:i?B)?$/i.exec(text);
  if (match === null) throw new InvalidArgumentError('A size such as 512M or 2G is needed.');
  const size = Number(match[1]) * (UNITS[(match[2] ?? '').toUpperCase()] ?? 1);
  if (!Number.isSafeInteger(size) || size === 0) {
    throw new InvalidArgumentError('A size such as 512M or 2G is needed.');
  }
  return size;
}

export function parseCount(text: string): number {
  if (!/^[1-9]\d*$/.test(text) || !Number.isSafeInteger(Number(text))) {
    throw new InvalidArgumentError('A whole number from 1 on is needed.');
  }
  return Number(text);
}

/** The size of a page: 4K or 64K. */
export function parsePageSize(text: string): number {
  const size = parseSize(text);
  if (size !== 4096 && size !== 65536) throw new InvalidArgumentError('Choose 4K or 64K.');
  return size;
}

/** A further size of huge pages, as the boot parameter of this name takes it: 1G. */
export function parseHugePageSize(text: string): number {
  const size = parseSize(text);
  if (size !== 2 ** 30) throw new InvalidArgumentError('Choose 1G; 2M is always there.');
  return size;
}

export function parseSeed(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) > 0xffffffff) {
    throw new InvalidArgumentError('A whole number from 0 to 4294967295 is needed.');
  }
  return Number(text);
}

export function parseKernel(text: string): '2.6.35' | '6.1' {
  if (text !== '2.6.35' && text !== '6.1') {
    throw new InvalidArgumentError('Choose 2.6.35 or 6.1.');
  }
  return text;
}

export function parseMachine(text: string): 'x86_64' | 'x86' | 'ppc64' {
  if (text !== 'x86_64' && text !== 'x86' && text !== 'ppc64') {
    throw new InvalidArgumentError('Choose x86_64, x86 or ppc64.');
  }
  return text;
}

export function formatSize(bytes: number): string {
  for (const [unit, size] of [
    ['T', 2 ** 40],
    ['G', 2 ** 30],
    ['M', 2 ** 20],
    ['K', 2 ** 10],
  ] as const) {
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return String(bytes);
}
