"""What is started: four servers, and the variables that tie them together."""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.laptop.data_folder import DataFolder

SPANS_MILLISECONDS = 500
"""How often spans are sent: who watches does not want to wait."""

PORTS = 5
"""The gateway's, those of the three services, and that of inference for gRPC. The next is the observer's."""


@dataclass(frozen=True, slots=True)
class Child:
    """One server process."""

    name: str
    package: str
    port: int
    options: tuple[str, ...] = ()

    def command(self) -> str:
        """Return the shell command; the shell is replaced by the server, which then gets the signals."""
        server = (sys.executable, "-m", "gateway.laptop.server", f"{self.package}.main", str(self.port))
        return "exec " + shlex.join((*server, *self.options))


def children(port: int, *, is_observed: bool = False) -> list[Child]:
    """Return the services, which take the four ports after `port`, the gateway, and what shows all from the inside."""
    observer = Child("observer", "gateway.observing", port + PORTS, ("--no-proxy-headers",))
    return [
        *([observer] if is_observed else []),
        Child("auth", "auth_service", port + 1),
        Child("users", "users_service", port + 2),
        Child("inference", "inference_service", port + 3),
        # It is the first hop: what callers say of hops before it is not to be believed.
        Child("gateway", "gateway", port, ("--no-proxy-headers",)),
    ]


def origin(port: int) -> str:
    """Return the public address, which is also the issuer of the tokens."""
    return f"http://localhost:{port}"


def observer_url(port: int) -> str:
    """Return where traces and metrics are shown: on the loopback interface, and not through the gateway."""
    return f"http://localhost:{port + PORTS}"


def environment(
    port: int, folder: DataFolder, variables: Mapping[str, str], *, is_observed: bool = False
) -> dict[str, str]:
    """Return `variables` with what is missing for a laptop; what the user has set stays."""
    auth, users, inference = (f"http://127.0.0.1:{child.port}" for child in children(port)[:3])
    defaults = {
        "AUTH_DATABASE_URL": _sqlite_url(folder, "auth"),
        "AUTH_ISSUER": origin(port),
        "AUTH_USERS_URL": users,
        "USERS_DATABASE_URL": _sqlite_url(folder, "users"),
        "USERS_ISSUER": origin(port),
        "USERS_AUTH_URL": auth,
        "USERS_SIGN_UP": "open",
        "INFERENCE_ISSUER": origin(port),
        "INFERENCE_AUTH_URL": auth,
        "INFERENCE_GRPC_PORT": str(port + PORTS - 1),
        "INFERENCE_WEIGHTS_DIR": str(folder.path.absolute() / "weights"),
        "INFERENCE_MODES_DIR": str(folder.path.absolute() / "modes"),
        "GATEWAY_AUTH_URL": auth,
        "GATEWAY_USERS_URL": users,
        "GATEWAY_INFERENCE_URL": inference,
        "LOG_FORMAT": "console",
        "LOG_LEVEL": "WARNING",
        "LOG_LEVELS_FILE": str(folder.path.absolute() / "log-levels"),
    }
    if is_observed:
        urls = {child.name: f"http://127.0.0.1:{child.port}" for child in children(port)}
        defaults |= {
            "OBSERVER_SERVICES": json.dumps(urls),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port + PORTS}",
            "OTEL_BSP_SCHEDULE_DELAY": str(SPANS_MILLISECONDS),
        }
    if folder.password_file.exists() and "USERS_ADMIN_PASSWORD" not in variables:
        defaults["USERS_ADMIN_PASSWORD_FILE"] = str(folder.password_file.absolute())
    unset = {name: value for name, value in defaults.items() if f"{name}_FILE" not in variables}
    return {**unset, **variables}


def _sqlite_url(folder: DataFolder, name: str) -> str:
    return f"sqlite+aiosqlite:///{folder.database(name).absolute()}"
