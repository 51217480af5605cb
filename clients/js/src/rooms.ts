/** The name of a ticket's room. */
export function ticketRoom(ticketId: string): string {
  return `ticket:${ticketId}`;
}
