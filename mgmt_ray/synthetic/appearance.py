"""Intensities of tissues and tumours in each modality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

from mgmt_ray.synthetic.anatomy import CSF, GRAY, WHITE, Anatomy
from mgmt_ray.synthetic.random_fields import smoothed_noise
from mgmt_ray.synthetic.tumour import Tumour


@dataclass(frozen=True, slots=True)
class ValueEncoding:
    """How a modality's files store values: multiples of ``step`` from ``low`` to ``high``.

    Attributes:
        negative: fraction of the voxels that are negative, as a map's failed fits are.
    """

    step: float
    low: float
    high: float
    pixel: type[np.generic]
    negative: float = 0.0


@dataclass(frozen=True, slots=True)
class Appearance:
    """Typical values of a modality, in the units of its files.

    Attributes:
        csf: cerebrospinal fluid.
        gray: grey matter.
        white: white matter.
        edema: swollen tissue around the tumour.
        enhancing: the active rim.
        necrosis: the dead core.
        noise: standard deviation of the texture inside a tumour without planted signal.
        encoding: of the modality's files.
    """

    csf: float
    gray: float
    white: float
    edema: float
    enhancing: float
    necrosis: float
    noise: float
    encoding: ValueEncoding


SCANNER = ValueEncoding(step=1.0, low=1.0, high=32_000.0, pixel=np.int16)
PERFUSION = ValueEncoding(step=1.0, low=1.0, high=32_000.0, pixel=np.float32)
RECOVERY_PERCENT = ValueEncoding(0.01, low=-1000.0, high=1000.0, pixel=np.float32, negative=2e-4)
DIFFUSIVITY_MM2_S = ValueEncoding(step=1e-6, low=1e-6, high=0.02, pixel=np.float32)
ANISOTROPY = ValueEncoding(step=1e-4, low=1e-4, high=1.0, pixel=np.float32)

APPEARANCE = {
    "T1": Appearance(250.0, 520.0, 740.0, 560.0, 610.0, 430.0, 55.0, SCANNER),
    "T1GD": Appearance(260.0, 560.0, 780.0, 600.0, 1150.0, 450.0, 65.0, SCANNER),
    "T2": Appearance(1050.0, 560.0, 400.0, 860.0, 680.0, 900.0, 70.0, SCANNER),
    "FLAIR": Appearance(180.0, 520.0, 430.0, 820.0, 680.0, 480.0, 60.0, SCANNER),
    "AD": Appearance(3e-3, 1e-3, 1.3e-3, 1.8e-3, 1.5e-3, 2.1e-3, 1.4e-4, DIFFUSIVITY_MM2_S),
    "RD": Appearance(2.9e-3, 8e-4, 5e-4, 1.3e-3, 1.1e-3, 1.8e-3, 1.2e-4, DIFFUSIVITY_MM2_S),
    "TR": Appearance(8.9e-3, 2.6e-3, 2.3e-3, 4.4e-3, 3.7e-3, 5.7e-3, 3.8e-4, DIFFUSIVITY_MM2_S),
    "FA": Appearance(0.08, 0.18, 0.5, 0.2, 0.17, 0.13, 0.018, ANISOTROPY),
    "ap-rCBV": Appearance(300.0, 1500.0, 800.0, 900.0, 2400.0, 600.0, 90.0, PERFUSION),
    "PH": Appearance(60.0, 420.0, 240.0, 340.0, 450.0, 310.0, 45.0, PERFUSION),
    "PSR": Appearance(60.0, 92.0, 96.0, 88.0, 78.0, 70.0, 5.0, RECOVERY_PERCENT),
}
"""Plausible, not measured: only the direction of the contrasts is realistic."""

BIAS = 0.04
"""Relative standard deviation of the receive coil's slow shading."""

TISSUE_NOISE = 0.35
"""Standard deviation of the noise in all tissue, in units of :attr:`Appearance.noise`."""


def render_healthy_brain(
    modality: str, anatomy: Anatomy
) -> Float32[np.ndarray, "depth height width"]:
    """Return the intensities of a healthy brain in one modality, without noise."""
    look = APPEARANCE[modality]
    values = np.interp(anatomy.tissue, [CSF, GRAY, WHITE], [look.csf, look.gray, look.white])
    return values.astype(np.float32)


def render(
    modality: str,
    anatomy: Anatomy,
    base: Float32[np.ndarray, "depth height width"],
    tumour: Tumour,
    texture: Float32[np.ndarray, "rows columns layers"],
    random: np.random.Generator,
) -> Shaped[np.ndarray, "z y x"]:
    """Render a scan of one subject on the whole grid.

    Args:
        texture: inside the tumour, on its box, in units of :attr:`Appearance.noise`.

    Returns:
        Intensities in the units of the modality's files; 0 outside the brain.

    >>> from mgmt_ray.synthetic.anatomy import phantom
    >>> from mgmt_ray.synthetic.tumour import grow_tumour
    >>> random = np.random.default_rng(0)
    >>> anatomy = phantom((16, 16, 16), random)
    >>> tumour = grow_tumour(anatomy, random)
    >>> base = render_healthy_brain("T1", anatomy)
    >>> texture = np.zeros(tumour.labels.shape, np.float32)
    >>> scan = render("T1", anatomy, base, tumour, texture, random)
    >>> scan.shape, scan.dtype
    ((16, 16, 16), dtype('int16'))
    """
    look = APPEARANCE[modality]
    encoding = look.encoding
    shading = smoothed_noise(base.shape, max(1.0, 0.3 * min(anatomy.grid)), random)
    values = base * (np.float32(random.normal(1, 0.05)) + np.float32(BIAS) * shading)
    _blend(values[tumour.box], tumour.edema * np.float32(0.85), look.edema)
    _blend(values[tumour.box], tumour.core, look.enhancing)
    _blend(values[tumour.box], tumour.necrosis, look.necrosis)
    grain = random.standard_normal(base.shape, dtype=np.float32)
    values += np.float32(TISSUE_NOISE * look.noise) * grain
    values[tumour.box] += np.float32(look.noise) * texture
    if encoding.negative:
        failed = random.random(base.shape, dtype=np.float32) < encoding.negative
        values[failed] *= -1
    step = np.float32(encoding.step)
    values = np.rint(np.clip(values, encoding.low, encoding.high) / step) * step
    scan = np.zeros(anatomy.grid, encoding.pixel)
    scan[anatomy.box] = np.where(anatomy.brain, values, 0)
    return scan


def _blend(
    values: Float32[np.ndarray, "d h w"], share: Float32[np.ndarray, "d h w"], towards: float
) -> None:
    values += share * (np.float32(towards) - values)
