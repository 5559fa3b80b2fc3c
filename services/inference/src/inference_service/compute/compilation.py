"""Networks compiled ahead of time with torch's Inductor, in a process of its own.

That bounds the time, which a thread cannot, and keeps the compiler's memory out of the service. What comes
of it is a library for this machine: it is kept in a folder of the service and loaded in seconds.
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import torch
from servicekit.whole_files import partial_folder

from inference_service.compute.packing import Batches, pack_constants
from inference_service.compute.torch_warnings import settle_warning
from inference_service.compute.tracing import tracing_lock
from inference_service.ending import Ending, ServiceEnds
from inference_service.model import Model, ModelUnavailable, batch_sizes
from inference_service.weights import first_line

LEAST_SECONDS = 60.0
"""How long a search has to be at least for a compilation: a ResNet-50 takes 33 s on two cores that do nothing else."""

_LOOKS_EVERY_SECONDS = 0.1


def missing_compiler() -> str | None:
    """Return what is missing to compile, or None."""
    name = os.environ.get("CXX", "g++")
    return None if shutil.which(name) else f"there is no C++ compiler ({name})"


def compile_network(
    model: Model, path: Path, *, max_batch_size: int, seconds: float, ending: Ending | None = None
) -> None:
    """Write the library of a model's network, for batches of any size up to `max_batch_size`, to `path`.

    Raises:
        ModelUnavailable: it cannot be compiled, or not within `seconds`.
        ServiceEnds: the service ends meanwhile.
    """
    side = model.preprocessing.input_size
    images = torch.zeros(max(2, max_batch_size), 3, side, side, dtype=model.dtype)
    sizes = ({0: torch.export.Dim("images", min=1, max=max_batch_size)},) if max_batch_size > 1 else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(path.parent) as folder, torch.no_grad():
            program, library = folder / "program.pt2", folder / "library.so"
            example = images[:max_batch_size].contiguous(memory_format=torch.channels_last)
            with tracing_lock:
                exported = torch.export.export(model.network, (example,), dynamic_shapes=sizes)
            # Of weights whose layout is not torch's own, which channels last is.
            settle_warning("ignore", UserWarning, "No complete tensor found in the group")
            archive = io.BytesIO()  # torch's writer ends the process where it writes to a disk that is full
            torch.export.save(exported, archive)
            program.write_bytes(archive.getbuffer())
            del archive
            _run(program, library, max_batch_size, seconds, ending or Ending())
            library.replace(path)
    except (ModelUnavailable, ServiceEnds):
        raise
    except Exception as error:  # tracing runs the network's own Python, which may raise anything
        raise ModelUnavailable(f"it cannot be compiled: {first_line(error)}") from error


def _run(program: Path, library: Path, max_batch_size: int, seconds: float, ending: Ending) -> None:
    ends_at = time.monotonic() + seconds
    numbers = (str(torch.get_num_threads()), str(max_batch_size))
    command = [sys.executable, "-m", __name__, str(program), str(library), *numbers]
    # What it makes on its way goes with the program: in a pod, /tmp would soon be full.
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(program.with_name("cache"))}
    said = program.with_name("said")
    # A session of its own: the compiler runs in children, which have to end with it.
    with (
        said.open("wb") as errors,
        subprocess.Popen(  # noqa: S603 our own module and files
            command,
            env=environment,
            stdin=subprocess.PIPE,  # by which it learns that the service is gone
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        ) as process,
    ):
        try:
            while process.poll() is None:
                if time.monotonic() > ends_at:
                    raise ModelUnavailable(f"it was not compiled within {seconds:.0f} s")
                ending.sleep(_LOOKS_EVERY_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode < 0:  # a kernel that is short of memory gives no other word
        raise ModelUnavailable(f"the compiler was ended by {signal.Signals(-process.returncode).name}")
    if process.returncode != 0:
        raise ModelUnavailable(f"the compiler failed: {_reason(said.read_text(errors='replace'))}")


def _reason(said: str) -> str:
    """Return the first error of the C++ compiler; else what Python said last, which is what it ended with."""
    found = re.search(r"(fatal )?error: .+", said)
    return found[0] if found else said.rstrip().rpartition("\n")[2]


def main() -> None:
    """Compile a program into a library: the command line names both, the number of threads and the largest batch."""
    from torch._inductor import aoti_compile_and_package

    os.nice(19)  # whoever waits for an answer comes first
    threading.Thread(target=_end_with_service, daemon=True).start()
    program, library = sys.argv[1:3]
    threads, max_batch_size = map(int, sys.argv[3:])
    torch.set_num_threads(threads)
    package = Path(program).with_name("package.pt2")
    with torch.no_grad():
        aoti_compile_and_package(
            torch.export.load(program),
            package_path=str(package),
            inductor_configs={
                "freezing": True,
                # The threads are those of whoever calls: a batch may have all of them, or a part.
                "cpp.dynamic_threads": True,
                "post_grad_custom_pre_pass": partial(
                    pack_constants, batches=Batches(batch_sizes(max_batch_size), range(1, threads + 1))
                ),
                "aot_inductor.precompile_headers": False,  # 290 MB, to be read once
            },
        )
    _unpack(package, Path(library))


def _end_with_service() -> None:
    """End, with the compiler, when the service does, even where it was killed: it holds the other end of the input."""
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGKILL)


def _unpack(package: Path, library: Path) -> None:
    """Take the library out of what torch has made."""
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        if any(name.endswith(".json") and not name.endswith("_metadata.json") for name in names):
            raise SystemExit("it has operators that torch calls through Python")
        [name] = [name for name in names if name.endswith(".so")]
        with archive.open(name) as packed, library.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
            os.fsync(unpacked.fileno())  # half a library would end the process that loads it


if __name__ == "__main__":
    main()
