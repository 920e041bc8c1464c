"""The deformable convolution against its definition, a plain convolution and, where it imports, torchvision.

    python benchmarks/deformable_convolution.py [--device cpu] [--threads N] [--small]

Prints for forward, and for forward and backward, the time of one call, its ratio to torchvision's kernel (or
to a plain convolution of the same size where torchvision does not import); and the largest difference of
outputs and gradients from a slow float64 loop over the definition, which must stay below 1e-4, else the exit
status is 1.
"""

from __future__ import annotations

import argparse
import itertools
import math
import platform
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from vidpose.device import resolve_device
from vidpose.errors import InputError
from vidpose.models.layers import deform_conv2d, fused_deform_conv2d

TOLERANCE = 1e-4


def draw(
    batch: int, channels: int, size: tuple[int, int], groups: int, device: torch.device, seed: int = 0
) -> tuple[Tensor, ...]:
    """x, offset, mask, weight, bias of a 3x3 layer; offsets of about two pixels."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    tensors = (
        normal(batch, channels, *size),
        2 * normal(batch, 2 * 9 * groups, *size),
        normal(batch, 9 * groups, *size).sigmoid(),
        normal(channels, channels, 3, 3) / math.sqrt(9 * channels),
        normal(channels),
    )
    return tuple(t.to(device).requires_grad_() for t in tensors)


def by_definition(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Position by position, as in the paper; slow, differentiable, in the precision of its inputs."""
    batch, channels, height, width = x.shape
    groups = mask.shape[1] // 9
    per_group = channels // groups
    pixels = []
    for b, i, j in itertools.product(range(batch), range(height), range(width)):
        value = bias
        for g, (u, v) in itertools.product(range(groups), itertools.product(range(3), range(3))):
            k = 9 * g + 3 * u + v
            own = slice(g * per_group, (g + 1) * per_group)
            y, x_ = i - 1 + u + offset[b, 2 * k, i, j], j - 1 + v + offset[b, 2 * k + 1, i, j]
            top, left = math.floor(float(y.detach())), math.floor(float(x_.detach()))
            sample = x.new_zeros(per_group)
            for yy, xx in itertools.product((top, top + 1), (left, left + 1)):
                if 0 <= yy < height and 0 <= xx < width:
                    sample = sample + (1 - (y - yy).abs()) * (1 - (x_ - xx).abs()) * x[b, own, yy, xx]
            value = value + weight[:, own, u, v] @ (sample * mask[b, k, i, j])
        pixels.append(value)
    return torch.stack(pixels).view(batch, height, width, -1).permute(0, 3, 1, 2)


def largest_difference(function: Callable[..., Tensor], device: torch.device) -> tuple[float, float]:
    """From the definition in float64: of the output, and of the gradients of all five inputs."""
    tensors = draw(1, 8, (5, 6), 2, device)
    exact = tuple(t.detach().double().cpu().requires_grad_() for t in tensors)
    expected, found = by_definition(*exact), function(*tensors)
    wanted = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)
    theirs = torch.autograd.grad((expected * wanted).sum(), exact)
    ours = torch.autograd.grad((found * wanted.to(found)).sum(), tensors)
    gradients = max(float((a.cpu().double() - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
    return float((found.detach().cpu().double() - expected.detach()).abs().max()), gradients


def seconds(call: Callable[[], object], device: torch.device, budget: float = 1.0) -> float:
    """Median time of one call, after one to warm up."""
    times: list[float] = []
    call()
    while sum(times) < budget and len(times) < 50:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--small", action="store_true", help="a tiny map, to see that the script works")
    options = parser.parse_args()
    try:
        device = resolve_device(options.device)
    except InputError as error:
        print(f"deformable_convolution: {error}", file=sys.stderr)
        return 2
    if options.threads:
        torch.set_num_threads(options.threads)
    # TDMI at its published size: 84 channels, 12 groups, a map of 96x72; one clip.
    batch, channels, size, groups = (1, 8, (16, 12), 2) if options.small else (1, 84, (96, 72), 12)
    ways: dict[str, Callable[..., Tensor]] = {
        "plain 3x3 convolution": lambda x, _o, _m, w, b: F.conv2d(x, w, b, padding=1),
        "ours": lambda x, o, m, w, b: deform_conv2d(x, o, m, w, b, padding=1, fused=False),
    }
    if fused_deform_conv2d() is not None:
        ways["torchvision"] = lambda x, o, m, w, b: deform_conv2d(x, o, m, w, b, padding=1, fused=True)
    reference = "torchvision" if "torchvision" in ways else "plain 3x3 convolution"

    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{channels} channels, {groups} offset groups, {size[0]}x{size[1]}, batch {batch}, float32")
    if reference != "torchvision":
        print("torchvision does not import here: its kernel is not measured")
    tensors = draw(batch, channels, size, groups, device)
    table: dict[str, list[float]] = {}
    for label, way in ways.items():
        with torch.no_grad():
            forward = seconds(lambda way=way: way(*tensors), device)  # type: ignore[misc]
        both = seconds(lambda way=way: way(*tensors).sum().backward(), device)  # type: ignore[misc]
        table[label] = [forward, both]
    print(f"\n{'':24}{'forward':>12}{'ratio':>8}{'+ backward':>12}{'ratio':>8}")
    for label, (forward, both) in table.items():
        base = table[reference]
        print(
            f"{label:24}{1e3 * forward:9.2f} ms{forward / base[0]:8.2f}"
            f"{1e3 * both:9.2f} ms{both / base[1]:8.2f}"
        )
    print(f"ratios to: {reference}\n")

    wrong = False
    for label in [label for label in table if label != "plain 3x3 convolution"]:
        output, gradients = largest_difference(ways[label], device)
        wrong |= not max(output, gradients) <= TOLERANCE
        print(f"{label}: differs from the definition by {output:.1e}, its gradients by {gradients:.1e}")
    if options.small:
        exact = tuple(t.detach().double().cpu() for t in tensors)
        slow = seconds(lambda: by_definition(*exact), torch.device("cpu"), budget=0.1)
        ratio = slow / table["ours"][0]
        print(f"the definition, position by position: {1e3 * slow:.0f} ms forward, {ratio:.0f}x ours")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
