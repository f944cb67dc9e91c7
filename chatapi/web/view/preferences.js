// The settings of the page: appearance, data, the key, help.
import { LANGUAGES, chooseLanguage, chosenLanguage } from "../language.js";
import { useWatch } from "../state/observable.js";
import { LOOKS, look, setLook, setTheme, theme } from "../state/storage.js";
import { strings } from "../strings.js";
import { html, useRef, useState } from "../vendor/htm-preact.js";
import { Confirm } from "./confirm.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { deleteAllSessions, exportAllSessions } from "./transfer.js";

/** @typedef {import("../state/chat.js").Chat} Chat */

/** @param {{chat: Chat, onClose: () => void, onHelp: () => void}} properties */
export function Preferences({ chat, onClose, onHelp }) {
  const file = useRef(/** @type {HTMLInputElement | null} */ (null));
  const [isAsking, setAsking] = useState(false); // whether to delete everything
  const isDemo = chat.account.config?.demo ?? false;
  const onFile = () => {
    const chosen = file.current?.files?.[0];
    if (!chosen) return;
    onClose();
    void chat.importFile(chosen);
  };
  if (isAsking)
    return html`<${Confirm} heading=${strings.preferences.deleteAllHeading} text=${strings.preferences.deleteAllText}
      action=${strings.preferences.deleteAll} onClose=${onClose} onConfirm=${() => void deleteAllSessions(chat)} />`;
  return html`<${Dialog} heading=${strings.preferences.heading} onClose=${onClose} class="preferences">
    <section>
      <h3>${strings.preferences.appearance}</h3>
      <${Theme} />
      <${Accent} />
      <${LookChoice} name="text" />
      <${LookChoice} name="lines" />
      <${Language} />
      <${NotifySwitch} chat=${chat} />
    </section>
    <section>
      <h3>${strings.preferences.data}</h3>
      <a class="wide plain button" href="#/usage" onClick=${onClose}><${Icon} name="usage" /> ${strings.preferences.usage}</a>
      <button type="button" class="wide plain" onClick=${() => file.current?.click()}>
        <${Icon} name="import" /> ${strings.preferences.import}
      </button>
      <button type="button" class="wide plain" onClick=${() => [onClose(), void exportAllSessions(chat)]}>
        <${Icon} name="export" /> ${strings.preferences.exportAll}
      </button>
      <button type="button" class="wide plain danger" onClick=${() => setAsking(true)}>
        <${Icon} name="delete" /> ${strings.preferences.deleteAll}
      </button>
      <input ref=${file} type="file" accept="application/json,application/zip,.json,.zip" hidden onChange=${onFile} />
    </section>
    <section>
      <h3>${strings.preferences.help}</h3>
      <button type="button" class="wide plain" onClick=${onHelp}><${Icon} name="keyboard" /> ${strings.help.open} <kbd>?</kbd></button>
      <a class="wide plain button" href="/docs" target="_blank" rel="noopener"><${Icon} name="help" /> ${strings.help.reference}</a>
    </section>
    <section>
      <h3>${strings.preferences.key}</h3>
      <button type="button" class="wide plain" onClick=${() => (isDemo ? chat.changeKey() : chat.signOut())}>
        <${Icon} name="key" /> ${isDemo ? strings.key.change : strings.key.forget}
      </button>
    </section>
  <//>`;
}

/** @param {{chat: Chat}} properties */
function NotifySwitch({ chat }) {
  const { attention } = chat;
  useWatch(attention);
  const onChange = async () => {
    const isSet = await attention.setNotifies(!attention.notifies);
    if (!isSet) chat.toasts.show(strings.preferences.notifyRefused);
    attention.changed(); // the box shows what was possible
  };
  return html`<label class="check">
    <input type="checkbox" checked=${attention.notifies} onChange=${onChange} /> ${strings.preferences.notify}
  </label>`;
}

/** The languages by their own names; a choice reloads the page. */
function Language() {
  const onChange = (/** @type {Event} */ { target }) => chooseLanguage(/** @type {HTMLSelectElement} */ (target).value);
  const chosen = chosenLanguage();
  return html`<label class="row">
    <span>${strings.preferences.language}</span>
    <select name="language" onChange=${onChange}>
      <option value="" selected=${chosen === ""}>${strings.preferences.automatic}</option>
      ${Object.entries(LANGUAGES).map(([code, name]) => html`<option value=${code} lang=${code} selected=${chosen === code}>${name}</option>`)}
    </select>
  </label>`;
}

function Theme() {
  const [chosen, setChosen] = useState(theme());
  /** @type {[import("../state/storage.js").Theme, import("./icons.js").IconName][]} */
  const themes = [
    ["system", "monitor"],
    ["light", "sun"],
    ["dark", "moon"],
  ];
  return html`<div class="segments" role="radiogroup" aria-label=${strings.theme.label}>
    ${themes.map(
      ([name, icon]) => html`<label>
        <input type="radio" name="theme" value=${name} checked=${chosen === name} onChange=${() => [setTheme(name), setChosen(name)]} />
        <${Icon} name=${icon} /> ${strings.theme[name]}
      </label>`,
    )}
  </div>`;
}

function Accent() {
  const [chosen, setChosen] = useState(look("accent"));
  return html`<div class="row">
    <span id="accent-label">${strings.looks.accent}</span>
    <div class="swatches" role="radiogroup" aria-labelledby="accent-label">
      ${LOOKS.accent.map(
        (name) => html`<label data-accent=${name} title=${strings.looks.accents[name]}>
          <input type="radio" name="accent" value=${name} aria-label=${strings.looks.accents[name]} checked=${chosen === name}
            onChange=${() => [setLook("accent", name), setChosen(name)]} />
        </label>`,
      )}
    </div>
  </div>`;
}

/** @param {{name: "text" | "lines"}} properties */
function LookChoice({ name }) {
  const texts = strings.looks[name];
  const onChange = (/** @type {Event} */ { target }) => setLook(name, /** @type {HTMLSelectElement} */ (target).value);
  return html`<label class="row">
    <span>${texts.label}</span>
    <select name=${name} onChange=${onChange}>
      ${LOOKS[name].map((value) => html`<option value=${value} selected=${look(name) === value}>${texts.choices[value]}</option>`)}
    </select>
  </label>`;
}
