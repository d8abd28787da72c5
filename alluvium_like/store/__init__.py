"""The only user of SQLite, and the only truth of the system.

`writer` is the daemon's: one connection, one transaction at a time, every state written by
`Transaction.transition`. `reader` is the command line's: read-only, synchronous, daemon or not.
SQL lives in `queries/*.sql` and `migrations/*.sql`; triggers write the event rows.
"""
