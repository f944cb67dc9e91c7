// What the page uses of highlight.js.

export interface Highlighter {
  configure(options: { __emitter: new () => unknown }): void;
  getLanguage(name: string): unknown;
  highlight(text: string, options: { language: string; ignoreIllegals: boolean }): { _emitter: unknown };
}

declare const hljs: Highlighter;
export default hljs;
