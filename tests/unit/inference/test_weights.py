"""Files of weights: the right one or none, and never run."""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from inference_service.ending import Ending, ServiceEnds
from inference_service.model import ModelUnavailable
from inference_service.weights import fetch, read_tensors
from safetensors.torch import save_file
from servicekit.logs import without_secrets

from tests.http_server import QuietHandler, serving
from tests.unit.inference.file_server import serve_files
from tests.unit.inference.weight_files import Payload, packed, repeated

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def published(tmp_path: Path) -> Iterator[str]:
    """The URL of a file with `CONTENT`."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "weights.pth").write_bytes(CONTENT)
    with serve_files(folder) as url:
        yield f"{url}/weights.pth"


@pytest.mark.parametrize("sha256", [DIGEST, DIGEST[:8]])
def test_a_file_is_fetched_once_and_then_found_without_a_network(published: str, tmp_path: Path, sha256: str) -> None:
    path = tmp_path / "kept" / "weights.pth"
    assert fetch(published, path, sha256=sha256) == DIGEST
    assert path.read_bytes() == CONTENT
    assert fetch("http://127.0.0.1:9/weights.pth", path, sha256=sha256) == DIGEST
    assert list(path.parent.iterdir()) == [path]


def test_a_download_ends_with_the_service_and_leaves_nothing(published: str, tmp_path: Path) -> None:
    ending = Ending()
    ending.begin()
    with pytest.raises(ServiceEnds):
        fetch(published, tmp_path / "kept" / "weights.pth", sha256=DIGEST, ending=ending)
    assert list((tmp_path / "kept").iterdir()) == []


def test_another_file_than_was_asked_for_is_not_kept(published: str, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "weights.pth"
    with pytest.raises(ModelUnavailable, match=f"weights.pth has the SHA-256 {DIGEST}, not 00000000"):
        fetch(published, path, sha256="0" * 64)
    assert list(path.parent.iterdir()) == []


def test_a_kept_file_that_was_changed_is_not_used(published: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"others")
    with pytest.raises(ModelUnavailable, match=rf"{path} has the SHA-256 .*, not {DIGEST}"):
        fetch(published, path, sha256=DIGEST)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/weights.pth?key=secret", "Connection refused"),
        ("https://weights.invalid/weights.pth?key=secret", ""),
    ],
)
def test_without_a_network_the_error_says_where_to_put_the_file(tmp_path: Path, url: str, reason: str) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(ModelUnavailable) as caught:
        fetch(url, path, sha256=DIGEST)
    assert str(caught.value).startswith(f"cannot fetch {url.partition('?')[0]}: ")
    assert reason in str(caught.value)
    assert str(caught.value).endswith(f"without a network, put the file at {path}")


def test_what_the_server_refuses_is_told(published: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"cannot fetch .*: the server answered 404"):
        fetch(f"{published}.old", tmp_path / "weights.pth", sha256=DIGEST)


def test_a_folder_that_cannot_be_written_is_told(published: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelUnavailable, match="File exists"):
        fetch(published, tmp_path / "file" / "weights.pth", sha256=DIGEST)


class PrivateStore(QuietHandler):
    """Gives `CONTENT` to who has the token, or sends them on to where it is."""

    token = "hf_abc.DEF-1=="

    def __init__(self, *args: Any, seen: list[str | None], leads_to: str | None = None) -> None:
        self._seen = seen
        self._leads_to = leads_to
        super().__init__(*args)

    def do_GET(self) -> None:
        authorization = self.headers["Authorization"]
        self._seen.append(authorization)
        if self._leads_to is not None:
            self.respond(302, b"", {"Location": self._leads_to})
        elif authorization == f"Bearer {self.token}":
            self.respond(200, CONTENT)
        else:
            self.respond(401, b"")


def test_a_private_store_is_shown_the_token_in_the_file(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    seen: list[str | None] = []
    token_file.write_text(f"{PrivateStore.token}\n")
    with serving(partial(PrivateStore, seen=seen)) as store:
        url = f"{store}/weights.pth"
        with pytest.raises(ModelUnavailable, match="the server answered 401"):
            fetch(url, tmp_path / "kept", sha256=DIGEST)
        assert fetch(url, tmp_path / "kept", sha256=DIGEST, token_file=token_file) == DIGEST
        token_file.unlink()
        assert fetch(url, tmp_path / "kept", sha256=DIGEST, token_file=token_file) == DIGEST
    assert seen == [None, f"Bearer {PrivateStore.token}"]


def test_no_other_host_is_shown_the_token(published: str, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    store_saw: list[str | None] = []
    other_saw: list[str | None] = []
    token_file.write_text(PrivateStore.token)
    with (
        serving(partial(PrivateStore, seen=other_saw, leads_to=published)) as other,
        serving(partial(PrivateStore, seen=store_saw, leads_to=f"{other}/weights.pth")) as store,
    ):
        path = tmp_path / "kept"
        assert fetch(f"{store}/weights.pth", path, sha256=DIGEST, token_file=token_file) == DIGEST
    assert (store_saw, other_saw) == ([f"Bearer {PrivateStore.token}"], [None])


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"token\r\nX-Other: 1", b"\xff", "tökén".encode()])
def test_a_token_file_without_a_token_is_named_and_not_shown(published: str, tmp_path: Path, content: bytes) -> None:
    token_file = tmp_path / "hub-token"
    token_file.write_bytes(content)
    with pytest.raises(ModelUnavailable) as caught:
        fetch(published, tmp_path / "kept", sha256=DIGEST, token_file=token_file)
    assert str(caught.value) == f"token_file {token_file} must hold one bearer token, and nothing else"


def test_a_token_file_that_is_not_there_is_told(published: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=f"cannot read token_file {tmp_path}/none: No such file"):
        fetch(published, tmp_path / "kept", sha256=DIGEST, token_file=tmp_path / "none")


def test_what_a_url_keeps_secret_is_not_shown() -> None:
    assert without_secrets("https://me:pass@host:444/a.pt?sig=1#x") == "https://host:444/a.pt"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_tensors_are_read_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.bfloat16)}
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    found = read_tensors(path)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"a": [0, 1, 2], "b": [[1, 1], [1, 1]]}


@pytest.mark.parametrize("save", ["pickle", "torch"])
def test_a_payload_does_not_run(tmp_path: Path, save: str) -> None:
    path, ran = tmp_path / "weights.pt", tmp_path / "ran"
    if save == "torch":
        torch.save({"weight": Payload(ran)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(ran), protocol=2))
    with pytest.raises(ModelUnavailable, match="it holds more than tensors") as caught:
        read_tensors(path)
    assert not ran.exists()
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("lying", [packed, repeated])
def test_an_archive_that_unfolds_to_more_than_it_is_is_refused_before_torch_makes_room(
    tmp_path: Path, lying: Callable[[Path, Path, str], Path]
) -> None:
    torch.save({"weight": torch.ones(10_000)}, tmp_path / "good.pt")
    bad = lying(tmp_path / "good.pt", tmp_path / "bad.pt", "data/0")
    with pytest.raises(ModelUnavailable, match=r"bad\.pt is packed: torch writes its files as they are"):
        read_tensors(bad)


def test_a_list_is_no_state_dict(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "weights.pt")
    with pytest.raises(ModelUnavailable, match="expected tensors by name"):
        read_tensors(tmp_path / "weights.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut short", b"\xff" * 100])
def test_a_damaged_file_is_an_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match=str(path)):
        read_tensors(path)


def save_whole(path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), path)


def save_torchscript(path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(path)  # type: ignore[no-untyped-call]  # torch's own


@pytest.mark.filterwarnings("ignore:.*(torch.jit|TorchScript)")
@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (save_whole, "is not a state dict: it holds more than tensors; save the model's state_dict()"),
        (save_torchscript, "is a TorchScript program; save the model's state_dict(), or the program of torch.export"),
    ],
)
def test_a_model_that_is_saved_as_a_whole_says_how_it_should_be_saved(
    tmp_path: Path, save: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "model.pt"
    save(path)
    with pytest.raises(ModelUnavailable) as refusal:
        read_tensors(path)
    assert str(refusal.value) == f"{path} {reason}"
