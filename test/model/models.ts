/** All models. */
import { allocator_model } from './allocator_model.ts';
import type { Model } from './model.ts';

export const MODELS: readonly Model[] = [allocator_model];
