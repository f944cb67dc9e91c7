// The parts of highlight.js that the page uses.

export interface Highlighter {
  configure(options: { __emitter: new () => unknown }): void;
  getLanguage(name: string): unknown;
  highlight(text: string, options: { language: string; ignoreIllegals: boolean }): { _emitter: unknown };
}

declare const hljs: Highlighter;
export default hljs;
