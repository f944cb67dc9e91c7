// What a link shows: the messages of a chat, read only and without a key.
import { Api } from "../api/client.js";
import { errorText } from "../error-text.js";
import { dateAndTime } from "../format.js";
import { strings } from "../strings.js";
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { Markdown } from "./markdown.js";
import { InputPart } from "./message.js";
import { Notice } from "./notice.js";
import { Sources } from "./steps.js";

/** @typedef {import("../types.d.ts").SharedSession} SharedSession */

/** The token of the link in the address; null if it is another address. */
export function sharedToken() {
  return /^#\/share\/([\w-]{1,64})$/.exec(location.hash)?.[1] ?? null;
}

/** @param {{token: string}} properties */
export function SharedPage({ token }) {
  const [shared, setShared] = useState(/** @type {SharedSession | null} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const load = async () => {
    setError(null);
    try {
      setShared(await new Api().sharedSession(token)); // without the key, which it does not need
    } catch (failure) {
      setError(failure);
    }
  };
  useEffect(() => void load(), [token]);
  if (error !== null)
    return html`<main class="key-page"><${Notice} text=${errorText(error)} step=${{ label: strings.retry, act: () => void load() }} /></main>`;
  if (shared === null) return html`<main class="key-page"><p class="hint" role="status">${strings.conversation.loading}</p></main>`;
  return html`<main class="shared" tabindex="-1">
    <header>
      <h1 dir="auto">${shared.title ?? strings.sessions.untitled}</h1>
      <p class="hint">${strings.share.shown(dateAndTime(shared.created_at))}</p>
    </header>
    ${shared.messages.map((message, index) => html`<${SharedMessage} key=${index} message=${message} />`)}
    <a class="button" href="/">${strings.share.begin}</a>
  </main>`;
}

/** @param {{message: SharedSession["messages"][number]}} properties */
function SharedMessage({ message }) {
  const { role, parts } = message;
  const name = strings.message[role];
  if (role === "user")
    return html`<article class="message user" aria-label=${name}>
      <h2 class="hidden">${name}</h2>
      <div class="bubble">${parts.map((part, index) => html`<${InputPart} key=${index} part=${part} />`)}</div>
    </article>`;
  if (parts.every((part) => !part.text)) return null; // it only calls tools
  return html`<article class="message assistant" aria-label=${name}>
    <h2 class="hidden">${name}</h2>
    ${parts.map((part, index) => part.text && part.type !== "annotation" && html`<${Markdown} key=${index} text=${part.text} ended=${true} />`)}
    <${Sources} parts=${parts} />
  </article>`;
}
