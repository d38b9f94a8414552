"""The pipeline: what happens in a run, from a checked recipe to a run directory.

`launch` claims the run directory, joins the processes and calls `run`: `preflight` loads and checks all that the passes
need, `executor` computes them or takes them from the cache, then the files are exported, measured and reported.

In: a plan, the registry, the caller's module or splits. Out: the run directory, the compressed model and the report.
May import: every room but testing, info and cli.
"""
