import type { Client, Kernel } from '../clients.ts';

export interface ClientRow {
  /** The program that must be installed. */
  readonly program: string;
  /** As it stands in the table. */
  readonly command: string;
  /** What is compared with the mount, as it stands in the table. */
  readonly checked: string;
  /** What the table says of a kernel on which the outcome is another. It is checked as well. */
  readonly on?: Partial<Record<Kernel, string>>;
  check(client: Client): Promise<void>;
}

export interface ClientGroup {
  readonly name: string;
  /** Arguments of `pageblock mount`. */
  readonly machine: readonly string[];
  readonly rows: readonly ClientRow[];
}
