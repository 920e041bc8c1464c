"""The deformable convolution against a slow loop, torch's convolution, and itself after export."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vidpose.models.layers import (
    DeformConv2d,
    deform_conv2d,
    fused_deform_conv2d,
    offset_groups,
    residual_chain,
)


def bilinear(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """[C, H, W] at a real position, zeros outside."""
    y0, x0 = math.floor(y), math.floor(x)
    value = np.zeros(len(image))
    for yy, wy in ((y0, y0 + 1 - y), (y0 + 1, y - y0)):
        for xx, wx in ((x0, x0 + 1 - x), (x0 + 1, x - x0)):
            if 0 <= yy < image.shape[1] and 0 <= xx < image.shape[2]:
                value += wy * wx * image[:, yy, xx]
    return value


def slow(x, offset, mask, weight, bias, stride, padding, dilation):
    """The definition, in float64: for every output, kernel point and offset group one bilinear sample."""
    n, c, _, _ = x.shape
    outputs, per_group, kh, kw = weight.shape
    points, groups = kh * kw, c // per_group
    g_offset = offset.shape[1] // (2 * points)
    rows, columns = offset.shape[2:]
    out = np.zeros((n, outputs, rows, columns))
    for b, i, j in np.ndindex(n, rows, columns):
        samples = np.zeros((c, kh, kw))
        for g, u, v in np.ndindex(g_offset, kh, kw):
            k = u * kw + v
            dy, dx = offset[b, 2 * (g * points + k) : 2 * (g * points + k) + 2, i, j]
            chosen = slice(g * c // g_offset, (g + 1) * c // g_offset)
            value = bilinear(
                x[b, chosen],
                i * stride[0] - padding[0] + u * dilation[0] + dy,
                j * stride[1] - padding[1] + v * dilation[1] + dx,
            )
            samples[chosen, u, v] = value * (1.0 if mask is None else mask[b, g * points + k, i, j])
        for o in range(outputs):
            part = o // (outputs // groups)
            own = samples[part * per_group : (part + 1) * per_group]
            out[b, o, i, j] = (own * weight[o]).sum() + bias[o]
    return out


CASES = [
    # kernel, stride, padding, dilation, offset groups, weight groups, masked
    ((3, 3), (1, 1), (1, 1), (1, 1), 2, 1, True),
    ((3, 3), (2, 1), (3, 2), (3, 2), 4, 2, True),
    ((1, 2), (1, 2), (0, 1), (1, 1), 1, 1, False),
    ((5, 3), (1, 1), (0, 0), (1, 1), 1, 4, True),
]


def problem(case, dtype=torch.float32, n=2, channels=8, outputs=4, size=(7, 6)):
    kernel, stride, padding, dilation, g_offset, groups, masked = case
    generator = torch.Generator().manual_seed(0)
    rows, columns = (
        (size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    )
    points = kernel[0] * kernel[1]

    def draw(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    tensors = (
        draw(n, channels, *size),
        draw(n, 2 * g_offset * points, rows, columns) * 2,
        draw(n, g_offset * points, rows, columns).sigmoid() if masked else None,
        draw(outputs, channels // groups, *kernel) / math.sqrt(channels * points),
        draw(outputs),
    )
    return tensors, {"stride": stride, "padding": padding, "dilation": dilation}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fused", [False, True])
def test_equals_the_definition(case, fused):
    if fused and fused_deform_conv2d() is None:
        pytest.skip("torchvision does not import here: its kernel is not compared")
    tensors, options = problem(case)
    expected = slow(*(None if t is None else t.double().numpy() for t in tensors), **options)
    found = deform_conv2d(*tensors, fused=fused, **options)
    assert np.abs(found.double().numpy() - expected).max() <= 1e-4


@settings(max_examples=15, deadline=None)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 2),
    height=st.integers(7, 9),
    width=st.integers(7, 11),
)
def test_without_offsets_it_is_a_convolution(kernel, stride, padding, dilation, height, width):
    case = ((kernel,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2, 2, 1, True)
    (x, offset, mask, weight, bias), options = problem(case, torch.float64, size=(height, width))
    found = deform_conv2d(
        x, torch.zeros_like(offset), torch.ones_like(mask), weight, bias, fused=False, **options
    )
    torch.testing.assert_close(found, F.conv2d(x, weight, bias, **options))


def test_gradients_of_every_input():
    tensors, options = problem(CASES[1], torch.float64, n=1, channels=4, size=(4, 4))
    inputs = tuple(t.requires_grad_() for t in tensors)
    assert torch.autograd.gradcheck(lambda *t: deform_conv2d(*t, fused=False, **options), inputs)


def test_bfloat16_samples_at_the_same_places():
    tensors, options = problem(CASES[0], channels=8, size=(96, 72), n=1)
    short = [t.bfloat16() for t in tensors]
    found = deform_conv2d(*short, fused=False, **options)
    expected = deform_conv2d(*(t.float() for t in short), fused=False, **options)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        mixed = deform_conv2d(*tensors, fused=False, **options)
    plain = deform_conv2d(*tensors, fused=False, **options)
    assert (mixed.float() - plain).abs().max() < 0.05


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.offset = torch.nn.Conv2d(8, 3 * 4 * 9, 3, padding=3, dilation=3)
        self.dcn = DeformConv2d(8, 6)

    def forward(self, x):
        offset, mask = self.offset(x).split([2 * 4 * 9, 4 * 9], dim=1)
        return self.dcn(x, offset, mask.sigmoid())


def test_exported_programs_equal_eager(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    model, x = Small().eval(), torch.randn(2, 8, 12, 10)
    expected = model(x)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    more = torch.randn(3, 8, 12, 10)
    torch.testing.assert_close(program.module()(more), model(more))
    path = tmp_path / "dcn.onnx"
    torch.onnx.export(model, (x,), path, dynamo=True, verbose=False, dynamic_shapes=({0: batch},))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    np.testing.assert_allclose(session.run(None, {name: x.numpy()})[0], expected.detach(), atol=1e-4)
    np.testing.assert_allclose(session.run(None, {name: more.numpy()})[0], model(more).detach(), atol=1e-4)


def test_fused_kernel_must_exist_when_asked_for():
    if fused_deform_conv2d() is not None:
        pytest.skip("torchvision imports here")
    tensors, options = problem(CASES[0])
    with pytest.raises(RuntimeError, match="torchvision"):
        deform_conv2d(*tensors, fused=True, **options)


def test_module_is_equal_on_its_weights():
    layer = DeformConv2d(8, 6, 3, stride=2)
    x, offset, mask = torch.randn(1, 8, 9, 9), torch.randn(1, 36, 5, 5), torch.rand(1, 18, 5, 5)
    expected = deform_conv2d(x, offset, mask, layer.weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(x, offset, mask), expected)
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_residual_chain_changes_channels_once():
    chain = residual_chain(6, 4, 3)
    assert chain(torch.randn(2, 6, 5, 7)).shape == (2, 4, 5, 7)
    assert len(chain) == 3
    assert [block.downsample is not None for block in chain] == [True, False, False]


def test_offset_groups_divide_the_width():
    assert [offset_groups(c) for c in (48, 84, 16, 24, 32, 7)] == [12, 12, 4, 6, 8, 1]
