/** The rules of procfs, sysctl, sysfs and debugfs, on a few files made for the test. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kernfs_mount } from '../../src/fs/kernfs.ts';
import { mount_root } from '../../src/fs/tree.ts';
import {
  type Caller,
  type Dirent,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  type OpenFile,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  Vnode,
} from '../../src/fs/vfs.ts';
import {
  EACCES,
  EEXIST,
  EINVAL,
  EIO,
  EISDIR,
  ENOENT,
  ENOTDIR,
  EPERM,
  ESRCH,
  EXDEV,
} from '../../src/lib/errno.ts';
import type { FileRow, RowDirectory } from '../../src/lib/file_row.ts';
import { is_job, type Job, run_job, settle } from '../../src/lib/kthread.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { recorded_machine, X86_64 } from './recorded_machine.ts';

const ROOT: Caller = { uid: 0, gid: 0, pid: 1 };

const m = recorded_machine(X86_64, 'boot');

function mount(
  rows: readonly FileRow<Machine>[],
  directories: readonly RowDirectory<Machine>[] = [],
): Vnode {
  return kernfs_mount(m, rows, directories, 0, 0);
}

function walk(root: Vnode, path: string): Vnode {
  let node = root;
  for (const name of path.split('/').slice(1)) {
    const next = node.lookup(name);
    assert.ok(typeof next !== 'number', `${path}: ${next}`);
    node = next;
  }
  return node;
}

function open(node: Vnode, flags: number): OpenFile {
  const file = node.open(flags, ROOT);
  assert.ok(typeof file !== 'number', String(file));
  return file;
}

function pread(file: OpenFile, length: number, pos: number): string {
  const buf = new Uint8Array(length);
  const ret = file.read(buf, pos);
  assert.ok(ret >= 0, String(ret));
  return String.fromCharCode(...buf.subarray(0, ret));
}

function write(file: OpenFile, data: string): number {
  const result = file.write(
    Uint8Array.from(data, (c) => c.charCodeAt(0)),
    0,
  );
  return is_job(result) ? run_job(result) : result;
}

/** A file that prints how often it was printed. */
function counter(path: string, more: Partial<FileRow<Machine>> = {}): FileRow<Machine> {
  let shows = 0;
  return {
    path,
    mode: 0o644,
    show(seq) {
      seq.puts('shown ').put_dec(++shows).puts('\n');
    },
    doc: '',
    ...more,
  };
}

test('R6: contents stay as first read, and are made again by a read at offset 0', () => {
  for (const path of ['/proc/x', '/sys/x', '/sys/kernel/debug/x']) {
    const file = open(walk(mount([counter(path)]), path), O_RDONLY);
    assert.equal(pread(file, 4, 0), 'show');
    assert.equal(pread(file, 4, 4), 'n 1\n');
    assert.equal(pread(file, 4, 8), '');
    assert.equal(pread(file, 100, 0), 'shown 2\n');
    assert.equal(pread(file, 100, 6), '2\n');
    assert.equal(pread(file, 0, 0), '');
    assert.equal(pread(file, 100, 6), '2\n', 'a read of nothing makes nothing');
    file.release();
  }
});

test('a first read at an offset finds contents too; another open has its own', () => {
  const node = walk(mount([counter('/proc/x')]), '/proc/x');
  const a = open(node, O_RDONLY);
  const b = open(node, O_RDONLY);
  assert.equal(pread(a, 100, 6), '1\n');
  assert.equal(pread(b, 100, 6), '2\n');
  assert.equal(pread(a, 100, 6), '1\n');
});

test('sysctl: each read is made anew, at an offset is the end, except for text', () => {
  const number = open(walk(mount([counter('/proc/sys/vm/x')]), '/proc/sys/vm/x'), O_RDONLY);
  assert.equal(pread(number, 5, 0), 'shown');
  assert.equal(pread(number, 5, 5), '');
  assert.equal(pread(number, 100, 0), 'shown 2\n');
  let value = 'default\n';
  const row: FileRow<Machine> = {
    path: '/proc/sys/vm/x',
    mode: 0o644,
    string: true,
    show(seq) {
      seq.puts(value);
    },
    doc: '',
  };
  const text = open(walk(mount([row]), '/proc/sys/vm/x'), O_RDONLY);
  assert.equal(pread(text, 4, 0), 'defa');
  assert.equal(pread(text, 4, 4), 'ult\n');
  assert.equal(pread(text, 4, 8), '');
  value = 'node and more\n';
  assert.equal(pread(text, 4, 4), ' and', 'made anew by each read');
});

test('sysfs: after a write the next read sees the new value at any offset', () => {
  const file = open(
    walk(mount([counter('/sys/x', { store: (_m, text) => text.length })]), '/sys/x'),
    O_RDWR,
  );
  assert.equal(pread(file, 100, 0), 'shown 1\n');
  assert.equal(pread(file, 100, 6), '1\n');
  write(file, 'x');
  assert.equal(pread(file, 100, 6), '2\n');
});

test('the bits of owner, group and others; O_TRUNC asks for writing', () => {
  const errno = (path: string, mode: number, caller: Caller, flags: number): number => {
    const file = walk(mount([counter(path, { mode })]), path).open(flags, caller);
    return typeof file === 'number' ? -file : 0;
  };
  const group = { uid: 9, gid: 0, pid: 2 };
  const other = { uid: 9, gid: 9, pid: 2 };
  for (const path of ['/proc/x', '/proc/sys/vm/x', '/sys/x', '/sys/kernel/debug/x']) {
    assert.equal(errno(path, 0o640, group, O_RDONLY), 0, path);
    assert.equal(errno(path, 0o640, group, O_WRONLY), EACCES, path);
    assert.equal(errno(path, 0o640, other, O_RDONLY), EACCES, path);
    assert.equal(errno(path, 0o606, group, O_RDONLY), EACCES, path);
    assert.equal(errno(path, 0o606, other, O_RDWR), 0, path);
    assert.equal(errno(path, 0o644, other, O_RDONLY | O_TRUNC), EACCES, path);
  }
  const owned = walk(mount([counter('/proc/x', { mode: 0o604 })]), '/proc/x');
  owned.setattr({ uid: 9 }, ROOT);
  assert.equal(typeof owned.open(O_RDWR, other), 'object');
});

test('R10: one O_RDWR descriptor reads, writes and reads the new value', () => {
  for (const path of ['/proc/x', '/proc/sys/vm/x', '/sys/x', '/sys/kernel/debug/x']) {
    let value = 'old\n';
    const row: FileRow<Machine> = {
      path,
      mode: 0o600,
      show(seq) {
        seq.puts(value);
      },
      store(_m, text) {
        value = text;
        return text.length;
      },
      doc: '',
    };
    const file = open(walk(mount([row]), path), O_RDWR | O_TRUNC | O_CREAT);
    assert.equal(pread(file, 100, 0), 'old\n');
    assert.equal(write(file, 'newer\n'), 6);
    assert.equal(pread(file, 100, 0), 'newer\n');
  }
});

test('what a write is told: text by bytes, offset, who; what the row keeps while open', () => {
  const seen: unknown[] = [];
  const row: FileRow<Machine> = {
    path: '/sys/kernel/debug/x',
    mode: 0o600,
    show(seq, _m, ctx) {
      seq.puts(String(ctx.data));
    },
    store(_m, text, ctx) {
      seen.push(
        [...text].map((c) => c.charCodeAt(0)),
        ctx.pos,
        ctx.caller.uid,
        ctx.id,
      );
      ctx.data = 'kept';
      return text.length;
    },
    doc: '',
  };
  const root = mount([row]);
  const file = open(walk(root, '/sys/kernel/debug/x'), O_RDWR);
  file.write(Uint8Array.of(0xff, 0, 0x31), 17);
  assert.deepEqual(seen, [[0xff, 0, 0x31], 17, 0, -1]);
  assert.equal(pread(file, 10, 0), 'kept');
  assert.equal(pread(open(walk(root, '/sys/kernel/debug/x'), O_RDWR), 10, 0), 'null');
});

test('a write may be a job; more than was written is never returned', () => {
  function* three(): Job {
    yield;
    return 3;
  }
  const row = (path: string, result: () => number | Job): FileRow<Machine> => ({
    path,
    mode: 0o200,
    store: result,
    doc: '',
  });
  const root = mount([row('/proc/sys/vm/j', three), row('/proc/sys/vm/n', () => 3)]);
  for (const name of ['j', 'n']) {
    const file = open(walk(root, '/proc/sys/vm/' + name), O_WRONLY);
    assert.equal(write(file, '1'), 1);
    assert.equal(write(file, ''), 0);
    assert.equal(write(file, '12345'), 3);
  }
});

test('sysfs takes at most a page less a byte, and nothing for nothing', () => {
  const lengths: number[] = [];
  const row: FileRow<Machine> = {
    path: '/sys/x',
    mode: 0o200,
    store(_m, text) {
      lengths.push(text.length);
      return text.length;
    },
    doc: '',
  };
  const file = open(walk(mount([row]), '/sys/x'), O_WRONLY);
  assert.equal(write(file, 'x'.repeat(5000)), 4095);
  assert.equal(write(file, ''), 0);
  assert.deepEqual(lengths, [4095]);
});

test('a row without show or store: EIO in proc and sysfs, EINVAL in debugfs; show may fail', () => {
  const bare = (path: string): FileRow<Machine> => ({ path, mode: 0o666, doc: '' });
  const failing = counter('/proc/f', { show: () => -ESRCH });
  const root = mount([bare('/proc/x'), bare('/sys/x'), bare('/sys/kernel/debug/x'), failing]);
  for (const [path, errno] of [
    ['/proc/x', EIO],
    ['/sys/x', EIO],
    ['/sys/kernel/debug/x', EINVAL],
  ] as const) {
    const file = open(walk(root, path), O_RDWR);
    assert.equal(file.read(new Uint8Array(10), 0), -errno, path);
    assert.equal(write(file, '1'), -errno, path);
  }
  assert.equal(open(walk(root, '/proc/f'), O_RDONLY).read(new Uint8Array(1), 0), -ESRCH);
});

test('binary files are read at any offset, as the row says', () => {
  const row: FileRow<Machine> = {
    path: '/proc/k',
    mode: 0o400,
    read_at(_m, pos, buf) {
      buf.fill(pos);
      return buf.length;
    },
    doc: '',
  };
  const file = open(walk(mount([row]), '/proc/k'), O_RDONLY);
  assert.equal(pread(file, 2, 65), 'AA');
  assert.equal(pread(file, 1, 66), 'B');
});

test('making and removing entries fails as in Linux', () => {
  const root = mount([
    counter('/proc/a'),
    counter('/proc/b'),
    counter('/proc/sys/vm/a'),
    counter('/proc/sys/vm/b'),
    counter('/sys/kernel/a'),
    counter('/sys/kernel/b'),
    counter('/sys/kernel/debug/d/a'),
    counter('/sys/kernel/debug/d/b'),
  ]);
  const proc = walk(root, '/proc');
  const vm = walk(root, '/proc/sys/vm');
  const sysfs = walk(root, '/sys/kernel');
  const debugfs = walk(root, '/sys/kernel/debug/d');
  const errnos = (dir: Vnode): number[] => [
    dir.create('new', 0o644, ROOT) as number,
    dir.create('a', 0o644, ROOT) as number,
    dir.mkdir('new', 0o755, ROOT) as number,
    dir.mknod('new', 0o644, 0, ROOT) as number,
    dir.symlink('new', 'to', ROOT) as number,
    dir.link('new', dir.lookup('a') as Vnode),
    settle(dir.unlink('a')),
    settle(dir.unlink('new')),
    settle(dir.rename('a', dir, 'new')),
    settle(dir.rename('a', dir, 'b')),
    settle(dir.rename('new', dir, 'a')),
  ];
  const in_proc = [-ENOENT, -EEXIST, -ENOENT, -ENOENT, -ENOENT, -ENOENT];
  const others = [-EACCES, -EEXIST, -EPERM, -EPERM, -EPERM, -EPERM];
  assert.deepEqual(errnos(proc), [...in_proc, -EPERM, -ENOENT, -ENOENT, -EPERM, -ENOENT]);
  assert.deepEqual(errnos(vm), [...in_proc, -EACCES, -ENOENT, -ENOENT, -EACCES, -ENOENT]);
  assert.deepEqual(errnos(sysfs), [...others, -EPERM, -ENOENT, -EPERM, -EPERM, -ENOENT]);
  assert.deepEqual(errnos(debugfs), [...others, -EPERM, -ENOENT, -EPERM, -EPERM, -ENOENT]);

  assert.equal(sysfs.rmdir('debug'), -EPERM);
  assert.equal(sysfs.rmdir('a'), -ENOTDIR);
  assert.equal(sysfs.unlink('debug'), -EISDIR);
  assert.equal(walk(root, '/proc/sys').rmdir('vm'), -EACCES);
  assert.equal(sysfs.rename('a', proc, 'a'), -EXDEV);
  assert.equal(
    sysfs.rename(
      'a',
      new (class extends Vnode {
        override getattr(): never {
          throw new Error();
        }
      })(),
      'a',
    ),
    -EXDEV,
  );
  assert.equal(proc.link('new', walk(root, '/sys/kernel/a')), -EXDEV);
  assert.equal(walk(root, '/proc/a').lookup('x'), -ENOTDIR);
  assert.equal(proc.open(O_RDONLY, ROOT), -EISDIR);
});

test('attributes: sizes, block sizes, links, modes; what may be changed', () => {
  const rows = ['/proc/a', '/proc/sys/vm/a', '/sys/kernel/a', '/sys/kernel/debug/d/a'].map((path) =>
    counter(path),
  );
  const root = mount(rows);
  const attr = (path: string): number[] => {
    const a = walk(root, path).getattr();
    return [a.mode, a.nlink, a.size, a.blksize];
  };
  assert.deepEqual(attr('/proc'), [S_IFDIR | 0o555, 3, 0, 1024]);
  assert.deepEqual(attr('/proc/a'), [S_IFREG | 0o644, 1, 0, 1024]);
  assert.deepEqual(attr('/proc/sys'), [S_IFDIR | 0o555, 1, 0, 1024]);
  assert.deepEqual(attr('/proc/sys/vm'), [S_IFDIR | 0o555, 0, 0, 1024]);
  assert.deepEqual(attr('/proc/sys/vm/a'), [S_IFREG | 0o644, 1, 0, 1024]);
  assert.deepEqual(attr('/sys'), [S_IFDIR | 0o755, 3, 0, 4096]);
  assert.deepEqual(attr('/sys/kernel/a'), [S_IFREG | 0o644, 1, 4096, 4096]);
  assert.deepEqual(attr('/sys/kernel/debug'), [S_IFDIR | 0o755, 3, 0, 4096]);
  assert.deepEqual(attr('/sys/kernel/debug/d/a'), [S_IFREG | 0o644, 1, 0, 4096]);

  const vm = walk(root, '/proc/sys/vm/a');
  assert.equal(vm.setattr({ mode: 0o666 }, ROOT), -EPERM);
  assert.equal(vm.setattr({ uid: 7 }, ROOT), -EPERM);
  assert.equal(vm.setattr({ mtime: 5000, atime: 6000 }, ROOT), 0);
  assert.equal(vm.getattr().mtime, 5000);
  assert.equal(vm.getattr().atime, 6000);
  const file = walk(root, '/sys/kernel/a');
  assert.equal(file.setattr({ mode: 0o100400, uid: 7, gid: 8 }, ROOT), 0);
  assert.deepEqual([file.getattr().mode, file.getattr().uid], [S_IFREG | 0o400, 7]);
  assert.equal(file.getattr().gid, 8);
  assert.equal(walk(root, '/proc/a').getxattr('user.x'), -95);
});

test('names: rows in their order, and all inode numbers different and stable (R12)', () => {
  const root = mount_root(m);
  const inos = new Map<number, string>();
  const visit = (dir: Vnode, path: string): void => {
    for (const entry of dir.readdir() as Dirent[]) {
      const node = dir.lookup(entry.name) as Vnode;
      const attr = node.getattr();
      assert.equal(attr.ino, entry.ino, path);
      assert.equal(attr.mode & S_IFMT, entry.mode, path);
      assert.equal(inos.get(attr.ino), undefined, path + '/' + entry.name);
      assert.ok(attr.ino <= 0xffffffff);
      assert.equal(dir.lookup(entry.name), node, 'the same node each time');
      inos.set(attr.ino, path + '/' + entry.name);
      if (entry.mode === S_IFDIR) visit(node, path + '/' + entry.name);
    }
  };
  visit(root, '');
  assert.ok(inos.size > 60);
  const names = (path: string): string[] =>
    (walk(root, path).readdir() as Dirent[]).map((entry) => entry.name);
  assert.deepEqual(names('/proc/sys/vm').slice(0, 3), [
    'overcommit_memory',
    'panic_on_oom',
    'oom_kill_allocating_task',
  ]);
  assert.deepEqual(names('/sys/devices/system/node'), [
    'possible',
    'online',
    'has_normal_memory',
    'has_cpu',
    'node0',
    'node1',
    'node2',
  ]);
  assert.deepEqual(names('/sys/devices/system/node/node2'), [
    'cpumap',
    'cpulist',
    'meminfo',
    'numastat',
    'distance',
    'scan_unevictable_pages',
    'compact',
  ]);
});

test('directories of processes come and go; an old file keeps its own process', () => {
  const tasks = new Map<string, { name: string }>([['300', { name: 'first' }]]);
  const spec: RowDirectory<Machine> = {
    path: '/proc/{pid}',
    mode: 0o555,
    names: () => [...tasks.keys()],
    find: (_m, name) => tasks.get(name) ?? null,
    owner: () => ({ uid: 5, gid: 6 }),
    rows: [
      {
        path: '/proc/{pid}/status',
        mode: 0o444,
        show(seq, _m, ctx) {
          seq.puts((ctx.object as { name: string }).name + ' ' + ctx.id);
        },
        doc: '',
      },
    ],
  };
  const root = mount([counter('/proc/a')], [spec]);
  const proc = walk(root, '/proc');
  const names = (): string[] => (proc.readdir() as Dirent[]).map((entry) => entry.name);
  assert.deepEqual(names(), ['a', '300']);
  assert.equal(proc.getattr().nlink, 3);
  const first = walk(root, '/proc/300/status');
  assert.equal(walk(root, '/proc/300/status'), first);
  assert.equal(first.getattr().uid, 5);
  assert.equal(walk(root, '/proc/300').getattr().gid, 6);
  const old_file = open(first, O_RDONLY);

  tasks.delete('300');
  assert.equal(proc.lookup('300'), -ENOENT);
  assert.deepEqual(names(), ['a']);
  tasks.set('300', { name: 'second' });
  tasks.set('301', { name: 'third' });
  assert.equal(pread(open(walk(root, '/proc/300/status'), O_RDONLY), 99, 0), 'second 300');
  assert.equal(pread(old_file, 99, 0), 'first 300');
  const inos = ['300', '301'].flatMap((pid) =>
    ['', '/status'].map((file) => walk(root, `/proc/${pid}${file}`).getattr().ino),
  );
  assert.equal(new Set(inos).size, 4);

  // The pid is used again before anybody has looked.
  const third = walk(root, '/proc/301/status');
  tasks.set('301', { name: 'fourth' });
  assert.notEqual(walk(root, '/proc/301/status'), third);
  assert.equal(pread(open(walk(root, '/proc/301/status'), O_RDONLY), 99, 0), 'fourth 301');
});
