// The client package against a real server. Argument: JSON {url, tokens, rooms, cursor, watch}.
//
// stdin, a JSON line each: {op: "join", room} | {op: "read", id} | {op: "watch", ticket} | {op: "stop"} | {op: "close"}
// stdout, a JSON line each: {kind: "event", name, payload} | {kind: "status", status, code} | {kind: "error", code, room}
//   | {kind: "resync", reason} | {kind: "token", refused} | {kind: "people", viewing, typing} | {kind: "answer", of, answer}
import { createInterface } from "node:readline";

const [, , packageFile, given] = process.argv;
const { HelpdeskClient } = await import(packageFile);
const { url, tokens, rooms, cursor } = JSON.parse(given);
const say = (kind, fields) => process.stdout.write(JSON.stringify({ kind, ...fields }) + "\n");

const stored = cursor === undefined ? {} : { "helpdesk.cursor": JSON.stringify({ after: cursor, shown: [] }) };
const client = new HelpdeskClient({
  url,
  rooms,
  token: ({ refused }) => {
    say("token", { refused });
    return tokens.length > 1 ? tokens.shift() : tokens[0];
  },
  storage: { getItem: (key) => stored[key] ?? null, setItem: (key, value) => (stored[key] = value) },
  onResync: ({ reason, room }) => say("resync", { reason, room }),
  backoff: { min: 100, max: 1000 },
});
const names = ["ticket.update", "comment.update", "notification", "notification.read", "kb.update"];
for (const name of names) client.on(name, (payload) => say("event", { name, payload }));
client.on("status", ({ status, error }) => say("status", { status, code: error?.code }));
client.on("error", ({ code, room }) => say("error", { code, room }));
client.connect();

let watch;
const operations = {
  join: ({ room }) => client.join(room),
  read: ({ id }) => client.readNotification(id),
  watch: ({ ticket }) => {
    const people = ({ viewing, typing }) =>
      say("people", { viewing: viewing.map(({ name }) => name), typing: typing.map(({ name }) => name) });
    watch = client.watch(ticket, people);
  },
  typing: () => watch.typing(),
  stop: () => watch.stop(),
  close: () => client.close(),
};
const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const { op, ...fields } = JSON.parse(line);
  try {
    say("answer", { of: op, answer: (await operations[op](fields)) ?? null });
  } catch (error) {
    say("answer", { of: op, error: error.code ?? String(error) });
  }
});
lines.on("close", () => process.exit(0));
