/**
 * The recorded table of system calls against a real mount: as root, as two ordinary users, and
 * with each string written one byte at a time. What differs is listed in helpers/errno_table.ts
 * and must differ in just that way.
 */
import assert from 'node:assert/strict';
import { chmodSync, readFileSync } from 'node:fs';
import { it, type TestContext } from 'node:test';
import {
  C8,
  C9,
  errno_records,
  is_c8,
  POOL_LIMIT,
  type Rec,
  records_by_file,
  STATE,
} from '../helpers/errno_table.ts';
import { mountMachine, notRoot } from '../helpers/mounts.ts';
import { NOBODY, run, sh } from '../helpers/processes.ts';

const asRoot = { skip: notRoot(), timeout: 120_000 };

/**
 * Makes the calls of the table as they were made then, one answer a line. Python's os functions are
 * the bare system calls; Node's write is not, it writes again what one call left.
 */
const CALLS = `
import errno, json, os, sys
mnt = sys.argv[1]
FLAGS = {'open_rdwr': os.O_RDWR, 'open_rdonly': os.O_RDONLY, 'open_wronly': os.O_WRONLY,
         'open_trunc': os.O_WRONLY | os.O_TRUNC}
def guarded(f, *args):
    try: return f(*args), 0
    except OSError as e: return -1, e.errno
def call(rec, path):
    op = rec['op']
    if op == 'stat':
        st = os.stat(path)
        return {'mode': '%o' % (st.st_mode & 0o7777), 'size': st.st_size}
    if op in FLAGS: os.close(os.open(path, FLAGS[op]))
    if op == 'chmod': os.chmod(path, 0o666)
    if op == 'truncate': os.truncate(path, 0)
    if op == 'unlink': os.unlink(path)
    if op in ('read', 'write', 'bytes'):
        fd, err = guarded(os.open, path, os.O_RDONLY if op == 'read' else os.O_WRONLY)
        if err: return {'open_errno': err}
        try:
            if op == 'read':
                data, err = guarded(os.read, fd, rec.get('length', 65536))
                if err: return {'ret': -1, 'errno': err}
                return {'ret': len(data), 'errno': 0, 'data': data.decode('latin1'),
                        'ret2': len(os.read(fd, 64))}
            data = rec['data'].encode('latin1')
            if op == 'bytes':
                return {'each': [guarded(os.write, fd, data[i:i + 1]) for i in range(len(data))]}
            ret, err = guarded(os.write, fd, data)
            return {'ret': ret, 'errno': err, 'off': os.lseek(fd, 0, os.SEEK_CUR)}
        finally: os.close(fd)
    return {'errno': 0}
for line in sys.stdin:
    rec = json.loads(line)
    try: print(json.dumps(call(rec, mnt + rec['file'])))
    except OSError as e: print(json.dumps({'errno': e.errno}))
`;

type Call = Partial<Rec> & { length?: number };
type Answer = Partial<Rec> & { each?: [number, number][] };

/** The answers of the mount to calls, made by one process of the user `uid`. */
async function make_calls(mnt: string, calls: readonly Call[], uid?: number): Promise<Answer[]> {
  const input = calls.map((call) => JSON.stringify(call)).join('\n');
  // The superuser's own Python may be closed to others: theirs is the system's.
  const env = { ...process.env, PATH: `/usr/bin:/bin:${process.env['PATH']}` };
  const options = { input, timeout: 60_000, ...(uid === undefined ? {} : { uid, env }) };
  const { stdout, stderr } = await run('python3', ['-c', CALLS, mnt], options);
  assert.equal(stderr, '');
  const answers = stdout.trimEnd().split('\n');
  assert.equal(answers.length, calls.length);
  return answers.map((line) => JSON.parse(line) as Answer);
}

/** A machine of the recorded size, in the state in which the table was made; others may enter. */
async function recordedMount(t: TestContext): Promise<string> {
  const mnt = await mountMachine(t, ['--memory', '512M', '--nodes', '3']);
  chmodSync(mnt.slice(0, mnt.lastIndexOf('/')), 0o755);
  await sh(`echo 45056 > ${mnt}/proc/sys/vm/min_free_kbytes`);
  return mnt;
}

/** What the recorder did before each file, and before the reads of a few bytes at the end. */
function resets(rec: Rec): Call[] {
  const write = (file: string, data: string): Call => ({ op: 'write', file, data });
  if (rec.op === 'stat') {
    return ['nr_hugepages', 'nr_overcommit_hugepages'].map((name) =>
      write('/proc/sys/vm/' + name, '0\n'),
    );
  }
  return rec.file.endsWith('/extfrag_threshold') ? [write(rec.file, '500\n')] : [];
}

/** Differences that FUSE forces, counted: an answer may differ in no other way. */
class Differs {
  empty = 0;
  clamped = 0;
  offset = 0;
  c8 = 0;

  /** Compares what a write returned, and where it left the file offset. */
  write(ours: Answer, rec: Rec, where: string): void {
    if (rec.len === 0) {
      // Differs: the host keeps an empty write to itself.
      if (rec.ret !== 0) this.empty++;
      assert.deepEqual([ours.ret, ours.off], [0, 0], where);
      return;
    }
    // Differs: compact_memory returns 3 for less; FUSE cannot return more than was written.
    if (rec.ret > rec.len) {
      assert.equal(rec.file, '/proc/sys/vm/compact_memory');
      this.clamped++;
    }
    const ret = Math.min(rec.ret, rec.len);
    assert.deepEqual([ours.ret, ours.errno], [ret, rec.errno], where);
    // Differs: the offset moves by the result, also where a handler left it alone.
    if (ours.off !== rec.off) this.offset++;
    assert.equal(ours.off, Math.max(0, ret), where);
  }

  /** Compares a read; `unchanged` is what must be there where C8 leaves a pool alone. */
  read(ours: Answer, rec: Rec, unchanged: string | null, where: string): void {
    assert.equal(ours.open_errno, rec.open_errno, where);
    if (rec.open_errno !== undefined) return;
    assert.equal(ours.errno, rec.errno, where);
    if (rec.errno !== 0) return;
    if (STATE.test(rec.file)) {
      assert.ok(ours.ret! > 0, where);
      // Differs: Linux fills a read with whole zones of zoneinfo only; ours comes in one piece.
      if (rec.file !== '/proc/zoneinfo') assert.equal(ours.ret2, rec.ret2, where);
    } else if (unchanged !== null) {
      if (ours.data !== rec.data) this.c8++;
      assert.equal(ours.data, unchanged, where);
    } else if (/hugepages/.test(rec.file) && Number(rec.data) > POOL_LIMIT) {
      assert.ok(Number(ours.data) > POOL_LIMIT, where);
    } else {
      assert.deepEqual(
        [ours.data, ours.ret, ours.ret2],
        [rec.data, rec.ret, rec.ret2],
        `${where} gives ${JSON.stringify(ours.data)}`,
      );
    }
  }
}

const title = (rec: Rec): string => `${rec.op} ${rec.file} ${JSON.stringify(rec.data ?? '')}`;

it('answers root as the recorded kernel did: every call of the table', asRoot, async (t) => {
  const mnt = await recordedMount(t);
  const records = errno_records();
  const calls: Call[] = [];
  const at: number[] = [];
  records.forEach((rec, i) => {
    const again = rec.op === 'read' && records[i - 1]!.op === 'read';
    if (rec.op === 'stat' || again) calls.push(...resets(rec));
    at.push(calls.length);
    calls.push(again ? { ...rec, length: rec.ret } : rec);
  });
  const answers = await make_calls(mnt, calls);
  const differs = new Differs();
  let text: string | null = null;
  records.forEach((rec, i) => {
    const ours = answers[at[i]!]!;
    const last = records[i - 1];
    const where = `${title(rec)} after ${last === undefined ? '' : title(last)}`;
    if (rec.op === 'write') differs.write(ours, rec, where);
    else if (rec.op === 'read') {
      differs.read(ours, rec, last !== undefined && is_c8(last) ? text : null, where);
      text = ours.data ?? null;
    } else {
      for (const [key, value] of Object.entries(ours)) {
        assert.equal(value, rec[key as keyof Rec], `${where}: ${key}`);
      }
    }
  });
  assert.equal(records.length, 2769);
  const { empty, clamped, offset, c8 } = differs;
  assert.deepEqual({ empty, clamped, offset, c8 }, { empty: 8, clamped: 10, offset: 132, c8: 34 });
});

it('C8, C9: each case that differs on purpose, as listed', asRoot, async (t) => {
  const mnt = await recordedMount(t);
  const recorded = errno_records().filter(is_c8);
  assert.equal(recorded.length, C8.files.length * C8.strings.length, 'each is in the table');
  for (const rec of recorded) assert.ok(rec.off === 0 || rec.data.startsWith('-'), title(rec));
  for (const file of C8.files) {
    const calls = C8.strings.flatMap((data): Call[] => [
      { op: 'write', file, data: '5\n' },
      { op: 'write', file, data },
      { op: 'read', file },
    ]);
    const answers = await make_calls(mnt, calls);
    C8.strings.forEach((data, i) => {
      assert.equal(answers[3 * i + 1]!.ret, data.length, 'as in the real kernel');
      assert.equal(answers[3 * i + 2]!.data, '5\n', `${file} after ${JSON.stringify(data)}`);
    });
  }
  for (const [file, data] of C9) {
    const before = readFileSync(mnt + file, 'utf8');
    const [wrote] = await make_calls(mnt, [{ op: 'write', file, data }]);
    assert.deepEqual([wrote!.ret, wrote!.errno], data === '' ? [0, 0] : [-1, 22], file);
    assert.equal(readFileSync(mnt + file, 'utf8'), before);
  }
});

/** What write(2) of one byte gave in the table: its result, and the text then, or null for no change. */
interface ByteRec {
  result: [ret: number, errno: number];
  text: string | null;
}

/** The table's answer to this byte alone; undefined if that was not recorded. */
function byte_record(records: readonly Rec[], byte: string): ByteRec | undefined {
  // A digit and a newline is that digit; any letter is as good as foo.
  for (const data of [byte, byte + '\n', ...(/[fo]/.test(byte) ? ['foo'] : [])]) {
    const i = records.findIndex((rec) => rec.op === 'write' && rec.data === data);
    if (i < 0) continue;
    const [before, wrote, after] = records.slice(i - 1, i + 2) as [Rec, Rec, Rec];
    const result: [number, number] = [Math.min(wrote.ret, 1), wrote.errno];
    // Not taken: an error, one that was swallowed, C8, or a number that was silently dropped.
    const number = Number(after.data);
    const dropped = after.data === before.data && !Number.isNaN(number) && number !== Number(byte);
    const taken = wrote.ret > 0 && wrote.off > 0 && !is_c8(wrote) && !dropped;
    return { result, text: taken ? (after.data ?? null) : null };
  }
  return undefined;
}

it('one byte at a time: each byte is a write of its own', asRoot, async (t) => {
  const mnt = await recordedMount(t);
  const files = records_by_file();
  const calls: Call[] = [];
  const chosen: [Rec, number][] = [];
  for (const [file, records] of files) {
    calls.push(...resets(records[0]!), { op: 'chmod', file });
    let strings = 0;
    for (const rec of records) {
      if (rec.op !== 'write' || rec.data === '') continue;
      if (![...rec.data].every((byte) => byte_record(records, byte) !== undefined)) continue;
      chosen.push([rec, calls.length]);
      calls.push({ op: 'bytes', file, data: rec.data }, { op: 'read', file });
      strings++;
    }
    assert.ok(strings >= 9, file);
  }
  const answers = await make_calls(mnt, calls);
  let compared = 0;
  let text = '';
  let last = '';
  for (const [{ file, data }, at] of chosen) {
    const where = `${file} ${JSON.stringify(data)}`;
    const records = files.get(file)!;
    const first = records.find((rec) => rec.op === 'read')!;
    if (file !== last) text = first.data;
    last = file;
    const expected = [...data].map((byte) => {
      const recorded = byte_record(records, byte)!;
      text = recorded.text ?? text;
      return recorded.result;
    });
    assert.deepEqual(answers[at]!.each, expected, where);
    const read = answers[at + 1]!;
    if (first.open_errno !== undefined) assert.equal(read.open_errno, first.open_errno);
    else if (first.errno !== 0) assert.equal(read.errno, first.errno);
    else if (!STATE.test(file)) assert.equal(read.data, text, where);
    compared += expected.length;
  }
  assert.equal(compared, 1816);
});

for (const uid of [NOBODY, 1000]) {
  it(`user ${uid}: the other bits of the recorded mode decide`, asRoot, async (t) => {
    const mnt = await recordedMount(t);
    const may = (rec: Rec, bits: number): number =>
      (Number.parseInt(rec.mode, 8) & bits) === bits ? 0 : 13;
    let writable = 0;
    const files = records_by_file();
    const whole = [...files.keys()].flatMap((file): Call[] => [
      { op: 'stat', file },
      { op: 'read', file },
    ]);
    const before = await make_calls(mnt, whole);
    const records = [...files.values()].flat();
    const answers = await make_calls(mnt, records, uid);
    const after = await make_calls(mnt, whole);
    const modes = new Map([...files].map(([file, list]) => [file, list[0]!]));
    const texts = new Map([...files.keys()].map((file, i) => [file, before[2 * i + 1]!.data]));
    records.forEach((rec, i) => {
      const ours = answers[i]!;
      const where = `user ${uid}: ${title(rec)}`;
      const stat = modes.get(rec.file)!;
      switch (rec.op) {
        case 'stat':
          assert.deepEqual([ours.mode, ours.size], [rec.mode, rec.size], where);
          break;
        case 'open_rdwr':
          assert.equal(ours.errno, may(stat, 0o006), where);
          break;
        case 'open_rdonly':
          assert.equal(ours.errno, may(stat, 0o004), where);
          break;
        case 'open_wronly':
        case 'open_trunc':
        case 'truncate':
          assert.equal(ours.errno, may(stat, 0o002), where);
          break;
        case 'chmod':
          assert.equal(ours.errno, 1, where);
          break;
        case 'unlink':
          assert.equal(ours.errno, 13, where);
          break;
        case 'write':
          assert.equal(ours.open_errno, 13, where);
          break;
        default:
          if (may(stat, 0o004) !== 0) assert.equal(ours.open_errno, 13, where);
          else if (!STATE.test(rec.file)) assert.equal(ours.data, texts.get(rec.file), where);
      }
    });
    whole.forEach(({ op, file }, i) => {
      if (op === 'stat' || !STATE.test(file!)) assert.deepEqual(after[i], before[i], file);
    });
    // Root opens the modes, where that can be done. Then the user gets the recorded answers.
    const chmods = records.filter((rec) => rec.op === 'chmod');
    const done = await make_calls(mnt, chmods);
    const calls: Rec[] = [];
    chmods.forEach((rec, i) => {
      assert.equal(done[i]!.errno, rec.errno, title(rec));
      if (rec.errno !== 0) return;
      writable++;
      for (const call of files.get(rec.file)!) {
        if (call.op === 'write' || call.op.startsWith('open')) calls.push(call);
      }
    });
    const differs = new Differs();
    const opened = await make_calls(mnt, calls, uid);
    calls.forEach((rec, i) => {
      const where = `user ${uid}, 0666: ${title(rec)}`;
      if (rec.op === 'write') differs.write(opened[i]!, rec, where);
      else assert.equal(opened[i]!.errno, 0, where);
    });
    assert.equal(writable, 22);
  });
}
