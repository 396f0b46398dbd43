/**
 * `npm run bench [-- GROUP…]`: prints medians with the machine's noise. The core is linked, as in a server.
 */
import '../mount/v8.ts';
import { fileURLToPath } from 'node:url';
import { load } from '../mount/linker.ts';

const GROUPS = fileURLToPath(new URL('./groups.js', import.meta.url));
const { main } = await load<typeof import('./groups.ts')>(GROUPS);
await main();
