"""Always-on scripts of A1111's web UI: extensions that a request enables by sending their arguments."""

from collections.abc import Mapping
from typing import Any

from pochade.server.middleware import ErrorReply

CONTROLNET = "controlnet"
"""The only supported script."""

ADETAILER = "adetailer"
"""Considered enabled if it has an `ad_model` and is not switched off."""

ON, OFF, UNKNOWN = "on", "off", "unknown"


def check_scripts(scripts: Mapping[str, Any] | None) -> list[str]:
    """Return the names of scripts of which it is unknown whether they are enabled; they are left out.

    Raises ErrorReply (422, as A1111 does) for an enabled script that is not supported.
    """
    unknown = []
    for name, script in (scripts or {}).items():
        if name.strip().lower() == CONTROLNET:
            continue
        state = state_of(name, script)
        if state == ON:
            raise ErrorReply(
                422,
                "invalid",
                f"always on script {name[:100]} not found: it is not supported here; disable it",
                "alwayson_scripts",
            )
        if state == UNKNOWN:
            unknown.append(name)
    return unknown


def state_of(name: str, script: Any) -> str:
    """Return ON, OFF or UNKNOWN: whether a script is enabled, according to its arguments."""
    args = arguments(script)
    if args is None:
        return UNKNOWN
    switches = [each["enabled"] for each in args if isinstance(each, Mapping) and "enabled" in each]
    if isinstance(script, Mapping) and "args" in script and "enabled" in script:
        switches.append(script["enabled"])
    if args and (isinstance(args[0], bool) or _parsed_bool(args[0]) is not None):
        switches.append(args[0])
    elif name.strip().lower() == ADETAILER:
        models = [each.get("ad_model") for each in args if isinstance(each, Mapping)]
        switches.append(any(model not in (None, "", "None") for model in models))
    if not switches:
        # Without arguments the script has its defaults, which have no effect.
        return UNKNOWN if args else OFF
    return ON if any(_is_true(switch) for switch in switches) else OFF


def arguments(script: Any) -> list[Any] | None:
    """Return the arguments of a script, normally sent as `{"args": [...]}`; None for any other form.

    Some clients send the list itself, or a single argument, with or without "args".
    """
    if script is None:
        return []
    if isinstance(script, list):
        return script
    if not isinstance(script, Mapping):
        return None
    if script and "args" not in script:
        return [script]
    args = script.get("args")
    if args is None:
        return []
    return args if isinstance(args, list) else [args]


def _parsed_bool(value: Any) -> bool | None:
    """Parse "true" or "false"; None for any other value."""
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def _is_true(value: Any) -> bool:
    parsed = _parsed_bool(value)
    return bool(value) if parsed is None else parsed
