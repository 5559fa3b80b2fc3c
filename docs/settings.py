"""Writes settings.md: `make settings-page`.

Each setting of each service: its variable, what it may hold, its default, and what its docstring says.
"""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from auth_service.settings import AuthSettings
from gateway.settings import GatewaySettings
from inference_service.settings import InferenceSettings
from pydantic import Secret
from servicekit.settings import ServiceSettings, TelemetrySettings, variable_name
from users_service.settings import UsersSettings

PAGE = Path(__file__).with_name("settings.md")
SERVICES: tuple[type[ServiceSettings], ...] = (AuthSettings, UsersSettings, InferenceSettings, GatewaySettings)

BEGINNING = (
    "# Settings\n\n"
    "Written by `make settings-page` from the settings of each service; [configuration.md](configuration.md) tells "
    "what they are for. In a chart those of one service stand under `config` in camel case, or have values of their "
    "own: `INFERENCE_MAX_BATCH_SIZE` is `inference.config.maxBatchSize`.\n"
)

LEFT_OUT = "WORKERS_DIR"
"""What gunicorn's configuration sets for the processes that it starts."""

AT_THE_START = {"LOG_LEVELS_FILE": "`pinhole-log-levels` in the folder of temporary files"}
"""Defaults that depend on the machine."""

MIB = 1024 * 1024


def page() -> str:
    """Return the page, in Markdown: what all services have, then each service, with its own settings first."""
    shared = [name for name in ServiceSettings.model_fields if _is_shared(name)]
    tables = [_table("All services", ServiceSettings, shared)]
    for service in SERVICES:
        own = [name for name in service.__annotations__ if name in service.model_fields]
        inherited = [name for name in service.model_fields if not _is_shared(name) and name not in own]
        tables.append(_table(service.service, service, own + inherited))
    return "\n".join((BEGINNING, *tables))


def _is_shared(name: str) -> bool:
    return name in ServiceSettings.model_fields and not variable_name(AuthSettings, name).startswith("AUTH_")


def _table(title: str, settings: type[ServiceSettings], names: list[str]) -> str:
    meanings = _docstrings(settings)
    schemas = settings.model_json_schema(by_alias=False, mode="serialization")["properties"]
    lines = [f"## {title}\n", "| variable | value | default | meaning |", "| --- | --- | --- | --- |"]
    for name in names:
        variable = variable_name(settings, name)
        if variable != LEFT_OUT:
            default = settings.model_fields[name].get_default(call_default_factory=True)
            value = "secret" if isinstance(default, Secret) else _value(schemas[name])
            row = (f"`{variable}`", value, AT_THE_START.get(variable) or _default(default), meanings[name])
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _docstrings(settings: type[ServiceSettings]) -> dict[str, str]:
    """Return what stands below each field, in one line, with variables in place of the names of fields."""

    def variable(found: re.Match[str]) -> str:
        return f"`{variable_name(settings, found[1])}`" if found[1] in settings.model_fields else found[0]

    words: dict[str, str] = {}
    for cls in settings.__mro__[: settings.__mro__.index(TelemetrySettings) + 1]:
        [definition] = ast.parse(inspect.getsource(cls)).body
        assert isinstance(definition, ast.ClassDef)
        for statement, text in zip(definition.body, definition.body[1:], strict=False):
            match statement, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(docstring))):
                    words.setdefault(name, re.sub(r"`(\w+)`", variable, " ".join(docstring.split())))
    return words


def _value(schema: dict[str, Any]) -> str:
    """Say in a few words what the variable may hold."""
    kinds = (part for part in schema.get("anyOf", [schema]) if part.get("type") != "null")
    return " or ".join(dict.fromkeys(_kind(part) for part in kinds))


def _kind(schema: dict[str, Any]) -> str:
    if choices := schema.get("enum"):
        return ", ".join(f"`{choice}`" for choice in choices)
    match schema.get("type"), schema.get("format"):
        case "boolean", _:
            return "`true`, `false`"
        case "integer", _:
            least = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
            return f"whole number, {least} " + (f"to {schema['maximum']}" if "maximum" in schema else "or more")
        case "number", _:
            least = "above 0" if "exclusiveMinimum" in schema else f"at least {schema['minimum']}"
            return f"number, {least}" + (f", at most {schema['maximum']}" if "maximum" in schema else "")
        case "string", "password":
            return "secret"
        case "string", "path":
            return "path"
        case "string", _:
            return "text"
        case _:
            return "JSON"


def _default(default: Any) -> str:
    match default:
        case None | Secret() | ():
            return ""
        case bool():
            return f"`{str(default).lower()}`"
        case int() if default >= MIB and default % MIB == 0:
            return f"{default} ({default // MIB} MiB)"
        case int() | float():
            return f"{default:.10g}"
        case _:
            return f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
