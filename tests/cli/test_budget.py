"""`--memory-budget`: the reported plan, on the command line and in the server's worker."""

from pathlib import Path

import pytest

from pochade.jobs.catalogue import Folders
from pochade.jobs.runner import JobRunner
from tests.cli.conftest import Command


def test_it_is_said_what_it_takes(pochade: Command, tmp_path: Path) -> None:
    asked = ("draw", "a fox", "--steps", "2", "--seed", "1", "--engine", "openvino", "--precision", "f32")
    kept = pochade(*asked, "--memory-budget", "4GB", "-o", "kept.png")
    assert kept.returncode == 0 and kept.stderr.startswith("pochade: 128x128 takes about ")
    assert kept.stderr.endswith("; all kept), of 4.0 GB\n")
    sparing = pochade(*asked, "--memory-budget", "300MB", "-o", "sparing.png")
    assert sparing.stderr.endswith("; one at a time), of 300 MB\n")
    assert (tmp_path / "kept.png").read_bytes() == (tmp_path / "sparing.png").read_bytes()
    refused = pochade(*asked, "--memory-budget", "200MB")
    assert refused.returncode == 1
    assert "and the memory budget is 200 MB" in refused.stderr and "Traceback" not in refused.stderr
    nonsense = pochade(*asked, "--memory-budget", "lots")
    assert nonsense.returncode == 1 and "'lots' is not an amount; write 4GB" in nonsense.stderr


def test_a_worker_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    runner = JobRunner(Folders(), memory_budget="4000000000", device="cpu")
    list(runner.prepare(None))
    assert "pochade: starter: 128x128 takes about " in capsys.readouterr().err
    list(JobRunner(Folders(), memory_budget="20000000", device="cpu").prepare(None))
    assert "and the memory budget is 20 MB" in capsys.readouterr().err
    list(JobRunner(Folders(), device="cpu").prepare(None))
    assert capsys.readouterr().err == ""


def test_a_worker_keeps_graphs_within_their_budget() -> None:
    runner = JobRunner(Folders(), graph_budget="300000000", device="cpu")
    list(runner.prepare(None))
    assert runner._loaded is not None
    assert runner._loaded[1].networks.graphs.budget_bytes == 300_000_000


def test_the_server_s_options_reach_its_workers(tmp_path: Path) -> None:
    from argparse import ArgumentParser

    from pochade.cli.server_options import add_drawing_options, add_model_options, options_of
    from pochade.errors import InvalidRequest
    from pochade.jobs.storage import Storage
    from pochade.server.workers import slot_of

    parser = ArgumentParser()
    add_model_options(parser)
    add_drawing_options(parser)
    options = options_of(parser.parse_args(["--graph-budget", "2.5GB"]), tmp_path)
    assert slot_of(options, Storage(tmp_path), "cpu").settings.options["graph_budget"] == "2500000000"
    folding = options_of(parser.parse_args(["--fold-loras"]), tmp_path)
    assert slot_of(folding, Storage(tmp_path), "cpu").settings.options["fold_adapters"] == "yes"
    unsaid = options_of(parser.parse_args([]), tmp_path)
    assert slot_of(unsaid, Storage(tmp_path), "cpu").settings.options["fold_adapters"] == "no"
    assert slot_of(unsaid, Storage(tmp_path), "cpu").settings.options["graph_budget"] == ""
    with pytest.raises(InvalidRequest, match="graph budget 'lots' is not an amount"):
        options_of(parser.parse_args(["--graph-budget", "lots"]), tmp_path)
