// KaTeX's extension for chemistry. The file is a classic script: importing it adds `\ce` and `\pu` to the global `katex`.

export {};
