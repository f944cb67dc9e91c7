// How much of the model's context the conversation fills, by the usage of the last answer.
import { compact, count } from "../format.js";
import { factsOf } from "../state/model-facts.js";
import { strings } from "../strings.js";
import { html } from "../vendor/htm-preact.js";

const HIGH = 0.8; // of the context: the next answers may fail

/**
 * Nothing if the number of tokens or the context of the model is unknown.
 * @param {{conversation: import("../state/conversation.js").Conversation, model: string}} properties
 */
export function ContextMeter({ conversation, model }) {
  const usage = conversation.messages.findLast((message) => message.usage !== null)?.usage;
  const { context } = factsOf(model);
  if (!usage || usage.input_tokens === null || usage.output_tokens === null || context === null) return null;
  const used = usage.input_tokens + usage.output_tokens;
  if (used === 0) return null;
  const label = strings.composer.context(count(used), count(context));
  return html`<span class="context-meter ${used > HIGH * context ? "high" : ""}" role="img" aria-label=${label} title=${label}>
    ${compact(used)} / ${compact(context)}
  </span>`;
}
