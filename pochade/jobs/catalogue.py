"""The models, adapters, upscalers and styles of a server, by name. A client's name is only compared with the
names found, never joined to a path."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pochade.adapters.library import find as find_adapter
from pochade.adapters.library import named_in
from pochade.adapters.library import names as adapter_names
from pochade.adapters.read import few_steps_of_adapter
from pochade.checkpoints.contents import MODEL, Contents
from pochade.checkpoints.few_steps import FewSteps
from pochade.checkpoints.library import (
    ModelEntry,
    describe,
    entries,
    matching_entries,
    shortest_names,
    size_of,
    whole,
)
from pochade.checkpoints.library import folders as kept_in
from pochade.errors import InvalidRequest
from pochade.images.upscaling import LATENT_UPSCALERS, MODEL_SUFFIXES, UPSCALERS
from pochade.prompts.dynamic import expand
from pochade.prompts.extra_networks import extra_networks
from pochade.prompts.styles import Style, apply_styles, find_styles, read_styles
from pochade.prompts.wildcards import folder_of_wildcards, no_wildcards
from pochade.request import DEFAULTS, Defaults
from pochade.settings import STARTER, starter_folder


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The folders of a server. None: not set, or (loras, embeddings, upscalers) those of the roots.

    model: the default model, a name or a path; only the server's command line sets it. roots: see
    `settings.model_roots`. memory: the cache of headers, see `library.describe`.
    """

    model: str | None = None
    roots: tuple[Path, ...] = ()
    memory: Path | None = None
    loras: Path | None = None
    embeddings: Path | None = None
    upscalers: Path | None = None
    styles: Path | None = None
    wildcards: Path | None = None

    def of(self, kind: str) -> list[Path]:
        """Return the folders for a kind, "lora", "embedding" or "upscaler": the configured one, or those of
        all roots."""
        named = {"lora": self.loras, "embedding": self.embeddings, "upscaler": self.upscalers}[kind]
        return kept_in(self.roots, kind) if named is None else [named]

    def as_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            name: [str(each) for each in value] if name == "roots" else None if value is None else str(value)
            for name, value in plain.items()
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Folders":
        paths = {
            name: None if value is None else Path(value)
            for name, value in values.items()
            if name not in ("model", "roots")
        }
        return Folders(model=values["model"], roots=tuple(map(Path, values["roots"])), **paths)


@dataclass(frozen=True)
class ListedModel:
    """A model for clients. family: such as "SD 1.x". few_steps: set if the model was distilled for few
    steps."""

    name: str
    path: Path
    family: str
    bytes: int
    few_steps: FewSteps | None = None

    @property
    def defaults(self) -> Defaults:
        """Return the defaults of jobs with this model."""
        return DEFAULTS if self.few_steps is None else self.few_steps.defaults

    @property
    def single(self) -> bool:
        """Whether the model is a single file, which has a hash."""
        return self.path.is_file()


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Everything found in the folders; made by `scan_folders`. The first model is the default."""

    folders: Folders
    models: Mapping[str, ListedModel]
    default: str
    loras: Sequence[str] = ()
    lora_files: Sequence[ModelEntry] = ()
    embeddings: Sequence[str] = ()
    controlnets: Mapping[str, Path] = field(default_factory=dict)
    upscaler_files: Mapping[str, Path] = field(default_factory=dict)
    styles: Mapping[str, Style] = field(default_factory=dict)
    _adapters: dict[str, Path] = field(default_factory=dict, repr=False, compare=False)

    def model(self, name: str | None) -> ListedModel:
        """Look up a model, ignoring case; a suffix or folder may be omitted if the name stays unique. None is
        the default. Raises InvalidRequest."""
        if name is None or name == "":
            return self.models[self.default]
        if name in self.models:
            return self.models[name]
        requested = name.partition(" [")[0].casefold()  # A1111 adds a hash
        found = _resolve(requested, {each.name: each.path for each in self.models.values()})
        if found is not None:
            return self.models[found]
        raise InvalidRequest(f"model '{name[:200]}' is unknown; one of: {_some(self.models)}")

    def defaults(self, model: str, *prompts: str) -> Defaults:
        """Return the defaults of a job: those that the model, or an adapter in the prompts, was distilled
        for.

        Raises InvalidCheckpoint for a damaged adapter."""
        from pochade.loading.adapters import CHANGES_MUCH, weights_of

        places = self.folders.of("lora")
        for network in (each for prompt in prompts for each in extra_networks(prompt)[1]):
            if not places or weights_of(network)[1] < CHANGES_MUCH:
                continue
            few_steps = few_steps_of_adapter(self._adapter(places, network.name))
            if few_steps is not None:
                return few_steps.defaults
        return self.model(model).defaults

    def _adapter(self, places: Sequence[Path], name: str) -> Path:
        """Return the file of an adapter. The folders are searched once per name, not once per job."""
        path = self._adapters.get(name)
        if path is None or not path.exists():
            path = self._adapters[name] = find_adapter(places, name, "adapters")
        return path

    def upscaler(self, name: str) -> str:
        """Look up a value for `Hires.upscaler`: the name of a built-in method, or the path of a file."""
        for known in (*UPSCALERS, *LATENT_UPSCALERS):
            if known.lower() == name.strip().lower():
                return known
        found = _resolve(name, self.upscaler_files)
        if found is not None:
            return str(self.upscaler_files[found])
        known_names = (*UPSCALERS, *LATENT_UPSCALERS, *self.upscaler_files)
        raise InvalidRequest(f"upscaler '{name[:200]}' is unknown; one of: {_some(known_names)}")

    def controlnet(self, name: str) -> str:
        found = _resolve(name, self.controlnets)
        if found is None:
            raise InvalidRequest(f"ControlNet '{name[:200]}' is unknown; one of: {_some(self.controlnets)}")
        return str(self.controlnets[found])

    def checkpoint(self, name: str) -> str:
        """Return the path of a model for the second pass."""
        return str(self.model(name).path)

    def expanded(self, template: str, seed: int, purpose: str) -> str:
        folder = self.folders.wildcards
        read = no_wildcards if folder is None else folder_of_wildcards(folder)
        return expand(template, seed, read, purpose=purpose)

    def styled(self, prompt: str, negative_prompt: str, styles: Sequence[str]) -> tuple[str, str]:
        return apply_styles(prompt, negative_prompt, find_styles(styles, self.styles))

    def check_prompt(self, prompt: str) -> None:
        """Raise InvalidRequest if the prompt names an unknown LoRA."""
        for network in extra_networks(prompt)[1]:
            if network.kind == "hypernet":
                raise InvalidRequest(
                    f"<hypernet:{network.name[:200]}>: hypernetworks are not supported; remove it"
                )
            matches = matching_entries(network.name, self.lora_files)
            if not matches:
                raise InvalidRequest(f"LoRA '{network.name[:200]}' is unknown; one of: {_some(self.loras)}")
            if len(matches) > 1:
                choices = [self.loras[self.lora_files.index(entry)] for entry in matches]
                raise InvalidRequest(
                    f"LoRA name '{network.name[:200]}' is ambiguous ({len(matches)} files); write one of:"
                    f" {_some(choices)}"
                )


def scan_folders(folders: Folders) -> Catalogue:
    """Scan the folders. Raises InvalidRequest for a missing default model."""
    described = describe(entries(folders.roots), folders.memory or Path("/nonexistent/memory"))
    starter = ModelEntry(STARTER, starter_folder(), starter_folder())
    models = {STARTER: _model(starter, Contents(MODEL, "SD 1.x"))}
    controlnets: dict[str, Path] = {}
    upscalers = _upscalers(folders)
    for entry, contents in described:
        if contents.kind == MODEL:
            models[_free(entry, models)] = _model(entry, contents)
        elif contents.kind == "controlnet":
            found = whole(entry)
            controlnets[_free(found, controlnets)] = found.path
        elif contents.kind == "upscaler" and folders.upscalers is None:
            upscalers.setdefault(entry.path.stem, entry.path)
    default = STARTER if folders.model is None else _default(folders.model, models)
    loras = named_in(folders.of("lora"), "adapters")
    loras = [loras[i] for i in sorted(range(len(loras)), key=shortest_names(loras).__getitem__)]
    return Catalogue(
        folders=folders,
        models={name: replace(model, name=name) for name, model in models.items()},
        default=default,
        loras=shortest_names(loras),
        lora_files=loras,
        embeddings=sorted(adapter_names(folders.of("embedding"), "embeddings")),
        controlnets=controlnets,
        upscaler_files=upscalers,
        styles={} if folders.styles is None else read_styles(folders.styles),
    )


# --- inside -----------------------------------------------------------------------------------------------


def _model(entry: ModelEntry, contents: Contents) -> ListedModel:
    size = size_of(entry.path)
    return ListedModel(entry.name, entry.path, contents.family, size, contents.few_steps)


def _default(requested: str, models: dict[str, ListedModel]) -> str:
    """Return the name of the default model, which is added to the list if it is in another folder."""
    if requested in models:
        return requested
    path = Path(requested).expanduser()
    if path.exists():
        for name, model in models.items():
            if model.path.resolve() == path.resolve():
                return name
        from pochade.checkpoints.contents import contents_of

        contents = contents_of(path)
        if contents.kind != MODEL:
            raise InvalidRequest(
                f"--model '{requested}' is not a complete model but "
                + f"{contents.kind} {contents.family}".rstrip()
            )
        entry = ModelEntry(path.stem if path.is_file() else path.resolve().name, path.absolute(), path.parent)
        name = _free(entry, models)
        models[name] = _model(entry, contents)
        return name
    near = [name for name in models if name.rpartition("/")[2].casefold() == requested.casefold()]
    if len(near) == 1:
        return near[0]
    raise InvalidRequest(
        f"--model '{requested}' is neither a path nor the name of a model; one of: {_some(models)}"
    )


def _free(entry: ModelEntry, taken: Mapping[str, object]) -> str:
    """Return the entry's name, with its suffix or a number if the name is taken."""
    names: Callable[[int], str] = lambda i: f"{entry.name} ({i})"  # noqa: E731
    if entry.name not in taken:
        return entry.name
    if f"{entry.name}{entry.path.suffix}" not in taken:
        return f"{entry.name}{entry.path.suffix}"
    return next(name for name in map(names, range(2, 10_000)) if name not in taken)


def _upscalers(folders: Folders) -> dict[str, Path]:
    """Return all files in the upscaler folders, of any kind."""
    found: dict[str, Path] = {}
    for place in folders.of("upscaler"):
        if place.is_dir():
            for file in sorted(place.iterdir()):
                if file.suffix.lower() in MODEL_SUFFIXES and file.is_file():
                    found.setdefault(file.stem, file)
    return found


def _resolve(requested: str, named: Mapping[str, Path]) -> str | None:
    """Return the unique name in `named` that matches; None if there is none, or more than one."""
    if requested in named:
        return requested
    found = matching_entries(requested, [ModelEntry(name, path, path.parent) for name, path in named.items()])
    return found[0].name if len(found) == 1 else None


def _some(names: object) -> str:
    listed = list(names)  # type: ignore[call-overload]
    return (
        ", ".join(listed[:30]) + (f" and {len(listed) - 30} more" if len(listed) > 30 else "")
        if listed
        else "(there is none)"
    )
