import type { ArticleUpdate, AttachmentUpdate, CommentUpdate, TicketUpdate, UserUpdate } from './schema.js';

export type Update = TicketUpdate | CommentUpdate | AttachmentUpdate | ArticleUpdate | UserUpdate;
type EntityOf<U extends Update> = Exclude<U, { action: 'removed' }>['data'];

/**
 * The list as it is after an update, as a new array; the same array when nothing changed. New entries come first
 * (`at: 'end'`: last). What was fetched meanwhile and is newer than the event stays.
 */
export function applyUpdate<U extends Update>(
  list: readonly EntityOf<U>[],
  update: U,
  { at = 'start' }: { at?: 'start' | 'end' } = {},
): readonly EntityOf<U>[] {
  const index = list.findIndex((item) => item.id === update.data.id);
  if (update.action === 'deleted' || update.action === 'removed') {
    return index < 0 ? list : list.filter((_, place) => place !== index);
  }
  const entity = update.data as EntityOf<U>;
  const known = list[index];
  if (known === undefined) return at === 'start' ? [entity, ...list] : [...list, entity];
  if (known.updated_at > entity.updated_at) return list;
  return list.map((item) => (item === known ? entity : item));
}
