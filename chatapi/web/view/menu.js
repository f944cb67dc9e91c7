// A button that opens a menu.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { Icon } from "./icons.js";
import { useId } from "./id.js";
import { moveFocus, usePopup } from "./popup.js";

/**
 * An entry of a menu; null is a line between two groups. `checked` makes it one of several choices.
 * @typedef {{label: string, icon?: import("./icons.js").IconName, act: () => void, checked?: boolean, danger?: boolean,
 *   disabled?: boolean} | null} MenuItem
 */

/**
 * @param {{label: string, items: MenuItem[], class?: string, disabled?: boolean, children?: unknown}} properties `children`
 *   are shown in the button, by default an icon
 */
export function Menu({ label, items, class: more = "icon-button", disabled = false, children }) {
  const [open, setOpen] = useState(false);
  const button = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const layer = useRef(/** @type {HTMLDivElement | null} */ (null));
  const id = useId();
  usePopup(open, button, layer, () => setOpen(false));
  const entries = () =>
    /** @type {HTMLElement[]} */ ([...(layer.current?.querySelectorAll("[role^=menuitem]:enabled") ?? [])]);
  useEffect(() => {
    if (open) (entries().find((entry) => entry.ariaChecked === "true") ?? entries()[0])?.focus();
  }, [open]);
  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (!open) return;
    if (event.key === "Tab") setOpen(false);
    else if (!moveFocus(event, entries())) return;
    if (event.key !== "Tab") event.preventDefault();
    event.stopPropagation();
  };
  return html`<div class="menu" onKeyDown=${onKeyDown}>
    <button type="button" ref=${button} class=${more} aria-label=${label} title=${label} aria-haspopup="menu" aria-expanded=${open}
      aria-controls=${open ? id : undefined} disabled=${disabled} onClick=${() => setOpen(!open)}>
      ${children ?? html`<${Icon} name="more" />`}
    </button>
    ${open &&
    html`<div class="popup menu-items" role="menu" id=${id} ref=${layer} popover="manual" aria-label=${label}>
      ${items.map((item) => {
        if (item === null) return html`<hr />`;
        const { label: text, icon, act, checked, danger = false, disabled: isOff = false } = item;
        return html`<button type="button" class=${danger ? "danger" : ""} tabindex="-1" disabled=${isOff}
          role=${checked === undefined ? "menuitem" : "menuitemradio"} aria-checked=${checked}
          onClick=${() => [close(), act()]}>
          ${icon && html`<${Icon} name=${icon} />`}<span>${text}</span>
          ${checked && html`<span class="checked"><${Icon} name="done" /></span>`}
        </button>`;
      })}
    </div>`}
  </div>`;
}
