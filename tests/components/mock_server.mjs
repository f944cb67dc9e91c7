// aimock with answers for the checks of campaign.py. Prints its address, and serves until its input ends.
import { LLMock } from '@copilotkit/aimock';

const mock = new LLMock({ port: 0, chunkSize: 4 });
const call = { id: 'call_1', name: 'weather', arguments: '{"city":"Rome"}' };
const usage = { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18, input_tokens: 11, output_tokens: 7 };
const add = (match, response, more = {}) => mock.addFixture({ match, response, ...more });

add({ hasToolResult: true }, { content: 'Take an umbrella!', usage });
add({ userMessage: 'rain' }, { content: 'Take an umbrella!', usage });
add({ userMessage: 'think' }, { content: 'Hello there, dear reader.', reasoning: 'Let me think.', usage });
add({ userMessage: 'weather' }, { toolCalls: [call], usage });
add({ userMessage: 'search' }, { content: 'Hello there, dear reader.', webSearches: ['rain in Rome'], usage });
add({ userMessage: 'break' }, { content: 'Half of an answer that breaks off before its end, which no reader takes for the whole.' }, { truncateAfterChunks: 10, latency: 20 });
add({ userMessage: 'ever' }, { content: 'on '.repeat(1000) }, { latency: 30 });
add({ userMessage: 'limit' }, { error: { message: 'Slow down.', type: 'requests', code: 'rate_limit_exceeded' }, status: 429 });
add({}, { content: 'Hello there, dear reader.', usage });
await mock.start();
console.log(mock.url);
process.stdin.resume();
process.stdin.on('end', () => mock.stop().then(() => process.exit(0)));
