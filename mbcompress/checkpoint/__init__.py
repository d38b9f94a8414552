"""Save and load models as files that cannot execute code, one directory per pass of a run.

`saving` and `loading` need torch; `pass_directory` and `manifest` describe the files without it. A model is stored as
the options of a model source with layer sizes (`architecture`, `rebuild`), or as a graph of allowed operators
(`serialize`, `graph`, `operators`).

In: a model, its traits, the operator sets of plugins. Out: a directory, and the loaded model. May import: contract,
registry, graph.
"""
