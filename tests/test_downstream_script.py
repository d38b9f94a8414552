"""The script of the documentation runs as it stands: its own module, its own loaders, fewer than 25 lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
SCRIPT = DOCS / "downstream.py"


def test_the_page_shows_the_script() -> None:
    assert f"```python\n{SCRIPT.read_text()}```" in (DOCS / "models_and_data.md").read_text()


def test_the_documented_script_runs_as_it_stands(tmp_path: Path) -> None:
    assert len(SCRIPT.read_text().splitlines()) < 25
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (report,) = (tmp_path / "runs").glob("*/report.json")
    content = json.loads(report.read_text())
    assert done.stdout.split() == [
        str((report.parent / "model.onnx").relative_to(tmp_path)),
        str(content["ratio"]["size"]),
        str(content["result"]["accuracy"]["top1"]["value"]),
    ]
    assert content["result"]["accuracy"]["top1"]["value"] > 0.9
    assert content["result"]["convolutions"] == {"total": 2, "int8": 2}
    assert content["data"]["images"] == {"train": 322, "calibration": 128, "validation": 50, "test": 500}
