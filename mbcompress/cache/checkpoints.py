"""Training checkpoints on disk, to resume a killed run in the middle of a pass.

A checkpoint is a safetensors file followed by its SHA-256, written atomically. Damaged checkpoints are ignored.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from mbcompress.cache.settings import DEFAULT_CHECKPOINT_SECONDS
from mbcompress.contract.checkpoints import Checkpoint, Checkpoints
from mbcompress.contract.progress import Progress
from mbcompress.errors import MbcompressError
from mbcompress.files import slug, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

DIGEST_BYTES = hashlib.sha256().digest_size
FACTS = "facts"


class CheckpointFolder(Checkpoints):
    """The checkpoints and decisions of one pass, in a folder.

    If writing fails, the run continues without checkpoints.

    Args:
        folder: the folder, which need not exist.
        progress: shows warnings.
        interval: seconds between two checkpoints.
    """

    def __init__(
        self, folder: Path, progress: Progress | None = None, interval: float = DEFAULT_CHECKPOINT_SECONDS
    ) -> None:
        super().__init__()
        self.folder = folder
        self.progress = progress or Progress()
        self.interval = interval
        self._saved = time.monotonic()
        self._names: list[str] = []
        self._warned = False

    def open(self, label: str) -> CheckpointFile:  # noqa: D102
        name = slug(label)
        self._names.append(name)
        return CheckpointFile(self, self.folder / f"{self._names.count(name)}-{name}.checkpoint")

    def decision(self, name: str) -> dict[str, Any] | None:  # noqa: D102
        try:
            decision: dict[str, Any] = json.loads(self._decision_file(name).read_text())
            return decision
        except (OSError, ValueError):
            return None

    def keep_decision(self, name: str, decision: dict[str, Any]) -> None:  # noqa: D102
        self.write(self._decision_file(name), json.dumps(decision), f"decision {name!r}")

    def _decision_file(self, name: str) -> Path:
        return self.folder / f"{slug(name)}.decision.json"

    @property
    def due(self) -> bool:
        """Whether the interval has passed since the last checkpoint."""
        return time.monotonic() - self._saved >= self.interval

    def saved(self) -> None:
        """Restart the interval."""
        self._saved = time.monotonic()

    def write(self, path: Path, content: bytes | str, label: str) -> None:
        """Write a file to the folder; only the first failure is reported."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        except (MbcompressError, OSError) as error:
            if not self._warned:
                self.progress.say(f"cache: {label} was not saved: {error}")
            self._warned = True


class CheckpointFile(Checkpoint):
    """The checkpoint file of one training."""

    def __init__(self, owner: CheckpointFolder, path: Path) -> None:
        self.owner = owner
        self.path = path

    @property
    def due(self) -> bool:  # noqa: D102
        return self.owner.due

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:  # noqa: D102
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
                raise ValueError("its hash does not match")
            tensors = load(body)
            facts = json.loads(bytes(tensors.pop(FACTS).tolist()))
        except (SafetensorError, ValueError, KeyError) as error:
            self.owner.progress.say(f"cache: {self.path} is damaged ({error}); training starts again")
            return None
        self.owner.earlier_seconds = facts.pop("seconds")
        return tensors, facts

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:  # noqa: D102
        content = _content(tensors, {**facts, "seconds": self.owner.seconds})
        self.owner.write(self.path, content, "the training checkpoint")
        self.owner.saved()


def _content(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    import torch
    from safetensors.torch import save

    text = torch.frombuffer(bytearray(json.dumps(facts), "utf-8"), dtype=torch.uint8)
    # copies, because safetensors rejects tensors that share storage, such as tied weights
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    body = save({**plain, FACTS: text})
    return body + hashlib.sha256(body).digest()
