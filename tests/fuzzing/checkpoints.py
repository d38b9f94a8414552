"""Damaged and hostile PyTorch checkpoints: the zip, the pickle inside it, the pickle alone, and odd but sound ones."""

import io
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from random import Random
from typing import Any

import torch

from fuzzing import damage
from fuzzing.safetensors_files import as_weights, network
from fuzzing.suites import Reading

PAYLOADS = (
    b"cos\nsystem\nX\x0d\x00\x00\x00touch payload\x85R0",
    b"cbuiltins\nopen\nX\x07\x00\x00\x00payloadX\x01\x00\x00\x00w\x86R0",
    b"cbuiltins\nexec\nX\x1b\x00\x00\x00open('payload','w').close()\x85R0",
    b"(X\x07\x00\x00\x00payloadX\x01\x00\x00\x00wibuiltins\nopen\n0",
    b"ctorch.serialization\nload\nX\x01\x00\x00\x00x\x85R0",
    b"ctorch\nload\nX\x01\x00\x00\x00x\x85R0",
    b"ctorch.hub\ndownload_url_to_file\nX\x01\x00\x00\x00xX\x07\x00\x00\x00payload\x86R0",
    b"ctorch.storage\n_load_from_bytes\nC\x01x\x85R0",
    b"cposixpath\njoin\n)R0",
    b"c__main__\nX\n)R0",
)


class Payload:
    """Unpickling it writes a file into the working directory."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch payload",)


def saved(content: object, *, zipped: bool = True) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue() if zipped else _without_addresses(buffer.getvalue())


def _without_addresses(content: bytes) -> bytes:
    """The same with small numbers for the addresses that name storages in the older format, the same in every process."""
    names: dict[bytes, bytes] = {}
    return re.sub(
        rb"\d{12,}",
        lambda found: names.setdefault(found[0], str(len(names)).encode().zfill(len(found[0]))),
        content,
    )


def members(content: bytes) -> dict[str, bytes]:
    """What a zip holds."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these, with repetitions if there are any."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of repetitions
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def write(random: Random, folder: Path, content: bytes) -> Reading:
    """The checkpoint as a file."""
    path = folder / random.choice(("w.pt", "w.pt", "w.pth", "w.bin"))
    path.write_bytes(content)
    return as_weights(random, path)


class Checkpoints:
    """Bytes of a checkpoint, zipped or of the older kind."""

    def __init__(self) -> None:
        state = network().state_dict()
        self.wholes = [saved(state), saved({"state_dict": state, "epoch": 3}), saved(state, zipped=False)]

    def prepare(self, random: Random, folder: Path) -> Reading:
        return write(random, folder, damage.in_bytes(random, random.choice(self.wholes)))


class Pickles:
    """The pickle inside a sound zip, and zips with other members than PyTorch writes."""

    def __init__(self) -> None:
        self.members = members(saved(network().state_dict()))
        self.alone = pickle.dumps({"a": [1, 2.5, "x", None], "b": Payload()}, 2)

    def prepare(self, random: Random, folder: Path) -> Reading:
        if random.random() < 0.05:
            return write(random, folder, damage.in_bytes(random, self.alone))
        entries = dict(self.members)
        name = next(each for each in entries if each.endswith("data.pkl"))
        entries[name] = _in_pickle(random, entries[name])
        listed = list(entries.items())
        method = zipfile.ZIP_STORED
        match random.randrange(8):
            case 0:
                method = random.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            case 1:
                listed.append((random.choice(("../payload", "/payload", "a/../../payload", "\\payload")), b"x"))
            case 2:
                listed.remove(random.choice(listed))
            case 3:
                listed.append((random.choice(listed)[0], b"x"))
            case 4:
                at = random.randrange(len(listed))
                listed[at] = (listed[at][0], random.choice((b"", b"x", listed[at][1] * 3)))
        return write(random, folder, archived(listed, method))


def _in_pickle(random: Random, content: bytes) -> bytes:
    """Between opcodes, at their arguments, or anywhere."""
    starts = [position or 0 for _, _, position in pickletools.genops(content)][2:]
    at = random.choice(starts)
    match random.randrange(6):
        case 0:
            return content[:at] + random.choice(PAYLOADS) + content[at:]
        case 1:
            return content[:at] + pickle.dumps(Payload(), 2)[2:-1] + b"0" + content[at:]
        case 2:  # an integer, as all sizes and strides are
            places = [
                position or 0 for code, _, position in pickletools.genops(content) if code.name in ("BININT1", "BININT")
            ]
            place = random.choice(places)
            size = 2 if content[place : place + 1] == b"K" else 5
            number = random.choice(damage.SIZES)
            return content[:place] + b"\x8a\x09" + number.to_bytes(9, "little") + content[place + size :]
        case 3:
            end = random.choice([start for start in starts if start >= at])
            return content[:at] + content[end:]
        case 4:
            end = random.choice([start for start in starts if start >= at])
            return content[:at] + content[at:end] * 2 + content[end:]
    return damage.in_bytes(random, content)


class Strange:
    """What torch.save writes of things that are no state dict, or are one of strange tensors."""

    def __init__(self) -> None:
        state = network().state_dict()
        key = "0.weight"
        sound = state[key]
        tensors = (
            sound.to_sparse(), sound.to("meta"), torch.zeros(1).expand(10**6, 10**6), sound.to(torch.complex64),
            torch.quantize_per_tensor(sound, 0.1, 0, torch.qint8), sound.bool(), sound.half(), sound.to(torch.float8_e5m2),
            torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), torch.tensor([]), sound.transpose(0, 1), sound[0],
            sound.conj(), torch.zeros(4, 3, 3, 3, requires_grad=True), torch.full((4, 3, 3, 3), float("nan")),
            sound.to_mkldnn(), torch.zeros(2, 2).to_sparse_csr(), torch.zeros(64, dtype=torch.uint16),
        )  # fmt: skip
        others = (
            None, 3, [], "x", {}, sound, [sound], {"model": {}}, {"state_dict": {"x": 3}}, {"state_dict": None}, OrderedDict(),
            {3: sound}, {None: sound}, {("a", 1): sound}, {"module." * 9: sound}, {"\ud800": sound}, {"a\nb" * 99: sound},
            {"model": state, "state_dict": {"state_dict": {"model": state}}}, torch.Size([1]), torch.float32, Payload(),
            {"state_dict": state, "x": Payload()}, {str(n): torch.zeros(10**6).expand(1000, 10**6) for n in range(50)},
        )  # fmt: skip
        contents: list[object] = [{**state, key: each} for each in tensors]
        contents += [{"state_dict": {**state, key: each}} for each in tensors]
        self.wholes = [each for content in (*contents, *others) for each in _kinds(content)]

    def prepare(self, random: Random, folder: Path) -> Reading:
        whole = random.choice(self.wholes)
        return write(random, folder, whole if random.random() < 0.7 else damage.in_bytes(random, whole))


def _kinds(content: object) -> list[bytes]:
    """The same zipped and not, where PyTorch can write it."""
    found = []
    for zipped in (True, False):
        try:
            found.append(saved(content, zipped=zipped))
        except Exception:  # some tensors cannot be saved one way or the other
            continue
    return found
