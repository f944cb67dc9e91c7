// One session as the page has it open: its messages along the active path, and the answer that is coming.
import { Answer } from "./answer.js";
import { Problem, Unreachable } from "./api.js";
import { Observable } from "./observable.js";
import { drafts } from "./storage.js";
import { fieldsOf, freshWishes, rememberModel, wishesIn, withWishes } from "./wishes.js";

/**
 * @typedef {import("./api.js").Api} Api
 * @typedef {import("./types.d.ts").Attachment} Attachment
 * @typedef {import("./types.d.ts").Message} Message
 * @typedef {import("./types.d.ts").Session} Session
 * @typedef {import("./types.d.ts").Wishes} Wishes
 */

/**
 * A message as it is shown. `key` stays the same when the server gives it its id; `answer` is there while it comes.
 * @typedef {Message & {key: string, answer?: Answer}} Shown
 */

/**
 * What is said, and where: `replaces` names a message that is said anew.
 * @typedef {{text: string, attachments: Attachment[], replaces: string | null}} Saying
 */

/**
 * `asks`: with a message of the user's own. `place`: where its draft is kept, until the server has it.
 * @typedef {{saying: Saying, key: string, asks: boolean, place: string, begun_at: string}} Turn
 */

/** @typedef {{messageId: string, control: string | null}} Sought */

export const SENT = "sent"; // the draft of a first message that is on its way
const DEVELOPER_MESSAGE = "developer"; // the draft of the session that has not begun
const FOUND_PAGES = 100; // of messages are looked through for one that a search found

let turns = 0;

export class Conversation extends Observable {
  /** @type {string | null} */
  id;
  /** @type {Session | null} */
  session = null;
  /** What the server has of the path, from the oldest that was loaded on. @type {Message[]} */
  messages = [];
  /** Where older ones are, if there are. @type {string | null} */
  older = null;
  /** The answer that comes, or came last in this page. @type {Answer | null} */
  answer = null;
  /** Why the last thing that was asked for did not happen. @type {Error | null} */
  problem = null;
  /** What could not be said, for the writer to have back; an edit's words are in its draft. @type {Saying | null} */
  unsaid = null;
  /** Images and files that are to go with the next message. @type {Attachment[]} */
  attachments = [];
  /** A message to go to, and what there is to be focused: itself, or a control of it. @type {Sought | null} */
  sought = null;
  /** @type {"loading" | "ready" | "gone"} */
  state;
  /** Of a session that has not begun; kept as a draft until it does. */
  developerMessage;
  /** @type {Wishes} */
  wishes = freshWishes();

  #api;
  #told;
  #hidden = false;
  /** Turns that were said here, by the id of the answer: they are shown under the keys they began with. @type {Map<string, {key: string, asks: boolean}>} */
  #keys = new Map();
  /** The turn that was said here and is not in `messages` yet. @type {Turn | null} */
  #turn = null;
  /** Whether a message waits for the turn before it to be settled. */
  #preparing = false;
  /** @type {Promise<boolean> | null} */
  #loading = null;
  /** How often the server was asked what it has, and which of its answers is shown. */
  #readings = 0;
  #taken = 0;
  /** Why the last reading failed, if it did. @type {Error | null} */
  #unread = null;
  /** A running answer that the server does not let us read: to ask again and again helps nobody. @type {string | null} */
  #unfollowed = null;
  /** @type {Promise<void> | null} */
  #loadingOlder = null;
  /** The wishes on their way to the server. @type {Promise<boolean>} */
  #keeping = Promise.resolve(true);

  /**
   * @param {Api} api
   * @param {string | null} id null for a session that begins with its first message
   * @param {(conversation: Conversation, ours: boolean) => void} told called when its session has changed at the server:
   *   `ours` where this page has changed it
   */
  constructor(api, id, told) {
    super();
    this.#api = api;
    this.#told = told;
    this.id = id;
    this.state = id === null ? "ready" : "loading";
    this.developerMessage = id === null ? drafts.get(DEVELOPER_MESSAGE) : "";
  }

  /** Whether an answer is on its way. */
  get answering() {
    return this.answer !== null && !this.answer.over;
  }

  /** Whether what is shown may be old, because the server could not be asked. */
  get behind() {
    return this.#unread !== null;
  }

  /** The words that are on their way to the server, and may come back. */
  get onTheirWay() {
    return this.#turn !== null && this.answering && this.answer?.generationId === null ? this.#turn.saying.text : null;
  }

  /** The path as it is shown, the turn that is on its way included. @returns {Shown[]} */
  get shown() {
    const shown = this.messages.map((message, index) => this.#keyed(message, this.messages[index + 1]));
    if (this.#turn === null) return shown;
    const { saying, key, asks, begun_at } = this.#turn;
    const at = shown.findIndex((message) => message.id === saying.replaces);
    if (at >= 0) shown.length = at;
    if (asks) shown.push(question(key, begun_at, saying));
    shown.push({ ...answerOf(key, begun_at), answer: this.answer ?? undefined });
    return shown;
  }

  /**
   * @param {Message} message
   * @param {Message | undefined} next
   * @returns {Shown}
   */
  #keyed(message, next) {
    const own = this.#keys.get(message.id);
    const followed = next === undefined ? undefined : this.#keys.get(next.id);
    const key = own ? `${own.key}-answer` : followed?.asks ? `${followed.key}-question` : message.id;
    const live = this.answer !== null && this.answer.generationId === message.generation_id ? this.answer : undefined;
    return { ...message, key, answer: message.status === "running" ? live : undefined };
  }

  /** Read what the server has, newest first, and follow what it is answering. Never throws: `problem` tells. */
  async load() {
    this.#loading ??= this.#reread().finally(() => {
      this.#loading = null;
    });
    await this.#loading;
  }

  /**
   * The same, whatever else is being read: of two readings, the one that began later is shown. A turn that has ended is
   * shown as the server has it from then on; while one goes on, nothing is read. Returns whether it was read.
   */
  async #reread() {
    const turn = this.#turn;
    if (this.id === null || (turn !== null && this.answering && !this.unseen)) return false;
    this.#readings += 1;
    const reading = this.#readings;
    const isOld = () => reading < this.#taken || this.#turn !== turn;
    const keeping = this.#keeping;
    try {
      await keeping;
      const [session, page] = await Promise.all([this.#api.session(this.id), this.#api.messages(this.id, null)]);
      if (isOld()) return this.#turn === null;
      this.#taken = reading;
      this.#settled(turn);
      if (this.unseen) this.answer = null;
      this.#take(session, page.data.reverse(), page.next_cursor);
      if (this.#keeping === keeping) this.wishes = wishesIn(session.metadata);
      this.state = "ready";
      if (this.problem === this.#unread) this.problem = null;
      this.#unread = null;
    } catch (error) {
      if (isOld()) return false;
      this.#failed(error);
      this.#unread = this.problem;
      if (isGone(error)) this.#forget();
      return false;
    } finally {
      this.changed();
    }
    const last = this.messages.at(-1);
    if (last?.status === "running" && !this.answering && last.generation_id !== this.#unfollowed) this.#follow(last);
    return true;
  }

  /** @param {Turn | null} turn that is among the messages now */
  #settled(turn) {
    if (turn === null) return;
    const messageId = this.answer?.messageId;
    if (messageId) this.#keys.set(messageId, { key: turn.key, asks: turn.asks });
    this.#turn = null;
  }

  /** The session is not there any more. */
  #forget() {
    this.state = "gone";
    this.#turn = null;
    this.answer = null;
    this.messages = [];
    this.older = null;
  }

  /**
   * @param {Session} session
   * @param {Message[]} messages the last ones
   * @param {string | null} older
   */
  #take(session, messages, older) {
    this.session = session;
    const joint = messages.length ? this.messages.findIndex((known) => known.id === messages[0].parent_id) : -1;
    if (joint >= 0) this.messages = [...this.messages.slice(0, joint + 1), ...messages];
    else [this.messages, this.older] = [messages, older];
  }

  /** Nobody looks at it now: an answer goes on at the server. A browser has few connections, and needs them elsewhere. */
  hide() {
    this.#hidden = true;
    this.answer?.goAway();
    this.changed();
  }

  /** Somebody looks at it again. */
  async show() {
    this.#hidden = false;
    if (this.unseen) await this.rejoin();
    else await this.refresh();
  }

  /** Whether an answer goes on at the server, and nobody here looks. */
  get unseen() {
    return this.answer?.state === "away";
  }

  /** Look whether an answer that goes on unseen has ended. */
  async glance() {
    if (this.id === null || !this.unseen) return;
    try {
      const page = await this.#api.messages(this.id, null, 1);
      if (page.data[0]?.status === "running" || !this.unseen) return;
    } catch (error) {
      if (error instanceof Unreachable) return; // the next look will tell
    }
    await this.rejoin();
    this.#told(this, false);
  }

  /** Look whether others have changed the session, and if so, read it again. */
  async refresh() {
    if (this.id === null || this.answering) return;
    const running = this.messages.at(-1)?.status === "running";
    if (this.session !== null && this.#turn === null && this.#unread === null && !running) {
      try {
        const session = await this.#api.session(this.id);
        if (session.last_updated === this.session.last_updated && session.head === this.session.head) return;
      } catch (error) {
        if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
        if (!isGone(error)) return; // the next look will tell
      }
    }
    await this.#reread();
  }

  /** Read the messages before those that are here. */
  async loadOlder() {
    this.#loadingOlder ??= this.#loadOlder().finally(() => {
      this.#loadingOlder = null;
    });
    await this.#loadingOlder;
  }

  async #loadOlder() {
    const [first] = this.messages;
    if (this.id === null || this.older === null || first === undefined) return;
    try {
      const page = await this.#api.messages(this.id, this.older);
      if (first !== this.messages[0]) return; // another path was opened meanwhile
      this.messages = [...page.data.reverse(), ...this.messages];
      this.older = page.next_cursor;
    } catch (error) {
      this.#failed(error);
    }
    this.changed();
  }

  /**
   * Have this message among the loaded ones, on whichever branch it is.
   * @param {string} messageId
   */
  async reveal(messageId) {
    await this.load();
    const isFound = (await this.#find(messageId)) || ((await this.switchTo(messageId)) && (await this.#find(messageId)));
    if (isFound) this.seek({ messageId, control: null });
  }

  /** @param {Attachment[]} attachments all that are to go with the next message */
  attach(attachments) {
    this.attachments = attachments;
    this.changed();
  }

  /** @param {Sought} sought */
  seek(sought) {
    this.sought = sought;
    this.changed();
  }

  /** @param {string} messageId */
  async #find(messageId) {
    for (let page = 0; page < FOUND_PAGES; page += 1) {
      if (this.messages.some((message) => message.id === messageId)) return true;
      if (this.older === null) return false;
      await this.loadOlder();
      if (this.problem !== null) return false;
    }
    return false;
  }

  /** @param {Message} running */
  #follow(running) {
    this.answer = Answer.begun(this.#api, {
      session_id: /** @type {string} */ (this.id),
      generation_id: /** @type {string} */ (running.generation_id),
      message_id: running.id,
      model: running.model,
    });
    if (this.#hidden) this.answer.goAway();
    this.changed();
    void this.#read(this.answer);
  }

  /**
   * Say something, and read the answer. Returns when the answer has come to an end; never throws.
   * @param {string} text
   * @param {Attachment[]} attachments
   */
  async send(text, attachments) {
    await this.#say({ text, attachments, replaces: null });
  }

  /**
   * Say a message of the user's in other words: a new branch beside it.
   * @param {Message} message
   * @param {string} text
   */
  async edit(message, text) {
    await this.#say({ text, attachments: attachmentsOf(message), replaces: message.id });
  }

  /**
   * Have another answer beside this one.
   * @param {Message} message
   */
  async regenerate(message) {
    await this.#say({ text: "", attachments: [], replaces: message.id });
  }

  /** @param {Saying} saying */
  async #say(saying) {
    if (this.answering || this.#preparing) return this.#giveBack(saying);
    if (this.#turn !== null && !(await this.#prepare())) return this.#giveBack(saying);
    turns += 1;
    this.problem = null;
    this.unsaid = null;
    const replaced = this.messages.find((message) => message.id === saying.replaces);
    const asks = replaced === undefined || replaced.role === "user";
    const place = saying.replaces ?? this.id ?? SENT;
    if (asks) drafts.set(place, saying.text);
    if (place === SENT) drafts.set("", "");
    this.#turn = { saying, key: `turn-${turns}`, asks, place, begun_at: new Date().toISOString() };
    const answer = new Answer(this.#api, this.#body(this.#turn));
    this.answer = answer;
    const unwatch = answer.watch(() => {
      if (answer.sessionId === null) return;
      unwatch();
      this.#begun(answer.sessionId);
    });
    this.changed();
    await this.#read(answer);
    unwatch();
  }

  /** The last turn is shown as the server has it, before another begins. Returns whether that went. */
  async #prepare() {
    this.#preparing = true;
    await this.#reread();
    this.#preparing = false;
    return this.#turn === null && !this.answering;
  }

  /** @param {Turn} turn */
  #body({ saying: { text, attachments, replaces }, asks }) {
    return {
      ...fieldsOf(this.wishes),
      ...(this.id === null ? { developer_message: this.developerMessage } : { session_id: this.id }),
      ...(asks && text !== "" ? { user_message: text } : {}),
      ...(replaces === null ? {} : { replace: replaces }),
      ...(attachments.length ? { attachments: attachments.map(({ name, ...sent }) => sent) } : {}),
    };
  }

  /**
   * The server has the message: its draft is needed no more, and a new session has its id.
   * @param {string} id
   */
  #begun(id) {
    if (this.#turn !== null) forgetDraft(this.#turn);
    if (this.id === null) this.#born(id);
    if (this.#hidden) this.answer?.goAway();
    this.#told(this, true);
    this.changed();
  }

  /** @param {string} id of the session that has begun */
  #born(id) {
    this.id = id;
    drafts.set(DEVELOPER_MESSAGE, "");
    this.#keeping = this.#keepWishes(id);
  }

  /** @param {Answer} answer */
  async #read(answer) {
    await answer.read();
    if (answer !== this.answer) return;
    const ours = this.#turn !== null;
    if (answer.state === "refused") await this.#refused(answer);
    else if (answer.state === "ended") {
      if (answer.status === "completed") rememberModel(this.wishes);
      await this.#reread(); // where the server is away again, what came is shown on
      this.#told(this, ours);
    }
    this.changed();
  }

  /**
   * The answer cannot be had: it was begun, and cannot be read on; or the message is kept with an answer that failed
   * at once; or the message was not taken.
   * @param {Answer} answer
   */
  async #refused({ problem, generationId }) {
    const asked = problem instanceof Problem ? problem : null;
    if (generationId !== null) {
      this.#unfollowed = generationId;
      await this.#reread();
      if (this.messages.at(-1)?.status === "running") this.problem = problem;
    } else if (asked !== null && asked.generationId !== null && asked.status !== 409) {
      if (this.#turn !== null) forgetDraft(this.#turn);
      if (this.id === null && asked.sessionId !== null) this.#born(asked.sessionId);
      await this.#reread(); // the answer itself says what happened
      if (asked.status === 401) this.problem = problem;
      this.#told(this, true);
    } else {
      const saying = this.#turn?.saying ?? null;
      this.#turn = null;
      this.answer = null;
      if (asked?.status === 409) await this.#reread();
      this.problem = problem;
      if (saying !== null) this.#giveBack(saying);
    }
  }

  /** Stop the answer that comes. What there is of it stays. */
  async stop() {
    const { answer } = this;
    if (answer === null || answer.over) return;
    try {
      await answer.stop();
    } catch (error) {
      this.#failed(error);
      this.changed();
    }
    if (this.unseen) await this.rejoin();
    const turn = this.#turn;
    if (answer.state !== "lost" || answer.generationId !== null || answer !== this.answer || turn === null) return;
    this.#turn = null;
    this.answer = null;
    this.#giveBack(turn.saying);
  }

  /**
   * What the server has not said that it has goes back to its writer.
   * @param {Saying} saying
   */
  #giveBack(saying) {
    this.unsaid = saying.replaces === null ? saying : null;
    this.changed();
  }

  /** The writer has it back. */
  takeBack() {
    this.unsaid = null;
    if (this.id === null) drafts.set(SENT, "");
  }

  /** Go on reading an answer that was given up, or look whether the server has it. */
  async rejoin() {
    this.#unfollowed = null;
    await this.#reread();
  }

  /**
   * Let the active path go through this message. Returns whether it does.
   * @param {string} messageId
   */
  async switchTo(messageId) {
    if (this.id === null) return false;
    try {
      this.session = await this.#api.changeSession(this.id, { head: messageId });
      this.#turn = null;
      this.answer = null;
      return await this.#reread();
    } catch (error) {
      this.#failed(error);
      this.changed();
      return false;
    }
  }

  /**
   * A new session that goes on from this message. Null where it could not be made.
   * @param {Message} message
   */
  async fork(message) {
    if (this.id === null) return null;
    try {
      return await this.#api.fork(this.id, message.id);
    } catch (error) {
      this.#failed(error);
      this.changed();
      return null;
    }
  }

  /**
   * @param {{developer_message: string}} change
   * @returns {Promise<boolean>} whether it is kept
   */
  async change(change) {
    if (this.id === null) {
      this.developerMessage = change.developer_message;
      drafts.set(DEVELOPER_MESSAGE, this.developerMessage);
      this.changed();
      return true;
    }
    try {
      this.session = await this.#api.changeSession(this.id, change);
      this.#told(this, true);
      this.changed();
      return true;
    } catch (error) {
      this.#failed(error);
      this.changed();
      return false;
    }
  }

  /**
   * @param {Wishes} wishes
   * @returns {Promise<boolean>} whether they are kept, or will be once there is a session
   */
  async wish(wishes) {
    this.wishes = wishes;
    this.changed();
    if (this.id === null) return true;
    const { id } = this;
    this.#keeping = this.#keeping.then(() => this.#keepWishes(id));
    return this.#keeping;
  }

  /**
   * @param {string} id
   * @returns {Promise<boolean>} whether they are kept
   */
  async #keepWishes(id) {
    try {
      const wishes = this.wishes;
      const { metadata } = this.session ?? (await this.#api.session(id));
      const wanted = withWishes(metadata, wishes);
      if (JSON.stringify(wanted) === JSON.stringify(metadata)) return true;
      this.session = await this.#api.changeSession(id, { metadata: wanted });
      return true;
    } catch (error) {
      this.#failed(error);
      this.changed();
      return false;
    }
  }

  /** The person has read it. */
  dismissProblem() {
    this.problem = null;
    this.changed();
  }

  /** @param {unknown} error */
  #failed(error) {
    if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
    this.problem = error;
  }
}

/** @param {unknown} error */
function isGone(error) {
  return error instanceof Problem && error.status === 404 && error.code !== null; // a proxy's 404 is not the server's word
}

/** @param {Turn} turn that the server has */
function forgetDraft({ place, saying }) {
  if (drafts.get(place) === saying.text) drafts.set(place, "");
}

/**
 * @param {string} key
 * @param {string} created_at
 * @param {Saying} saying
 * @returns {Shown}
 */
function question(key, created_at, { text, attachments }) {
  const parts = attachments.map((one) =>
    one.type === "image" ? { type: "image", url: one.url } : { type: "file", filename: one.filename, data: one.data },
  );
  return {
    ...fresh(`${key}-question`, created_at),
    role: "user",
    content: text,
    parts: [...(text ? [{ type: "text", text }] : []), ...parts],
    status: "completed",
  };
}

/**
 * @param {string} key
 * @param {string} created_at
 * @returns {Shown}
 */
function answerOf(key, created_at) {
  return { ...fresh(`${key}-answer`, created_at), role: "assistant", content: "", parts: [], status: "running" };
}

/**
 * @param {string} key
 * @param {string} created_at
 */
function fresh(key, created_at) {
  return { key, id: key, model: null, usage: null, created_at, parent_id: null, sibling_ids: [] };
}

/**
 * What was attached to a message, to be sent again with other words.
 * @param {Message} message
 * @returns {Attachment[]}
 */
function attachmentsOf(message) {
  /** @type {Attachment[]} */
  const attachments = [];
  for (const { type, url, data, filename = "file" } of message.parts) {
    if (type === "image" && url !== undefined) attachments.push({ type, url, name: "" });
    if (type === "file" && data !== undefined) attachments.push({ type, data, filename, name: filename });
  }
  return attachments;
}
