// The search dialog: titles and messages of all sessions.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { errorText } from "../error-text.js";
import { time } from "../format.js";
import { strings } from "../strings.js";
import { isComposing } from "./composition.js";
import { Dialog } from "./dialog.js";
import { useId } from "./id.js";

/** @typedef {import("../types.d.ts").Hit} Hit */

const TYPING_PAUSE_MS = 200; // between the last key and the request
const ENOUGH_HITS = 8; // with fewer, the search continues in older sessions by itself
const MAX_ROUNDS = 10; // of requests without a click

/** @param {{chat: import("../state/chat.js").Chat, onClose: () => void}} properties */
export function Search({ chat, onClose }) {
  const [words, setWords] = useState("");
  const [hits, setHits] = useState(/** @type {Hit[]} */ ([]));
  const [nextCursor, setNextCursor] = useState(/** @type {string | null} */ (null));
  const [state, setState] = useState(/** @type {"idle" | "searching" | "done" | string} */ ("idle"));
  const [chosen, setChosen] = useState(0);
  const list = useRef(/** @type {HTMLUListElement | null} */ (null));
  const abortController = useRef(new AbortController()); // of the running search
  const id = useId();

  /**
   * @param {Hit[]} before
   * @param {string | null} cursor
   */
  const search = async (before, cursor) => {
    const { signal } = abortController.current;
    setState("searching");
    let found = before;
    try {
      for (let round = 0; round < MAX_ROUNDS; round += 1) {
        const page = await chat.api.search(words.trim(), cursor, signal);
        found = [...found, ...page.data];
        cursor = page.next_cursor;
        found = grouped(found);
        setHits(found);
        setNextCursor(cursor);
        if (cursor === null || found.length >= before.length + ENOUGH_HITS) break;
      }
      setState("done");
    } catch (error) {
      if (!signal.aborted) setState(errorText(error));
    }
  };
  useEffect(() => {
    setHits([]);
    setNextCursor(null);
    setChosen(0);
    setState("idle");
    if (words.trim() === "") return;
    abortController.current = new AbortController();
    const timer = setTimeout(search, TYPING_PAUSE_MS, [], null);
    return () => {
      clearTimeout(timer);
      abortController.current.abort();
    };
  }, [words]);
  useEffect(() => list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }), [chosen]);

  const open = (/** @type {Hit} */ hit) => {
    onClose();
    void chat.openSession(hit.session_id, hit.message_id);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (isComposing(event) || hits.length === 0) return;
    if (event.key === "ArrowDown") setChosen((chosen + 1) % hits.length);
    else if (event.key === "ArrowUp") setChosen((chosen - 1 + hits.length) % hits.length);
    else if (event.key === "Enter") open(hits[chosen]);
    else return;
    event.preventDefault();
  };

  const found = hits.length ? strings.search.found(hits.length) : strings.search.none;
  const status = { idle: "", searching: strings.search.searching, done: found }[state] ?? state;
  const hasFailed = !["idle", "searching", "done"].includes(state);
  return html`<${Dialog} heading=${strings.search.label} onClose=${onClose} class="search">
    <input
      type="search"
      dir="auto"
      role="combobox"
      aria-label=${strings.search.label}
      aria-controls=${id}
      aria-autocomplete="list"
      aria-expanded=${hits.length > 0}
      aria-activedescendant=${hits.length ? `${id}-${chosen}` : undefined}
      placeholder=${strings.search.placeholder}
      maxlength="200"
      value=${words}
      onInput=${(/** @type {InputEvent} */ event) => setWords(/** @type {HTMLInputElement} */ (event.target).value)}
      onKeyDown=${onKeyDown}
      autofocus
    />
    <ul class="hits" id=${id} ref=${list} role="listbox" aria-label=${strings.search.label}>
      ${hits.map(
        (hit, index) => html`<li
          key=${`${hit.session_id} ${hit.message_id}`}
          id="${id}-${index}"
          role="option"
          aria-selected=${index === chosen}
          onClick=${() => open(hit)}
          onPointerMove=${() => setChosen(index)}
        >
          ${hit.message_id === null
            ? html`<span class="hit-title" dir="auto"><${Snippet} hit=${hit} /></span>`
            : html`${hit.session_id !== hits[index - 1]?.session_id &&
                html`<span class="hit-title of-message" dir="auto">${hit.title ?? strings.sessions.untitled}</span>`}
                <span class="hit-snippet" dir="auto"><${Snippet} hit=${hit} /></span>`}
          <span class="hit-where">${kindOf(hit)} · ${time(hit.created_at)}</span>
        </li>`,
      )}
    </ul>
    <p class="hint" role="status">${status}</p>
    ${((nextCursor !== null && state === "done") || hasFailed) &&
    html`<button type="button" class="wide" onClick=${() => search(hits, nextCursor)}>
      ${hasFailed ? strings.retry : strings.search.searchOlder}
    </button>`}
  <//>`;
}

/**
 * The hits of one session after each other; sessions in the order of their first hit.
 * @param {Hit[]} hits
 */
function grouped(hits) {
  /** @type {Map<string, Hit[]>} */
  const sessions = new Map();
  for (const hit of hits) sessions.set(hit.session_id, [...(sessions.get(hit.session_id) ?? []), hit]);
  return [...sessions.values()].flat();
}

/** @param {Hit} hit */
function kindOf(hit) {
  if (hit.message_id === null) return strings.search.inTitle;
  return hit.role === "user" ? strings.search.user : strings.search.assistant;
}

/** @param {{hit: Hit}} properties */
function Snippet({ hit }) {
  const characters = [...hit.snippet]; // the API counts code points
  const [start, end] = hit.match;
  return html`${characters.slice(0, start).join("")}<mark>${characters.slice(start, end).join("")}</mark>${characters
    .slice(end)
    .join("")}`;
}
