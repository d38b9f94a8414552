"""Turns what passes print into lines with the name of the pass, so that progress bars and JSON stay intact."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import ReadableBuffer


class _Lines(io.RawIOBase):
    """Calls `say` with every finished line; of a line with carriage returns, with its last state."""

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
        """Call `say` with an unfinished last line."""
        self._finish(self.rest)
        self.rest = b""

    def _finish(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip().rpartition("\r")[2].expandtabs()
        text = "".join(character for character in text if character.isprintable())
        if text:
            self.say(text)


@contextmanager
def lines_of(speaker: str, say: Callable[[str], None]) -> Iterator[None]:
    """Redirect standard output and error of the block to lines `speaker: …`; not with MBCOMPRESS_DEBUG=1.

    A library that writes to the file descriptors itself is not redirected.
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
        stream.flush()  # not closed: a logger of the pass may still hold it
        lines.end()
