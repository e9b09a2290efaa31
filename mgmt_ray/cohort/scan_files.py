"""Writing images as the public cohort's files look."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import SimpleITK
from jaxtyping import Shaped

from mgmt_ray.base import write_aside


def write_scan(voxels: Shaped[np.ndarray, "*series depth height width"], path: Path) -> None:
    """Write an image with 1 mm voxels in the orientation and origin of UPENN-GBM.

    Args:
        voxels: depth, height, width, or a series of such volumes along the first axis.
        path: ends in ``.nii.gz``; complete or not there.

    Raises:
        MgmtError: it cannot be written.
    """
    image = SimpleITK.GetImageFromArray(voxels, isVector=False)
    height = voxels.shape[-2]
    image.SetOrigin((0.0, 1.0 - height, *[0.0] * (voxels.ndim - 2)))

    def write(aside: Path) -> None:
        # SimpleITK compresses only what is named so.
        packed = aside.with_name(f"{aside.name}.nii.gz")
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(str(packed))
        writer.UseCompressionOn()
        writer.SetCompressionLevel(1)
        try:
            writer.Execute(image)
            packed.replace(aside)
        except RuntimeError as error:
            raise OSError(str(error).strip().splitlines()[-1].strip()) from error
        finally:
            packed.unlink(missing_ok=True)

    write_aside(path, write)


def copy_file(source: Path, target: Path) -> None:
    """Put a file under another name, without taking space where the disk can share it.

    Raises:
        MgmtError: it cannot be written.
    """

    def copy(aside: Path) -> None:
        with suppress(OSError):
            aside.hardlink_to(source)
            return
        shutil.copyfile(source, aside)

    write_aside(target, copy)
