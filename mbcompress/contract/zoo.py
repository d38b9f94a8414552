"""Bundled pretrained weights: `NAME.safetensors` with a card `NAME.json` that describes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbcompress.errors import first_line, shown, unknown

PREFIX = "zoo:"


class Zoo:
    """A directory of pretrained weights with cards.

    A card contains `model`, the options of the matching model source, and any information about training.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        """Return the names that can follow `zoo:`."""
        return sorted(path.stem for path in self.directory.glob("*.safetensors"))

    def locate(self, reference: str) -> Path:
        """Return the path of `zoo:NAME` or of a weights file.

        Raises:
            ValueError: the file or name does not exist.
        """
        if reference.startswith(PREFIX):
            name = reference.removeprefix(PREFIX)
            if name not in self.names():
                raise ValueError(unknown("bundled weights", name, self.names()))
            return self.directory / f"{name}.safetensors"
        try:
            path = Path(reference).expanduser()
            is_directory, is_file = path.is_dir(), path.is_file()
        except (OSError, RuntimeError) as error:  # a name that is too long, or `~user` of an unknown user
            problem = getattr(error, "strerror", None) or first_line(error)
            raise ValueError(f"cannot look for {shown(reference)}: {problem}") from None
        if is_directory:
            raise ValueError(f"{shown(reference)} is a directory; name a .safetensors file or a PyTorch checkpoint")
        if not is_file:
            raise ValueError(f"no such file {shown(reference)}; name a weights file, or bundled weights as 'zoo:NAME'")
        return path

    def card(self, name: str) -> dict[str, Any]:
        """Return the card of `zoo:NAME`."""
        content: dict[str, Any] = json.loads((self.directory / f"{name}.json").read_text())
        return content

    def trained_on(self, reference: str | None) -> dict[str, Any] | None:
        """Return name and options of the dataset that `zoo:NAME` was trained on; None for other weights."""
        data: dict[str, Any] | None = self._card_of(reference).get("data")
        return data

    def check(self, reference: str | None, options: Mapping[str, Any]) -> None:
        """Raise ValueError if `zoo:NAME` was trained with different options."""
        for key, trained in self._card_of(reference).get("model", {}).items():
            if options.get(key, trained) != trained:
                raise ValueError(
                    f"bundled weights {reference!r} were trained with {key} {shown(trained)}, got {shown(options[key])}"
                )

    def _card_of(self, reference: str | None) -> dict[str, Any]:
        """Return the card of `zoo:NAME`; empty for other weights."""
        return self.card(reference.removeprefix(PREFIX)) if reference and reference.startswith(PREFIX) else {}
