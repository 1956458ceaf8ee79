"""`pochade draw`: draws pictures from a prompt."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli.background import in_background
from pochade.cli.draw_options import (
    add_control_options,
    add_file_options,
    add_generation_options,
    controls,
    generation_options,
    mark_of,
    signer_of,
    size_of,
)
from pochade.cli.model_options import (
    add_addition_options,
    add_model_options,
    check_folding,
    with_additions,
)
from pochade.cli.pull import MODEL_OPTIONS, offer_missing
from pochade.cli.terminal import show_over
from pochade.errors import InvalidRequest
from pochade.request import DEFAULTS, EMPHASES, MAX_BATCH, Request, find_emphasis, missing_fields
from pochade.request_options import Hires

MASKED_TEXT = "Mask blur"
"""A field in the parameters text of pictures drawn inside a mask or outpainted, and only of those."""

if TYPE_CHECKING:
    from pochade.generation.result import Progress, Result
    from pochade.generation.settle import Prepared
    from pochade.prompts.styles import Style

EXAMPLES = """examples:
  pochade draw "a red apple"
  pochade draw "a fox, 3d style" --seed 7 --steps 30 --count 4 -o fox.png
  pochade draw "a castle" --model ~/models/sd15.safetensors --size 512x768 --negative people
  pochade draw "a (red:1.3) {fox|owl} in [spring:autumn:0.5]" --count 4
  pochade draw "a fox <lora:ink:0.7>" --lora-dir ~/loras --lora detail.safetensors:0.5
  pochade draw "an oil painting" --init photo.jpg --strength 0.6
  pochade draw "a red hat" --init photo.jpg --mask hat.png --only-masked
  pochade draw "a fox" --model sd15.safetensors --hires 2 --hires-upscaler Lanczos
  pochade draw --like fox.png --seed 8
  pochade draw "a fox" --model xl-base.safetensors --refiner xl-refiner.safetensors
  pochade draw "a fox" --model sd15.safetensors --control fox.jpg --control-model canny.safetensors \\
      --preprocessor canny
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "draw",
        help="draw pictures from a prompt",
        description="Draw pictures from a prompt. Without --model, with the model inside the package.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_request_options(parser)
    parser.add_argument(
        "--count", type=int, default=1, metavar="N", help="how many pictures, with seeds N, N+1, ..."
    )
    parser.add_argument(
        "--preview", action="store_true", help="show the picture in the terminal while it is drawn"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="print the length of the prompt in tokens"
    )
    add_file_options(parser, ".png, .jpg or .webp")
    parser.set_defaults(run=run)


def add_request_options(parser: argparse.ArgumentParser, *, prompts: str = "?") -> None:
    """Add the options of a request: prompt, settings, adapters and model.

    prompts: how many there may be, as argparse's nargs.
    """
    parser.add_argument(
        "prompt", nargs=prompts, help="what to draw; may be empty. \\( and \\{ are literal brackets"
    )
    parser.add_argument(
        "--like",
        type=Path,
        metavar="FILE",
        help="take the settings of this picture; other options override them",
    )
    parser.add_argument("--negative", metavar="TEXT", help="what to keep out of the picture")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="the same seed draws the same picture (default: random)"
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help=f"number of steps (default: the model's own, mostly {DEFAULTS.steps})",
    )
    parser.add_argument(
        "--cfg",
        type=float,
        metavar="SCALE",
        help="how closely to follow the prompt; 1 = no guidance (default: the model's own, mostly"
        f" {DEFAULTS.cfg_scale:g})",
    )
    parser.add_argument(
        "--size", type=size_of, metavar="WxH", help="width and height in pixels (default: the model's own)"
    )
    for name in ("sampler", "schedule"):
        parser.add_argument(
            f"--{name}",
            metavar="NAME",
            help=f"'?' lists all {name}s (default: the model's own, mostly {getattr(DEFAULTS, name)})",
        )
    parser.add_argument(
        "--clip-skip",
        type=int,
        metavar="N",
        help="layer of the text encoder that is used, counted from its end: 1 is the last. SDXL and SD 2.x"
        " never use the last, so 1 and 2 are the same there (default: 1)",
    )
    parser.add_argument(
        "--emphasis",
        metavar="NAME",
        help=f"how weights in the prompt are applied: {', '.join(EMPHASES)} (default: {EMPHASES[0]})",
    )
    parser.add_argument(
        "--wildcards",
        type=Path,
        metavar="DIR",
        help="folder of wildcard files; __animal__ in a prompt is replaced by a line of animal.txt",
    )
    parser.add_argument("--styles", type=Path, metavar="FILE", help="a styles.csv")
    parser.add_argument(
        "--comments", action="store_true", help="treat # to the end of the line as a comment in prompts"
    )
    parser.add_argument(
        "--style", action="append", default=[], metavar="NAME", help="a style from this file; may be repeated"
    )
    add_addition_options(parser)
    add_generation_options(parser)
    add_control_options(parser)
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Draw `--count` pictures one after another, and print the path of each."""
    from tqdm import tqdm

    from pochade.images.files import check_destination, default_name, save_without_overwriting

    if not 1 <= options.count <= MAX_BATCH * MAX_BATCH:
        raise InvalidRequest(f"--count is {options.count}; it must lie between 1 and {MAX_BATCH * MAX_BATCH}")
    requests = requests_of(options, options.count)
    # Fails before drawing if the file cannot be written.
    check_destination(default_name("", 0) if options.output is None else options.output)
    sign = signer_of(options)
    if any(getattr(options, name) is not None for name in MODEL_OPTIONS):  # the starter is always available
        offer_missing(options)
    shown = 0
    said = None
    quiet = not sys.stderr.isatty()
    drawn = 0
    with tqdm(unit="step", disable=quiet, leave=False) as bar:
        for request, progress in in_background(lambda: draw_all(options, requests)):
            length = progress.prompt_size
            if length != said and (options.verbose or length.chunks > 1):
                bar.clear()
                print(length, file=sys.stderr, flush=True)
                said = length
            # Some samplers take another number of steps than requested, and adaptive ones only estimate it.
            bar.total = bar.n + 1 + progress.steps * (options.count - drawn) - progress.step
            bar.update(1)
            if options.preview and not quiet:
                shown = show_over(bar, progress.preview()[0], shown)
            if progress.result is None:
                continue
            drawn += 1
            result = progress.result
            for image, seed, text in zip(result.images, result.seeds, result.infotexts, strict=True):
                path = options.output
                if path is None:
                    path = Path(default_name(request.prompt, seed))
                mark = mark_of(options, result.mark)
                written = save_without_overwriting(image, path, text, mark=mark, sign=sign)
                bar.clear()
                print(written, flush=True)
                shown = 0
    return 0


def draw_all(
    options: argparse.Namespace, requests: Sequence[Request]
) -> "Iterator[tuple[Request, Progress]]":
    """Yield the progress of loading, compiling and drawing."""
    from tqdm import tqdm

    from pochade.loading.memory_plan import format_bytes
    from pochade.pipeline.loader import load

    check_folding(options, requests)
    pipeline = load(
        options.model,
        device=options.device,
        precision=options.precision,
        engine=options.engine,
        compiled=options.compile,
        vae=options.vae,
        prediction=options.prediction,
        models=options.models,
        memory_budget=options.memory_budget,
        threads=options.threads,
    )
    pipeline = with_additions(pipeline, options)
    for request in requests:
        prepared = pipeline.prepare(request)
        if request is requests[0]:
            report_defaults(prepared, request)
            if pipeline.memory_budget is not None:
                plan = f"{prepared.context.plan}, of {format_bytes(pipeline.memory_budget)}"
                tqdm.write(f"pochade: {plan}", file=sys.stderr)
        for progress in pipeline.draw(prepared):
            yield request, progress


def results(options: argparse.Namespace, requests: Sequence[Request]) -> "Iterator[Result]":
    """Yield the result of each request as soon as it is ready; drawing runs in a background thread."""
    for _, progress in in_background(lambda: draw_all(options, requests)):
        if progress.result is not None:
            yield progress.result


def report_defaults(prepared: "Prepared", request: Request) -> None:
    """Print the settings of a few-step model, if the request uses any of them."""
    from tqdm import tqdm

    left = missing_fields(vars(request), DEFAULTS)
    few_steps = prepared.few_steps if left else None
    if few_steps is None:
        return
    defaults = replace(
        few_steps.defaults, **{name: vars(request)[name] for name in vars(DEFAULTS) if name not in left}
    )
    about = replace(few_steps, defaults=defaults)
    tqdm.write(f"pochade: few-step model: {about}", file=sys.stderr)


def requests_of(options: argparse.Namespace, count: int = 1) -> list[Request]:
    """Return one request for each of `count` pictures, with its own seed and prompt."""
    import secrets

    from pochade.prompts.comments import without_comments
    from pochade.prompts.wildcards import folder_of_wildcards, no_wildcards

    of_prompts = {
        "--style": options.style,
        "--wildcards": options.wildcards is not None,
        "--comments": options.comments,
    }
    if options.prompt is None and any(of_prompts.values()):
        asked = next(name for name, given in of_prompts.items() if given)
        raise InvalidRequest(f"{asked} needs a prompt; give one in quotes")
    given = _given(options)
    if options.style and options.styles is None:
        raise InvalidRequest(f"style '{options.style[0]}' needs a file of styles; give one as --styles FILE")
    styles: list[Style] = []
    if options.styles is not None:
        from pochade.prompts.styles import find_styles, read_styles

        styles = find_styles(options.style, read_styles(options.styles))
    read = no_wildcards if options.wildcards is None else folder_of_wildcards(options.wildcards)
    plain = without_comments if options.comments else str

    def styled(prompt: str, negative_prompt: str) -> tuple[str, str]:
        if styles:
            from pochade.prompts.styles import apply_styles

            prompt, negative_prompt = apply_styles(prompt, negative_prompt, styles)
        return plain(prompt), plain(negative_prompt)

    def expanded(text: str, seed: int, purpose: str = "prompt") -> str:
        if "{" not in text and "__" not in text:
            return text
        from pochade.prompts.dynamic import expand

        return expand(text, seed, read, purpose=purpose)

    template, negative = styled(given.prompt, given.negative_prompt)
    first = secrets.randbelow(2**32) if given.seed is None else given.seed

    def second_pass(seed: int) -> Hires | None:
        """Expand the templates in the prompts of the second pass, unless they come from a picture."""

        def prompt(text: str) -> str:
            return expanded(styled(text, "")[0], seed)

        def negative_prompt(text: str) -> str:
            return expanded(styled("", text)[1], seed, "negative prompt")

        return given.hires and given.hires.with_texts(
            None if options.hires_prompt is None else prompt,
            None if options.hires_negative is None else negative_prompt,
        )

    if options.prompt is None:  # a picture's prompt is not a template
        return [replace(given, seed=seed, hires=second_pass(seed)) for seed in range(first, first + count)]
    return [
        replace(
            given,
            seed=seed,
            hires=second_pass(seed),
            prompt=expanded(template, seed),
            negative_prompt=expanded(negative, seed, "negative prompt"),
            template=template,
            negative_template=negative,
        )
        for seed in range(first, first + count)
    ]


def _given(options: argparse.Namespace) -> Request:
    """Return the request of the options, based on --like. Templates are not expanded yet."""
    like = None if options.like is None else _like(options)
    width, height = options.size if options.size is not None else (None, None)
    values = {
        "prompt": options.prompt,
        "negative_prompt": options.negative,
        "seed": options.seed,
        "steps": options.steps,
        "cfg_scale": options.cfg,
        "width": width,
        "height": height,
        "sampler": options.sampler,
        "schedule": options.schedule,
        "clip_skip": options.clip_skip,
        "emphasis": None if options.emphasis is None else find_emphasis(options.emphasis),
        **generation_options(options, like),
        "controls": controls(options) or None,
    }
    changes = {name: value for name, value in values.items() if value is not None}
    if like is not None:
        return replace(like, **changes)
    if options.prompt is None:
        raise InvalidRequest("there is no prompt; give one in quotes, or a picture as --like")
    return Request(**changes)


def _like(options: argparse.Namespace) -> Request:
    """Return the request in a picture's parameters text. Prints what is missing in it and in the options."""
    from pochade.generation.infotext_request import has_controls, has_source, request_from
    from pochade.generation.infotext_unsupported import not_followed
    from pochade.images.embedded_text import read_text
    from pochade.images.metadata import read_parameters
    from pochade.settings import STARTER

    path = options.like
    text = read_text(path)
    parameters = read_parameters(text)
    request = request_from(text)
    model = parameters.values.get("Model", STARTER)
    if options.model is None and model != STARTER:
        print(f"pochade: '{path}' was drawn with the model '{model}'; give it as --model", file=sys.stderr)
    if has_source(parameters):
        for missing in _missing(options, masked=MASKED_TEXT in parameters.values):
            print(f"pochade: '{path}' {missing}", file=sys.stderr)
    if has_controls(parameters) and not options.control:
        what = "was drawn with a ControlNet; give its picture as --control"
        print(f"pochade: '{path}' {what}", file=sys.stderr)
    ignored = {name: parameters.values[name] for name in not_followed(parameters.values)}
    vae = ignored.pop("VAE", None)
    if vae is not None and options.vae is None:
        print(f"pochade: '{path}' was drawn with the autoencoder '{vae}'; give it as --vae", file=sys.stderr)
    if ignored:
        left_out = ", ".join(f"{name}: {value}" for name, value in ignored.items())
        what = f"these settings of '{path}' are not supported and were ignored: {left_out}"
        print(f"pochade: {what}", file=sys.stderr)
    return request


def _missing(options: argparse.Namespace, *, masked: bool) -> list[str]:
    """Return messages about inputs of an img2img picture that the options do not give."""
    missing = []
    if options.init is None:
        missing.append("was drawn over another picture; give that picture as --init")
    if masked and options.mask is None and options.outpaint is None:
        missing.append("was drawn inside a mask; give the mask as --mask, or the margins as --outpaint")
    return missing
