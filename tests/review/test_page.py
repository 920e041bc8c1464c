"""The page in a real browser: load, step, drag, undo, propagate, reload, two windows, a killed server."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vidpose.skeletons import POSETRACK18

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WRIST = POSETRACK18.index["left_wrist"]
START, STEP = np.array([100.0, 90.0]), np.array([2.0, 1.0])

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


class Served:
    """``vidpose review`` as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "out.json"
        command = [sys.executable, "-m", "vidpose.cli", "review", str(folder / "film"),
                   str(folder / "labels.json"), "-o", str(self.output), "--no-browser"]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/\S+/", self.process.stdout.readline())
        assert found is not None
        self.url = found.group()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture()
def served(tmp_path: Path) -> Iterator[Served]:
    """A film of a texture that moves, one person with labels in its frames 1 and 8."""
    (tmp_path / "film").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)
    world = cv2.resize(noise, (400, 400), interpolation=cv2.INTER_CUBIC)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    points = np.random.default_rng(1).uniform(40, 70, (17, 2))
    points[WRIST] = START
    points[3:5] = 0
    for t in range(10):
        x, y = (60 - STEP * t).astype(int)
        cv2.imwrite(str(tmp_path / "film" / f"{t:06d}.png"), world[y : y + 160, x : x + 200])
        if t in (1, 8):
            flat = [v for a, b in points + STEP * t * (points > 0) for v in (a, b, float(a > 0))]
            images.append({"id": 10_000_010_000 + t, "file_name": f"{t:06d}.png", "is_labeled": True})
            annotations.append({"id": t, "image_id": images[-1]["id"], "category_id": 1, "track_id": 0,
                                "bbox": [30, 30, 90, 80], "keypoints": flat})  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(POSETRACK18.joints), "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    server = Served(tmp_path)
    yield server
    server.kill()


@pytest.fixture()
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


def open_page(browser: Any, url: str) -> Any:
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector("body[data-ready=yes]")
    return page


def spot(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the video (200 x 160) is in the window."""
    box = page.locator("#view").bounding_box()
    scale = min(box["width"] / 200, box["height"] / 160)
    left, top = box["x"] + (box["width"] - 200 * scale) / 2, box["y"] + (box["height"] - 160 * scale) / 2
    return left + (x + 0.5) * scale, top + (y + 0.5) * scale


def drag(page: Any, start: np.ndarray, end: np.ndarray) -> None:
    page.mouse.move(*spot(page, *start))
    page.mouse.down()
    page.mouse.move(*spot(page, *((start + end) / 2)))
    page.mouse.move(*spot(page, *end))
    page.mouse.up()


def wrist(page: Any, frame: int) -> list[float]:
    """What the server knows of the wrist."""
    code = "async (frame) => (await (await fetch('api/poses?start=0')).json()).points[frame][0]"
    return page.evaluate(code, frame)[WRIST]


def saved(page: Any) -> None:
    page.wait_for_function("document.getElementById('saved').textContent === 'saved'")


def press(page: Any, *keys: str) -> None:
    """Presses keys, and waits until all that they did is saved."""
    for key in keys:
        page.keyboard.press(key)
    saved(page)


def go(page: Any, frame: int) -> None:
    page.keyboard.press("Home")
    for _ in range(frame):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"body[data-frame='{frame}']")


def test_a_joint_is_dragged_propagated_undone_and_found_again(served: Served, browser: Any) -> None:
    page = open_page(browser, served.url)
    go(page, 4)
    at = START + 4 * STEP
    assert wrist(page, 4) == pytest.approx(at, abs=1.5)
    drag(page, np.array(wrist(page, 4)), at + [20, 10])
    saved(page)
    assert wrist(page, 4) == pytest.approx(at + [20, 10], abs=1)
    journal = served.output.with_name("out.json.edits").read_text()
    assert journal.count("\n") == 2 and '"frame":4' in journal
    assert "set by hand" in page.inner_text("#chosen")
    before = wrist(page, 5)
    page.keyboard.press("p")
    saved(page)
    assert wrist(page, 5)[0] > before[0] + 5  # its neighbours follow
    page.keyboard.press("o")
    saved(page)
    assert "occluded" in page.inner_text("#chosen")
    page.keyboard.press("z")
    page.keyboard.press("z")
    saved(page)
    assert wrist(page, 4) == pytest.approx(at, abs=1.5)
    page.keyboard.press("y")
    saved(page)
    page.reload()
    page.wait_for_selector("body[data-ready=yes]")
    assert wrist(page, 4) == pytest.approx(at + [20, 10], abs=1)
    page.keyboard.press("s")
    page.wait_for_function("document.getElementById('saved').textContent.startsWith('written')")
    assert len(json.loads(served.output.read_text())["annotations"]) == 10
    assert page.errors == []


def people(page: Any, frame: int) -> list[int]:
    """How many joints each person has there."""
    code = "async (frame) => (await (await fetch('api/poses?start=0')).json()).state[frame]"
    return [sum(s in (1, 2) for s in joints) for joints in page.evaluate(code, frame)]


def test_people_are_added_and_sent_away(served: Served, browser: Any) -> None:
    page = open_page(browser, served.url)
    go(page, 5)
    page.keyboard.press("a")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    drag(page, np.array([20.0, 10.0]), np.array([60.0, 110.0]))
    saved(page)
    assert people(page, 5) == [15, 15] and people(page, 6) == [15, 15]
    assert "person 1" in page.inner_text("#chosen") and "set by hand" in page.inner_text("#chosen")
    page.keyboard.press("Tab")
    go(page, 7)
    press(page, "x")
    assert people(page, 6) == [15, 15] and people(page, 7) == [15, 0]
    press(page, "X")
    assert people(page, 5) == [15, 0]
    press(page, "z", "z", "z")
    assert people(page, 5) == [15, 0] and people(page, 7) == [15, 0]
    press(page, "y")
    assert people(page, 5) == [15, 15]
    assert page.errors == []


def test_a_second_window_is_told_and_nothing_is_lost(served: Served, browser: Any) -> None:
    first, second = open_page(browser, served.url), open_page(browser, served.url)
    at = START + 3 * STEP
    for page in (first, second):
        go(page, 3)
    drag(first, np.array(wrist(first, 3)), at + [15, 0])
    saved(first)
    drag(second, at, at + [0, 25])
    second.wait_for_function("document.getElementById('saved').className === 'failed'")
    assert "another window" in second.inner_text("#saved")
    assert wrist(second, 3) == pytest.approx(at + [15, 0], abs=1)


def test_a_killed_server_is_told_and_has_kept_what_was_saved(served: Served, browser: Any) -> None:
    page = open_page(browser, served.url)
    go(page, 3)
    at = START + 3 * STEP
    drag(page, np.array(wrist(page, 3)), at + [15, 5])
    saved(page)
    served.kill()
    drag(page, at + [15, 5], at)
    page.wait_for_function("document.getElementById('saved').className === 'failed'")
    assert "NOT SAVED" in page.inner_text("#saved")
    again = Served(served.folder)
    try:
        assert wrist(open_page(browser, again.url), 3) == pytest.approx(at + [15, 5], abs=1)
        again.process.send_signal(signal.SIGTERM)
        assert again.process.wait(20) == 0
    finally:
        again.kill()
