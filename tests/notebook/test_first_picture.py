"""Executes the introductory notebook."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "first_picture.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the kernel's own packages
def test_every_cell_runs_and_shows_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))  # so that the kernel runs this checkout
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type in ("display_data", "execute_result")
        and "data:image/webp" in output.data.get("text/html", "")
    ]
    assert len(shown) == 6
    assert [output.data["text/html"].count("<img ") for output in shown] == [1, 8, 1, 4, 1, 4]
    assert "image/png" in shown[-1].data
    assert (tmp_path / "fox.png").stat().st_size > 1000
    said = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not any(output.get("ename") for cell in notebook.cells for output in cell.get("outputs", []))
    assert any("Seed: 7" in text for text in said)
