// The package `ai` as its pages use it: `node ai.mjs resume|send <address> <cookie>`, a line of JSON per state of the
// message, and how it ended.
import { DefaultChatTransport, readUIMessageStream } from "ai";

const [, , action, api, cookie] = process.argv;
const say = (line) => console.log(JSON.stringify(line));
const transport = new DefaultChatTransport({
  api,
  headers: { Cookie: cookie },
  prepareReconnectToStreamRequest: () => ({ api }),
});
const question = { id: "m1", role: "user", parts: [{ type: "text", text: "Why?" }] };
const stream =
  action === "resume"
    ? await transport.reconnectToStream({ chatId: "c1" })
    : await transport.sendMessages({ chatId: "c1", messages: [question], trigger: "submit-message" });
if (stream === null) {
  say({ nothing: true });
} else {
  const kinds = new Set();
  const [one, other] = stream.tee();
  const watching = (async () => {
    for await (const chunk of one) kinds.add(chunk.type);
  })();
  const onError = (error) => say({ error: error.message });
  for await (const message of readUIMessageStream({ stream: other, onError })) say({ message });
  await watching;
  say({ ended: [...kinds] });
}
