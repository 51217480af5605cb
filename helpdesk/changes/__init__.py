"""Changes: who made one, which fields it touched, the transaction it happens in and the signal that tells of it.

The foundation of every domain app; it knows none of them.
"""
