// Written by `manage.py document_sockets` from the serializers and notifications/asyncapi.py: change those instead.

/** A ticket. Customers choose title, description and priority of a new one; the rest is the agents' work. */
export interface Ticket {
  id: string;
  number: number;
  title: string;
  description: string;
  status: TicketStatus;
  priority: TicketPriority;
  /** Whoever opens it, unless an agent says who. */
  requester_id: string;
  requester: Person;
  /** An agent or an administrator. */
  assignee_id: string | null;
  assignee: Person | null;
  /** Lower case, each once, in alphabetical order; at most 20. */
  tags: string[];
  /** Where an imported ticket came from; agents and administrators see it. */
  source?: string;
  /** Its id there; agents and administrators see it. */
  external_id?: string;
  created_at: string;
  updated_at: string;
  /** Of what was deleted only. */
  deleted_at?: string;
}

/** A comment. Its ticket and the comment it replies to are chosen once, when it is written. */
export interface Comment {
  id: string;
  ticket_id: string;
  /** The comment this one replies to. */
  parent_id: string | null;
  author_id: string | null;
  author: Person | null;
  content: string;
  /** Only agents and administrators see it. */
  is_internal: boolean;
  created_at: string;
  updated_at: string;
  /** Of what was deleted only. */
  deleted_at?: string;
}

/** An attachment. Its bytes are at `download_url`, for whoever may see it. */
export interface Attachment {
  id: string;
  ticket_id: string;
  filename: string;
  content_type: string;
  /** Bytes. */
  size: number;
  /** Only agents and administrators see it. */
  is_internal: boolean;
  uploaded_by_id: string | null;
  uploaded_by: Person | null;
  /** A path of this site. */
  download_url: string;
  created_at: string;
  updated_at: string;
  /** Of what was deleted only. */
  deleted_at?: string;
}

/** An article of the knowledge base. */
export interface Article {
  id: string;
  title: string;
  /** Markdown. */
  body: string;
  status: ArticleStatus;
  author_id: string | null;
  author: Person | null;
  /** When it was first published. */
  published_at: string | null;
  created_at: string;
  updated_at: string;
  /** Of what was deleted only. */
  deleted_at?: string;
}

/** A person, for administrators and for themselves. */
export interface User {
  id: string;
  username: string;
  email: string;
  name: string;
  role: Role;
  /** Deactivated people keep their tickets and comments, but can no longer sign in. */
  is_active: boolean;
  deactivated_at: string | null;
  created_at: string;
  updated_at: string;
  /** Of what was deleted only. */
  deleted_at?: string;
}

/** An endpoint without its secret, which is shown once and never again. */
export interface WebhookEndpoint {
  id: string;
  owner_id: string;
  url: string;
  description: string;
  /** Notification types it wants; empty means all. */
  types: NotificationType[];
  /** Of its own, sent with every request. They replace all there were; null keeps a value. */
  headers: {
    [name: string]: unknown;
  };
  /** The one behind /api/users/me/webhook. */
  is_primary: boolean;
  state: EndpointState;
  disabled_reason: string;
  /** Attempts per second at most; empty means no limit. */
  rate_limit: number | null;
  /** Webhooks of one ticket in order: each waits until the one before has arrived or was given up. */
  ordered: boolean;
  health: EndpointHealth;
  created_at: string;
  updated_at: string;
}

/** A person as they appear beside what they wrote, requested or were given. */
export interface Person {
  id: string;
  name: string;
  role: Role;
}

export type TicketStatus = "new" | "open" | "pending" | "on_hold" | "solved" | "closed";

export type TicketPriority = "low" | "normal" | "high" | "urgent";

export type ArticleStatus = "draft" | "published";

export type Role = "customer" | "agent" | "admin";

export type NotificationType = "reply_to_comment" | "comment_on_ticket" | "comment_updated" | "comment_deleted" | "new_ticket" | "ticket_updated" | "ticket_deleted" | "user_created" | "user_deactivated" | "kb_article_created" | "attachment_added" | "attachment_updated" | "attachment_deleted" | "webhook_test" | "webhook_disabled";

export type EndpointState = "active" | "paused" | "disabled";

/** How an endpoint is doing. */
export interface EndpointHealth {
  /** The same in plain words. */
  summary: string;
  consecutive_failures: number;
  failing_since: string | null;
  last_success_at: string | null;
  last_failure: string;
  last_failure_at: string | null;
  breaker: BreakerEnum;
  breaker_until: string | null;
  recent: Recent;
}

export type BreakerEnum = "closed" | "open" | "half_open";

/** Of an endpoint's newest deliveries of the last 24 hours (at most 100), those that were tried. */
export interface Recent {
  deliveries: number;
  /** How many of them have arrived. */
  delivered: number;
  /** From 0 to 1; null where none was tried. */
  success_rate: number | null;
  /** Of the attempts that succeeded, each as a whole. */
  median_ms: number | null;
  p95_ms: number | null;
}

export type TicketUpdate = {
  action: "created" | "updated" | "deleted";
  data: Ticket;
  /** The place in the stream. */
  cursor: number;
} | {
  action: "removed";
  data: {
    id: string;
  };
  /** The place in the stream. */
  cursor: number;
};

export type CommentUpdate = {
  action: "created" | "updated" | "deleted";
  data: Comment;
  /** The place in the stream. */
  cursor: number;
} | {
  action: "removed";
  data: {
    id: string;
  };
  /** The place in the stream. */
  cursor: number;
};

export type AttachmentUpdate = {
  action: "created" | "updated" | "deleted";
  data: Attachment;
  /** The place in the stream. */
  cursor: number;
} | {
  action: "removed";
  data: {
    id: string;
  };
  /** The place in the stream. */
  cursor: number;
};

export type ArticleUpdate = {
  action: "created" | "updated" | "deleted";
  data: Article;
  /** The place in the stream. */
  cursor: number;
} | {
  action: "removed";
  data: {
    id: string;
  };
  /** The place in the stream. */
  cursor: number;
};

export type UserUpdate = {
  action: "created" | "updated" | "deleted";
  data: User;
  /** The place in the stream. */
  cursor: number;
} | {
  action: "removed";
  data: {
    id: string;
  };
  /** The place in the stream. */
  cursor: number;
};

/** What a person was told. */
export interface NotificationHead {
  id: string;
  type: NotificationType;
  message: string;
  related_id: string;
  related_type: "comment" | "ticket" | "user" | "kb_article" | "attachment" | "webhook";
  created_at: string;
}

/** A notification with the entity it is about; its own fields stand beside it once more. */
export interface NotificationCreated {
  event: "notification.created";
  notification: NotificationHead;
  data: Ticket | Comment | Attachment | Article | User | WebhookEndpoint;
  /** The place in the stream. */
  cursor: number;
  id: string;
  type: NotificationType;
  message: string;
  related_id: string;
  related_type: "comment" | "ticket" | "user" | "kb_article" | "attachment" | "webhook";
  created_at: string;
}

/** Read in one of your tabs, or by the API. */
export interface NotificationRead {
  /** Null: all there were. */
  id: string | null;
  read_at: string;
  /** How many were left unread. */
  unread: number;
  /** The place in the stream. */
  cursor: number;
}

/** A webhook that the internal receiver took for you, as it was signed. */
export type WebhookReceived = {
  /** The place in the stream. */
  cursor: number;
  [name: string]: unknown;
};

/** Nothing of it is stored or replayed. The same person's next one replaces it. */
export interface Typing {
  ticket_id: string;
  person: Person;
  /** Seconds it holds; 0: it has ended. */
  expires_in: number;
}

/** Nothing of it is stored or replayed. The same person's next one replaces it. */
export interface Presence {
  ticket_id: string;
  person: Person;
  /** Seconds it holds; 0: it has ended. */
  expires_in: number;
}

/** There is no replay: fetch what you show, and go on. */
export interface ResyncRequired {
  reason: "cursor_too_old" | "missed_too_much" | "unknown_cursor" | "role_changed" | "gap";
  message: string;
  /** The place in the stream. */
  cursor: number;
  /** Where it is about one room. */
  room?: string;
}

/** Why not. `code` stays, `message` may change. */
export interface Refusal {
  code: "account_inactive" | "another_person" | "forbidden" | "going_away" | "internal" | "invalid" | "malformed_json" | "not_found" | "origin_not_allowed" | "signed_out" | "slow" | "token_expired" | "token_invalid" | "too_large" | "too_many_connections" | "too_many_messages" | "too_many_rooms" | "unauthenticated" | "unavailable" | "unknown_operation" | "unknown_room";
  message: string;
  /** Seconds after which to come back. */
  retry_after?: number;
}

export interface Refused {
  ok: false;
  error: Refusal;
}

/** What each event carries. */
export interface ServerEvents {
  "ticket.update": TicketUpdate;
  "comment.update": CommentUpdate;
  "attachment.update": AttachmentUpdate;
  "kb.update": ArticleUpdate;
  "user.update": UserUpdate;
  "notification": NotificationCreated;
  "notification.read": NotificationRead;
  "webhook.received": WebhookReceived;
  "typing": Typing;
  "presence": Presence;
  "resync_required": ResyncRequired;
}

/** What each operation takes, and what its answer has. */
export interface Operations {
  "join": {
    arguments: {
      /** `tickets`, `comments`, `attachments`, `kb`, `users` or `ticket:<id>`. */
      room: string;
      /** The last cursor you have: what was missed since comes first. */
      after?: number;
    };
    answer: {
      /** `tickets`, `comments`, `attachments`, `kb`, `users` or `ticket:<id>`. */
      room: string;
      /** The place in the stream. */
      cursor: number;
    };
  };
  "leave": {
    arguments: {
      /** `tickets`, `comments`, `attachments`, `kb`, `users` or `ticket:<id>`. */
      room: string;
    };
    answer: Record<string, never>;
  };
  "typing": {
    arguments: {
      ticket_id: string;
      /** False: it has ended. */
      active?: boolean;
      /** True: an internal note, told to staff only. */
      is_internal?: boolean;
    };
    answer: Record<string, never>;
  };
  "viewing": {
    arguments: {
      ticket_id: string;
      /** False: it has ended. */
      active?: boolean;
    };
    answer: {
      /** For staff. */
      viewers: Person[];
    };
  };
  "notification.read": {
    arguments: {
      id: string;
    };
    answer: {
      unread: number;
    };
  };
  "auth": {
    arguments: {
      token: string;
    };
    answer: Record<string, never>;
  };
}
