"""Always-on scripts of A1111's web UI: extensions that a request switches on with their own arguments."""

from collections.abc import Mapping
from typing import Any

from pochade.server.middleware import ErrorReply

CONTROLNET = "controlnet"
"""The one that is here."""

FACE_REPAIR = "adetailer"
"""It counts as on where it is given a model and not switched off, so that its `ad_model` tells."""

ON, OFF, UNKNOWN = "on", "off", "unknown"


def check_scripts(scripts: Mapping[str, Any] | None) -> list[str]:
    """Names of scripts of which cannot be told whether they are on: they are left out, which is said.

    Raises Trouble (422, as the original does) for one that is on and is not here.
    """
    untold = []
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
            untold.append(name)
    return untold


def state_of(name: str, script: Any) -> str:
    """ON, OFF or UNKNOWN: whether a script does something, as far as its arguments tell."""
    args = arguments(script)
    if args is None:
        return UNKNOWN
    switches = [each["enabled"] for each in args if isinstance(each, Mapping) and "enabled" in each]
    if isinstance(script, Mapping) and "args" in script and "enabled" in script:
        switches.append(script["enabled"])
    if args and (isinstance(args[0], bool) or _word(args[0]) is not None):
        switches.append(args[0])
    elif name.strip().lower() == FACE_REPAIR:
        models = [each.get("ad_model") for each in args if isinstance(each, Mapping)]
        switches.append(any(model not in (None, "", "None") for model in models))
    if not switches:
        # Without arguments all of them are at their defaults, which do nothing.
        return UNKNOWN if args else OFF
    return ON if any(_is_true(switch) for switch in switches) else OFF


def arguments(script: Any) -> list[Any] | None:
    """Of a script as it is sent, `{"args": [...]}`; None for what is not sent so.

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


def _word(value: Any) -> bool | None:
    """What a text says that stands for true or false."""
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def _is_true(value: Any) -> bool:
    word = _word(value)
    return bool(value) if word is None else word
