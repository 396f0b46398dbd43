/** All models. */
import { allocator_6_1_model } from './allocator_6_1_model.ts';
import { allocator_model } from './allocator_model.ts';
import { compaction_6_1_model } from './compaction_6_1_model.ts';
import { compaction_model } from './compaction_model.ts';
import { disk_model } from './disk_model.ts';
import { mm_model } from './mm_model.ts';
import type { Model } from './model.ts';
import { pressure_model } from './pressure_model.ts';
import { reclaim_model } from './reclaim_model.ts';

export const MODELS: readonly Model[] = [
  allocator_model,
  allocator_6_1_model,
  compaction_model,
  compaction_6_1_model,
  mm_model,
  disk_model,
  reclaim_model,
  pressure_model,
];
