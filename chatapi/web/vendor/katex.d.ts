// The parts of KaTeX that the page uses. The file is a classic script: importing it defines a global variable.

export interface Tree {
  attributes?: Record<string, string>;
  children?: Tree[];
  toNode(): Node;
}

export interface Katex {
  __renderToDomTree(tex: string, options: Record<string, unknown>): Tree;
}

declare global {
  var katex: Katex;
}
