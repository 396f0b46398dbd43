/**
 * Settings of the JavaScript engine for whoever runs the core for long: server, replay, benchmarks.
 *
 * The core is many small functions by Linux's names. V8 stops inlining when the inlined code of one
 * function exceeds a budget that is too small for them; with four times the budget a page alloc and
 * free takes 60 ns instead of 86 and moving a page in compaction 460 ns instead of 570 (CPU time,
 * best of 12, Node 20; 2000 and 6000 gain less). It must be set before the core runs.
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--max-inlined-bytecode-size-cumulative=4000');
