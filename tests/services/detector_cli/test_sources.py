"""Files, folders and patterns become sources with unique result names."""

from pathlib import Path

import pytest

from services.detector.cli.sources import SUFFIXES, Kind, Source, SourceProblem, choose_sources, find_files
from shared.data.events import recording

OF_PICTURES: frozenset[Kind] = frozenset({"picture", "video"})
OF_STREAMS: frozenset[Kind] = frozenset({"recording"})


def find_sources(
    arguments: list[str], *, recursive: bool = False, takes: frozenset[Kind] = OF_PICTURES
) -> tuple[list[Source], list[SourceProblem]]:
    files, problems = find_files(arguments, recursive=recursive)
    sources, others = choose_sources(files, takes, "tiny")
    return sources, problems + others


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.jpg", "b.PNG", "notes.txt", ".hidden.jpg", "clip.MP4", "deep/c.webp", "deep/.git/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(sources: list) -> list[tuple[str, str, str]]:
    return [(str(source.path), source.kind, str(source.stem)) for source in sources]


def test_a_folder_gives_its_pictures_and_videos_but_not_those_below_it(folder: Path):
    sources, problems = find_sources(["."])
    assert problems == []
    assert names(sources) == [
        ("a.jpg", "picture", "a"),
        ("b.PNG", "picture", "b"),
        ("clip.MP4", "video", "clip"),
    ]


def test_recursive_keeps_the_subfolders_in_the_names_of_results(folder: Path):
    sources, _ = find_sources(["."], recursive=True)
    assert ("deep/c.webp", "picture", "deep/c") in names(sources)
    assert not any("d.jpg" in path for path, _, _ in names(sources))


def test_a_pattern_is_expanded(folder: Path):
    sources, problems = find_sources(["*.jpg", "**/*.webp"])
    assert [path for path, _, _ in names(sources)] == ["a.jpg", "deep/c.webp"]
    assert problems == []


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path):
    (folder / "cam[1].jpg").write_bytes(b"")
    sources, _ = find_sources(["cam[1].jpg"])
    assert names(sources) == [("cam[1].jpg", "picture", "cam[1]")]


def test_a_file_named_twice_is_taken_once(folder: Path):
    sources, _ = find_sources(["a.jpg", "./a.jpg", "*.jpg"])
    assert len(sources) == 1


def test_a_named_file_without_a_known_suffix_counts_as_a_picture(folder: Path):
    sources, problems = find_sources(["notes.txt"])
    assert names(sources) == [("notes.txt", "picture", "notes")]
    assert problems == []


def test_equal_names_from_different_folders_do_not_collide(folder: Path):
    for other in ("one", "two"):
        (folder / other).mkdir()
        (folder / other / "x.jpg").write_bytes(b"")
    (folder / "X.bmp").write_bytes(b"")
    sources, _ = find_sources(["one/x.jpg", "two/x.jpg", "X.bmp"])
    assert [str(source.stem) for source in sources] == ["x", "x-2", "X-3"]


def test_a_picture_called_summary_leaves_that_name_to_the_run(folder: Path):
    (folder / "summary.jpg").write_bytes(b"")
    sources, _ = find_sources(["summary.jpg"])
    assert str(sources[0].stem) == "summary-2"


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("absent.jpg", "no such file or folder"),
        ("*.tiff", "no file matches"),
        ("empty", "no picture, video or recording in this folder"),
        ("outer", "add --recursive"),
    ],
)
def test_what_gives_nothing_is_named_with_its_reason(folder: Path, argument: str, reason: str):
    (folder / "empty").mkdir()
    (folder / "outer/inner").mkdir(parents=True)
    (folder / "outer/inner/x.jpg").write_bytes(b"")
    sources, problems = find_sources(["a.jpg", argument])
    assert len(sources) == 1
    assert [(problem.source, reason in problem.reason) for problem in problems] == [(argument, True)]


def test_a_name_that_the_file_system_refuses_is_a_problem_and_no_crash(folder: Path):
    sources, problems = find_sources(["x" * 5000, "a.jpg"])
    assert len(sources) == 1
    assert "too long" in problems[0].reason


@pytest.fixture
def mixed(folder: Path) -> Path:
    """A folder of pictures in which recordings lie too, one of them of a picture's name."""
    for name in ("a.h5", "b.dat", "c.RAW", "d.hdf5", "deep/e.raw"):
        (folder / name).write_bytes(b"")
    return folder


def test_recordings_in_a_folder_of_pictures_change_nothing_for_a_picture_model(mixed: Path):
    sources, problems = find_sources(["."])
    assert problems == []
    assert [name for _, _, name in names(sources)] == ["a", "b", "clip"]


def test_a_stream_model_takes_the_recordings_of_a_folder(mixed: Path):
    sources, problems = find_sources(["."], takes=OF_STREAMS, recursive=True)
    assert problems == []
    assert names(sources) == [
        ("a.h5", "recording", "a"),
        ("b.dat", "recording", "b"),
        ("c.RAW", "recording", "c"),
        ("d.hdf5", "recording", "d"),
        ("deep/e.raw", "recording", "deep/e"),
    ]


@pytest.mark.parametrize(
    ("argument", "takes", "reason"),
    [
        ("a.h5", OF_PICTURES, "is a recording, and tiny takes pictures and videos"),
        ("b*.dat", OF_PICTURES, "is a recording, and tiny takes pictures and videos"),
        ("a.jpg", OF_STREAMS, "is a picture, and tiny takes recordings"),
        ("clip.MP4", OF_STREAMS, "is a video, and tiny takes recordings"),
    ],
)
def test_a_file_of_the_wrong_kind_that_was_named_outright_is_a_problem(
    mixed: Path, argument: str, takes: frozenset[Kind], reason: str
):
    sources, problems = find_sources([argument, argument], takes=takes)
    assert sources == []
    assert [problem.reason for problem in problems] == [reason]


def test_a_folder_with_nothing_for_the_model_says_what_it_holds(mixed: Path):
    (mixed / "events").mkdir()
    (mixed / "events/x.h5").write_bytes(b"")
    sources, problems = find_sources(["a.jpg", "events"])
    assert len(sources) == 1
    assert problems == [SourceProblem("events", "holds recordings only, and tiny takes pictures and videos")]


def test_a_folder_whose_only_picture_was_named_before_is_no_problem(mixed: Path):
    (mixed / "deep/c.webp").rename(mixed / "deep/z.jpg")
    sources, problems = find_sources(["deep/z.jpg", "deep"])
    assert len(sources) == 1
    assert problems == []


def test_what_counts_as_a_recording_is_what_can_be_read_as_one():
    assert SUFFIXES["recording"] == frozenset(recording.SUFFIXES)
