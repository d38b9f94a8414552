"""What a training has reached, written now and then, so that a run that was killed goes on in the middle of a pass.

A checkpoint is a safetensors file followed by its SHA-256, written whole or not at all. One that is damaged counts as
absent.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from mbcompress.cache.place import number_from_environment
from mbcompress.contract.progress import Progress
from mbcompress.errors import MbcompressError
from mbcompress.files import slug, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

SECONDS = "MBCOMPRESS_CHECKPOINT_SECONDS"
"""Environment variable: at most this much of a training is lost when its process is killed."""

DEFAULT_SECONDS = 60.0
DIGEST_BYTES = hashlib.sha256().digest_size
FACTS = "facts"


def checkpoint_seconds() -> float:
    """How often a training is saved.

    Raises:
        MbcompressError: the environment variable is not a number that is at least 0.
    """
    return number_from_environment(SECONDS, DEFAULT_SECONDS, "seconds")


class Checkpoints:
    """Those of one step; without a folder nothing is kept."""

    def __init__(
        self,
        folder: Path | None = None,
        progress: Progress | None = None,
        interval: float = DEFAULT_SECONDS,
    ) -> None:
        self.folder = folder
        self.progress = progress or Progress()
        self.interval = interval
        self.before = 0.0
        """Seconds that earlier processes have spent on the step."""
        self._started = self._saved = time.monotonic()  # which no change of the clock moves
        self._names: list[str] = []
        self._complained = False

    @property
    def seconds(self) -> float:
        """What the step has taken so far, in all processes."""
        return self.before + time.monotonic() - self._started

    def open(self, label: str) -> Checkpoint:
        """The checkpoint of a training; the second one with the same label is another."""
        name = slug(label)
        self._names.append(name)
        return Checkpoint(self, f"{self._names.count(name)}-{name}.checkpoint")

    def decision(self, name: str) -> dict[str, Any] | None:
        """What was decided under this name; None if nothing was, or nothing that can be read."""
        if self.folder is None:
            return None
        try:
            found: dict[str, Any] = json.loads(self._place_of(name).read_text())
            return found
        except (OSError, ValueError):
            return None

    def keep_decision(self, name: str, decision: dict[str, Any]) -> None:
        """Note it, if there is a folder; a disk that has no room for it costs the note, not the run."""
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(self._place_of(name), json.dumps(decision))
            except (MbcompressError, OSError) as error:
                self.complain(f"cache: what {name!r} found was not saved: {error}")

    def _place_of(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{slug(name)}.decision.json"

    def complain(self, text: str) -> None:
        """Say once that nothing can be saved."""
        if not self._complained:
            self.progress.say(text)
        self._complained = True

    def due(self) -> bool:
        """Whether the interval has passed since something was saved."""
        return self.folder is not None and time.monotonic() - self._saved >= self.interval

    def saved(self) -> None:
        """Note that everything up to now is safe."""
        self._saved = time.monotonic()


class Checkpoint:
    """What one training has reached."""

    def __init__(self, owner: Checkpoints, name: str) -> None:
        self.owner = owner
        self.path = owner.folder / name if owner.folder else None

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self.owner.due()

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts as they were saved; None if nothing was, or nothing that can be trusted."""
        if self.path is None:
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            content = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.owner.progress.say(f"cache: {self.path} cannot be read ({error.strerror}); training starts again")
            return None
        body, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        try:
            if hashlib.sha256(body).digest() != digest:
                raise ValueError("its hash is another")
            tensors = load(body)
            facts = json.loads(bytes(tensors.pop(FACTS).tolist()))
        except (SafetensorError, ValueError, KeyError) as error:
            self.owner.progress.say(f"cache: {self.path} is damaged ({error}); training starts again")
            return None
        self.owner.before = facts.pop("seconds")
        return tensors, facts

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Save; a disk that has no room for it costs the checkpoint, not the run.

        Args:
            tensors: on any device.
            facts: what JSON can hold, beside them.
        """
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self.path, _content(tensors, {**facts, "seconds": self.owner.seconds}))
            except (MbcompressError, OSError) as error:
                self.owner.complain(f"cache: the training was not saved: {error}")
        self.owner.saved()


def _content(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    import torch
    from safetensors.torch import save

    text = torch.frombuffer(bytearray(json.dumps(facts), "utf-8"), dtype=torch.uint8)
    # copies: safetensors refuses tensors that share storage, as tied weights do
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    body = save({**plain, FACTS: text})
    return body + hashlib.sha256(body).digest()
