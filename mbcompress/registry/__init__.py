"""The registry: every installed plugin, and every component that a recipe can name.

In: the entry points of the group `mbcompress`. Out: one `Registry`, which `discover` builds and callers pass down. May
import: `contract`, and no torch. Only `discovery` and `contract.hookspecs` use pluggy.
"""
