"""Writing scans like those of UPENN-GBM, masks on a scan's grid, and copies of files."""

from __future__ import annotations

import gzip
import shutil
import zlib
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from jaxtyping import Bool, Shaped
from nibabel.nifti1 import Nifti1Extension
from nibabel.orientations import io_orientation, ornt_transform

from mgmt_ray.base import write_atomically
from mgmt_ray.cohort.scan import RAS_TO_LPS, read_scan, stored_affine
from mgmt_ray.cohort.subject import AS_STORED, ScanConventions


def write_scan(voxels: Shaped[np.ndarray, "*series depth height width"], path: Path) -> None:
    """Write an image with 1 mm voxels in the orientation and origin of UPENN-GBM.

    Args:
        voxels: depth, height, width, or a series of such volumes along the first axis.
        path: ends in ``.nii.gz``; written completely or not at all.

    Raises:
        MgmtError: the file cannot be written.
    """
    image = SimpleITK.GetImageFromArray(voxels, isVector=False)
    height = voxels.shape[-2]
    image.SetOrigin((0.0, 1.0 - height, *[0.0] * (voxels.ndim - 2)))

    def write(aside: Path) -> None:
        # SimpleITK compresses only files of this suffix
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

    write_atomically(path, write)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, as a hard link where the file system allows it.

    Raises:
        MgmtError: the copy cannot be written.
    """

    def copy(aside: Path) -> None:
        with suppress(OSError):
            aside.hardlink_to(source)
            return
        shutil.copyfile(source, aside)

    write_atomically(target, copy)


def pack_mask(
    mask: Bool[np.ndarray, "depth height width"],
    scan: Path,
    comment: str = "",
    conventions: ScanConventions = AS_STORED,
) -> bytes:
    """Return the ``.nii.gz`` file of a tumour mask (1 tumour, 0 all else) on the grid of its scan.

    Its axes have the order and direction of the scan's file if that is NIfTI, so that it also fits
    for programs that ignore orientation. Equal masks and comments give equal files.

    Args:
        mask: with axes ordered as :func:`mgmt_ray.cohort.scan.read_scan` does.
        scan: file or DICOM series.
        comment: kept in the file's header.
        conventions: of the scan's data set.

    Raises:
        BadScan: the scan cannot be read.
    """
    grid = read_scan(scan, conventions).grid
    assert mask.shape == grid.shape, f"a mask of {mask.shape} on a scan of {grid.shape}"
    affine = (RAS_TO_LPS @ grid.affine)[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(mask.astype(np.uint8).transpose(2, 1, 0), affine)
    if scan.is_file():
        stored = io_orientation(stored_affine(scan, conventions))
        turn = ornt_transform(io_orientation(affine), stored)
        image = image.as_reoriented(turn)
    image.header.set_xyzt_units("mm")
    if comment:
        image.header.extensions.append(Nifti1Extension("comment", comment.encode()))
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def read_comment(path: Path) -> str:
    """Return the comment of :func:`pack_mask`; reads the whole file, whose damage is noticed.

    Raises:
        OSError: the file is missing or damaged.
        ValueError: it has no comment.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        (extension,) = nibabel.Nifti1Image.from_bytes(content).header.extensions
    except (EOFError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise OSError(str(error)) from error
    return bytes(extension.content).rstrip(b"\0").decode()
