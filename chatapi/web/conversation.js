// One session as the page has it open: its messages along the active path, and the answer that is coming.
import { Answer } from "./answer.js";
import { Problem, Unreachable } from "./api.js";
import { Observable } from "./observable.js";
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

/** @typedef {{saying: Saying, key: string, asks: boolean}} Turn `asks`: with a message of the user's own */

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
  /** What could not be said, for the writer to have back. @type {Saying | null} */
  unsaid = null;
  /** @type {"loading" | "ready" | "gone"} */
  state;
  /** Of a session that has not begun. */
  developerMessage = "";
  /** @type {Wishes} */
  wishes = freshWishes();

  #api;
  #told;
  #hidden = false;
  /** Turns that were said here, by the id of the answer: they are shown under the keys they began with. @type {Map<string, Turn>} */
  #settled = new Map();
  /** The turn that was said here and is not in `messages` yet. @type {Turn | null} */
  #turn = null;
  /** @type {Promise<void> | null} */
  #loading = null;
  /** @type {Promise<void> | null} */
  #loadingOlder = null;
  /** The wishes on their way to the server. @type {Promise<void>} */
  #keeping = Promise.resolve();

  /**
   * @param {Api} api
   * @param {string | null} id null for a session that begins with its first message
   * @param {(conversation: Conversation) => void} told called when its session has begun or changed at the server
   */
  constructor(api, id, told) {
    super();
    this.#api = api;
    this.#told = told;
    this.id = id;
    this.state = id === null ? "ready" : "loading";
  }

  /** Whether an answer is on its way. */
  get answering() {
    return this.answer !== null && !this.answer.over;
  }

  /** The path as it is shown, the turn that is on its way included. @returns {Shown[]} */
  get shown() {
    const shown = this.messages.map((message, index) => this.#keyed(message, this.messages[index + 1]));
    if (this.#turn === null) return shown;
    const { saying, key, asks } = this.#turn;
    const at = shown.findIndex((message) => message.id === saying.replaces);
    if (at >= 0) shown.length = at;
    if (asks) shown.push(question(key, saying));
    shown.push({ ...answerOf(key), answer: this.answer ?? undefined });
    return shown;
  }

  /**
   * @param {Message} message
   * @param {Message | undefined} next
   * @returns {Shown}
   */
  #keyed(message, next) {
    const own = this.#settled.get(message.id);
    const followed = next === undefined ? undefined : this.#settled.get(next.id);
    const key = own ? `${own.key}-answer` : followed?.asks ? `${followed.key}-question` : message.id;
    const live = this.answer !== null && this.answer.generationId === message.generation_id ? this.answer : undefined;
    return { ...message, key, answer: message.status === "running" ? live : undefined };
  }

  /** Read what the server has, newest first, and follow what it is answering. Never throws: `problem` tells. */
  async load() {
    this.#loading ??= this.#load().finally(() => {
      this.#loading = null;
    });
    await this.#loading;
  }

  async #load() {
    if (this.id === null) return;
    try {
      const [session, page] = await this.#ask(this.id);
      if (this.#turn === null) this.#take(session, page.data.reverse(), page.next_cursor);
      this.state = "ready";
      this.problem = null;
    } catch (error) {
      this.#failed(error);
      if (error instanceof Problem && error.status === 404) this.state = "gone";
    }
    this.changed();
    const last = this.messages.at(-1);
    if (last?.status === "running" && !this.answering && this.#turn === null) this.#follow(last);
  }

  /** @param {string} id */
  #ask(id) {
    return Promise.all([this.#api.session(id), this.#api.messages(id, null)]);
  }

  /**
   * @param {Session} session
   * @param {Message[]} messages the last ones
   * @param {string | null} older
   */
  #take(session, messages, older) {
    this.session = session;
    this.wishes = wishesIn(session.metadata);
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
    this.#told(this);
  }

  /** Look whether others have changed the session, and if so, read it again. */
  async refresh() {
    if (this.id === null || this.answering) return;
    if (this.session === null) return this.load();
    try {
      const session = await this.#api.session(this.id);
      const same = session.last_updated === this.session.last_updated && session.head === this.session.head;
      const running = this.messages.at(-1)?.status === "running";
      if (same && !running) return;
    } catch (error) {
      if (error instanceof Unreachable) return; // the next look will tell
    }
    await this.load();
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
    if (await this.#find(messageId)) return;
    if (await this.switchTo(messageId)) await this.#find(messageId);
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
    if (this.answering) return;
    if (this.#turn !== null && this.answer !== null) await this.#settle(this.answer); // it did not go when it ended
    turns += 1;
    this.problem = null;
    this.unsaid = null;
    const replaced = this.messages.find((message) => message.id === saying.replaces);
    this.#turn = { saying, key: `turn-${turns}`, asks: replaced === undefined || replaced.role === "user" };
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

  /** @param {Turn} turn */
  #body({ saying: { text, attachments, replaces }, asks }) {
    return {
      ...fieldsOf(this.wishes),
      ...(this.id === null ? { developer_message: this.developerMessage } : { session_id: this.id }),
      ...(asks ? { user_message: text } : {}),
      ...(replaces === null ? {} : { replace: replaces }),
      ...(attachments.length ? { attachments: attachments.map(({ name, ...sent }) => sent) } : {}),
    };
  }

  /**
   * The server has the message: a new session has its id from now on.
   * @param {string} id
   */
  #begun(id) {
    if (this.id === null) {
      this.id = id;
      this.#keeping = this.#keepWishes(id);
    }
    if (this.#hidden) this.answer?.goAway();
    this.#told(this);
    this.changed();
  }

  /** @param {Answer} answer */
  async #read(answer) {
    await answer.read();
    if (answer !== this.answer) return;
    if (answer.state === "refused") await this.#refused(answer);
    else if (answer.state === "ended") await this.#settle(answer);
    this.changed();
  }

  /**
   * What was said is at the server, with its answer: show it as the server has it. Where the server is away again,
   * what came is shown on.
   * @param {Answer} answer
   */
  async #settle(answer) {
    if (this.id === null) return;
    await this.#keeping;
    try {
      const [session, page] = await this.#ask(this.id);
      if (this.#turn !== null && answer.messageId !== null) this.#settled.set(answer.messageId, this.#turn);
      this.#turn = null;
      this.#take(session, page.data.reverse(), page.next_cursor);
      if (answer.status === "completed") rememberModel(this.wishes);
    } catch (error) {
      this.#failed(error);
    }
    this.#told(this);
  }

  /**
   * The message was not taken: either it is kept with an answer that failed at once, or nothing was.
   * @param {Answer} answer
   */
  async #refused(answer) {
    const { problem } = answer;
    const asked = problem instanceof Problem ? problem : null;
    const isKept = answer.generationId !== null || (asked !== null && asked.generationId !== null && asked.status !== 409);
    const saying = this.#turn?.saying ?? null;
    this.#turn = null;
    this.answer = null;
    if (isKept) {
      if (this.id === null && asked?.sessionId) {
        this.id = asked.sessionId;
        await this.#keepWishes(this.id);
      }
      await this.load(); // the answer itself says what happened
      if (asked?.status === 401) this.problem = problem;
      this.#told(this);
    } else {
      this.unsaid = saying;
      if (asked?.status === 409) await this.load();
      this.problem = problem;
    }
  }

  /** Stop the answer that comes. What there is of it stays. */
  async stop() {
    if (!this.answering) return;
    try {
      await this.answer?.stop();
      if (this.answer?.state === "lost" && this.answer.generationId === null) this.#giveBack();
    } catch (error) {
      this.#failed(error);
      this.changed();
    }
  }

  /** What never reached the server goes back to its writer. */
  #giveBack() {
    this.unsaid = this.#turn?.saying ?? null;
    this.#turn = null;
    this.answer = null;
    this.changed();
  }

  /** Go on reading an answer that was given up, or look whether the server has it. */
  async rejoin() {
    this.answer = null;
    this.#turn = null;
    await this.load();
  }

  /**
   * Let the active path go through this message. Returns whether it does.
   * @param {string} messageId
   */
  async switchTo(messageId) {
    if (this.id === null) return false;
    try {
      this.session = await this.#api.changeSession(this.id, { head: messageId });
      this.#forgetPath();
      await this.load();
      return this.problem === null;
    } catch (error) {
      this.#failed(error);
      this.changed();
      return false;
    }
  }

  #forgetPath() {
    this.#turn = null;
    this.answer = null;
    this.older = null;
    this.messages = [];
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
   * @param {{developer_message?: string, title?: string}} change
   * @returns {Promise<boolean>} whether it is kept
   */
  async change(change) {
    if (this.id === null) {
      this.developerMessage = change.developer_message ?? this.developerMessage;
      this.changed();
      return true;
    }
    try {
      this.session = await this.#api.changeSession(this.id, change);
      this.#told(this);
      this.changed();
      return true;
    } catch (error) {
      this.#failed(error);
      this.changed();
      return false;
    }
  }

  /** @param {Partial<Wishes>} wishes */
  async wish(wishes) {
    this.wishes = { ...this.wishes, ...wishes };
    this.changed();
    if (this.id === null) return; // they are kept once there is a session
    this.#keeping = this.#keepWishes(this.id);
    await this.#keeping;
  }

  /** @param {string} id */
  async #keepWishes(id) {
    try {
      const wishes = this.wishes;
      const { metadata } = this.session ?? (await this.#api.session(id));
      const wanted = withWishes(metadata, wishes);
      if (JSON.stringify(wanted) === JSON.stringify(metadata)) return;
      this.session = await this.#api.changeSession(id, { metadata: wanted });
    } catch (error) {
      this.#failed(error);
      this.changed();
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

/**
 * @param {string} key
 * @param {Saying} saying
 * @returns {Shown}
 */
function question(key, { text, attachments }) {
  const parts = attachments.map((one) =>
    one.type === "image" ? { type: "image", url: one.url } : { type: "file", filename: one.filename, data: one.data },
  );
  return {
    ...fresh(`${key}-question`),
    role: "user",
    content: text,
    parts: [...(text ? [{ type: "text", text }] : []), ...parts],
    status: "completed",
  };
}

/**
 * @param {string} key
 * @returns {Shown}
 */
function answerOf(key) {
  return { ...fresh(`${key}-answer`), role: "assistant", content: "", parts: [], status: "running" };
}

/** @param {string} key */
function fresh(key) {
  const created_at = new Date().toISOString();
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
