"""An output area in a notebook cell that is updated while a drawing is in progress."""

from dataclasses import dataclass
from typing import Any

from pochade.errors import MissingDependency


@dataclass(frozen=True)
class Frame:
    """Content of the output area: HTML for notebooks, and text for front ends without HTML."""

    html: str
    words: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.words


class DisplayHandle:
    """The output area, opened with the first frame; `show` replaces the frame.

    Raises MissingDependency without IPython.
    """

    def __init__(self, first: Frame) -> None:
        try:
            from IPython.display import display
        except ImportError as absent:
            raise MissingDependency(
                "drawing in a notebook needs IPython: pip install 'pochade[notebook]'"
            ) from absent
        put: Any = display  # it has no types
        self._handle: Any = put(first, display_id=True)

    def show(self, frame: Frame) -> None:
        if self._handle is not None:  # None outside a notebook: there, what was shown stays
            self._handle.update(frame)


def bar(step: int, steps: int, words: str) -> str:
    """A progress bar with a text below it, as HTML."""
    share = 100 * step / max(1, steps)
    return (
        '<div style="font:12px sans-serif;opacity:.85;max-width:512px;margin-top:6px">'
        '<div style="height:5px;border-radius:5px;background:#8884">'
        f'<div style="height:5px;border-radius:5px;width:{share:.0f}%;background:#b4502f"></div></div>'
        f"{words}</div>"
    )
