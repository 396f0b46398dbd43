/** The disk file system: POSIX's cases one by one, space accounting, memory and disk running out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_mount, disk_of, disk_root } from '../../src/fs/disk/index.ts';
import { prune_dcache, prune_icache } from '../../src/fs/disk/shrink.ts';
import {
  O_APPEND,
  O_RDWR,
  type OpenFile,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  Vnode,
} from '../../src/fs/vfs.ts';
import { errno_name } from '../../src/lib/errno.ts';
import { is_job, type Job, run_job, settle } from '../../src/lib/kthread.ts';
import { advance_clock, boot } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { global_page_state, NR_SLAB_RECLAIMABLE } from '../../src/mm/vmstat.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const CALLER = { uid: 1000, gid: 100, pid: 0 };

function machine(disk = 256 * MIB, memory = 64 * MIB): { m: Machine; root: Vnode } {
  const m = boot({ memory, boot_time_ms: 1e12 });
  assert.equal(disk_mount(m, new MemoryBlockDevice(disk), 7, 8), 0);
  return { m, root: disk_root(m) };
}

/** 'OK' or the name of the error. */
function code(result: unknown): string {
  return typeof result === 'number' && result < 0 ? errno_name(result) : 'OK';
}

function node(result: Vnode | number): Vnode {
  assert.ok(result instanceof Vnode, code(result));
  return result;
}

function open(v: Vnode, flags = O_RDWR): OpenFile {
  const file = v.open(flags, CALLER);
  assert.ok(typeof file !== 'number', code(file));
  return file;
}

const bytes = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

function content(v: Vnode): string {
  const file = open(v);
  const buf = new Uint8Array(v.getattr().size);
  let done = 0;
  while (done < buf.length) {
    const count = file.read(buf.subarray(done), done);
    assert.ok(count > 0);
    done += count;
  }
  file.release();
  return Buffer.from(buf).toString('latin1');
}

test('the root directory belongs to who mounts', () => {
  const { root } = machine();
  const attr = root.getattr();
  assert.deepEqual([attr.ino, attr.uid, attr.gid, attr.nlink], [2, 7, 8, 2]);
  assert.equal(attr.mode, S_IFDIR | 0o755);
  assert.equal(attr.mtime, 1e12);
});

test('names: 255 bytes of UTF-8, not one more', () => {
  const { root } = machine();
  for (const [name, want] of [
    ['n'.repeat(255), 'OK'],
    ['n'.repeat(256), 'ENAMETOOLONG'],
    ['ü'.repeat(127), 'OK'],
    ['ü'.repeat(128), 'ENAMETOOLONG'],
    ['\u{1f600}'.repeat(63), 'OK'],
    ['\u{1f600}'.repeat(64), 'ENAMETOOLONG'],
  ] as const) {
    assert.equal(code(root.create(name, 0o644, CALLER)), want, name.slice(0, 3));
    assert.equal(code(root.lookup(name)), want, name.slice(0, 3));
  }
});

test('renames, case by case', () => {
  const { m, root } = machine();
  const make = (): void => {
    for (const { name, mode } of root.readdir() as { name: string; mode: number }[]) {
      if ((mode & S_IFMT) === S_IFDIR) {
        const dir = node(root.lookup(name));
        for (const inner of dir.readdir() as { name: string }[]) {
          if (code(dir.unlink(inner.name)) !== 'OK') dir.rmdir(inner.name);
        }
        root.rmdir(name);
      } else settle(root.unlink(name));
    }
    const a = node(root.create('a', 0o644, CALLER));
    open(a).write(bytes('aaa'), 0);
    node(root.create('b', 0o644, CALLER));
    root.link('a2', a);
    node(root.mkdir('empty', 0o755, CALLER));
    const full = node(root.mkdir('full', 0o755, CALLER));
    node(full.create('x', 0o644, CALLER));
    node(full.mkdir('sub', 0o755, CALLER));
  };
  for (const [from, to, want] of [
    ['a', 'b', 'OK'],
    ['a', 'new', 'OK'],
    ['a', 'a', 'OK'],
    ['a', 'a2', 'OK'], // one inode: both names stay
    ['nothing', 'b', 'ENOENT'],
    ['a', 'empty', 'EISDIR'],
    ['a', 'full', 'EISDIR'],
    ['empty', 'a', 'ENOTDIR'],
    ['full', 'empty', 'OK'],
    ['empty', 'full', 'ENOTEMPTY'],
    ['full', 'full/sub', 'EINVAL'],
    ['full', 'full/sub/deeper', 'EINVAL'],
    ['full/sub', 'full', 'ENOTEMPTY'],
    ['full/sub', 'moved', 'OK'],
    ['full/x', 'a', 'OK'],
    ['a', 'n'.repeat(256), 'ENAMETOOLONG'],
  ] as const) {
    make();
    const parent = (path: string): [Vnode, string] => {
      let dir = root;
      const names = path.split('/');
      for (const name of names.slice(0, -1)) dir = node(dir.lookup(name));
      return [dir, names.at(-1)!];
    };
    const [old_dir, old_name] = parent(from);
    const [new_dir, new_name] = parent(to);
    const was = code(old_dir.lookup(old_name)) === 'OK' ? node(old_dir.lookup(old_name)) : null;
    assert.equal(code(old_dir.rename(old_name, new_dir, new_name)), want, `${from} to ${to}`);
    if (want === 'OK') assert.equal(node(new_dir.lookup(new_name)), was);
    if (to === 'a2') assert.equal(code(root.lookup('a')), 'OK');
    const dirs = (root.readdir() as { mode: number }[]).filter(
      (d) => (d.mode & S_IFMT) === S_IFDIR,
    );
    assert.equal(root.getattr().nlink, 2 + dirs.length, `${from} to ${to}`);
  }
  debug_vm(m);
});

test('hard links, and removing what is not a file', () => {
  const { root } = machine();
  const a = node(root.create('a', 0o644, CALLER));
  const dir = node(root.mkdir('dir', 0o755, CALLER));
  assert.equal(code(dir.link('b', a)), 'OK');
  assert.equal(a.getattr().nlink, 2);
  assert.equal(code(root.link('a', a)), 'EEXIST');
  assert.equal(code(root.link('d2', dir)), 'EPERM');
  assert.equal(code(root.unlink('dir')), 'EISDIR');
  assert.equal(code(root.rmdir('a')), 'ENOTDIR');
  assert.equal(code(root.rmdir('dir')), 'ENOTEMPTY');
  assert.equal(code(root.rmdir('none')), 'ENOENT');
  assert.equal(code(a.lookup('x')), 'ENOTDIR');
  assert.equal(code(root.unlink('a')), 'OK');
  assert.equal(node(dir.lookup('b')), a);
  assert.equal(a.getattr().nlink, 1);
  assert.equal(code(dir.unlink('b')), 'OK');
  assert.equal(code(root.rmdir('dir')), 'OK');
  // Somebody is still in the directory.
  assert.equal(code(dir.create('late', 0o644, CALLER)), 'ENOENT');
  assert.equal(dir.getattr().nlink, 0);
});

test('an open file that was removed lives until it is closed', () => {
  const { m, root } = machine();
  const { bfree, ffree } = root.statfs();
  const v = node(root.create('f', 0o644, CALLER));
  const file = open(v);
  file.write(new Uint8Array(MIB).fill(5), 0);
  settle(root.unlink('f'));
  assert.equal(code(root.lookup('f')), 'ENOENT');
  assert.equal(v.getattr().nlink, 0);
  assert.equal(file.write(bytes('more'), MIB), 4);
  assert.equal(v.setattr({ size: MIB + 2 }, CALLER), 0);
  const buf = new Uint8Array(10);
  assert.equal(file.read(buf, MIB - 1), 3);
  assert.deepEqual([...buf.subarray(0, 3)], [5, 'm'.charCodeAt(0), 'o'.charCodeAt(0)]);
  const again = open(v);
  file.release();
  file.release(); // a second call changes nothing
  assert.equal(again.read(buf, 0), 10);
  again.release();
  assert.equal(code(v.open(O_RDWR, CALLER)), 'ENOENT');
  const after = root.statfs();
  // The root directory has got its first block.
  assert.deepEqual([after.bfree, after.ffree], [bfree - 1, ffree]);
  debug_vm(m);
});

test('holes, truncation, appending', () => {
  const { root } = machine();
  const v = node(root.create('f', 0o644, CALLER));
  const file = open(v);
  file.write(bytes('end'), 5 * GIB);
  assert.equal(v.getattr().size, 5 * GIB + 3);
  // One block of data, and the indirect blocks on the way to it.
  assert.ok(v.getattr().blocks <= 4 * 8);
  const buf = new Uint8Array(8).fill(1);
  assert.equal(file.read(buf, 5 * GIB - 4), 7);
  assert.deepEqual([...buf], [0, 0, 0, 0, 101, 110, 100, 1]);
  assert.equal(file.read(buf, 3 * GIB), 8);
  assert.deepEqual(buf, new Uint8Array(8));
  settle(v.setattr({ size: 0 }, CALLER));
  assert.equal(v.getattr().blocks, 0);
  file.write(bytes('0123456789'), 0);
  settle(v.setattr({ size: 4 }, CALLER));
  settle(v.setattr({ size: 8 }, CALLER));
  assert.equal(content(v), '0123\0\0\0\0');
  const appender = open(v, O_RDWR | O_APPEND);
  appender.write(bytes('xy'), 0);
  assert.equal(content(v), '0123\0\0\0\0xy');
  assert.equal(code(file.write(bytes('x'), 2 ** 41)), 'EFBIG');
  assert.equal(code(v.setattr({ size: 2 ** 41 }, CALLER)), 'EFBIG');
  assert.equal(file.write(new Uint8Array(0), 2 ** 41), 0);
});

test('symlinks of any length', () => {
  const { m, root } = machine();
  for (const target of ['x', 'p/'.repeat(29) + 'q', 'ä'.repeat(30), '/long'.repeat(819)]) {
    const v = node(root.symlink('l' + target.length, target, CALLER));
    assert.equal(v.readlink(), target);
    assert.equal(v.getattr().size, Buffer.byteLength(target));
    assert.equal(code(v.open(O_RDWR, CALLER)), target.length > 59 ? 'ELOOP' : code(-40));
  }
  assert.equal(code(root.symlink('l', '', CALLER)), 'ENOENT');
  assert.equal(code(root.symlink('l', 'x'.repeat(4096), CALLER)), 'ENAMETOOLONG');
  assert.equal(code(node(root.create('f', 0o644, CALLER)).readlink()), 'EINVAL');
  debug_vm(m);
});

test('owners, modes, devices', () => {
  const { root } = machine();
  const dir = node(root.mkdir('dir', 0o2775, CALLER));
  dir.setattr({ gid: 55 }, CALLER);
  const inner = node(dir.create('f', 0o4755, CALLER));
  assert.deepEqual([inner.getattr().uid, inner.getattr().gid], [1000, 55]);
  const sub = node(dir.mkdir('sub', 0o755, CALLER));
  assert.equal(sub.getattr().mode & 0o7777, 0o2755);
  assert.equal(sub.getattr().gid, 55);
  const fifo = node(root.mknod('fifo', S_IFIFO | 0o600, 99, CALLER));
  assert.equal(fifo.getattr().mode, S_IFIFO | 0o600);
  assert.equal(fifo.getattr().rdev, 0);
  const tty = node(root.mknod('tty', S_IFCHR | 0o600, 0x501, CALLER));
  assert.equal(tty.getattr().rdev, 0x501);
  assert.equal(code(tty.open(O_RDWR, CALLER)), 'ENXIO');
  assert.equal(code(root.mknod('d', S_IFDIR | 0o755, 0, CALLER)), 'EPERM');
  inner.setattr({ mode: 0o17123 }, CALLER);
  assert.equal(inner.getattr().mode & 0o7777, 0o7123);
  assert.equal(code(inner.setxattr('user.x', bytes('1'))), 'EOPNOTSUPP');
  assert.deepEqual(inner.listxattr(), []);
});

test('times: writing, changing names, relatime', () => {
  const { m, root } = machine();
  const tick = (ms: number): number => {
    run_job(advance_clock(m, ms));
    return m.clock.real_ms();
  };
  const t0 = m.clock.real_ms();
  const v = node(root.create('f', 0o644, CALLER));
  const file = open(v);
  const t1 = tick(1000);
  file.write(bytes('x'), 0);
  assert.deepEqual([v.getattr().atime, v.getattr().mtime, v.getattr().ctime], [t0, t1, t1]);
  const t2 = tick(1000);
  const buf = new Uint8Array(1);
  file.read(buf, 0);
  assert.equal(v.getattr().atime, t2); // it was older than mtime
  tick(1000);
  file.read(buf, 0);
  assert.equal(v.getattr().atime, t2);
  const t3 = tick(86_400_000);
  file.read(buf, 0);
  assert.equal(v.getattr().atime, t3); // a day old
  const t4 = tick(1000);
  v.setattr({ mode: 0o600 }, CALLER);
  assert.deepEqual([v.getattr().mtime, v.getattr().ctime], [t1, t4]);
  const t5 = tick(1000);
  root.link('g', v);
  assert.equal(v.getattr().ctime, t5);
  assert.equal(root.getattr().mtime, t5);
  v.setattr({ atime: 5, mtime: 6.5 }, CALLER);
  assert.deepEqual([v.getattr().atime, v.getattr().mtime], [5, 6.5]);
});

test('space: statfs counts what files take, and gives it back', () => {
  const { m, root } = machine(64 * MIB);
  const before = root.statfs();
  assert.equal(before.bsize, 4096);
  assert.equal(before.bfree, before.blocks);
  const v = node(root.create('f', 0o644, CALLER));
  const file = open(v);
  file.write(new Uint8Array(MIB), 0);
  const used = before.bfree - root.statfs().bfree;
  // 256 blocks, an indirect one, and the root directory's.
  assert.equal(used, 258);
  assert.equal(v.getattr().blocks, 257 * 8);
  file.release();
  settle(root.unlink('f'));
  assert.equal(before.bfree - root.statfs().bfree, 1);
  assert.equal(root.statfs().ffree, before.ffree);
  debug_vm(m);
});

test('a full disk: ENOSPC after the last block, earlier data unharmed', () => {
  const { m, root } = machine(8 * MIB, 128 * MIB);
  const first = node(root.create('first', 0o644, CALLER));
  open(first).write(bytes('precious'), 0);
  const file = open(node(root.create('f', 0o644, CALLER)));
  let pos = 0;
  let last = 0;
  for (;;) {
    last = file.write(new Uint8Array(100_000).fill(3), pos) as number;
    if (last < 0) break;
    pos += last;
  }
  assert.equal(code(last), 'ENOSPC');
  assert.equal(root.statfs().bfree, 0);
  assert.ok(pos > 6 * MIB);
  assert.equal(pos % 4096, 0);
  assert.equal(content(first), 'precious');
  assert.equal(code(file.write(new Uint8Array(10), 0)), 'OK'); // no new block
  settle(root.unlink('f'));
  file.release();
  assert.ok(root.statfs().bfree > 1000);
  debug_vm(m);
});

test('no inode left: ENOSPC, and one comes back', () => {
  const { root } = machine(2 * MIB);
  let made = 0;
  while (code(root.create('f' + made, 0o644, CALLER)) === 'OK') made++;
  assert.equal(root.statfs().ffree, 0);
  assert.equal(code(root.create('x', 0o644, CALLER)), 'ENOSPC');
  settle(root.unlink('f3'));
  assert.equal(code(root.create('x', 0o644, CALLER)), 'OK');
});

test('names and inodes leave core and come back, with their slab pages', () => {
  const { m, root } = machine();
  const files: OpenFile[] = [];
  for (let i = 0; i < 2000; i++) {
    const v = node(
      root.create('file with a long name, more than a dentry holds ' + i, 0o644, CALLER),
    );
    if (i % 100 !== 0) continue;
    const file = open(v);
    file.write(bytes('data ' + i), 0);
    files.push(file);
  }
  const pages = global_page_state(m, NR_SLAB_RECLAIMABLE);
  run_job(advance_clock(m, 60_000));
  run_job(advance_clock(m, 60_000));
  const fs = disk_of(m)!;
  assert.equal(fs.dentry_lru.size, 2000);
  // The first look spares every name once; files that are open stay.
  assert.equal(prune_dcache(m, 5000), 0);
  assert.equal(prune_dcache(m, 5000), 1980);
  // Those that are open are off the list: reclaim does not look at them again.
  assert.equal(fs.dentry_lru.size, 0);
  assert.equal(prune_icache(m, 5000), 1980);
  assert.ok(global_page_state(m, NR_SLAB_RECLAIMABLE) < pages - 200);
  debug_vm(m);
  const v = node(root.lookup('file with a long name, more than a dentry holds 7'));
  assert.equal(v.getattr().size, 0);
  assert.equal(fs.dentry_lru.size, 1);
  assert.equal(
    content(node(root.lookup('file with a long name, more than a dentry holds 900'))),
    'data 900',
  );
  debug_vm(m);
  // Nobody has them open any more: on the list, spared once more, then freed.
  for (const file of files) file.release();
  assert.equal(fs.dentry_lru.size, 21);
  assert.equal(prune_dcache(m, 5000), 0);
  assert.equal(prune_dcache(m, 5000), 21);
  debug_vm(m);
});

test('a removed name stays in core for a while, and goes with its directory', () => {
  const { m, root } = machine();
  const dir = node(root.mkdir('dir', 0o755, CALLER));
  for (let i = 0; i < 50; i++) node(dir.create('f' + i, 0o644, CALLER));
  const fs = disk_of(m)!;
  const names = fs.dentry_lru.size;
  for (let i = 0; i < 50; i += 2) assert.equal(dir.unlink('f' + i), 0);
  assert.equal(fs.dentry_lru.size, names);
  assert.equal(code(dir.lookup('f0')), 'ENOENT');
  // The dentry is used again: no object more.
  node(dir.create('f0', 0o644, CALLER));
  assert.equal(fs.dentry_lru.size, names);
  assert.ok(typeof dir.lookup('f0') !== 'number');
  // Under pressure they go like others: first spared, then freed.
  assert.equal(prune_dcache(m, 10), 0);
  assert.equal(prune_dcache(m, 10), 10);
  for (let i = 0; i < 50; i++) dir.unlink('f' + i);
  assert.equal(root.rmdir('dir'), 0);
  assert.equal(fs.dentry_lru.size, 1);
  debug_vm(m);
});

test('who removes a name has looked it up: its dentry stays, also when there was none', () => {
  const { m, root } = machine();
  const dir = node(root.mkdir('dir', 0o755, CALLER));
  for (let i = 0; i < 4; i++) node(dir.create(`f${i}`, 0o644, CALLER));
  node(dir.mkdir('d', 0o755, CALLER));
  run_job(advance_clock(m, 60_000));
  run_job(advance_clock(m, 60_000));
  const fs = disk_of(m)!;
  // All of them out of core, first the names, then the inodes.
  prune_dcache(m, 100);
  prune_dcache(m, 100);
  prune_icache(m, 100);
  assert.equal(fs.dentry_lru.size, 0);
  const again = node(root.lookup('dir'));
  assert.equal(again.unlink('f0'), 0);
  assert.equal(again.unlink('f1'), 0);
  assert.equal(fs.dentry_lru.size, 2);
  assert.equal(again.rmdir('d'), 0);
  assert.equal(fs.dentry_lru.size, 3);
  // Like any name that came onto the list, they are spared once.
  assert.equal(prune_dcache(m, 3), 0);
  debug_vm(m);
});

test('a name is off the list while names below it are in core, and goes with the last of them', () => {
  const { m, root } = machine();
  const top = node(root.mkdir('top', 0o755, CALLER));
  const dir = node(top.mkdir('dir', 0o755, CALLER));
  for (let i = 0; i < 3; i++) node(dir.create(`f${i}`, 0o644, CALLER));
  const fs = disk_of(m)!;
  assert.equal(fs.dentry_lru.size, 3);
  assert.equal(prune_dcache(m, 2), 0);
  assert.equal(prune_dcache(m, 2), 2);
  assert.equal(fs.dentry_lru.size, 1);
  // The last name, and with it those of both directories: looking at one frees three.
  assert.equal(prune_dcache(m, 1), 3);
  assert.equal(fs.dentry_lru.size, 0);
  node(node(top.lookup('dir')).lookup('f1'));
  assert.equal(fs.dentry_lru.size, 1);
  assert.equal(node(top.lookup('dir')).unlink('f1'), 0);
  debug_vm(m);
});

test('two machines with the same seed do the same', () => {
  const run = (): string => {
    const { m, root } = machine();
    for (let i = 0; i < 50; i++) {
      const v = node(root.create('f' + i, 0o644, CALLER));
      open(v).write(new Uint8Array(30_000).fill(i), i * 100);
      if (i % 3 === 0) root.unlink('f' + (i >> 1));
      run_job(advance_clock(m, 3000));
    }
    return [m.memmap.flags, m.memmap._count, m.memmap.next].map((c) => c.join()).join();
  };
  assert.equal(run(), run());
});

/** A file of `mib` MiB whose bytes are `byte`. */
function large(root: Vnode, name: string, mib: number, byte: number): Vnode {
  const v = node(root.create(name, 0o644, CALLER));
  const file = open(v);
  for (let i = 0; i < mib; i++) {
    assert.equal(file.write(new Uint8Array(MIB).fill(byte), i * MIB), MIB);
  }
  file.release();
  return v;
}

/** Runs a job to its end and looks at the whole machine a few times meanwhile. */
function in_slices(m: Machine, result: number | Job, at_least: number, between?: () => void): void {
  assert.ok(is_job(result));
  let steps = 0;
  for (;;) {
    const step = result.next();
    if (step.done) {
      assert.equal(step.value, 0);
      break;
    }
    steps++;
    if (steps % 50 === 1) debug_vm(m);
    if (steps === 20) between?.();
  }
  assert.ok(steps >= at_least, `${steps} steps`);
  debug_vm(m);
}

test('a large file is removed in slices, behind its name', () => {
  const { m, root } = machine();
  const before = root.statfs();
  large(root, 'big', 20, 1);
  in_slices(m, root.unlink('big'), 300, () => {
    assert.equal(code(root.lookup('big')), 'ENOENT');
    // Its name and the rest of the disk are for others.
    assert.equal(content(large(root, 'big', 1, 0x42)).slice(-2), 'BB');
  });
  assert.equal(root.unlink('big'), 0);
  // The root directory has a block now.
  assert.deepEqual(root.statfs(), { ...before, bfree: before.bfree - 1, bavail: before.bfree - 1 });

  // The last of name and users frees it, whichever that is.
  const file = open(large(root, 'open', 20, 1));
  assert.equal(root.unlink('open'), 0);
  in_slices(m, file.close!(), 300);
  large(root, 'old', 20, 1);
  root.create('new', 0o644, CALLER);
  in_slices(m, root.rename('new', root, 'old'), 300, () => {
    assert.equal(node(root.lookup('old')).getattr().size, 0);
    assert.equal(code(root.lookup('new')), 'ENOENT');
  });
});

test('a large file is cut in slices; who changes it meanwhile comes after the cut', () => {
  const { m, root } = machine();
  const before = root.statfs().bfree;
  const cut = 100_000;
  const v = large(root, 'f', 20, 0x41);
  in_slices(m, v.setattr({ size: cut }, CALLER), 20, () => {
    assert.equal(content(v), 'A'.repeat(cut));
    // Writes into what is being cut off: were the cut not over first, it would take this away.
    const file = open(v);
    assert.equal(file.write(bytes('kept'), 10 * MIB), 4);
    file.release();
    assert.equal(v.setattr({ size: 15 * MIB }, CALLER), 0);
  });
  const text = content(v);
  assert.equal(text.length, 15 * MIB);
  assert.equal(text.slice(0, cut), 'A'.repeat(cut));
  assert.equal(text.slice(10 * MIB, 10 * MIB + 4), 'kept');
  assert.equal(text.replaceAll('A', '').replaceAll('\0', ''), 'kept');

  // Removed while it is being emptied: it goes when that has ended.
  const w = large(root, 'g', 20, 0x41);
  in_slices(m, w.empty(), 300, () => assert.equal(root.unlink('g'), 0));
  assert.equal(settle(root.unlink('f')), 0);
  assert.equal(root.statfs().bfree, before - 1);
  debug_vm(m);
});
