"""What a lens, a sensor and a codec do to linear light on its way to a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from vidpose.synthetic.layers import line_blur

from .degradations import Degradation

_GRAIN = 1024
_BRIGHTEST, _STEPS = 3, 8192


@dataclass
class Sensor:
    """The settings of one camera for one video."""

    exposure: float
    white: np.ndarray
    """[3] gains of red, green, blue."""
    gamma: float
    contrast: float
    saturation: float
    noise: tuple[float, float]
    """Standard deviation at white that grows with the root of the light, and one that does not."""
    blur_px: float
    """Gaussian blur of the lens, pixels."""
    vignette: float
    """Darkening of the corners, 0 to 1."""
    smaller: float
    """The picture is made from one so much smaller."""
    jpeg: int
    """Quality, 0: none."""
    grey: bool

    def develop(
        self,
        light: np.ndarray,
        rng: np.random.Generator,
        defocus_px: float = 0.0,
        degradation: Degradation | None = None,
    ) -> np.ndarray:
        """Linear RGB [h, w, 3] float32 -> what a file holds [h, w, 3] uint8 RGB."""
        gains, quality = self.exposure * self.white, self.jpeg
        if degradation is not None:
            gains = gains * degradation.gain
            defocus_px = float(np.hypot(defocus_px, degradation.blur_px))
            quality = self.jpeg if degradation.jpeg is None else degradation.jpeg
            if degradation.streak_px > 1:
                light = line_blur(light, degradation.streak_px, degradation.angle)
        image = light * gains.astype(np.float32)
        height, width = image.shape[:2]
        if self.smaller > 1.05:
            size = max(int(width / self.smaller), 8), max(int(height / self.smaller), 8)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        sigma = float(np.hypot(self.blur_px, defocus_px)) / max(self.smaller, 1.0)
        if sigma > 0.25:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        if self.vignette > 0.02:
            rows, columns = image.shape[:2]
            y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None] ** 2
            x = np.linspace(-1, 1, columns, dtype=np.float32)[None] ** 2
            image = image * (1 - self.vignette * 0.5 * (x + y))[..., None]
        shot, dark = self.noise
        if shot > 0 or dark > 0:
            spread = np.sqrt(shot * shot * np.clip(image, 0, 1) + dark * dark)
            image = image + spread * _grain(rng, image.shape[0], image.shape[1])
        image = self._curve[(np.clip(image, 0, _BRIGHTEST) * _STEPS).astype(np.uint16)]
        mean = image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        image = mean[..., None] + np.float32(0.0 if self.grey else self.saturation) * (
            image - mean[..., None]
        )
        out = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
        if quality:
            coded = cv2.imencode(".jpg", out[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            out = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1]
        if out.shape[:2] != (height, width):
            out = cv2.resize(np.ascontiguousarray(out), (width, height), interpolation=cv2.INTER_CUBIC)
        return np.ascontiguousarray(out)

    @cached_property
    def _curve(self) -> np.ndarray:
        """float32 stored intensity of light from 0 to ``_BRIGHTEST`` in ``_STEPS`` steps to white."""
        light = (np.arange(_BRIGHTEST * _STEPS + 1) + 0.5) / _STEPS
        rolled = light / (1 + 0.25 * np.maximum(light - 0.8, 0))  # highlights roll off
        stored = np.clip(rolled, 0, 1) ** (1 / self.gamma)
        out: np.ndarray = ((stored - 0.5) * self.contrast + 0.5).astype(np.float32)
        return out


@lru_cache(maxsize=1)
def _normal() -> np.ndarray:
    """[_GRAIN, _GRAIN, 3] float32 normal numbers, the same in every process."""
    return np.random.default_rng(0).standard_normal((_GRAIN, _GRAIN, 3), dtype=np.float32)


def _grain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """[height, width, 3] normal numbers: a random part of many, as new ones take long to make."""
    if height > _GRAIN // 2 or width > _GRAIN // 2:
        return rng.standard_normal((height, width, 3), dtype=np.float32)
    top, left = rng.integers(0, _GRAIN - height), rng.integers(0, _GRAIN - width)
    part = _normal()[top : top + height, left : left + width]
    return part[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]


def sample_sensor(rng: np.random.Generator, hardness: float = 1.0) -> Sensor:
    """A camera from good to poor; ``hardness`` 0 gives clean pictures, 1 the whole range."""
    poor = rng.random() * hardness
    return Sensor(
        exposure=float(np.exp(rng.normal(0.1, 0.35 * hardness))),
        white=np.exp(rng.normal(0, 0.10 * hardness, 3)),
        gamma=float(rng.uniform(1.9, 2.5)),
        contrast=float(np.exp(rng.normal(0.05, 0.15 * hardness))),
        saturation=float(np.clip(rng.normal(0.9, 0.25 * hardness), 0.1, 1.6)),
        noise=(float(rng.uniform(0, 0.05) * poor), float(rng.uniform(0, 0.02) * poor)),
        blur_px=float(rng.uniform(0.3, 0.3 + 0.9 * poor)),
        vignette=float((rng.random() < 0.3) * rng.uniform(0, 0.5) * hardness),
        smaller=float(rng.uniform(1.2, 3.5)) if rng.random() < 0.25 * hardness else 1.0,
        jpeg=int(rng.uniform(25, 95)) if rng.random() < 0.8 else 0,
        grey=bool(rng.random() < 0.04 * hardness),
    )
