"""Files of weights: fetched once, checked by their digest, and read without running what is in them."""

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import IO

import httpx
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from servicekit.logs import without_secrets
from servicekit.whole_files import written_whole
from torch import Tensor

from inference_service.ending import Ending
from inference_service.model import ModelUnavailable

_TIMEOUT = httpx.Timeout(30.0)
_CHUNK_BYTES = 1 << 20
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""Of a bearer, as RFC 6750 section 2.1 has it."""

_PACKED_BYTES = 1 << 20
"""What an archive may unfold to beyond its size: a TorchScript program, refused in words of its own, packs its code."""


def fetch(url: str, path: Path, *, sha256: str, token_file: Path | None = None, ending: Ending | None = None) -> str:
    """Make sure that the file of `url` is at `path`, and return its SHA-256.

    `sha256` is what that must be or begin with. A file that is there already is not fetched. The server is shown
    what stands in `token_file`; one that it leads to elsewhere is not.

    Raises:
        ModelUnavailable: it cannot be fetched or written, or is another file; or there is no token in `token_file`.
        ServiceEnds: the service ends meanwhile.
    """
    if path.exists():
        return check_digest(path, sha256=sha256)
    shown = without_secrets(url)
    headers = {"Authorization": f"Bearer {_read_token(token_file)}"} if token_file else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            _download(url, headers, file.write, ending or Ending())
            file.flush()
            digest = check_digest(Path(file.name), sha256=sha256, shown=shown)
    except httpx.HTTPStatusError as error:
        reason = f"the server answered {error.response.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        return digest
    raise ModelUnavailable(f"cannot fetch {shown}: {reason}; without a network, put the file at {path}")


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ModelUnavailable(f"cannot read token_file {path}: {error.strerror}") from None
    except UnicodeError:
        token = ""
    if not _TOKEN.fullmatch(token):
        raise ModelUnavailable(f"token_file {path} must hold one bearer token, and nothing else")
    return token


def _download(url: str, headers: Mapping[str, str], write: Callable[[bytes], object], ending: Ending) -> None:
    with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes(_CHUNK_BYTES):
            ending.check()
            write(chunk)


def check_digest(path: Path, *, sha256: str | None, shown: str | None = None) -> str:
    """Return the SHA-256 of a file.

    Raises:
        ModelUnavailable: it cannot be read, or its digest does not begin with `sha256`.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelUnavailable(f"cannot read {path}: {error.strerror}") from None
    if sha256 and not digest.startswith(sha256):
        raise ModelUnavailable(f"{shown or path} has the SHA-256 {digest}, not {sha256}")
    return digest


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a safetensors file or of a state dict, on the CPU.

    Raises:
        ModelUnavailable: it is damaged, or holds anything but tensors: no code of it runs.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb") as file:
            refuse_packed(file, path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelUnavailable(f"cannot read {path}: {error.strerror or first_line(error)}") from None
    except UnpicklingError:
        # torch's own message says how to switch the check off.
        advice = "save the model's state_dict()"
        raise ModelUnavailable(f"{path} is not a state dict: it holds more than tensors; {advice}") from None
    except (
        zipfile.BadZipFile,
        SafetensorError,
        EOFError,
        RuntimeError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
    ) as error:
        if "TorchScript" in str(error):  # and its message, too
            advice = "save the model's state_dict(), or the program of torch.export"
            raise ModelUnavailable(f"{path} is a TorchScript program; {advice}") from None
        raise ModelUnavailable(f"{path} is damaged: {first_line(error)}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelUnavailable(f"{path} is not a state dict: expected tensors by name")
    return state


def refuse_packed(file: IO[bytes], path: Path) -> None:
    """Check that the records of an archive are no longer together than the file is: torch makes room for what they say.

    Raises:
        ModelUnavailable: a record is compressed, or there by several names.
    """
    size = file.seek(0, os.SEEK_END)
    if not zipfile.is_zipfile(file):
        return  # what else it is torch finds out
    with zipfile.ZipFile(file) as archive:
        if sum(record.file_size for record in archive.infolist()) > size + _PACKED_BYTES:
            raise ModelUnavailable(f"{path} is packed: torch writes its files as they are")


def first_line(error: Exception) -> str:
    """Return what an error says, short: libraries append advice and tables."""
    return str(error).partition("\n")[0] or type(error).__name__
