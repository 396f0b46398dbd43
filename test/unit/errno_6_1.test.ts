/**
 * Every recorded write to a control file of a current kernel (golden/host-6.18), through the virtual
 * files of a booted 6.1: what open and write return, and what is read afterwards. Left out is what
 * LEFT_OUT names, with the reason.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { O_RDONLY, O_WRONLY, type Vnode } from '../../src/fs/vfs.ts';
import { EACCES, EBUSY, EINVAL, ENOENT, ENOMEM, EPERM, ERANGE } from '../../src/lib/errno.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { boot } from '../../src/machine.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { mount_root } from '../../src/mount_root.ts';
import { read_records } from '../golden/recordings.ts';

const ERRNO: Record<string, number> = { EACCES, EBUSY, EINVAL, ENOENT, ENOMEM, EPERM, ERANGE };
const ROOT = { uid: 0, gid: 0, pid: 1 };

const LEFT_OUT: readonly (readonly [RegExp, string])[] = [
  [/vm\/(defrag_mode|vfs_cache_pressure_denom)$/, 'came after 6.1'],
  [/ksm\/(advisor_\w+|smart_scan)$/, 'came after 6.1'],
  [/transparent_hugepage\/(hugepages-|shrink_underused)/, 'came after 6.1'],
];

interface Case {
  readonly path: string;
  readonly case: string;
  readonly write: string | { readonly rle: readonly (readonly [string, number])[] };
  readonly offset?: number;
  readonly ret?: number;
  readonly errno?: string;
  readonly open_errno?: string;
  readonly before?: string;
  readonly after?: string;
}

const text_of = ({ write }: Case): string =>
  typeof write === 'string' ? write : write.rle.map(([c, n]) => c.repeat(n)).join('');

function find(m: Machine, path: string): Vnode | number {
  let node: Vnode | number = mount_root(m);
  for (const name of path.split('/').slice(1)) {
    if (typeof node === 'number') return node;
    node = node.lookup(name);
  }
  return node;
}

/** open(2) and write(2) of a text: what failed, or the bytes taken. */
function write(
  m: Machine,
  path: string,
  text: string,
  offset: number,
): { open: number; ret: number } {
  const node = find(m, path);
  if (typeof node === 'number') return { open: node, ret: 0 };
  const file = node.open(O_WRONLY, ROOT);
  if (typeof file === 'number') return { open: file, ret: 0 };
  const result = file.write(Buffer.from(text, 'latin1'), offset);
  file.release();
  return { open: 0, ret: is_job(result) ? run_job(result) : result };
}

function cat(m: Machine, path: string): string {
  const node = find(m, path);
  if (typeof node === 'number') return '';
  const file = node.open(O_RDONLY, ROOT);
  if (typeof file === 'number') return '';
  const buf = new Uint8Array(4096);
  const text = Buffer.from(buf.subarray(0, file.read(buf, 0))).toString('latin1');
  file.release();
  return text;
}

for (const name of ['errno_sysfs_mm', 'errno_proc_sys_vm']) {
  test(`${name}: every recorded case`, () => {
    const m = boot({ kernel: '6.1', memory: 2 ** 29, gbpages: true, seed: 1 });
    let checked = 0;
    const wrong: string[] = [];
    for (const c of read_records(`host-6.18/${name}.jsonl`) as Case[]) {
      if (LEFT_OUT.some(([path]) => path.test(c.path))) continue;
      if (c.before !== undefined) write(m, c.path, c.before, 0);
      const old = cat(m, c.path);
      const got = write(m, c.path, text_of(c), c.offset ?? 0);
      const open = c.open_errno === undefined ? 0 : -ERRNO[c.open_errno]!;
      const ret =
        c.open_errno !== undefined ? 0 : c.errno !== undefined ? -ERRNO[c.errno]! : c.ret!;
      const after = c.after === undefined ? null : cat(m, c.path);
      checked++;
      const pool = /hugepages/.test(c.path);
      const same = got.open === open && got.ret === ret;
      if (!same || (after !== null && !pool && after.trimEnd() !== c.after!.trimEnd())) {
        wrong.push(
          `${c.path} ${c.case}: ${got.open} ${got.ret} not ${open} ${ret}; ${after} ${c.after}`,
        );
      }
      if (cat(m, c.path) !== old) write(m, c.path, old, 0);
    }
    assert.deepEqual(wrong, []);
    assert.ok(checked > 400, `${checked} checked`);
  });
}
