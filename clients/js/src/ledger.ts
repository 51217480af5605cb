/** Where a cursor is kept; `localStorage` and `sessionStorage` are ones. */
export interface CursorStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/**
 * What was shown, and from where to go on.
 *
 * Everything up to `after` was shown. Of what came later, the names are kept, because two things may interrupt it: an
 * event has several frames with the same cursor (a comment and its notification), and a connection may end between
 * them; and while rooms are replayed one after the other, cursors jump back. So `after` stays one behind the last event
 * seen live, and stays where it is during a replay; what the server then tells a second time is known by its name.
 */
export class Ledger {
  /** Undefined until the first connection. */
  after: number | undefined;
  /** Whether a replay is going on. */
  isReplaying = false;
  private shown = new Map<number, Set<string>>();

  constructor(
    private readonly storage?: CursorStorage,
    private readonly key = 'helpdesk.cursor',
  ) {
    this.load();
  }

  /** Note an event; false when it was shown before. */
  take(name: string, cursor: number): boolean {
    if ((this.after !== undefined && cursor <= this.after) || !this.add(name, cursor)) return false;
    if (!this.isReplaying) {
      this.moveTo(cursor - 1);
      this.save();
    }
    return true;
  }

  /** Everything up to this cursor has been shown, or was fetched. */
  advance(cursor: number): void {
    if (this.moveTo(cursor)) this.save();
  }

  /** The stream is another one: go on from there, whatever we had. */
  restart(cursor: number): void {
    this.after = undefined;
    this.shown.clear();
    this.advance(cursor);
  }

  private moveTo(cursor: number): boolean {
    if (this.after !== undefined && cursor <= this.after) return false;
    this.after = cursor;
    for (const known of this.shown.keys()) if (known <= cursor) this.shown.delete(known);
    return true;
  }

  private add(name: string, cursor: number): boolean {
    const names = this.shown.get(cursor) ?? new Set();
    if (names.has(name)) return false;
    this.shown.set(cursor, names.add(name));
    return true;
  }

  private load(): void {
    try {
      const { after, shown } = JSON.parse(this.storage?.getItem(this.key) ?? '{}');
      if (!Number.isSafeInteger(after) || after < 0) return;
      this.shown = new Map(shown.map(([cursor, names]: [number, string[]]) => [cursor, new Set(names)]));
      this.after = after;
    } catch {
      // Not ours, or no storage at all (a browser may forbid it): begin anew.
    }
  }

  private save(): void {
    try {
      const shown = [...this.shown].map(([cursor, names]) => [cursor, [...names]]);
      this.storage?.setItem(this.key, JSON.stringify({ after: this.after, shown }));
    } catch {
      // Full, or forbidden: the cursor in memory serves this page.
    }
  }
}
