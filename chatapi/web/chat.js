// The page as a whole: which conversation is open, and how its parts hear of each other.
import { Account } from "./account.js";
import { Api, Problem } from "./api.js";
import { Conversation, SENT } from "./conversation.js";
import { Observable } from "./observable.js";
import { Sessions, UNDO_SECONDS } from "./sessions.js";
import { drafts } from "./storage.js";
import { strings } from "./strings.js";
import { forgetModel } from "./wishes.js";

const KEPT = 8; // conversations that stay as they are when another is opened, those that are answering always
const ID = /^[\w-]+$/; // of a session, as the address may name it: anything else could lead to another route
const NO_ID = "none"; // of no session
const GLANCE_SECONDS = 4; // between looks at answers that go on unseen
const HIDDEN_SECONDS = 15; // a page that was not looked at for so long reads no answer

let toasts = 0;

/** @typedef {{id: number, text: string, action?: {label: string, act: () => void}}} Toast */

export class Chat extends Observable {
  api = new Api();
  account = new Account(this.api);
  sessions = new Sessions(this.api, (id) => this.tellOthers(id));
  /** @type {Conversation} */
  conversation;
  /** @type {"chat" | "usage"} */
  view = "chat";
  /** @type {Toast[]} */
  toasts = [];
  /** What screen readers are to say. */
  said = "";

  /** The one that begins with its first message: what was written for it waits while another is looked at. @type {Conversation} */
  #beginning;
  /** The answer whose end was said last. @type {import("./answer.js").Answer | null} */
  #announced = null;
  /** @type {Conversation[]} the last opened last */
  #open = [];
  #others = new BroadcastChannel("chatapi"); // this page in other tabs
  #hiding = 0; // the timer of a page that nobody looks at

  constructor() {
    super();
    // A first message that was on its way when the page was loaded anew: nobody knows whether it has arrived.
    drafts.set("", [drafts.get(SENT), drafts.get("")].filter(Boolean).join("\n\n"));
    drafts.set(SENT, "");
    this.#beginning = this.#opened(null);
    this.conversation = this.#beginning;
    this.#others.onmessage = ({ data }) => this.#heard(data);
    addEventListener("hashchange", () => this.#go());
    addEventListener("pagehide", () => this.sessions.leave());
    addEventListener("online", () => void this.#lookAgain());
    document.addEventListener("visibilitychange", () => this.#seen());
    setInterval(() => void this.#glance(), GLANCE_SECONDS * 1000);
  }

  /**
   * @throws {Problem | import("./api.js").Unreachable}
   */
  async begin() {
    await this.account.begin();
    if (this.account.open) this.#entered();
  }

  /**
   * @param {string} key
   * @param {boolean} remember
   */
  enter(key, remember) {
    this.account.use(key, remember);
    this.#entered();
  }

  #entered() {
    void this.sessions.load();
    void this.account.learnModels();
    this.#go();
  }

  /** Leave: nothing of the person stays in this browser. */
  leave() {
    drafts.clear();
    forgetModel();
    this.#start();
  }

  /** Forget the key; what was typed stays, and what could not be said with the old key can be said with another. */
  changeKey() {
    const { messages, problem } = this.conversation;
    const last = messages.findLast((message) => message.role === "user");
    const isRefused = problem instanceof Problem && problem.status === 401;
    if (isRefused && last !== undefined && drafts.get("") === "") drafts.set("", last.content);
    this.#start();
  }

  /** Begin the page anew: what was on its way for this key must meet no other. */
  #start() {
    this.account.forget();
    history.replaceState(null, "", location.pathname);
    location.reload();
  }

  /** @param {string | null} id */
  #opened(id) {
    return new Conversation(this.api, id, (conversation, ours) => this.#told(conversation, ours));
  }

  /** Open what the address names. */
  #go() {
    if (!this.account.open) return;
    const place = location.hash.replace(/^#\/?/, "");
    this.view = place === "usage" ? "usage" : "chat";
    if (this.view === "chat") this.#show(place === "" ? null : ID.test(place) ? place : NO_ID);
    this.changed();
  }

  /** @param {string | null} id */
  #show(id) {
    const before = this.conversation;
    if (before.id === id && !(id === null && before.answering)) return;
    before.hide();
    if (id === null) {
      if (this.#beginning.id !== null || this.#beginning.answering) this.#beginning = this.#opened(null);
      this.conversation = this.#beginning;
      void this.conversation.show();
      return;
    }
    void this.sessions.restore(id); // who opens what is about to be deleted wants it
    const known = this.#open.find((conversation) => conversation.id === id);
    this.conversation = known ?? this.#opened(id);
    this.#keep(this.conversation);
    void (known === undefined ? this.conversation.load() : known.show());
  }

  /** @param {Conversation} opened */
  #keep(opened) {
    const others = this.#open.filter((conversation) => conversation !== opened);
    const idle = others.filter((conversation) => !conversation.answering);
    const excess = new Set(idle.slice(0, Math.max(0, others.length + 1 - KEPT)));
    this.#open = [...others.filter((conversation) => !excess.has(conversation)), opened];
  }

  /**
   * A conversation has changed at the server.
   * @param {Conversation} conversation
   * @param {boolean} ours whether this page has changed it
   */
  #told(conversation, ours) {
    const isShown = conversation === this.conversation;
    if (isShown && conversation.id !== null && this.view === "chat" && location.hash !== `#/${conversation.id}`)
      history.replaceState(null, "", `#/${conversation.id}`);
    if (conversation.id !== null) this.#keep(conversation);
    if (ours) this.tellOthers(conversation.id);
    void this.sessions.load();
    if (isShown && conversation.answer?.over && conversation.answer !== this.#announced) {
      this.#announced = conversation.answer;
      this.say(this.#endingOf(conversation));
    }
    this.changed();
  }

  /** @param {Conversation} conversation */
  #endingOf(conversation) {
    const last = conversation.messages.at(-1);
    if (last?.role !== "assistant" || conversation.problem !== null) return "";
    return `${strings.announced[last.status]} ${last.content}`;
  }

  /** Whether an answer comes in this session, as far as this page knows. @param {string} id */
  isAnswering(id) {
    return this.#open.some((conversation) => conversation.id === id && conversation.answering);
  }

  /** @param {string | null} id of a session that has changed */
  tellOthers(id) {
    this.#others.postMessage({ changed: id });
  }

  /** @param {{changed: string | null}} message from another tab */
  #heard({ changed }) {
    if (!this.account.open) return;
    void this.sessions.load();
    for (const conversation of this.#open) if (conversation.id === changed) void conversation.refresh();
  }

  /** The person looks at the page, or away from it. */
  #seen() {
    clearTimeout(this.#hiding);
    if (document.hidden) this.#hiding = setTimeout(() => this.conversation.hide(), HIDDEN_SECONDS * 1000);
    else void this.#lookAgain();
  }

  async #glance() {
    const unseen = this.#open.filter((conversation) => conversation.unseen && conversation !== this.conversation);
    for (const conversation of unseen) await conversation.glance();
  }

  async #lookAgain() {
    if (!this.account.open) return;
    this.conversation.answer?.retryNow();
    await Promise.all([this.sessions.load(), this.conversation.show()]);
  }

  /**
   * @param {string | null} id of a session; null begins one
   * @param {string | null} [messageId] to be scrolled to
   */
  async openSession(id, messageId = null) {
    const place = id === null ? "" : `#/${id}`;
    if (location.hash === place || (place === "" && location.hash.length <= 2)) this.#go();
    else if (place === "") {
      history.pushState(null, "", location.pathname);
      this.#go();
    } else location.hash = place;
    if (messageId === null || id === null) return;
    if (this.conversation.id !== id) this.#show(id); // the browser tells of the new address a little later
    await this.conversation.reveal(messageId);
  }

  /** @param {string} id */
  deleteSession(id) {
    this.sessions.remove(id);
    const wasOpen = this.view === "chat" && this.conversation.id === id;
    if (wasOpen) void this.openSession(null);
    this.#open = this.#open.filter((conversation) => conversation.id !== id);
    this.toast(strings.sessions.deleted, {
      label: strings.sessions.undo,
      act: () => {
        void this.sessions.restore(id);
        if (wasOpen) void this.openSession(id);
      },
    });
  }

  /**
   * @param {string} id
   * @param {"markdown" | "json"} format
   */
  async exportSession(id, format) {
    try {
      const { name, content } = await this.api.export(id, format);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(content);
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      this.toast(sentence(error));
    }
  }

  /** @param {File} file that an export made */
  async importSession(file) {
    try {
      const session = await this.api.import(JSON.parse(await file.text()));
      await this.sessions.load();
      this.tellOthers(session.session_id);
      void this.openSession(session.session_id);
    } catch (error) {
      const isOther = error instanceof SyntaxError || (error instanceof Problem && error.code === "invalid_request");
      this.toast(isOther ? strings.sessions.notOurs(file.name) : sentence(error));
    }
  }

  /**
   * @param {string} text
   * @param {Toast["action"]} [action]
   */
  toast(text, action) {
    toasts += 1;
    const id = toasts;
    const dismiss = () => {
      this.toasts = this.toasts.filter((toast) => toast.id !== id);
      this.changed();
    };
    const acting = action && { ...action, act: () => [dismiss(), action.act()] };
    this.toasts = [...this.toasts, { id, text, action: acting }];
    setTimeout(dismiss, UNDO_SECONDS * 1000);
    this.changed();
  }

  /** @param {string} text for screen readers */
  say(text) {
    this.said = text;
    this.changed();
  }
}

/**
 * What went wrong, for a person.
 * @param {unknown} error
 */
export function sentence(error) {
  if (!(error instanceof Problem)) return strings.unreachable;
  if (error.code === null) return strings.notOurs(error.status);
  if (error.code === "session_busy") return strings.busy;
  if (error.status === 429 && error.retryAfter !== null) return strings.tooMany(error.retryAfter);
  return error.message;
}
