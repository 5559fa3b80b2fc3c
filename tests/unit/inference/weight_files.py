"""Files of weights that the tests make: small networks, and files that carry code."""

import copy
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = ("red", "green", "blue")


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


class Strongest(nn.Module):
    """Tells which colour a picture has most of, with a weight for each."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * self.weight


def exported(path: Path, network: nn.Module | None = None, *, side: int = 8, any_batch: bool = True) -> Path:
    """Write the program of a small network."""
    sizes = ({0: torch.export.Dim("images", max=64)},) if any_batch else None
    program = torch.export.export(
        (network or Strongest()).eval(), (torch.rand(2 if any_batch else 1, 3, side, side),), dynamic_shapes=sizes
    )
    torch.export.save(program, path)
    return path


def rewritten(source: Path, target: Path, record: str, change: Callable[[bytes], bytes]) -> Path:
    """Copy an archive with one record changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info.filename, change(data) if info.filename.endswith(record) else data)
    return target


def packed(source: Path, target: Path, record: str) -> Path:
    """Copy an archive with a record made of 64 MB of zeros, in 64 kB."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            if info.filename.endswith(record):
                new.writestr(info.filename, bytes(64 << 20), zipfile.ZIP_DEFLATED)
            else:
                new.writestr(info.filename, old.read(info))
    return target


def repeated(source: Path, target: Path, record: str) -> Path:
    """Copy an archive with a record listed a thousand times over, by other names."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
        [kept] = [info for info in new.filelist if info.filename.endswith(record)]
        for number in range(1000):
            again = copy.copy(kept)
            again.filename = f"{kept.filename}{number}"
            new.filelist.append(again)
    return target


def rewritten_json(source: Path, target: Path, record: str, change: Callable[[Any], object]) -> Path:
    """Copy an archive with one JSON record changed in place."""

    def through_json(data: bytes) -> bytes:
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return rewritten(source, target, record, through_json)
