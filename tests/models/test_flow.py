"""Optical flow as a feature: what is estimated, what is remembered, and for how long."""

from __future__ import annotations

import pytest
import torch

from vidpose.models.flow import FlowCache, FlowEncoder, clip_flow, dis_flow


class Shift:
    """A flow function that counts the pairs it is asked for and says how their mean brightness changes."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.pairs = 0

    def __call__(self, first, second):
        self.pairs += len(first)
        change = (second - first).mean(dim=1, keepdim=True) * self.scale
        return torch.cat([change, -change], dim=1)


def clips(batch=2, seed=0, frames=3, size=(32, 32)):
    return torch.randn(batch, frames, 3, *size, generator=torch.Generator().manual_seed(seed))


def encoder(flow) -> FlowEncoder:
    torch.manual_seed(0)
    return FlowEncoder(3, 8, flow)


def test_encoder_makes_a_feature_at_a_quarter_of_the_crop():
    assert encoder(Shift())(clips(size=(64, 32))).shape == (2, 8, 16, 8)


def test_remembered_flow_is_the_estimated_one_to_half_precision():
    flow, cache = Shift(), FlowCache()
    x = clips()
    exact = clip_flow(x, flow)
    first, second = cache(x, flow), cache(x, flow)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, exact, rtol=2**-10, atol=1e-4)


def test_known_clips_are_not_estimated_again():
    flow, cache = Shift(), FlowCache()
    x = clips(3)
    cache(x[:2], flow)
    assert (flow.pairs, cache.hits) == (4, 0)
    out = cache(x[[1, 2, 0]], flow)  # one new clip among two known ones, in another order
    assert (flow.pairs, cache.hits) == (6, 2)
    torch.testing.assert_close(out, clip_flow(x[[1, 2, 0]], flow), rtol=2**-10, atol=1e-4)


def test_a_changed_pixel_is_another_clip():
    flow, cache = Shift(), FlowCache()
    x = clips(1)
    cache(x, flow)
    changed = x.clone()
    changed[0, 1, 0, 5, 5] += 1e-3
    cache(changed, flow)
    assert cache.hits == 0 and flow.pairs == 4


def test_memory_is_bounded_and_the_oldest_goes_first():
    one = 2 * 2 * 32 * 32 * 2  # two pairs of two components in two bytes
    flow, cache = Shift(), FlowCache(limit_bytes=2 * one)
    x = clips(3)
    for clip in x:
        cache(clip[None], flow)
    cache(x[1:], flow)
    assert cache.hits == 2
    cache(x[:1], flow)
    assert cache.hits == 2 and flow.pairs == 8


def test_a_clip_twice_in_a_batch_is_kept_once():
    one = 2 * 2 * 32 * 32 * 2
    flow, cache = Shift(), FlowCache(limit_bytes=2 * one)
    x = clips(2)
    for _ in range(3):
        cache(x[[0, 0]], flow)
    cache(x[1:], flow)
    hits = cache.hits
    cache(x, flow)
    assert cache.hits == hits + 2


def test_a_limit_below_one_clip_still_answers():
    flow, cache = Shift(), FlowCache(limit_bytes=1)
    x = clips()
    for _ in range(2):
        torch.testing.assert_close(cache(x, flow), clip_flow(x, flow), rtol=2**-10, atol=1e-4)
    assert cache.hits == 0


def test_different_flow_functions_do_not_share():
    cache = FlowCache()
    x = clips()
    once, twice = Shift(), Shift(2.0)
    first, second = cache(x, once), cache(x, twice)
    assert cache.hits == 0
    torch.testing.assert_close(second, 2 * first, rtol=1e-2, atol=1e-2)


def test_encoder_remembers_in_eval_mode_and_not_in_training():
    flow = Shift()
    model = encoder(flow)
    x = clips()
    for expected in (4, 8):
        model.train()(x)
        assert flow.pairs == expected
    with torch.no_grad():
        for _ in range(2):
            model.eval()(x)
    assert flow.pairs == 12 and model.cache.hits == 2
    assert not any("cache" in key for key in model.state_dict())


def test_feature_of_remembered_flow_is_close_to_that_of_estimated_flow():
    model = encoder(Shift()).eval()
    x = clips()
    with torch.no_grad():
        expected = model.layers(clip_flow(x, model.flow).flatten(1, 2))
        for _ in range(2):
            torch.testing.assert_close(model(x), expected, rtol=1e-2, atol=1e-2 * float(expected.std()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_remembered_flow_has_the_type_of_the_frames(dtype):
    cache = FlowCache()
    x = clips().to(dtype)
    assert cache(x, Shift()).dtype == cache(x, Shift()).dtype == dtype


def test_no_gradient_goes_through_flow():
    x = clips().requires_grad_()
    assert not clip_flow(x, Shift()).requires_grad


def test_a_still_clip_does_not_flow():
    noise = torch.randn(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    still = torch.nn.functional.interpolate(noise[0], size=(64, 64), mode="bicubic")[None]
    assert clip_flow(still.expand(-1, 3, -1, -1, -1), dis_flow).abs().max() < 0.1


def test_without_pixels_nothing_is_estimated():
    flow = Shift()
    assert clip_flow(clips().to("meta"), flow).shape == (2, 2, 2, 32, 32)
    assert flow.pairs == 0
