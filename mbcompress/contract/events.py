"""The run that the lifecycle hooks are told of, and the names of those hooks."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LIFECYCLE = ("mbcompress_run_started", "mbcompress_pass_finished", "mbcompress_run_failed", "mbcompress_run_finished")

Listener = Callable[..., object]


@dataclass(frozen=True)
class Run:
    """A run, as the lifecycle hooks receive it.

    Attributes:
        name: of the recipe.
        recipe: as resolved, with all defaults and overrides; the content of recipe.yaml.
        environment: versions, processor, threads, seed and plugins; the content of environment.json.
        id: unique to this run, by which a plugin can keep state from one hook to the next.
    """

    name: str
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
