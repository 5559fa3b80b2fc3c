"""Programs from `torch.export` are graphs and tensors; whatever else a file has, it does not run."""

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from inference_service.model import ModelUnavailable
from inference_service.sources.exported import read_program
from torch import Tensor, nn

from tests.unit.inference.weight_files import Payload, Strongest, exported, packed, repeated, rewritten, rewritten_json


class Convolutional(nn.Module):
    """Of the kinds of layers that classifiers have, with a size that depends on the picture's."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout())
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.classify = nn.Linear(4, 3)
        self.shift = torch.ones(3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.layers(images).flatten(2).transpose(1, 2)
        attended, _ = self.attend(features, features, features)
        logits: Tensor = self.classify(attended.mean(1)) + self.shift
        return logits.reshape(images.shape[0], -1)


@pytest.mark.parametrize("network", [Strongest(), Convolutional()])
def test_a_program_gives_what_its_network_gives(tmp_path: Path, network: nn.Module) -> None:
    program = read_program(exported(tmp_path / "program.pt2", network))
    for batch in (1, 5):
        images = torch.rand(batch, 3, 8, 8)
        with torch.inference_mode():
            assert torch.allclose(program(images), network.eval()(images), atol=1e-6)


def pickled(payload: Payload) -> bytes:
    data = io.BytesIO()
    torch.save(payload, data)
    return data.getvalue()


def refused(path: Path, ran: Path, reason: str) -> None:
    with pytest.raises(ModelUnavailable, match=reason):
        read_program(path)
    assert not ran.exists()


def test_a_payload_in_the_sample_inputs_does_not_run(tmp_path: Path) -> None:
    ran, program = tmp_path / "ran", exported(tmp_path / "good.pt2")
    bad = rewritten(program, tmp_path / "bad.pt2", "sample_inputs/model.pt", lambda _: pickled(Payload(ran)))
    refused(bad, ran, "a pickle for its sample inputs")


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_a_payload_in_a_tensor_does_not_run(tmp_path: Path, kind: str) -> None:
    ran, program = tmp_path / "ran", exported(tmp_path / "good.pt2", Convolutional())

    def use_pickle(config: Any) -> None:
        next(iter(config["config"].values()))["use_pickle"] = True

    marked = rewritten_json(program, tmp_path / "marked.pt2", f"model_{kind}_config.json", use_pickle)
    name = "weight_0" if kind == "weights" else "tensor_0"
    bad = rewritten(marked, tmp_path / "bad.pt2", f"{kind}/{name}", lambda _: pickled(Payload(ran)))
    refused(bad, ran, "a pickle for")


IMPORTING = {
    "a class of members": (
        "builtins.dict",
        json.dumps([{"__enum__": True, "fqn": "this:Zen", "name": "BEAUTIFUL"}]),
    ),
    "a function for what is missing": (
        "collections.defaultdict",
        {"default_factory_module": "this", "default_factory_name": "d", "dict_context": []},
    ),
}


@pytest.mark.parametrize("record", ["in_spec", "out_spec"])
@pytest.mark.parametrize(("kind", "context"), IMPORTING.values(), ids=IMPORTING)
def test_a_structure_imports_no_module(tmp_path: Path, kind: str, context: Any, record: str) -> None:
    def import_it(program: Any) -> None:
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        signature[record] = json.dumps([1, {"type": kind, "context": context, "children_spec": []}])

    program = exported(tmp_path / "good.pt2")
    bad = rewritten_json(program, tmp_path / "bad.pt2", "models/model.json", import_it)
    sys.modules.pop("this", None)
    with pytest.raises(ModelUnavailable, match="more than tuples, lists and dicts"):
        read_program(bad)
    assert "this" not in sys.modules


def test_an_object_among_the_constants_is_not_made(tmp_path: Path) -> None:
    ran, program = tmp_path / "ran", exported(tmp_path / "good.pt2", Convolutional())

    def point_elsewhere(config: Any) -> None:
        next(iter(config["config"].values()))["path_name"] = "opaque_obj_0"

    bad = rewritten_json(program, tmp_path / "bad.pt2", "model_constants_config.json", point_elsewhere)
    refused(bad, ran, "a pickle for")


@pytest.mark.parametrize("name", ["data/aotinductor/model/model.so", "data/weights/model.pt", "extra/code.py"])
def test_other_files_in_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    program = exported(tmp_path / "good.pt2")
    with zipfile.ZipFile(program) as archive:
        folder = archive.namelist()[0].partition("/")[0]
    with zipfile.ZipFile(program, "a") as archive:
        archive.writestr(f"{folder}/{name}", b"")
    refused(program, tmp_path / "ran", name)


@pytest.mark.parametrize(
    "target",
    ["torch.hub.load", "torch.ops.aten.from_file.default", "torch.ops.aten.mean.__class__", "math.sqrt", "#code:x.y"],
)
def test_a_function_that_is_no_operator_on_tensors_is_refused(tmp_path: Path, target: str) -> None:
    def call(program: Any) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    bad = rewritten_json(exported(tmp_path / "good.pt2"), tmp_path / "bad.pt2", "models/model.json", call)
    refused(bad, tmp_path / "ran", f"the function {target}")


@pytest.mark.parametrize(
    "expression",
    [
        *("__import__('pathlib').Path('{}').touch()", "open('{}', 'w')", "exit(0)"),
        *("1" * 60 + "!", "9**9**9**9"),  # which would take for ever, the one to check and the other to compute
        *("Pow(Integer(9),Pow(Integer(9),Integer(9)))", "Pow(Integer(9),Integer(99999999))", "1<<99999999999"),
        *("Pow(Symbol('s0'),Symbol('s1'))", "Pow(Symbol('s0'),Rational(1,2))", "Pow(Symbol('s0'),Integer('2'))"),
        # Many terms, in sums and in powers of them: sympy compares each with each.
        *("Max(" + ",".join(f"Symbol('s{i}')+{i}" for i in range(100)) + ")", "Pow(Add(s0,s1,s2),Integer(20))"),
        *("+".join(["s0"] * 2000), "-" * 2000 + "s0", "s0.name", "Symbol('s0', integer=s1)", "Symbol('x y')"),
    ],
)
def test_an_expression_in_a_size_is_not_evaluated(tmp_path: Path, expression: str) -> None:
    ran = tmp_path / "ran"

    def hide(program: Any) -> None:
        for value in program["graph_module"]["graph"]["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = expression.format(ran)

    bad = rewritten_json(exported(tmp_path / "good.pt2"), tmp_path / "bad.pt2", "models/model.json", hide)
    refused(bad, ran, "the expression")


class Attending(nn.Module):
    """Compares each place of a picture with each, over pictures of any size."""

    def forward(self, images: Tensor) -> Tensor:
        places = torch.nn.functional.max_pool2d(images, 3, 2, 1).flatten(2)
        attended = (places.transpose(1, 2) @ places).softmax(2).flatten(1)
        return attended.reshape(images.shape[0], -1, 1).mean(1)


def test_sizes_may_be_products_of_what_depends_on_the_picture(tmp_path: Path) -> None:
    sizes = (dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO),)
    program = torch.export.export(Attending(), (torch.rand(2, 3, 8, 9),), dynamic_shapes=sizes)
    torch.export.save(program, tmp_path / "program.pt2")
    images = torch.rand(3, 3, 11, 7)
    assert torch.allclose(read_program(tmp_path / "program.pt2")(images), Attending()(images))


@pytest.mark.parametrize(
    ("lying", "record"),
    [(packed, "models/model.json"), (packed, "weights/weight_0"), (repeated, "models/model.json")],
)
def test_an_archive_that_unfolds_to_more_than_it_is_is_refused_before_torch_makes_room(
    tmp_path: Path, lying: Callable[[Path, Path, str], Path], record: str
) -> None:
    bad = lying(exported(tmp_path / "good.pt2"), tmp_path / "bad.pt2", record)
    with pytest.raises(ModelUnavailable, match=r"bad\.pt2 is packed: torch writes its files as they are"):
        read_program(bad)


def test_a_guard_is_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    def guard(program: Any) -> None:
        program["guards_code"] = [f"__import__('pathlib').Path({json.dumps(str(ran))}).touch() is None"]

    path = rewritten_json(exported(tmp_path / "good.pt2"), tmp_path / "bad.pt2", "models/model.json", guard)
    read_program(path)(torch.rand(1, 3, 8, 8))
    assert not ran.exists()


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "program.pt2"
    path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match="not a program that this torch can read"):
        read_program(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="No such file"):
        read_program(tmp_path / "program.pt2")
