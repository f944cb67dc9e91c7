// What holds for one chat: its developer message, its model, its parameters.
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { sentence } from "../chat.js";
import { useWatch } from "../observable.js";
import { drafts } from "../storage.js";
import { strings } from "../strings.js";
import { Dialog } from "./dialog.js";
import { useId } from "./id.js";

/**
 * @typedef {import("../chat.js").Chat} Chat
 * @typedef {import("../conversation.js").Conversation} Conversation
 * @typedef {import("../types.d.ts").Wishes} Wishes
 */

const EFFORTS = ["minimal", "low", "medium", "high"];

/** @param {{chat: Chat, conversation: Conversation, onClose: () => void}} properties */
export function Panel({ chat, conversation, onClose }) {
  useWatch(chat.account, conversation);
  const told = conversation.session?.developer_message ?? conversation.developerMessage;
  const place = `${conversation.id ?? ""}.instructions`; // of the draft: an Escape too many costs no word
  const [developerMessage, setDeveloperMessage] = useState(() => drafts.get(place) || told);
  const [wishes, setWishes] = useState(conversation.wishes);
  const [trouble, setTrouble] = useState(/** @type {Error | null} */ (null));
  const id = useId();
  useEffect(() => {
    if (chat.account.models.length === 0) void chat.account.learnModels();
  }, []);

  const { models } = chat.account;
  const isUnknown = wishes.model !== "" && models.length > 0 && !models.includes(wishes.model);
  const set = (/** @type {keyof Wishes} */ name) => (/** @type {Event} */ event) =>
    setWishes({ ...wishes, [name]: /** @type {HTMLInputElement} */ (event.target).value });
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const isKept =
      (developerMessage === told || (await conversation.change({ developer_message: developerMessage }))) &&
      (await conversation.wish(wishes));
    if (!isKept) return setTrouble(conversation.problem);
    conversation.dismissProblem();
    drop();
  };
  const write = (/** @type {InputEvent} */ event) => {
    const { value } = /** @type {HTMLTextAreaElement} */ (event.target);
    setDeveloperMessage(value);
    drafts.set(place, value);
  };
  const drop = () => {
    drafts.set(place, "");
    onClose();
  };
  const number = (/** @type {keyof Wishes} */ name, /** @type {Record<string, string>} */ bounds) => html`<label>
    ${strings.panel[/** @type {"seed"} */ (name)]}
    <input type="number" ...${bounds} value=${wishes[name]} onInput=${set(name)} />
  </label>`;

  return html`<${Dialog} heading=${strings.panel.heading} onClose=${onClose} class="panel">
    <form onSubmit=${save}>
      <label for="${id}-developer">${strings.panel.developerMessage}</label>
      <textarea
        id="${id}-developer"
        dir="auto"
        rows="6"
        autofocus
        aria-describedby="${id}-developer-hint"
        value=${developerMessage}
        onInput=${write}
      ></textarea>
      <p class="hint" id="${id}-developer-hint">${strings.panel.developerHint}</p>
      <label for="${id}-model">${strings.panel.model}</label>
      <input
        id="${id}-model"
        list="${id}-models"
        autocomplete="off"
        spellcheck=${false}
        placeholder=${chat.account.config?.default_model}
        aria-describedby="${id}-model-hint"
        value=${wishes.model}
        onInput=${set("model")}
      />
      <datalist id="${id}-models">${chat.account.models.map((model) => html`<option value=${model}></option>`)}</datalist>
      <p class="hint" id="${id}-model-hint">${isUnknown ? strings.panel.unknownModel : strings.panel.modelHint}</p>
      <fieldset>
        <legend>${strings.panel.parameters}</legend>
        <p class="hint">${strings.panel.parametersHint}</p>
        ${number("temperature", { min: "0", max: "2", step: "any" })}
        ${number("top_p", { min: "0", max: "1", step: "any" })}
        ${number("max_completion_tokens", { min: "1", step: "1" })}
        ${number("seed", { step: "1" })}
        <label>
          ${strings.panel.reasoning_effort}
          <select value=${wishes.reasoning_effort} onChange=${set("reasoning_effort")}>
            <option value="">${strings.panel.unset}</option>
            ${EFFORTS.map((effort) => html`<option value=${effort}>${effort}</option>`)}
          </select>
        </label>
      </fieldset>
      ${trouble !== null && html`<p class="notice" role="alert">${sentence(trouble)}</p>`}
      <div class="buttons">
        <button type="button" onClick=${drop}>${strings.cancel}</button>
        <button type="submit" class="primary">${strings.save}</button>
      </div>
    </form>
  <//>`;
}
