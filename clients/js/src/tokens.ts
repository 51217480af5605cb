/** Why a token is asked for. `refused`: the last one was not accepted, so the same one would not help. */
export interface TokenRequest {
  refused: boolean;
}

export type TokenProvider = (request: TokenRequest) => string | Promise<string>;

const SHORTEST = 500;
const LONGEST_TIMER = 2 ** 31 - 1;

/** When a token is to be replaced, in milliseconds from now: a minute before its end, or at half of a short life. */
export function renewalDelay(token: string, now = Date.now()): number | undefined {
  const end = endOf(token);
  if (end === undefined || end <= now) return undefined; // no JWT, or over: the server says so
  const left = end - now;
  return Math.min(Math.max(left - 60_000, left / 2, SHORTEST), LONGEST_TIMER);
}

/** When a JSON Web Token ends (Unix time in milliseconds), if it is one and does. */
function endOf(token: string): number | undefined {
  try {
    const { exp } = JSON.parse(atob(token.split('.')[1]!.replaceAll('-', '+').replaceAll('_', '/')));
    return typeof exp === 'number' ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}
