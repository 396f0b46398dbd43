/**
 * The machine as a test double: the write log and the faults, through the tree as a mount sees it.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Caller, O_RDONLY, O_RDWR, O_WRONLY, type Vnode } from '../../src/fs/vfs.ts';
import { boot, is_job, type Machine, mount_root, run_job, save_machine } from '../../src/index.ts';
import { pin } from '../../src/lib/faults.ts';
import { MAX_BYTES, MAX_RECORDS } from '../../src/lib/write_log.ts';
import { load_machine } from '../../src/snapshot.ts';

const MIB = 2 ** 20;
const DEBUG = '/sys/kernel/debug/pageblock';
const OWNER: Caller = { uid: 0, gid: 0, pid: 0 };

class Tree {
  readonly m: Machine;
  readonly root: Vnode;

  constructor(m: Machine = boot({ memory: 256 * MIB, nodes: 2 })) {
    this.m = m;
    this.root = mount_root(m);
  }

  node(path: string): Vnode | number {
    let node: Vnode | number = this.root;
    for (const name of path.split('/').slice(1)) {
      if (typeof node === 'number') return node;
      node = node.lookup(name);
    }
    return node;
  }

  open(path: string, flags: number, caller = OWNER) {
    const node = this.node(path);
    return typeof node === 'number' ? node : node.open(flags, caller);
  }

  read(path: string): string | number {
    const file = this.open(path, O_RDONLY);
    if (typeof file === 'number') return file;
    const buf = Buffer.alloc(65536);
    const count = file.read(buf, 0);
    file.release();
    return count < 0 ? count : buf.toString('latin1', 0, count);
  }

  write(path: string, text: string, caller = OWNER): number {
    const file = this.open(path, O_WRONLY, caller);
    if (typeof file === 'number') return file;
    const result = file.write(Buffer.from(text, 'latin1'), 0);
    file.release();
    return is_job(result) ? run_job(result) : result;
  }

  writes(): Record<string, unknown>[] {
    const text = this.read(`${DEBUG}/writes`) as string;
    return text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}

describe('the write log', () => {
  it('notes path, bytes, result, writer and time of every write', () => {
    const tree = new Tree();
    tree.m.clock.now_ms = 1234.5;
    tree.write('/proc/sys/vm/nr_hugepages', '3\n', { uid: 7, gid: 7, pid: 0 });
    tree.write('/proc/sys/vm/swappiness', '9999\n', { uid: 0, gid: 0, pid: 42 });
    tree.write('/proc/sys/vm/nr_hugepages', '3\n');
    const common = { path: '/proc/sys/vm/nr_hugepages', bytes: '3\n', length: 2, result: 2 };
    assert.deepEqual(tree.writes(), [
      {
        n: 1,
        time: 1.2345,
        path: '/proc/sys/vm/swappiness',
        bytes: '9999\n',
        length: 5,
        result: -22,
        error: 'EINVAL',
        uid: 0,
        pid: 42,
      },
      { n: 2, time: 1.2345, ...common, uid: null, pid: null },
    ]);
  });

  it('shows a write that is still at work without a result', () => {
    const tree = new Tree();
    const file = tree.open('/proc/sys/vm/compact_memory', O_WRONLY);
    assert.ok(typeof file !== 'number');
    const job = file.write(Buffer.from('1'), 0);
    assert.ok(is_job(job));
    assert.equal(tree.writes()[0]!['result'], null);
    run_job(job);
    assert.equal(tree.writes()[0]!['result'], 1);
  });

  it('forgets when written to, keeps the last ones, and goes on counting', () => {
    const tree = new Tree();
    tree.write('/proc/sys/vm/swappiness', '1');
    assert.equal(tree.write(`${DEBUG}/writes`, '\n'), 1);
    assert.deepEqual(tree.writes(), []);
    for (let i = 0; i < MAX_RECORDS + 1; i++) tree.write('/proc/sys/vm/swappiness', '2');
    assert.ok(tree.m.write_log.records.length <= MAX_RECORDS);
    assert.equal(tree.m.write_log.records.at(-1)!.n, MAX_RECORDS + 2);
    tree.write('/proc/sys/vm/swappiness', ' '.repeat(MAX_BYTES + 5));
    const record = tree.m.write_log.records.at(-1)!;
    assert.deepEqual([record.bytes.length, record.length], [MAX_BYTES, MAX_BYTES + 5]);
  });

  it('is state of the machine', () => {
    const tree = new Tree();
    tree.write('/proc/sys/vm/swappiness', '12');
    tree.write(`${DEBUG}/fault/file`, '/proc/meminfo EIO');
    const again = new Tree(load_machine(save_machine(tree.m)));
    assert.deepEqual(again.writes(), tree.writes());
    assert.equal(again.read('/proc/meminfo'), -5);
  });
});

describe('faults', () => {
  it('pool: no page beyond N, for the pool and for overcommit alike', () => {
    const tree = new Tree();
    assert.equal(tree.write(`${DEBUG}/fault/pool`, '5\n'), 2);
    assert.equal(tree.read(`${DEBUG}/fault/pool`), '2048kB 5\n');
    tree.write('/proc/sys/vm/nr_hugepages', '20');
    assert.equal(tree.read('/proc/sys/vm/nr_hugepages'), '5\n');
    tree.write(`${DEBUG}/fault/pool`, 'off');
    tree.write('/proc/sys/vm/nr_hugepages', '20');
    assert.equal(tree.read('/proc/sys/vm/nr_hugepages'), '20\n');
    assert.equal(tree.write(`${DEBUG}/fault/pool`, '4kB 5'), -22);
    assert.equal(tree.write(`${DEBUG}/fault/pool`, 'many'), -22);
  });

  it('text: all that a file shows, with numbers pinned on top', () => {
    const tree = new Tree();
    const text = 'Node 0, zone      DMA\n  pages free     1\n';
    assert.ok(tree.write(`${DEBUG}/fault/text`, `/proc/zoneinfo\n${text}`) > 0);
    assert.equal(tree.read('/proc/zoneinfo'), text);
    assert.equal(tree.read(`${DEBUG}/fault/text`), `/proc/zoneinfo\n${text}`);
    assert.ok(tree.write(`${DEBUG}/fault/text`, '/proc/meminfo\nMemFree: 5 kB\n') > 0);
    assert.ok(tree.write(`${DEBUG}/fault/value`, '/proc/meminfo MemFree=7') > 0);
    assert.equal(tree.read('/proc/meminfo'), 'MemFree: 7 kB\n');
    assert.ok(tree.write(`${DEBUG}/fault/text`, '/proc/zoneinfo off') > 0);
    assert.match(tree.read('/proc/zoneinfo') as string, /nr_free_pages/);
    assert.equal(
      new Tree(load_machine(save_machine(tree.m))).read('/proc/meminfo'),
      'MemFree: 7 kB\n',
    );
    assert.ok(tree.write(`${DEBUG}/fault/text`, 'off\n') > 0);
    assert.equal(tree.read(`${DEBUG}/fault/text`), '');
    for (const wrong of ['x\ny', '/proc/meminfo', '/proc/meminfo more\ny', '']) {
      assert.equal(tree.write(`${DEBUG}/fault/text`, wrong), -22, wrong);
    }
  });

  it('file: errors at open, read and write, counted', () => {
    const tree = new Tree();
    const fault = (line: string) => tree.write(`${DEBUG}/fault/file`, line + '\n');
    const path = '/proc/sys/vm/swappiness';
    assert.ok(fault(`${path} EACCES`) > 0);
    assert.equal(tree.read(path), -13);
    assert.ok(fault(`${path} open EIO after=1 count=2`) > 0, 'replaces the one before');
    assert.deepEqual([tree.read(path), tree.read(path), tree.read(path)], ['60\n', -5, -5]);
    assert.equal(tree.read(path), '60\n');
    assert.equal(tree.read(`${DEBUG}/fault/file`), '');
    assert.ok(fault(`${path} write EAGAIN`) > 0);
    assert.deepEqual([tree.read(path), tree.write(path, '5')], ['60\n', -11]);
    assert.equal(tree.writes().at(-1)!['error'], 'EAGAIN');
    assert.ok(fault(`${path} EIO`) > 0);
    assert.equal(
      tree.read(`${DEBUG}/fault/file`),
      `${path} write EAGAIN\n${path} read write EIO\n`,
    );
    assert.ok(fault(`${path} off`) > 0);
    assert.equal(tree.read(path), '60\n');
    for (const wrong of ['proc EIO', path, `${path} ENOTHING`, `${path} EIO delay=3`]) {
      assert.equal(fault(wrong), -22, wrong);
    }
  });

  it('file: a delay is told to the transport, call by call', () => {
    const tree = new Tree();
    tree.write(`${DEBUG}/fault/file`, '/proc/vmstat read delay=250 after=1 count=1');
    const file = tree.open('/proc/vmstat', O_RDONLY);
    assert.ok(typeof file !== 'number');
    const delays = [1, 2, 3].map(() => file.delay!('read'));
    assert.deepEqual([...delays, file.delay!('write')], [0, 250, 0, 0]);
  });

  it('node: goes away between two reads', () => {
    const tree = new Tree();
    const dir = '/sys/devices/system/node';
    assert.ok(tree.write(`${DEBUG}/fault/node`, '1 after=1') > 0);
    const open = tree.open(`${dir}/node1/meminfo`, O_RDONLY);
    assert.ok(typeof open !== 'number');
    assert.equal(tree.read(`${dir}/online`), '0-1\n\0');
    assert.match(tree.read(`${dir}/node1/meminfo`) as string, /Node 1 MemTotal/);
    assert.equal(tree.node(`${dir}/node1`), -2);
    assert.equal(open.read(Buffer.alloc(10), 0), -19);
    assert.equal(tree.read(`${dir}/online`), '0\n\0');
    assert.equal(tree.read(`${dir}/possible`), '0-1\n\0');
    const listing = (tree.node(dir) as Vnode).readdir();
    assert.ok(typeof listing !== 'number');
    assert.deepEqual(
      listing.map(({ name }) => name).filter((name) => /^node/.test(name)),
      ['node0'],
    );
    tree.write(`${DEBUG}/fault/node`, '1 off');
    assert.equal(typeof tree.node(`${dir}/node1/numastat`), 'object');
    assert.equal(tree.write(`${DEBUG}/fault/node`, '7'), -22);
  });

  it('value: what a file shows, in its columns', () => {
    const tree = new Tree();
    tree.write(`${DEBUG}/fault/value`, '/proc/meminfo MemFree=1234567 MemAvailable=42\n');
    const text = tree.read('/proc/meminfo') as string;
    assert.match(text, /^MemFree: {9}1234567 kB$/m);
    assert.match(text, /^MemAvailable: {9}42 kB$/m);
    assert.equal(text.split('\n')[0]!.length, text.split('\n')[1]!.length);
    tree.write(`${DEBUG}/fault/value`, '/proc/vmstat pgpgin=9 nr_free_pages=123456789\n');
    assert.match(tree.read('/proc/vmstat') as string, /^nr_free_pages 123456789$/m);
    assert.match(tree.read('/proc/vmstat') as string, /^pgpgin 9$/m);
    tree.write(`${DEBUG}/fault/value`, '/proc/sys/vm/nr_hugepages =77\n');
    assert.equal(tree.read('/proc/sys/vm/nr_hugepages'), '77\n');
    tree.write(`${DEBUG}/fault/value`, 'off');
    assert.equal(tree.read('/proc/sys/vm/nr_hugepages'), '0\n');
    assert.equal(
      pin('\nNode 1 MemTotal:  100 kB\n', 'MemTotal', '7'),
      '\nNode 1 MemTotal:    7 kB\n',
    );
  });

  it('opens read-write as well', () => {
    const tree = new Tree();
    assert.equal(typeof tree.open(`${DEBUG}/fault/pool`, O_RDWR), 'object');
  });
});
