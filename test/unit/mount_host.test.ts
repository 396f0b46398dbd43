/** What mount/ knows of the host: native/, the disk file, mountinfo, records, option texts. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { MountOptions } from '../../mount/config.ts';
import { formatSize, parseKernel, parseSeed, parseSize } from '../../mount/config.ts';
import { HostDisk } from '../../mount/host_disk.ts';
import { swapBytes } from '../../mount/machine.ts';
import { canonicalMountPoint, parseMountinfo } from '../../mount/mountinfo.ts';
import { alignOffset, discard, hasAddon, setCloexec, umount } from '../../mount/native.ts';
import { bootId, isAlive, type ServerRecord, startTimeOf } from '../../mount/runtime.ts';

const PAGE = 4096;

function tempDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'pageblock-unit-'));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

it('discard zeroes exactly the given pages, in any order', { skip: !hasAddon() }, () => {
  const buffer = new SharedArrayBuffer(64 * PAGE + PAGE);
  const start = alignOffset(buffer);
  assert.ok(start >= 0 && start < PAGE);
  const bytes = new Uint8Array(buffer);
  bytes.fill(7);
  const pages = [40, 3, 41, 5, 4, 42];
  assert.equal(discard(buffer, Uint32Array.from([...pages, 50, 51]), pages.length), 6);
  for (let page = 0; page < 64; page++) {
    const expected = pages.includes(page) ? 0 : 7;
    for (const at of [0, PAGE - 1]) {
      assert.equal(bytes[start + page * PAGE + at], expected, `page ${page}`);
    }
  }
});

it('discard gives memory back to the host', { skip: !hasAddon() }, () => {
  const resident = () => Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[1]) * PAGE;
  const buffer = new SharedArrayBuffer(64 << 20);
  new Uint8Array(buffer).fill(1);
  const before = resident();
  const count = (64 << 20) / PAGE - 1;
  discard(
    buffer,
    Uint32Array.from({ length: count }, (_, i) => i),
    count,
  );
  assert.ok(before - resident() > 50 << 20);
});

it('discard refuses pages outside of the buffer', { skip: !hasAddon() }, () => {
  const buffer = new SharedArrayBuffer(8 * PAGE);
  assert.throws(() => discard(buffer, Uint32Array.of(8), 1), /outside the buffer/);
  assert.throws(() => discard(buffer, Uint32Array.of(0xffffffff), 1), /outside the buffer/);
});

it('system calls return errnos', { skip: !hasAddon() }, async (t) => {
  assert.equal(setCloexec(9999), -9);
  assert.ok([-22, -1].includes(await umount(tempDir(t), 2)));
});

it('works without the addon', () => {
  const script = `
    import { alignOffset, discard, hasAddon, umount } from '../../mount/native.js';
    const b = new SharedArrayBuffer(8192);
    console.log(hasAddon(), alignOffset(b), discard(b, Uint32Array.of(0), 1), await umount('/x', 0));`;
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: dirname(fileURLToPath(import.meta.url)),
    env: { ...process.env, PAGEBLOCK_NO_ADDON: '1' },
    encoding: 'utf8',
  });
  assert.equal(out, 'false 0 0 -38\n');
});

it('a host disk is sparse, keeps data, and gives ranges back', (t) => {
  const path = join(tempDir(t), 'disk');
  const disk = new HostDisk(path, 1 << 30);
  assert.equal(disk.size, 1 << 30);
  const page = new Uint8Array(PAGE).fill(0xa5);
  assert.equal(disk.write(page, 5 * PAGE), 0);
  assert.equal(disk.write(page, (1 << 30) - PAGE), 0);
  const read = new Uint8Array(PAGE);
  assert.equal(disk.read(read, 5 * PAGE), 0);
  assert.deepEqual(read, page);
  assert.equal(disk.read(read, 6 * PAGE), 0);
  assert.deepEqual(read, new Uint8Array(PAGE));
  assert.ok(statSync(path).blocks < 1000);
  disk.discard(5 * PAGE, PAGE);
  if (hasAddon()) {
    disk.read(read, 5 * PAGE);
    assert.deepEqual(read, new Uint8Array(PAGE));
  }
  assert.equal(disk.flush(), 0);
  disk.close();
  const again = new HostDisk(path);
  assert.equal(again.size, 1 << 30);
  assert.equal(again.read(read, (1 << 30) - PAGE), 0);
  assert.deepEqual(read, page);
  again.close();
});

it('the swap area lies at the end of the host file', (t) => {
  const path = join(tempDir(t), 'disk');
  const options = { pageSize: PAGE, swap: 64 * PAGE } as MountOptions;
  const bytes = swapBytes(options);
  assert.equal(bytes, 64 * PAGE + PAGE);
  const disk = new HostDisk(path, 1 << 20, bytes);
  assert.equal(disk.size, 1 << 20);
  assert.equal(statSync(path).size, (1 << 20) + bytes);
  const swap = disk.swap!;
  assert.equal(swap.size, bytes);
  const page = new Uint8Array(PAGE).fill(7);
  assert.equal(swap.write(page, 3 * PAGE), 0);
  disk.close();
  const again = new HostDisk(path, undefined, bytes);
  assert.equal(again.size, 1 << 20);
  const read = new Uint8Array(PAGE);
  assert.equal(again.read(read, (1 << 20) + 3 * PAGE), 0);
  assert.deepEqual(read, page);
  assert.equal(again.swap!.read(read, 4 * PAGE), 0);
  assert.deepEqual(read, new Uint8Array(PAGE));
  again.close();
  assert.throws(
    () => new HostDisk(path, undefined, 1 << 22),
    /too small for 4194304 bytes of swap/,
  );
  assert.equal(swapBytes({ pageSize: PAGE } as MountOptions), 0);
});

it('a temporary disk has no name', (t) => {
  const dir = tempDir(t);
  const before = process.env['TMPDIR'];
  process.env['TMPDIR'] = dir;
  const disk = new HostDisk(undefined, 1 << 20);
  if (before === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = before;
  assert.deepEqual(readdirSync(dir), []);
  assert.equal(disk.write(Uint8Array.of(1, 2, 3), 10), 0);
  const read = new Uint8Array(3);
  assert.equal(disk.read(read, 10), 0);
  assert.deepEqual([...read], [1, 2, 3]);
  disk.close();
  assert.throws(() => new HostDisk(join(dir, 'no/such/dir')), /cannot use .* as disk \(ENOENT\)/);
});

it('mountinfo: blanks in paths, optional fields', () => {
  const text =
    '22 1 0:21 / / rw - ext4 /dev/vda rw\n' +
    '30 22 0:40 / /a\\040b/c rw,nosuid shared:5 master:1 - fuse.pageblock pageblock rw\n';
  const [root, ours] = parseMountinfo(text);
  assert.deepEqual(
    [root?.path, root?.type, ours?.path, ours?.type, ours?.source, ours?.device, ours?.id],
    ['/', 'ext4', '/a b/c', 'fuse.pageblock', 'pageblock', '0:40', 30],
  );
});

it('a mount point is known by its real path', (t) => {
  const dir = tempDir(t);
  mkdirSync(join(dir, 'x'));
  assert.equal(canonicalMountPoint(join(dir, 'x/../x/')), join(dir, 'x'));
  assert.equal(canonicalMountPoint('/proc/self/../../proc'), '/proc');
  assert.equal(canonicalMountPoint(join(dir, 'new')), join(dir, 'new'));
});

it('a process is known by its start time, not by its pid alone', () => {
  const record = {
    pid: process.pid,
    startTime: startTimeOf(process.pid),
    bootId: bootId(),
  } as ServerRecord;
  assert.ok(isAlive(record));
  assert.ok(!isAlive({ ...record, startTime: '1' }));
  assert.ok(!isAlive({ ...record, bootId: 'another' }));
  assert.ok(!isAlive({ ...record, pid: 2 ** 22 + 1 }));
});

it('sizes, seeds and kernels', () => {
  assert.equal(parseSize('512M'), 512 * 2 ** 20);
  assert.equal(parseSize('2g'), 2 ** 31);
  assert.equal(parseSize('1TiB'), 2 ** 40);
  assert.equal(formatSize(parseSize('8G')), '8G');
  for (const wrong of ['', '0', '-1', '2X', '1.5G', 'G']) assert.throws(() => parseSize(wrong));
  assert.equal(parseSeed('0'), 0);
  assert.throws(() => parseSeed('4294967296'));
  assert.throws(() => parseKernel('3.10'), /Choose 2\.6\.35 or 6\.1/);
});
