"""The cache: finished passes, training checkpoints and decoded images, kept in one folder between runs.

The folder can be deleted at any time; missing entries are recomputed.

In: a pass, its model and context; `keys` hashes everything the result depends on. Out: the files of finished passes
(`store`), training checkpoints (`checkpoints`), and eviction (`eviction`). May import: contract, graph, and the
processor's description from measure.
"""
