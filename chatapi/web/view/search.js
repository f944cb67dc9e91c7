// Search over one's own chats.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { sentence } from "../chat.js";
import { time } from "../format.js";
import { strings } from "../strings.js";
import { Dialog } from "./dialog.js";
import { useId } from "./id.js";

/** @typedef {import("../types.d.ts").Hit} Hit */

const PAUSE_MS = 200; // after the last letter
const ENOUGH = 8; // hits; with fewer, the search goes on into older chats by itself
const ROUNDS = 10; // of going on by itself

/** @param {{chat: import("../chat.js").Chat, onClose: () => void}} properties */
export function Search({ chat, onClose }) {
  const [words, setWords] = useState("");
  const [hits, setHits] = useState(/** @type {Hit[]} */ ([]));
  const [further, setFurther] = useState(/** @type {string | null} */ (null));
  const [state, setState] = useState(/** @type {"idle" | "looking" | "done" | string} */ ("idle"));
  const [chosen, setChosen] = useState(0);
  const list = useRef(/** @type {HTMLUListElement | null} */ (null));
  const aborting = useRef(new AbortController()); // of the search that runs
  const id = useId();

  /**
   * @param {Hit[]} before
   * @param {string | null} cursor
   */
  const look = async (before, cursor) => {
    const { signal } = aborting.current;
    setState("looking");
    let found = before;
    try {
      for (let round = 0; round < ROUNDS; round += 1) {
        const page = await chat.api.search(words.trim(), cursor, signal);
        found = [...found, ...page.data];
        cursor = page.next_cursor;
        setHits(found);
        setFurther(cursor);
        if (cursor === null || found.length >= before.length + ENOUGH) break;
      }
      setState("done");
    } catch (error) {
      if (!signal.aborted) setState(sentence(error));
    }
  };
  useEffect(() => {
    setHits([]);
    setFurther(null);
    setChosen(0);
    setState("idle");
    if (words.trim() === "") return;
    aborting.current = new AbortController();
    const timer = setTimeout(look, PAUSE_MS, [], null);
    return () => {
      clearTimeout(timer);
      aborting.current.abort();
    };
  }, [words]);
  useEffect(() => list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }), [chosen]);

  const open = (/** @type {Hit} */ hit) => {
    onClose();
    void chat.openSession(hit.session_id, hit.message_id);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.isComposing || hits.length === 0) return;
    if (event.key === "ArrowDown") setChosen((chosen + 1) % hits.length);
    else if (event.key === "ArrowUp") setChosen((chosen - 1 + hits.length) % hits.length);
    else if (event.key === "Enter") open(hits[chosen]);
    else return;
    event.preventDefault();
  };

  const found = hits.length ? strings.search.found(hits.length) : strings.search.none;
  const note = { idle: "", looking: strings.search.looking, done: found }[state] ?? state;
  const isStuck = !["idle", "looking", "done"].includes(state);
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
          <span class="hit-title" dir="auto">${hit.title ?? strings.sessions.untitled}</span>
          <span class="hit-where">${whereOf(hit)} · ${time(hit.created_at)}</span>
          <span class="hit-snippet" dir="auto"><${Snippet} hit=${hit} /></span>
        </li>`,
      )}
    </ul>
    <p class="hint" role="status">${note}</p>
    ${((further !== null && state === "done") || isStuck) &&
    html`<button type="button" class="wide" onClick=${() => look(hits, further)}>
      ${isStuck ? strings.retry : strings.search.further}
    </button>`}
  <//>`;
}

/** @param {Hit} hit */
function whereOf(hit) {
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
