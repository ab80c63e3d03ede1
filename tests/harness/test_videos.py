"""Frames of video files: which are sampled, and one sentence for files that cannot be read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from parbench.clips import Clip
from parbench.config import compose_config
from parbench.errors import ParbenchError, UnfitSample
from parbench.harness.data_settings import check_settings
from parbench.harness.datasets import PreparedDataset
from parbench.harness.videos import Sampling, clip_sizes, read_clip
from videos import STEP, write_sound, write_video


def numbers(clip: Clip) -> list[int]:
    """The number of each frame in its file, from its grey."""
    return [round(float(np.asarray(frame).mean()) / STEP) for frame in clip.frames]


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx-vp9")])
def test_frames_are_those_of_lmms_eval(tmp_path: Path, ending: str, codec: str) -> None:
    from lmms_eval.models.model_utils.load_video import load_video_decord, read_video_pyav

    file = write_video(tmp_path / f"a.{ending}", codec=codec)
    clip = read_clip(file, Sampling(7))
    assert numbers(clip) == [0, 3, 6, 9, 12, 15, 19]
    assert clip.times == pytest.approx([0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.9])
    assert clip_sizes(file, Sampling(7)) == (clip.size, clip.times)
    theirs = read_video_pyav(str(file), num_frm=7) if ending == "mp4" else load_video_decord(str(file), 7)
    ours = np.stack([np.asarray(frame) for frame in clip.frames])
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= (0 if ending == "mp4" else 3)


def test_skipping_to_a_frame_gives_what_decoding_all_does(tmp_path: Path) -> None:
    file = write_video(tmp_path / "long.mp4", 120, codec="libx264")
    every = read_clip(file, Sampling(1000))
    assert len(every.frames) == 120
    for count in (2, 5, 11):
        few = read_clip(file, Sampling(count))
        places = np.linspace(0, 119, count, dtype=int).tolist()
        assert [frame.tobytes() for frame in few.frames] == [every.frames[place].tobytes() for place in places]


def test_a_rate_limits_the_frames(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mp4", 30)
    assert len(read_clip(file, Sampling(100, 2)).frames) == 6
    assert len(read_clip(file, Sampling(4, 2)).frames) == 4
    assert len(read_clip(file, Sampling(100, 0.1)).frames) == 1
    assert len(read_clip(file, Sampling(100)).frames) == 30


def test_unevenly_spaced_frames_are_sampled_in_time(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mkv", 12, codec="libx264", milliseconds=[*range(0, 1000, 100), 2000, 4000])
    clip = read_clip(file, Sampling(5))
    assert clip.times == (0.0, 0.9, 2.0, 4.0)
    assert numbers(clip) == [0, 9, 10, 11]
    assert clip_sizes(file, Sampling(5)) == (clip.size, clip.times)


def test_a_video_of_one_frame_is_a_clip(tmp_path: Path) -> None:
    clip = read_clip(write_video(tmp_path / "a.mp4", 1), Sampling(8))
    assert (len(clip.frames), clip.times, len(clip.in_pairs().frames)) == (1, (0.0,), 2)


def test_what_is_no_video_is_said_in_one_sentence(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 60, codec="libx264", movflags="faststart").read_bytes()
    index = whole.index(b"mdat")
    (tmp_path / "end.mp4").write_bytes(whole[: index + (len(whole) - index) // 2])
    (tmp_path / "index.mp4").write_bytes(write_video(tmp_path / "b.mp4").read_bytes()[:1000])
    (tmp_path / "text.mp4").write_text("hello" * 1000)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "folder.mp4").mkdir()
    for ending in ("mkv", "mp4"):
        write_video(tmp_path / f"none.{ending}", 0, codec="libx264")
    write_sound(tmp_path / "sound.wav")
    said = {}
    for file in ("end.mp4", "index.mp4", "text.mp4", "empty.mp4", "folder.mp4", "none.mkv", "none.mp4", "sound.wav", "gone.mp4"):
        with pytest.raises(UnfitSample) as found:
            read_clip(tmp_path / file, Sampling(8))
        with pytest.raises(UnfitSample, match=re.escape(str(found.value))):
            clip_sizes(tmp_path / file, Sampling(8))
        said[file] = str(found.value)
        assert file in said[file]
        assert "\n" not in said[file]
    assert "is truncated: it ends in frame" in said["end.mp4"]
    assert "is damaged or truncated" in said["index.mp4"]
    assert "is damaged or truncated" in said["text.mp4"]
    assert said["none.mkv"].endswith("has no frame: it ends before the first one")
    assert "has no video stream" in said["none.mp4"]
    assert "is a folder" in said["folder.mp4"]
    assert "has no video stream" in said["sound.wav"]
    assert "does not exist" in said["gone.mp4"]


@pytest.mark.parametrize(
    ("values", "said"),
    [({"frames": 0}, "frames=0"), ({"frames": 2.5}, "frames=2.5"), ({"fps": -1}, "fps=-1"), ({"fps": "x"}, "fps=x")],
)
def test_a_sampling_that_is_none_is_refused(values: dict, said: str) -> None:
    with pytest.raises(ParbenchError, match=f"dataset.{said} is not a number of frames"):
        check_settings({"images": "real", "frames": 8, "fps": None, **values})


def test_frames_decide_what_is_cached_and_calibrated(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not opened here")
    row = {"video": "a.mp4", "question": "What?", "answer": "this"}
    (tmp_path / "asked.jsonl").write_text(json.dumps(row) + "\n")

    def prepared(*words: str) -> PreparedDataset:
        return PreparedDataset(compose_config(["dataset=local", f"dataset.path={tmp_path / 'asked.jsonl'}", *words]).dataset)

    four, eight, again = prepared("dataset.frames=4"), prepared("dataset.frames=8"), prepared("dataset.frames=4")
    assert four.fingerprint == eight.fingerprint
    assert (four.showing, four.calibrates) == (again.showing, again.calibrates)
    assert four.showing != eight.showing
    assert four.calibrates != eight.calibrates
    # Another video of the same name in the same process.
    (tmp_path / "a.mp4").write_bytes(b"another one, and longer")
    assert prepared("dataset.frames=4").fingerprint != four.fingerprint
