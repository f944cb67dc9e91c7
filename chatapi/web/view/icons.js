// Icons of Lucide, drawn in the colour of the text, and buttons that show one.
import archive from "../vendor/lucide/archive.js";
import arrowDown from "../vendor/lucide/arrow-down.js";
import arrowUp from "../vendor/lucide/arrow-up.js";
import brain from "../vendor/lucide/brain.js";
import chartColumn from "../vendor/lucide/chart-column.js";
import check from "../vendor/lucide/check.js";
import chevronDown from "../vendor/lucide/chevron-down.js";
import chevronLeft from "../vendor/lucide/chevron-left.js";
import chevronRight from "../vendor/lucide/chevron-right.js";
import copy from "../vendor/lucide/copy.js";
import download from "../vendor/lucide/download.js";
import ellipsis from "../vendor/lucide/ellipsis.js";
import fileText from "../vendor/lucide/file-text.js";
import folder from "../vendor/lucide/folder.js";
import gitBranch from "../vendor/lucide/git-branch.js";
import globe from "../vendor/lucide/globe.js";
import keyRound from "../vendor/lucide/key-round.js";
import keyboard from "../vendor/lucide/keyboard.js";
import lightbulb from "../vendor/lucide/lightbulb.js";
import listChecks from "../vendor/lucide/list-checks.js";
import listOrdered from "../vendor/lucide/list-ordered.js";
import listPlus from "../vendor/lucide/list-plus.js";
import menu from "../vendor/lucide/menu.js";
import monitor from "../vendor/lucide/monitor.js";
import moon from "../vendor/lucide/moon.js";
import panelLeft from "../vendor/lucide/panel-left.js";
import paperclip from "../vendor/lucide/paperclip.js";
import pencil from "../vendor/lucide/pencil.js";
import pinOff from "../vendor/lucide/pin-off.js";
import pin from "../vendor/lucide/pin.js";
import play from "../vendor/lucide/play.js";
import help from "../vendor/lucide/circle-question-mark.js";
import refreshCw from "../vendor/lucide/refresh-cw.js";
import search from "../vendor/lucide/search.js";
import settings from "../vendor/lucide/settings.js";
import share from "../vendor/lucide/share-2.js";
import sliders from "../vendor/lucide/sliders-horizontal.js";
import squarePen from "../vendor/lucide/square-pen.js";
import square from "../vendor/lucide/square.js";
import star from "../vendor/lucide/star.js";
import sun from "../vendor/lucide/sun.js";
import squares from "../vendor/lucide/copy-plus.js";
import table from "../vendor/lucide/table-2.js";
import trash from "../vendor/lucide/trash.js";
import triangleAlert from "../vendor/lucide/triangle-alert.js";
import unplug from "../vendor/lucide/unplug.js";
import upload from "../vendor/lucide/upload.js";
import userRound from "../vendor/lucide/user-round.js";
import volume from "../vendor/lucide/volume-2.js";
import wrench from "../vendor/lucide/wrench.js";
import x from "../vendor/lucide/x.js";
import zap from "../vendor/lucide/zap.js";
import { h, html } from "../vendor/htm-preact.js";

const ICONS = {
  archive,
  attach: paperclip,
  branch: gitBranch,
  choose: listChecks,
  close: x,
  compose: squarePen,
  continue: play,
  copy,
  delete: trash,
  done: check,
  down: arrowDown,
  edit: pencil,
  effort: brain,
  export: download,
  file: fileText,
  folder,
  help,
  idea: lightbulb,
  import: upload,
  key: keyRound,
  keyboard,
  list: listOrdered,
  menu,
  monitor,
  moon,
  more: ellipsis,
  next: chevronRight,
  open: chevronDown,
  pin,
  previous: chevronLeft,
  queue: listPlus,
  regenerate: refreshCw,
  search,
  send: arrowUp,
  settings,
  share,
  sidebar: panelLeft,
  sliders,
  sources: globe,
  speak: volume,
  star,
  stop: square,
  sun,
  table,
  tabs: squares,
  tool: wrench,
  unpin: pinOff,
  unplug,
  usage: chartColumn,
  user: userRound,
  warning: triangleAlert,
  zap,
};

/** @typedef {keyof typeof ICONS} IconName */

/** @param {{name: IconName, filled?: boolean}} properties */
export function Icon({ name, filled = false }) {
  return html`<svg class="icon ${name === "sidebar" ? "side" : ""} ${filled ? "filled" : ""}" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    ${ICONS[name].map(([tag, attributes]) => h(tag, attributes))}
  </svg>`;
}

/**
 * A button with an icon; `label` is its accessible name and tooltip.
 * @param {{icon: IconName, label: string, onClick: (event: Event) => void, class?: string, disabled?: boolean,
 *   expanded?: boolean, pressed?: boolean, shortcut?: string, filled?: boolean}} properties
 */
export function IconButton({ icon, label, onClick, class: more = "", disabled = false, expanded, pressed, shortcut, filled }) {
  return html`<button
    type="button"
    class="icon-button ${more}"
    aria-label=${label}
    title=${shortcut ? `${label} (${shortcut})` : label}
    aria-expanded=${expanded}
    aria-pressed=${pressed}
    disabled=${disabled}
    onClick=${onClick}
  ><${Icon} name=${icon} filled=${filled} /></button>`;
}
