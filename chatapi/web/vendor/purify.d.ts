// The parts of DOMPurify that the page uses. The file is a classic script: importing it defines a global variable.

export interface Config {
  ALLOWED_TAGS?: string[];
  ALLOWED_ATTR?: string[];
  ADD_URI_SAFE_ATTR?: string[];
  ALLOWED_URI_REGEXP?: RegExp;
  ALLOW_ARIA_ATTR?: boolean;
  ALLOW_DATA_ATTR?: boolean;
  RETURN_DOM_FRAGMENT?: boolean;
}

export interface Purify {
  (window: Window): Purify;
  setConfig(config: Config): void;
  sanitize(html: string): string | DocumentFragment;
  addHook(name: "afterSanitizeAttributes", hook: (node: Element) => void): void;
}

declare global {
  var DOMPurify: Purify;
}
