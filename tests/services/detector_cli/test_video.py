"""Video files in and out through OpenCV."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.detector.cli.video import UnreadableVideo, VideoReader, count_frames, write_video
from tests.services.detector_cli.videos import moving_square, painted, read_frames, write_video_file


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "mp4v"), (".avi", "MJPG"), (".mov", "mp4v"), (".mkv", "mp4v")]
)
def test_reads_every_container_with_size_rate_numbers_and_times(tmp_path: Path, suffix: str, codec: str):
    path = write_video_file(tmp_path / f"clip{suffix}", moving_square(12), frames_per_s=8.0, codec=codec)
    with VideoReader(path) as reader:
        assert (reader.width, reader.height) == (192, 96)
        assert reader.frames_per_s == pytest.approx(8.0)
        frames = list(reader.frames())
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 8 for number in range(12)], abs=1e-3)
    # The square is red: with the channels the other way round it would be blue.
    assert frames[0].rgb[25, 18, 0] > 200
    assert frames[0].rgb[25, 18, 2] < 60


def test_a_stride_takes_every_nth_frame_with_its_own_number_and_time(tmp_path: Path):
    path = write_video_file(tmp_path / "clip.mp4", moving_square(10))
    with VideoReader(path) as reader:
        frames = list(reader.frames(every=3))
        assert reader.expected_frames(3, None) == 4
    assert [frame.index for frame in frames] == [0, 3, 6, 9]
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.3, 0.6, 0.9])


def test_a_limit_counts_the_frames_that_are_taken(tmp_path: Path):
    path = write_video_file(tmp_path / "clip.mp4", moving_square(10))
    with VideoReader(path) as reader:
        assert [frame.index for frame in reader.frames(every=2, limit=3)] == [0, 2, 4]
        assert reader.expected_frames(2, 3) == 3


def test_something_else_with_a_videos_name_is_refused(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    path.write_text("this is no video")
    with pytest.raises(UnreadableVideo, match="not a video"):
        VideoReader(path)


def test_a_written_video_plays_back_with_its_frames_rate_and_size(tmp_path: Path):
    path = tmp_path / "out.mp4"
    frames = moving_square(15)
    with write_video(path, 12.5) as append:
        for frame in frames:
            append(frame)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    capture.release()
    read = read_frames(path)
    assert len(read) == 15
    for written, back in zip(frames, read, strict=True):
        # Lossy, but the same picture: black stays black, and the square is where it was.
        assert np.abs(written.astype(int) - back).mean() < 4


def test_odd_sizes_lose_no_row_and_no_column(tmp_path: Path):
    path = tmp_path / "odd.mp4"
    with write_video(path, 10.0) as append:
        append(np.full((47, 63, 3), 200, np.uint8))
    assert read_frames(path)[0].shape == (48, 64, 3)


def test_nothing_is_left_of_a_video_that_was_not_finished(tmp_path: Path):
    def write_one_frame_and_fail() -> None:
        with write_video(tmp_path / "out.mp4", 10.0) as append:
            append(painted((10, 10, 30, 30)))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_one_frame_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_refused(tmp_path: Path):
    def write_two_sizes() -> None:
        with write_video(tmp_path / "out.mp4", 10.0) as append:
            append(np.zeros((48, 64, 3), np.uint8))
            append(np.zeros((64, 64, 3), np.uint8))

    with pytest.raises(OSError, match="changes from"):
        write_two_sizes()
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_does_not_reach_the_disk_is_an_error_and_leaves_nothing(tmp_path: Path):
    # OpenCV's writer returns nothing, so a file that may grow no further is what tells.
    script = """
import resource, sys
from pathlib import Path
import numpy as np
from services.detector.cli.video import write_video
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
rng = np.random.default_rng(0)
try:
    with write_video(Path(sys.argv[1]), 10.0) as append:
        for _ in range(30):
            append(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8))
except OSError as error:
    print("OSError:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out.mp4")], capture_output=True, text=True, timeout=60
    )
    assert "OSError" in done.stdout, done.stderr
    assert "of 30 frames reached" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_counting_frames_of_what_is_no_video_gives_none(tmp_path: Path):
    (tmp_path / "x.mp4").write_bytes(b"")
    assert count_frames(tmp_path / "x.mp4") == 0


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with write_video(Path("cam:1.mp4"), 10.0) as append:
        append(painted((10, 10, 30, 30)))
    with VideoReader(Path("cam:1.mp4")) as reader:
        assert len(list(reader.frames())) == 1
