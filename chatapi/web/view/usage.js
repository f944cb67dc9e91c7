// Usage by day, model and session, as charts and tables.
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { errorText } from "../error-text.js";
import { calendarDay, compact, count, money } from "../format.js";
import { strings } from "../strings.js";
import { StackedBars } from "./chart.js";
import { Notice } from "./notice.js";

/**
 * @typedef {import("../types.d.ts").UsageReport} UsageReport
 * @typedef {import("../types.d.ts").UsageRow} UsageRow
 * @typedef {{days: UsageReport, models: UsageReport, sessions: UsageReport}} Reports
 */

const RANGES = [7, 30, 90];
const DAY_MS = 86_400_000;

/** @param {{chat: import("../state/chat.js").Chat}} properties */
export function UsageView({ chat }) {
  const [range, setRange] = useState(30);
  const [reports, setReports] = useState(/** @type {Reports | null} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [attempt, setAttempt] = useState(0);
  const dates = datesOf(range);

  useEffect(() => {
    let current = true;
    setReports(null);
    setError(null);
    const load = (/** @type {string} */ by) => chat.api.usage(dates[0], /** @type {string} */ (dates.at(-1)), by);
    Promise.all([load("day,model"), load("model"), load("session")]).then(
      ([days, models, sessions]) => current && setReports({ days, models, sessions }),
      (error) => current && setError(error),
    );
    return () => {
      current = false;
    };
  }, [range, attempt]);

  return html`<div class="usage">
    <div class="usage-top">
      <button type="button" onClick=${() => chat.openSession(chat.conversation.id)}>${strings.usage.back}</button>
      <label>
        ${strings.usage.range}${" "}
        <select value=${String(range)} onChange=${(/** @type {Event} */ event) => setRange(Number(/** @type {HTMLSelectElement} */ (event.target).value))}>
          ${RANGES.map((days) => html`<option value=${String(days)}>${strings.usage.days(days)}</option>`)}
        </select>
      </label>
    </div>
    ${error !== null &&
    html`<${Notice} text=${errorText(error)} step=${{ label: strings.retry, act: () => setAttempt(attempt + 1) }} />`}
    ${error === null && reports === null && html`<p class="hint" role="status">${strings.usage.loading}</p>`}
    ${reports !== null && html`<${Report} reports=${reports} dates=${dates} />`}
  </div>`;
}

/** @param {{reports: Reports, dates: string[]}} properties */
function Report({ reports, dates }) {
  const { totals, prices } = reports.models;
  if (totals.answers === 0) return html`<p class="hint">${strings.usage.none}</p>`;
  const models = reports.models.data.map((row) => row.model ?? "");
  const priced = reports.days.data.filter((row) => row.cost !== null);
  return html`
    <${Tiles} totals=${totals} currency=${prices?.currency ?? null} />
    <${StackedBars} heading=${strings.usage.byDay} days=${dates} series=${models} show=${compact}
      values=${valuesOf(reports.days.data, tokensOf)} />
    ${prices !== null &&
    priced.length > 0 &&
    html`<${StackedBars} heading=${strings.usage.costByDay} days=${dates} series=${models} show=${(/** @type {number} */ amount) => money(amount, prices.currency)}
      values=${valuesOf(priced, (row) => row.cost ?? 0)} />`}
    <${Table} heading=${strings.usage.byModel} first=${strings.usage.model} rows=${reports.models.data} currency=${prices?.currency ?? null}
      name=${(/** @type {UsageRow} */ row) => row.model} />
    <${Table} heading=${strings.usage.bySession} first=${strings.usage.session} rows=${reports.sessions.data} currency=${prices?.currency ?? null}
      name=${(/** @type {UsageRow} */ row) =>
        row.session_id
          ? html`<a href="#/${row.session_id}" dir="auto">${row.title ?? strings.sessions.untitled}</a>`
          : strings.usage.deleted} />
    <p class="hint">${prices === null ? strings.usage.noPrices : strings.usage.prices(calendarDay(prices.as_of))}</p>
    ${prices !== null && totals.unpriced > 0 && html`<p class="hint">${strings.usage.unpriced(totals.unpriced)}</p>`}
    ${totals.unknown > 0 && html`<p class="hint">${strings.usage.unknown(totals.unknown)}</p>`}
  `;
}

/** @param {{totals: UsageRow, currency: string | null}} properties */
function Tiles({ totals, currency }) {
  const tiles = [
    [strings.usage.answers, count(totals.answers)],
    [strings.usage.input, compact(totals.input_tokens)],
    [strings.usage.output, compact(totals.output_tokens)],
    ...(totals.cost === null || currency === null ? [] : [[strings.usage.cost, money(totals.cost, currency)]]),
  ];
  return html`<dl class="tiles">
    ${tiles.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

/**
 * @param {{heading: string, first: string, rows: UsageRow[], currency: string | null, name: (row: UsageRow) => unknown}} properties
 */
function Table({ heading, first, rows, currency, name }) {
  const largest = Math.max(...rows.map(tokensOf));
  return html`<section class="table-box">
    <h2>${heading}</h2>
    <div class="table-scroll" tabindex="0" role="region" aria-label=${heading}>
      <table>
        <thead>
          <tr>
            <th scope="col">${first}</th>
            <th scope="col" class="number">${strings.usage.answers}</th>
            <th scope="col" class="number">${strings.usage.input}</th>
            <th scope="col" class="number">${strings.usage.output}</th>
            ${currency !== null && html`<th scope="col" class="number">${strings.usage.cost}</th>`}
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row) => html`<tr>
              <th scope="row">${name(row)}<${Share} of=${largest === 0 ? 0 : tokensOf(row) / largest} /></th>
              <td class="number">${count(row.answers)}</td>
              <td class="number">${count(row.input_tokens)}</td>
              <td class="number">${count(row.output_tokens)}</td>
              ${currency !== null && html`<td class="number">${row.cost === null ? "–" : money(row.cost, currency)}</td>`}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}

/** A bar: the value of a row relative to the largest. @param {{of: number}} properties */
function Share({ of }) {
  return html`<svg class="share" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
    <rect class="series-0" width=${100 * of} height="4" />
  </svg>`;
}

/** @param {UsageRow} row */
const tokensOf = (row) => row.input_tokens + row.output_tokens;

/**
 * The days of a period that ends today, in UTC as in the API.
 * @param {number} days
 */
function datesOf(days) {
  const today = Date.now();
  return Array.from({ length: days }, (_, index) => new Date(today - (days - 1 - index) * DAY_MS).toISOString().slice(0, 10));
}

/**
 * @param {UsageRow[]} rows by day and model
 * @param {(row: UsageRow) => number} value
 * @returns {Map<string, Map<string, number>>} by day, then by model
 */
function valuesOf(rows, value) {
  /** @type {Map<string, Map<string, number>>} */
  const values = new Map();
  for (const row of rows) {
    const day = values.get(row.day ?? "") ?? new Map();
    values.set(row.day ?? "", day.set(row.model ?? "", value(row)));
  }
  return values;
}
