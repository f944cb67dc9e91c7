// The model of a session: a button with a searchable list, and beside it the effort of reasoning models.
import { compact, price } from "../format.js";
import { modelChoice } from "../state/model-choice.js";
import { factsOf, isForChat, isSnapshot, sortModels } from "../state/model-facts.js";
import { useWatch } from "../state/observable.js";
import { strings } from "../strings.js";
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { isComposing } from "./composition.js";
import { Icon, IconButton } from "./icons.js";
import { useId } from "./id.js";
import { Menu } from "./menu.js";
import { moveFocus, usePopup } from "./popup.js";

/**
 * @typedef {import("../state/chat.js").Chat} Chat
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 */

/** @param {{chat: Chat, conversation: Conversation}} properties */
export function ModelPicker({ chat, conversation }) {
  useWatch(conversation);
  const current = conversation.settings.model || (chat.account.config?.default_model ?? "");
  return html`<${ModelButton} chat=${chat} current=${current} class="choice model" label=${strings.models.current(current)}
    disabled=${conversation.state !== "ready"}
    onChoose=${(/** @type {string} */ model) => void conversation.changeSettings({ ...conversation.settings, model })}>
    <span>${current}</span><${Icon} name="open" />
  <//>`;
}

/**
 * A button that opens the list of models.
 * @param {{chat: Chat, current: string, label: string, class: string, disabled?: boolean, onChoose: (model: string) => void,
 *   children?: unknown}} properties
 */
export function ModelButton({ chat, current, label, class: kind, disabled = false, onChoose, children }) {
  const [open, setOpen] = useState(false);
  const button = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const layer = useRef(/** @type {HTMLDivElement | null} */ (null));
  usePopup(open, button, layer, () => setOpen(false));
  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  return html`<div class="menu">
    <button type="button" ref=${button} class=${kind} aria-haspopup="dialog" aria-expanded=${open} title=${label} aria-label=${label}
      disabled=${disabled} onClick=${() => setOpen(!open)}>${children}</button>
    ${open &&
    html`<div class="popup models" ref=${layer} popover="manual" role="dialog" aria-label=${strings.models.choose}>
      <${ModelList} chat=${chat} current=${current} onChoose=${(/** @type {string} */ model) => [close(), onChoose(model)]} />
    </div>`}
  </div>`;
}

/** @param {{chat: Chat, current: string, onChoose: (model: string) => void}} properties */
function ModelList({ chat, current, onChoose }) {
  const { account } = chat;
  useWatch(account, modelChoice);
  const [words, setWords] = useState("");
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const id = useId();
  useEffect(() => {
    if (account.models.length === 0) void account.loadModels();
    box.current?.querySelector("input")?.focus();
  }, []);
  const groups = groupsOf(account.models, account.config?.default_model ?? "", words.trim().toLowerCase());
  const typed = words.trim();
  const isKnown = groups.some(([, models]) => models.includes(typed));
  const buttons = () => /** @type {HTMLElement[]} */ ([...(box.current?.querySelectorAll(".model-name") ?? [])]);
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (isComposing(event)) return;
    const isInField = event.target instanceof HTMLInputElement;
    if (event.key === "Enter" && isInField) buttons()[0]?.click();
    else if (event.key === "ArrowUp" && buttons()[0] === document.activeElement) box.current?.querySelector("input")?.focus();
    else if ((isInField && !event.key.startsWith("Arrow")) || !moveFocus(event, buttons())) return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<div ref=${box} onKeyDown=${onKeyDown}>
    <input type="search" aria-label=${strings.models.search} placeholder=${strings.models.search} spellcheck=${false} maxlength="200"
      autocomplete="off" value=${words}
      onInput=${(/** @type {InputEvent} */ event) => setWords(/** @type {HTMLInputElement} */ (event.target).value)} />
    <div class="model-groups">
      ${groups.map(
        ([name, models], index) => html`<section key=${name} aria-labelledby=${`${id}-${index}`}>
          <h3 id=${`${id}-${index}`}>${name}</h3>
          <ul>
            ${models.map(
              (model) => html`<${ModelRow} key=${model} chat=${chat} model=${model} current=${model === current} onChoose=${onChoose} />`,
            )}
          </ul>
        </section>`,
      )}
      ${typed !== "" &&
      !isKnown &&
      html`<ul><li><button type="button" class="model-name" onClick=${() => onChoose(typed)}>
        <span>${strings.models.use(typed)}</span>
        ${account.models.length > 0 && html`<span class="model-facts">${strings.models.unknown}</span>`}
      </button></li></ul>`}
    </div>
  </div>`;
}

/** @param {{chat: Chat, model: string, current: boolean, onChoose: (model: string) => void}} properties */
function ModelRow({ chat, model, current, onChoose }) {
  const { context, efforts, images, isRetired } = factsOf(model);
  const isKnown = context !== null;
  const isFavourite = modelChoice.favourites.includes(model);
  const cost = price(chat.account.prices, model);
  const facts = [cost, isKnown && strings.models.context(compact(context))].filter(Boolean);
  const toggle = (/** @type {Event} */ event) => {
    const list = /** @type {Element} */ (event.currentTarget).closest(".popup");
    modelChoice.toggleFavourite(model);
    // The row moves to another group: its new button takes the focus.
    requestAnimationFrame(() => {
      const button = list?.querySelector(`[aria-label="${CSS.escape(strings.models.favourite(model))}"]`);
      if (button instanceof HTMLElement) button.focus();
    });
  };
  return html`<li>
    <button type="button" class="model-name" aria-current=${current ? "true" : undefined} onClick=${() => onChoose(model)}>
      <span>
        ${model}
        ${isRetired && html`<small class="retired">${strings.models.retired}</small>`}
        ${isKnown && efforts.length > 0 && html`<small>${strings.models.reasons}</small>`}
        ${images && html`<small>${strings.models.images}</small>`}
      </span>
      ${facts.length > 0 && html`<span class="model-facts">${facts.map((fact, index) => html`${index > 0 && " · "}<span>${fact}</span>`)}</span>`}
      ${current && html`<${Icon} name="done" />`}
    </button>
    <${IconButton} icon="star" filled=${isFavourite} pressed=${isFavourite} label=${strings.models.favourite(model)}
      onClick=${toggle} />
  </li>`;
}

/**
 * The effort with which a model reasons, if it does.
 * @param {{conversation: Conversation, model: string}} properties
 */
export function EffortPicker({ conversation, model }) {
  const { settings } = conversation;
  const { efforts, context } = factsOf(model);
  if (efforts.length === 0 || (context === null && settings.reasoning_effort === "")) return null;
  const items = ["", ...efforts].map((effort) => ({
    label: effort === "" ? strings.models.defaultEffort : (strings.models.efforts[effort] ?? effort),
    checked: settings.reasoning_effort === effort,
    act: () => void conversation.changeSettings({ ...settings, reasoning_effort: effort }),
  }));
  const shown = strings.models.efforts[settings.reasoning_effort] ?? settings.reasoning_effort;
  return html`<${Menu} label=${strings.settings.reasoning_effort} class="choice" items=${items} disabled=${conversation.state !== "ready"}>
    <${Icon} name="effort" /><span>${shown || strings.models.effort}</span>
  <//>`;
}

/**
 * @param {string[]} models
 * @param {string} preset the server's default
 * @param {string} words
 * @returns {[string, string[]][]} groups with their names
 */
function groupsOf(models, preset, words) {
  const { favourites, used } = modelChoice;
  const matches = (/** @type {string} */ model) => words.split(/\s+/).every((word) => model.toLowerCase().includes(word));
  const recent = (used.length ? used : [preset]).filter((model) => model !== "" && !favourites.includes(model));
  const isListed = (/** @type {string} */ model) => isForChat(model) && (words !== "" || !isSnapshot(model));
  const others = models.filter((model) => isListed(model) && !favourites.includes(model) && !recent.includes(model));
  /** @type {[string, string[]][]} */
  const groups = [
    [strings.models.favourites, favourites],
    [used.length ? strings.models.used : strings.models.preset, recent],
    [strings.models.all, sortModels(others)],
  ];
  const isExact = (/** @type {string} */ model) => (model.toLowerCase() === words ? 1 : 0);
  return groups
    .map(([name, list]) => /** @type {[string, string[]]} */ ([name, list.filter(matches).sort((a, b) => isExact(b) - isExact(a))]))
    .filter(([, list]) => list.length > 0);
}
