// The entry point of the page.
import { html, render } from "./vendor/htm-preact.js";
import { loadLanguage } from "./language.js";
import { keepForOffline } from "./offline.js";
import { Chat } from "./state/chat.js";
import { App } from "./view/app.js";

async function start() {
  await loadLanguage();
  render(html`<${App} chat=${new Chat()} />`, /** @type {HTMLElement} */ (document.getElementById("page")));
  void keepForOffline();
}

void start();
