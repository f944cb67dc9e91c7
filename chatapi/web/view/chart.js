// A stacked bar chart by day as SVG, followed by the same numbers as a table.
import { html } from "../vendor/htm-preact.js";
import { calendarDay } from "../format.js";
import { strings } from "../strings.js";

const HEIGHT = 200;
const LEFT = 70; // space for the axis labels
const BOTTOM = 22; // space for the days
const TOP = 8;
const LINES = 4; // horizontal grid lines, at round numbers
const COLOURS = 6; // in usage.css; further series share the last one

/**
 * @param {object} properties
 * @param {string} properties.heading
 * @param {string[]} properties.days YYYY-MM-DD, one slot each
 * @param {string[]} properties.series from the bottom of the stack
 * @param {Map<string, Map<string, number>>} properties.values by day, then by series
 * @param {(value: number) => string} properties.show
 */
export function StackedBars({ heading, days, series, values, show }) {
  const width = matchMedia("(max-width: 48rem)").matches ? 400 : 720; // the shown width, so that text is not scaled
  const sums = days.map((day) => [...(values.get(day)?.values() ?? [])].reduce((sum, value) => sum + value, 0));
  const step = roundStep(Math.max(...sums) / LINES);
  const max = step * LINES;
  const y = (/** @type {number} */ value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / max);
  const slot = (width - LEFT) / days.length;
  const labelled = Math.ceil((days.length * 90) / width); // every n-th day has a label
  return html`<section class="chart">
    <h2>${heading}</h2>
    <svg viewBox="0 0 ${width} ${HEIGHT}" role="img" aria-label=${heading}>
      ${Array.from({ length: LINES + 1 }, (_, line) => line * step).map(
        (value) => html`<g>
          <line class="grid" x1=${LEFT} x2=${width} y1=${y(value)} y2=${y(value)} />
          <text x=${LEFT - 6} y=${y(value) + 4} text-anchor="end">${show(value)}</text>
        </g>`,
      )}
      ${days.map((day, index) => {
        let below = 0;
        const x = LEFT + index * slot + slot * 0.15;
        return html`<g>
          ${series.map((name, place) => {
            const value = values.get(day)?.get(name) ?? 0;
            if (value === 0) return null;
            below += value;
            return html`<rect class="series-${Math.min(place, COLOURS - 1)}" x=${x} y=${y(below)} width=${slot * 0.7} height=${y(below - value) - y(below)}>
              <title>${`${calendarDay(day)} · ${name}: ${show(value)}`}</title>
            </rect>`;
          })}
          ${index % labelled === 0 && html`<text x=${x + slot * 0.35} y=${HEIGHT - 6} text-anchor="middle">${day.slice(5)}</text>`}
        </g>`;
      })}
    </svg>
    <ul class="legend">
      ${series.map((name, place) => html`<li><span class="series-${Math.min(place, COLOURS - 1)}" aria-hidden="true"></span> ${name}</li>`)}
    </ul>
    <details>
      <summary>${strings.usage.table}</summary>
      <div class="table-scroll" tabindex="0" role="region" aria-label=${heading}>
        <table>
          <thead>
            <tr>
              <th scope="col">${strings.usage.day}</th>
              ${series.map((name) => html`<th scope="col" class="number">${name}</th>`)}
            </tr>
          </thead>
          <tbody>
            ${days
              .filter((day) => values.has(day))
              .map(
                (day) => html`<tr>
                  <th scope="row">${calendarDay(day)}</th>
                  ${series.map((name) => html`<td class="number">${show(values.get(day)?.get(name) ?? 0)}</td>`)}
                </tr>`,
              )}
          </tbody>
        </table>
      </div>
    </details>
  </section>`;
}

/**
 * Round up to 1, 2 or 5 times a power of ten.
 * @param {number} least
 */
function roundStep(least) {
  if (!(least > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least) ?? 10 * power;
}
