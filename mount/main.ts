#!/usr/bin/env node
/**
 * Starts the command line (cli.ts) with the engine's settings, and with all of mount/ and the core linked.
 */
import './v8.ts';
import { fileURLToPath } from 'node:url';
import { load } from './linker.ts';

const CLI = fileURLToPath(new URL('./cli.js', import.meta.url));
const { main } = await load<typeof import('./cli.ts')>(CLI);
await main();
