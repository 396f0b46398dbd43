/**
 * A machine in a file: `pageblock mount MNT --config FILE`.
 *
 * Lines `name = value` with the names of mount's options, and lines `/path = text`, which are
 * written to the virtual files of the booted machine in their order, before anybody sees it. An
 * option on the command line beats the file's. Empty lines and lines that begin with # are nothing.
 */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { CommanderError } from 'commander';
import { O_WRONLY, type Vnode } from '../src/fs/vfs.ts';
import { is_job, run_job } from '../src/index.ts';
import { errno_name } from '../src/lib/errno.ts';
import { Failure } from './transport.ts';

export interface MachineFileLine {
  readonly where: string;
  readonly name: string;
  readonly value: string;
}

/** The lines of a machine file. Throws a Failure. */
export function readMachineFile(file: string): MachineFileLine[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Failure(`cannot read ${file} (${code}): --config needs a machine file`);
  }
  const lines: MachineFileLine[] = [];
  text.split('\n').forEach((line, index) => {
    if (/^\s*(#|$)/.test(line)) return;
    const match = /^\s*(\S+?)\s*=\s*(.*?)\s*$/.exec(line);
    const where = `${file}:${index + 1}`;
    if (match === null) throw new Failure(`${where}: a line is 'name = value' or '/path = text'`);
    lines.push({ where, name: match[1]!, value: match[2]! });
  });
  return lines;
}

/** The options of a command with those of a machine file where the command line says nothing. */
export function withMachineFile<T extends { config?: string }>(command: Command, given: T): T {
  if (given.config === undefined) return given;
  const options: Record<string, unknown> = { ...given };
  for (const { where, name, value } of readMachineFile(given.config)) {
    if (name.startsWith('/')) continue;
    const option = command.options.find(
      ({ long }) => long === `--${name}` || long === `--no-${name}`,
    );
    if (option === undefined || ['config', 'foreground', 'fault'].includes(name)) {
      throw new Failure(`${where}: mount has no option ${name}`);
    }
    const key = option.attributeName();
    if (command.getOptionValueSource(key) === 'cli') continue;
    options[key] = option.required ? parsed(where, option, value) : yesOrNo(where, value);
  }
  return options as T;
}

interface Parser {
  parseArg?: ((value: string, previous: never) => unknown) | undefined;
}

function parsed(where: string, option: Parser, value: string): unknown {
  try {
    return option.parseArg?.(value, undefined as never) ?? value;
  } catch (error) {
    if (error instanceof CommanderError) throw new Failure(`${where}: ${error.message}`);
    throw error;
  }
}

function yesOrNo(where: string, value: string): boolean {
  if (value !== 'yes' && value !== 'no') throw new Failure(`${where}: choose yes or no`);
  return value === 'yes';
}

/** Writes the texts of a machine file to the virtual files. Throws a Failure. */
export function writeMachineFile(root: Vnode, uid: number, gid: number, file: string): void {
  for (const { where, name, value } of readMachineFile(file)) {
    if (!name.startsWith('/')) continue;
    const result = writeText(root, name, `${value}\n`, { uid, gid, pid: 0 });
    if (result < 0)
      throw new Failure(`${where}: ${name} refused '${value}' (${errno_name(result)})`);
  }
}

function writeText(
  root: Vnode,
  path: string,
  text: string,
  caller: { uid: number; gid: number; pid: number },
): number {
  let node = root;
  for (const name of path.split('/').slice(1)) {
    const next = node.lookup(name);
    if (typeof next === 'number') return next;
    node = next;
  }
  const file = node.open(O_WRONLY, caller);
  if (typeof file === 'number') return file;
  const result = file.write(Buffer.from(text), 0);
  const taken = is_job(result) ? run_job(result) : result;
  file.release();
  return taken;
}
