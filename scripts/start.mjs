/**
 * `npm start`: from a fresh checkout to a mounted machine, and what to try there.
 *
 * Options after `--` go to `pageblock mount`: npm start -- --memory 8G --nodes 2
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join, relative } from 'node:path';
import { ensurePrograms, fail, isRoot, root, run, say, setUp } from './setup.mjs';

setUp();

// Root mounts with what npm brought; an ordinary user needs the setuid helper of Debian.
if (!isRoot()) ensurePrograms({ fusermount3: 'fuse3' });

const main = join(root, 'dist/mount/main.js');
const mnt = join(root, 'mnt');
const options = process.argv.slice(2);
const answers =
  spawnSync(process.execPath, [main, 'status', mnt], { stdio: 'ignore' }).status === 0;
if (!answers) run(process.execPath, [main, 'mount', mnt, ...options]);
else if (options.length === 0) say('The machine on ./mnt is already running.');
else fail('a machine is already running on ./mnt: npx pageblock umount mnt ends it');
accessSync(join(mnt, 'proc/buddyinfo'), constants.R_OK);

const at = relative(process.cwd(), mnt) || '.';
say(`
An emulated Linux machine is mounted on ${at}. Five commands to try:

  cat ${at}/proc/buddyinfo
  for i in $(seq 1 400); do dd if=/dev/urandom of=${at}/disk/f$i bs=4096 count=128 2>/dev/null & done; wait
  rm ${at}/disk/f*[13579]; cat ${at}/sys/kernel/debug/extfrag/unusable_index
  echo 1 > ${at}/proc/sys/vm/compact_memory; cat ${at}/sys/kernel/debug/extfrag/unusable_index
  grep compact ${at}/proc/vmstat

Look in ${at}/proc, ${at}/sys/devices/system/node, ${at}/sys/kernel/debug and ${at}/disk.
npx pageblock help lists all commands; npx pageblock umount ${at} ends the machine.`);
