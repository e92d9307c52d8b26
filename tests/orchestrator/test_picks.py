"""Marks: kept whoever writes at once, merged by number, whole even where a write was torn; picks pin checkpoints."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.audition.find import choose, find_sweep, picks_text
from orchestrator.config import PickConfig
from orchestrator.picks import Mark, Marks, Region, add_mark, picked
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.errors import BadInput
from tests.made import tone
from tests.orchestrator.made_sweep import write_batch, write_sweep

CLIP = ("0000-dim64", 100, 0)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(str(tmp_path / "workspace"))


def said(workspace: Workspace, listener: str, item=CLIP) -> dict:
    marks = Marks(workspace, "sweeps", "s")
    marks.refresh()
    return marks.by_item.get(item, {}).get(listener, {})


def test_marks_of_one_clip_merge_field_by_field_and_null_takes_back(workspace: Workspace) -> None:
    for mark in (
        Mark(heard=True),
        Mark(rating=2),
        Mark(rating=4, note="riff"),
        Mark(verdict="pick"),
        Mark(note=None),
    ):
        add_mark(workspace, "ann", "sweeps", "s", CLIP, mark)
    assert said(workspace, "ann") == {"heard": True, "rating": 4, "verdict": "pick"}


def test_marks_written_at_once_by_two_programs_of_two_listeners_are_all_kept(workspace: Workspace) -> None:
    def write(listener: str, first: int) -> None:
        for clip in range(first, first + 15):
            add_mark(workspace, listener, "sweeps", "s", ("t", 100, clip), Mark(rating=3))

    threads = [
        threading.Thread(target=write, args=at) for at in (("ann", 0), ("ann", 15), ("bob", 0), ("bob", 15))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    marks = Marks(workspace, "sweeps", "s")
    marks.refresh()
    assert sorted(marks.by_item) == [("t", 100, clip) for clip in range(30)]
    assert all(set(listeners) == {"ann", "bob"} for listeners in marks.by_item.values())


def test_marks_read_out_of_order_keep_the_highest_number(workspace: Workspace) -> None:
    add_mark(workspace, "ann", "sweeps", "s", CLIP, Mark(rating=1))
    folder = workspace.picks("ann").at("sweeps", "s")
    early = folder.read("00000001.json")
    folder.delete("00000001.json")
    commit.write_record(folder, "00000002.json", {"item": list(CLIP), "set": {"rating": 5}, "at": "x"})
    marks = Marks(workspace, "sweeps", "s")
    assert marks.refresh() == {CLIP}
    folder.write("00000001.json", early)
    marks.refresh()
    assert marks.by_item[CLIP]["ann"]["rating"] == 5


def test_marks_torn_by_a_full_disk_are_left_out_and_the_next_is_written_beside(workspace: Workspace) -> None:
    add_mark(workspace, "ann", "sweeps", "s", CLIP, Mark(rating=2))
    folder = workspace.picks("ann").at("sweeps", "s")
    folder.write("00000002.json", b'{"item": ["0000')
    assert add_mark(workspace, "ann", "sweeps", "s", CLIP, Mark(rating=3)) == 3
    assert said(workspace, "ann") == {"rating": 3}


def test_picked_is_the_union_of_all_listeners_without_what_was_taken_back(workspace: Workspace) -> None:
    add_mark(workspace, "ann", "sweeps", "s", ("a", 100, 0), Mark(verdict="pick"))
    add_mark(workspace, "bob", "sweeps", "s", ("a", 100, 1), Mark(verdict="pick"))
    add_mark(workspace, "bob", "sweeps", "s", ("b", 200), Mark(verdict="pick"))
    add_mark(workspace, "bob", "sweeps", "s", ("c", 300, 0), Mark(verdict="pick"))
    add_mark(workspace, "bob", "sweeps", "s", ("c", 300, 0), Mark(verdict="reject"))
    add_mark(workspace, "ann", "sweeps", "s", ("a", 100, 0), Mark(verdict=None))
    assert picked(workspace, "s") == {("a", 100), ("b", 200)}
    assert picked(workspace, "other") == set()


@pytest.mark.parametrize("name", ["../ann", "", "a/b", ".hidden", "x" * 65, "<img>"])
def test_listener_whose_name_is_no_folder_is_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(BadInput, match="must be 1 to 64"):
        add_mark(workspace, name, "sweeps", "s", CLIP, Mark(rating=1))
    assert not workspace.storage.exists("picks")


@pytest.mark.parametrize(
    "fields",
    [
        {"rating": 0},
        {"rating": 6},
        {"verdict": "maybe"},
        {"heard": False},
        {"note": "x" * 2001},
        {"path": "/"},
    ],
)
def test_mark_that_breaks_a_rule_is_refused(fields: dict) -> None:
    with pytest.raises(ValidationError):
        Mark.model_validate(fields)


def test_region_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValidationError, match="not after"):
        Region(start=2, stop=1)


def test_pick_verb_adds_by_number_lists_and_drops(workspace: Workspace) -> None:
    write_sweep(workspace)
    folder = workspace.trial("toy-sweep", "0001-dim64-rnn3-f16")
    commit.write_commit(folder.at("model", "step-00000100.0001"), {"config.json": b"{}"})
    asked = PickConfig(trial="0001", step=100)
    assert choose(workspace, "toy-sweep", asked, "ann", drop=False) == {("0001-dim64-rnn3-f16", 100)}
    assert picks_text(workspace, "toy-sweep") == "0001-dim64-rnn3-f16 step 100  picked by ann"
    assert choose(workspace, "toy-sweep", asked, "ann", drop=True) == set()
    assert "nothing is picked" in picks_text(workspace, "toy-sweep")


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"trial": "0009", "step": 100}, "no trial"), ({"trial": "0001", "step": 7}, "no checkpoint")],
)
def test_pick_verb_of_what_is_not_there_writes_nothing(workspace: Workspace, asked: dict, said: str) -> None:
    write_sweep(workspace)
    with pytest.raises(BadInput, match=said):
        choose(workspace, "toy-sweep", PickConfig(**asked), "ann", drop=False)
    assert not workspace.storage.exists("picks")


def test_room_of_an_album_or_a_batch_is_that_of_their_sweep(workspace: Workspace) -> None:
    write_sweep(workspace)
    write_batch(workspace, sounds=[tone(1600)])
    commit.write_record(workspace.batch("toy-songs"), "config.json", {"sweep": "toy-sweep"})
    workspace.album("first").write("album.yaml", b"name: first\nsongs: toy-songs\n")
    assert [find_sweep(workspace, name) for name in ("toy-sweep", "toy-songs", "first")] == ["toy-sweep"] * 3
    workspace.album("odd").write("album.yaml", b"[1, 2")
    for name in ("odd", "nothing"):
        with pytest.raises(BadInput, match="there is no sweep"):
            find_sweep(workspace, name)
