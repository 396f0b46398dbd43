/**
 * `pageblock index`: fragmentation index rows from any /proc/buddyinfo text.
 *
 * Needs no mount and no machine: reads a file or standard input, prints what debugfs'
 * extfrag/unusable_index and extfrag/extfrag_index would show in the same state, byte for byte.
 */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import type { ExtfragWidth, IndexKind } from '../../src/sim/index_text.ts';
import { Failure } from '../transport.ts';

interface IndexOptions {
  readonly unusable?: boolean;
  readonly extfrag?: boolean;
  readonly kernel?: ExtfragWidth;
}

export function registerIndex(program: Command): void {
  program
    .command('index')
    .description('print fragmentation index rows for the text of a /proc/buddyinfo')
    .argument('[file]', 'a buddyinfo text; standard input without it')
    .option('--unusable', 'the rows of extfrag/unusable_index only')
    .option('--extfrag', 'the rows of extfrag/extfrag_index only')
    .option('--kernel <version>', 'whose layout: 2.6.35 (default) or 6.1 and later', parseLayout)
    .addHelpText(
      'after',
      '\nWithout an option both, under a heading each.\n\nExample:\n' +
        '  $ pageblock index --unusable < /proc/buddyinfo\n',
    )
    .action(async (file: string | undefined, options: IndexOptions) => {
      const text = readInput(file);
      const width = options.kernel ?? 0;
      const one = options.unusable !== options.extfrag;
      if (one) {
        process.stdout.write(await rows(text, options.unusable ? 'unusable' : 'extfrag', width));
        return;
      }
      process.stdout.write(
        'unusable_index\n' +
          (await rows(text, 'unusable', width)) +
          'extfrag_index\n' +
          (await rows(text, 'extfrag', width)),
      );
    });
}

/** Later kernels print the whole part of extfrag_index two columns wide; nothing else differs. */
function parseLayout(text: string): ExtfragWidth {
  if (text === '2.6.35') return 0;
  if (text === '6.1') return 2;
  throw new InvalidArgumentError('Choose 2.6.35 or 6.1.');
}

async function rows(text: string, kind: IndexKind, width: ExtfragWidth): Promise<string> {
  const { index_rows } = await import('../../src/sim/index_text.ts');
  const result = index_rows(text, kind, width);
  if ('error' in result) throw new Failure(result.error);
  return result.rows;
}

function readInput(file: string | undefined): string {
  try {
    return readFileSync(file ?? 0, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Failure(`cannot read ${file ?? 'standard input'} (${code}): give a buddyinfo text`);
  }
}
