"""The events of a run that plugins can listen to, and the `Run` that every event names."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LIFECYCLE = ("mbcompress_run_started", "mbcompress_pass_finished", "mbcompress_run_failed", "mbcompress_run_finished")
"""Names of the hooks that are called during a run."""

Listener = Callable[..., object]
"""A plugin's implementation of one of these hooks; called with keyword arguments."""


@dataclass(frozen=True)
class Run:
    """A run as listeners see it.

    Attributes:
        name: the recipe's.
        recipe: the resolved recipe, with every default and override, as in recipe.yaml.
        environment: versions, processor, threads, seed and plugins, as in environment.json.
        id: unique to this run, so that a listener can tell the events of two runs apart.
    """

    name: str
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
