"""A network on an engine, which is compiled when it is first used."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from pochade.checkpoints.check import FiniteTensors, check_names
from pochade.checkpoints.folder import Component
from pochade.engines.engine import Engine
from pochade.engines.shape_inference import infer_shapes
from pochade.errors import InvalidCheckpoint
from pochade.loading.compiled_graphs import CompiledGraphs, Graph, graph_bytes
from pochade.loading.parameter_shapes import with_config
from pochade.ops import Shape

Array = NDArray[Any]
Inputs = Mapping[str, tuple[Shape, str]]

TOKENS = 8 * 77
"""The context length up to which one graph serves all lengths, if the engine supports it."""


@dataclass(frozen=True, eq=False)
class Network:
    """Weights and configuration of a network; its functions are compiled for each set of input shapes.

    adapted: whether adapters were added to the weights. graphs: the cache of compiled graphs, shared by all
    networks of a pipeline. factors: LoRA factors that graphs take as inputs (see `weights.FACTOR_DOWN`);
    `plain` is then the network without them, which owns the graphs.
    """

    tensors: Mapping[str, Array]
    fingerprint: str
    engine: Engine
    config: object
    adapted: bool = False
    graphs: CompiledGraphs = field(default_factory=CompiledGraphs, repr=False)
    factors: Mapping[str, Array] = field(default_factory=dict, repr=False)
    plain: "Network | None" = None
    _parameters: dict[object, frozenset[str]] = field(default_factory=dict, repr=False)

    def run(self, function: Callable[..., Any], **arrays: Array) -> Any:
        """Run `function(ops, config, w, **arrays)`, which may be a `partial` with further keywords."""
        inputs = {name: (tuple(array.shape), _kind(array)) for name, array in arrays.items()}
        with self._graph(function, inputs) as graph:
            added = {name: factor for name, factor in self.factors.items() if name in graph.takes}
            return graph(**arrays, **added)

    def prepare(self, function: Callable[..., Any], inputs: Inputs) -> None:
        """Compile the function for inputs of these shapes. Raises InvalidCheckpoint if weights are not
        finite."""
        with self._graph(function, inputs):
            pass

    @property
    def compiled(self) -> Mapping[object, Graph]:
        """The graphs in memory, by function and input shapes."""
        return self.graphs.of(self.owner)

    def release(self) -> None:
        """Drop the compiled graphs; they are compiled again when they are next used."""
        self.graphs.drop(self.owner)

    @property
    def owner(self) -> "Network":
        """The owner of the graphs, which networks with other factors share."""
        return self if self.plain is None else self.plain

    def _with_factors(self, function: Callable[..., Any], inputs: Inputs) -> Inputs:
        """The inputs and the factors of weights that this function uses."""
        if not self.factors:
            return inputs
        form = (function_name(function), tuple(inputs.items()))
        if form not in self._parameters:
            self._parameters[form] = frozenset(
                infer_shapes(with_config(function, self.config), inputs).parameters
            )
        wanted = self._parameters[form]
        names = [name for name in sorted(self.factors) if name.partition(" of ")[2] in wanted]
        return {**inputs, **{name: (self.factors[name].shape, "f32") for name in names}}

    def tokens_side(self, tokens: int) -> int:
        """Return the dimension of a graph's input for so many tokens; -n stands for anything from 1 to n."""
        bounded = tokens <= TOKENS and getattr(self.engine, "bounds_sides", False)
        return -TOKENS if bounded else tokens

    def _bounded(self, inputs: Inputs) -> Inputs:
        """The inputs with a flexible number of tokens, so that a longer text needs no other graph."""
        if "context" not in inputs:
            return inputs
        (batch, tokens, width), kind = inputs["context"]
        return {**inputs, "context": ((batch, self.tokens_side(tokens), width), kind)}

    @contextmanager
    def _graph(self, function: Callable[..., Any], given: Inputs) -> Iterator[Any]:
        inputs = self._bounded(self._with_factors(function, given))
        form = (function_name(function), tuple(inputs.items()))
        bound = with_config(function, self.config)
        key = f"{self.owner.fingerprint} {form[0]} {self.config}"

        def size(restored: bool | None) -> int:
            if restored is None:
                keeps = getattr(self.engine, "keeps", None)
                restored = keeps is not None and keeps(inputs, key=key)
            return graph_bytes(self.engine, bound, given, restored=restored)

        def make() -> Graph:
            # Users often try an adapter's weight only once, so its graph is not stored the first time.
            graph: Graph = self.engine.compile(
                bound,
                self.tensors,
                inputs,
                key=key,
                weights_key=self.owner.fingerprint if self.owner is not self or not self.adapted else "",
                on_second_use=self.adapted,
            )
            return graph

        with self.graphs.using(self.owner, form, size, make) as graph:
            yield graph


def make_network(
    component: Component,
    config: object,
    expected: Mapping[str, Shape],
    engine: Engine | None,
    graphs: CompiledGraphs | None = None,
) -> Network:
    """Create a network and check its weights. Raises InvalidCheckpoint as `make_networks` does."""
    where = component.files[0]
    check_names(component.tensors, expected, where)
    _check_shapes(component.tensors, expected, where)
    tensors, kept = FiniteTensors(component.tensors, where), CompiledGraphs() if graphs is None else graphs
    # Without an engine the network is only checked.
    return Network(tensors, component.fingerprint, cast(Engine, engine), config, graphs=kept)


def _check_shapes(tensors: Mapping[str, Array], expected: Mapping[str, Shape], where: Path) -> None:
    """Check shapes from headers, so that a wrong model is reported when loading and not minutes later."""
    for name, shape in expected.items():
        found = tensors[name].shape
        if found != shape:
            raise InvalidCheckpoint(
                f"tensor '{name}' in '{where}' has shape {found}; the configuration says {shape}: one of the"
                " two belongs to another model"
            )


def _kind(array: Any) -> str:
    """The type's name in engines. array: of the host or of an engine."""
    return "i64" if "int" in str(array.dtype) else "f32"


def function_name(function: Callable[..., Any]) -> str:
    """Return a name that identifies a function, including the keywords of a `partial`."""
    if isinstance(function, partial):
        return f"{function.func.__name__} {sorted(function.keywords.items())}"
    return function.__name__
