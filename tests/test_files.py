"""Files and run directories appear whole or not at all."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from mbcompress.checkpoint.manifest import write_manifest
from mbcompress.errors import MbcompressError
from mbcompress.files import sha256, write_atomically, write_json
from mbcompress.pipeline.run_directory import default_directory, provisional


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_write(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    write_atomically(path, "größer")
    assert path.read_bytes() == "größer".encode()
    write_atomically(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["f.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_failure_in_the_middle(
    where: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old content stays, and no temporary file."""
    path = tmp_path / "f.txt"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        assert len(names(tmp_path)) == 2  # what was there, and the file that is being written
        raise error

    monkeypatch.setattr(*((os, "fsync", fail) if where == "fsync" else (Path, "replace", fail)))
    with pytest.raises(MbcompressError if isinstance(error, OSError) else type(error)):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["f.txt"]


def test_failure_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(MbcompressError, match=r"f\.txt: cannot be written: No such file or directory"):
        write_atomically(tmp_path / "absent" / "f.txt", "new")
    assert names(tmp_path) == []


def test_content_reaches_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("fsync"), fsync(number)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), replace(self, target)))
    write_atomically(tmp_path / "f.txt", "new")
    assert order == ["fsync", "rename"]


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_json(path, {"a": [1, None, "ü"]})
    assert json.loads(path.read_text()) == {"a": [1, None, "ü"]}
    for number in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(path, {"a": number})
    assert json.loads(path.read_text()) == {"a": [1, None, "ü"]}
    assert names(tmp_path) == ["f.json"]


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_manifest(tmp_path: Path) -> None:
    (tmp_path / "passes" / "01-prune").mkdir(parents=True)
    contents = {"model.onnx": b"\x00" * 100_000, "report.json": b"{}", "passes/01-prune/metrics.json": b"[]"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    write_manifest(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["files"] == [
        {"path": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(contents.items())
    ]


def test_provisional(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    with provisional(run) as partial:
        assert partial.parent == run  # a rename within one file system, be `run` a mount point or not
        (partial / "report.json").write_text("{}")
    assert names(run) == ["report.json"]
    assert names(run.parent) == ["a"]


def test_provisional_takes_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with provisional(tmp_path / "a") as partial:
        (partial / "f").touch()
    assert names(tmp_path / "a") == ["f"]


def test_provisional_takes_a_link_to_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    with provisional(tmp_path / "link") as partial:
        (partial / "f").touch()
    assert names(tmp_path / "a") == ["f"]


def test_provisional_is_claimed_while_it_lasts(tmp_path: Path) -> None:
    with provisional(tmp_path / "a") as partial:
        second = provisional(tmp_path / "a")
        with pytest.raises(MbcompressError, match="another run is writing there; choose another --out"), second:
            pass
        (partial / "f").touch()
    assert names(tmp_path / "a") == ["f"]


def killed(directory: Path) -> None:
    """As a process leaves it that was killed: its lock is given up, its files stay."""
    (directory / ".partial" / "passes").mkdir(parents=True)
    (directory / ".partial" / "passes" / "f").touch()
    (directory / ".lock").touch()


@pytest.mark.parametrize("path", ["../x", "./x", "..", "/etc/x", ""])
def test_a_manifest_from_elsewhere_removes_nothing_of_others(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks like a run that was killed may have been unpacked from an archive."""
    monkeypatch.chdir(tmp_path)
    unpacked = tmp_path / "runs" / "v2-20260101-000000"
    killed(unpacked)
    (unpacked / ".partial" / "manifest.json").write_text(json.dumps({"files": [{"path": path}]}))
    (tmp_path / "runs" / "precious").mkdir()
    assert default_directory("v2").name == unpacked.name
    with provisional(Path("runs") / unpacked.name) as partial:
        (partial / "f").touch()
    assert names(tmp_path / "runs") == ["precious", unpacked.name]
    assert names(unpacked) == ["f"]


def test_a_killed_run_is_taken_over_by_its_own_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    killed(tmp_path / "runs" / "v2-8bit-20260101-000000")
    assert default_directory("v2").name != "v2-8bit-20260101-000000"
    killed(tmp_path / "runs" / "v2-20260101-000000-2")
    assert default_directory("v2").name == "v2-20260101-000000-2"


def test_provisional_takes_over_what_a_killed_run_has_left(tmp_path: Path) -> None:
    killed(tmp_path / "a")
    with provisional(tmp_path / "a") as partial:
        assert list(partial.iterdir()) == []
        (partial / "g").touch()
    assert names(tmp_path / "a") == ["g"]


def test_provisional_takes_over_what_was_killed_while_its_files_were_moved(tmp_path: Path) -> None:
    killed(tmp_path / "a")
    (tmp_path / "a" / "passes").mkdir()
    (tmp_path / "a" / "passes" / "f").touch()
    (tmp_path / "a" / "report.json").touch()
    write_json(
        tmp_path / "a" / ".partial" / "manifest.json", {"files": [{"path": "report.json"}, {"path": "passes/f"}]}
    )
    (tmp_path / "a" / "mine").touch()
    with pytest.raises(MbcompressError, match="is not empty"), provisional(tmp_path / "a"):
        pass
    assert names(tmp_path / "a") == [".lock", ".partial", "mine", "passes", "report.json"]
    (tmp_path / "a" / "mine").unlink()
    with provisional(tmp_path / "a") as partial:
        (partial / "g").touch()
    assert names(tmp_path / "a") == ["g"]


def test_provisional_that_fails_after_a_killed_run_leaves_nothing(tmp_path: Path) -> None:
    killed(tmp_path / "a")
    with pytest.raises(MbcompressError), provisional(tmp_path / "a"):
        raise MbcompressError("no")
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [MbcompressError("no"), RuntimeError("bug"), KeyboardInterrupt(), SystemExit(1)])
def test_provisional_goes_away(error: BaseException, tmp_path: Path) -> None:
    def run() -> None:
        with provisional(tmp_path / "a") as partial:
            (partial / "passes").mkdir()
            (partial / "passes" / "f").touch()
            raise error

    with pytest.raises(type(error)):
        run()
    assert names(tmp_path) == []


def test_provisional_leaves_an_empty_directory_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(MbcompressError), provisional(tmp_path / "a"):
        raise MbcompressError("no")
    assert names(tmp_path) == ["a"]


def test_provisional_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full" / "inner").mkdir(parents=True)
    for directory in (tmp_path / "file", tmp_path / "full"):
        with pytest.raises(MbcompressError) as failure, provisional(directory):
            pass
        assert str(failure.value) == f"{directory}: is not empty; choose another --out, or empty it first"
    below = tmp_path / "file" / "run"
    with pytest.raises(MbcompressError) as failure, provisional(below):
        pass
    assert str(failure.value) == f"{below}: cannot be written: Not a directory"
    assert names(tmp_path) == ["file", "full"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_provisional_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MbcompressError, match="cannot be written: Permission denied"), provisional(tmp_path / "a"):
        pass


def test_provisional_with_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(MbcompressError, match="File name too long"), provisional(tmp_path / ("a" * 300)):
        pass


def test_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = default_directory("v2_int8")
    assert first.parent == Path("runs")
    assert first.name.startswith("v2_int8-")
    first.mkdir(parents=True)
    assert default_directory("v2_int8") != first
    killed(Path("runs/v2_int8-20260101-000000"))
    assert default_directory("v2_int8") == Path("runs/v2_int8-20260101-000000")
    assert default_directory("v2") != Path("runs/v2_int8-20260101-000000")
    with provisional(Path("runs/v2_int8-20260101-000000")):  # no longer dead
        assert default_directory("v2_int8") != Path("runs/v2_int8-20260101-000000")
