"""`pochade plot`: one file with all pictures and labels."""

from pathlib import Path

import pytest
from PIL import Image

from pochade.cli.main import main
from pochade.images.embedded_text import read_text
from pochade.images.sheet import table


def test_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.png"
    common = ["plot", "a red apple", "--steps", "1", "--seed", "3", "--size", "64x64", "-o", str(path)]
    assert main([*common, "--x", "sampler=Euler,Heun", "--y", "cfg=1,3", "--z", "seed=3,4"]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    with Image.open(path) as page:
        assert page.width > 2 * 64 and page.height > 4 * 64
    assert "Seed: 3" in read_text(path)


def test_bad_axes_draw_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.png"
    assert main(["plot", "a fox", "--x", "steps=1,zero", "-o", str(path)]) == 1
    assert "'zero' is not a value of the axis 'steps'" in capsys.readouterr().err
    assert not path.exists()


def test_pictures_stand_where_they_belong() -> None:
    colours = ["red", "lime", "blue", "black"]
    page = table([Image.new("RGB", (32, 32), colour) for colour in colours], ["a", "b"], ["one", "two"])
    found = {page.getpixel((x, y)): (x, y) for y in range(page.height) for x in range(page.width)}
    red, lime, blue, black = (found[colour] for colour in [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)])
    assert red[0] < lime[0] and red[1] == lime[1] < blue[1] == black[1]
    assert blue[0] == red[0]


@pytest.mark.parametrize("option", [["--count", "3"], ["--preview"], ["-v"]])
def test_options_that_would_change_nothing_are_none(
    tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["plot", "a fox", "--x", "seed=1-2", "-o", str(tmp_path / "table.png"), *option])
    assert f"unrecognized arguments: {option[0]}" in capsys.readouterr().err
