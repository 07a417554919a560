"""Floor 3: what we believe about keys and listings, and until when.

Contract: every belief carries the time it was validated; nobody is told one that is
older than the TTL without the bucket being asked. `index` asks and remembers, `beliefs`
keeps it on disk, `changes` protects our own changes from answers that are older.
Disposable: losing all of it costs requests, never data.
"""
