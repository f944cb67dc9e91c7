// Icons, drawn in the colour of the text, and buttons that show one.
import { html } from "../vendor/htm-preact.js";

const PATHS = {
  plus: "M12 5v14M5 12h14",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14M16 16l4 4",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  attach: "M20 11l-8.5 8.5a5 5 0 0 1-7-7L13 4a3.4 3.4 0 0 1 5 5l-8.5 8.5a1.7 1.7 0 0 1-2.5-2.5L15 7",
  copy: "M9 9h10v10H9zM5 15V5h10",
  done: "M5 12l5 5 9-10",
  edit: "M5 19l1-4L16 5l3 3L9 18z",
  again: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
  fork: "M7 4v16M7 12c8 0 10-2 10-8M14 6l3-3 3 3",
  previous: "M14 6l-6 6 6 6",
  next: "M10 6l6 6-6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  settings: "M5 8h14M5 16h14M9 5v6M15 13v6",
  usage: "M5 20V11M12 20V4M19 20v-6",
  key: "M14 10a4 4 0 1 0-3 3.9L13 16h2v2h2v2h3v-3l-6-6",
  help: "M9 9a3 3 0 1 1 4 3c-1 .5-1 1-1 2M12 18h.01",
  import: "M12 4v11M7 10l5 5 5-5M5 20h14",
  file: "M7 3h7l4 4v14H7zM14 3v4h4",
  warning: "M12 4l9 16H3zM12 10v4M12 17h.01",
};

/** @param {{name: keyof typeof PATHS}} properties */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;
}

/**
 * A button with an icon; `label` is its accessible name and tooltip.
 * @param {{icon: keyof typeof PATHS, label: string, onClick: (event: Event) => void, class?: string, disabled?: boolean,
 *   expanded?: boolean, shortcut?: string}} properties
 */
export function IconButton({ icon, label, onClick, class: more = "", disabled = false, expanded, shortcut }) {
  return html`<button
    type="button"
    class="icon-button ${more}"
    aria-label=${label}
    title=${shortcut ? `${label} (${shortcut})` : label}
    aria-expanded=${expanded}
    disabled=${disabled}
    onClick=${onClick}
  ><${Icon} name=${icon} /></button>`;
}
