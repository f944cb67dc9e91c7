// The root component: start-up, the key page, then the chat.
import { errorText } from "../error-text.js";
import { useWatch } from "../state/observable.js";
import { strings } from "../strings.js";
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { KeyPage } from "./key.js";
import { ChatLayout } from "./layout.js";
import { Notice } from "./notice.js";
import { SharedPage, sharedToken } from "./shared.js";

/** @typedef {import("../state/chat.js").Chat} Chat */

/** @param {{chat: Chat}} properties */
export function App({ chat }) {
  const [error, setError] = useState(/** @type {unknown} */ (null));
  useWatch(chat, chat.account);
  const start = async () => {
    setError(null);
    try {
      await chat.start();
    } catch (error) {
      setError(error);
    }
  };
  useEffect(() => {
    void start();
  }, []);
  const [token, setToken] = useState(sharedToken);
  useEffect(() => {
    const route = () => setToken(sharedToken());
    addEventListener("hashchange", route);
    return () => removeEventListener("hashchange", route);
  }, []);

  if (token !== null) return html`<${SharedPage} token=${token} />`;
  if (error !== null)
    return html`<main class="key-page">
      <${Notice} text=${errorText(error)} step=${{ label: strings.retry, act: () => void start() }} />
    </main>`;
  if (chat.account.config === null) return html`<main class="key-page"><p class="hint" role="status">${strings.starting}</p></main>`;
  if (!chat.account.hasKey) return html`<${KeyPage} chat=${chat} />`;
  return html`<${ChatLayout} chat=${chat} />`;
}
