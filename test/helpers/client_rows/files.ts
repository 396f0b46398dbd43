/** updatedb, fio and the file tools on the emulated disk. */
import assert from 'node:assert/strict';
import type { ClientRow } from './types.ts';

export const file_rows: readonly ClientRow[] = [
  {
    program: 'updatedb.plocate',
    command: '`updatedb`, `plocate`',
    checked: 'what was made since the last run is found, what was removed is not',
    async check(client) {
      const disk = `${client.mnt}/disk`;
      const db = client.mnt.replace(/mnt$/, 'db');
      const update = `updatedb.plocate -l 0 -o ${db} -U ${disk} --prunepaths= --prunefs=`;
      const found = async () => (await client.sh(`plocate -d ${db} ${disk}/ || true`)).split('\n');
      await client.sh(`mkdir -p ${disk}/a/b; cp /bin/true ${disk}/a/b/copy; ${update}`);
      assert.ok((await found()).includes(`${disk}/a/b/copy`));
      // The second run reads only directories whose time has changed.
      await client.sh(`sleep 1.1; rm ${disk}/a/b/copy; echo new > ${disk}/a/b/new; ${update}`);
      const after = await found();
      assert.ok(after.includes(`${disk}/a/b/new`) && !after.includes(`${disk}/a/b/copy`));
    },
  },
  {
    program: 'dd',
    command: '`dd`, `cp`, `mv`, `ln`, `ls -l`, `cat`, `rm`, `mkdir`, `tar`',
    checked: '60 files written at once, copied, moved, packed: contents, sizes, links, names',
    async check(client) {
      const out = await client.sh(`cd ${client.mnt}/disk; mkdir t; cd t
        head -c 524288 /dev/urandom > ../model
        for i in $(seq 60); do dd if=../model of=f$i bs=4096 count=128 2>/dev/null & done; wait
        for i in $(seq 60); do cmp ../model f$i; done
        ls -l | awk 'NR > 1 { size += $5 } END { print NR - 1, size }'
        cp f1 c; ln c l; mv l z; cmp c z; stat -c %h z; cat c z | wc -c
        tar cf ../all.tar . ; mkdir ../u; tar xf ../all.tar -C ../u; diff -r . ../u && echo same
        rm -r ../u ../all.tar f*; ls; cd ..; rm -r t model; ls | grep -c '^t$' || true`);
      assert.equal(out, `60 ${60 * 524288}\n2\n${2 * 524288}\nsame\nc\nz\n0\n`);
    },
  },
  {
    program: 'fio',
    command: '`fio --verify=crc32c`',
    checked: 'what it wrote to the disk is what it reads',
    async check(client) {
      const job = `--name=j --directory=${client.mnt}/disk --size=8M --bs=4k --ioengine=psync`;
      const rest = '--rw=randwrite --verify=crc32c --do_verify=1 --verify_state_save=0';
      const dir = client.mnt.replace(/mnt$/, '');
      assert.match(await client.sh(`cd ${dir}; fio ${job} ${rest} --fallocate=posix`), /err= 0/);
    },
  },
];
