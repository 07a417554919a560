"""The block cache: bytes of object versions, kept on local disk until room is needed.

Used by `core`, which asks `reader.Reader` for bytes of a version it has decided on, and by
`session`, which builds the three objects. The floor's contract:

- A block belongs to (key, etag, size). Another version has other blocks, so nothing here
  is ever invalidated, and no read can mix two versions.
- A byte that comes from disk has passed its checksum on the way. What fails is forgotten,
  counted and fetched again; whatever lies in the directory can cost requests, never a wrong
  byte and never an exception.
- A disk that is full, broken or read-only means less cache, not an error.
- Several processes may use one directory at the same time.

`blocks` and `ledger` decide (pure); `disk` keeps files, with `entry` (one version's two files),
`opened` (those in use), `shelves` (what is in the directory), `space` (how much there may be)
and `recent` (a little memory); `reader` fetches, with `flight` (what is under way) and `runway`
(how much of it). Nothing here knows of names, directories,
attributes or of what is written: whoever builds both hands `Disk.adopt` to `writeback`.
"""
