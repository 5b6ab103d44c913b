// The package `openai`: `node openai.mjs <base address> <cookie>`, a line of JSON per delta.
import OpenAI from "openai";

const [, , baseURL, cookie] = process.argv;
const say = (line) => console.log(JSON.stringify(line));
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, defaultHeaders: { Cookie: cookie } });
const messages = [{ role: "user", content: "Why?" }];
try {
  const stream = await client.chat.completions.create({ model: "any", messages, stream: true });
  for await (const { choices } of stream) say({ delta: choices[0].delta, finish: choices[0].finish_reason });
  say({ ended: true });
} catch (error) {
  say({ error: error.message });
}
