/**
 * A machine in a file: `pageblock mount MNT --config FILE`.
 *
 * Lines `name = value` with the names of mount's options, lines `/path = text`, which are written to
 * the virtual files of the booted machine in their order, before anybody sees it, and lines
 * `/path < file`: the virtual file shows the text of a host file, recorded somewhere. An option on
 * the command line beats the file's. Empty lines and lines that begin with # are nothing.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Command } from 'commander';
import { CommanderError } from 'commander';
import { type Caller, O_WRONLY, type Vnode } from '../src/fs/vfs.ts';
import { is_job, run_job } from '../src/index.ts';
import { errno_name } from '../src/lib/errno.ts';
import { CONTROL_DIR } from './commands/status.ts';
import { Failure } from './transport.ts';

export interface MachineFileLine {
  readonly where: string;
  readonly name: string;
  readonly value: string;
  /** The value is the name of a host file, relative to the machine file. */
  readonly isFile: boolean;
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
    const match = /^\s*(\S+?)\s*(=|<)\s*(.*?)\s*$/.exec(line);
    const where = `${file}:${index + 1}`;
    const [, name = '', sign, value = ''] = match ?? [];
    const isFile = sign === '<';
    if (match === null || (isFile && !name.startsWith('/'))) {
      throw new Failure(`${where}: a line is 'name = value', '/path = text' or '/path < file'`);
    }
    lines.push({ where, name, value, isFile });
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
  const caller = { uid, gid, pid: 0 };
  for (const { where, name, value, isFile } of readMachineFile(file)) {
    if (!name.startsWith('/')) continue;
    const result = isFile
      ? showText(root, name, where, resolve(dirname(file), value), caller)
      : writeText(root, name, Buffer.from(`${value}\n`), caller);
    if (result < 0) {
      throw new Failure(`${where}: ${name} refused '${value}' (${errno_name(result)})`);
    }
  }
}

const SHOW_TEXT = `/${CONTROL_DIR}/fault/text`;

/** Lets a virtual file show the text of a host file: 0 or a negative errno. Throws a Failure. */
function showText(root: Vnode, path: string, where: string, from: string, caller: Caller): number {
  let text: string;
  try {
    text = readFileSync(from, 'latin1');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Failure(`${where}: cannot read ${from} (${code}): give a text to show`);
  }
  const node = find(root, path);
  if (typeof node === 'number') return node;
  return writeText(root, SHOW_TEXT, Buffer.from(`${path}\n${text}`, 'latin1'), caller);
}

/** The virtual file with a path such as /proc/meminfo, or a negative errno. */
export function find(root: Vnode, path: string): Vnode | number {
  let node = root;
  for (const name of path.split('/').slice(1)) {
    const next = node.lookup(name);
    if (typeof next === 'number') return next;
    node = next;
  }
  return node;
}

function writeText(root: Vnode, path: string, bytes: Buffer, caller: Caller): number {
  const node = find(root, path);
  if (typeof node === 'number') return node;
  const file = node.open(O_WRONLY, caller);
  if (typeof file === 'number') return file;
  const result = file.write(bytes, 0);
  const taken = is_job(result) ? run_job(result) : result;
  file.release();
  return taken;
}
