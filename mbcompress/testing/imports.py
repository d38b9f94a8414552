"""Check that discovery of a plugin does not import torch, in a separate process without other plugins."""

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
places = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            frame = sys._getframe(1)
            while frame and frame.f_code.co_filename.startswith("<frozen importlib"):
                frame = frame.f_back
            places.append(f"{frame.f_code.co_filename}, line {frame.f_lineno}" if frame else "?")
            raise ImportError("torch must not be imported on discovery")
sys.meta_path.insert(0, Watch())
from mbcompress.registry.discovery import discover
for kind in discover().kinds:
    for cls, _ in kind:
        cls.model_json_schema
print(json.dumps(places))
"""


def check_imports(origin: Origin, registry: Registry) -> Iterator[str]:
    """Loading the plugin and calling its hooks does not import torch."""
    others = {other.plugin for other in registry.plugins} - {origin.plugin}
    environment = {
        **os.environ,
        BLOCK: ",".join([os.environ.get(BLOCK, ""), *sorted(others)]),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    if process.returncode:
        yield f"Python exits with {process.returncode} on loading it: {process.stderr.strip().splitlines()[-1:]}"
        return
    for place in json.loads(process.stdout.splitlines()[-1]):
        yield f"imports torch on discovery ({place}); import it inside the functions that need it"
