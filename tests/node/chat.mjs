// A page with useChat, without the page: the `ai` package's own Chat and transports. The bytes of every response are kept
// as they came, and each frame of them is checked against the schema that the package itself has for chunks.
import {
  AbstractChat,
  DefaultChatTransport,
  TextStreamChatTransport,
  asSchema,
  lastAssistantMessageIsCompleteWithToolCalls,
  readUIMessageStream,
  uiMessageChunkSchema,
} from 'ai';
import { ownFetch, serve } from './commands.mjs';

const schema = asSchema(uiMessageChunkSchema);

const textOf = message => message?.parts.filter(part => part.type === 'text').map(part => part.text).join('') ?? '';

class State {
  #status = 'ready';
  #messages;
  #changed;
  error = undefined;
  constructor(messages, changed) {
    this.#messages = messages;
    this.#changed = changed;
  }
  get status() { return this.#status; }
  set status(status) { this.#status = status; this.#changed(); }
  get messages() { return this.#messages; }
  set messages(messages) { this.#messages = messages; this.#changed(); }
  pushMessage = message => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => (this.messages = this.messages.with(index, message));
  snapshot = thing => structuredClone(thing);
}

class Chat extends AbstractChat {}

async function checkedFrames(record) {
  const frames = record.body.split('\n\n').filter(frame => frame && !frame.startsWith(':'));
  const chunks = [];
  for (const frame of frames) {
    if (!frame.startsWith('data: ')) throw new Error(`not a frame of this stream: ${frame}`);
    if (frame === 'data: [DONE]') continue;
    const value = JSON.parse(frame.slice(6));
    const checked = await schema.validate(value);
    if (!checked.success) throw checked.error;
    chunks.push(value);
  }
  return { chunks, done: record.body.endsWith('data: [DONE]\n\n'), sent: record.sent };
}

serve(options => {
  const responses = [];
  const waiting = new Set();
  const changed = () => waiting.forEach(look => look());

  function until(happened) {
    return new Promise(resolve => {
      const look = () => happened() && waiting.delete(look) && resolve();
      waiting.add(look);
      look();
    });
  }

  const connections = ownFetch();

  // Sends the recorded bodies of `options.bodies`, one for each request; one without its end breaks off there.
  const recorded = [...(options.bodies ?? [])];
  function playRecorded() {
    const body = recorded.shift();
    return new Response(
      new ReadableStream({
        pull(controller) {
          if (controller.sent) return controller.error(new TypeError('network error'));
          controller.enqueue(new TextEncoder().encode(body));
          controller.sent = true;
          if (body.endsWith('data: [DONE]\n\n')) controller.close();
        },
      }),
    );
  }

  // Records each response; `cut` ends the body as a network failure does.
  async function recordingFetch(url, init) {
    const record = { method: init.method, url: String(url), sent: init.body && JSON.parse(init.body), body: '' };
    responses.push(record);
    const response = await (options.bodies ? playRecorded() : connections.fetch(url, init));
    Object.assign(record, { status: response.status, headers: Object.fromEntries(response.headers) });
    if (response.body === null) return response;
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const body = new ReadableStream({
      start(controller) {
        record.cut = () => {
          controller.error(new TypeError('network error'));
          return reader.cancel();
        };
      },
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        record.body += decoder.decode(value, { stream: true });
        controller.enqueue(value);
      },
      cancel: reason => reader.cancel(reason),
    });
    return new Response(body, response);
  }

  const Transport = options.text ? TextStreamChatTransport : DefaultChatTransport;
  const transport = new Transport({
    api: options.api,
    headers: options.headers,
    body: options.body,
    fetch: recordingFetch,
    ...(options.lastOnly && {
      prepareSendMessagesRequest: ({ id, messages, trigger, messageId, body }) => ({
        body: { ...body, id, messages: messages.slice(-1), trigger, messageId },
      }),
    }),
  });
  const finished = [];
  const chat = new Chat({
    id: options.id,
    transport,
    state: new State(options.messages ?? [], changed),
    onError: () => {},
    onFinish: ({ message, finishReason, isAbort, isDisconnect, isError }) => {
      finished.push({ id: message.id, finishReason, isAbort, isDisconnect, isError });
      changed();
    },
    ...(options.automatic && { sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls }),
  });

  const commands = {
    send: ({ message, wait = true }) => (wait ? chat.sendMessage(message) : void chat.sendMessage(message)),
    regenerate: ({ messageId, wait = true }) =>
      wait ? chat.regenerate({ messageId }) : void chat.regenerate({ messageId }),
    resume: ({ wait = true }) => (wait ? chat.resumeStream() : void chat.resumeStream()),
    stop: () => chat.stop(),
    toolOutput: ({ output }) => chat.addToolOutput(output),
    until: ({ text }) => until(() => chat.lastMessage?.role === 'assistant' && textOf(chat.lastMessage).includes(text)),
    streaming: () => until(() => chat.status === 'streaming'),
    idle: () => until(() => ['ready', 'error'].includes(chat.status)),
    answers: ({ count }) => until(() => finished.length >= count),
    cut: async () => {
      await responses.at(-1).cut();
      await until(() => chat.status === 'error');
    },
    frames: () => checkedFrames(responses.at(-1)),
    // One message, read without a Chat.
    read: async ({ message }) => {
      const stream = await transport.sendMessages({
        chatId: options.id, messages: [message], trigger: 'submit-message', messageId: undefined,
      });
      let last;
      for await (const state of readUIMessageStream({ stream })) last = structuredClone(state);
      return { message: last };
    },
  };

  async function run(command) {
    try {
      return await commands[command.do](command);
    } catch (error) {
      return { failed: `${error.name}: ${error.message}` };
    }
  }

  return {
    do: async command => {
      const extra = await run(command);
      const { status, headers } = responses.at(-1) ?? {};
      const state = { status: chat.status, error: chat.error?.message, messages: chat.messages, finished };
      return { ...state, http: { status, headers, count: responses.length }, ...extra };
    },
    close: connections.destroy,
  };
});
