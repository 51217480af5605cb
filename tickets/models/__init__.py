from tickets.models.attachment import Attachment
from tickets.models.ticket import OPEN_STATUSES, Priority, Status, Ticket, TicketTag

__all__ = ["OPEN_STATUSES", "Attachment", "Priority", "Status", "Ticket", "TicketTag"]
