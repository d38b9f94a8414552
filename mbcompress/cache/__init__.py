"""The cache: finished passes, training checkpoints and decoded images, kept between runs in one folder.

The folder may be deleted at any time: what is missing is computed again.

In: a pass, its model and context; `keys` hashes all that the result depends on. Out: the files of a finished pass
(`store`), checkpoints of a training (`checkpoints`), what to evict (`eviction`). May import: contract, graph, and the
processor's description from measure.
"""
