"""What all bodies of all dialects have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Body(BaseModel):
    """Unknown fields are ignored; there is no number that is none, and no half character."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def whole_characters(cls, value: Any) -> Any:
        """JSON can spell halves of characters, which nothing can store or send back."""
        if not _whole(value):
            raise ValueError("a text holds half a character (a lone surrogate)")
        return value


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
