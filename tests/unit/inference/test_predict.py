"""`POST /predict`: every way to send a picture, and every way to be refused."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from inference_service.main import create_app
from inference_service.model import Model, ModelUnavailable
from inference_service.settings import InferenceSettings
from PIL import Image
from structlog.testing import capture_logs
from torch import Tensor, nn

from tests.asgi import running
from tests.issuer import Issuer, serve_issuer
from tests.unit.inference.conftest import SCOPE, serving, until_ready
from tests.unit.inference.networks import LABELS, Gate, Overflowing, is_warm_up, tiny_model, tiny_source
from tests.unit.inference.pictures import bombs, encoded, photo

RED = encoded(Image.new("RGB", (20, 20), (250, 10, 5)), "PNG")
FORM = "multipart/form-data; boundary=b"


def assert_problem(response: httpx.Response, status: int, slug: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == f"urn:pinhole:problem:{slug}"
    assert "Traceback" not in response.text


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 7):
        yield data[start : start + 7]


def part(name: str, body: bytes, *, file_name: str | None = None) -> bytes:
    """Return one part of a form whose boundary is `b`."""
    disposition = f'form-data; name="{name}"' + (f'; filename="{file_name}"' if file_name is not None else "")
    return b"--b\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + body + b"\r\n"


# What is taken


@pytest.mark.parametrize("path", ["/predict", "/predict/"])
async def test_a_form_with_a_file_is_classified(
    client: httpx.AsyncClient, bearer: Mapping[str, str], path: str
) -> None:
    response = await client.post(path, files={"file": ("red.png", RED, "image/png")}, headers=bearer)
    assert response.status_code == 200
    answer = response.json()
    assert (answer["predicted_class"], answer["label"]) == (0, "red")
    assert answer["predictions"][0] == {"class": 0, "label": "red", "score": answer["score"]}
    assert [found["label"] for found in answer["predictions"]] == list(LABELS)
    assert sum(found["score"] for found in answer["predictions"]) == pytest.approx(1)
    assert answer["model"] == {"name": "tiny", "version": "1"}


@pytest.mark.parametrize(
    "content_type", ["image/png", "IMAGE/PNG", "image/*", "image/jpeg; q=1", "application/octet-stream"]
)
async def test_the_picture_itself_is_classified(
    client: httpx.AsyncClient, bearer: Mapping[str, str], content_type: str
) -> None:
    response = await client.post("/predict", content=RED, headers={**bearer, "Content-Type": content_type})
    assert (response.status_code, response.json()["label"]) == (200, "red")


async def test_a_body_without_a_declared_length_is_classified(
    client: httpx.AsyncClient, bearer: Mapping[str, str]
) -> None:
    response = await client.post("/predict", content=_chunks(RED), headers={**bearer, "Content-Type": "image/png"})
    assert response.status_code == 200


async def test_other_fields_of_a_form_are_left_alone(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await client.post("/predict", data={"note": "mine"}, files={"file": RED, "other": RED}, headers=bearer)
    assert response.status_code == 200


async def test_a_file_over_a_megabyte_is_taken_in_a_form(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    noise = Image.effect_noise((1200, 1000), 90).convert("RGB")
    data = encoded(noise, "PNG")
    assert len(data) > 1_100_000
    assert (await client.post("/predict", files={"file": data}, headers=bearer)).status_code == 200


async def test_the_answer_says_what_each_stage_took(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await client.post("/predict", files={"file": RED}, headers=bearer)
    timings = response.json()["timings"]
    assert list(timings) == ["receive", "decode", "preprocess", "queue", "compute", "postprocess"]
    assert all(0 <= seconds < 10 for seconds in timings.values())
    *header, (whole, _) = [entry.split(";dur=") for entry in response.headers["server-timing"].split(", ")]
    assert whole == "inference"
    assert {stage: float(milliseconds) for stage, milliseconds in header} == pytest.approx(
        {stage: seconds * 1000 for stage, seconds in timings.items()}, abs=0.001
    )


@pytest.mark.parametrize("top_k", [1, 2, 20])
async def test_a_caller_chooses_how_many_classes(
    client: httpx.AsyncClient, bearer: Mapping[str, str], top_k: int
) -> None:
    response = await client.post("/predict", params={"top_k": top_k}, files={"file": RED}, headers=bearer)
    assert len(response.json()["predictions"]) == min(top_k, len(LABELS))


async def test_a_caller_chooses_the_model(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    async with serving(settings, tiny_source(), tiny_source(name="other")) as client:
        chosen = await client.post("/predict?model=other", files={"file": RED}, headers=bearer)
        unsaid = await client.post("/predict", files={"file": RED}, headers=bearer)
    assert [response.json()["model"]["name"] for response in (chosen, unsaid)] == ["other", "tiny"]


async def test_predictions_are_counted(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    await client.post("/predict", files={"file": RED}, headers=bearer)
    await client.post("/predict", files={"file": RED[:50]}, headers=bearer)
    metrics = (await client.get("/metrics")).text
    assert 'inference_requests_total{model="tiny",outcome="ok"} 1.0' in metrics
    assert 'inference_requests_total{model="tiny",outcome="invalid"} 1.0' in metrics
    assert 'inference_stage_duration_seconds_count{stage="compute"} 1.0' in metrics
    assert "inference_requests_in_flight 0.0" in metrics
    (info,) = [line for line in metrics.splitlines() if line.startswith("inference_model_info{")]
    labels = {'device="cpu"', 'dtype="float32"', 'mode="eager"', 'model="tiny"', 'source="test:tiny"', 'version="1"'}
    assert all(label in info for label in labels)
    assert info.endswith(" 1.0")


async def test_one_corrupt_picture_among_good_ones_fails_alone(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    async with serving(settings, tiny_source()) as client:
        responses = await asyncio.gather(
            *(
                client.post("/predict", files={"file": RED[:60] if number == 17 else RED}, headers=bearer)
                for number in range(32)
            )
        )
    assert [response.status_code for response in responses] == [422 if number == 17 else 200 for number in range(32)]
    assert {response.json()["label"] for response in responses if response.status_code == 200} == {"red"}


# Who may not


class Unread(httpx.AsyncByteStream):
    """A body that must not be asked for."""

    def __init__(self) -> None:
        self.was_read = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.was_read = True
        yield RED


@pytest.mark.parametrize(
    ("scope", "query", "status", "slug"),
    [
        (None, "", 401, "unauthorized"),
        ("profile users:read", "", 403, "forbidden"),
        (SCOPE, "?model=none", 404, "unknown-model"),
    ],
)
@pytest.mark.parametrize("content_type", ["image/png", FORM, "text/plain"])
async def test_nothing_is_read_for_a_caller_who_may_not_or_a_model_that_is_not(
    settings: InferenceSettings,
    issuer: Issuer,
    scope: str | None,
    query: str,
    status: int,
    slug: str,
    content_type: str,
) -> None:
    body = Unread()
    headers = {"Content-Type": content_type, **(issuer.bearer(scope=scope) if scope is not None else {})}
    async with serving(settings, tiny_source()) as client:
        request = client.build_request("POST", f"/predict{query}", headers=headers)
        request.stream = body
        response = await client.send(request)
    assert_problem(response, status, slug)
    assert not body.was_read
    if status != 404:
        assert response.headers["www-authenticate"].startswith("Bearer")


async def test_an_unknown_model_is_named(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await client.post("/predict?model=resnet", files={"file": RED}, headers=bearer)
    assert_problem(response, 404, "unknown-model")
    assert "resnet" in response.json()["detail"]


# What is refused


@pytest.mark.parametrize("top_k", ["0", "21", "many"])
async def test_a_number_of_classes_out_of_range_is_422(
    client: httpx.AsyncClient, bearer: Mapping[str, str], top_k: str
) -> None:
    response = await client.post("/predict", params={"top_k": top_k}, files={"file": RED}, headers=bearer)
    assert_problem(response, 422, "invalid-request")
    assert [error["field"] for error in response.json()["errors"]] == ["query.top_k"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/x-www-form-urlencoded", ""])
async def test_another_content_type_is_415(
    client: httpx.AsyncClient, bearer: Mapping[str, str], content_type: str
) -> None:
    response = await client.post("/predict", content=RED, headers={**bearer, "Content-Type": content_type})
    assert_problem(response, 415, "unsupported-media-type")


SMALL = encoded(photo().resize((60, 40)), "JPEG")


@pytest.mark.parametrize(
    ("data", "status", "slug"),
    [
        (b"", 422, "invalid-image"),
        (b"no picture", 415, "not-an-image"),
        (SMALL[: len(SMALL) // 2], 422, "invalid-image"),
        (bombs()["PNG"], 422, "invalid-image"),
    ],
    ids=["empty", "text", "cut short", "bomb"],
)
async def test_what_cannot_be_decoded_is_refused_both_ways(
    client: httpx.AsyncClient, bearer: Mapping[str, str], data: bytes, status: int, slug: str
) -> None:
    form = await client.post("/predict", files={"file": ("a.png", data, "image/png")}, headers=bearer)
    raw = await client.post("/predict", content=data, headers={**bearer, "Content-Type": "image/png"})
    assert_problem(form, status, slug)
    assert_problem(raw, status, slug)


@pytest.mark.parametrize(
    ("form", "detail"),
    [
        (part("picture", RED, file_name="a.png") + b"--b--\r\n", "got 0"),
        (part("file", RED, file_name="a.png") * 2 + b"--b--\r\n", "got 2"),
        (part("file", b"a path, say") + b"--b--\r\n", "got text"),
    ],
    ids=["missing", "two", "text"],
)
async def test_a_form_without_one_file_is_422_and_names_the_field(
    client: httpx.AsyncClient, bearer: Mapping[str, str], form: bytes, detail: str
) -> None:
    response = await client.post("/predict", content=form, headers={**bearer, "Content-Type": FORM})
    assert_problem(response, 422, "invalid-request")
    [error] = response.json()["errors"]
    assert error["field"] == "body.file"
    assert detail in error["detail"]


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        (b"no form at all", FORM),
        (part("file", RED, file_name="a.png") + b"--b--", "multipart/form-data"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", FORM),
        (part("file", RED, file_name="a.png") * 20 + b"--b--\r\n", FORM),
        (part("file", RED, file_name="a") + b"--b--", "multipart/form-data; boundary=" + "b" * 300),
        (part("note", b"x" * 2_000_000) + b"--b--\r\n", FORM),
        (part("note", b"x") + b"--b--\r\n", FORM + "; charset=undefined"),
    ],
    ids=["no form", "no boundary", "no name", "many files", "long boundary", "long text", "a codec that fails"],
)
async def test_a_broken_form_is_422(
    client: httpx.AsyncClient, bearer: Mapping[str, str], form: bytes, content_type: str
) -> None:
    response = await client.post("/predict", content=form, headers={**bearer, "Content-Type": content_type})
    assert_problem(response, 422, "invalid-request")
    assert response.json()["errors"][0]["field"].startswith("body")


@pytest.mark.parametrize("missing", [1, 3, 8, 30])
async def test_a_form_that_is_cut_short_is_422(
    client: httpx.AsyncClient, bearer: Mapping[str, str], missing: int
) -> None:
    form = part("file", RED, file_name="a.png") + b"--b--"
    response = await client.post("/predict", content=form[:-missing], headers={**bearer, "Content-Type": FORM})
    assert_problem(response, 422, "invalid-request")
    assert response.json()["errors"] == [{"field": "body", "detail": "the form is cut short"}]


@pytest.fixture
async def narrow(settings: InferenceSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A service that takes pictures of just the size of `RED`."""
    async with serving(settings.model_copy(update={"max_image_bytes": len(RED)}), tiny_source()) as client:
        yield client


async def test_a_picture_at_the_limit_is_taken_and_one_byte_more_is_413(
    narrow: httpx.AsyncClient, bearer: Mapping[str, str]
) -> None:
    raw = {**bearer, "Content-Type": "image/png"}
    assert (await narrow.post("/predict", files={"file": RED}, headers=bearer)).status_code == 200
    assert (await narrow.post("/predict", content=RED, headers=raw)).status_code == 200
    for response in (
        await narrow.post("/predict", files={"file": RED + b"\0"}, headers=bearer),
        await narrow.post("/predict", content=RED + b"\0", headers=raw),
    ):
        assert_problem(response, 413, "content-too-large")
        assert f"{len(RED)} bytes" in response.json()["detail"]
        assert response.headers["connection"] == "close"


async def test_a_declared_length_over_the_limit_is_413_with_nothing_read(
    narrow: httpx.AsyncClient, bearer: Mapping[str, str]
) -> None:
    body = Unread()
    headers = {**bearer, "Content-Type": "image/png", "Content-Length": str(2**40)}
    request = narrow.build_request("POST", "/predict", headers=headers)
    request.stream = body
    assert_problem(await narrow.send(request), 413, "content-too-large")
    assert not body.was_read


@pytest.mark.parametrize("content_type", ["image/png", FORM])
async def test_without_a_declared_length_reading_stops_at_the_limit(
    narrow: httpx.AsyncClient, bearer: Mapping[str, str], content_type: str
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
        while True:
            sent += 1000
            yield bytes(1000)

    response = await narrow.post("/predict", content=endless(), headers={**bearer, "Content-Type": content_type})
    assert_problem(response, 413, "content-too-large")
    assert sent < 70_000


async def test_a_model_that_is_not_loaded_yet_is_503(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    def fail() -> Model:
        raise ModelUnavailable("no weights")

    async with running(create_app(settings, sources=[tiny_source(load=fail)])) as client:
        response = await client.post("/predict", files={"file": RED}, headers=bearer)
    assert_problem(response, 503, "model-not-ready")
    assert int(response.headers["retry-after"]) > 0


async def test_one_more_than_the_queue_holds_is_503(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    gate = Gate()
    source = tiny_source(load=lambda: tiny_model(gate))
    narrow = settings.model_copy(update={"max_batch_size": 1, "max_queue_size": 1})
    async with serving(narrow, source) as client, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(client.post("/predict", files={"file": RED}, headers=bearer))
        assert await asyncio.to_thread(gate.entered.wait, 30)
        waiting = [tasks.create_task(client.post("/predict", files={"file": RED}, headers=bearer)) for _ in range(2)]
        [refused], [waiting_still] = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        gate.opened.set()
    assert_problem(refused.result(), 503, "overloaded")
    assert int(refused.result().headers["retry-after"]) > 0
    assert [task.result().status_code for task in (running, waiting_still)] == [200, 200]


async def test_a_model_that_fails_is_500(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    class FailingLater(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if not is_warm_up(images):
                raise RuntimeError("a path, a secret")
            return images.mean((2, 3))

    with capture_logs():
        async with serving(settings, tiny_source(FailingLater())) as client:
            response = await client.post("/predict", files={"file": RED}, headers=bearer)
    assert_problem(response, 500, "inference-failed")
    assert "secret" not in response.text


@pytest.mark.parametrize("path", ["/predict", "/explain"])
async def test_a_model_that_gives_no_finite_numbers_has_failed(
    settings: InferenceSettings, bearer: Mapping[str, str], path: str
) -> None:
    async with serving(settings, tiny_source(Overflowing())) as client:
        response = await client.post(path, files={"file": RED}, headers=bearer)
        metrics = (await client.get("/metrics")).text
    assert_problem(response, 500, "inference-failed")
    assert 'inference_requests_total{model="tiny",outcome="error"} 1.0' in metrics


async def test_no_answer_in_time_is_504(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    gate = Gate()
    source = tiny_source(load=lambda: tiny_model(gate))
    async with serving(settings.model_copy(update={"request_timeout_seconds": 0.1}), source) as client:
        response = await client.post("/predict", files={"file": RED}, headers=bearer)
        gate.opened.set()
    assert_problem(response, 504, "deadline-exceeded")


async def test_a_caller_gives_the_time_for_the_answer(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    gate = Gate()
    async with serving(settings, tiny_source(load=lambda: tiny_model(gate))) as client:
        headers = {**bearer, "X-Request-Timeout": "0.1"}
        response = await client.post("/predict", files={"file": RED}, headers=headers)
        gate.opened.set()
    assert_problem(response, 504, "deadline-exceeded")
    assert "0.1 s" in response.json()["detail"]


@pytest.mark.parametrize("seconds", ["0", "-1", "301", "inf", "nan", "soon", ""])
async def test_a_time_that_is_none_is_422(client: httpx.AsyncClient, bearer: Mapping[str, str], seconds: str) -> None:
    body = Unread()
    request = client.build_request(
        "POST", "/predict", headers={**bearer, "Content-Type": "image/png", "X-Request-Timeout": seconds}
    )
    request.stream = body
    response = await client.send(request)
    assert_problem(response, 422, "invalid-request")
    assert [error["field"] for error in response.json()["errors"]] == ["header.X-Request-Timeout"]
    assert not body.was_read


async def test_who_would_wait_too_long_is_503_and_nothing_is_read(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    gate = Gate()
    gate.opened.set()
    async with serving(settings, tiny_source(load=lambda: tiny_model(gate))) as client:
        await client.post("/predict", files={"file": RED}, headers=bearer)
        gate.opened.clear()
        gate.entered.clear()
        running = asyncio.create_task(client.post("/predict", files={"file": RED}, headers=bearer))
        assert await asyncio.to_thread(gate.entered.wait, 30)
        body = Unread()
        request = client.build_request(
            "POST", "/predict", headers={**bearer, "Content-Type": "image/png", "X-Request-Timeout": "1e-6"}
        )
        request.stream = body
        response = await client.send(request)
        metrics = (await client.get("/metrics")).text
        gate.opened.set()
        assert (await running).status_code == 200
    assert_problem(response, 503, "overloaded")
    assert int(response.headers["retry-after"]) == 1
    assert not body.was_read
    assert 'inference_rejections_total{reason="too_late"} 1.0' in metrics


async def test_bodies_that_fill_the_memory_are_503(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    first_half, rest = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield RED[:-1]
        first_half.set()
        await rest.wait()
        yield RED[-1:]

    headers = {**bearer, "Content-Type": "image/png"}
    limits = {"max_image_bytes": len(RED), "max_body_bytes_in_flight": len(RED) + 10}
    async with serving(settings.model_copy(update=limits), tiny_source()) as client:
        sending = asyncio.create_task(client.post("/predict", content=slow(), headers=headers))
        await first_half.wait()
        declared = await client.post("/predict", content=RED, headers=headers)
        undeclared = await client.post("/predict", content=_chunks(RED), headers=headers)
        rest.set()
        assert (await sending).status_code == 200
        assert (await client.post("/predict", content=RED, headers=headers)).status_code == 200
        assert "inference_body_bytes 0.0" in (await client.get("/metrics")).text
    for response in (declared, undeclared):
        assert_problem(response, 503, "overloaded")


async def test_a_body_that_does_not_come_is_408(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    async def never_ending() -> AsyncIterator[bytes]:
        yield RED[:-1]
        await asyncio.Event().wait()

    async with serving(settings.model_copy(update={"body_timeout_seconds": 0.05}), tiny_source()) as client:
        response = await client.post(
            "/predict", content=never_ending(), headers={**bearer, "Content-Type": "image/png"}
        )
    assert_problem(response, 408, "body-too-slow")
    assert response.headers["connection"] == "close"


async def test_a_valid_token_is_taken_while_auth_is_away(settings: InferenceSettings) -> None:
    with ExitStack() as auth_runs:
        auth = auth_runs.enter_context(serve_issuer())
        app = create_app(settings.model_copy(update={"auth_url": auth.url}), sources=[tiny_source()])
        async with running(app) as client:
            await until_ready(client)
            auth_runs.close()
            response = await client.post("/predict", files={"file": RED}, headers=auth.bearer(scope=SCOPE))
    assert response.status_code == 200


# Whatever is sent


@given(
    st.one_of(
        st.binary(max_size=300),
        st.floats(0, 1).map(lambda kept: SMALL[: int(kept * len(SMALL))]),
        st.binary(max_size=60).map(lambda junk: part("file", SMALL, file_name="a") + junk),
        st.floats(0, 1).map(lambda kept: part("file", RED, file_name="a.png")[: int(kept * 400)]),
        st.binary(max_size=40).map(lambda junk: part("file", junk, file_name="a.png") + b"--b--\r\n"),
    ),
    st.sampled_from(["image/png", FORM, "application/octet-stream"]),
)
@tried(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_body_is_an_error_of_ours(
    client: httpx.AsyncClient, bearer: Mapping[str, str], body: bytes, content_type: str
) -> None:
    response = await client.post("/predict", content=body, headers={**bearer, "Content-Type": content_type})
    assert response.status_code in {200, 415, 422}
    assert "Traceback" not in response.text
