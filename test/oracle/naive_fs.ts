/**
 * A file system as simple as can be: nodes with growing byte arrays and maps of names. It shares
 * nothing with src/ and knows POSIX's rules only: what stat, readdir, read and errors must be.
 */
export class NaiveNode {
  nlink = 1;
  data = Buffer.alloc(0);
  target = '';
  entries = new Map<string, NaiveNode>();
  parent: NaiveNode | null = null;

  readonly kind: 'file' | 'dir' | 'link';
  readonly mode: number;

  constructor(kind: 'file' | 'dir' | 'link', mode: number) {
    this.kind = kind;
    this.mode = mode;
  }

  write(bytes: Buffer, pos: number): void {
    const end = pos + bytes.length;
    if (end > this.data.length) this.resize(end);
    bytes.copy(this.data, pos);
  }

  resize(size: number): void {
    const data = Buffer.alloc(size);
    this.data.copy(data, 0, 0, Math.min(size, this.data.length));
    this.data = data;
  }
}

export class NaiveFs {
  readonly root = new NaiveNode('dir', 0o755);

  constructor() {
    this.root.nlink = 2;
    this.root.parent = this.root;
  }

  add(dir: NaiveNode, name: string, node: NaiveNode): string {
    if (Buffer.byteLength(name) > 255) return 'ENAMETOOLONG';
    if (dir.entries.has(name)) return 'EEXIST';
    dir.entries.set(name, node);
    if (node.kind === 'dir') {
      node.parent = dir;
      node.nlink = 2;
      dir.nlink++;
    }
    return 'OK';
  }

  link(dir: NaiveNode, name: string, node: NaiveNode): string {
    if (Buffer.byteLength(name) > 255) return 'ENAMETOOLONG';
    if (dir.entries.has(name)) return 'EEXIST';
    if (node.kind === 'dir') return 'EPERM';
    if (node.nlink === 0) return 'ENOENT';
    dir.entries.set(name, node);
    node.nlink++;
    return 'OK';
  }

  unlink(dir: NaiveNode, name: string): string {
    const node = dir.entries.get(name);
    if (node === undefined) return 'ENOENT';
    if (node.kind === 'dir') return 'EISDIR';
    dir.entries.delete(name);
    node.nlink--;
    return 'OK';
  }

  rmdir(dir: NaiveNode, name: string): string {
    const node = dir.entries.get(name);
    if (node === undefined) return 'ENOENT';
    if (node.kind !== 'dir') return 'ENOTDIR';
    if (node.entries.size > 0) return 'ENOTEMPTY';
    dir.entries.delete(name);
    dir.nlink--;
    node.nlink = 0;
    return 'OK';
  }

  private contains(ancestor: NaiveNode, node: NaiveNode): boolean {
    for (let at = node; ; at = at.parent!) {
      if (at === ancestor) return true;
      if (at.parent === at) return false;
    }
  }

  rename(from: NaiveNode, old_name: string, to: NaiveNode, new_name: string): string {
    if (Buffer.byteLength(new_name) > 255) return 'ENAMETOOLONG';
    const node = from.entries.get(old_name);
    if (node === undefined) return 'ENOENT';
    if (node.kind === 'dir' && this.contains(node, to)) return 'EINVAL';
    const victim = to.entries.get(new_name);
    if (victim === node) return 'OK';
    if (victim !== undefined) {
      if (victim.kind === 'dir' && this.contains(victim, from)) return 'ENOTEMPTY';
      if (node.kind === 'dir' && victim.kind !== 'dir') return 'ENOTDIR';
      if (node.kind !== 'dir' && victim.kind === 'dir') return 'EISDIR';
      if (victim.kind === 'dir' && victim.entries.size > 0) return 'ENOTEMPTY';
      to.entries.delete(new_name);
      if (victim.kind === 'dir') {
        to.nlink--;
        victim.nlink = 0;
      } else victim.nlink--;
    }
    from.entries.delete(old_name);
    to.entries.set(new_name, node);
    if (node.kind === 'dir') {
      from.nlink--;
      to.nlink++;
      node.parent = to;
    }
    return 'OK';
  }
}
