/**
 * Request bits and migrate type numbers that 6.1 has and 2.6.35 has not.
 *
 * The substrate's masks (src/mm/gfp.ts) keep their bits: __GFP_WAIT stands for __GFP_DIRECT_RECLAIM
 * and __GFP_REPEAT for __GFP_RETRY_MAYFAIL. 6.1 wakes kswapd for whoever sets __GFP_KSWAPD_RECLAIM,
 * which all ordinary masks do; here __GFP_NO_KSWAPD says that it is not set. Bits and numbers that
 * users see are translated when printed. Linux: include/linux/gfp_types.h, include/linux/mmzone.h.
 */
import {
  __GFP_COMP,
  __GFP_NOMEMALLOC,
  __GFP_NOWARN,
  __GFP_WAIT,
  GFP_HIGHUSER_MOVABLE,
  MIGRATE_RESERVE,
  MIGRATE_TYPES,
} from '../../mm/gfp.ts';

/** May use all reserves: its caller is about to free memory. */
export const __GFP_MEMALLOC = 0x2000;
/** The absence of __GFP_KSWAPD_RECLAIM. */
export const __GFP_NO_KSWAPD = 0x400000;

/** For huge pages without any effort: neither reclaim nor a call for kswapd. */
export const GFP_TRANSHUGE_LIGHT =
  (GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOMEMALLOC | __GFP_NOWARN | __GFP_NO_KSWAPD) &
  ~__GFP_WAIT;
/** For huge pages that compaction and reclaim may make, still without kswapd. */
export const GFP_TRANSHUGE = GFP_TRANSHUGE_LIGHT | __GFP_WAIT;

/** Replaces the RESERVE, and its number. */
export const MIGRATE_HIGHATOMIC = MIGRATE_RESERVE;

/** Numbers of 6.1 by ours: UNMOVABLE 0, MOVABLE 1, RECLAIMABLE 2, HIGHATOMIC 3, ISOLATE 4. */
export const migratetype_nr: readonly number[] = [0, 2, 1, 3, 4];

/** Ours by those of 6.1: the same permutation. */
export const migratetype_of_nr = migratetype_nr;

/** Types whose pageblocks merge with each other (mmzone.h: migratetype_is_mergeable). */
export function migratetype_is_mergeable(type: number): boolean {
  return type < MIGRATE_HIGHATOMIC && type < MIGRATE_TYPES;
}
