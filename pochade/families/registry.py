"""Which families there are. A new one is added by its own files and one line in `BUILT_IN`.

Families that do not come with the package are registered by `register`.
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
    """Make a family known: its models are found, read and drawn from now on.

    Raises ValueError if another one has its label.
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
    """All of them, in the order in which they were registered."""
    return tuple(_families.values())


def find_family(label: str) -> Family:
    """The family of this label. Raises InvalidCheckpoint, naming all, if there is none."""
    if label not in _families:
        raise InvalidCheckpoint(f"family '{label}' is unknown; one of: {', '.join(_families)}")
    return _families[label]


def family_of(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint that was read."""
    return find_family(checkpoint.family)


for _each in BUILT_IN:
    register(_each)
