"""`manage.py serve`: the whole system under one command, started, watched and stopped together."""
