"""What `models.yaml` may say, and that each mistake is named with its file, model and field."""

from pathlib import Path

import pytest
from inference_service.main import create_app
from inference_service.settings import InferenceSettings
from inference_service.sources.models_file import BadModelsFile, read_models_file

WEIGHTS = "{name: cats, source: 'file:cats.safetensors', architecture: resnet18, labels: [cat, other]}"


def written(folder: Path, text: str) -> Path:
    path = folder / "models.yaml"
    path.write_text(text)
    return path


def one(folder: Path, entry: str) -> Path:
    return written(folder, f"models:\n  - {entry}\n")


def test_several_models_and_versions_keep_their_order(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
models:
  - name: resnet
    version: 2
    source: torchvision:resnet50
    dtype: bfloat16
    device: cuda:1
  - name: resnet
    source: torchvision:resnet50/IMAGENET1K_V1
  - name: lite
    version: "7"
    source: builtin:efficientnet-lite0
""",
    )
    entries = read_models_file(path)
    assert [(entry.name, entry.version) for entry in entries] == [("resnet", "2"), ("resnet", "1"), ("lite", "7")]
    assert (entries[0].dtype, entries[0].device) == ("bfloat16", "cuda:1")
    assert (entries[1].dtype, entries[1].device) == ("float32", "cpu")


def test_a_line_is_a_label_whatever_else_is_in_it(tmp_path: Path) -> None:
    labels = ("cat\u2028big", "other\x0c")
    (tmp_path / "labels.txt").write_bytes("\ufeff{}\r\n{}\r\n".format(*labels).encode())
    [entry] = read_models_file(one(tmp_path, WEIGHTS.replace("[cat, other]", "labels.txt")))
    assert entry.labels == labels


def test_labels_are_a_list_or_a_file_or_those_of_imagenet(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\nother\n")
    found = []
    for labels in ("[cat, other]", "labels.txt", "imagenet"):
        [entry] = read_models_file(one(tmp_path, WEIGHTS.replace("[cat, other]", labels)))
        assert entry.labels is not None
        found.append(entry.labels)
    assert found[:2] == [("cat", "other")] * 2
    assert (len(found[2]), found[2][282]) == (1000, "tiger cat")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{name: cats}", 'model "cats": source: Field required'),
        ("{source: 'torchvision:resnet50'}", 'model "1": name: Field required'),
        ("{name: a/b, source: 'torchvision:resnet50'}", 'model "a/b": name: String should match'),
        ("{name: cats, source: 'torchvision:resnet50', verison: 2}", 'model "cats": verison: Extra inputs'),
        ("{name: cats, source: 'torchvision:resnet50', version: latest}", 'model "cats": version: String should match'),
        ("{name: cats, source: 'torchvision:resnet50', version: 0}", 'model "cats": version: String should match'),
        ("{name: cats, source: 'torchvision:resnet50', version: true}", 'model "cats": version: Input should be'),
        ("{name: cats, source: 'torchvision:resnet50', dtype: int8}", 'model "cats": dtype: Input should be'),
        ("{name: cats, source: 'torchvision:resnet50', device: tpu}", 'model "cats": device: expected cpu, auto, cuda'),
        ("{name: cats, source: 'torchvision:resnet50', device: 'cuda:x'}", 'model "cats": device: expected cpu'),
        ("{name: cats, source: 'torchvision:resnet50', device: 'cuda:01'}", 'model "cats": device: expected cpu'),
        ("{name: cats, source: 'builtin:resnet50'}", 'model "cats": source: expected builtin:efficientnet-lite0, '),
        ("{name: cats, source: 'http://localhost/a.pt2'}", 'model "cats": source: expected builtin'),
        ("{name: cats, source: 'https:///a.pt2'}", 'model "cats": source: an https: source needs a host'),
        ("{name: cats, source: 'file:a.pkl'}", 'model "cats": source: the file must end in one of .safetensors'),
        ("{name: cats, source: 'file:a.pt'}", 'model "cats": labels: is required with this source'),
        ("{name: cats, source: 'file:a.pt', labels: [a]}", 'model "cats": architecture: is required'),
        ("{name: cats, source: 'file:a.pt2', labels: [a]}", 'model "cats": preprocessing: is required'),
        (
            "{name: cats, source: 'https://host/a.pt', labels: [a], architecture: vgg11}",
            'model "cats": sha256: is required',
        ),
        (WEIGHTS.replace("[cat, other]", "none.txt"), 'model "cats": labels: cannot read none.txt: No such file'),
        (WEIGHTS.replace("[cat, other]", "[]"), 'model "cats": labels: '),
        (WEIGHTS.replace("[cat, other]", "['']"), 'model "cats": labels.0: '),
        (WEIGHTS.replace("}", ", token_file: token}"), 'model "cats": token_file: has no meaning with this source'),
        (WEIGHTS.replace("}", ", sha256: abc}"), 'model "cats": sha256: String should match'),
        (
            WEIGHTS.replace("}", ", preprocessing: {crop_size: 8}}"),
            'model "cats": preprocessing.resize_size: Field req',
        ),
        (
            WEIGHTS.replace("}", ", preprocessing: {crop_size: 8, resize_size: 4}}"),
            'model "cats": preprocessing: resize_size must be at least crop_size',
        ),
        ("{name: lite, source: 'builtin:efficientnet-lite0', labels: [a]}", 'model "lite": labels: has no meaning'),
        ("{name: cats, source: 'torchvision:resnet50', mode: warp}", "model \"cats\": mode: Input should be 'auto'"),
        ("{name: cats, source: 'torchvision:resnet50', mode: int8}", 'model "cats": calibration: is required with'),
        ("{name: cats, source: 'torchvision:resnet50', calibration: a}", 'model "cats": calibration: is required with'),
        (
            "{name: cats, source: 'torchvision:resnet50', mode: int8, calibration: a, dtype: bfloat16}",
            'model "cats": mode: int8 is for dtype: float32 and device: cpu',
        ),
        ("{name: cats, source: 'torchvision:resnet50', weight: 101}", 'model "cats": weight: Input should be less'),
        ("{name: cats, source: 'torchvision:resnet50', shadow: true}", 'model "cats": shadow: Input should be a valid'),
        (
            "{name: cats, source: 'torchvision:resnet50', weight: 1, shadow: 1}",
            'model "cats": weight: and shadow: cannot both be set',
        ),
        (
            "{name: cats, source: 'torchvision:resnet50', shadow: 1}",
            'model "cats": one version must have neither weight: nor shadow:',
        ),
        ("lite", 'model "1": Input should be'),
        (r"""{name: cats, source: "file:a\0.pt"}""", 'model "cats": source: a path has no character NUL'),
        (r"""{name: cats, source: "file:a\ud800.pt"}""", 'model "cats": source: Input should be a valid string'),
        (
            r"""{name: cats, source: 'torchvision:resnet50', mode: int8, calibration: "a\0"}""",
            'model "cats": calibration: a path has no character NUL',
        ),
        (
            r"""{name: cats, source: 'torchvision:resnet50', golden: [{picture: "a\0", label: cat}]}""",
            'model "cats": golden.0.picture: a path has no character NUL',
        ),
    ],
)
def test_a_mistake_is_named_with_its_file_model_and_field(tmp_path: Path, entry: str, message: str) -> None:
    path = one(tmp_path, entry)
    with pytest.raises(BadModelsFile) as caught:
        read_models_file(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Input should be"),
        ("models: []", "models: "),
        ("modles: []", "models: Field required"),
        ("models: [", "not YAML: line 1: "),
        (f"models: [{WEIGHTS}, {WEIGHTS}]", 'model "cats": version: 1 is there 2 times'),
        ("models: [{name: cats, version: 2026-13-01}]", "not YAML: month must be in 1..12"),
        ("models: !!int x", "not YAML: invalid literal"),
        ("models: !!int ''", "not YAML: a value does not fit its tag"),
        ("models: !!bool x", "not YAML: a value does not fit its tag"),
        ("models: !!timestamp x", "not YAML: a value does not fit its tag"),
        ("models: !!float 9" + 200 * ":59", "not YAML: a value does not fit its tag"),
        ("[" * 5000, "not YAML: maximum recursion depth"),
        ("models: !!python/object/apply:os.getcwd []", "not YAML: line 1: could not determine a constructor"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadModelsFile) as caught:
        read_models_file(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("field", ["weight", "shadow"])
def test_a_model_has_one_canary_and_one_shadow_at_most(tmp_path: Path, field: str) -> None:
    versions = [f"{{name: lite, version: {n}, source: 'builtin:efficientnet-lite0', {field}: 0.5}}" for n in (2, 3)]
    stable = "{name: lite, source: 'builtin:efficientnet-lite0'}"
    [_, entry] = read_models_file(written(tmp_path, f"models: [{stable}, {versions[0]}]"))
    assert getattr(entry, field) == 0.5
    with pytest.raises(BadModelsFile, match=f'model "lite": {field}: may be set for one version, and is for 2, 3'):
        read_models_file(written(tmp_path, f"models: [{stable}, {', '.join(versions)}]"))


def test_a_bad_file_stops_the_start(tmp_path: Path) -> None:
    path = one(tmp_path, "{name: cats, source: somewhere}")
    with pytest.raises(SystemExit, match=r'INFERENCE_MODELS_FILE: .*models.yaml: model "cats": source: expected'):
        create_app(InferenceSettings(models_file=path))


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"INFERENCE_MODELS_FILE: .*none.yaml: No such file"):
        create_app(InferenceSettings(models_file=tmp_path / "none.yaml"))
