import { io, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client';
import { HelpdeskError, type ErrorCode } from './errors.js';
import { Ledger, type CursorStorage } from './ledger.js';
import type { Operations, Refused, ResyncRequired, ServerEvents } from './schema.js';
import { renewalDelay, type TokenProvider } from './tokens.js';
import { TicketWatch, type TicketPeople } from './watch.js';

/**
 * Why everything that is shown must be fetched: `start`, in the beginning, or what the server says.
 * `room`: only what is shown of this room.
 */
export interface Resync {
  reason: 'start' | ResyncRequired['reason'];
  room?: string;
}

/** `connected`: all rooms are joined again, and what was missed has come. `closed`: it does not come back by itself. */
export type Status = 'connecting' | 'connected' | 'closed';

export interface ClientOptions {
  /** Where the help desk is; without it, the page's own origin. */
  url?: string;
  /** An access token, or a function that gets one whenever it is needed. Without it, the session cookie signs in. */
  token?: string | TokenProvider;
  /** Rooms to be in from the start. */
  rooms?: readonly string[];
  /** Fetch what is shown. Events wait until it is done, so that they change what was fetched. */
  onResync?: (resync: Resync) => void | Promise<void>;
  /** Keeps the cursor beyond the page: `localStorage`, `sessionStorage`, or the like. */
  storage?: CursorStorage;
  /** One for each person: another person's cursor means nothing. */
  storageKey?: string;
  /** Milliseconds between attempts to come back: the first, and the longest. Each is shortened by chance. */
  backoff?: { min: number; max: number };
  /** Milliseconds until an operation counts as unanswered. */
  timeout?: number;
  /** Options of socket.io-client: `transports`, for example. */
  io?: Partial<ManagerOptions & SocketOptions>;
}

/** What `on` tells of besides the server's events. */
interface ClientEvents {
  status: { status: Status; error?: HelpdeskError };
  error: HelpdeskError;
}
type Events = Omit<ServerEvents, 'resync_required'> & ClientEvents;
type Listener<Name extends keyof Events> = (payload: Events[Name]) => void;

// Coming back does not help: somebody has to do something first.
const FINAL: ReadonlySet<string> = new Set(['account_inactive', 'another_person', 'origin_not_allowed', 'unauthenticated']);
const STALE: ReadonlySet<string> = new Set(['signed_out', 'token_expired', 'token_invalid']);
// Every connection joins it: `kb.update` comes without a room, and the answer tells where the stream is and that one's
// own events have been replayed.
const MARKER = 'kb';
const JOINS_AT_ONCE = 10;
const REPLAY_TIMEOUT = 120_000;

/** A connection to the help desk that comes back by itself, misses nothing, and shows nothing twice. */
export class HelpdeskClient {
  /** The stock Socket.IO socket underneath. */
  readonly socket: Socket;
  private readonly options: ClientOptions;
  private readonly ledger: Ledger;
  private readonly rooms = new Map<string, number>(); // how often each was asked for
  private readonly listeners = new Map<string, Set<(payload: never) => void>>();
  private state: Status = 'closed';
  private isStarted = false;
  private isResumed = false; // came back with a cursor
  private connection = 0; // counts; what belongs to an earlier one is over
  private signIn = 0; // likewise, for attempts to sign in
  private refusals = 0; // in a row
  private attempts = 0; // to come back, in a row, beside those that the stock client makes
  private token: string | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private renewal: ReturnType<typeof setTimeout> | undefined;
  private replays = 0;
  private resyncs = 0;
  private resyncing: Promise<void> = Promise.resolve();
  private waiting: (() => void)[] = []; // what came during a resync, in order

  /** `open` makes the socket: a stand-in in tests. */
  constructor(options: ClientOptions = {}, open: typeof io = io) {
    this.options = options;
    this.ledger = new Ledger(options.storage, options.storageKey);
    for (const room of options.rooms ?? []) this.rooms.set(room, 1);
    const { min, max } = this.backoff;
    const settings = {
      reconnectionDelay: min,
      reconnectionDelayMax: max,
      randomizationFactor: 0.5,
      ...options.io,
      autoConnect: false,
      forceNew: true,
      auth: (send: (auth: object) => void) => void this.authenticate(send),
    };
    this.socket = options.url === undefined ? open(settings) : open(options.url, settings);
    this.socket.on('connect', () => void this.catchUp());
    this.socket.on('disconnect', (reason) => this.lost(reason));
    this.socket.on('connect_error', (error: Error & { data?: { code?: ErrorCode } }) => this.refused(error));
    this.socket.onAny((name: string, payload: unknown) => this.arrived(name, payload));
  }

  get status(): Status {
    return this.state;
  }

  /** The cursor up to which everything was shown. */
  get cursor(): number | undefined {
    return this.ledger.after;
  }

  /** Connect, and stay connected until `close`. */
  connect(): this {
    if (this.state === 'closed') {
      this.refusals = 0;
      this.become('connecting');
      this.socket.connect();
    }
    return this;
  }

  /** End the connection. `connect` opens it again, where it was. */
  close(): void {
    this.end();
  }

  /** Hear of an event; returns what ends that. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Name>): () => void {
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  // --- operations ----------------------------------------------------------------------------------------------------
  /**
   * Be in a room, now and after every reconnection. Resolves when its events come; before the connection is there,
   * as soon as it is asked for. Rejects with why not.
   */
  async join(room: string): Promise<void> {
    const count = this.rooms.get(room) ?? 0;
    this.rooms.set(room, count + 1);
    if (count === 0 && this.socket.connected) await this.enter(room);
  }

  /** Leave a room, once for every `join`. */
  async leave(room: string): Promise<void> {
    const count = this.rooms.get(room) ?? 0;
    if (count > 1) {
      this.rooms.set(room, count - 1);
    } else if (this.rooms.delete(room) && this.socket.connected && room !== MARKER) {
      await this.ask('leave', { room });
    }
  }

  /** Tell those who look at a ticket that you write (`active: false`: no more). Say it again every few seconds. */
  async typing(ticketId: string, { active = true, internal = false } = {}): Promise<void> {
    await this.ask('typing', { ticket_id: ticketId, active, is_internal: internal });
  }

  /** Say that you look at a ticket, for a minute; staff learn who else does. `watch` does it for as long as needed. */
  async viewing(ticketId: string, { active = true } = {}): Promise<Operations['viewing']['answer']['viewers']> {
    return (await this.ask('viewing', { ticket_id: ticketId, active })).viewers;
  }

  /** Mark a notification as read, in all of the person's tabs; returns how many are unread. */
  async readNotification(id: string): Promise<number> {
    return (await this.ask('notification.read', { id })).unread;
  }

  /** Look at a ticket until `stop`: its room is joined, and `onChange` hears who else is there and who writes. */
  watch(ticketId: string, onChange: (people: TicketPeople) => void = () => {}): TicketWatch {
    return new TicketWatch(this, ticketId, onChange);
  }

  /** Do any operation. Rejects with a `HelpdeskError`. */
  async ask<Name extends keyof Operations>(
    operation: Name,
    given: Operations[Name]['arguments'],
    timeout = this.options.timeout ?? 10_000,
  ): Promise<Operations[Name]['answer']> {
    if (!this.socket.connected) throw new HelpdeskError('not_connected', 'There is no connection at the moment.');
    let answer: ({ ok: true } & Operations[Name]['answer']) | Refused;
    try {
      answer = await this.socket.timeout(timeout).emitWithAck(operation, given);
    } catch (cause) {
      const [code, message] = this.socket.connected
        ? (['timeout', 'There was no answer in time.'] as const)
        : (['not_connected', 'The connection ended before the answer.'] as const);
      throw new HelpdeskError(code, message, undefined, { cause });
    }
    if (!answer.ok) {
      const { code, message } = (answer as Refused).error;
      throw new HelpdeskError(code, message, (given as { room?: string }).room);
    }
    return answer;
  }

  // --- the connection ------------------------------------------------------------------------------------------------
  private async authenticate(send: (auth: object) => void): Promise<void> {
    const attempt = ++this.signIn;
    try {
      this.token = await this.newToken(this.refusals > 0);
    } catch (cause) {
      if (attempt !== this.signIn || this.state === 'closed') return;
      this.socket.disconnect();
      this.comeBack(new HelpdeskError('token_unavailable', 'There was no token to connect with.', undefined, { cause }));
      return;
    }
    // The transport may have been lost and opened again meanwhile: that one asked for itself.
    if (attempt !== this.signIn) return;
    const { after } = this.ledger;
    this.isResumed = after !== undefined;
    send({ ...(this.token && { token: this.token }), ...(after !== undefined && { after }) });
  }

  private async newToken(refused: boolean): Promise<string | undefined> {
    const { token } = this.options;
    return typeof token === 'function' ? await token({ refused }) : token;
  }

  private async catchUp(): Promise<void> {
    const connection = ++this.connection;
    this.renewLater(this.token);
    this.refusals = 0;
    this.inOrder(() => this.replayBegins());
    let joined: (isJoined: boolean) => void = () => {};
    if (!this.isStarted) this.resync({ reason: 'start' }, new Promise((resolve) => (joined = resolve)));
    try {
      const cursors: (number | undefined)[] = [await this.joinOnce(MARKER)];
      const rooms = [...this.rooms.keys()].filter((room) => room !== MARKER);
      while (rooms.length > 0) {
        cursors.push(...(await Promise.all(rooms.splice(0, JOINS_AT_ONCE).map((room) => this.joinAgain(room)))));
      }
      if (connection !== this.connection) return joined(false);
      const safe = Math.min(...cursors.filter((cursor): cursor is number => cursor !== undefined));
      this.inOrder(() => {
        this.ledger.advance(safe);
        this.replayEnds();
      });
      this.isStarted = true;
      joined(true);
      this.become('connected');
    } catch (error) {
      joined(false);
      if (connection !== this.connection) return; // it ended: the next one starts over
      this.inOrder(() => this.replayEnds());
      this.tell('error', error as HelpdeskError);
      this.socket.disconnect(); // half a catch-up is none
      this.comeBack(error as HelpdeskError);
    }
  }

  private async joinOnce(room: string, after?: number): Promise<number> {
    const given = after === undefined ? { room } : { room, after };
    for (;;) {
      try {
        return (await this.ask('join', given, REPLAY_TIMEOUT)).cursor;
      } catch (error) {
        if ((error as HelpdeskError).code !== 'too_many_messages') throw error;
        await new Promise((resolve) => setTimeout(resolve, 1_000));
      }
    }
  }

  /** Join a room after a reconnection. One that is not for us any more is told of, and forgotten. */
  private async joinAgain(room: string): Promise<number | undefined> {
    if (!this.rooms.has(room)) return undefined; // left meanwhile
    try {
      return await this.joinOnce(room);
    } catch (error) {
      if (['not_connected', 'timeout', 'internal'].includes((error as HelpdeskError).code)) throw error;
      this.rooms.delete(room);
      this.tell('error', error as HelpdeskError);
      return undefined;
    }
  }

  private async enter(room: string): Promise<void> {
    const connection = this.connection;
    this.inOrder(() => this.replayBegins());
    try {
      // A connection that came back is replayed every room from where it was. This one is new: from now on.
      const now = this.isResumed ? (await this.ask('join', { room: MARKER })).cursor : undefined;
      await this.joinOnce(room, now);
    } catch (error) {
      // Lost on the way: the next connection joins it. Refused: it is not ours.
      if (connection !== this.connection || !this.socket.connected) return;
      this.rooms.delete(room);
      throw error;
    } finally {
      if (connection === this.connection) this.inOrder(() => this.replayEnds());
    }
  }

  private replayBegins(): void {
    this.replays += 1;
    this.ledger.isReplaying = true;
  }

  private replayEnds(): void {
    this.replays = Math.max(0, this.replays - 1);
    this.ledger.isReplaying = this.replays > 0;
  }

  private lost(reason: string): void {
    this.connection += 1;
    clearTimeout(this.renewal);
    this.inOrder(() => {
      this.replays = 0;
      this.ledger.isReplaying = false;
    });
    if (this.state === 'closed') return;
    this.become('connecting');
    if (reason === 'io server disconnect') this.comeBack(); // after this the stock client waits for us
  }

  private refused(error: Error & { data?: { code?: ErrorCode } }): void {
    if (this.socket.active || this.state === 'closed') return; // the network: the stock client goes on by itself
    const code = error.data?.code ?? 'unavailable';
    const why = new HelpdeskError(code, error.message);
    const isStale = STALE.has(code);
    const canRenew = typeof this.options.token === 'function';
    this.refusals += 1;
    if (FINAL.has(code) || (isStale && (!canRenew || this.refusals > 2))) this.end(why);
    else this.comeBack(why, isStale && this.refusals === 1 ? 0 : undefined);
  }

  /** Try again after a while, which grows and is shortened by chance, so that not everybody comes at once. */
  private comeBack(why?: HelpdeskError, delay?: number): void {
    if (why) this.become('connecting', why);
    const { min, max } = this.backoff;
    const longest = Math.min(max, min * 2 ** Math.min(this.attempts++, 16));
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.socket.connect(), delay ?? longest * (0.5 + Math.random() / 2));
  }

  private get backoff(): { min: number; max: number } {
    return this.options.backoff ?? { min: 1_000, max: 30_000 };
  }

  private end(error?: HelpdeskError): void {
    this.connection += 1;
    this.signIn += 1;
    clearTimeout(this.retry);
    clearTimeout(this.renewal);
    this.become('closed', error);
    this.socket.disconnect();
  }

  private become(status: Status, error?: HelpdeskError): void {
    if (status === 'connected') this.attempts = 0;
    if (this.state === status && !error) return;
    this.state = status;
    this.tell('status', error ? { status, error } : { status });
  }

  // --- the token -----------------------------------------------------------------------------------------------------
  private renewLater(token: string | undefined, delay = token && renewalDelay(token)): void {
    clearTimeout(this.renewal);
    if (typeof this.options.token !== 'function' || typeof delay !== 'number') return;
    this.renewal = setTimeout(() => void this.renew(), delay);
  }

  private async renew(): Promise<void> {
    const connection = this.connection;
    try {
      const token = await this.newToken(false);
      if (connection !== this.connection || token === undefined) return;
      if (token !== this.token) await this.ask('auth', { token });
      if (connection !== this.connection) return;
      this.token = token;
      this.renewLater(token);
    } catch {
      // As long as the old one holds there is time; then the server ends the connection, and we come back.
      const left = this.token && renewalDelay(this.token);
      if (connection === this.connection && left) this.renewLater(this.token, Math.max(left, 1_000));
    }
  }

  // --- events --------------------------------------------------------------------------------------------------------
  private arrived(name: string, payload: unknown): void {
    if (name === 'resync_required') {
      this.inOrder(() => this.mustResync(payload as ResyncRequired));
      return;
    }
    this.inOrder(() => {
      const { cursor } = payload as { cursor?: number };
      if (cursor === undefined || this.ledger.take(name, cursor)) this.tell(name as keyof Events, payload as never);
    });
  }

  private mustResync({ reason, room, cursor }: ResyncRequired): void {
    if (reason === 'unknown_cursor' && room === undefined) this.ledger.restart(cursor);
    else if (room === undefined) this.ledger.advance(cursor);
    this.resync(room === undefined ? { reason } : { reason, room });
  }

  /** Have what is shown fetched, when (and if) it is time. What arrives meanwhile waits. */
  private resync(resync: Resync, isTime: Promise<boolean> | true = true): void {
    this.resyncs += 1;
    this.resyncing = this.resyncing
      .then(async () => {
        if (await isTime) await this.options.onResync?.(resync);
      })
      .catch((cause: unknown) => {
        this.tell('error', new HelpdeskError('resync_failed', 'What is shown could not be fetched.', resync.room, { cause }));
      })
      .then(() => {
        this.resyncs -= 1;
        while (this.resyncs === 0 && this.waiting.length > 0) this.waiting.shift()!();
      });
  }

  private inOrder(step: () => void): void {
    if (this.resyncs > 0) this.waiting.push(step);
    else step();
  }

  private tell<Name extends keyof Events>(name: Name, payload: Events[Name]): void {
    const listeners = [...(this.listeners.get(name) ?? [])];
    if (name === 'error' && listeners.length === 0) console.warn('Helpdesk:', payload);
    for (const listener of listeners) {
      try {
        (listener as Listener<Name>)(payload);
      } catch (error) {
        // The page's own mistake: it is reported as one, and the others hear the event all the same.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
}
