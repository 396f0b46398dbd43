/** The red-black tree against a sorted list, and its own rules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RbColumns, RbRoot, rb_erase, rb_insert } from '../../src/lib/rbtree.ts';
import { Random } from '../model/random.ts';

/** Rows in order; checks links, colours and black heights on the way. */
function rows_of(c: RbColumns, root: RbRoot): number[] {
  const rows: number[] = [];
  const visit = (row: number, parent: number): number => {
    if (row === 0) return 1;
    assert.equal(c.parent[row], parent, 'parent');
    if (c.red[row] === 1) assert.equal(parent !== 0 && c.red[parent] === 0, true, 'two reds');
    const left = visit(c.left[row]!, row);
    rows.push(row);
    const right = visit(c.right[row]!, row);
    assert.equal(left, right, 'black heights');
    return left + (c.red[row] === 1 ? 0 : 1);
  };
  visit(root.node, 0);
  return rows;
}

for (const seed of [1, 2, 3]) {
  test(`random inserts and erasures, seed ${seed}`, () => {
    const random = new Random(seed);
    const c = new RbColumns();
    const root = new RbRoot();
    const keys: number[] = [];
    const inside = new Set<number>();
    for (let i = 0; i < 4000; i++) {
      const row = 1 + random.below(300);
      if (inside.has(row)) {
        rb_erase(c, root, row);
        inside.delete(row);
      } else {
        c.grow(row + 1);
        keys[row] = random.below(1000);
        let parent = 0;
        let left = false;
        for (let at = root.node; at !== 0; ) {
          parent = at;
          left = keys[row]! < keys[at]!;
          at = left ? c.left[at]! : c.right[at]!;
        }
        rb_insert(c, root, row, parent, left);
        inside.add(row);
      }
      const rows = rows_of(c, root);
      assert.deepEqual(new Set(rows), inside);
      for (let j = 1; j < rows.length; j++) assert.ok(keys[rows[j - 1]!]! <= keys[rows[j]!]!);
    }
  });
}
