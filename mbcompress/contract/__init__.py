"""The contract: the interfaces that plugins implement, and the objects they receive.

In: nothing. Out: the base classes of passes, models, datasets, runtimes, metrics and operator sets, the hooks that
return them, and the context of a pass. May import: no other room, and no torch at import time;
`Context.fit` alone imports `training` when it is called.
"""
