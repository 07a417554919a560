"""Floor 1: the object store, one bucket at a time.

`base` is the contract in prose and the only module the floors above need to name; `s3` is
the real store, `memory` its twin for tests and models, and both pass the same suite.

What the floor promises: hot calls never block, control calls may be made from many threads,
nothing but the errors of `qarnotfs.errors` comes out, an error is never reported as an
absence, and bytes that do not match their checksum never leave it. What it leaves to the
floors above: caching, retrying for longer than a moment, and any meaning of keys.
"""
