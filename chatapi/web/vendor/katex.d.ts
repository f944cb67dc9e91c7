// What the page uses of KaTeX.

export interface Tree {
  attributes?: Record<string, string>;
  children?: Tree[];
  toNode(): Node;
}

export function __renderToDomTree(tex: string, options: Record<string, unknown>): Tree;
