"""The pipeline: executes a resolved recipe and writes a run directory.

`launch` claims the run directory, joins the processes and calls `run`: `preflight` loads and checks everything the
passes need, `executor` computes the passes or takes them from the cache, and then the models are exported, measured and
reported.

In: a plan, the registry, the caller's module or splits. Out: the run directory, the compressed model and the report.
May import: every room but testing, info and cli.
"""
