"""Training sets on disk: shards, index, damage, the older format, interruption."""

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.atomic import hidden_neighbour
from pochade.errors import InvalidCheckpoint, OutputError
from pochade.training.corpus import Corpus, CorpusEntry, Unusable, load, shards, split_of
from pochade.training.corpus.pictures import lossless
from pochade.training.corpus.samples import Item, Sample, Stream
from pochade.training.corpus.shards import results_of, write_stream
from tests.training.corpus.conftest import SIZE

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 6, 8, 4), np.uint8)


def sample(number: int) -> Sample:
    entry = CorpusEntry(source="s", name=f"picture {number}", caption=f"number {number}", width=8, height=6)
    return Sample(entry, lossless(PICTURES[number]), "webp")


def item(number: int, made: list[int] | None = None, bad: int = 3) -> Item:
    def make() -> Sample:
        if made is not None:
            made.append(number)
        if number == bad:
            raise Unusable("a bad one", "the fourth")
        return sample(number)

    return Item(f"picture {number}", make)


def stream(made: list[int], recipe: str = "a", count: int = len(PICTURES)) -> Stream:
    def open_items() -> tuple[int, Iterator[Item]]:
        return count, (item(number, made) for number in range(count))

    return Stream(name="s", recipe={"it": recipe}, about={}, open=open_items)


def write(folder: Path, source: Stream, jobs: int = 1) -> list[shards.Shard]:
    return write_stream(folder, source, jobs=jobs, progress=lambda *_: None)


@pytest.fixture
def three_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_PICTURES", 3)


# --- the split -------------------------------------------------------------------------------------


def test_the_split_is_by_pair_of_concept_and_source() -> None:
    """The exact rule: models were trained by it, and judged on what it holds out."""
    for code in ("1f34e", "1f989", "263a", "long-sword"):
        expected = sha256(f"{code} noto".encode()).digest()[0] % 16 == 0
        assert (split_of(code, "noto") == "held-out") == expected
    assert split_of("1f603", "noto") == split_of("1f603", "noto")
    splits = [split_of(f"{number:x}", "noto") for number in range(4000)]
    assert 0.05 < splits.count("held-out") / 4000 < 0.075
    assert any(split_of(f"{n:x}", "noto") != split_of(f"{n:x}", "twemoji") for n in range(100))


# --- shards ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three_a_shard")
def test_shards_are_plain_webdataset_tars(tmp_path: Path) -> None:
    """As a reader of webdataset does it: group neighbours by what stands before the first dot."""
    samples: dict[str, dict[str, bytes]] = {}
    for shard in write(tmp_path, stream([])):
        if not shard.file:
            continue
        with tarfile.open(tmp_path / shard.file, "r:") as tar:
            names = [member.name for member in tar]
            keys = [name.partition(".")[0] for name in names]
            assert keys[::2] == keys[1::2] and len(keys) <= 2 * 3
            for member in tar:
                key, _, ending = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                samples.setdefault(key, {})[ending] = file.read()
    assert list(samples) == ["000000", "000001", "000002", "000003", "000004", "000005"]
    for files, number in zip(samples.values(), (0, 1, 2, 4, 5, 6), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(files["webp"]))), PICTURES[number])
        assert json.loads(files["json"]) == {
            "source": "s", "name": f"picture {number}", "caption": f"number {number}",
            "width": 8, "height": 6,
        }  # fmt: skip


@pytest.mark.usefixtures("three_a_shard")
def test_the_index_points_at_the_pictures_bytes(tmp_path: Path) -> None:
    for shard in write(tmp_path, stream([]))[:2]:
        with tarfile.open(tmp_path / shard.file) as tar:
            places = {m.name: (m.offset_data, m.size) for m in tar if not m.name.endswith(".json")}
        assert [(e["offset"], e["length"]) for e in shard.entries] == list(places.values())
        assert [f"{e.get('row', 0):06d}.webp" for e in shard.entries] == list(places)


@pytest.mark.usefixtures("three_a_shard")
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_stopped_run_goes_on_after_its_last_whole_shard(tmp_path: Path, jobs: int) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_stream(tmp_path, stream([]), jobs=jobs, progress=stop)
    assert {path.name for path in (tmp_path / "shards").iterdir()} == {"s-000000.tar", "s-000000.json"}
    made: list[int] = []
    steps: list[tuple[int, int]] = []
    whole = write_stream(
        tmp_path, stream(made), jobs=jobs, progress=lambda _, done, total: steps.append((done, total))
    )
    assert sorted(made) == [3, 4, 5, 6]
    assert steps == [(4, 7), (5, 7), (6, 7), (7, 7)]
    assert [len(shard.entries) for shard in whole] == [3, 3, 0]
    assert [skip for shard in whole for skip in shard.skipped] == [
        {"name": "picture 3", "reason": "a bad one", "detail": "the fourth"}
    ]
    fresh = write(tmp_path / "other", stream([]))
    assert [s.entries for s in fresh] == [s.entries for s in whole]
    assert all(
        (tmp_path / s.file).read_bytes() == (tmp_path / "other" / s.file).read_bytes()
        for s in whole
        if s.file
    )


@pytest.mark.usefixtures("three_a_shard")
def test_another_recipe_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    write(tmp_path, stream([]))
    neighbour = tmp_path / "shards" / "s-of-somebody-else.tar"
    neighbour.write_bytes(b"not ours")
    made: list[int] = []
    write(tmp_path, stream(made, recipe="b", count=2))
    assert made == [0, 1]
    names = {path.name for path in (tmp_path / "shards").iterdir()}
    assert names == {"s-000000.tar", "s-000000.json", neighbour.name}


@pytest.mark.usefixtures("three_a_shard")
def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left = hidden_neighbour(tmp_path / "shards" / "s-000000.tar")
    left.parent.mkdir()
    left.write_bytes(b"half a shard")
    write(tmp_path, stream([]))
    assert not left.exists()


@pytest.mark.usefixtures("three_a_shard")
def test_a_shard_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    first = write(tmp_path, stream([]))
    path = tmp_path / first[1].file
    path.write_bytes(path.read_bytes()[:-100])
    made: list[int] = []
    assert write(tmp_path, stream(made)) == first
    assert made == [3, 4, 5, 6]


def test_the_order_is_the_same_with_any_number_of_jobs() -> None:
    results = [list(results_of((item(n) for n in range(7)), jobs)) for jobs in (1, 2, 5)]
    names = [[name for name, _ in result] for result in results]
    assert names[0] == names[1] == names[2] == [f"picture {n}" for n in range(7)]
    assert [isinstance(result, Unusable) for _, result in results[2]] == [n == 3 for n in range(7)]


def test_a_bug_in_one_picture_is_not_taken_for_a_bad_picture() -> None:
    def bug() -> Sample:
        raise ZeroDivisionError

    for jobs in (1, 2):
        with pytest.raises(ZeroDivisionError):
            list(results_of(iter([Item("x", bug)]), jobs))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "shards").write_text("a file")
    with pytest.raises((OutputError, OSError)):
        write(tmp_path, stream([]))


# --- opening ---------------------------------------------------------------------------------------


def test_a_damaged_set_is_refused(make: Callable[..., Corpus], tmp_path: Path) -> None:
    folder = make().folder
    shard = folder / "shards" / "icon-000000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-512])
    with pytest.raises(InvalidCheckpoint, match=r"icon-000000\.tar' has \d+ bytes of"):
        load(folder)
    shard.write_bytes(whole)
    index = shard.with_suffix(".json")
    content = index.read_text("utf-8")
    index.write_text(content[:-20], "utf-8")
    with pytest.raises(InvalidCheckpoint, match="damaged"):
        load(folder)
    index.unlink()
    with pytest.raises(InvalidCheckpoint, match=r"icon-000000\.json' is missing"):
        load(folder)
    with pytest.raises(InvalidCheckpoint, match=r"is not a training set.*pochade train corpus"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"version": 3}', '{"version": 2, "shards": 5}', "{"])
def test_a_strange_manifest_is_refused(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest, "utf-8")
    with pytest.raises(InvalidCheckpoint):
        load(tmp_path)


def test_a_damaged_set_is_made_whole_again(make: Callable[..., Corpus]) -> None:
    first = make()
    (first.folder / "shards" / "icon-000000.tar").unlink()
    again = make()
    assert again.entries == first.entries
    assert again.picture(3).shape == (SIZE, SIZE, 4)


def test_bytes_that_are_no_picture_are_told_with_their_place(make: Callable[..., Corpus]) -> None:
    corpus = make()
    entry = corpus.entries[1]
    path = corpus.folder / entry.file
    content = bytearray(path.read_bytes())
    content[entry.offset : entry.offset + 12] = bytes(12)
    path.write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match=r"picture 1 \('263a'\).*round-000000\.tar"):
        corpus.picture(1)
    assert corpus.picture(0).shape == (SIZE, SIZE, 4)


def test_a_set_goes_through_a_pickle(make: Callable[..., Corpus]) -> None:
    """Training's workers get it so."""
    corpus = make()
    again = pickle.loads(pickle.dumps(corpus))
    assert np.array_equal(again.picture(2), corpus.picture(2))


def test_the_older_format_is_still_read(tmp_path: Path) -> None:
    np.save(tmp_path / "pictures-a.npy", PICTURES[:2, :6, :6])
    facts = {
        "label": "x", "tags": ["y"], "style": "flat", "source": "a", "licence": "MIT", "emoji": "?",
        "group": "", "subgroup": "", "mirrorable": True, "colour": "red", "colour_share": 0.5,
    }  # fmt: skip
    codes = ("1f34e", "1f989")
    lines = [{"file": "pictures-a.npy", "row": n, "code": code, **facts} for n, code in enumerate(codes)]
    (tmp_path / "entries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "manifest.json").write_text('{"version": 1, "size": 6, "count": 2}')
    corpus = load(tmp_path)
    assert [entry.split for entry in corpus.entries] == [split_of(code, "a") for code in codes]
    assert all(np.array_equal(corpus.picture(n), PICTURES[n, :6, :6]) for n in (0, 1))
    (tmp_path / "manifest.json").write_text('{"version": 1, "size": 8, "count": 2}')
    with pytest.raises(InvalidCheckpoint, match="shape"):
        load(tmp_path)
