"""The embedded CLIP tokenizer: known ids, and equality with transformers on the written files."""

import pytest
from transformers import CLIPTokenizer

from pochade.prompts.clip import END_ID, clip_files, clip_tokenizer, is_clip
from pochade.prompts.tokenizer_files import load_tokenizer

TEXTS = (
    "a photo of a café, 4k!! it's great",
    "日本語 ünïcode  x",
    "",
    "supercalifragilistic <|endoftext|> !",
)


def test_ids_that_are_known() -> None:
    tokenizer = clip_tokenizer()
    assert len(tokenizer.vocabulary) == 49408
    # the example of CLIP's own notebook
    ids = [320, 8853, 539, 550, 18376, 6765, 320, 4558]
    assert tokenizer.encode("a photograph of an astronaut riding a horse") == ids
    assert (tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id) == (49406, 49407, 49407)
    assert (tokenizer.vocabulary["!"], tokenizer.vocabulary["!</w>"]) == (0, 256)


@pytest.mark.parametrize("pad_id", [END_ID, 0])
def test_the_written_files(pad_id, tmp_path) -> None:
    for name, content in clip_files(pad_id).items():
        (tmp_path / name).write_bytes(content)
    ours, read = clip_tokenizer(pad_id), load_tokenizer(tmp_path)
    theirs = CLIPTokenizer.from_pretrained(tmp_path)
    assert theirs.pad_token_id == pad_id
    assert is_clip(read) and read.specials == ours.specials and read.pad_id == ours.pad_id == pad_id
    for text in TEXTS:
        assert ours.encode(text) == read.encode(text) == theirs(text).input_ids[1:-1]


def test_another_vocabulary_is_found_out(tmp_path) -> None:
    for name, content in clip_files().items():
        (tmp_path / name).write_bytes(content)
    merges = (tmp_path / "merges.txt").read_text("utf-8").splitlines()
    (tmp_path / "merges.txt").write_text("\n".join(merges[:-1]), "utf-8")
    assert not is_clip(load_tokenizer(tmp_path))
