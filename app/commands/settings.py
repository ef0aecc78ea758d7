"""`rexecutor settings`: the reference of all settings, made from the class that reads them."""

from typing import Any, get_args

from ..settings import Settings

_HEAD = "| variable | default | range | meaning |\n| --- | --- | --- | --- |"


def render() -> str:
    """Return the reference as a Markdown table."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return "\n".join([_HEAD, *rows]) + "\n"


def show() -> int:
    """Print the reference; return the exit status."""
    print(render(), end="")
    return 0


def _row(name: str, field: Any) -> str:
    default = str(field.default) if not isinstance(field.default, bool | tuple) else _plain(field.default)
    shown = default and f"`{default}`"
    return f"| `REXECUTOR_{name.upper()}` | {shown} | {_range(field)} | {field.description} |"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "[]"


def _range(field: Any) -> str:
    choices = [str(choice) for choice in get_args(field.annotation) if isinstance(choice, str)]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    least = next((each.ge for each in field.metadata if hasattr(each, "ge")), None)
    most = next((each.le for each in field.metadata if hasattr(each, "le")), None)
    return "" if least is None and most is None else f"{least} to {most}"
