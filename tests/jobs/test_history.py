"""Found again, page by page; removed when there is no room; nothing of anyone else."""

import threading
from pathlib import Path

import pytest
from PIL import Image

from pochade.errors import InvalidRequest, OutputError
from pochade.images.embedded_text import read_text
from pochade.jobs import accounts, history, storage_usage, store
from pochade.jobs.database import Database
from pochade.jobs.history import Search
from pochade.jobs.storage import (
    Storage,
    alive,
    discard,
    drop_inputs,
    is_dead,
    keep_input,
    keep_picture,
    new_id,
    read_input,
    sweep,
)
from pochade.jobs.storage_usage import StorageUsage
from tests.jobs.conftest import Studio


def test_pages_have_every_job_once_the_newest_first(studio: Studio) -> None:
    jobs = [studio.submit() for _ in range(7)]
    found, before = [], None
    for _ in range(10):
        page = history.find_jobs(studio.database, "ann", Search(limit=3, before=before))
        found += [job.id for job in page.found]
        before = page.next
        if before is None:
            break
    assert found == jobs[::-1]


def test_a_search_wants_all_words_and_means_them_literally(studio: Studio) -> None:
    fox = studio.submit(words="a red fox in the snow")
    studio.submit(words="a red apple")
    odd = studio.submit(words="100% wool_")
    for words, wanted in {
        "red": 2,
        "Fox RED": 1,
        "fox apple": 0,
        "0%": 1,
        "%": 1,
        "l_": 1,
        "e_d": 0,
        "": 3,
    }.items():
        assert len(history.find_jobs(studio.database, "ann", Search(words=words)).found) == wanted, words
    assert history.find_jobs(studio.database, "ann", Search(words="snow")).found[0].id == fox
    assert history.find_jobs(studio.database, "ann", Search(words="wool_")).found[0].id == odd


def test_jobs_are_found_by_state_kind_model_and_label(studio: Studio) -> None:
    done = studio.finished(label="sheet 1")
    studio.submit(kind="img2img", model="other")
    for search, wanted in (
        (Search(states=("finished",)), 1),
        (Search(states=("finished", "queued")), 2),
        (Search(kind="img2img"), 1),
        (Search(model="other"), 1),
        (Search(label="sheet 1"), 1),
        (Search(label="sheet"), 0),
    ):
        assert len(history.find_jobs(studio.database, "ann", search).found) == wanted, search
    assert history.find_pictures(studio.database, "ann", Search(label="sheet 1")).found[0].job == done


def test_nobody_finds_pins_or_removes_what_is_someone_elses(studio: Studio) -> None:
    job = studio.finished(owner="ann")
    picture = f"{job}-0"
    assert history.find_job(studio.database, job, "bob") is None
    assert history.find_jobs(studio.database, "bob", Search()).found == []
    assert history.find_pictures(studio.database, "bob", Search()).found == []
    assert history.find_picture(studio.database, picture, "bob") is None
    assert history.pin(studio.database, picture, "bob", True) is None
    assert history.remove_picture(studio.database, picture, "bob") is None
    assert history.remove_job(studio.database, job, "bob") is None
    found = history.find_picture(studio.database, picture, "ann")
    assert found is not None and not found.pinned


def test_the_oldest_pictures_go_when_there_is_no_room_pinned_ones_stay(studio: Studio) -> None:
    jobs = [studio.finished() for _ in range(5)]
    assert storage_usage.stored(studio.database).bytes == 500
    assert history.pin(studio.database, f"{jobs[0]}-0", "ann", True) is not None
    assert history.make_room(studio.database, 500) == []
    gone = history.make_room(studio.database, 250)
    assert [picture.job for picture in gone] == jobs[1:4]
    assert storage_usage.stored(studio.database).bytes == 200
    assert [
        each.job for each in history.find_pictures(studio.database, "ann", Search(pinned=True)).found
    ] == [jobs[0]]
    assert [picture.job for picture in history.make_room(studio.database, 0)] == [jobs[4]]


def counted(studio: Studio) -> bool:
    """Whether the counts are those of the rows."""
    kept = [storage_usage.stored(studio.database, owner) for owner in ("ann", "bob")]
    storage_usage.recount(studio.database)
    return kept == [storage_usage.stored(studio.database, owner) for owner in ("ann", "bob")]


def test_what_each_user_has_is_counted_with_every_change(studio: Studio) -> None:
    db = studio.database
    mine, theirs = [studio.finished() for _ in range(4)], studio.finished(owner="bob")
    for picture, owner in ((f"{mine[0]}-0", "ann"), (f"{mine[1]}-0", "ann"), (f"{theirs}-0", "bob")):
        for pinned in (True, True, False, False, True):  # the same again changes nothing
            assert history.pin(db, picture, owner, pinned) is not None
            assert counted(studio)
    assert storage_usage.stored(db, "ann") == StorageUsage(400, 200) and storage_usage.stored(
        db
    ) == StorageUsage(500, 300)
    history.pin(db, f"{mine[2]}-0", "bob", True)
    assert history.remove_picture(db, f"{mine[0]}-0", "bob") is None and counted(studio)
    assert history.remove_picture(db, f"{mine[0]}-0", "ann") is not None
    assert history.remove_picture(db, f"{mine[0]}-0", "ann") is None and counted(studio)
    history.remove_job(db, mine[1], "ann")
    assert storage_usage.stored(db, "ann") == StorageUsage(200, 0) and counted(studio)
    history.make_room(db, 0)
    assert storage_usage.stored(db) == StorageUsage(100, 100) and counted(studio)


def test_counts_of_an_older_file_are_made_from_its_pictures(studio: Studio) -> None:
    job = studio.finished()
    history.pin(studio.database, f"{job}-0", "ann", True)
    with studio.database.write() as connection:
        connection.exec_driver_sql("DROP TABLE storage")
    studio.database.close()
    again = Database(studio.storage.database)
    storage_usage.recount(again)
    assert storage_usage.stored(again, "ann") == StorageUsage(100, 100)
    again.close()


def test_two_cleanings_at_once_remove_and_count_each_picture_once(studio: Studio) -> None:
    for _ in range(30):
        studio.finished()
    gone: list[str] = []

    def clean() -> None:
        while found := history.make_room(studio.database, 500, most=2):
            gone.extend(picture.id for picture in found)

    threads = [threading.Thread(target=clean) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gone) == len(set(gone)) == 25
    assert storage_usage.stored(studio.database).bytes == 500 and counted(studio)


def test_nothing_waits_for_a_look_at_whether_there_is_room(studio: Studio) -> None:
    """Also while more is pinned than the budget: the transaction that others wait for is not begun."""
    for _ in range(3):
        history.pin(studio.database, f"{studio.finished()}-0", "ann", True)
    with studio.database.write():  # which would wait for itself
        assert history.make_room(studio.database, 10) == []


def test_pictures_for_which_there_is_no_room_go_a_few_at_a_time(studio: Studio) -> None:
    for _ in range(5):
        studio.finished()
    assert [len(history.make_room(studio.database, 100, most=3)) for _ in range(3)] == [3, 1, 0]


def test_what_is_pinned_leaves_room_for_what_is_new(studio: Studio) -> None:
    """More was pinned than the budget is now; half of it is for the new pictures of others."""
    for _ in range(10):
        history.pin(studio.database, f"{studio.finished()}-0", "ann", True)
    new = [studio.finished(owner="bob") for _ in range(4)]
    assert [picture.job for picture in history.make_room(studio.database, 600)] == new[:1]
    assert history.make_room(studio.database, 600) == []
    assert storage_usage.stored(studio.database, "ann") == StorageUsage(1000, 1000)


def test_pins_have_a_part_of_the_budget_and_each_user_a_part_of_that(studio: Studio) -> None:
    most = storage_usage.pin_budget(1000, users=2)
    assert most == 250 and storage_usage.pin_budget(1000, users=0) == 500
    mine = [studio.finished() for _ in range(3)]
    theirs = studio.finished(owner="bob")
    for job in mine[:2]:
        assert history.pin(studio.database, f"{job}-0", "ann", True, most) is not None
    with pytest.raises(InvalidRequest, match="300 bytes; at most 250 may be pinned"):
        history.pin(studio.database, f"{mine[2]}-0", "ann", True, most)
    assert history.pin(studio.database, f"{mine[0]}-0", "ann", True, 0) is not None  # it is pinned already
    assert history.pin(studio.database, f"{theirs}-0", "bob", True, most) is not None
    history.pin(studio.database, f"{mine[0]}-0", "ann", False, most)
    assert history.pin(studio.database, f"{mine[2]}-0", "ann", True, most) is not None


def test_removing_a_job_takes_its_pictures_along_but_not_while_it_runs(studio: Studio) -> None:
    job = studio.submit()
    assert history.remove_job(studio.database, job, "ann") is None
    lease = studio.taken()
    assert history.remove_job(studio.database, job, "ann") is None
    store.finish(studio.database, lease, studio.drawn(lease, 2), studio.now)
    gone = history.remove_job(studio.database, job, "ann")
    assert gone is not None and len(gone) == 2
    assert history.find_job(studio.database, job) is None
    assert storage_usage.stored(studio.database).bytes == 0


# --- files ------------------------------------------------------------------------------------------------


def test_a_picture_lies_in_a_folder_of_its_day_with_its_text(studio: Studio) -> None:
    studio.submit()
    lease = studio.taken()
    drawn = keep_picture(studio.storage, lease, 0, Image.new("RGB", (8, 4)), "a fox\nSteps: 4", 7, "a fox")
    assert drawn.path == f"2025-11-24/{lease.job.id}.1-0.png"
    assert (drawn.width, drawn.height) == (8, 4)
    path = studio.storage.output(drawn.path)
    assert read_text(path) == "a fox\nSteps: 4" and path.stat().st_size == drawn.bytes
    discard(studio.storage, [drawn.path, "2025-11-24/gone.png"])
    assert not path.exists()


def test_a_sweep_removes_what_a_crash_left_and_nothing_else(studio: Studio) -> None:
    storage, day = studio.storage, studio.storage.outputs / "2025-11-24"
    day.mkdir()
    known, orphan, working = (f"20251124-{i:010x}" for i in (1, 2, 3))
    for name in (f"{known}.1-0.png", f"{orphan}.1-0.png", f"{working}.1-0.png", "mine.png"):
        (day / name).write_bytes(b"x")
    (day / f".{'0' * 16}.part").write_bytes(b"x")
    for job in (known, orphan, working):
        keep_input(storage, job, 0, b"y")
    rows = {f"2025-11-24/{known}.1-0.png"}
    assert sweep(storage, rows.__contains__, lambda job: job == working) == 4
    left = sorted(path.name for path in [*day.iterdir(), *storage.inputs.iterdir()])
    assert left == sorted([f"{known}.1-0.png", f"{working}.1-0.png", "mine.png", f"{working}-0"])


def test_inputs_are_kept_until_they_are_dropped(studio: Studio) -> None:
    job = studio.submit()
    found = history.find_job(studio.database, job)
    assert found is not None
    keep_input(studio.storage, job, 0, b"content")
    assert read_input(studio.storage, found, 0) == b"content"
    drop_inputs(studio.storage, job)
    with pytest.raises(OutputError, match="is missing"):
        read_input(studio.storage, found, 0)


def test_a_second_server_is_told_that_the_folder_is_in_use(tmp_path: Path) -> None:
    storage = Storage(tmp_path).make()
    with alive(storage.root / "lock"):
        with pytest.raises(OutputError, match="in use by another server"), alive(storage.root / "lock"):
            pass
        assert not is_dead(storage.root / "lock")
    assert is_dead(storage.root / "lock")


def test_ids_begin_with_their_day() -> None:
    assert new_id(1_764_000_000.0, lambda n: "ab" * n) == "20251124-ababababab"


# --- accounts -----------------------------------------------------------------------------------------------


def test_choices_are_added_to(studio: Studio) -> None:
    accounts.choose(studio.database, "ann", {"a": 1, "b": 2})
    accounts.choose(studio.database, "ann", {"b": 3})
    assert accounts.choices_of(studio.database, "ann") == {"a": 1, "b": 3}
    assert accounts.choices_of(studio.database, "bob") == {}


def test_a_session_ends_by_time_or_by_logging_out_and_the_file_does_not_hold_its_token(
    studio: Studio,
) -> None:
    accounts.open_session(studio.database, "secret-token", "ann", "proof", studio.now + 10)
    found = accounts.session(studio.database, "secret-token", studio.now)
    assert found == ("ann", "proof", studio.now + 10)
    assert accounts.session(studio.database, "other", studio.now) is None
    assert accounts.session(studio.database, "secret-token", studio.now + 11) is None
    stored = b"".join(file.read_bytes() for file in studio.storage.root.glob("jobs.sqlite*"))
    assert b"secret-token" not in stored
    accounts.close_session(studio.database, "secret-token", studio.now)
    assert accounts.session(studio.database, "secret-token", studio.now) is None
