"""Draws the pictures of docs/guide with the starter, each way once, with seeds that were not chosen.

python docs/pictures/guide.py [NAME ...]
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import additions
from PIL import Image, ImageDraw

import pochade
from pochade.diffusion.samplers import SAMPLERS
from pochade.diffusion.schedule import SCHEDULES
from pochade.images.fitting import widened
from pochade.images.preprocessors import PREPROCESSORS, preprocessed
from pochade.images.sheet import stacked, table
from pochade.images.upscaling import upscaled
from pochade.pipeline import Lora, Pipeline
from pochade.pipeline.pipeline import finish
from pochade.request import Request
from pochade.request_options import Blend, Control, Hires, Variation
from pochade.tools.interpolate import frames
from pochade.tools.xyz_grid import axis, requests

HERE = Path(__file__).parent
SIDE = 128
APPLE, STYLE = "a red apple, flat style", ", flat style"


def text_to_image(pipeline: Pipeline) -> Image.Image:
    prompts = [
        "a red apple",
        "three mushrooms",
        "a star to the left of a car",
        "a fish, on a yellow background",
    ]
    images = [pipeline.txt2img(prompt + STYLE, seed=1, cfg_scale=5).images[0] for prompt in prompts]
    return table(images, prompts)


def over_a_picture(pipeline: Pipeline) -> Image.Image:
    init, strengths = sketch(), (0.3, 0.5, 0.7, 0.9)
    drawn = [
        pipeline.img2img("an orange" + STYLE, image=init, denoising_strength=strength, seed=1, cfg_scale=5)
        for strength in strengths
    ]
    images = [init, *(result.images[0] for result in drawn)]
    return table(images, ["the picture", *(f"strength {strength}" for strength in strengths)])


def inside_a_mask(pipeline: Pipeline) -> Image.Image:
    init = pipeline.txt2img(APPLE, seed=1, cfg_scale=5).images[0]
    mask = Image.new("L", init.size)
    ImageDraw.Draw(mask).rectangle((0, 0, init.width, init.height // 2), fill=255)
    fills = ("original", "surroundings", "noise", "nothing")
    drawn = [
        pipeline.inpaint(
            "a crown" + STYLE, image=init, mask=mask, fill=fill, denoising_strength=0.9, seed=2, cfg_scale=5
        )
        for fill in fills
    ]
    images = [init, mask, *(result.images[0] for result in drawn)]
    return table(images, ["the picture", "the mask", *(f"fill {fill}" for fill in fills)])


def closer(pipeline: Pipeline) -> Image.Image:
    """A small part of a large picture, drawn as it is and in the model's own size."""
    castle = pipeline.txt2img("a castle" + STYLE, seed=1, cfg_scale=5).images[0]
    init = upscaled(castle, 2 * SIDE, 2 * SIDE)
    mask = Image.new("L", init.size)
    ImageDraw.Draw(mask).rectangle((176, 8, 247, 79), fill=255)
    options = {"fill": "surroundings", "denoising_strength": 0.95, "seed": 2, "cfg_scale": 5}
    size = {"width": 2 * SIDE, "height": 2 * SIDE}
    drawn = [
        pipeline.inpaint("a red apple" + STYLE, image=init, mask=mask, **options, **given)
        for given in (size, {"only_masked": True})
    ]
    images = [init, mask, *(result.images[0] for result in drawn)]
    return table(images, ["the picture", "the mask", "whole picture", "only masked"])


def further(pipeline: Pipeline) -> Image.Image:
    init = pipeline.txt2img(APPLE, seed=1, cfg_scale=5).images[0]
    _, mask = widened(init, 0, 0, SIDE, 0)
    prompt = "a red apple to the left of a pear" + STYLE
    drawn = pipeline.outpaint(
        prompt, image=init, right=SIDE, seed=3, cfg_scale=5, width=2 * SIDE, height=SIDE
    )
    return table([init, mask, drawn.images[0]], ["the picture", "what is new", "drawn further"])


def larger(pipeline: Pipeline) -> Image.Image:
    upscalers = ("Latent", "Latent (bicubic)", "Lanczos")
    images = [pipeline.txt2img(APPLE, seed=1, cfg_scale=5).images[0]]
    for upscaler in upscalers:
        hires = Hires(scale=1.5, upscaler=upscaler, denoising_strength=0.5)
        images += pipeline.txt2img(APPLE, seed=1, cfg_scale=5, hires=hires).images
    return table(images, ["one pass", *upscalers])


def variations(pipeline: Pipeline) -> Image.Image:
    strengths = (0.0, 0.25, 0.5, 0.75, 1.0)
    images = [
        pipeline.txt2img(APPLE, seed=1, cfg_scale=5, variation=Variation(seed=2, strength=strength)).images[0]
        for strength in strengths
    ]
    return table(images, [f"strength {strength}" for strength in strengths])


def seed_sizes(pipeline: Pipeline) -> Image.Image:
    """One seed at three sizes, with noise of its own in each and with that of the first."""
    sizes = ((SIDE, SIDE), (160, SIDE), (SIDE, 160))
    images = [
        pipeline.txt2img(
            APPLE, seed=3, cfg_scale=5, width=width, height=height, variation=Variation(size=size)
        ).images[0]
        for size in (None, (SIDE, SIDE))
        for width, height in sizes
    ]
    return table(images, ["128x128", "160x128", "128x160"], ["as it is", "--seed-size 128x128"])


def plot(pipeline: Pipeline) -> Image.Image:
    """What `pochade plot "a fox, 3d style" --x words=fox,owl,cat --y cfg=3,7 --seed 1` lays out."""
    axes = axis("words=fox,owl,cat"), axis("cfg=3,7")
    base = Request(prompt="a fox, 3d style", seed=1)
    images = [finish(pipeline.stream(each)).images[0] for each in requests(base, axes[::-1])]
    return table(images, axes[0].values, [f"cfg {value}" for value in axes[1].values])


def ways(pipeline: Pipeline) -> Image.Image:
    """One of each, for the front page."""
    shown = {}
    init = pipeline.txt2img(APPLE, seed=1, cfg_scale=5).images[0]
    shown["from a prompt"] = init
    shown["over a picture"] = pipeline.img2img(
        "an orange" + STYLE, image=sketch(), denoising_strength=0.7, seed=1, cfg_scale=5
    ).images[0]
    mask = Image.new("L", init.size)
    ImageDraw.Draw(mask).rectangle((0, 0, SIDE, SIDE // 2), fill=255)
    shown["inside a mask"] = pipeline.inpaint(
        "a crown" + STYLE, image=init, mask=mask, fill="noise", denoising_strength=0.9, seed=2, cfg_scale=5
    ).images[0]
    shown["a variation"] = pipeline.txt2img(
        APPLE, seed=1, cfg_scale=5, variation=Variation(seed=2, strength=0.5)
    ).images[0]
    shown["between prompts"] = pipeline.txt2img(
        APPLE, seed=1, cfg_scale=5, blend=Blend(prompt="a green pear" + STYLE, share=0.5)
    ).images[0]
    hires = Hires(scale=1.5, upscaler="Latent", denoising_strength=0.5)
    shown["larger"] = pipeline.txt2img(APPLE, seed=1, cfg_scale=5, hires=hires).images[0].resize(init.size)
    halves = f"MASK(0 0.5) a red apple{STYLE} AND MASK(0.5 1) a green pear{STYLE}"
    shown["each in its place"] = pipeline.txt2img(
        halves, seed=1, cfg_scale=5, width=2 * SIDE, height=SIDE
    ).images[0]
    wide = pipeline.outpaint(
        "a red apple to the left of a pear" + STYLE, image=init, right=SIDE, seed=3, cfg_scale=5,
        width=2 * SIDE, height=SIDE,
    )  # fmt: skip
    shown["further"] = wide.images[0]
    square = {name: image for name, image in shown.items() if image.width == image.height}
    wider = {name: image for name, image in shown.items() if name not in square}
    return stacked([table(list(each.values()), list(each)) for each in (square, wider)])


def tiles(pipeline: Pipeline) -> Image.Image:
    images = []
    for tiling in (False, True):
        image = pipeline.txt2img("leaves" + STYLE, seed=4, cfg_scale=5, tiling=tiling).images[0]
        page = Image.new("RGB", (2 * image.width, 2 * image.height))
        for corner in range(4):
            page.paste(image, (corner % 2 * image.width, corner // 2 * image.height))
        images.append(page)
    return table(images, ["four times", "four times, with tiling"])


def weights(pipeline: Pipeline) -> Image.Image:
    prompts = [
        "a (red:0.6) apple",
        "a red apple",
        "a (red:1.5) apple",
        "a [red:green:0.3] apple",
        "a [red|green] apple",
    ]
    images = [pipeline.txt2img(prompt + STYLE, seed=1, cfg_scale=5).images[0] for prompt in prompts]
    return table(images, prompts)


def walk(pipeline: Pipeline) -> Image.Image:
    """Two legs: another prompt with the same seed, then another seed too."""
    prompts = [thing + STYLE for thing in ("a red apple", "a green pear", "a birthday cake")]
    keyframes = [
        Request(prompt=prompt, seed=seed, cfg_scale=5)
        for prompt, seed in zip(prompts, (1, 1, 2), strict=True)
    ]
    between = frames(keyframes, 13)
    images = [finish(pipeline.stream(request)).images[0] for request in between]
    shares = [f"{each.blend.share:.2f}" if each.blend else "" for each in between]
    names = [name or ("apple", "pear", "cake")[i // 6] for i, name in enumerate(shares)]
    return stacked([table(images[:7], names[:7]), table(images[6:], names[6:])])


def upscaled_pictures(pipeline: Pipeline) -> Image.Image:
    image = pipeline.txt2img("a castle" + STYLE, seed=1, cfg_scale=5).images[0]
    names = ("Nearest", "Bilinear", "Lanczos")
    return table([image, *(upscaled(image, 3 * SIDE, 3 * SIDE, name) for name in names)], ["128 px", *names])


def preprocessors(pipeline: Pipeline) -> Image.Image:
    images, prompts = [], ["a castle" + STYLE, "a fox, 3d style"]
    for prompt in prompts:
        image = pipeline.txt2img(prompt, seed=1, cfg_scale=5).images[0]
        images += [preprocessed(image, name) for name in PREPROCESSORS]
    return table(images, list(PREPROCESSORS), prompts)


def lora(pipeline: Pipeline) -> Image.Image:
    path, strengths = additions.lora(pipeline), (0.0, 0.4, 0.7, 1.0)
    prompts = ["a fox" + STYLE, "a castle, 3d style", "two mushrooms" + STYLE]
    inked = [pipeline.with_adapters([Lora(path, strength)]) for strength in strengths]
    images = [each.txt2img(prompt, seed=1, cfg_scale=5).images[0] for prompt in prompts for each in inked]
    return table(images, [f"strength {strength:g}" for strength in strengths], prompts)


def word(pipeline: Pipeline) -> Image.Image:
    path = additions.word(pipeline)
    shown = [Image.open(each).convert("RGB") for each in sorted(additions.owls(pipeline).glob("*.png"))[:3]]
    told = pipeline.with_library(embeddings=path.parent)
    places = ("{}", "{}, on a yellow background", "{} to the left of a house")
    rows = [
        [each.txt2img(place.format(thing) + STYLE, seed=1, cfg_scale=5).images[0] for place in places]
        for each, thing in ((pipeline, "an owl"), (told, "a my-owl"))
    ]
    names = ["alone", "yellow background", "beside a house"]
    return stacked(
        [
            table(shown, ["of six pictures", "", ""], ["learned from"]),
            table([image for row in rows for image in row], names, ["an owl", "a my-owl"]),
        ]
    )


def regions(pipeline: Pipeline) -> Image.Image:
    prompts = [
        f"MASK({apple}) a red apple{STYLE} AND MASK({pear}) a green pear{STYLE}"
        for apple, pear in (
            ("0 1", "0 1"),
            ("0 0.5", "0.5 1"),
            ("0.5 1", "0 0.5"),
            ("0 1, 0 0.5", "0 1, 0.5 1"),
        )
    ]
    options = {"width": 2 * SIDE, "height": SIDE, "seed": 1, "cfg_scale": 5}
    images = [pipeline.txt2img(prompt, **options).images[0] for prompt in prompts]
    names = ["everywhere", "apple left, pear right", "apple right, pear left", "apple above, pear below"]
    return table(images, names)


def controlled(pipeline: Pipeline) -> Image.Image:
    path = additions.controlnet()
    pictures = [sketch(), pipeline.txt2img("a castle" + STYLE, seed=1, cfg_scale=5).images[0]]
    things = [("an orange", "a cookie"), ("a castle", "a birthday cake")]
    images = []
    for picture, prompts in zip(pictures, things, strict=True):
        images += [picture, preprocessed(picture, "canny")]
        for prompt in prompts:
            for strength in (0.0, 1.0):
                control = Control(image=picture, model=path, preprocessor="canny", strength=strength)
                images += pipeline.txt2img(prompt + STYLE, seed=2, cfg_scale=5, controls=(control,)).images
    names = ["the picture", "canny", "without", "with", "without", "with"]
    return table(images, names, [", ".join(prompts) for prompts in things])


def samplers(pipeline: Pipeline) -> Image.Image:
    schedules = [name for name in SCHEDULES if name != "Normal"]  # which is Uniform
    images = []
    for sampler in SAMPLERS:
        for schedule in schedules:
            result = pipeline.txt2img(
                APPLE, seed=1, steps=12, cfg_scale=5, sampler=sampler, schedule=schedule
            )
            images.append(result.images[0].resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS))
    return table(images, schedules, list(SAMPLERS))


def sketch() -> Image.Image:
    """What somebody draws with two circles."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((24, 24, 104, 104), fill="orange")
    pen.ellipse((60, 10, 84, 26), fill="green")
    return image


PICTURES: Mapping[str, Callable[[Pipeline], Image.Image]] = {
    "text-to-image": text_to_image,
    "over-a-picture": over_a_picture,
    "inside-a-mask": inside_a_mask,
    "closer": closer,
    "further": further,
    "larger": larger,
    "variations": variations,
    "seed-sizes": seed_sizes,
    "tiles": tiles,
    "plot": plot,
    "ways": ways,
    "weights": weights,
    "walk": walk,
    "upscale": upscaled_pictures,
    "preprocessors": preprocessors,
    "controlnet": controlled,
    "lora": lora,
    "word": word,
    "regions": regions,
    "samplers": samplers,
}


def main() -> None:
    pipeline = pochade.load()
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name](pipeline).save(HERE / f"{name}.png", optimize=True)
        print(name)


if __name__ == "__main__":
    main()
