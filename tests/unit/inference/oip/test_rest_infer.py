"""`POST /v2/models/{name}/infer`: every form of a request, and every way to be refused."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Mapping

import httpx
import numpy as np
import pytest
from inference_service.model import Model
from inference_service.settings import InferenceSettings
from torch import Tensor, nn

from tests.issuer import Issuer
from tests.unit.inference.conftest import SCOPE, serving
from tests.unit.inference.networks import LABELS, WIDE, Failing, Gate, tiny_source, wide_model
from tests.unit.inference.oip.messages import (
    BLUE,
    GREEN,
    INFER,
    RED,
    assert_error,
    best,
    binary_body,
    binary_elements,
    infer_body,
    picture_input,
    split_answer,
)
from tests.unit.inference.pictures import read
from tests.unit.inference.threads import recorded_threads

SIZE = 8


# What is taken


async def test_large_requests_and_answers_do_not_hold_up_the_event_loop(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    pixels = {"name": "image", "datatype": "UINT8", "shape": [1, 300, 300, 3], "data": [200] * 270_000}
    async with serving(settings, tiny_source(), tiny_source(name="wide", load=wide_model)) as client:
        threads = recorded_threads()
        small = await client.post(INFER, json=infer_body(RED), headers=bearer)
        assert (small.status_code, threads) == (200, [])
        large = await client.post(INFER, json={"inputs": [pixels]}, headers=bearer)
        assert (large.status_code, threads) == (200, ["read_request"])
        wide = await client.post("/v2/models/wide/infer", json=infer_body(RED), headers=bearer)
        assert (wide.status_code, threads) == (200, ["read_request", "render"])
    assert len(wide.json()["outputs"][0]["data"]) == WIDE


async def test_a_picture_in_json_gets_numbers(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await client.post(INFER, json=infer_body(RED, id="mine"), headers=bearer)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tiny", "1", "mine")
    logits, probabilities = answer["outputs"]
    assert {key: logits[key] for key in ("name", "datatype", "shape")} == {
        "name": "logits",
        "datatype": "FP32",
        "shape": [1, 3],
    }
    assert logits["data"] == pytest.approx([250 / 255, 10 / 255, 5 / 255])
    assert (probabilities["name"], probabilities["shape"]) == ("probabilities", [1, 3])
    assert sum(probabilities["data"]) == pytest.approx(1)


async def test_what_is_left_out_may_be_null(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    tensor = {**picture_input(RED), "parameters": None}
    body = {"id": None, "parameters": None, "inputs": [tensor], "outputs": None}
    response = await client.post(INFER, json=body, headers=bearer)
    assert response.status_code == 200, response.text
    assert "id" not in response.json()
    body["outputs"] = [{"name": "logits", "parameters": None}]
    [output] = (await client.post(INFER, json=body, headers=bearer)).json()["outputs"]
    assert output["name"] == "logits"


async def test_an_answer_without_an_id_has_none(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    assert "id" not in (await client.post(INFER, json=infer_body(RED), headers=bearer)).json()


@pytest.mark.parametrize("shape", [[3], [3, 1]])
async def test_several_pictures_keep_their_order(
    client: httpx.AsyncClient, bearer: Mapping[str, str], shape: list[int]
) -> None:
    body = {"inputs": [picture_input(RED, BLUE, GREEN, shape=shape)], "outputs": [best()]}
    [output] = (await client.post(INFER, json=body, headers=bearer)).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [3, 1])
    assert [text.split(":")[1:] for text in output["data"]] == [["0", "red"], ["2", "blue"], ["1", "green"]]


async def test_the_best_classes_are_named_as_triton_does(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    body = infer_body(RED, outputs=[best("logits", classes=2), best("probabilities", classes=9)])
    logits, probabilities = (await client.post(INFER, json=body, headers=bearer)).json()["outputs"]
    assert logits["data"] == ["0.980392:0:red", "0.039216:1:green"]
    assert probabilities["shape"] == [1, 3]  # there are no more


async def test_more_pictures_than_a_batch_holds_are_answered_in_order(
    client: httpx.AsyncClient, bearer: Mapping[str, str]
) -> None:
    files = [RED, GREEN, BLUE] * 10
    body = infer_body(*files, outputs=[best()])
    [output] = (await client.post(INFER, json=body, headers=bearer)).json()["outputs"]
    assert [text.split(":")[2] for text in output["data"]] == list(LABELS) * 10


async def test_whole_numbers_may_be_written_with_a_point(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    parameters = {"priority": 1.0, "timeout": 5_000_000.0}
    body = {"inputs": [picture_input(RED, shape=[1.0, 1.0])], "outputs": [best(classes=2.0)], "parameters": parameters}  # type: ignore[list-item,arg-type]
    response = await client.post(INFER, json=body, headers=bearer)
    assert response.json()["outputs"][0]["shape"] == [1, 2]


async def test_pixels_are_taken(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    pixels = np.zeros((2, 9, 12, 3), np.uint8)
    pixels[0, ..., 1], pixels[1, ..., 2] = 255, 255
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.tolist()}
    response = await client.post(INFER, json={"inputs": [tensor], "outputs": [best()]}, headers=bearer)
    assert [text.split(":")[2] for text in response.json()["outputs"][0]["data"]] == ["green", "blue"]


async def test_the_input_of_the_network_is_taken_as_it_is(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    values = np.random.default_rng(3).random((2, 3, SIZE, SIZE), np.float32)
    tensor = {"name": "image", "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
    response = await client.post(INFER, json={"inputs": [tensor], "outputs": [{"name": "logits"}]}, headers=bearer)
    [output] = response.json()["outputs"]
    assert output["data"] == pytest.approx(values.mean((2, 3)).ravel().tolist(), rel=1e-5)


async def test_data_may_follow_the_json_both_ways(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    data = binary_elements(RED, GREEN)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": len(data)}}
    outputs = [{"name": "logits", "parameters": {"binary_data": False}}, best()]
    parameters = {"binary_data_output": True}
    body, header = binary_body({"inputs": [tensor], "outputs": outputs, "parameters": parameters}, data)
    response = await client.post(INFER, content=body, headers={**bearer, **header})
    answer, rest = split_answer(response)
    logits, named = answer["outputs"]
    assert len(logits["data"]) == 6
    assert (named["parameters"], "data" in named) == ({"binary_data_size": len(rest)}, False)
    assert rest.count(b":") == 4


async def test_numbers_may_follow_the_json_both_ways(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    values = np.random.default_rng(4).random((1, 3, SIZE, SIZE), np.float32)
    size = {"binary_data_size": values.nbytes}
    tensor = {"name": "image", "datatype": "FP32", "shape": list(values.shape), "parameters": size}
    body, header = binary_body({"inputs": [tensor], "parameters": {"binary_data_output": True}}, values.tobytes())
    answer, rest = split_answer(await client.post(INFER, content=body, headers={**bearer, **header}))
    assert [output["parameters"]["binary_data_size"] for output in answer["outputs"]] == [12, 12]
    assert np.frombuffer(rest[:12], "<f4") == pytest.approx(values.mean((2, 3))[0], rel=1e-5)


async def test_a_body_may_be_the_picture_alone(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    headers = {**bearer, "Inference-Header-Content-Length": "0"}
    answer, rest = split_answer(await client.post(INFER, content=GREEN, headers=headers))
    assert [output["name"] for output in answer["outputs"]] == ["logits", "probabilities"]
    assert np.frombuffer(rest, "<f4").reshape(2, 3).argmax(1).tolist() == [1, 1]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_bodies_may_be_compressed_both_ways(
    client: httpx.AsyncClient, bearer: Mapping[str, str], encoding: str
) -> None:
    plain = json.dumps(infer_body(RED)).encode()
    body = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    headers = {**bearer, "Content-Encoding": encoding, "Accept-Encoding": encoding}
    response = await client.post(INFER, content=body, headers=headers)
    assert (response.status_code, response.headers["content-encoding"]) == (200, encoding)
    assert response.json()["model_name"] == "tiny"
    assert response.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", ""])
async def test_nothing_is_compressed_for_who_does_not_take_it(
    client: httpx.AsyncClient, bearer: Mapping[str, str], accepted: str
) -> None:
    response = await client.post(INFER, json=infer_body(RED), headers={**bearer, "Accept-Encoding": accepted})
    assert response.status_code == 200
    assert "content-encoding" not in response.headers


async def test_a_version_may_be_named(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    async with serving(settings, tiny_source(version="1"), tiny_source(version="2")) as client:
        newest = await client.post(INFER, json=infer_body(RED), headers=bearer)
        first = await client.post("/v2/models/tiny/versions/1/infer", json=infer_body(RED), headers=bearer)
    assert [response.json()["model_version"] for response in (newest, first)] == ["2", "1"]


async def test_real_pictures_get_their_names(
    efficientnet_client: httpx.AsyncClient, bearer: Mapping[str, str], efficientnet: Model
) -> None:
    path = "/v2/models/efficientnet-lite0/infer"
    body = infer_body(read("coffee.png"), outputs=[best(classes=3)])
    [output] = (await efficientnet_client.post(path, json=body, headers=bearer)).json()["outputs"]
    plain = (await efficientnet_client.post("/predict", files={"file": read("coffee.png")}, headers=bearer)).json()
    assert output["data"] == [f"{p['score']:f}:{p['class']}:{p['label']}" for p in plain["predictions"][:3]]
    assert output["data"][0].endswith(":espresso")


async def test_the_cache_is_that_of_predictions(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    async with serving(settings.model_copy(update={"cache_max_bytes": 1_000_000}), tiny_source()) as client:
        responses = [
            await client.post(INFER, json=infer_body(RED), headers=bearer),
            await client.post("/predict", files={"file": RED}, headers=bearer),
            await client.post(INFER, json=infer_body(RED, GREEN), headers=bearer),
            await client.post(INFER, json=infer_body(RED, GREEN), headers=bearer),
        ]
    assert [response.headers["x-cache"] for response in responses] == ["miss", "hit", "miss", "hit"]


async def test_whether_a_shape_is_refused_does_not_depend_on_the_cache(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    def body(height: int, width: int) -> dict[str, object]:
        data = [0.5] * (3 * SIZE * SIZE)
        return {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 3, height, width], "data": data}]}

    async with serving(settings.model_copy(update={"cache_max_bytes": 1_000_000}), tiny_source()) as client:
        for shape, status in (((SIZE, SIZE), 200), ((SIZE * 2, SIZE // 2), 400), ((SIZE, SIZE), 200)):
            assert (await client.post(INFER, json=body(*shape), headers=bearer)).status_code == status


async def test_equal_pictures_of_one_request_are_computed_once(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    async with serving(settings.model_copy(update={"cache_max_bytes": 1_000_000}), tiny_source()) as client:
        body = infer_body(RED, RED, RED, outputs=[best()])
        [output] = (await client.post(INFER, json=body, headers=bearer)).json()["outputs"]
        metrics = (await client.get("/metrics")).text
    assert [text.split(":")[2] for text in output["data"]] == ["red"] * 3
    assert "inference_batch_size_sum 1.0" in metrics


async def test_the_answer_says_what_each_stage_took(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await client.post(INFER, json=infer_body(RED, GREEN), headers=bearer)
    stages = [entry.split(";dur=")[0] for entry in response.headers["server-timing"].split(", ")]
    assert stages == ["receive", "decode", "preprocess", "queue", "compute", "postprocess", "inference"]


# Who may not


class Unread(httpx.AsyncByteStream):
    """A body that must not be asked for."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""


async def test_nothing_is_read_for_an_unknown_caller(client: httpx.AsyncClient) -> None:
    response = await client.post(INFER, content=Unread())
    assert_error(response, 401, "bearer token")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_scope_is_needed(client: httpx.AsyncClient, issuer: Issuer) -> None:
    response = await client.post(INFER, content=Unread(), headers=issuer.bearer(scope="profile"))
    assert_error(response, 403, SCOPE)
    assert "insufficient_scope" in response.headers["www-authenticate"]


@pytest.mark.parametrize("path", ["/v2/models/other/infer", "/v2/models/tiny/versions/7/infer"])
async def test_an_unknown_model_is_not_found(client: httpx.AsyncClient, bearer: Mapping[str, str], path: str) -> None:
    assert_error(await client.post(path, content=Unread(), headers=bearer), 404, "there is no")


# What is refused

PIXELS = {"name": "image", "datatype": "UINT8", "data": []}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": []}, "expected 1 input, got 0"),
        ({"inputs": [picture_input(RED)] * 2}, "expected 1 input, got 2"),
        ({"inputs": [{}] * 17}, "at most 16 items"),  # and none of them is looked at
        ({"outputs": [best()] * 17}, "at most 16 items"),
        ({"inputs": [{**picture_input(RED, RED), "shape": [1]}]}, "expected 1 elements, got more"),
        ({"inputs": None}, "inputs: Field required"),
        ({"inputs": [{**picture_input(RED), "name": "pixels"}]}, "unexpected inference input 'pixels'"),
        ({"inputs": [{**picture_input(RED), "datatype": "FP32"}]}, "not all FP32"),
        ({"inputs": [{**picture_input(RED), "datatype": "STRING"}]}, "'STRING' is not known"),
        ({"inputs": [{**picture_input(RED), "shape": [2]}]}, "expected 2 elements, got 1"),
        ({"inputs": [{**picture_input(RED), "shape": [-1]}]}, "shape"),
        ({"inputs": [{**picture_input(RED), "shape": [1, 1, 1]}]}, "BYTES [N] or [N,1]"),
        ({"inputs": [{**picture_input(RED), "data": ["not base64"]}]}, "base64"),
        ({"inputs": [{**picture_input(RED), "data": [5]}]}, "base64"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}, "neither data"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [0], "data": []}]}, "batch size"),
        ({"inputs": [picture_input(*[b"a"] * 65)]}, "batch size must be 1 to 64, got 65"),
        # Sizes of 0 hide how large the others are.
        ({"inputs": [{**PIXELS, "shape": [10**9, 0, 0, 3]}]}, "got 1000000000"),
        ({"inputs": [{**PIXELS, "shape": [2**63, 0, 0, 3]}]}, "the shape is not valid"),
        ({"inputs": [{**PIXELS, "shape": [2**40, 2**40, 0, 3]}]}, "too many elements"),
        ({"inputs": [{**PIXELS, "shape": [10**4000] * 2}]}, "the shape is not valid"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 4], "data": [1, 2, 3, 4]}]}, "UINT8 [N"),
        ({"inputs": [{"name": "image", "datatype": "INT64", "shape": [1], "data": [1]}]}, "unexpected datatype"),
        ({"inputs": [{**picture_input(RED), "parameters": {"shared_memory_region": "a"}}]}, "shared memory"),
        ({"inputs": [{**picture_input(RED), "parameters": {"binary_data_size": 5}}]}, "binary_data_size"),
        ({"inputs": 5}, "inputs"),
        ({"outputs": [{"name": "classes"}]}, "unexpected inference output 'classes'"),
        ({"outputs": [best(), best()]}, "twice"),
        ({"outputs": [{"name": "logits", "parameters": {"classification": -1}}]}, "classification"),
        ({"outputs": [{"name": "logits", "parameters": {"classification": True}}]}, "classification"),
        ({"outputs": [{"name": "logits", "parameters": {"binary_data": 1}}]}, "binary_data"),
        ({"outputs": [{"name": "logits", "parameters": {"shared_memory_region": "a"}}]}, "shared memory"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output"),
        ({"parameters": {"timeout": -1}}, "timeout"),
        ({"parameters": {"timeout": 2**40}}, "timeout"),
        ({"parameters": {"priority": "first"}}, "priority"),
        ({"parameters": {"a": [1]}}, "parameters.a"),
        ({"id": 7}, "id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_not_a_request_is_refused_with_the_reason(
    client: httpx.AsyncClient, bearer: Mapping[str, str], changes: Mapping[str, object], words: str
) -> None:
    assert_error(await client.post(INFER, json={**infer_body(RED), **changes}, headers=bearer), 400, words)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"inputs": [NaN]}', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(
    client: httpx.AsyncClient, bearer: Mapping[str, str], body: bytes
) -> None:
    assert_error(await client.post(INFER, content=body, headers=bearer), 400)


@pytest.mark.parametrize("length", ["1000000", "-1", "many"])
async def test_a_wrong_length_of_the_json_is_refused(
    client: httpx.AsyncClient, bearer: Mapping[str, str], length: str
) -> None:
    headers = {**bearer, "Inference-Header-Content-Length": length}
    assert_error(await client.post(INFER, json=infer_body(RED), headers=headers), 400, "Inference-Header")


async def test_data_that_belong_to_no_input_are_refused(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    body, header = binary_body(infer_body(RED), b"more")
    assert_error(await client.post(INFER, content=body, headers={**bearer, **header}), 400, "4 bytes after")


@pytest.mark.parametrize(
    ("files", "index"), [((RED, GREEN, RED[:60]), 2), ((b"", RED), 0), ((RED, b"no picture"), 1), ((RED[:60],), 0)]
)
async def test_a_bad_picture_fails_its_request_and_is_named(
    client: httpx.AsyncClient, bearer: Mapping[str, str], files: tuple[bytes, ...], index: int
) -> None:
    assert_error(await client.post(INFER, json=infer_body(*files), headers=bearer), 400, f"item {index}: ")


async def test_a_bad_picture_does_not_hurt_other_requests(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    responses = await asyncio.gather(
        *(
            client.post(INFER, json=infer_body(GREEN, RED[:60] if number == 3 else BLUE), headers=bearer)
            for number in range(8)
        )
    )
    assert [response.status_code for response in responses] == [400 if number == 3 else 200 for number in range(8)]


@pytest.mark.parametrize(
    ("datatype", "shape"), [("UINT8", [1, 0, 5, 3]), ("FP32", [1, 3, 7, 8]), ("UINT8", [1, 40, 40, 3])]
)
async def test_pictures_of_a_wrong_size_are_named(
    settings: InferenceSettings, bearer: Mapping[str, str], datatype: str, shape: list[int]
) -> None:
    tensor = {"name": "image", "datatype": datatype, "shape": shape, "data": [0] * int(np.prod(shape))}
    async with serving(settings.model_copy(update={"max_image_pixels": 1000}), tiny_source()) as client:
        assert_error(await client.post(INFER, json={"inputs": [tensor]}, headers=bearer), 400, "item 0: expected")


async def test_numbers_that_are_none_are_refused(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    values = np.zeros((2, 3, SIZE, SIZE), np.float32)
    values[1, 0, 0, 0] = np.nan
    size = {"binary_data_size": values.nbytes}
    tensor = {"name": "image", "datatype": "FP32", "shape": list(values.shape), "parameters": size}
    body, header = binary_body({"inputs": [tensor]}, values.tobytes())
    response = await client.post(INFER, content=body, headers={**bearer, **header})
    assert_error(response, 400, "item 1: a value is infinite or not a number")


async def test_an_answer_that_is_no_number_is_refused(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    class Logarithm(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)).log()

    values = np.zeros((2, 3, SIZE, SIZE), np.float32)
    values[0] = 1
    tensor = {"name": "image", "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
    async with serving(settings, tiny_source(Logarithm())) as client:
        assert_error(await client.post(INFER, json={"inputs": [tensor]}, headers=bearer), 400, "item 1: the model")


async def test_a_body_over_the_limit_is_refused(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    bomb = gzip.compress(bytes(1_000_000))
    async with serving(settings.model_copy(update={"max_infer_bytes": 5000}), tiny_source()) as client:
        declared = await client.post(INFER, content=bytes(5001), headers=bearer)
        unpacked = await client.post(INFER, content=bomb, headers={**bearer, "Content-Encoding": "gzip"})
    assert len(bomb) < 5000
    for response in (declared, unpacked):
        assert_error(response, 413, "5000 bytes")


@pytest.mark.parametrize(
    "body",
    [b"plain", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") * 2, b""],
    ids=["not gzip", "cut off", "two members", "empty"],
)
async def test_a_damaged_compressed_body_is_refused(
    client: httpx.AsyncClient, bearer: Mapping[str, str], body: bytes
) -> None:
    response = await client.post(INFER, content=body, headers={**bearer, "Content-Encoding": "gzip"})
    assert_error(response, 400)


async def test_another_compression_is_refused(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await client.post(INFER, content=b"x", headers={**bearer, "Content-Encoding": "br"})
    assert_error(response, 501, "gzip")
    assert response.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("parameters", "header"), [({"timeout": 1000}, {}), ({}, {"X-Request-Timeout": "0.001"}), ({"timeout": 1}, {})]
)
async def test_a_caller_sets_the_deadline(
    settings: InferenceSettings, bearer: Mapping[str, str], parameters: dict[str, int], header: dict[str, str]
) -> None:
    gate = Gate()
    async with serving(settings, tiny_source(gate)) as client:
        response = await client.post(INFER, json=infer_body(RED, parameters=parameters), headers={**bearer, **header})
        gate.opened.set()
    assert_error(response, 504, "no result within")


async def test_who_would_come_too_late_is_told_to_come_back(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    gate = Gate()
    small = settings.model_copy(update={"max_queue_size": 8})
    async with serving(small, tiny_source(gate)) as client:
        waiting = asyncio.create_task(client.post(INFER, json=infer_body(RED), headers=bearer))
        assert await asyncio.to_thread(gate.entered.wait, 30)
        others = asyncio.create_task(client.post(INFER, json=infer_body(*[RED] * 8), headers=bearer))
        async with asyncio.timeout(30):
            while "inference_queue_size 8.0" not in (await client.get("/metrics")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        refused = await client.post(INFER, json=infer_body(RED, RED), headers=bearer)
        gate.opened.set()
        answered = [await waiting, await others]
    assert_error(refused, 503, "the queue is full")
    assert int(refused.headers["retry-after"]) >= 1
    assert [response.status_code for response in answered] == [200, 200]


async def test_low_priority_waits_for_the_others(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    gate = Gate()
    done: list[str] = []
    one_by_one = settings.model_copy(update={"max_batch_size": 1, "max_queue_size": 8})
    async with serving(one_by_one, tiny_source(gate)) as client:

        async def ask(name: str, priority: int) -> None:
            body = infer_body(RED, parameters={"priority": priority})
            assert (await client.post(INFER, json=body, headers=bearer)).status_code == 200
            done.append(name)

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for name, priority, waiting in (("first", 0, 0), ("low", 2, 1), ("high", 1, 2), ("default", 0, 3)):
                group.create_task(ask(name, priority))
                if name == "first":
                    assert await asyncio.to_thread(gate.entered.wait, 30)
                while f"inference_queue_size {waiting}.0" not in (await client.get("/metrics")).text:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            gate.opened.set()
    assert done == ["first", "high", "default", "low"]


async def test_nobody_waits_for_an_equal_picture_that_comes_behind_them(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    gate = Gate()
    done: list[str] = []
    changes = {"max_batch_size": 1, "max_queue_size": 8, "cache_max_bytes": 1_000_000}
    async with serving(settings.model_copy(update=changes), tiny_source(gate)) as client:

        async def ask(name: str, picture: bytes, priority: int) -> None:
            body = infer_body(picture, parameters={"priority": priority})
            assert (await client.post(INFER, json=body, headers=bearer)).status_code == 200
            done.append(name)

        asked = (("first", RED, 0, 0), ("low", GREEN, 2, 1), ("the same", GREEN, 0, 2), ("other", BLUE, 0, 3))
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for name, picture, priority, waiting in asked:
                group.create_task(ask(name, picture, priority))
                if name == "first":
                    assert await asyncio.to_thread(gate.entered.wait, 30)
                while f"inference_queue_size {waiting}.0" not in (await client.get("/metrics")).text:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            gate.opened.set()
    assert done == ["first", "the same", "other", "low"]


async def test_a_failing_network_is_an_error_of_the_server(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    async with serving(settings, tiny_source(Failing())) as client:
        response = await client.post(INFER, json=infer_body(RED), headers=bearer)
    assert_error(response, 500, "the model failed")
    assert "secret" not in response.text
