/**
 * What every transport must do, as a program sees it. `conformance` defines the tests; each
 * transport's test file calls it with a client for fakeTree (test/helpers/fakeTree.ts).
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import {
  O_APPEND,
  O_CREAT,
  O_EXCL,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../../src/fs/vfs.ts';
import {
  EACCES,
  EBADF,
  EEXIST,
  EINVAL,
  EIO,
  EISDIR,
  ENOENT,
  ENOTDIR,
  ENOTEMPTY,
  EPERM,
} from '../../src/lib/errno.ts';
import type { Client, Stat } from '../helpers/client.ts';
import { BIG_SIZE, bigText } from '../helpers/fakeTree.ts';

export interface Served {
  readonly client: Client;
  end(): Promise<void>;
}

export function conformance(
  name: string,
  serve: () => Promise<Served>,
  skip: string | false = false,
): void {
  describe(`transport ${name}`, { skip, timeout: 120_000 }, () => {
    let served: Served;
    let client: Client;
    before(async () => {
      served = await serve();
      client = served.client;
    });
    after(() => served?.end());

    const opened = async (path: string, flags: number, mode?: number): Promise<number> => {
      const fd = await client.open(path, flags, mode);
      assert.ok(fd >= 0, `open ${path}: ${fd}`);
      return fd;
    };
    const text = async (fd: number, size = 65536, pos?: number): Promise<string> => {
      const buf = Buffer.alloc(size);
      const count = await client.read(fd, buf, pos);
      assert.ok(count >= 0, `read: ${count}`);
      return buf.toString('utf8', 0, count);
    };
    const slurp = async (path: string, size?: number): Promise<string> => {
      const fd = await opened(path, O_RDONLY);
      let all = '';
      for (let part = await text(fd, size); part !== ''; part = await text(fd, size)) all += part;
      assert.equal(await client.close(fd), 0);
      return all;
    };
    const store = async (path: string, data: string, flags = O_WRONLY): Promise<number> => {
      const fd = await client.open(path, flags);
      if (fd < 0) return fd;
      const result = await client.write(fd, Buffer.from(data));
      assert.equal(await client.close(fd), 0);
      return result;
    };
    const stat = async (path: string): Promise<Stat> => {
      const result = await client.stat(path);
      assert.ok(typeof result !== 'number', `stat ${path}: ${result}`);
      return result;
    };

    it('gives the whole of a file whose size is 0', async () => {
      assert.equal((await stat('/proc/value')).size, 0);
      await store('/proc/value', '5\n');
      assert.equal(await slurp('/proc/value'), '5\n');
    });

    it('keeps one snapshot per open, whatever the read size', async () => {
      for (const size of [1000, 4096, 131072, 1048576]) {
        assert.equal(await slurp('/proc/big', size), bigText());
      }
    });

    it('keeps a snapshot across reads of one byte', async () => {
      const fd = await opened('/proc/counter', O_RDONLY);
      let bytes = '';
      for (let i = 0; i < 10; i++) bytes += await text(fd, 1);
      assert.match(bytes, /^\d{9}\n$/);
      await client.close(fd);
    });

    it('makes the contents again for a read at offset 0', async () => {
      const fd = await opened('/proc/counter', O_RDONLY);
      const first = Number(await text(fd, 100, 0));
      assert.equal(Number(await text(fd, 100, 0)), first + 1);
      await client.close(fd);
    });

    it('generates for a first read at an offset', async () => {
      const fd = await opened('/proc/big', O_RDONLY);
      assert.equal(await text(fd, 64, 64), bigText().slice(64, 128));
      assert.equal(await text(fd, 64, BIG_SIZE), '');
      await client.close(fd);
    });

    it('takes a write, and shows it to every reader at once', async () => {
      const reader = await opened('/proc/value', O_RDONLY);
      assert.equal(await store('/proc/value', '41\n'), 3);
      assert.equal(await text(reader, 100, 0), '41\n');
      assert.equal(await store('/proc/value', '42'), 2);
      assert.equal(await text(reader, 100, 0), '42\n');
      await client.close(reader);
    });

    it('reads and writes through one descriptor', async () => {
      const fd = await opened('/proc/value', O_RDWR);
      assert.equal(await client.write(fd, Buffer.from('6\n'), 0), 2);
      assert.equal(await text(fd, 100, 0), '6\n');
      assert.equal(await client.write(fd, Buffer.from('7\n'), 0), 2);
      assert.equal(await text(fd, 100, 0), '7\n');
      await client.close(fd);
    });

    it('accepts the flags that shells and tools use', async () => {
      for (const flags of [O_TRUNC, O_CREAT, O_TRUNC | O_CREAT, O_NONBLOCK, O_APPEND]) {
        assert.equal(await store('/proc/value', '8\n', O_WRONLY | flags), 2);
        assert.equal(await slurp('/proc/value'), '8\n');
      }
      assert.equal(await client.truncate('/proc/value', 0), 0);
      assert.equal(await slurp('/proc/value'), '8\n');
    });

    it('carries errors of a write unchanged', async () => {
      assert.equal(await store('/proc/value', 'abc\n'), -EINVAL);
      assert.equal(await slurp('/proc/value'), '8\n');
    });

    it('refuses to read a write-only file, root too', async () => {
      assert.equal(await client.open('/proc/trigger', O_RDONLY), -EACCES);
      assert.equal(await client.open('/proc/trigger', O_RDWR), -EACCES);
      assert.equal(await store('/proc/trigger', '1\n'), 2);
    });

    it('answers EIO when an operation throws, and goes on', async () => {
      assert.equal(await store('/proc/throws', 'x'), -EIO);
      const fd = await opened('/proc/throws', O_RDONLY);
      assert.equal(await client.read(fd, Buffer.alloc(10)), -EIO);
      await client.close(fd);
      assert.equal(await slurp('/proc/value'), '8\n');
    });

    it('splits a long write, with offsets', async () => {
      assert.equal(await store('/proc/sink', 'x'.repeat(300_000)), 300_000);
      const pieces = (await slurp('/proc/writes')).trim().split('\n');
      let next = 0;
      for (const piece of pieces.slice(-3)) {
        const [pos, length] = piece.split(' ').map(Number);
        assert.equal(pos, next);
        assert.ok(length! <= 131072);
        next += length!;
      }
      assert.equal(next, 300_000);
    });

    it('answers reads while slow writes are under way', async () => {
      const start = performance.now();
      const writes = [0, 1].map((i) => store(`/proc/slow${i}`, '600'));
      let reads = 0;
      const reader = (async () => {
        while (performance.now() - start < 500) {
          assert.equal(await slurp('/proc/value'), '8\n');
          reads++;
        }
      })();
      assert.deepEqual(await Promise.all(writes), [3, 3]);
      const took = performance.now() - start;
      await reader;
      assert.ok(took >= 595, `the writes were answered after ${took} ms`);
      assert.ok(reads >= 20, `only ${reads} reads in 500 ms`);
    });

    it('puts the dots first in a directory', async () => {
      const names = await client.readdir('/proc');
      assert.ok(typeof names !== 'number');
      assert.deepEqual(names.slice(0, 4), ['.', '..', 'value', 'counter']);
      assert.deepEqual(await client.readdir('/disk'), ['.', '..']);
    });

    it('tells a missing name, a file that is no directory, and the reverse', async () => {
      assert.equal(await client.open('/proc/none', O_RDONLY), -ENOENT);
      assert.equal(await client.open('/proc/none', O_WRONLY | O_CREAT), -ENOENT);
      assert.equal(await client.mkdir('/proc/none'), -ENOENT);
      assert.equal(await client.unlink('/proc/value'), -EPERM);
      assert.equal(await client.stat('/proc/value/x'), -ENOTDIR);
      assert.equal(await client.open('/proc', O_WRONLY), -EISDIR);
    });

    it('creates, writes, reads, truncates and removes files', async () => {
      const fd = await opened('/disk/a', O_RDWR | O_CREAT | O_EXCL, 0o640);
      assert.equal(await client.open('/disk/a', O_RDWR | O_CREAT | O_EXCL), -EEXIST);
      assert.equal(await client.write(fd, Buffer.from('hello world')), 11);
      assert.equal(await client.fsync(fd), 0);
      assert.equal(await client.write(fd, Buffer.from('!'), 4096), 1);
      assert.equal(await client.ftruncate(fd, 5), 0);
      assert.equal(await client.close(fd), 0);
      const { size, mode } = await stat('/disk/a');
      assert.deepEqual([size, mode], [5, S_IFREG | 0o640]);
      assert.equal(await slurp('/disk/a'), 'hello');
      assert.equal(await client.chmod('/disk/a', 0o600), 0);
      assert.equal((await stat('/disk/a')).mode, S_IFREG | 0o600);
      assert.equal(await client.utimes('/disk/a', 1_234_567_890_250), 0);
      assert.equal((await stat('/disk/a')).mtime, 1_234_567_890_250);
      assert.equal(await store('/disk/a', 'xy', O_WRONLY | O_TRUNC), 2);
      assert.equal(await store('/disk/a', 'z', O_WRONLY | O_APPEND), 1);
      assert.equal(await slurp('/disk/a'), 'xyz');
      assert.equal(await client.unlink('/disk/a'), 0);
      assert.equal(await client.stat('/disk/a'), -ENOENT);
    });

    it('keeps what was opened for reading from being written', async () => {
      const fd = await opened('/proc/value', O_RDONLY);
      assert.equal(await client.write(fd, Buffer.from('1')), -EBADF);
      await client.close(fd);
    });

    it('makes directories, links and renames', async () => {
      assert.equal(await client.mkdir('/disk/d'), 0);
      assert.equal((await stat('/disk/d')).mode & S_IFMT, S_IFDIR);
      assert.equal(await store('/disk/d/f', 'data', O_WRONLY | O_CREAT), 4);
      assert.equal(await client.rmdir('/disk/d'), -ENOTEMPTY);
      assert.equal(await client.symlink('d/f', '/disk/s'), 0);
      assert.equal(await client.readlink('/disk/s'), 'd/f');
      assert.equal(await slurp('/disk/s'), 'data');
      const link = await client.lstat('/disk/s');
      assert.ok(typeof link !== 'number' && (link.mode & S_IFMT) === S_IFLNK);
      assert.equal(await client.link('/disk/d/f', '/disk/h'), 0);
      assert.equal((await stat('/disk/h')).ino, (await stat('/disk/d/f')).ino);
      assert.equal((await stat('/disk/h')).nlink, 2);
      assert.equal(await client.rename('/disk/d/f', '/disk/g'), 0);
      assert.equal(await client.stat('/disk/d/f'), -ENOENT);
      assert.equal(await store('/disk/old', 'old', O_WRONLY | O_CREAT), 3);
      assert.equal(await client.rename('/disk/g', '/disk/old'), 0);
      assert.equal(await slurp('/disk/old'), 'data');
      assert.equal(await client.rmdir('/disk/d'), 0);
      for (const name of ['s', 'h', 'old']) assert.equal(await client.unlink(`/disk/${name}`), 0);
      assert.deepEqual(await client.readdir('/disk'), ['.', '..']);
    });

    it('keeps an open file alive that was unlinked, without a name', async () => {
      const fd = await opened('/disk/u', O_RDWR | O_CREAT);
      await client.write(fd, Buffer.from('still'));
      assert.equal(await client.unlink('/disk/u'), 0);
      assert.equal(await client.stat('/disk/u'), -ENOENT);
      assert.deepEqual(await client.readdir('/disk'), ['.', '..']);
      assert.equal(await client.write(fd, Buffer.from(' here'), 5), 5);
      assert.equal(await text(fd, 100, 0), 'still here');
      const attr = await client.fstat(fd);
      assert.ok(typeof attr !== 'number', `fstat: ${attr}`);
      assert.deepEqual([attr.size, attr.nlink], [10, 0]);
      assert.equal(await client.ftruncate(fd, 5), 0);
      assert.equal(await text(fd, 100, 0), 'still');
      assert.equal(await client.close(fd), 0);
      assert.deepEqual(await client.readdir('/disk'), ['.', '..']);
    });

    it('keeps an open file alive that a rename replaced', async () => {
      await store('/disk/new', 'new', O_WRONLY | O_CREAT);
      const fd = await opened('/disk/r', O_RDWR | O_CREAT);
      await client.write(fd, Buffer.from('replaced'));
      assert.equal(await client.rename('/disk/new', '/disk/r'), 0);
      assert.equal(await slurp('/disk/r'), 'new');
      assert.equal(await text(fd, 100, 0), 'replaced');
      await client.close(fd);
      assert.equal(await client.unlink('/disk/r'), 0);
      assert.deepEqual(await client.readdir('/disk'), ['.', '..']);
    });

    it('takes names of 255 bytes, in UTF-8', async () => {
      const name = 'ü'.repeat(127) + 'x';
      assert.equal(await store(`/disk/${name}`, '1', O_WRONLY | O_CREAT), 1);
      assert.deepEqual(await client.readdir('/disk'), ['.', '..', name]);
      assert.equal(await client.unlink(`/disk/${name}`), 0);
    });

    it('tells the size of the file system', async () => {
      const result = await client.statfs('/disk');
      assert.ok(typeof result !== 'number');
      assert.deepEqual([result.bsize, result.blocks, result.bfree], [4096, 1000, 500]);
    });
  });
}
