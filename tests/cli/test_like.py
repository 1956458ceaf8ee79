"""`pochade draw --like`: drawing a picture again from its metadata."""

from pathlib import Path

import pytest
from PIL import Image

import pochade
from pochade.cli.main import main
from pochade.images.embedded_text import read_text
from pochade.images.files import save_picture

STARTER = Path(pochade.__file__).parent / "starter"


def test_a_picture_like_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (str(tmp_path / name) for name in ("first.png", "again.png", "other.jpg"))
    options = ["--steps", "2", "--size", "64x64", "--sampler", "Euler", "--cfg", "4"]
    assert main(["draw", "a red apple \\{a|b\\}", *options, "--seed", "7", "-o", first]) == 0
    assert main(["draw", "--like", first, "-o", again]) == 0
    assert main(["draw", "--like", again, "--seed", "8", "-o", other]) == 0
    with Image.open(first) as one, Image.open(again) as two:
        assert one.tobytes() == two.tobytes()
        text = one.info["parameters"]
        assert two.info["parameters"] == text
    with Image.open(other) as image:
        assert image.size == (64, 64)
    assert read_text(other) == text.replace("Seed: 7", "Seed: 8")


def test_a_second_pass_like_another(tmp_path: Path) -> None:
    first, again = (str(tmp_path / name) for name in ("first.png", "again.png"))
    second_pass = ["--hires", "1.5", "--hires-steps", "1", "--hires-upscaler", "Lanczos"]
    plain = ["--steps", "2", "--size", "64x64", "--seed", "7"]
    assert main(["draw", "a red apple", *plain, *second_pass, "-o", first]) == 0
    changes = ["--hires-strength", "0.4", "--hires-upscaler", "Bicubic"]
    assert main(["draw", "--like", first, *changes, "-o", again]) == 0
    text = read_text(first)
    assert "Denoising strength: 0.7" in text and "Hires upscaler: Lanczos" in text
    text = text.replace("Denoising strength: 0.7", "Denoising strength: 0.4")
    assert read_text(again) == text.replace("Hires upscaler: Lanczos", "Hires upscaler: Bicubic")
    # Another scale leaves the rest as it was.
    wider = str(tmp_path / "wider.png")
    assert main(["draw", "--like", first, "--hires", "2", "-o", wider]) == 0
    assert read_text(wider) == read_text(first).replace("Hires upscale: 1.5", "Hires upscale: 2")


def test_a_variation_like_another(tmp_path: Path) -> None:
    first, resized, varied = (str(tmp_path / name) for name in ("first.png", "resized.png", "varied.png"))
    plain = ["--steps", "1", "--size", "64x64", "--seed", "7"]
    assert main(["draw", "a fox", *plain, "--variation", "4:0.2", "--seed-size", "32x48", "-o", first]) == 0
    text = read_text(first)
    assert "Variation seed: 4" in text and "Seed resize from: 32x48" in text
    # Either is changed alone.
    assert main(["draw", "--like", first, "--seed-size", "48x32", "-o", resized]) == 0
    assert read_text(resized) == text.replace("from: 32x48", "from: 48x32")
    assert main(["draw", "--like", first, "--variation", "5:0.2", "-o", varied]) == 0
    assert read_text(varied) == text.replace("Variation seed: 4", "Variation seed: 5")


def test_what_is_not_followed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (str(tmp_path / name) for name in ("first.png", "again.png", "other.png"))
    known = "a fox\nSteps: 1, Sampler: Euler, Seed: 1, Size: 64x64, RNG: CPU, Emphasis: No norm"
    save_picture(Image.new("RGB", (64, 64)), Path(first), f"{known}, Model: dreamlike, ENSD: 31337, NGMS: 2")
    assert main(["draw", "--like", first, "-o", again]) == 0
    said = capsys.readouterr().err
    assert f"'{first}' was drawn with the model 'dreamlike'; give it as --model" in said
    assert f"these settings of '{first}' are not supported and were ignored: ENSD: 31337, NGMS: 2" in said
    assert "RNG: CPU, Emphasis: No norm" in read_text(again)
    assert main(["draw", "--like", again, "--rng", "nv", "--emphasis", "ignore", "-o", other]) == 0
    assert "not supported" not in (said := capsys.readouterr().err) and "was drawn with" not in said
    assert "RNG: NV, Emphasis: Ignore" in read_text(other)
    assert main(["draw", "a fox", "--rng", "mps"]) == 1
    assert "rng is 'mps'; one of: NV, CPU" in capsys.readouterr().err
    assert main(["draw", "a fox", "--emphasis", "loud"]) == 1
    assert "emphasis is 'loud'; one of: Original, No norm, Ignore, None" in capsys.readouterr().err


def test_an_autoencoder_is_asked_for_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, given = tmp_path / "first.png", str(tmp_path / "again.png"), str(tmp_path / "given.png")
    text = "a fox\nSteps: 1, Sampler: Euler, Seed: 1, Size: 64x64, VAE hash: 0123456789, VAE: good.pt"
    save_picture(Image.new("RGB", (64, 64)), first, text)
    assert main(["draw", "--like", str(first), "-o", again]) == 0
    said = capsys.readouterr().err
    assert f"'{first}' was drawn with the autoencoder 'good.pt'; give it as --vae" in said
    assert "not supported" not in said and "VAE" not in read_text(again)
    assert main(["draw", "--like", str(first), "--vae", str(STARTER / "vae"), "-o", given]) == 0
    assert "autoencoder" not in capsys.readouterr().err
    assert ", VAE: starter" in read_text(given)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--hires-strength", "0.4"], "--hires-strength needs a second pass"),
        (["--refiner-switch", "0.4"], "--refiner-switch needs a model"),
        (["--style", "3d", "--styles", "styles.csv"], "--style needs a prompt"),
        (["--wildcards", "."], "--wildcards needs a prompt"),
    ],
)
def test_what_would_change_nothing(
    tmp_path: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_picture(
        Image.new("RGB", (64, 64)), tmp_path / "first.png", "a fox\nSteps: 1, Sampler: Euler, Seed: 1"
    )
    assert main(["draw", "--like", str(tmp_path / "first.png"), *options]) == 1
    assert fault in capsys.readouterr().err


def test_nothing_to_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw"]) == 1
    assert "there is no prompt" in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    assert main(["draw", "--like", str(tmp_path / "bare.png")]) == 1
    assert "contains no parameters text" in capsys.readouterr().err


def test_a_second_pass_with_settings_of_its_own_like_another(tmp_path: Path) -> None:
    first, again, other = (str(tmp_path / name) for name in ("first.png", "again.png", "other.png"))
    own = [
        "--hires", "1.5", "--hires-steps", "1", "--hires-prompt", "an {owl}, wise", "--hires-negative",
        "snow", "--hires-sampler", "Heun", "--hires-schedule", "Karras", "--hires-cfg", "3",
        "--hires-model", "starter",
    ]  # fmt: skip
    plain = ["--steps", "2", "--size", "64x64", "--seed", "7"]
    assert main(["draw", "a red apple", *plain, *own, "-o", first]) == 0
    text = read_text(first)
    for part in (
        'Hires prompt: "an owl, wise"', "Hires negative prompt: snow", "Hires sampler: Heun",
        "Hires schedule type: Karras", "Hires CFG Scale: 3", "Hires checkpoint: starter",
    ):  # fmt: skip
        assert part in text
    assert main(["draw", "--like", first, "-o", again]) == 0
    with Image.open(first) as one, Image.open(again) as two:
        assert one.tobytes() == two.tobytes()
    assert read_text(again) == text
    assert main(["draw", "--like", first, "--hires-sampler", "Euler", "-o", other]) == 0
    assert read_text(other) == text.replace("Hires sampler: Heun", "Hires sampler: Euler")
