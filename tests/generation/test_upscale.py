"""Upscaler models from files in all formats, in tiles, and in second passes."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pochade.checkpoints.upscaler import read_upscaler
from pochade.configs.read_json import rrdb_config
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.generation.upscale import resize_with, upscale_with
from pochade.loading.auxiliary import load_upscaler
from pochade.request_options import Hires
from tests.reference import psnr
from tests.upscalers import first_names, make_upscaler, trunk_names


def photo(width: int = 40, height: int = 28) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 3), np.cos(y / 4), np.sin((x + y) / 5)], axis=-1)
    return Image.fromarray((127.5 + 100 * waves).astype(np.uint8))


def tamed(**settings):
    """Whose colours lie within 0..1 for the most part."""
    model = make_upscaler(**settings)
    with torch.no_grad():
        model.conv_last.weight *= 0.15
        model.conv_last.bias += 0.5
    return model


def reference(model, image: Image.Image) -> np.ndarray:
    pixels = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255)
    with torch.inference_mode():
        made = model(pixels)[0].clip(0, 1).numpy().transpose(1, 2, 0)
    return np.rint(made * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """x4, in the canonical names."""
    path = tmp_path_factory.mktemp("upscaler") / "tiny_x4.safetensors"
    save_file(tamed().state_dict(), path)
    return path


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
@pytest.mark.parametrize("settings", [{}, {"unshuffle": 2}])
def test_a_picture(tmp_path, engine, settings):
    model = tamed(**settings)
    save_file(model.state_dict(), tmp_path / "it.safetensors")
    network = load_upscaler(tmp_path / "it.safetensors", device="cpu", precision="f32", engine=engine)
    larger = upscale_with(network, photo())
    assert psnr(np.asarray(larger), reference(model, photo())) > 50


@pytest.mark.parametrize("layout", ["first", "first, one doubling", "trunk", "params_ema", "prefixed"])
def test_files_of_every_age(tmp_path, layout):
    model = tamed(doublings=1) if "one" in layout else tamed()
    path = tmp_path / "it.pth"
    content = {
        "first": first_names(model),
        "first, one doubling": first_names(model),
        "trunk": trunk_names(model),
        "params_ema": {"params": tamed(blocks=1).state_dict(), "params_ema": model.state_dict()},
        "prefixed": {f"params_ema.{name}": value for name, value in model.state_dict().items()},
    }[layout]
    torch.save(content, path)
    component = read_upscaler(path)
    assert rrdb_config(component.config).scale == (2 if "one" in layout else 4)
    expected = model.state_dict()
    assert set(component.tensors) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(component.tensors[name], value.numpy())


@pytest.mark.parametrize("settings", [{}, {"unshuffle": 2}])
@pytest.mark.parametrize("tile", [16, 256])
def test_edges_that_fit_together_still_do(tmp_path, settings, tile):
    """A picture that goes round is enlarged the same wherever it begins."""
    save_file(tamed(**settings).state_dict(), tmp_path / "it.safetensors")
    network = load_upscaler(tmp_path / "it.safetensors", device="cpu", precision="f32")
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    by = 12  # where the second of two parts begins
    moved = Image.fromarray(np.roll(noise, (by, by), (0, 1)))
    scale = network.config.scale

    def larger(image, **options):
        return np.asarray(upscale_with(network, image, tile=tile, **options))

    expected = np.roll(larger(Image.fromarray(noise), tiling=True), (by * scale, by * scale), (0, 1))
    assert psnr(larger(moved, tiling=True), expected) > 60 > psnr(larger(moved), expected)


def test_a_part_of_a_picture_is_enlarged_as_it_is_within_the_whole(file):
    network = load_upscaler(file, device="cpu", precision="f32")
    image, box = photo(160, 48), (80.0, 8.5, 120.0, 38.5)
    whole = resize_with(network, image, 640, 192)
    expected = whole.crop((320, 34, 480, 154))
    found = resize_with(network, image, 160, 120, box=box)
    assert psnr(np.asarray(found), np.asarray(expected)) > 45


def test_parts_make_the_whole(file):
    """What each pixel sees lies within the overlap, nearly all of it."""
    network = load_upscaler(file, device="cpu", precision="f32", engine="torch")
    whole, parts = (np.asarray(upscale_with(network, photo(90, 70), tile=tile)) for tile in (256, 48))
    assert psnr(parts, whole) > 40


def test_a_side_that_is_odd(tmp_path):
    save_file(tamed(unshuffle=2).state_dict(), tmp_path / "x2.safetensors")
    network = load_upscaler(tmp_path / "x2.safetensors", device="cpu", precision="f32", engine="torch")
    assert upscale_with(network, photo(31, 17)).size == (62, 34)


def test_transparency_is_kept(file):
    network = load_upscaler(file, device="cpu", precision="f32", engine="torch")
    image = photo().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 120))
    larger = upscale_with(network, image)
    assert larger.mode == "RGBA" and larger.getchannel("A").getextrema() == (120, 120)
    assert larger.convert("RGB").tobytes() == upscale_with(network, photo()).tobytes()


def test_any_size_at_the_end(file):
    network = load_upscaler(file, device="cpu", precision="f32", engine="torch")
    assert resize_with(network, photo(10, 8), 25, 20).size == (25, 20)
    assert resize_with(network, photo(4, 3), 65, 49).size == (65, 49)  # which takes it twice and more


def test_in_a_second_pass(model, file):
    pipeline = model("SD 1.5").load()
    options = {"seed": 1, "steps": 2, "width": 32, "height": 32}

    def drawn(upscaler):
        hires = Hires(scale=2, steps=1, upscaler=upscaler, denoising_strength=0.1)
        return pipeline.txt2img("", hires=hires, **options)

    result = drawn(str(file))
    assert result.images[0].size == (64, 64)
    assert result.images[0] != drawn("Lanczos").images[0]
    assert "Hires upscaler: tiny_x4" in result.infotexts[0]
    with pytest.raises(InvalidCheckpoint, match=r"'nowhere\.pth' is not a file"):
        drawn("nowhere.pth")
    with pytest.raises(InvalidRequest, match="or an ESRGAN model by file or name"):
        drawn("magic")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("body.0.bias", "a compact Real-ESRGAN"),
        ("something.weight", "none of its 1 tensors is named 'conv_body.weight'"),
        ("model.0.weight", "without its last layers"),
    ],
)
def test_what_is_no_upscaler(tmp_path, name, fault):
    save_file({name: torch.zeros(2)}, tmp_path / "it.safetensors")
    with pytest.raises(InvalidCheckpoint, match=fault):
        read_upscaler(tmp_path / "it.safetensors")


def test_a_tensor_that_is_missing_is_named(tmp_path):
    state = first_names(tamed())
    state.pop("model.1.sub.1.RDB3.conv4.0.bias")
    save_file(state, tmp_path / "it.safetensors")
    with pytest.raises(InvalidCheckpoint, match=r"1 missing: 'body\.1\.rdb3\.conv4\.bias'"):
        load_upscaler(tmp_path / "it.safetensors", device="cpu", precision="f32", engine="torch")


def with_a_hole(under: tuple[int, int, int], mode: str = "RGBA") -> Image.Image:
    """The photo in a disc; around it nothing, over colours that nobody sees."""
    y, x = np.mgrid[0:28, 0:40]
    shown = (y - 14) ** 2 + (x - 20) ** 2 < 100
    pixels = np.where(shown[..., None], np.asarray(photo()), np.uint8(under))
    image = Image.fromarray(np.dstack([pixels, np.where(shown, 255, 0)]).astype(np.uint8))
    return image if mode == "RGBA" else image.convert("LA")


def test_colours_that_nobody_sees_make_no_rim(file):
    network = load_upscaler(file, device="cpu", precision="f32", engine="torch")
    dark, green = (upscale_with(network, with_a_hole(under)) for under in ((0, 0, 0), (0, 255, 0)))
    assert dark.mode == "RGBA" and dark.size == (160, 112)
    np.testing.assert_array_equal(np.asarray(dark), np.asarray(green))
    # Nor one of any colour: a picture of one colour is enlarged to one, whatever is hidden beside it.
    plain = np.zeros((28, 40, 4), np.uint8)
    plain[6:22, 8:32] = 200, 60, 20, 255
    whole = Image.new("RGB", (40, 28), (200, 60, 20))
    visible = np.asarray(upscale_with(network, Image.fromarray(plain)))
    expected = np.asarray(upscale_with(network, whole))
    opaque = visible[..., 3] == 255
    assert opaque.sum() > 4000
    np.testing.assert_array_equal(visible[opaque][:, :3], expected[opaque])


@pytest.mark.parametrize("mode", ["LA", "P"])
def test_transparency_of_every_mode_is_kept(file, mode):
    network = load_upscaler(file, device="cpu", precision="f32", engine="torch")
    image = with_a_hole((9, 9, 9), "LA") if mode == "LA" else with_a_hole((9, 9, 9)).quantize(256)
    assert image.mode == mode and image.convert("RGBA").getpixel((20, 14))[3] == 255
    larger = resize_with(network, image, 80, 56)
    assert larger.mode == "RGBA" and larger.size == (80, 56)
    assert larger.getpixel((0, 0))[3] == 0 and larger.getpixel((40, 28))[3] == 255
