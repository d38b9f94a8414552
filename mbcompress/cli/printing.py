"""Prefix output printed by passes with the pass's name, without breaking progress bars and JSON."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import ReadableBuffer


class _Lines(io.RawIOBase):
    """Calls `say` with each complete line; after carriage returns, with the last state of the line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.rest = b""

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        written = bytes(data)
        *lines, self.rest = (self.rest + written).split(b"\n")
        for line in lines:
            self._finish(line)
        return len(written)

    def end(self) -> None:
        """Call `say` with an incomplete last line."""
        self._finish(self.rest)
        self.rest = b""

    def _finish(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip().rpartition("\r")[2].expandtabs()
        text = "".join(character for character in text if character.isprintable())
        if text:
            self.say(text)


@contextmanager
def lines_of(speaker: str, say: Callable[[str], None]) -> Iterator[None]:
    """Redirect stdout and stderr of the block to lines `speaker: …`, unless MBCOMPRESS_DEBUG=1.

    Output written directly to the file descriptors is not redirected.
    """
    if os.environ.get("MBCOMPRESS_DEBUG"):  # a debugger in a pass needs the terminal
        yield
        return
    lines = _Lines(lambda text: say(f"{speaker}: {text}"))
    stream = io.TextIOWrapper(io.BufferedWriter(lines), encoding="utf-8", errors="replace", line_buffering=True)
    try:
        with redirect_stdout(stream), redirect_stderr(stream):
            yield
    finally:
        stream.flush()  # not closed, because a logger may still use it
        lines.end()
