"""Compiled graphs in memory: the least recently used go, what a drawing needs stays, and the sum is right."""

import gc
import threading
from dataclasses import replace

import numpy as np
import pytest

import pochade
from pochade.errors import InvalidRequest
from pochade.loading.compiled_graphs import CompiledGraphs, default_budget, graph_bytes
from pochade.loading.networks import OPENED
from pochade.loading.parameter_shapes import with_config
from pochade.machine import memory_bytes, usable_memory_bytes
from pochade.models.unet import unet
from pochade.request import Request
from pochade.request_options import Hires

OPTIONS = {"prompt": "a red apple", "seed": 7, "steps": 2}


class Owner:
    """What graphs belong to."""


class Graph:
    restored = True

    def __init__(self, name):
        self.name, self.waited = name, False

    def __call__(self):
        return self.name

    def wait_stored(self):
        self.waited = True


def using(graphs, owner, form, size=10):
    """Use a graph as a drawing of its own, and return it."""
    graphs.begin_part()
    with graphs.using(owner, form, lambda restored: size, lambda: Graph(form)) as graph:
        return graph


def forms(graphs, owner):
    return "".join(sorted(graphs.of(owner)))


def test_the_least_recently_used_go_first():
    graphs, owner = CompiledGraphs(30), Owner()
    first = {form: using(graphs, owner, form) for form in "abc"}
    assert forms(graphs, owner) == "abc" and graphs.held_bytes == 30
    assert using(graphs, owner, "a") is first["a"], "kept, and now the latest"
    using(graphs, owner, "d")
    assert forms(graphs, owner) == "acd" and graphs.held_bytes == 30
    assert first["b"].waited, "what is being written to the disk is in memory until it is written"
    using(graphs, owner, "e", size=20)
    assert forms(graphs, owner) == "de"
    assert using(graphs, owner, "a") is not first["a"]


def test_networks_share_one_budget():
    graphs, one, other = CompiledGraphs(30), Owner(), Owner()
    using(graphs, one, "a")
    using(graphs, other, "b")
    using(graphs, other, "c", size=20)
    assert (forms(graphs, one), forms(graphs, other)) == ("", "bc")


def test_what_one_drawing_needs_it_gets():
    """Two graphs that alternate are both kept, however large; the next drawing lets go of one."""
    graphs, owner = CompiledGraphs(15), Owner()
    made = []

    def use(form):
        def make():
            made.append(form)
            return Graph(form)

        with graphs.using(owner, form, lambda restored: 10, make):
            pass

    graphs.begin_part()
    for form in "abababab":
        use(form)
    assert made == ["a", "b"] and graphs.held_bytes == 20
    graphs.begin_part()
    use("b")
    use("c")
    assert forms(graphs, owner) == "bc" and made == ["a", "b", "c"]


def test_what_is_running_is_not_dropped():
    graphs, owner = CompiledGraphs(10), Owner()
    with graphs.using(owner, "a", lambda restored: 10, lambda: Graph("a")) as running:
        graphs.begin_part()
        using(graphs, owner, "b")
        assert forms(graphs, owner) == "ab" and running() == "a"
    using(graphs, owner, "c")
    assert forms(graphs, owner) == "c"


def test_what_was_made_elsewhere_counts_by_what_it_is():
    """A graph from the disk holds less than one that was compiled here, and only then it is known which."""
    graphs, owner = CompiledGraphs(100), Owner()
    with graphs.using(owner, "a", lambda restored: 10 if restored else 20, lambda: Graph("a")):
        assert graphs.held_bytes == 10
    compiled = Graph("b")
    compiled.restored = False
    with graphs.using(owner, "b", lambda restored: 10 if restored else 20, lambda: compiled):
        assert graphs.held_bytes == 30


def test_a_graph_that_cannot_be_made_takes_no_room():
    graphs, owner = CompiledGraphs(10), Owner()

    def fail():
        raise ValueError("no such form")

    for _ in range(2):
        with pytest.raises(ValueError, match="no such form"):
            graphs.using(owner, "a", lambda restored: 10, fail).__enter__()
    assert graphs.held_bytes == 0 and not graphs.of(owner)
    using(graphs, owner, "a")
    assert forms(graphs, owner) == "a"


def test_graphs_go_with_their_owner():
    graphs, owner, other = CompiledGraphs(100), Owner(), Owner()
    using(graphs, owner, "a")
    using(graphs, other, "b")
    del owner
    gc.collect()
    assert graphs.held_bytes == 10
    graphs.drop(other)
    graphs.drop(other)
    assert graphs.held_bytes == 0


def test_threads_that_ask_for_one_graph_make_it_once():
    graphs, owner, made, all_there = CompiledGraphs(100), Owner(), [], threading.Barrier(4)

    def make():
        made.append(1)
        return Graph("a")

    def use():
        all_there.wait()
        for _ in range(50):
            with graphs.using(owner, "a", lambda restored: 10, make) as graph:
                assert graph() == "a"

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1] and graphs.held_bytes == 10


def test_the_default_fits_the_memory_and_its_container(tmp_path):
    found = memory_bytes()
    if found is None:
        pytest.skip("the system does not say")
    assert usable_memory_bytes(tmp_path) == found[0]
    assert 0 < default_budget() <= found[0] / 2
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_memory_bytes(tmp_path) == found[0]
    (tmp_path / "memory.max").write_text("1000000\n")
    assert usable_memory_bytes(tmp_path) == 10**6
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("500000\n")
    assert usable_memory_bytes(tmp_path) == 500_000


# --- with a model -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starter():
    return pochade.load(device="cpu", precision="f32", engine="openvino")


def sized(networks, side, *, restored=True):
    config = networks.unet_config
    inputs = {
        "x": ((2, config.in_channels, side, side), "f32"),
        "time": ((2, config.widths[0]), "f32"),
        "context": ((2, 77, config.context_width), "f32"),
    }
    return graph_bytes(networks.unet.engine, with_config(unet, config), inputs, restored=restored)


def test_what_a_graph_holds(starter):
    """Weights in the engine's width, once more if they were rounded here, and what grows with the size."""
    weights = sum(tensor.size for tensor in starter.networks.unet.tensors.values())
    small, large = (sized(starter.networks, side) for side in (16, 32))
    assert 4 * weights < small < 4 * 1.2 * weights + 80e6
    assert large > small and (large - small) / 3 == pytest.approx(
        (sized(starter.networks, 64) - large) / 12, rel=0.01
    )
    assert sized(starter.networks, 16, restored=False) == small, "f32 is not rounded"
    eight = pochade.load(device="cpu", precision="int8", engine="openvino").networks
    assert sized(eight, 16) < small - 2 * weights
    assert sized(eight, 16, restored=False) > sized(eight, 16) + 0.9 * weights


def test_engines_that_share_weights_need_no_budget(starter):
    numpy = pochade.load(device="cpu", precision="f32", engine="numpy")
    assert sized(numpy.networks, 16) == 0
    with pytest.raises(InvalidRequest, match="only with OpenVINO, but this would use numpy; omit"):
        pochade.load(device="cpu", precision="f32", engine="numpy", graph_budget="1GB")


def test_many_sizes_stay_within_the_budget_and_are_the_same_pictures(starter):
    networks = starter.networks
    budget = 2 * sized(networks, 16) + 300 * 10**6
    small = pochade.load(device="cpu", precision="f32", engine="openvino", graph_budget=budget)
    graphs = small.networks.graphs
    for width in (64, 128, 192, 64, 96, 160, 128):
        options = {**OPTIONS, "width": width, "height": 64}
        ours, theirs = (each.txt2img(**options).images[0] for each in (small, starter))
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
        assert graphs.held_bytes <= budget
    assert len(networks.unet.compiled) == 5 > len(small.networks.unet.compiled) >= 1


def test_a_second_pass_lets_go_of_the_first_ones_size(starter):
    tight = pochade.load(device="cpu", precision="f32", engine="openvino", graph_budget="1MB")
    request = Request(**OPTIONS, width=64, height=64, hires=Hires(scale=2.0))
    for _ in tight.stream(request):
        pass
    assert len(tight.networks.unet.compiled) == 1
    assert len(starter.networks.unet.compiled) > 0


def test_adapted_networks_and_those_beside_share_the_budget(starter, tmp_path):
    networks = starter.networks
    every = [networks.unet, networks.autoencoder, networks.text_encoder]
    assert all(network.graphs is networks.graphs for network in every)

    def open_network(engine, path, *, graphs):
        return replace(networks.unet, graphs=graphs)

    opened = [networks.auxiliary(tmp_path / f"{i}.safetensors", open_network) for i in range(OPENED)]
    assert all(each.graphs is networks.graphs for each in opened)
    assert networks.auxiliary(tmp_path / "0.safetensors", open_network) is opened[0]
    networks.auxiliary(tmp_path / "another.safetensors", open_network)
    assert len(networks.opened) == OPENED, "not one more for each that was ever asked for"
    assert networks.auxiliary(tmp_path / "0.safetensors", open_network) is opened[0], "used lately"
    assert networks.auxiliary(tmp_path / "1.safetensors", open_network) is not opened[1]
    networks.opened.clear()


def test_the_budget_may_be_said_in_several_ways(monkeypatch):
    load = {"device": "cpu", "precision": "f32", "engine": "openvino"}

    def budget(**options):
        return pochade.load(**load, **options).networks.graphs.budget_bytes

    assert budget() == default_budget()
    assert budget(graph_budget="3GB") == 3 * 10**9
    assert budget(memory_budget="2GB") == 2 * 10**9
    assert budget(memory_budget="2GB", graph_budget="1GB") == 10**9
    monkeypatch.setenv("POCHADE_GRAPH_BUDGET", "500MB")
    assert budget() == 5 * 10**8 and budget(graph_budget="3GB") == 3 * 10**9
    monkeypatch.setenv("POCHADE_GRAPH_BUDGET", "lots")
    with pytest.raises(InvalidRequest, match="'lots' is not an amount"):
        budget()
    with pytest.raises(InvalidRequest, match="graph budget 'x' is not an amount"):
        budget(graph_budget="x")


def test_the_disk_s_budget_may_be_said_too(monkeypatch, tmp_path):
    monkeypatch.setenv("POCHADE_CACHE_BUDGET", "7GB")
    engine = pochade.load(device="cpu", precision="f32", engine="openvino").networks.unet.engine
    assert engine._blobs.budget_bytes == 7 * 10**9
    monkeypatch.setenv("POCHADE_CACHE_BUDGET", "nothing")
    with pytest.raises(InvalidRequest, match="POCHADE_CACHE_BUDGET 'nothing' is not an amount"):
        pochade.load(device="cpu", precision="f32", engine="openvino")
