"""What all bodies of all dialects have in common."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, PrivateAttr, model_validator

MOST_NAMED = 200
"""Of unknown fields, so many names are told."""


class Body(BaseModel):
    """There is no number that is none, and no half character. Unknown fields are left out, see `left_out`."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())
    _unknown: list[str] = PrivateAttr(default_factory=list)

    @model_validator(mode="wrap")
    @classmethod
    def unknown_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Remembers their names."""
        body = handler(value)
        if isinstance(value, dict):
            body._unknown = [str(name) for name in value if name not in cls.model_fields]
        return body

    @model_validator(mode="before")
    @classmethod
    def whole_characters(cls, value: Any) -> Any:
        """JSON can spell halves of characters, which nothing can store or send back."""
        if not _whole(value):
            raise ValueError("a text holds half a character (a lone surrogate)")
        return value


def left_out(body: Body) -> list[str]:
    """Names of fields that a client sent and that are unknown, those of bodies within it too ("hires.x")."""
    names = list(body._unknown)
    for field in type(body).model_fields:
        inner = getattr(body, field)
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, Body):
                names += [f"{field}.{name}" for name in left_out(each)]
    return [name[:100] for name in names[:MOST_NAMED]]


def _whole(value: Any) -> bool:
    if isinstance(value, str):
        if value.isascii():
            return True
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    if isinstance(value, dict):
        return all(_whole(name) and _whole(each) for name, each in value.items())
    if isinstance(value, list):
        return all(map(_whole, value))
    return True
