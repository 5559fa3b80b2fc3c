"""What the environment may say, and what not."""

import pytest
from inference_service.settings import InferenceSettings
from servicekit.settings import load_settings


def test_the_defaults() -> None:
    settings = InferenceSettings()
    assert settings.max_image_bytes == 10 * 1024 * 1024
    assert settings.max_image_pixels == 64_000_000
    assert (settings.decode_threads, settings.compute_threads) == (None, None)
    assert settings.auth_url == "http://127.0.0.1:8001"


def test_a_queue_that_holds_no_batch_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_MAX_QUEUE_SIZE", "7")
    with pytest.raises(SystemExit, match="INFERENCE_MAX_QUEUE_SIZE must be at least INFERENCE_MAX_BATCH_SIZE"):
        load_settings(InferenceSettings)


def test_models_are_controlled_in_one_worker_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_MODEL_CONTROL", "true")
    monkeypatch.setenv("WORKERS", "2")
    with pytest.raises(SystemExit, match="INFERENCE_MODEL_CONTROL needs WORKERS=1"):
        load_settings(InferenceSettings)


def test_all_that_does_not_go_together_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_MAX_QUEUE_SIZE", "7")
    monkeypatch.setenv("INFERENCE_MAX_BODY_BYTES_IN_FLIGHT", "1")
    with pytest.raises(SystemExit) as stopped:
        load_settings(InferenceSettings)
    assert [line.split(" must ")[0] for line in str(stopped.value).splitlines()] == [
        "bad configuration",
        "  INFERENCE_MAX_QUEUE_SIZE",
        "  INFERENCE_MAX_BODY_BYTES_IN_FLIGHT",
        "  INFERENCE_MAX_BODY_BYTES_IN_FLIGHT",
    ]


def test_a_value_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_MAX_IMAGE_BYTES", "1000")
    assert load_settings(InferenceSettings).max_image_bytes == 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INFERENCE_MAX_IMAGE_BYTES", "0"),
        ("INFERENCE_MAX_IMAGE_PIXELS", "100000000"),
        ("INFERENCE_MAX_INFER_BYTES", "300000000"),
        ("INFERENCE_REQUEST_TIMEOUT_SECONDS", "never"),
        ("INFERENCE_DECODE_THREADS", "0"),
        ("INFERENCE_COMPUTE_THREADS", "-1"),
        ("INFERENCE_MAX_BATCH_SIZE", "0"),
        ("INFERENCE_CACHE_MAX_BYTES", "-1"),
        ("INFERENCE_CACHE_REDIS_URL", "http://localhost"),
        ("INFERENCE_MAX_QUEUE_DELAY_SECONDS", "-1"),
    ],
)
def test_a_bad_value_stops_the_start_with_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=name):
        load_settings(InferenceSettings)
