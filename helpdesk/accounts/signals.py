"""What `helpdesk.accounts` tells of its changes. All are sent inside the transaction of the change."""

from django.dispatch import Signal

from helpdesk.changes.signals import ModelSignal

user_created = ModelSignal(
    "user_created",
    "A person was added: by signing up, by an administrator, by a command. Not sent for bulk inserts.",
)
user_updated = ModelSignal(
    "user_updated",
    "Username, e-mail, name, role or the active flag changed. Not sent for a sign-in, a new password, or a "
    "deactivation, which has its own signal.",
)
user_deactivated = ModelSignal(
    "user_deactivated",
    "A person was deactivated: they can no longer sign in. Not sent when they were inactive already.",
)

# No change of the person, and nothing that anybody is told of: what was opened with those tokens and sessions must end.
# Sent with `user_id`, for a new password and a sign-out everywhere; a deactivation is told by its own signal.
sign_ins_ended = Signal()
