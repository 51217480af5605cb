// Compiled, never run: what is written here is known to the types, and what must not be is an error.
import { applyUpdate, HelpdeskClient, HelpdeskError, type Ticket } from '../src/index.js';

const client = new HelpdeskClient({ url: 'http://localhost:5000', token: async ({ refused }) => (refused ? 'b' : 'a') });
let tickets: readonly Ticket[] = [];

client.on('ticket.update', (update) => {
  tickets = applyUpdate(tickets, update);
  if (update.action === 'removed') {
    update.data.id satisfies string;
    // @ts-expect-error: of what is out of sight there is the id only
    update.data.title;
  } else {
    update.data.status satisfies 'new' | 'open' | 'pending' | 'on_hold' | 'solved' | 'closed';
  }
});
client.on('notification', ({ message, notification }) => {
  message satisfies string;
  // @ts-expect-error: no such type
  notification.type === 'nonsense';
});
client.on('notification.read', ({ id, unread }) => [id satisfies string | null, unread satisfies number]);
client.on('status', ({ status, error }) => [status, error?.code]);
// @ts-expect-error: no such event
client.on('ticket.updated', () => {});
// @ts-expect-error: what an operation takes is known
void client.ask('join', { rooms: ['tickets'] });
client.join('tickets').catch((error: unknown) => {
  if (error instanceof HelpdeskError && error.code === 'not_found') return;
  throw error;
});
