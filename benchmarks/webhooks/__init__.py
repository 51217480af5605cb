"""How fast webhooks are delivered, against designs that were not taken; each on PostgreSQL with both rows written."""
