/** A server's side of a Socket.IO socket, and time that passes when it is told to. */
import { HelpdeskClient } from '../dist/index.js';

/** Promises that are settled have had their say. */
export const settled = async () => {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
};

export class FakeSocket {
  connected = false;
  active = true;
  asked = [];
  sentAuth = [];
  connects = 0;
  /** What operations are answered with: by name, a value or a function of the arguments. */
  answers = { join: ({ room }) => ({ ok: true, room, cursor: 10 }), leave: { ok: true } };
  #handlers = {};
  #any = [];

  constructor(settings) {
    this.settings = settings;
  }

  on(name, handler) {
    this.#handlers[name] = handler;
  }

  onAny(handler) {
    this.#any.push(handler);
  }

  connect() {
    this.connects += 1;
    this.active = true;
  }

  disconnect() {
    const wasConnected = this.connected;
    this.connected = this.active = false;
    if (wasConnected) this.#handlers.disconnect('io client disconnect');
  }

  timeout() {
    return {
      emitWithAck: async (name, given) => {
        this.asked.push([name, given]);
        const answer = this.answers[name];
        return typeof answer === 'function' ? await answer(given) : answer;
      },
    };
  }

  // --- what a test lets happen ---
  /** The transport is open: the client is asked who it is, and let in. */
  async letIn() {
    await this.askAuth();
    this.connected = true;
    this.#handlers.connect();
    await settled();
  }

  async askAuth() {
    this.settings.auth((auth) => this.sentAuth.push(auth));
    await settled();
  }

  async refuse(code, message = 'No.') {
    await this.askAuth();
    this.active = false;
    this.#handlers.connect_error(Object.assign(new Error(message), { data: { code } }));
    await settled();
  }

  async lose(reason = 'transport close') {
    this.connected = false;
    this.#handlers.disconnect(reason);
    await settled();
  }

  async say(name, payload) {
    for (const handler of this.#any) handler(name, payload);
    await settled();
  }
}

/** A client with its fake socket, and everything it told. */
export function fake(options = {}) {
  let socket;
  const client = new HelpdeskClient(options, (...given) => (socket = new FakeSocket(given.at(-1))));
  const told = [];
  for (const name of ['ticket.update', 'comment.update', 'notification', 'presence', 'typing']) {
    client.on(name, (payload) => told.push([name, payload.cursor]));
  }
  const errors = [];
  client.on('error', (error) => errors.push(error));
  return { client, socket, told, errors };
}

export const joins = (socket) => socket.asked.filter(([name]) => name === 'join').map(([, given]) => given);

/** A token that ends after so many seconds. */
export function token(seconds, name = '') {
  const claims = Buffer.from(JSON.stringify({ exp: Date.now() / 1000 + seconds, name })).toString('base64url');
  return `head.${claims}.signature`;
}
