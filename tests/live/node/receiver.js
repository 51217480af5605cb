// The seed's Express receiver, run as written, behind a recorder that shows the tests what really arrived.
//
// One server for everybody: `/<person>/api/webhooks/notifications` is that person's receiver.
// stdin, a JSON line each:  {op: "hold"} | {op: "release"} | {op: "verify", id, secret, headers, body}
// stdout, a JSON line each: {kind: "listening" | "request" | "answered" | "store" | "emit" | "verified", ...}
"use strict";
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const express = require("express");
const { Webhook } = require("standardwebhooks");

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

// What the seed leaves to its reader: three stores, a Socket.IO server, and the console.
const io = { emit: (event, data) => say({ kind: "emit", event, data }) };
const store = (entity) => (data) => say({ kind: "store", entity, data });
const quietConsole = { log() {} };

function seedReceiver() {
  const source = fs.readFileSync(path.join(__dirname, "seed", "express-receiver.js"), "utf8");
  const names = ["require", "io", "console", "updateTicketInStore", "updateCommentInStore", "updateUserInStore"];
  const build = new Function(...names, source + "\nreturn app;");
  return build(require, io, quietConsole, store("ticket"), store("comment"), store("user"));
}

let holding = false;
let held = [];
let count = 0;

function record(request, response, next) {
  const number = (count += 1);
  // Express gives a mount's parameters only while the request passes it.
  const { method, originalUrl: url, headers, params } = request;
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks).toString("utf8");
    say({ kind: "request", number, person: params.person, method, url, headers, body });
  });
  const end = response.end;
  response.end = (...rest) => {
    const answer = () => {
      end.apply(response, rest);
      say({ kind: "answered", number, status: response.statusCode });
    };
    // Held: the work is done and the answer is not out yet. A sender killed now cannot know that we have it.
    if (holding) held.push(answer);
    else answer();
    return response;
  };
  next();
}

const server = express().use("/:person", record, seedReceiver()).listen(Number(process.argv[2] || 0), "127.0.0.1", () => {
  say({ kind: "listening", port: server.address().port });
});

const operations = {
  hold() {
    holding = true;
  },
  release() {
    holding = false;
    held.splice(0).forEach((answer) => answer());
  },
  verify({ id, secret, headers, body }) {
    try {
      new Webhook(secret).verify(body, headers);
      say({ kind: "verified", id, ok: true });
    } catch (error) {
      say({ kind: "verified", id, ok: false, error: String(error) });
    }
  },
};

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const message = JSON.parse(line);
    operations[message.op](message);
  })
  .on("close", () => process.exit(0));
