"""Each kind of source, from its line in `models.yaml` to a model that computes."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from inference_service.main import create_app
from inference_service.model import Model, ModelUnavailable
from inference_service.settings import InferenceSettings
from inference_service.sources.kinds import check_device, read_sources
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from tests.asgi import running
from tests.certificates import Authority
from tests.http_server import QuietHandler, serving
from tests.unit.inference.conftest import until_ready
from tests.unit.inference.pictures import read
from tests.unit.inference.weight_files import exported

SQUEEZENET = {"name": "net", "architecture": "squeezenet1_1", "labels": ["red", "green", "blue"]}
PROGRAM = {
    "name": "program",
    "source": "file:program.pt2",
    "labels": ["red", "green", "blue"],
    "preprocessing": {"resize_size": 8, "crop_size": 8},
}


def load(folder: Path, **entry: Any) -> Model:
    """Load the only model of a file with `entry`, which lies in `folder`."""
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump({"models": [entry]}))
    [source] = read_sources(path, folder / "kept")
    model = source.load()
    model.warm_up()
    return model


@pytest.fixture(scope="module")
def squeezenet() -> nn.Module:
    """A small network of torchvision with weights of our own."""
    torch.manual_seed(0)
    network: nn.Module = get_model("squeezenet1_1", weights=None, num_classes=3)
    return network.eval()


def logits(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = network(images)
        return found


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_of_weights_is_the_network_that_it_was(tmp_path: Path, squeezenet: nn.Module, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(squeezenet.state_dict(), path)
    else:
        torch.save(squeezenet.state_dict(), path)
    model = load(tmp_path, source=f"file:{path.name}", **SQUEEZENET)
    images = torch.rand(2, 3, 224, 224)
    assert torch.allclose(model.forward(images), logits(squeezenet, images), atol=1e-5)
    assert model.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (model.labels, model.preprocessing.resize_size) == (("red", "green", "blue"), 256)
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_a_dtype_is_kept_and_agrees(tmp_path: Path, squeezenet: nn.Module) -> None:
    save_file(squeezenet.state_dict(), tmp_path / "weights.safetensors")
    model = load(tmp_path, source="file:weights.safetensors", dtype="bfloat16", **SQUEEZENET)
    images = torch.rand(2, 3, 224, 224)
    assert model.dtype_name == "bfloat16"
    assert torch.allclose(model.forward(images), logits(squeezenet, images), rtol=0.05, atol=0.05)


def test_scaled_decoding_is_off_unless_it_is_asked_for(tmp_path: Path, squeezenet: nn.Module) -> None:
    save_file(squeezenet.state_dict(), tmp_path / "weights.safetensors")
    source = {"source": "file:weights.safetensors", **SQUEEZENET}
    assert load(tmp_path, **source).preprocessing.min_side is None
    assert load(tmp_path, **source, scaled_decoding=True).preprocessing.min_side == 512


def test_a_digest_that_differs_is_an_error(tmp_path: Path, squeezenet: nn.Module) -> None:
    save_file(squeezenet.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ModelUnavailable, match="has the SHA-256"):
        load(tmp_path, source="file:weights.safetensors", sha256="0" * 64, **SQUEEZENET)


def test_a_file_of_a_private_store_is_fetched_with_the_token_beside_models_yaml(
    tmp_path: Path, squeezenet: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(squeezenet.state_dict(), tmp_path / "weights.safetensors")
    content = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "token").write_text("secret\n")
    authority = Authority()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.written(tmp_path)))
    # The tests keep the certificates that were read first.
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", httpx.create_ssl_context)

    class Store(QuietHandler):
        def do_GET(self) -> None:
            is_known = self.headers["Authorization"] == "Bearer secret"
            self.respond(200 if is_known else 401, content if is_known else b"")

    with serving(Store, authority.server("localhost", tmp_path)) as url:
        source = {"source": f"{url}/weights.safetensors", "sha256": hashlib.sha256(content).hexdigest(), **SQUEEZENET}
        with pytest.raises(ModelUnavailable, match="the server answered 401"):
            load(tmp_path, **source)
        model = load(tmp_path, **source, token_file="token")
    images = torch.rand(2, 3, 224, 224)
    assert torch.allclose(model.forward(images), logits(squeezenet, images), atol=1e-5)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"weights.pt: No such file"):
        load(tmp_path, source="file:weights.pt", **SQUEEZENET)


def test_weights_for_other_classes_are_an_error(tmp_path: Path, squeezenet: nn.Module) -> None:
    save_file(squeezenet.state_dict(), tmp_path / "weights.safetensors")
    entry = {**SQUEEZENET, "labels": ["cat", "dog"]}
    with pytest.raises(ModelUnavailable, match=r"not those of squeezenet1_1 with 2 classes: size mismatch"):
        load(tmp_path, source="file:weights.safetensors", **entry)


def test_weights_that_lack_a_tensor_are_an_error_and_nothing_random_stays(
    tmp_path: Path, squeezenet: nn.Module
) -> None:
    tensors = squeezenet.state_dict()
    tensors.pop("classifier.1.bias")
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(ModelUnavailable, match=r"Missing key.*classifier.1.bias"):
        load(tmp_path, source="file:weights.safetensors", **SQUEEZENET)


def test_an_unknown_architecture_is_an_error_with_what_is_near(tmp_path: Path, squeezenet: nn.Module) -> None:
    save_file(squeezenet.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ModelUnavailable, match=r"no classifier squeezenet: did you mean squeezenet1"):
        load(tmp_path, source="file:weights.safetensors", **{**SQUEEZENET, "architecture": "squeezenet"})


def test_a_program_brings_its_own_network(tmp_path: Path) -> None:
    exported(tmp_path / "program.pt2")
    model = load(tmp_path, **PROGRAM)
    images = torch.rand(4, 3, 8, 8)
    assert torch.allclose(model.forward(images), images.mean((2, 3)))


def test_a_program_for_pictures_of_another_size_is_an_error(tmp_path: Path) -> None:
    exported(tmp_path / "program.pt2", side=16)
    with pytest.raises(ModelUnavailable, match="the network fails on"):
        load(tmp_path, **PROGRAM)


def test_published_weights_are_found_by_their_name_where_there_is_no_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = get_model("squeezenet1_1", weights=None).eval()
    path = tmp_path / "kept" / "squeezenet1_1-b8a52dc0.pth"
    path.parent.mkdir()
    torch.save(network.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model = load(tmp_path, name="net", source="torchvision:squeezenet1_1", sha256=digest)
    images = torch.rand(1, 3, 224, 224)
    assert torch.allclose(model.forward(images), logits(network, images), atol=1e-5)
    assert (len(model.labels), model.labels[967]) == (1000, "espresso")


def test_a_file_with_the_name_of_published_weights_and_another_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "squeezenet1_1-b8a52dc0.pth"
    path.parent.mkdir()
    torch.save({}, path)
    with pytest.raises(ModelUnavailable, match=r"has the SHA-256 .*, not b8a52dc0"):
        load(tmp_path, name="net", source="torchvision:squeezenet1_1")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("torchvision:resnet5", "no classifier resnet5: did you mean resnet50"),
        ("torchvision:resnet50/IMAGENET1K_V9", "no weights IMAGENET1K_V9 of resnet50: it has IMAGENET1K_V1, IMAGENET1"),
        ("torchvision:vgg16/IMAGENET1K_FEATURES", "not those of a classifier"),
    ],
)
def test_what_torchvision_does_not_have_is_an_error(tmp_path: Path, source: str, reason: str) -> None:
    with pytest.raises(ModelUnavailable, match=reason):
        load(tmp_path, name="net", source=source)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="device: cuda is asked for"):
        load(tmp_path, name="lite", source="builtin:efficientnet-lite0", device="cuda")


@pytest.mark.parametrize(
    ("device", "gpus", "reason"),
    [
        ("cuda:9", 2, "device: cuda:9 is asked for, and this machine has 2 GPUs that torch can use, the last .*:1"),
        ("cuda:1", 1, "this machine has 1 GPU that torch can use, the last of them cuda:0"),
        ("cuda:300", 0, "this machine has no GPU that torch can use$"),
    ],
)
def test_a_gpu_beyond_the_last_is_an_error_that_says_how_many_there_are(device: str, gpus: int, reason: str) -> None:
    with pytest.raises(ModelUnavailable, match=reason):
        check_device(device, gpus)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_there_is_none(device: str) -> None:
    check_device(device, 2)


async def test_models_of_different_sources_are_served_together(
    tmp_path: Path, settings: InferenceSettings, bearer: Mapping[str, str], squeezenet: nn.Module
) -> None:
    exported(tmp_path / "program.pt2")
    save_file(squeezenet.state_dict(), tmp_path / "weights.safetensors")
    path = tmp_path / "models.yaml"
    models = [
        {"name": "lite", "source": "builtin:efficientnet-lite0"},
        {**SQUEEZENET, "source": "file:weights.safetensors", "version": 3},
        PROGRAM,
    ]
    path.write_text(yaml.safe_dump({"models": models}))
    async with running(create_app(settings.model_copy(update={"models_file": path}))) as client:
        await until_ready(client)
        answers = {}
        for name in (None, "net", "program"):
            answer = await client.post(
                "/predict",
                params={"model": name} if name else {},
                content=read("coffee.png"),
                headers={**bearer, "Content-Type": "image/png"},
            )
            answers[answer.json()["model"]["name"]] = answer.json()["label"]
    assert answers["lite"] == "espresso"
    assert answers["program"] == "red"
    assert answers["net"] in SQUEEZENET["labels"]


def test_the_device_may_be_what_there_is(tmp_path: Path) -> None:
    model = load(tmp_path, name="lite", source="builtin:efficientnet-lite0", device="auto")
    assert model.device == ("cuda" if torch.cuda.is_available() else "cpu")
