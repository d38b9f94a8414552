"""Whether finding a plugin imports torch: tried in a process of its own, in which no other plugin is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from mbcompress.registry.discovery import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mbcompress.registry.registry import Origin, Registry

PROGRAM = """
import json, sys
found = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            frame = sys._getframe(1)
            while frame and frame.f_code.co_filename.startswith("<frozen importlib"):
                frame = frame.f_back
            found.append(f"{frame.f_code.co_filename}, line {frame.f_lineno}" if frame else "?")
            raise ImportError("torch is not to be imported at discovery")
sys.meta_path.insert(0, Watch())
from mbcompress.registry.discovery import discover
for kind in discover().kinds:
    for cls, _ in kind:
        cls.model_json_schema
print(json.dumps(found))
"""


def check_discovery(origin: Origin, registry: Registry) -> Iterator[str]:
    """Loading the plugin and asking it what it offers imports no torch."""
    others = {each.plugin for each in registry.plugins} - {origin.plugin}
    environment = {
        **os.environ,
        BLOCK: ",".join([os.environ.get(BLOCK, ""), *sorted(others)]),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        yield f"loading it alone ends Python with {ended.returncode}: {ended.stderr.strip().splitlines()[-1:]}"
        return
    for place in json.loads(ended.stdout.splitlines()[-1]):
        yield f"imports torch when it is discovered ({place}); import it inside the functions that need it"
