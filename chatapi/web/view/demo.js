// The demo shows what happens to a running answer: in a reloaded page, in a second tab, and under a killed server.
import { pullThePlug } from "../api/client.js";
import { errorText } from "../error-text.js";
import { strings } from "../strings.js";
import { html, useState } from "../vendor/htm-preact.js";
import { Icon } from "./icons.js";

/** Messages that the simulator knows, in its language. @type {[import("./icons.js").IconName, string][]} */
export const DEMO_SUGGESTIONS = [
  ["table", "Show me Markdown"],
  ["list", "Count to 100"],
  ["user", "My name is Ada. Remember it."],
  ["file", "Tell me a long story"],
];

/**
 * Shown above the composer while an answer runs.
 * @param {{chat: import("../state/chat.js").Chat, conversation: import("../state/conversation.js").Conversation}} properties
 */
export function DemoBar({ chat, conversation }) {
  const [isPulled, setPulled] = useState(false);
  const pull = async () => {
    setPulled(true);
    try {
      await pullThePlug(chat.api);
      chat.toasts.show(strings.demo.pulled);
    } catch (error) {
      chat.toasts.show(errorText(error));
    }
  };
  return html`<div class="demo-bar" role="group" aria-label=${strings.demo.try}>
    <span>${strings.demo.try}</span>
    <button type="button" onClick=${() => location.reload()}><${Icon} name="regenerate" /> ${strings.demo.reload}</button>
    <button type="button" onClick=${() => open(location.href)} disabled=${conversation.id === null}><${Icon} name="tabs" /> ${strings.demo.tab}</button>
    <button type="button" class="danger" onClick=${pull} disabled=${isPulled}><${Icon} name="unplug" /> ${strings.demo.pull}</button>
  </div>`;
}
