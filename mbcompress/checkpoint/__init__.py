"""Models as files that cannot execute code: the directory of each pass of a run, saved and loaded.

`saving` and `loading` need torch; `pass_directory` and `manifest` describe the files without it. A model is stored as
the options of a model source with the sizes of its layers (`architecture`, `rebuild`), or as a graph of listed
operators (`serialize`, `graph`, `operators`). `weights` reads weights of others.

In: a model, its traits, the operator sets of plugins. Out: a directory, and the model again. May import: contract,
registry, graph.
"""
