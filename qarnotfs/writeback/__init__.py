"""Floor 4: what the bucket is owed, and how it is paid.

Contract: bytes that were accepted stay on this machine's disk until the bucket has
them; a debt is forgotten only after the bucket confirmed it. `extents`, `overlay` and
`plan` are pure; `staging` owns the staged files, `journal` the debts, `uploader` the
paying. Knows nothing of the block cache: what it needs of it is handed in as functions.
"""
