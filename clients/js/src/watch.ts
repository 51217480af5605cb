import type { HelpdeskClient } from './client.js';
import type { Person } from './schema.js';
import { ticketRoom } from './rooms.js';

/** Who else is at a ticket. `viewing` is told to staff only. */
export interface TicketPeople {
  viewing: Person[];
  typing: Person[];
}

/** People who are there until they say no more, or their time is over. */
class Presences {
  private readonly people = new Map<string, { person: Person; timer: ReturnType<typeof setTimeout> }>();
  private readonly told = new Set<string>(); // whom events were about since the question
  private questions = 0;

  constructor(private readonly onChange: () => void) {}

  get list(): Person[] {
    return [...this.people.values()].map(({ person }) => person);
  }

  private set(person: Person, seconds: number): void {
    const before = this.people.get(person.id);
    clearTimeout(before?.timer);
    if (seconds > 0) {
      const timer = setTimeout(() => this.set(person, 0), seconds * 1_000);
      this.people.set(person.id, { person, timer });
      if (!before) this.onChange();
    } else if (this.people.delete(person.id)) {
      this.onChange();
    }
  }

  /** What an event says of a person. */
  tell(person: Person, seconds: number): void {
    this.told.add(person.id);
    this.set(person, seconds);
  }

  /**
   * Ask who is there; what is returned takes the answer. An event that came with it, or before it was looked at, knows
   * better: a promise is settled after the events of the same packet were told.
   */
  question(): (people: readonly Person[], seconds: number) => void {
    const question = ++this.questions;
    this.told.clear();
    return (people, seconds) => {
      if (question === this.questions) this.replace(people, seconds, this.told);
    };
  }

  clear(): void {
    this.replace([], 0);
  }

  private replace(people: readonly Person[], seconds: number, except: ReadonlySet<string> = new Set()): void {
    const ids = new Set(people.map(({ id }) => id));
    for (const person of this.list) if (!ids.has(person.id) && !except.has(person.id)) this.set(person, 0);
    for (const person of people) if (!except.has(person.id)) this.set(person, seconds);
  }
}

const SAY_AGAIN = 40_000; // what `viewing` says holds for 60 seconds
const VIEWING_HOLDS = 60;
const TYPE_AGAIN = 3_000; // what `typing` says holds for 6 seconds

/** Looking at one ticket; made by `HelpdeskClient.watch`. A page in the background does not look. */
export class TicketWatch {
  private readonly viewing = new Presences(() => this.changed());
  private readonly typists = new Presences(() => this.changed());
  private readonly ends: (() => void)[];
  private typedAt = 0;
  private isStopped = false;

  constructor(
    private readonly client: HelpdeskClient,
    readonly ticketId: string,
    private readonly onChange: (people: TicketPeople) => void,
  ) {
    const isHere = ({ ticket_id }: { ticket_id: string }): boolean => ticket_id === ticketId;
    const again = setInterval(() => void this.look(), SAY_AGAIN);
    this.ends = [
      client.on('presence', (it) => isHere(it) && this.viewing.tell(it.person, it.expires_in)),
      client.on('typing', (it) => isHere(it) && this.typists.tell(it.person, it.expires_in)),
      client.on('status', ({ status }) => status === 'connected' && void this.look()),
      () => clearInterval(again),
    ];
    if (typeof document !== 'undefined') {
      const onVisibility = (): void => void this.look();
      document.addEventListener('visibilitychange', onVisibility);
      this.ends.push(() => document.removeEventListener('visibilitychange', onVisibility));
    }
    client.join(ticketRoom(ticketId)).then(
      () => this.look(),
      () => {}, // `error` tells of it where the ticket is not for us
    );
  }

  get people(): TicketPeople {
    return { viewing: this.viewing.list, typing: this.typists.list };
  }

  /** Call it with every key: it is told every three seconds at most. `active: false` once the text was sent. */
  typing({ active = true, internal = false } = {}): void {
    const now = Date.now();
    if (this.isStopped || (active && now - this.typedAt < TYPE_AGAIN)) return;
    this.typedAt = active ? now : 0;
    this.client.typing(this.ticketId, { active, internal }).catch(() => {}); // it fades, or is said again
  }

  /** Look no more; the others learn it at once. */
  stop(): void {
    if (this.isStopped) return;
    this.isStopped = true;
    for (const end of this.ends) end();
    this.viewing.clear();
    this.typists.clear();
    const leave = async (): Promise<void> => {
      await this.client.viewing(this.ticketId, { active: false });
      await this.client.leave(ticketRoom(this.ticketId));
    };
    leave().catch(() => this.client.leave(ticketRoom(this.ticketId)).catch(() => {})); // gone with the connection
  }

  private async look(): Promise<void> {
    if (this.isStopped || this.client.status !== 'connected') return;
    const active = typeof document === 'undefined' || !document.hidden;
    const answered = this.viewing.question();
    try {
      const viewers = await this.client.viewing(this.ticketId, { active });
      if (active && !this.isStopped) answered(viewers, VIEWING_HOLDS);
    } catch {
      // Said again in a while, or with the next connection.
    }
  }

  private changed(): void {
    if (!this.isStopped) this.onChange(this.people);
  }
}
