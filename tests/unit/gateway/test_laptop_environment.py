"""What the children are told, and what is kept for them."""

import json
import resource
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gateway.laptop.children import children, environment
from gateway.laptop.data_folder import hold_data_folder, prepare_data_folder
from gateway.laptop.errors import CannotStart
from gateway.laptop.output import Output
from gateway.laptop.readiness import welcome
from honcho.printer import Message


def test_the_services_find_each_other_on_the_ports_after_the_gateways(tmp_path: Path) -> None:
    variables = environment(9000, prepare_data_folder(tmp_path, {}), {})
    assert {child.name: child.port for child in children(9000)} == {
        "gateway": 9000,
        "auth": 9001,
        "users": 9002,
        "inference": 9003,
    }
    assert variables["GATEWAY_AUTH_URL"] == variables["USERS_AUTH_URL"] == "http://127.0.0.1:9001"
    assert variables["GATEWAY_USERS_URL"] == variables["AUTH_USERS_URL"] == "http://127.0.0.1:9002"
    assert variables["GATEWAY_INFERENCE_URL"] == "http://127.0.0.1:9003"
    assert variables["INFERENCE_GRPC_PORT"] == "9004"
    issuers = {variables[f"{name}_ISSUER"] for name in ("AUTH", "USERS", "INFERENCE")}
    assert issuers == {"http://localhost:9000"}


def test_with_observability_all_send_their_spans_to_the_port_after_the_others(tmp_path: Path) -> None:
    folder = prepare_data_folder(tmp_path, {})
    variables = environment(9000, folder, {}, is_observed=True)
    assert [child.port for child in children(9000, is_observed=True) if child.name == "observer"] == [9005]
    assert variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:9005"
    assert json.loads(variables["OBSERVER_SERVICES"])["inference"] == "http://127.0.0.1:9003"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in environment(9000, folder, {})


def test_the_databases_and_weights_are_in_the_data_folder_whatever_the_current_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept").mkdir()
    variables = environment(9000, prepare_data_folder(Path("kept"), {}), {})
    assert variables["AUTH_DATABASE_URL"] == f"sqlite+aiosqlite:///{tmp_path}/kept/auth.db"
    assert variables["USERS_DATABASE_URL"] == f"sqlite+aiosqlite:///{tmp_path}/kept/users.db"
    assert variables["INFERENCE_WEIGHTS_DIR"] == f"{tmp_path}/kept/weights"
    assert variables["INFERENCE_MODES_DIR"] == f"{tmp_path}/kept/modes"


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    mine = {
        "AUTH_ISSUER": "https://pinhole.example",
        "USERS_SIGN_UP": "admin",
        "LOG_LEVEL": "DEBUG",
        "AUTH_DATABASE_URL_FILE": "/run/url",
        "INFERENCE_WEIGHTS_DIR": "/weights",
        "OTHER": "x",
    }
    variables = environment(9000, prepare_data_folder(tmp_path, mine), mine)
    assert mine.items() <= variables.items()
    assert "AUTH_DATABASE_URL" not in variables


def test_a_password_that_the_user_gives_is_not_replaced(tmp_path: Path) -> None:
    mine = {"USERS_ADMIN_PASSWORD": "my own password"}
    folder = prepare_data_folder(tmp_path, mine)
    assert folder.new_password is None
    assert not folder.password_file.exists()
    assert "USERS_ADMIN_PASSWORD_FILE" not in environment(9000, folder, mine)
    assert '"password=$USERS_ADMIN_PASSWORD"' in welcome(9000, folder, mine)


def test_a_password_file_that_the_user_names_is_the_one_in_the_line_to_paste(tmp_path: Path) -> None:
    file = tmp_path / "my password"
    file.touch()
    mine = {"USERS_ADMIN_PASSWORD_FILE": str(file), "USERS_ADMIN_USERNAME": "root"}
    folder = prepare_data_folder(tmp_path, mine)
    assert not folder.password_file.exists()
    assert environment(9000, folder, mine)["USERS_ADMIN_PASSWORD_FILE"] == str(file)
    assert f"-d username=root --data-urlencode \"password=$(cat '{file}')\"" in welcome(9000, folder, mine)


def test_no_password_is_made_where_there_are_accounts_already(tmp_path: Path) -> None:
    (tmp_path / "users.db").touch()
    folder = prepare_data_folder(tmp_path, {})
    assert folder.new_password is None
    assert not folder.password_file.exists()


def test_the_data_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    hold_data_folder(tmp_path / "new").close()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_the_mode_of_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    hold_data_folder(tmp_path).close()
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = prepare_data_folder(tmp_path, {})
    folder.log_file("auth").mkdir()
    with pytest.raises(CannotStart, match=r"cannot write to .*/logs/auth.log: Is a directory"):
        Output(["auth"], folder, is_shown=False)


def test_an_error_of_the_console_is_told_without_what_is_around_it(tmp_path: Path) -> None:
    with Output(["inference"], prepare_data_folder(tmp_path, {}), is_shown=False) as output:
        for event in ("INFERENCE_GRPC_PORT: 127.0.0.1:8004 is in use", "Application startup failed. Exiting."):
            line = f"2026-11-28T08:21:28.667326Z [error    ] {event} [uvicorn.error] service=inference\n"
            output.write(Message("line", line.encode(), datetime.now(UTC), "inference", None))
        assert output.reason("inference") == "INFERENCE_GRPC_PORT: 127.0.0.1:8004 is in use"


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"cannot write to the data folder .*/file/data: Not a directory"):
        hold_data_folder(tmp_path / "file" / "data")


def test_a_full_disk_leaves_no_empty_password_to_later_starts(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # files can be made, and nothing written to them
    try:
        with pytest.raises(CannotStart, match="cannot write to the data folder"):
            prepare_data_folder(tmp_path, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = prepare_data_folder(tmp_path, {})
    assert folder.new_password
    assert folder.password_file.read_text().strip() == folder.new_password
    assert folder.password_file.stat().st_mode & 0o777 == 0o600
