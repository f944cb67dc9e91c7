// The openai package.
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { ownFetch, serve } from './commands.mjs';

serve(({ baseURL, apiKey, maxRetries = 0 }) => {
  const connections = ownFetch();
  let requests = 0; // of one command
  const countingFetch = (...request) => (requests++, connections.fetch(...request));
  const client = new OpenAI({ baseURL, apiKey, maxRetries, fetch: countingFetch });
  const completions = client.chat.completions;
  let running; // a stream that is being read

  const commands = {
    create: async ({ body, headers }) => {
      const { data, response, request_id } = await completions.create(body, { headers }).withResponse();
      return { completion: data, headers: Object.fromEntries(response.headers), requestId: request_id };
    },
    // Chunk by chunk, as they come.
    stream: async ({ body, headers }) => {
      const { data, response } = await completions.create({ ...body, stream: true }, { headers }).withResponse();
      const chunks = [];
      for await (const chunk of data) chunks.push(chunk);
      return { chunks, headers: Object.fromEntries(response.headers) };
    },
    // By the package's own stream(), which puts the chunks together and rejects chunks that do not fit.
    gather: async ({ body, headers }) => {
      const stream = completions.stream(body, { headers });
      return { completion: await stream.finalChatCompletion() };
    },
    // An object with these fields, all of them text.
    parse: async ({ body, headers, fields }) => {
      const shape = z.object(Object.fromEntries(fields.map(name => [name, z.string()])));
      const response_format = zodResponseFormat(shape, 'shape');
      const completion = await completions.parse({ ...body, response_format }, { headers });
      return { parsed: completion.choices[0].message.parsed };
    },
    // Calls the tool here, and sends its result, until the model has said its last.
    runTools: async ({ body, headers, name, gives }) => {
      const asked = [];
      const tool = {
        type: 'function',
        function: { name, parameters: { type: 'object' }, parse: JSON.parse, function: given => (asked.push(given), gives) },
      };
      const runner = completions.runTools({ ...body, stream: true, tools: [tool] }, { headers });
      return { content: await runner.finalContent(), asked };
    },
    begin: async ({ body, headers }) => {
      running = await completions.create({ ...body, stream: true }, { headers });
      const iterator = running[Symbol.asyncIterator]();
      for (;;) {
        const { value } = await iterator.next();
        if (value.choices[0]?.delta.content) return { content: value.choices[0].delta.content };
      }
    },
    abort: () => running.controller.abort(),
    respond: async ({ body }) => {
      const events = [];
      for await (const event of await client.responses.create({ ...body, stream: true })) events.push(event);
      return { events };
    },
    respondWhole: async ({ body }) => ({ response: await client.responses.create(body) }),
    // A response that was stored, from after an event on.
    follow: async ({ id, after }) => {
      const events = [];
      const asked = { stream: true, starting_after: after };
      for await (const event of await client.responses.retrieve(id, asked)) events.push(event);
      return { events };
    },
    converse: async ({ metadata, items }) => ({ conversation: await client.conversations.create({ metadata, items }) }),
    items: async ({ id, limit }) => {
      const items = [];
      for await (const item of client.conversations.items.list(id, { limit, order: 'asc' })) items.push(item);
      return { items };
    },
    models: async () => {
      const ids = [];
      for await (const model of client.models.list()) ids.push(model.id);
      return { ids };
    },
  };

  async function run(command) {
    try {
      return await commands[command.do](command);
    } catch (error) {
      const { status, code, type, param, message, requestID } = error;
      return { error: { class: error.constructor.name, status, code, type, param, message, requestID } };
    }
  }

  return {
    do: async command => {
      requests = 0;
      const answer = await run(command);
      return { ...answer, requests };
    },
    close: connections.destroy,
  };
});
