// The parts of marked that the page uses. The other fields of a token depend on its type and are untyped.

export interface Token {
  type: string;
  raw: string;
  tokens?: Token[];
  [field: string]: any;
}

export type Links = Record<string, { href: string; title: string | undefined }>;

export class Lexer {
  constructor(options: Options);
  tokens: Token[] & { links: Links };
  /** Ours: the number of each footnote by its name. */
  footnotes: Record<string, number>;
  /** Ours: whether the text is whole. */
  ended: boolean;
  blockTokens(text: string): Token[];
  inlineTokens(text: string): Token[];
}

export class Parser {
  constructor(options: Options);
  parseInline(tokens: Token[]): string;
}

export interface Extension {
  name: string;
  level: "block" | "inline";
  start(text: string): number | undefined;
  tokenizer(this: { lexer: Lexer }, text: string): Token | undefined;
  renderer?(token: Token): string;
}

export interface Options {
  gfm?: boolean;
  extensions?: Extension[];
  renderer?: Record<string, (this: { parser: Parser }, token: any) => string>;
}

export class Marked {
  constructor(options?: Options);
  defaults: Options;
  use(options: Options): this;
}
