"""Tickets from a CSV file of another system: each row a ticket of its own, each only once."""
