// Where the page begins.
import { html, render } from "./vendor/htm-preact.js";
import { Chat } from "./chat.js";
import { App } from "./view/app.js";

const chat = new Chat();
render(html`<${App} chat=${chat} />`, /** @type {HTMLElement} */ (document.getElementById("page")));
