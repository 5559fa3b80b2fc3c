import stat
from pathlib import Path

import pytest
from servicekit.whole_files import written_whole


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
