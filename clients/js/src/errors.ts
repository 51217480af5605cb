import type { Refusal } from './schema.js';

/** What the server answers, and what only a client knows. */
export type ErrorCode = Refusal['code'] | 'not_connected' | 'timeout' | 'token_unavailable' | 'resync_failed' | 'closed';

/** Why something was not done. `code` is stable, the message may change. */
export class HelpdeskError extends Error {
  override readonly name = 'HelpdeskError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    /** The room that was not joined, where it is about one. */
    readonly room?: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
