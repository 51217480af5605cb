/** Hooks for React 18 and newer, built on the client. */
import { createContext, createElement, useCallback, useContext, useEffect, useState, type ReactElement, type ReactNode } from 'react';
import type { Socket } from 'socket.io-client';
import { applyUpdate } from './changes.js';
import type { HelpdeskClient } from './client.js';
import type { Comment, NotificationCreated, NotificationHead, Person, Ticket } from './schema.js';
import type { TicketPeople, TicketWatch } from './watch.js';

const Context = createContext<HelpdeskClient | null>(null);

/** Makes a client known to the hooks below it, and keeps it connected while it is there. */
export function HelpdeskProvider({ client, children }: { client: HelpdeskClient; children?: ReactNode }): ReactElement {
  useEffect(() => {
    client.connect();
    return () => client.close();
  }, [client]);
  return createElement(Context.Provider, { value: client }, children);
}

/** The client of the `HelpdeskProvider` above. */
export function useHelpdesk(): HelpdeskClient {
  const client = useContext(Context);
  if (client === null) throw new Error('There is no <HelpdeskProvider> above this component.');
  return client;
}

/** What a webhook or a `notification` event brings; only this much of it is needed. */
export type NotificationPayload = Pick<NotificationCreated, 'notification' | 'data'>;

function updateOf<E extends Ticket | Comment>(data: E): { action: 'updated' | 'deleted'; data: E; cursor: number } {
  return { action: data.deleted_at === undefined ? 'updated' : 'deleted', data, cursor: 0 };
}

/**
 * The person's notifications since the page was opened, newest first, with the tickets and comments that they, and the
 * updates of joined rooms, speak of. `handleWebhook` takes a payload that came another way.
 */
export function useNotifications(): {
  notifications: NotificationHead[];
  tickets: Ticket[];
  comments: Comment[];
  handleWebhook: (payload: NotificationPayload) => void;
} {
  const client = useHelpdesk();
  const [notifications, setNotifications] = useState<NotificationHead[]>([]);
  const [tickets, setTickets] = useState<Ticket[]>([]);
  const [comments, setComments] = useState<Comment[]>([]);

  const handleWebhook = useCallback(({ notification, data }: NotificationPayload) => {
    setNotifications((known) =>
      known.some(({ id }) => id === notification.id) ? known : [notification, ...known],
    );
    if (notification.related_type === 'ticket') {
      setTickets((list) => [...applyUpdate(list, updateOf(data as Ticket))]);
    } else if (notification.related_type === 'comment') {
      setComments((list) => [...applyUpdate(list, updateOf(data as Comment), { at: 'end' })]);
    }
    if (typeof Notification !== 'undefined' && Notification.permission === 'granted') {
      new Notification(notification.message);
    }
  }, []);

  useEffect(() => {
    const ends = [
      client.on('notification', handleWebhook),
      client.on('ticket.update', (update) => setTickets((list) => [...applyUpdate(list, update)])),
      client.on('comment.update', (update) => setComments((list) => [...applyUpdate(list, update, { at: 'end' })])),
    ];
    return () => ends.forEach((end) => end());
  }, [client, handleWebhook]);

  return { notifications, tickets, comments, handleWebhook };
}

/**
 * Be in rooms for as long as the component is there. `onNotification` hears of each notification with its entity.
 * `socket` is the stock Socket.IO socket.
 */
export function useRealTimeUpdates({
  rooms = ['tickets', 'comments'],
  onNotification,
}: { rooms?: readonly string[]; onNotification?: (payload: NotificationCreated) => void } = {}): {
  socket: Socket;
  isConnected: boolean;
} {
  const client = useHelpdesk();
  const [isConnected, setIsConnected] = useState(client.status === 'connected');
  const wanted = rooms.join(' ');

  useEffect(() => {
    setIsConnected(client.status === 'connected');
    return client.on('status', ({ status }) => setIsConnected(status === 'connected'));
  }, [client]);

  useEffect(() => {
    const joined = wanted.split(' ').filter(Boolean);
    for (const room of joined) client.join(room).catch((error: unknown) => console.warn('Helpdesk:', error));
    return () => {
      for (const room of joined) client.leave(room).catch(() => {}); // gone with the connection
    };
  }, [client, wanted]);

  useEffect(() => (onNotification ? client.on('notification', onNotification) : undefined), [client, onNotification]);

  return { socket: client.socket, isConnected };
}

/** How many notifications are unread, in step with the person's other tabs. `initial` comes from the API. */
export function useUnreadCount(initial: number): number {
  const client = useHelpdesk();
  const [unread, setUnread] = useState(initial);
  useEffect(() => setUnread(initial), [initial]);
  useEffect(() => {
    const ends = [
      client.on('notification', () => setUnread((count) => count + 1)),
      client.on('notification.read', (read) => setUnread(read.unread)),
    ];
    return () => ends.forEach((end) => end());
  }, [client]);
  return unread;
}

const NOBODY: { viewing: Person[]; typing: Person[] } = { viewing: [], typing: [] };

/** Look at a ticket for as long as the component is there: who else does, who writes, and how to say that one writes. */
export function useTicketPeople(ticketId: string): TicketPeople & { onTyping: TicketWatch['typing'] } {
  const client = useHelpdesk();
  const [people, setPeople] = useState<TicketPeople>(NOBODY);
  const [watch, setWatch] = useState<TicketWatch | null>(null);
  useEffect(() => {
    const watching = client.watch(ticketId, setPeople);
    setWatch(watching);
    return () => {
      watching.stop();
      setPeople(NOBODY);
    };
  }, [client, ticketId]);
  const onTyping = useCallback<TicketWatch['typing']>((options) => watch?.typing(options), [watch]);
  return { ...people, onTyping };
}
