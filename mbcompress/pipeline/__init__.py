"""A run: preflight, passes, export, measurement, report.

In: a resolved recipe and a registry. Out: a run directory and a `Result`. May import: every room but `testing`, `info`
and `cli`.
"""
