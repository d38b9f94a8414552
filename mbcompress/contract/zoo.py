"""Weights that a plugin ships: `NAME.safetensors` beside `NAME.json`, the card that says what they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbcompress.errors import first_line, shown, unknown

PREFIX = "zoo:"


class Zoo:
    """A directory of weights with cards.

    A card holds `model`, the options of the model source that the weights fit, and free information about how they
    were made.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        """Names that `zoo:` accepts."""
        return sorted(path.stem for path in self.directory.glob("*.safetensors"))

    def locate(self, reference: str) -> Path:
        """File of `zoo:NAME`, or of a path.

        Raises:
            ValueError: there is no such file or name.
        """
        if reference.startswith(PREFIX):
            name = reference.removeprefix(PREFIX)
            if name not in self.names():
                raise ValueError(unknown("zoo weights", name, self.names()))
            return self.directory / f"{name}.safetensors"
        try:
            path = Path(reference).expanduser()
            is_directory, is_file = path.is_dir(), path.is_file()
        except (OSError, RuntimeError) as error:  # a name too long, or the home of nobody
            problem = getattr(error, "strerror", None) or first_line(error)
            raise ValueError(f"cannot look for {shown(reference)}: {problem}") from None
        if is_directory:
            raise ValueError(f"{shown(reference)} is a directory; name a .safetensors file or a PyTorch checkpoint")
        if not is_file:
            raise ValueError(f"no such file {shown(reference)}; name a weights file, or one of the zoo as 'zoo:NAME'")
        return path

    def card(self, name: str) -> dict[str, Any]:
        """What is known about `zoo:NAME`."""
        content: dict[str, Any] = json.loads((self.directory / f"{name}.json").read_text())
        return content

    def trained_on(self, reference: str | None) -> dict[str, Any] | None:
        """Name and options of the dataset behind `zoo:NAME`; None for weights from elsewhere."""
        if reference is None or not reference.startswith(PREFIX):
            return None
        data: dict[str, Any] | None = self.card(reference.removeprefix(PREFIX)).get("data")
        return data

    def check(self, reference: str | None, options: Mapping[str, Any]) -> None:
        """Raise ValueError where `zoo:NAME` was trained with other options than these."""
        if reference is None or not reference.startswith(PREFIX):
            return
        name = reference.removeprefix(PREFIX)
        for key, trained in self.card(name)["model"].items():
            if options.get(key, trained) != trained:
                raise ValueError(
                    f"zoo weights {name!r} were trained with {key} {shown(trained)}, got {shown(options[key])}"
                )
