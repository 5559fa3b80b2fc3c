"""What a service does first: it reads its settings, sets up its logs, and warns of variables that are no settings."""

import difflib
import os
import re
from collections.abc import Mapping
from typing import TypeVar

from servicekit.logs import configure_logs, get_logger
from servicekit.settings import ServiceSettings, load_settings, variable_name

UNKNOWN_SETTING = "unknown_setting"
"""The event of a variable that begins as a setting does, and is none."""

_LEAST_LIKENESS = 0.7

# Of a Service `auth` or `auth-...` Kubernetes tells every pod of its namespace, and Docker of a link:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_OF_KUBERNETES = re.compile(r".+_SERVICE_(HOST|PORT(_.+)?)|.+_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*", re.DOTALL)

log = get_logger(__name__)
S = TypeVar("S", bound=ServiceSettings)


def settings_at_start(cls: type[S]) -> S:
    """Read `cls` from the environment, and let this process log as it says.

    Raises:
        SystemExit: a value is missing or bad, as `load_settings` has it.
    """
    settings = load_settings(cls)
    configure_logs(settings.service, level=settings.log_level, format=settings.log_format)
    for variable, closest in unknown_variables(cls, os.environ).items():
        log.warning(UNKNOWN_SETTING, variable=variable, **({"closest": closest} if closest else {}))
    return settings


def unknown_variables(cls: type[ServiceSettings], variables: Mapping[str, str]) -> dict[str, str | None]:
    """Map each variable that begins as the settings of `cls` do, and is none, to the one that it is most like."""
    prefix = str(cls.model_config["env_prefix"])
    names = [variable_name(cls, field) for field in cls.model_fields]
    known = {*names, *(f"{name}_FILE" for name in names), f"{prefix}SECRETS_DIR"}
    # Without the prefix, which would make all of them alike.
    short = {name.removeprefix(prefix): name for name in sorted(known)}
    unknown: dict[str, str | None] = {}
    for name, value in variables.items():
        upper = name.upper()  # settings are found in any case
        if not upper.startswith(prefix) or upper in known or _is_of_kubernetes(name, value):
            continue
        alike = difflib.get_close_matches(upper.removeprefix(prefix), short, n=1, cutoff=_LEAST_LIKENESS)
        unknown[name] = short[alike[0]] if alike else None
    return unknown


def _is_of_kubernetes(name: str, value: str) -> bool:
    # `AUTH_PORT=tcp://10.0.0.7:80` is, `AUTH_PORT=8001` is somebody's who means `PORT`.
    return bool(_OF_KUBERNETES.fullmatch(name) or (name.endswith("_PORT") and _ADDRESS.fullmatch(value)))
