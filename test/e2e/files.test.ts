/**
 * The virtual files of a real mount, through system calls and plain programs: what the recorded
 * kernel answered to each of 1859 calls, and the rules that real clients rely on.
 */
import assert from 'node:assert/strict';
import { chmodSync, closeSync, constants, openSync, readdirSync, readFileSync } from 'node:fs';
import { it } from 'node:test';
import { read_lines } from '../golden/recordings.ts';
import { mountMachine, noFuse, notRoot, pageblock } from '../helpers/mounts.ts';
import { NOBODY, run, sh } from '../helpers/processes.ts';

const options = { skip: noFuse(), timeout: 90_000 };
const asRoot = { skip: notRoot(), timeout: 90_000 };

interface Rec {
  op: string;
  file: string;
  mode: string;
  size: number;
  data: string;
  len: number;
  ret: number;
  errno: number;
  off: number;
  open_errno?: number;
}

/**
 * Makes the calls of the table as they were made then, one answer a line. Python's os functions are
 * the bare system calls; Node's write is not, it writes again what one call left.
 */
const CALLS = `
import errno, json, os, sys
mnt = sys.argv[1]
FLAGS = {'open_rdwr': os.O_RDWR, 'open_rdonly': os.O_RDONLY, 'open_wronly': os.O_WRONLY,
         'open_trunc': os.O_WRONLY | os.O_TRUNC}
def call(rec, path):
    op = rec['op']
    if op == 'stat':
        st = os.stat(path)
        return {'mode': '%o' % (st.st_mode & 0o7777), 'size': st.st_size}
    if op in FLAGS: os.close(os.open(path, FLAGS[op]))
    if op == 'chmod': os.chmod(path, 0o666)
    if op == 'truncate': os.truncate(path, 0)
    if op == 'unlink': os.unlink(path)
    if op == 'read' or op == 'write':
        try: fd = os.open(path, os.O_RDONLY if op == 'read' else os.O_WRONLY)
        except OSError as e: return {'open_errno': e.errno}
        try:
            if op == 'read':
                data = os.read(fd, 65536)
                return {'ret': len(data), 'errno': 0, 'data': data.decode('latin1')}
            try: ret, err = os.write(fd, rec['data'].encode('latin1')), 0
            except OSError as e: ret, err = -1, e.errno
            return {'ret': ret, 'errno': err, 'off': os.lseek(fd, 0, os.SEEK_CUR)}
        finally: os.close(fd)
    return {'errno': 0}
for line in sys.stdin:
    rec = json.loads(line)
    path = mnt + rec['file']
    if not os.path.exists(path): print('{"missing": true}'); continue
    try: print(json.dumps(call(rec, path)))
    except OSError as e: print(json.dumps({'errno': e.errno}))
`;

function open(path: string, flags: number): number {
  try {
    closeSync(openSync(path, flags));
    return 0;
  } catch (error) {
    return -(error as { errno: number }).errno;
  }
}

const STATE = /\/(buddyinfo|pagetypeinfo|vmstat|zoneinfo|meminfo|numastat|\w+_index)$/;

it('answers the recorded calls as the recorded kernel did', asRoot, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M', '--nodes', '2']);
  await sh(`echo 45056 > ${mnt}/proc/sys/vm/min_free_kbytes`);
  const records = read_lines('linux-2.6.35/files/x86_64-512M-numafake4/errno_table.jsonl.gz')
    .filter((line) => line.startsWith('{')) // one line is the death of a writer, see C9
    .map((line) => JSON.parse(line) as Rec);
  const input = records.map((rec) => JSON.stringify(rec)).join('\n');
  const { stdout, stderr } = await run('python3', ['-c', CALLS, mnt], { input, timeout: 60_000 });
  assert.equal(stderr, '');
  const answers = stdout.trimEnd().split('\n');
  assert.equal(answers.length, records.length);

  const differs = { clamped: 0, offset: 0, missing: new Set<string>() };
  let compared = 0;
  records.forEach((rec, i) => {
    const ours = JSON.parse(answers[i]!) as Partial<Rec> & { missing?: true };
    const where = `${rec.op} ${rec.file} ${JSON.stringify(rec.data ?? '')}`;
    if (ours.missing) {
      differs.missing.add(rec.file);
      return;
    }
    // The reads of a few bytes at the end of the table are those of test/unit/errno_table.
    if (rec.op === 'read' && records[i - 1]?.op === 'read') return;
    compared++;
    if (rec.op === 'write' && rec.len === 0) {
      // Differs: the host keeps an empty write to itself.
      assert.deepEqual([ours.ret, ours.off], [0, 0], where);
    } else if (rec.op === 'write') {
      // Differs: more than was written cannot be returned through FUSE.
      if (rec.ret > rec.len) differs.clamped++;
      const ret = Math.min(rec.ret, rec.len);
      assert.deepEqual([ours.ret, ours.errno], [ret, rec.errno], where);
      // Differs: the offset moves by the result, also where a handler left it alone.
      if (ours.off !== rec.off) differs.offset++;
      assert.equal(ours.off, Math.max(0, ret), where);
    } else if (rec.op === 'read' && (STATE.test(rec.file) || /hugepages/.test(rec.file))) {
      // What pools hold depends on the machine: test/unit/errno_table.
      assert.ok(ours.ret! > 0, where);
    } else {
      for (const [key, value] of Object.entries(ours)) {
        assert.equal(value, rec[key as keyof Rec], `${where}: ${key}`);
      }
    }
  });
  assert.ok(compared >= 1853, String(compared));
  for (const file of differs.missing) assert.match(file, /\/ksm\//);
  assert.ok(differs.clamped > 0 && differs.offset > differs.clamped);
});

it('serves contents to any reader, whatever its pieces', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M', '--nodes', '2']);
  for (const file of ['proc/zoneinfo', 'proc/vmstat', 'sys/devices/system/node/node1/meminfo']) {
    const whole = await sh(`cat ${mnt}/${file}`);
    assert.ok(whole.length > 900);
    assert.equal(await sh(`dd if=${mnt}/${file} bs=7 2>/dev/null`), whole);
    assert.equal(await sh(`tail -c 100 ${mnt}/${file}`), whole.slice(-100));
    assert.equal(
      await sh(`cp ${mnt}/${file} ${mnt}-copy && cat ${mnt}-copy; rm -f ${mnt}-copy`),
      whole,
    );
    // R6: one descriptor, read again from its beginning.
    assert.equal(await sh(`{ cat; cat; } < ${mnt}/${file}`), whole);
  }
  assert.equal(await sh(`dd if=${mnt}/proc/sys/vm/swappiness bs=1 2>/dev/null`), '6');
  assert.ok((await sh(`cat ${mnt}/proc/meminfo`)).length < 2048, 'R1');
  // R4: sysctl throws the first two names away unseen.
  assert.match(await sh(`ls -f ${mnt}/proc/sys/vm`), /^\.\n\.\.\novercommit_memory\n/);
  assert.ok(readdirSync(`${mnt}/proc/sys/vm`).includes('compact_memory'));
  const swappiness = `${mnt}/proc/sys/vm/swappiness`;
  assert.equal(await sh(`echo -n 70 > ${swappiness}; cat ${swappiness}`), '70\n', 'R8, R9');
});

it('forbids what modes forbid, to root too', asRoot, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  for (const file of ['proc/sys/vm/compact_memory', 'sys/devices/system/node/node0/compact']) {
    assert.equal(open(`${mnt}/${file}`, constants.O_RDONLY), 13, file);
    assert.equal(open(`${mnt}/${file}`, constants.O_WRONLY | constants.O_TRUNC), 0, file);
    assert.equal(await sh(`echo anything > ${mnt}/${file}; echo $?`), '0\n');
  }
  const asNobody = (script: string) => run('bash', ['-c', script], { uid: NOBODY });
  // Root's mount lets others in, as far as modes go.
  const outer = mnt.slice(0, mnt.lastIndexOf('/'));
  chmodSync(outer, 0o755);
  assert.equal((await asNobody(`cat ${mnt}/proc/buddyinfo`)).status, 0);
  assert.equal((await asNobody(`cat ${mnt}/proc/kpageflags`)).status, 1);
  assert.equal((await asNobody(`echo 1 > ${mnt}/proc/sys/vm/swappiness`)).status, 1);
  assert.equal((await asNobody(`echo 1 > ${mnt}/proc/sys/vm/compact_memory`)).status, 1);
});

it('a write of one byte at a time is a value each', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M']);
  const file = `${mnt}/proc/sys/vm/swappiness`;
  await sh(`printf 42 | dd of=${file} bs=1 2>/dev/null`);
  assert.equal(readFileSync(file, 'utf8'), '2\n');
  // A blank alone is no number: the second write of two fails.
  const { status } = await run('bash', ['-c', `printf '7 ' | dd of=${file} bs=1`]);
  assert.equal(status, 1);
  assert.equal(readFileSync(file, 'utf8'), '7\n');
});

it('a kernel without compaction has neither its files nor its counters', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '256M', '--no-compaction']);
  const names = await sh(`find ${mnt}/proc ${mnt}/sys -name '*compact*' -o -name 'extfrag*'`);
  assert.equal(names, '');
  assert.equal(await sh(`grep -c compact ${mnt}/proc/vmstat || true`), '0\n');
  const { status } = await pageblock(['umount', mnt]);
  assert.equal(status, 0);
});
