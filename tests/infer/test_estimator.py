"""The whole chain from frames to keypoints, against a scene whose truth is known."""

from __future__ import annotations

import itertools
import json

import cv2
import numpy as np
import pytest
import torch
from dots import SIZE, DotModel, box_at, dots_at, picture, write_scene

from vidpose.errors import InputError
from vidpose.infer.crops import PathCrop, follow_boxes, make_windows
from vidpose.infer.detect import Detection
from vidpose.infer.estimator import PoseEstimator
from vidpose.infer.stream import MAX_GROUP
from vidpose.io.video_writer import VideoWriter
from vidpose.models.factory import create_model, save_model


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Twelve frames with two people."""
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder, 12, people=2)
    return folder


def estimator(scene=None, model=None, **options) -> PoseEstimator:
    options = {"device": "cpu", "precision": "fp32", "upright": False, **options}  # dots never stand
    options.setdefault("detector", scene / "boxes.json" if scene is not None else "full-frame")
    return PoseEstimator(model or DotModel(), **options)


@pytest.mark.parametrize(
    "options", [{}, {"hold": 4}, {"hold": 1}, {"flip_test": True}, {"batch_size": 1, "hold": 3}]
)
def test_coordinates_are_exact_to_a_fraction_of_a_pixel(scene, options):
    """One heatmap pixel is 4.6 image pixels here: any half pixel or wrong frame would show."""
    seen = 3 if "flip_test" in options else 5  # joints 3 and 4 are a left and a right one that are not alike
    result = estimator(scene, **options)(scene / "scene")
    assert [frame.index for frame in result] == list(range(12))
    assert (result.width, result.height) == (SIZE[1], SIZE[0])
    for t, frame in enumerate(result):
        assert frame.track_ids.tolist() == [0, 1]
        for person in range(2):
            np.testing.assert_allclose(frame.keypoints[person, :3], dots_at(t, person), atol=0.25)
            if seen == 3:
                continue
            for joint, other in ((3, max(t - 2, 0)), (4, min(t + 2, 11))):
                moved = (box_at(t, person) - box_at(other, person))[:2]  # by the crop, which follows
                there = dots_at(other, person)[0] + (0 if options.get("hold") == 1 else moved)
                np.testing.assert_allclose(frame.keypoints[person, joint], there, atol=0.25)
        assert (frame.scores[:, :seen] > 0.8 * 0.9).all() and (frame.scores <= 0.9 + 1e-6).all()
        assert (frame.scores[:, 5:] == 0).all()
        np.testing.assert_allclose(frame.box_scores, 0.9)
        np.testing.assert_allclose(frame.boxes, [box_at(t, 0), box_at(t, 1)], atol=1e-3)


@pytest.mark.parametrize("hold", [2, 5, 16])
def test_each_frame_of_a_person_passes_the_backbone_once(scene, hold):
    alone, together = estimator(scene, hold=1), estimator(scene, hold=hold)
    alone(scene / "scene")
    assert alone.runner.frames_extracted == 2 * (12 * 5 - 6)  # at the ends 3 + 3 frames are there twice
    result = together(scene / "scene")
    assert together.runner.frames_extracted == 2 * 12
    whole = estimator(scene, hold=hold, batch_size=100)(scene / "scene")  # the whole video at once
    for frame, same in zip(result, whole, strict=True):
        np.testing.assert_allclose(frame.keypoints, same.keypoints, atol=1e-3)


@pytest.mark.parametrize("tracker", ["bytetrack", "none"])
@pytest.mark.parametrize("hold", [1, 3])
def test_frames_come_in_order_and_few_are_held(tmp_path, tracker, hold):
    """120 frames, of which never more wait than look-ahead, clip and batch need."""
    folder = tmp_path / "long"
    folder.mkdir()
    image = picture(0)
    for t in range(120):
        cv2.imwrite(str(folder / f"{t}.png"), image)
    with estimator(tracker=tracker, hold=hold).stream(folder) as stream:
        most, indices = 0, []
        for frame in stream:
            indices.append(frame.index)
            most = max(most, stream.frames_held)
            assert stream.image is not None and stream.image.shape == (*SIZE, 3)
    assert indices == list(range(120))
    assert most <= 12 + 2 * 2 + MAX_GROUP + 4
    assert stream.frames_held <= 5


def test_it_is_lazy(scene):
    """Asking for one frame reads only as far as look-ahead and batch need."""
    stream = estimator(scene, look_ahead=0, batch_size=1, hold=1).stream(scene / "scene")
    first = next(stream)
    assert first.index == 0 and stream.frames_held <= 8
    stream.close()
    assert list(stream) == []


def test_boxes_between_seen_frames_give_the_same_poses(scene, tmp_path):
    """The dots move evenly, so that interpolated boxes are the true ones."""
    seen: list[int] = []

    def detect(images, keys):
        seen.extend(key.index for key in keys)
        boxes = [np.stack([box_at(key.index, 0), box_at(key.index, 1)]) for key in keys]
        return [Detection(pair, np.array([0.9, 0.8])) for pair in boxes]

    video = tmp_path / "scene.mp4"
    frames = sorted((scene / "scene").glob("*.png"))
    with VideoWriter(video, 25, SIZE) as writer:
        for k, path in enumerate(frames):
            writer.write(cv2.imread(str(path))[..., ::-1], k / 25)
    whole = estimator(detector=detect, detect_every=0, tracker="bytetrack")(video)
    assert seen == list(range(len(frames)))
    seen.clear()
    sparse = estimator(detector=detect, tracker="bytetrack")(video)
    assert seen[:3] == [0, 4, 8] and len(seen) <= len(frames) // 4 + 2
    assert (whole.info["detect_every"], sparse.info["detect_every"]) == (0, 0.15)
    for a, b in zip(whole, sparse, strict=True):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1.5)
        np.testing.assert_allclose(a.keypoints[:, :3], b.keypoints[:, :3], atol=0.5)


def test_missed_people_are_filled_in_and_marked(tmp_path):
    images = write_scene(tmp_path, 14, skip=(6, 7, 8))
    result = estimator(tmp_path)(images)
    for t, frame in enumerate(result):
        assert frame.track_ids.tolist() == [0]
        np.testing.assert_allclose(frame.keypoints[0, :3], dots_at(t), atol=0.25)
        assert (frame.box_scores[0] < 0.5) == (t in (6, 7, 8))


def test_joints_that_leap_for_a_frame_are_put_back(tmp_path):
    images = write_scene(tmp_path, 14)
    image = picture(7)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    image[..., 0] = 255 * np.exp(-((xs - 90.0) ** 2 + (ys - 130.0) ** 2) / 50)  # the red dot is elsewhere
    cv2.imwrite(str(images / "000007.png"), image[..., ::-1])
    plain = estimator(tmp_path, steady=False)(images)
    steady = estimator(tmp_path)(images)
    assert (plain.info["steady"], steady.info["steady"]) == (False, True)
    np.testing.assert_allclose(plain.frames[7].keypoints[0, 0], (90, 130), atol=0.5)
    np.testing.assert_allclose(steady.frames[7].keypoints[0, 0], dots_at(7)[0], atol=0.5)
    for t in range(14):
        np.testing.assert_array_equal(steady.frames[t].keypoints[0, 1:3], plain.frames[t].keypoints[0, 1:3])
    assert not estimator(tmp_path, look_ahead=0).info["steady"]  # nothing to look at
    assert not estimator(tmp_path, tracker="none").info["steady"]  # nobody to follow


def test_two_boxes_of_one_person_give_one_pose(scene, tmp_path):
    def boxes(t: int, moved: tuple[int, ...] = (-5, -3, -1, 4)) -> np.ndarray:
        first, second = box_at(t, 0), box_at(t, 1)
        return np.stack([first + np.array(moved), first, second])

    def doubled(images, keys):
        return [Detection(boxes(key.index), np.array([0.75, 0.9, 0.8])) for key in keys]

    once = estimator(detector=doubled)(scene / "scene")
    every = estimator(detector=doubled, oks_nms=1)(scene / "scene")
    assert (once.info["oks_nms"], every.info["oks_nms"]) == (0.6, 1)
    for t, (frame, whole) in enumerate(zip(once, every, strict=True)):
        assert len(whole) == 3
        np.testing.assert_allclose(frame.boxes, boxes(t)[1:], atol=1e-3)
        kept = [whole.boxes[:, 1].tolist().index(box[1]) for box in frame.boxes]
        assert frame.track_ids.tolist() == whole.track_ids[kept].tolist()
        np.testing.assert_array_equal(frame.keypoints, whole.keypoints[kept])
    # Where somebody gives boxes, box NMS alone applies.
    entries = [
        {"image_name": f"{t:06d}.png", "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.9}
        for t in range(12)
        for x1, y1, x2, y2 in boxes(t, (-20, -12, -6, 14)).tolist()
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    given = estimator(tmp_path, tracker="none")(scene / "scene")
    assert given.info["oks_nms"] == 1 and [len(frame) for frame in given] == [3] * 12


def test_a_person_begins_with_a_sure_box_but_boxes_from_a_file_all_count(scene, tmp_path):
    scores = np.linspace(0.5, 0.72, 12)  # 0.7 from frame 10 on

    def found(images, keys):
        return [Detection(box_at(k.index, 0)[None], scores[[k.index]]) for k in keys]

    for tracker in ("bytetrack", "ocsort", "botsort"):
        begun = estimator(detector=found, tracker=tracker)(scene / "scene")
        assert [len(frame) for frame in begun] == [1] * 12  # reaches back
        never = estimator(detector=found, tracker=tracker, min_track_score=0.8)(scene / "scene")
        assert [len(frame) for frame in never] == [0] * 12 and never.info["min_track_score"] == 0.8
    entries = []
    for t, people in enumerate([[0], [0], [0, 1]] + [[0]] * 9):  # the second person flickers up once
        for x1, y1, x2, y2 in (box_at(t, person).tolist() for person in people):
            entries.append({"frame_id": t, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.25})
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    given = estimator(tmp_path)(scene / "scene")
    assert [len(frame) for frame in given] == [1, 1, 2] + [1] * 9
    assert given.info["min_track_score"] == 0.2
    late = [entry | {"frame_id": entry["frame_id"] + 9} for entry in entries[:4]]  # up to the last frame
    (tmp_path / "boxes.json").write_text(json.dumps(late))
    assert [len(frame) for frame in estimator(tmp_path)(scene / "scene")] == [0] * 9 + [1, 1, 2]


def test_frames_without_people_are_there(tmp_path):
    images = write_scene(tmp_path, 5, skip=(0, 1, 2, 3, 4))
    result = estimator(
        images.parent, detector=lambda images, keys: [Detection(np.zeros((0, 4)), np.zeros(0))] * len(images)
    )(images)
    assert [len(frame) for frame in result] == [0] * 5
    assert result.frames[0].keypoints.shape == (0, 15, 2)


def test_damaged_frames_are_counted_and_the_others_keep_their_numbers(scene, tmp_path):
    folder = tmp_path / "scene"
    folder.mkdir()
    for t in range(8):
        (folder / f"{t:06d}.png").write_bytes((scene / "scene" / f"{t:06d}.png").read_bytes())
    (folder / "000003.png").write_bytes(b"broken")
    result = estimator(scene)(folder)
    assert [frame.index for frame in result] == [0, 1, 2, 4, 5, 6, 7]
    assert result.info["skipped"] == 1 and "000003.png" in result.info["reports"][0]
    for frame in result:
        np.testing.assert_allclose(frame.keypoints[0, :3], dots_at(frame.index), atol=0.25)


def test_pictures_of_different_sizes(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    cv2.imwrite(str(tmp_path / "1.png"), picture(0)[:150, :100])
    cv2.imwrite(str(tmp_path / "2.png"), picture(0))
    result = estimator(tracker="none")(tmp_path)
    assert [frame.boxes.tolist() for frame in result] == [
        [[0, 0, 319, 199]],
        [[0, 0, 99, 149]],
        [[0, 0, 319, 199]],
    ]


def test_single_frame_models(scene):
    result = estimator(scene, DotModel(num_frames=1, kind="image"))(scene / "scene")
    for t, frame in enumerate(result):
        np.testing.assert_allclose(frame.keypoints[0, :3], dots_at(t), atol=0.25)
        np.testing.assert_allclose(frame.keypoints[0, 3], dots_at(t)[0], atol=0.25)


def test_smoothing_is_off_by_default_and_on_by_request(scene):
    plain = estimator(scene)(scene / "scene")
    smooth = estimator(scene, smooth=True)(scene / "scene")
    assert plain.info["smooth"] is False and smooth.info["smooth"] is True
    assert np.abs(plain.frames[6].keypoints - smooth.frames[6].keypoints).max() > 0


def test_stopping_keeps_every_frame_read_so_far(scene):
    asked = itertools.count()
    with estimator(scene).stream(scene / "scene", stop=lambda: next(asked) >= 7) as stream:
        frames = list(stream)
    assert [frame.index for frame in frames] == list(range(7))


def test_coco_joints_become_posetracks(scene):
    """Nose and shoulders of a COCO model give head_bottom and head_top by the documented formula."""
    model = DotModel(num_joints=17)
    from vidpose.skeletons import COCO17

    model.skeleton = COCO17
    result = estimator(scene, model)(scene / "scene")
    assert result.skeleton.name == "posetrack15" and "approximated" in result.info["joints"]
    frame = result.frames[5]
    assert frame.keypoints.shape == (2, 15, 2)
    np.testing.assert_allclose(frame.keypoints[0, 0], dots_at(5)[0], atol=0.25)
    assert (frame.scores[:, 1:3] == 0).all()  # this model sees no shoulders


@pytest.mark.parametrize("name", ["tdmi", "hrnet"])
def test_real_models_run_and_bfloat16_is_close(scene, tmp_path, name):
    torch.manual_seed(0)
    model = create_model(name, backbone="hrnet_w8_small", input_size=(64, 64))
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_model(model, tmp_path / "model.safetensors")
    weights = tmp_path / "model.safetensors"
    exact = estimator(scene, name, weights=weights, decoder="plain")(scene / "scene")
    rough = estimator(scene, name, weights=weights, decoder="plain", precision="bf16")(scene / "scene")
    assert exact.info["weights"] == str(weights) and rough.info["precision"] == "bf16"
    a, b = (np.stack([frame.keypoints for frame in r]) for r in (exact, rough))
    assert np.isfinite(a).all()
    assert (np.linalg.norm(a - b, axis=-1) < 1).mean() > 0.8
    shared = estimator(scene, name, weights=weights, decoder="plain", batch_size=3)(scene / "scene")
    np.testing.assert_allclose(np.stack([f.keypoints for f in shared]), a, atol=0.5)


def test_a_real_clip(shared_dir):
    if shared_dir is None:
        pytest.skip("no real clips beside the project")
    result = estimator()(shared_dir / "clips" / "street.mp4")
    assert len(result) == 5 and (result.width, result.height) == (960, 540)
    assert [len(frame) for frame in result] == [1] * 5


def test_boxes_of_another_video_are_told(scene, tmp_path):
    (tmp_path / "boxes.json").write_text(
        json.dumps([{"image_name": "other.png", "bbox": [1, 2, 30, 40], "score": 1}])
    )
    with pytest.raises(InputError, match="none of its boxes"):
        estimator(tmp_path)(scene / "scene")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"decoder": "argmax"}, "dark"),
        ({"detect_every": 2, "tracker": "bytetrack"}, "0 to 1 seconds"),
        ({"device": "tpu"}, "cpu"),
        ({"precision": "int4"}, "bf16, fp16, int8"),
        ({"precision": "int8", "engine": "torch"}, "needs engine openvino"),
        ({"engine": "tensorrt"}, "known: auto, torch, openvino, onnxruntime"),
        ({"precision": "fp16"}, "GPU"),
        ({"tracker": "sort"}, "bytetrack"),
        ({"detector": "yolo"}, "rtdetr"),
        ({"batch_size": 0}, "at least 1"),
        ({"hold": 99}, "at most"),
        ({"padding": 0.0}, "1.25"),
        ({"oks_nms": 0.0}, "above 0"),
        ({"min_track_score": 1.5}, "min_track_score is 1.5"),
        ({"min_box_score": 2.0, "detector": "full-frame"}, "0 to 1"),
        ({"smooth": {"min_cutoff": 0.0}}, "min_cutoff"),
        ({"smooth": True, "tracker": "none"}, "identities"),
    ],
)
def test_wrong_options_are_told_at_once(options, said):
    with pytest.raises(InputError, match=said):
        estimator(**options)


def test_wrong_models_and_weights_are_told(tmp_path):
    with pytest.raises(InputError, match="tdmi"):
        PoseEstimator("tdm", detector="full-frame")
    model = create_model("hrnet", backbone="hrnet_w8_small", input_size=(64, 64))
    save_model(model, tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="holds a hrnet"):
        PoseEstimator("tdmi", weights=tmp_path / "m.safetensors", detector="full-frame")
    with pytest.raises(InputError, match="no such file"):
        PoseEstimator("tdmi", weights=tmp_path / "none.safetensors", detector="full-frame")
    with pytest.raises(InputError, match="no default weights"):
        PoseEstimator("simple_baseline", detector="full-frame")
    with pytest.raises(InputError, match="no such file"):
        estimator().stream(tmp_path / "none.mp4")
    nameless = DotModel(num_joints=9)
    with pytest.raises(InputError, match="9 joints"):
        estimator(model=nameless)


def test_windows_are_clamped_and_shared():
    needed, windows = make_windows([0, 1, 9], 5, 0, 9)
    assert needed == [0, 1, 2, 3, 7, 8, 9]
    assert np.array(needed)[windows].tolist() == [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [7, 8, 9, 9, 9]]


def test_crops_follow_the_mean_of_boxes_before_and_after():
    steady = np.array([10.0, 20.0, 60.0, 120.0]) + np.arange(9)[:, None] * np.array([4.0, -3.0, 4.0, -3.0])
    np.testing.assert_allclose(follow_boxes(steady), steady)  # no lag, at the ends either
    assert follow_boxes(steady[:0]).shape == (0, 4)
    shaken = steady.copy()
    shaken[4] += [5, 0, 5, 0]  # one box is 5 pixels off
    np.testing.assert_allclose(follow_boxes(shaken)[:, 0] - steady[:, 0], [0, 0, 1, 1, 1, 1, 1, 0, 0])
    shaken[4] += [-5 - 9, 0, -5 + 9, 0]  # and 18 pixels wider
    widths = np.diff(follow_boxes(shaken)[:, ::2], axis=1)[:, 0]
    np.testing.assert_allclose(widths, 50 + 18 / np.array([5, 6, 7, 8, 9, 8, 7, 6, 5]))


def test_a_frames_crop_stays_what_it_was_for_earlier_clips():
    boxes = np.array([10.0, 20.0, 60.0, 120.0]) + np.arange(9)[:, None] ** 2
    path = PathCrop()
    first = path.follow(7, boxes[:4], boxes[4:], [7, 8, 9, 10, 11, 12], 5)
    second = path.follow(11, boxes[4:6], boxes[6:], [9, 10, 11, 12, 13, 14], 5)
    np.testing.assert_array_equal(first[2:], second[:4])
    np.testing.assert_allclose(first, follow_boxes(boxes)[:6])
    assert (
        path.end == 13 and sorted(path.recent) == [9, 10, 11, 12] and sorted(path.boxes) == [11, 12, 13, 14]
    )
    alone = PathCrop().follow(7, boxes[:1], boxes[:0], [7, 8, 9], 5)  # seen once: all frames as the key frame
    np.testing.assert_array_equal(alone, boxes[[0, 0, 0]])
    single = PathCrop()
    np.testing.assert_array_equal(single.follow(7, boxes[:2], boxes[2:], [7, 8], 1), follow_boxes(boxes)[:2])
    assert single.boxes == {}
