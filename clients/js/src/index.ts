export { HelpdeskClient, type ClientOptions, type Resync, type Status } from './client.js';
export { HelpdeskError, type ErrorCode } from './errors.js';
export { applyUpdate, type Update } from './changes.js';
export { ticketRoom } from './rooms.js';
export type { CursorStorage } from './ledger.js';
export type { TokenProvider, TokenRequest } from './tokens.js';
export type { TicketPeople, TicketWatch } from './watch.js';
export type * from './schema.js';
