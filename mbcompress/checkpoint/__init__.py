"""Models as files that cannot execute code: steps of a run, written and read back.

`saving` writes a step and `restoring` reads one; `stored` is their files, which need no torch. A model is stored as the
`architecture` of a source, which `rebuild` builds again, or as a `graph` of listed `operators`, which `capture` takes.
"""
