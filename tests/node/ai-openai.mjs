// The `ai` package with `@ai-sdk/openai` at its defaults.
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, jsonSchema, isStepCount, streamText, tool } from 'ai';
import { ownFetch, serve } from './commands.mjs';

serve(({ baseURL, apiKey, model }) => {
  const connections = ownFetch();
  const openai = createOpenAI({ baseURL, apiKey, fetch: connections.fetch });
  const called = [];
  const tools = {
    weather: tool({
      inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } } }),
      execute: input => (called.push(input), { sky: 'clear' }),
    }),
  };
  let messages = []; // of the whole conversation, as the package gives them

  const settings = ({ text, providerOptions }) => {
    messages.push({ role: 'user', content: text });
    return { model: openai(model), messages, tools, stopWhen: isStepCount(5), providerOptions, maxRetries: 0 };
  };

  const commands = {
    generate: async command => {
      const result = await generateText(settings(command));
      messages.push(...result.responseMessages);
      return { text: result.text, reasoning: result.steps.map(step => step.reasoningText ?? '').join(''), steps: result.steps.length };
    },
    stream: async command => {
      const result = streamText({ ...settings(command), onError: () => {} });
      const parts = [];
      for await (const part of result.fullStream) {
        if (part.type === 'error') throw part.error;
        parts.push(part.type);
      }
      messages.push(...(await result.responseMessages));
      const steps = await result.steps;
      const reasoning = steps.map(step => step.reasoningText ?? '').join('');
      return { text: await result.text, reasoning, steps: steps.length, parts };
    },
    called: () => ({ called }),
  };

  async function run(command) {
    try {
      return await commands[command.do](command);
    } catch (error) {
      return { error: { name: error.name, message: error.message, status: error.statusCode } };
    }
  }

  return { do: run, close: connections.destroy };
});
