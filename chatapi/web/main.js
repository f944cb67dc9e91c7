// The entry point of the page.
import { html, render } from "./vendor/htm-preact.js";
import { Chat } from "./state/chat.js";
import { App } from "./view/app.js";

const chat = new Chat();
render(html`<${App} chat=${chat} />`, /** @type {HTMLElement} */ (document.getElementById("page")));
