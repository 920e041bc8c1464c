"""What goes wrong for a few frames of rendered video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidpose.synthetic.layers import line_blur
from vidpose_render import scene as scenes
from vidpose_render.degradations import KINDS, Degradation, sample_degradations
from vidpose_render.sensor import Sensor

PLAIN = Sensor(1.0, np.ones(3), 2.2, 1.0, 1.0, (0, 0), 0.0, 0.0, 1.0, 0, False)


def test_degradations_come_in_short_stretches_and_never_in_clean_video_or_single_pictures() -> None:
    rng = np.random.default_rng(0)
    assert sample_degradations(rng, 1, 1.0, 256) == [None]
    assert sample_degradations(rng, 50, 0.0, 256) == [None] * 50
    shares = {}
    for hardness in (0.6, 1.0):
        videos = [sample_degradations(rng, 60, hardness, 256) for _ in range(40)]
        shares[hardness] = np.mean([m is not None for video in videos for m in video])
        assert {m.kind for video in videos for m in video if m is not None} == set(KINDS)
        for video in videos:
            stretches = [[k for k, other in enumerate(video) if other is m] for m in video if m is not None]
            assert all(1 <= len(s) <= 4 and s[-1] - s[0] == len(s) - 1 for s in stretches)
    assert 0.1 < shares[0.6] < shares[1.0] < 0.5
    assert any(
        sample_degradations(rng, 5, 1.0, 256)[0] is not None for _ in range(40)
    )  # one that began before


def test_a_degradation_changes_the_picture_as_it_says() -> None:
    rng = np.random.default_rng(0)
    light = rng.uniform(0.2, 0.6, (64, 48, 3)).astype(np.float32)
    good = PLAIN.develop(light, rng).astype(float)

    def shown(**what: float) -> np.ndarray:
        return PLAIN.develop(light, rng, degradation=Degradation("any", **what)).astype(float)  # type: ignore[arg-type]

    def detail(image: np.ndarray, axis: int) -> float:
        return float(np.abs(np.diff(image, axis=axis)).mean())

    assert detail(shown(blur_px=3.0), 0) < 0.3 * detail(good, 0)
    assert detail(shown(streak_px=12.0, angle=0.0), 1) < 0.4 * detail(good, 1)
    assert shown(gain=0.2).mean() < 0.6 * good.mean() < good.mean() < shown(gain=3.0).mean()
    assert np.abs(shown(jpeg=5) - good).mean() > 2


def test_smearing_keeps_light_and_place() -> None:
    light = np.zeros((41, 41, 3), np.float32)
    light[20, 20] = 1
    out = line_blur(light, 10.0, np.pi / 4)
    assert out.sum() == pytest.approx(3, rel=0.02)
    y, x = np.argwhere(out[..., 0] > 0.01).mean(axis=0)
    assert (y, x) == pytest.approx((20, 20), abs=0.3)
    rows, columns = (np.ptp(v) for v in np.nonzero(out[..., 0] > 0.01))
    assert 6 <= rows <= 9 and 6 <= columns <= 9
    bars = np.broadcast_to(np.arange(9, dtype=np.float32)[:, None, None], (9, 20, 3)).copy()
    np.testing.assert_allclose(line_blur(bars, 6.0, 0.0), bars, atol=1e-5)  # along the bars nothing changes


def test_something_passes_before_the_person_in_the_frames_that_say_so(assets_dir: Path) -> None:
    cast = scenes.load_cast(assets_dir, (7,), crowd=3)
    during, otherwise, passing = [], [], 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        scene = scenes.sample_scene(
            cast, rng, frames=7, fps=25, size=(90, 120), hardness=1.0, people=(1, 1), fill=(0.6, 0.9)
        )
        kinds = [scene.events(k) for k in range(7)]
        if ("occluder",) not in kinds:
            continue
        passing += 1
        for k, kind in enumerate(kinds):
            [person] = scene.frame(k, rng)[1]
            (during if kind == ("occluder",) else otherwise).append(person.visible[:15].mean())
        if passing == 6:
            break
    assert passing == 6
    assert np.mean(during) < 0.75 * np.mean(otherwise)
