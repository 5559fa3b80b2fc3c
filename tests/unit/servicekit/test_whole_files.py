import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servicekit.whole_files import sweep, written_whole


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    with written_whole(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_its_owner_alone_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with written_whole(path) as file:
        file.write(b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_left_of_what_was_not_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        _write_a_part(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def _write_a_part(path: Path) -> None:
    with written_whole(path) as file:
        file.write(b"ne")
        raise KeyboardInterrupt


WRITES = {
    "file": "written_whole(Path({path!r}) / 'kept')",
    "folder": "partial_folder(Path({path!r}))",
}


@pytest.mark.parametrize("kind", WRITES)
def test_what_was_being_written_is_swept_once_its_process_has_been_killed(kind: str, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from servicekit.whole_files import partial_folder, written_whole
with {WRITES[kind].format(path=str(tmp_path))} as partial:
    if {kind == "folder"}:
        (partial / "part").write_bytes(b"of it")
    print("there", flush=True)
    input()
"""
    (tmp_path / ".hidden").write_bytes(b"of somebody else")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"there\n"
        _make_old(tmp_path)
        sweep(tmp_path)
        while_written = len(list(tmp_path.iterdir()))
        writer.kill()
    sweep(tmp_path)
    assert while_written == 2
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]


def test_what_was_written_to_lately_is_not_swept(tmp_path: Path) -> None:
    young = tmp_path / ".kept.abc.partial"
    young.touch()
    sweep(tmp_path)
    assert young.exists()
    _make_old(tmp_path)
    sweep(tmp_path)
    assert not young.exists()


def test_a_link_is_not_followed_and_a_folder_that_is_not_there_has_nothing_to_sweep(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    link = tmp_path / ".a.partial"
    link.symlink_to(other)
    _make_old(tmp_path)
    sweep(tmp_path)
    sweep(tmp_path / "none")
    assert (other / "kept").exists()


def _make_old(folder: Path) -> None:
    an_hour_ago = time.time() - 3600
    for path in folder.iterdir():
        os.utime(path, (an_hour_ago, an_hour_ago), follow_symlinks=False)
