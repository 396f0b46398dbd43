/** Boots one machine in a process of its own and prints the milliseconds: boot_once BYTES. */
import { boot } from '../src/machine.ts';

const start = process.hrtime.bigint();
boot({ memory: Number(process.argv[2]) });
console.log(Number(process.hrtime.bigint() - start) / 1e6);
