// aimock as the tests want it: text in pieces of six letters, five milliseconds apart, and a tool call before an answer.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ port: 0, latency: 5, chunkSize: 6 });
const call = { name: "look", arguments: JSON.stringify({ key: "France" }) };
mock.on({ userMessage: "weather", hasToolResult: false }, { toolCalls: [call] });
mock.on({ userMessage: "weather", hasToolResult: true }, { content: "It is sunny in France today" });
mock.onMessage("hello", { content: "Hello there, nice to meet you" });
await mock.start();
console.log(`listening on ${mock.url}/v1`);
