"""Floor 5: the file system itself, in its own words, knowing neither kernel nor network.

`filesystem` answers calls about inodes and handles with values and `FileError`s; it is
the only module here that waits. Everything it decides, it decides in pure ones: `tree`
(what a directory shows), `inodes`, `handles`, `names` (key <-> file name) and
`attributes` (metadata <-> stat). It asks `index`, `cache` and `writeback` below, is asked
by `operations` and `bucket` above, and imports neither pyfuse3 nor a store.
"""
