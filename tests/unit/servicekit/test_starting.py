"""What a service says at its start of variables that it does not know."""

import json
from collections.abc import Callable

import auth_service.main
import gateway.main
import gateway.observing.main
import inference_service.main
import pytest
import users_service.main
from auth_service.settings import AuthSettings
from gateway.settings import GatewaySettings
from inference_service.settings import InferenceSettings
from servicekit.starting import unknown_variables
from users_service.settings import UsersSettings

# What the kubelet makes of Services with these names: one with two named ports, and one with a port of UDP.
OF_KUBERNETES = {
    "INFERENCE_SERVICE_HOST": "10.0.0.7",
    "INFERENCE_SERVICE_PORT": "8080",
    "INFERENCE_SERVICE_PORT_HTTP": "8080",
    "INFERENCE_SERVICE_PORT_GRPC_WEB": "8081",
    "INFERENCE_PORT": "tcp://10.0.0.7:8080",
    "INFERENCE_PORT_8080_TCP": "tcp://10.0.0.7:8080",
    "INFERENCE_PORT_8080_TCP_PROTO": "tcp",
    "INFERENCE_PORT_8080_TCP_PORT": "8080",
    "INFERENCE_PORT_8080_TCP_ADDR": "10.0.0.7",
    "INFERENCE_CANARY_SERVICE_HOST": "10.0.0.8",
    "INFERENCE_CANARY_SERVICE_PORT": "53",
    "INFERENCE_CANARY_PORT": "udp://[fd00::8]:53",
    "INFERENCE_CANARY_PORT_53_UDP": "udp://[fd00::8]:53",
    "INFERENCE_CANARY_PORT_53_UDP_PROTO": "udp",
    "INFERENCE_CANARY_PORT_53_UDP_PORT": "53",
    "INFERENCE_CANARY_PORT_53_UDP_ADDR": "fd00::8",
}


def test_a_misspelt_name_is_told_with_the_closest_known_one() -> None:
    assert unknown_variables(InferenceSettings, {"INFERENCE_MDOE": "eager"}) == {"INFERENCE_MDOE": "INFERENCE_MODE"}
    assert unknown_variables(AuthSettings, {"AUTH_ACESS_TOKEN_SECONDS": "60", "AUTH_CLIENT_FILE": "x"}) == {
        "AUTH_ACESS_TOKEN_SECONDS": "AUTH_ACCESS_TOKEN_SECONDS",
        "AUTH_CLIENT_FILE": "AUTH_CLIENTS_FILE",
    }
    assert unknown_variables(UsersSettings, {"USERS_SIGNUP": "open", "USERS_COLOUR": "red"}) == {
        "USERS_SIGNUP": "USERS_SIGN_UP",
        "USERS_COLOUR": None,
    }


def test_a_name_that_has_no_prefix_is_told_of_one_with_it() -> None:
    assert unknown_variables(GatewaySettings, {"GATEWAY_LOG_LEVEL": "DEBUG"}) == {"GATEWAY_LOG_LEVEL": "LOG_LEVEL"}


def test_settings_in_each_of_their_forms_and_what_is_not_the_services_are_left_alone() -> None:
    variables = ("USERS_SIGN_UP", "users_sign_up", "USERS_ADMIN_PASSWORD_FILE", "USERS_SECRETS_DIR", "USERSNAME")
    others = ("AUTH_COLOUR", "OTEL_SERVICE_NAME", "LOG_LEVEL", "HOME", "PORT")
    assert unknown_variables(UsersSettings, dict.fromkeys((*variables, *others), "x")) == {}


def test_what_kubernetes_makes_of_services_is_left_alone() -> None:
    assert unknown_variables(InferenceSettings, OF_KUBERNETES) == {}
    ours = {"INFERENCE_PORT": "8003", "INFERENCE_GPRC_PORT": "8004"}
    assert unknown_variables(InferenceSettings, ours) == {
        "INFERENCE_PORT": None,
        "INFERENCE_GPRC_PORT": "INFERENCE_GRPC_PORT",
    }


@pytest.mark.parametrize(
    ("service", "create_app"),
    [
        ("auth", auth_service.main.create_app),
        ("users", users_service.main.create_app),
        ("inference", inference_service.main.create_app),
        ("gateway", gateway.main.create_app),
        ("observer", gateway.observing.main.create_app),
    ],
)
def test_each_service_warns_once_at_its_start_and_shows_no_value(
    service: str,
    create_app: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    restored_logging: None,
) -> None:
    prefix = service.upper()
    monkeypatch.setenv(f"{prefix}_BODY_TIMOUT_SECONDS", "hunter2")
    monkeypatch.setenv(f"{prefix}_COLOUR", "hunter2")
    create_app()
    logged = capsys.readouterr().err
    lines = [json.loads(line) for line in logged.splitlines()]
    told = {line["variable"]: line.get("closest") for line in lines if line["event"] == "unknown_setting"}
    assert told == {
        f"{prefix}_BODY_TIMOUT_SECONDS": f"{prefix}_BODY_TIMEOUT_SECONDS",
        f"{prefix}_COLOUR": None,
    }
    assert {(line["level"], line["service"]) for line in lines} == {("warning", service)}
    assert len(lines) == 2
    assert "hunter2" not in logged
