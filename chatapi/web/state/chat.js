// The state of the whole page: which session is open, and how its parts learn of each other's changes.
import { Api } from "../api/client.js";
import { isAboutKey } from "../error-text.js";
import { plainText } from "../markdown/plain-text.js";
import { strings } from "../strings.js";
import { Account } from "./account.js";
import { Attention } from "./attention.js";
import { Conversation } from "./conversation.js";
import { Importer } from "./importer.js";
import { takeLink } from "./link.js";
import { modelChoice } from "./model-choice.js";
import { Observable } from "./observable.js";
import { presets } from "./presets.js";
import { Sessions } from "./sessions.js";
import { drafts, forgetFolders } from "./storage.js";
import { Tabs } from "./tabs.js";
import { Toasts } from "./toasts.js";
import { SENT_DRAFT } from "./turn.js";

/** @typedef {import("../types.d.ts").Session} Session */

const MAX_TITLE_CHARACTERS = 200; // the API's limit
const MAX_KEPT = 8; // conversations in memory, in addition to those with a running answer
const SESSION_ID = /^[\w-]+$/; // in the address; any other text could lead to another route
const INVALID_ID = "none"; // of no session
const POLL_SECONDS = 4; // between checks of detached answers
const CHANGES_SECONDS = 10; // between checks for changes by other devices, while the page is visible
const ANNOUNCED_CHARACTERS = 300; // of an answer; the rest can be read in the conversation
const HIDDEN_SECONDS = 15; // until a hidden page closes the connection of its answer

export class Chat extends Observable {
  api = new Api();
  account = new Account(this.api);
  sessions = new Sessions(this.api, (id) => this.#tabs.send({ changed: id }));
  toasts = new Toasts();
  attention = new Attention();
  /** @type {Conversation} */
  conversation;
  /** @type {"chat" | "usage"} */
  view = "chat";
  /** The import whose progress or failures are shown. @type {Importer | null} */
  importer = null;
  /** The text for screen readers. */
  announcement = "";

  /** The conversation that its first message creates. Its draft waits while another one is shown. @type {Conversation} */
  #newConversation;
  /** The answer whose end was announced last. @type {import("./answer.js").Answer | null} */
  #announcedAnswer = null;
  /** The open conversations, the last opened one last. @type {Conversation[]} */
  #open = [];
  #tabs = new Tabs((message) => this.#onTabMessage(message));
  /** Timer that detaches the answer of a hidden page. */
  #hideTimer = 0;

  constructor() {
    super();
    // If a first message was being sent when the page was reloaded, it is unknown whether it arrived.
    const link = takeLink();
    drafts.set("", [drafts.get(SENT_DRAFT), drafts.get(""), link.text].filter(Boolean).join("\n\n"));
    drafts.set(SENT_DRAFT, "");
    this.#newConversation = this.#createConversation(null);
    if (link.model !== "") this.#newConversation.settings.model = link.model;
    this.conversation = this.#newConversation;
    addEventListener("hashchange", () => this.#route());
    addEventListener("pagehide", () => this.sessions.flushDeletions());
    addEventListener("online", () => void this.#refresh());
    document.addEventListener("visibilitychange", () => this.#onVisibilityChange());
    setInterval(() => void this.#pollDetached(), POLL_SECONDS * 1000);
    setInterval(() => void this.#pollChanges(), CHANGES_SECONDS * 1000);
  }

  // The key

  /**
   * Load the configuration, and continue with the stored key if there is one.
   * @throws {import("../api/client.js").ApiError | import("../api/client.js").NetworkError}
   */
  async start() {
    await this.account.load();
    if (this.account.hasKey) this.#onKey();
    else if (this.account.wantsSharedKey) this.#tabs.send({ keyWanted: true });
  }

  /**
   * @param {string} key
   * @param {boolean} remember
   */
  useKey(key, remember) {
    this.#useKeyHere(key, remember);
    if (remember) this.#tabs.send({ key });
  }

  /** @param {string} key @param {boolean} remember */
  #useKeyHere(key, remember) {
    this.account.useKey(key, remember);
    this.#onKey();
  }

  #onKey() {
    void this.sessions.load();
    void this.account.loadModels();
    this.#route();
  }

  /** Remove everything of this user from the browser, in all tabs. */
  signOut() {
    this.#tabs.send({ forgottenKey: this.api.key ?? undefined });
    this.#signOutHere();
  }

  #signOutHere() {
    drafts.clear();
    this.sessions.forgetPins();
    modelChoice.forget();
    presets.forget();
    forgetFolders();
    this.#restart(false);
  }

  /** Forget the key and keep the drafts. A message that the key was refused for becomes the draft of a new session. */
  changeKey() {
    const { messages } = this.conversation;
    const question = messages.findLast((message) => message.role === "user");
    if (isAboutKey(messages.at(-1)?.error?.code) && question !== undefined && drafts.get("") === "")
      drafts.set("", question.content);
    this.#restart(true);
  }

  /**
   * Reload the page, so that nothing that was requested with this key reaches the next one.
   * @param {boolean} wantsOtherKey
   */
  #restart(wantsOtherKey) {
    this.account.forgetKey(wantsOtherKey);
    history.replaceState(null, "", location.pathname);
    location.reload();
  }

  // Which conversation is open

  /** Show the view that the address names. */
  #route() {
    if (!this.account.hasKey) return;
    const path = location.hash.replace(/^#\/?/, "");
    if (path.startsWith("share/")) return; // shown without the chats
    this.view = path === "usage" ? "usage" : "chat";
    if (this.view === "chat") this.#show(path === "" ? null : SESSION_ID.test(path) ? path : INVALID_ID);
    this.changed();
  }

  /** @param {string | null} id */
  #show(id) {
    const previous = this.conversation;
    if (previous.id === id && !(id === null && previous.isAnswering)) return;
    previous.hide();
    if (id === null) {
      if (this.#newConversation.id !== null || this.#newConversation.isAnswering)
        this.#newConversation = this.#createConversation(null);
      this.conversation = this.#newConversation;
      void this.conversation.show();
      return;
    }
    void this.sessions.restore(id); // opening a session cancels its pending deletion
    const known = this.#open.find((conversation) => conversation.id === id);
    this.conversation = known ?? this.#createConversation(id);
    this.#keep(this.conversation);
    void (known === undefined ? this.conversation.load() : known.show());
  }

  /** @param {string | null} id */
  #createConversation(id) {
    return new Conversation(this.api, id, (conversation, ours) => this.#onConversationChange(conversation, ours));
  }

  /** @param {Conversation} opened */
  #keep(opened) {
    const others = this.#open.filter((conversation) => conversation !== opened);
    const idle = others.filter((conversation) => !conversation.isAnswering);
    const excess = new Set(idle.slice(0, Math.max(0, others.length + 1 - MAX_KEPT)));
    this.#open = [...others.filter((conversation) => !excess.has(conversation)), opened];
  }

  /**
   * @param {string | null} id of a session; null starts a new one
   * @param {string | null} [messageId] to scroll to
   */
  async openSession(id, messageId = null) {
    const hash = id === null ? "" : `#/${id}`;
    if (location.hash === hash || (hash === "" && location.hash.length <= 2)) this.#route();
    else if (hash === "") {
      history.pushState(null, "", location.pathname);
      this.#route();
    } else location.hash = hash;
    if (messageId === null || id === null) return;
    if (this.conversation.id !== id) this.#show(id); // `hashchange` comes later
    await this.conversation.reveal(messageId);
  }

  /** @param {string[]} ids */
  deleteSessions(ids) {
    for (const id of ids) this.sessions.remove(id);
    const openId = this.view === "chat" && ids.includes(this.conversation.id ?? "") ? this.conversation.id : null;
    if (openId !== null) void this.openSession(null);
    this.#open = this.#open.filter((conversation) => !ids.includes(conversation.id ?? ""));
    this.toasts.show(strings.sessions.deleted(ids.length), {
      label: strings.sessions.undo,
      act: () => {
        for (const id of ids) void this.sessions.restore(id);
        if (openId !== null) void this.openSession(openId);
      },
    });
  }

  /**
   * Add the chats of an exported file as new sessions, and open the last one.
   * @param {File} file
   */
  async importFile(file) {
    const importer = new Importer(this.api, file, this.account.config?.max_media_bytes ?? 0);
    this.importer = importer;
    this.changed();
    await importer.run();
    const { last, count, failureCount, error } = importer;
    if (last !== null && this.importer === importer) await this.#openCopy(last);
    else if (last !== null) await this.sessions.load();
    if (error === "file" && count === 0) this.toasts.show(strings.sessions.notAnExport(file.name));
    else if (failureCount === 0 && error === null) this.toasts.show(strings.importing.count(count));
    else return; // the dialog shows the rest
    if (this.importer === importer) this.closeImport();
  }

  /** Close the dialog of an import; one that runs is stopped. */
  closeImport() {
    this.importer?.cancel();
    this.importer = null;
    this.changed();
  }

  /** All sessions were deleted, or as many as possible. */
  async onAllDeleted() {
    this.#open = [];
    await this.openSession(null);
    await this.sessions.load();
    this.#tabs.send({ changed: null });
  }

  /**
   * Pin or archive a session, or undo that.
   * @param {Session} session
   * @param {import("./sessions.js").Flag} flag
   */
  async toggleFlag(session, flag) {
    await this.sessions.toggleFlag(session, flag);
    await this.#onMarked([session.session_id]);
  }

  /**
   * Move sessions to a folder, or out of their folders if the name is empty.
   * @param {string[]} ids
   * @param {string} folder
   */
  async moveSessions(ids, folder) {
    for (const id of ids) if (!(await this.sessions.move(id, folder))) break;
    await this.#onMarked(ids);
  }

  /** The metadata of sessions was changed: the open one has an old copy. @param {string[]} ids */
  async #onMarked(ids) {
    const { conversation } = this;
    if (conversation.id !== null && ids.includes(conversation.id)) await conversation.refresh();
  }

  /**
   * Create a session that continues from a message of the open one, and open it.
   * @param {import("../types.d.ts").Message} message
   */
  async forkSession(message) {
    const session = await this.conversation.fork(message);
    if (session !== null) await this.#openCopy(session);
  }

  /** Open a session that may have the title of another one, and rename it in that case. @param {Session} copy */
  async #openCopy(copy) {
    await this.sessions.load();
    const others = this.sessions.list.filter((session) => session.session_id !== copy.session_id);
    const title = titleOfCopy(copy.title, others);
    if (title !== copy.title) await this.sessions.rename(copy.session_id, title ?? "");
    this.#tabs.send({ changed: copy.session_id });
    void this.openSession(copy.session_id);
  }

  // Changes

  /**
   * A conversation has changed at the server.
   * @param {Conversation} conversation
   * @param {boolean} ours whether this page changed it
   */
  #onConversationChange(conversation, ours) {
    const isShown = conversation === this.conversation;
    if (isShown && conversation.id !== null && this.view === "chat" && location.hash !== `#/${conversation.id}`)
      history.replaceState(null, "", `#/${conversation.id}`);
    if (conversation.id !== null) this.#keep(conversation);
    if (ours) this.#tabs.send({ changed: conversation.id });
    void this.sessions.load();
    if (conversation.answer?.isOver && conversation.answer !== this.#announcedAnswer) {
      this.#announcedAnswer = conversation.answer;
      const text = plainText(conversation.messages.at(-1)?.content ?? "", ANNOUNCED_CHARACTERS);
      if (isShown) this.announce(endAnnouncement(conversation, text));
      this.attention.onAnswer(conversation.session?.title ?? "", text, () => void this.openSession(conversation.id));
    }
    this.changed();
  }

  /** @param {import("./tabs.js").TabMessage} message */
  #onTabMessage({ changed, keyWanted, key, forgottenKey }) {
    const { sharedKey, wantsSharedKey, hasKey } = this.account;
    if (keyWanted && sharedKey !== null) this.#tabs.send({ key: sharedKey });
    if (key !== undefined && wantsSharedKey) this.#useKeyHere(key, true);
    if (forgottenKey !== undefined && forgottenKey === this.api.key) this.#signOutHere();
    if (changed === undefined || !hasKey) return;
    void this.sessions.load();
    for (const conversation of this.#open) if (conversation.id === changed) void conversation.refresh();
  }

  /** Whether an answer of this session runs, as far as this page knows. @param {string} id */
  isAnswering(id) {
    return this.#open.some((conversation) => conversation.id === id && conversation.isAnswering);
  }

  #onVisibilityChange() {
    clearTimeout(this.#hideTimer);
    if (document.hidden) this.#hideTimer = setTimeout(() => this.conversation.hide(), HIDDEN_SECONDS * 1000);
    else void this.#refresh();
  }

  async #pollDetached() {
    const detached = this.#open.filter((conversation) => conversation.isDetached && conversation !== this.conversation);
    for (const conversation of detached) await conversation.pollStatus();
  }

  /** Load the list, and the open session if another device has changed or deleted it. */
  async #pollChanges() {
    if (!this.account.hasKey || document.hidden) return;
    const { conversation, sessions } = this;
    if (!(await sessions.poll()) || conversation.session === null) return;
    const listed = sessions.list.find((session) => session.session_id === conversation.id);
    const isDeleted = listed === undefined && sessions.nextCursor === null;
    if (isDeleted || (listed && listed.last_updated !== conversation.session.last_updated)) await conversation.refresh();
  }

  async #refresh() {
    if (!this.account.hasKey) return;
    this.conversation.answer?.retryNow();
    await Promise.all([this.sessions.load(), this.conversation.show()]);
  }

  /** @param {string} text for screen readers */
  announce(text) {
    this.announcement = text;
    this.changed();
  }
}

/**
 * Return the title, or "Title (2)" and so on if another session has it.
 * @param {string | null} title
 * @param {Session[]} others
 */
function titleOfCopy(title, others) {
  const titles = new Set(others.map((session) => session.title));
  if (title === null || !titles.has(title)) return title;
  const base = [...title.replace(/ \(\d+\)$/, "")].slice(0, MAX_TITLE_CHARACTERS - 10).join("");
  for (let number = 2; ; number += 1) if (!titles.has(`${base} (${number})`)) return `${base} (${number})`;
}

/**
 * @param {Conversation} conversation whose answer has ended
 * @param {string} text of the answer
 */
function endAnnouncement({ messages, error }, text) {
  const last = messages.at(-1);
  if (last?.role !== "assistant" || error !== null) return "";
  const label = strings.announced[last.status];
  return label && `${label} ${text}`;
}
