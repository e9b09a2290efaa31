"""Import a checkout of the paper's public code, without the packages that only it needs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from mgmt_ray.base import MgmtError

PACKAGE = "gbm_project"
"""The name under which the public code imports its own files."""

NOT_NEEDED = (
    "torchvision",
    "torchmetrics",
    "torch.utils.tensorboard",
    "skimage",
    "skimage.util",
    "skimage.transform",
    "MedicalNet",
    "MedicalNet.models",
    f"{PACKAGE}.data_prep",
)
"""Modules that its files import, and that no measured line uses."""


class NothingThere(ModuleType):
    """A module from which every name can be imported, but not used."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def load_public_code(checkout: Path, file: str) -> ModuleType:
    """Import one of its PyTorch files.

    Args:
        checkout: of LabAIRT/SpotTune_MGMT_prediction.
        file: in its folder ``pytorch``, without ``.py``.

    Raises:
        MgmtError: no such file.
    """
    path = checkout / "pytorch" / f"{file}.py"
    if not path.is_file():
        raise MgmtError(
            f"{path}: no such file. Use a checkout of LabAIRT/SpotTune_MGMT_prediction "
            "with --reference."
        )
    package = ModuleType(PACKAGE)
    package.__path__ = [str(checkout)]
    sys.modules[PACKAGE] = package
    before = {name: sys.modules.get(name) for name in NOT_NEEDED}
    sys.modules.update({name: NothingThere(name) for name in NOT_NEEDED})
    try:
        return importlib.import_module(f"{PACKAGE}.pytorch.{file}")
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
