// Numbers and times, in the language of the page.
import { locale } from "./language.js";
import { strings } from "./strings.js";

/**
 * @typedef {import("./types.d.ts").Message} Message
 * @typedef {import("./types.d.ts").Price} Price
 * @typedef {import("./types.d.ts").Prices} Prices
 * @typedef {import("./types.d.ts").Usage} Usage
 */

const whole = new Intl.NumberFormat(locale());
const short = new Intl.NumberFormat(locale(), { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(locale(), { timeStyle: "short" });
const date = new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" });
const day = new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeZone: "UTC" });

/** @param {number | null} number */
export const count = (number) => (number === null ? "?" : whole.format(number));
/** @param {number} number */
export const compact = (number) => (number < 10_000 ? whole : short).format(number);

/** @param {string} iso a time */
export function time(iso) {
  const then = new Date(iso);
  const today = then.toDateString() === new Date().toDateString();
  return (today ? clock : date).format(then);
}

/** @param {string} iso a time @returns {string} with its date, also today */
export const dateAndTime = (iso) => date.format(new Date(iso));

/** @param {string} iso a day, YYYY-MM-DD */
export const calendarDay = (iso) => day.format(new Date(`${iso}T00:00:00Z`));

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

/**
 * @param {number} amount
 * @param {string} currency ISO 4217
 */
export function money(amount, currency) {
  const digits = amount !== 0 && Math.abs(amount) < 0.1 ? { maximumSignificantDigits: 2 } : {};
  try {
    return new Intl.NumberFormat(locale(), { style: "currency", currency, ...digits }).format(amount);
  } catch {
    return `${amount} ${currency}`; // the browser does not know the currency
  }
}

/**
 * The price of a model. A dated name falls back to the price of its family, as in the server.
 * @param {Prices} prices
 * @param {string} model
 * @returns {Price | null}
 */
function priceOf(prices, model) {
  const family = model.replace(/-\d{4}-\d{2}-\d{2}$/, "");
  for (const name of [model, family]) if (Object.hasOwn(prices.models, name)) return prices.models[name];
  return null;
}

/**
 * The price of a million tokens, or null if it is unknown.
 * @param {Prices} prices
 * @param {string} model
 */
export function price(prices, model) {
  const found = priceOf(prices, model);
  if (found === null || prices.currency === null) return null;
  return strings.models.price(money(found.input, prices.currency), money(found.output, prices.currency));
}

/**
 * The cost of an answer, or null if it is unknown.
 * @param {Prices} prices
 * @param {string | null} model
 * @param {Usage | null} usage
 */
export function cost(prices, model, usage) {
  const price = model === null ? null : priceOf(prices, model);
  if (price === null || usage === null || prices.currency === null) return null;
  if (usage.input_tokens === null || usage.output_tokens === null) return null;
  const cached = usage.cached_tokens ?? 0;
  const input = (usage.input_tokens - cached) * price.input + cached * (price.cached_input ?? price.input);
  return money((input + usage.output_tokens * price.output) / 1_000_000, prices.currency);
}

/**
 * Seconds until the first token, and tokens per second after it; null if unknown.
 * @param {Message} message
 */
export function pace(message) {
  if (!message.first_token_at || !message.ended_at) return { first: null, rate: null };
  const [created, first, ended] = [message.created_at, message.first_token_at, message.ended_at].map((iso) =>
    Date.parse(iso),
  );
  const tokens = message.usage?.output_tokens ?? null;
  const seconds = (ended - first) / 1000;
  return { first: Math.max(0, (first - created) / 1000), rate: tokens === null || seconds <= 0.05 ? null : tokens / seconds };
}
