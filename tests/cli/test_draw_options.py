"""`pochade draw` with img2img, inpainting and second passes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.cli.main import main

DRAW = ["draw", "a red apple", "--steps", "2", "--seed", "1", "--size", "64x64"]


@pytest.fixture
def init(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.new("RGB", (64, 64), (40, 160, 60)).save(path)
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    image = Image.new("L", (64, 64))
    image.paste(255, (0, 0, 32, 64))
    image.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def drawn(tmp_path: Path, *options: object) -> Image.Image:
    output = tmp_path / "out.png"
    assert main([*DRAW, "-o", str(output), *map(str, options)]) == 0
    with Image.open(output) as image:
        image.load()
        return image


def test_over_a_picture(tmp_path: Path, init: Path) -> None:
    image = drawn(tmp_path, "--init", init, "--strength", "0.5")
    assert "Denoising strength: 0.5" in image.info["parameters"]


def test_inside_a_mask(tmp_path: Path, init: Path, mask: Path) -> None:
    image = drawn(tmp_path, "--init", init, "--mask", mask, "--mask-blur", "0")
    assert (np.asarray(image)[:, 32:] == (40, 160, 60)).all()


def test_all_that_may_be_said_of_a_mask(tmp_path: Path, init: Path, mask: Path) -> None:
    closer = ("--only-masked", "--padding", "8", "--fill", "noise", "--resize", "fill")
    image = drawn(tmp_path, "--init", init, "--mask", mask, "--mask-blur", "0", *closer)
    assert (np.asarray(image)[:, 32:] == (40, 160, 60)).all()
    assert "Mask blur: 0" in image.info["parameters"]


def test_further_than_the_picture(tmp_path: Path, init: Path) -> None:
    image = drawn(tmp_path, "--init", init, "--outpaint", "0,0,64,0", "--size", "128x64")
    assert image.size == (128, 64)
    assert (np.asarray(image)[:, :40] == (40, 160, 60)).all()


SAME_SIZE = ["draw", "a red apple", "--steps", "2", "--seed", "1"]


def test_without_a_size_the_old_one_and_the_margins_come_out(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (91, 107, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "odd.png")
    half = Image.new("L", (107, 91))
    half.paste(255, (0, 0, 50, 91))
    half.save(tmp_path / "half.png")
    output = str(tmp_path / "out.png")
    inside = ["--mask", str(tmp_path / "half.png"), "--mask-blur", "0"]
    assert main([*SAME_SIZE, "--init", str(tmp_path / "odd.png"), *inside, "-o", output]) == 0
    with Image.open(output) as image:
        np.testing.assert_array_equal(np.asarray(image)[:, 50:], noise[:, 50:])
    further = ["--outpaint", "64", "--mask-blur", "0"]
    Image.new("RGB", (128, 128), (40, 160, 60)).save(tmp_path / "square.png")
    output = str(tmp_path / "further.png")
    assert main([*SAME_SIZE, "--init", str(tmp_path / "square.png"), *further, "-o", output]) == 0
    with Image.open(output) as image:
        assert image.size == (256, 256)
        assert (np.asarray(image)[72:184, 72:184] == (40, 160, 60)).all()


def test_twice_and_in_a_variation(tmp_path: Path) -> None:
    image = drawn(tmp_path, "--hires", "1.5", "--hires-steps", "1", "--variation", "4:0.2", "--tiling")
    assert image.size == (96, 96)
    text = image.info["parameters"]
    assert "Variation seed: 4" in text and "Hires upscale: 1.5" in text and "Tiling: True" in text


def test_a_seed_at_another_size(tmp_path: Path) -> None:
    image = drawn(tmp_path, "--seed-size", "32x48", "--variation", "4:0.2")
    text = image.info["parameters"]
    assert "Seed resize from: 32x48" in text and "Variation seed: 4" in text
    (tmp_path / "alone").mkdir()
    alone = drawn(tmp_path / "alone", "--seed-size", "32x48").info["parameters"]
    assert "Seed resize from: 32x48" in alone and "Variation seed" not in alone


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--strength", "0.5"], "--strength needs a picture: give it as --init"),
        (["--mask", "IN"], "--mask needs a picture: give it as --init"),
        (["--mask-blur", "2"], "--mask-blur needs a picture: give it as --init"),
        (["--fill", "noise"], "--fill needs a picture: give it as --init"),
        (["--only-masked"], "--only-masked needs a picture: give it as --init"),
        (["--padding", "16"], "--padding needs a picture: give it as --init"),
        (["--resize", "fill"], "--resize needs a picture: give it as --init"),
        (["--outpaint", "8"], "--outpaint needs a picture: give it as --init"),
        (["--init", "IN", "--mask-blur", "2"], "--mask-blur needs a mask: give it as --mask"),
        (["--init", "IN", "--fill", "noise"], "--fill needs a mask: give it as --mask"),
        (["--init", "IN", "--only-masked"], "--only-masked needs a mask: give it as --mask"),
        (["--init", "IN", "--mask", "IN", "--padding", "8"], "--padding needs a part that is drawn alone"),
        (["--hires-steps", "3"], "--hires-steps needs a second pass: give its scale as --hires"),
        (["--hires-strength", "0.5"], "--hires-strength needs a second pass: give its scale as --hires"),
        (["--hires-upscaler", "Lanczos"], "--hires-upscaler needs a second pass: give its scale as --hires"),
        (["--hires-prompt", "a"], "--hires-prompt needs a second pass: give its scale as --hires"),
        (["--hires-negative", "a"], "--hires-negative needs a second pass"),
        (["--hires-sampler", "Heun"], "--hires-sampler needs a second pass"),
        (["--hires-schedule", "Karras"], "--hires-schedule needs a second pass"),
        (["--hires-cfg", "3"], "--hires-cfg needs a second pass"),
        (["--hires-model", "starter"], "--hires-model needs a second pass"),
        (["--hires", "2", "--hires-sampler", "magic"], "error: --hires-sampler 'magic' is unknown"),
        (["--refiner-switch", "0.5"], "--refiner-switch needs a model: give it as --refiner"),
        (["--init", "nowhere.png"], "the picture 'nowhere.png' cannot be read: No such file"),
        (["--init", "IN", "--strength", "7"], "--strength is 7.0; it must lie between 0 and 1"),
        (["--init", "IN", "--mask", "IN", "--outpaint", "8"], "--outpaint makes its own mask"),
        (["--hires", "0.5"], "--hires is 0.5"),
        (["--seed-size", "4x64"], "a side in --seed-size is 4"),
    ],
)
def test_what_makes_no_sense(
    init: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DRAW, *(str(init) if option == "IN" else option for option in options)]) == 1
    assert fault in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--outpaint", "a,b"], ["--variation", "x"], ["--outpaint", "0"]])
def test_options_that_cannot_be_read(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*DRAW, *option])
    assert option[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("margins", "complaint"),
    [
        ("-3", "a margin is -3 px; each must lie between 0 and 4096 px"),
        ("5000", "a margin is 5000 px; each must lie between 0 and 4096 px"),
        ("0,0,-1,8", "a margin is -1 px"),
        ("0", "'0' adds nothing; at least one margin must be above 0 px"),
        ("1,2,3", "'1,2,3' does not give margins in pixels; write one number for all sides, such as 64, or"),
        ("wide", "'wide' does not give margins in pixels"),
        ("12.5", "'12.5' does not give margins in pixels"),
    ],
)
def test_margins_that_cannot_be(margins: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*DRAW, "--init", "in.png", f"--outpaint={margins}"])
    assert f"argument --outpaint: {complaint}" in capsys.readouterr().err


def test_a_picture_drawn_inside_a_mask_says_that_the_mask_is_missing(
    tmp_path: Path, init: Path, mask: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = ("--size", "128x64", "--outpaint", "0,0,64,0")
    drawn(tmp_path, "--init", init, *wide)
    first, again = str(tmp_path / "out.png"), str(tmp_path / "again.png")
    assert main(["draw", "--like", first, "-o", again]) == 0
    said = capsys.readouterr().err
    lacks_picture = f"'{first}' was drawn over another picture; give that picture as --init"
    lacks_mask = f"'{first}' was drawn inside a mask; give the mask as --mask, or the margins as --outpaint"
    assert lacks_picture in said and lacks_mask in said
    like = ["draw", "--like", first, "--init", str(init)]
    assert main([*like, "-o", again]) == 0
    said = capsys.readouterr().err
    assert lacks_picture not in said and lacks_mask in said
    for options in (["--outpaint", "0,0,64,0"], ["--mask", str(mask)]):
        assert main([*like, *options, "-o", again]) == 0
        assert "was drawn" not in capsys.readouterr().err


def test_a_picture_drawn_over_another_needs_no_mask(
    tmp_path: Path, init: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(tmp_path, "--init", init)
    first = str(tmp_path / "out.png")
    assert main(["draw", "--like", first, "--init", str(init), "-o", str(tmp_path / "again.png")]) == 0
    assert "was drawn" not in capsys.readouterr().err
