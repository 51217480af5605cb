// A server with nothing but the protocol: no sign-in, no rights, no database. `node server.js socketio|ws`.
//
// Says `port N`; then, for each line `emit N` on standard input, sends so many events to everybody in the room.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Server } from "socket.io";
import { WebSocketServer } from "ws";

const ROOM = "comments";
const http = createServer();
let number = 0;

function event() {
  number += 1;
  return {
    action: "created",
    data: {
      id: "0193a6c4-7c1e-7000-8000-000000000000",
      ticket_id: "0193a6c4-7c1e-7000-8000-000000000001",
      author: { id: "0193a6c4-7c1e-7000-8000-000000000002", name: "Jane Doe", role: "agent" },
      content: "The printer on the second floor prints every page twice. ".repeat(2),
      internal: false,
      created_at: "2026-01-01T12:00:00.000000Z",
    },
    cursor: number,
  };
}

function socketio() {
  const io = new Server(http, { serveClient: false });
  io.on("connection", (socket) => {
    socket.on("join", ({ room }, acknowledge) => {
      socket.join(room);
      acknowledge({ ok: true });
    });
  });
  return () => io.to(ROOM).emit("comment.update", event());
}

function ws() {
  const server = new WebSocketServer({ server: http });
  const members = new Set();
  server.on("connection", (socket) => {
    socket.on("message", (text) => {
      members.add(socket);
      socket.send(JSON.stringify({ type: "ack", id: JSON.parse(text).id, ok: true }));
    });
    socket.on("close", () => members.delete(socket));
    socket.on("error", () => members.delete(socket));
    socket.send(JSON.stringify({ type: "ready" }));
  });
  return () => {
    const text = JSON.stringify({ type: "event", event: "comment.update", ...event() });
    for (const socket of members) socket.send(text);
  };
}

const emit = { socketio, ws }[process.argv[2]]();
createInterface({ input: process.stdin })
  .on("line", (line) => {
    for (let left = Number(line.split(" ")[1]); left > 0; left -= 1) emit();
  })
  .on("close", () => process.exit());
http.listen(0, "127.0.0.1", () => console.log(`port ${http.address().port}`));
