// Stock socket.io-client connections, driven from the Python tests; one process holds them all.
//
// stdin, a JSON line each:
//   {op: "connect", socket, url, options}       `options` go to io() untouched; with `resume` each connection says
//                                                the cursor of the last event, as auth.after
//   {op: "emit", socket, id, event, args}       always with an acknowledgement
//   {op: "drop", socket}                        the network goes away: the transport is closed under the client
//   {op: "close", socket}
// stdout, a JSON line each: {kind, socket, ...}, where kind is
//   "open" | "upgrade" | "connect" | "connect_error" | "disconnect" | "ack" | "event"
"use strict";
const readline = require("readline");
const { io } = require("socket.io-client");

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const sockets = new Map();

const operations = {
  connect({ socket: name, url, options, resume }) {
    let after;
    if (resume) {
      const { auth } = options;
      options.auth = (send) => send({ ...auth, after });
    }
    const socket = io(url, { forceNew: true, ...options });
    sockets.set(name, socket);
    // The transport changes under the connection, so what it was at first is told when the engine opens.
    socket.io.on("open", () => {
      const { engine } = socket.io;
      say({ kind: "open", socket: name, transport: engine.transport.name });
      engine.on("upgrade", (transport) => say({ kind: "upgrade", socket: name, transport: transport.name }));
    });
    socket.on("connect", () => say({ kind: "connect", socket: name, sid: socket.id }));
    socket.on("connect_error", (error) => {
      say({ kind: "connect_error", socket: name, message: error.message, data: error.data });
    });
    socket.on("disconnect", (reason) => say({ kind: "disconnect", socket: name, reason }));
    socket.onAny((event, ...args) => {
      after = args[0]?.cursor ?? after;
      say({ kind: "event", socket: name, event, args });
    });
  },
  emit({ socket: name, id, event, args }) {
    sockets.get(name).emit(event, ...args, (...answer) => say({ kind: "ack", socket: name, id, answer }));
  },
  drop({ socket: name }) {
    sockets.get(name).io.engine.close();
  },
  close({ socket: name }) {
    sockets.get(name)?.disconnect(); // closing what is closed is no mistake
    sockets.delete(name);
  },
};

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const message = JSON.parse(line);
    operations[message.op](message);
  })
  .on("close", () => process.exit(0));
