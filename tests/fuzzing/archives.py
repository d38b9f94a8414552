"""Damaged .npz files, read by `arrays`, and damaged files of CIFAR-10."""

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from mbcompress_data import cifar_binary
from mbcompress_data.arrays import Arrays
from mbcompress_data.cifar10 import Cifar10
from pydantic import ValidationError

from fuzzing import damage
from fuzzing.checkpoints import Payload, archived
from fuzzing.suites import Reading
from mbcompress.contract.validation import first_problem
from mbcompress.errors import MbcompressError

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
SHAPES = ("(20, 8, 8)", "(20,)", "()", "(0, 8, 8)", "(20, 8, 8, 3)", "(-1, 8)", "(2**70,)", "(4611686018427387904, 4)", "(1280, 1, 1)", "(True,)",
          "(20, 8, 8", "x", "(0, 99999999999999999999)", "(" + "1, " * 40 + ")")  # fmt: skip
DTYPES = ("|u1", "<i8", ">u2", "|O", "<f4", "|S9", "<U9", "<c8", "<M8[s]", "|V8", "[('a', '<i8')]", "<i99", "", "|b1")


def load(build: Callable[[], Arrays | Cifar10], shape: tuple[int, int, int]) -> None:
    """Options and then files, as a recipe's reader and the run treat them."""
    try:
        dataset = build()
    except ValidationError as error:
        raise MbcompressError(str(first_problem(error, Arrays))) from None
    dataset.load(shape, 0)


class Archives:
    """Members, their compression, headers and names; and plain bytes."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        images, labels = random.integers(0, 256, (20, 8, 8), np.uint8), np.arange(20) % 2
        self.undivided = {"images": images, "labels": labels}
        self.divided = {f"{part}_{name}": each for part in ("train", "test") for name, each in self.undivided.items()}

    def prepare(self, random: Random, folder: Path) -> Reading:
        path = folder / "x.npz"
        arrays = random.choice((self.undivided, self.divided))
        content = _packed(random, {f"{name}.npy": _npy(each) for name, each in arrays.items()})
        path.write_bytes(damage.in_bytes(random, content) if random.random() < 0.5 else content)
        shape = random.choice(
            ((3, 16, 16), (1, 8, 8), (3, 512, 512), (2, 8, 8)) if random.random() < 0.1 else ((3, 16, 16),)
        )
        return lambda: load(lambda: Arrays(path=path, calibration=1), shape)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _packed(random: Random, files: dict[str, bytes]) -> bytes:
    name = random.choice(list(files))
    entries = list(files.items())
    match random.randrange(8):
        case 0:
            files[name] = _with_header(random, files[name])
            entries = list(files.items())
        case 1:
            entries = [(each, damage.in_bytes(random, body) if each == name else body) for each, body in entries]
        case 2:
            entries.append(
                (random.choice(("../payload.npy", "/payload", "C:\\payload", "a/../../payload", "images.npy")), b"x")
            )
        case 3:
            entries.append((name, files[name][:100]))
        case 4:
            objects = pickle.dumps(np.array([Payload()], object), 2)
            head = b"{'descr': '|O', 'fortran_order': False, 'shape': (20,), }".ljust(117) + b"\n"
            entries = [
                (each, b"\x93NUMPY\x01\0\x76\0" + head + objects if each == name else body) for each, body in entries
            ]
        case 5:  # compresses a thousandfold
            entries = [(each, body + bytes(30_000_000) if each == name else body) for each, body in entries]
            return archived(entries, zipfile.ZIP_DEFLATED)
    return archived(entries, random.choice(METHODS))


def _with_header(random: Random, content: bytes) -> bytes:
    text = f"{{'descr': {random.choice(DTYPES)!r}, 'fortran_order': {random.choice(('True', 'False', '3'))}, 'shape': {random.choice(SHAPES)}, }}"
    head = random.choice(
        (text, text, text, "(" * 3000, "[" * 300, "9" * 9000, "__import__('os').system('touch payload')")
    )
    body = head.encode().ljust(117) + b"\n"
    version = random.choice((b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\xff\xff"))
    length = len(body).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + body + content[128:]


class CifarFiles:
    """The six binary files with fewer records than the real ones, which is what the reader is told."""

    RECORDS = 20

    def __init__(self, folder: Path) -> None:
        self.whole = folder / "cifar"
        self.whole.mkdir()
        records = np.random.default_rng(0).integers(0, 256, (self.RECORDS, cifar_binary.RECORD_BYTES), np.uint8)
        records[:, 0] %= 10
        for name in (*cifar_binary.TRAIN, cifar_binary.TEST):
            (self.whole / name).write_bytes(records.tobytes())

    def prepare(self, random: Random, folder: Path) -> Reading:
        cifar = Path(shutil.copytree(self.whole, folder / "cifar"))
        path = cifar / random.choice([*cifar_binary.TRAIN, cifar_binary.TEST])
        match random.randrange(5):
            case 0:
                path.unlink()
            case 1:
                path.unlink()
                path.mkdir()
            case 2:
                path.rename(path.with_suffix(""))
            case _:
                path.write_bytes(damage.in_bytes(random, path.read_bytes()))

        def read() -> None:
            before, cifar_binary.RECORDS = cifar_binary.RECORDS, self.RECORDS
            try:
                load(lambda: Cifar10(path=cifar, calibration=1), (3, 32, 32))
            finally:
                cifar_binary.RECORDS = before

        return read
