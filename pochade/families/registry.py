"""The registry of families. A new family is added in its own files and by one line in `BUILT_IN`.

Families outside of the package are registered with `register`.
"""

from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.readers import register_reader, remove_reader
from pochade.errors import InvalidCheckpoint
from pochade.families.family import Family
from pochade.families.stable_diffusion import SD1, SD2
from pochade.families.stable_diffusion_xl import REFINER, XL

BUILT_IN = (SD1, SD2, XL, REFINER)

_families: dict[str, Family] = {}


def register(family: Family) -> None:
    """Register a family, so that its models are recognised, read and drawn.

    Raises ValueError if its label is taken.
    """
    if _families.get(family.label, family) is not family:
        raise ValueError(f"there is a family '{family.label}' already")
    _families[family.label] = family
    if family.reader is not None:
        register_reader(family.reader)


def remove(family: Family) -> None:
    """Undo `register`."""
    _families.pop(family.label, None)
    if family.reader is not None:
        remove_reader(family.reader)


def families() -> tuple[Family, ...]:
    """Return all families in order of registration."""
    return tuple(_families.values())


def find_family(label: str) -> Family:
    """Return the family with this label. Raises InvalidCheckpoint, listing all, if it is unknown."""
    if label not in _families:
        raise InvalidCheckpoint(f"family '{label}' is unknown; one of: {', '.join(_families)}")
    return _families[label]


def family_of(checkpoint: Checkpoint) -> Family:
    """Return the family of a checkpoint."""
    return find_family(checkpoint.family)


for _each in BUILT_IN:
    register(_each)
