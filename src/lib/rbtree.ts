/**
 * Red-black trees over columns: a node is a row, its links are entries of typed arrays, 0 is no node.
 *
 * Who has the tree walks it, comparing as it likes, and links a new row where the walk ended; this
 * file keeps it balanced. Several trees may share one set of columns as long as no row is in two.
 * Linux: lib/rbtree.c, include/linux/rbtree.h: the same cases in the same order, so that the shape
 * of a tree, and with it the order in which a walk meets the nodes, is Linux's too.
 */

/** Links of all rows. The arrays grow with the rows; row 0 is unused. */
export class RbColumns {
  left: Int32Array = new Int32Array(16);
  right: Int32Array = new Int32Array(16);
  parent: Int32Array = new Int32Array(16);
  /** 1 for red. */
  red: Uint8Array = new Uint8Array(16);

  /** Makes room for rows below `rows`. */
  grow(rows: number): void {
    if (rows <= this.left.length) return;
    const size = Math.max(rows, this.left.length * 2);
    const wider = (column: Int32Array): Int32Array => {
      const fresh = new Int32Array(size);
      fresh.set(column);
      return fresh;
    };
    this.left = wider(this.left);
    this.right = wider(this.right);
    this.parent = wider(this.parent);
    const red = new Uint8Array(size);
    red.set(this.red);
    this.red = red;
  }
}

export class RbRoot {
  node = 0;
}

/** Hangs a row below `parent` (0: an empty tree), at its left or right, and balances the tree. */
export function rb_insert(
  c: RbColumns,
  root: RbRoot,
  row: number,
  parent: number,
  at_left: boolean,
): void {
  c.left[row] = 0;
  c.right[row] = 0;
  c.parent[row] = parent;
  c.red[row] = 1;
  if (parent === 0) root.node = row;
  else if (at_left) c.left[parent] = row;
  else c.right[parent] = row;
  insert_color(c, root, row);
}

/** Puts `to` where `from` hangs below its parent. */
function replace_child(c: RbColumns, root: RbRoot, parent: number, from: number, to: number): void {
  if (parent === 0) root.node = to;
  else if (c.left[parent] === from) c.left[parent] = to;
  else c.right[parent] = to;
}

function rotate_left(c: RbColumns, root: RbRoot, row: number): void {
  const right = c.right[row]!;
  const parent = c.parent[row]!;
  const inner = c.left[right]!;
  c.right[row] = inner;
  if (inner !== 0) c.parent[inner] = row;
  c.left[right] = row;
  c.parent[right] = parent;
  replace_child(c, root, parent, row, right);
  c.parent[row] = right;
}

function rotate_right(c: RbColumns, root: RbRoot, row: number): void {
  const left = c.left[row]!;
  const parent = c.parent[row]!;
  const inner = c.right[left]!;
  c.left[row] = inner;
  if (inner !== 0) c.parent[inner] = row;
  c.right[left] = row;
  c.parent[left] = parent;
  replace_child(c, root, parent, row, left);
  c.parent[row] = left;
}

function insert_color(c: RbColumns, root: RbRoot, row: number): void {
  for (let parent = c.parent[row]!; parent !== 0 && c.red[parent] === 1; parent = c.parent[row]!) {
    const gparent = c.parent[parent]!;
    const at_left = c.left[gparent] === parent;
    const uncle = at_left ? c.right[gparent]! : c.left[gparent]!;
    if (uncle !== 0 && c.red[uncle] === 1) {
      c.red[uncle] = 0;
      c.red[parent] = 0;
      c.red[gparent] = 1;
      row = gparent;
      continue;
    }
    const outer = at_left ? c.left[parent] === row : c.right[parent] === row;
    if (!outer) {
      if (at_left) rotate_left(c, root, parent);
      else rotate_right(c, root, parent);
      const was = parent;
      parent = row;
      row = was;
    }
    c.red[parent] = 0;
    c.red[gparent] = 1;
    if (at_left) rotate_right(c, root, gparent);
    else rotate_left(c, root, gparent);
  }
  c.red[root.node] = 0;
}

/** Takes a row out of its tree. */
export function rb_erase(c: RbColumns, root: RbRoot, row: number): void {
  let child: number;
  let parent: number;
  let red: number;
  if (c.left[row] !== 0 && c.right[row] !== 0) {
    // The next row in order takes its place.
    let next = c.right[row]!;
    while (c.left[next] !== 0) next = c.left[next]!;
    replace_child(c, root, c.parent[row]!, row, next);
    child = c.right[next]!;
    parent = c.parent[next]!;
    red = c.red[next]!;
    if (parent === row) parent = next;
    else {
      if (child !== 0) c.parent[child] = parent;
      c.left[parent] = child;
      c.right[next] = c.right[row]!;
      c.parent[c.right[row]!] = next;
    }
    c.parent[next] = c.parent[row]!;
    c.red[next] = c.red[row]!;
    c.left[next] = c.left[row]!;
    c.parent[c.left[row]!] = next;
  } else {
    child = c.left[row] !== 0 ? c.left[row]! : c.right[row]!;
    parent = c.parent[row]!;
    red = c.red[row]!;
    if (child !== 0) c.parent[child] = parent;
    replace_child(c, root, parent, row, child);
  }
  if (red === 0) erase_color(c, root, child, parent);
}

function erase_color(c: RbColumns, root: RbRoot, row: number, parent: number): void {
  const black = (n: number): boolean => n === 0 || c.red[n] === 0;
  while (black(row) && row !== root.node) {
    const at_left = c.left[parent] === row;
    let other = at_left ? c.right[parent]! : c.left[parent]!;
    if (c.red[other] === 1) {
      c.red[other] = 0;
      c.red[parent] = 1;
      if (at_left) rotate_left(c, root, parent);
      else rotate_right(c, root, parent);
      other = at_left ? c.right[parent]! : c.left[parent]!;
    }
    if (black(c.left[other]!) && black(c.right[other]!)) {
      c.red[other] = 1;
      row = parent;
      parent = c.parent[row]!;
      continue;
    }
    if (black(at_left ? c.right[other]! : c.left[other]!)) {
      const inner = at_left ? c.left[other]! : c.right[other]!;
      c.red[inner] = 0;
      c.red[other] = 1;
      if (at_left) rotate_right(c, root, other);
      else rotate_left(c, root, other);
      other = at_left ? c.right[parent]! : c.left[parent]!;
    }
    c.red[other] = c.red[parent]!;
    c.red[parent] = 0;
    c.red[at_left ? c.right[other]! : c.left[other]!] = 0;
    if (at_left) rotate_left(c, root, parent);
    else rotate_right(c, root, parent);
    row = root.node;
    break;
  }
  if (row !== 0) c.red[row] = 0;
}
