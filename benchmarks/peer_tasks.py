"""What a peer does, run in the peer's environment: ``python -m benchmarks.peer_tasks TASK FOLDER``.

The folder has the task's ``input.npz`` and ``input.json``. After a line on the standard input the
task runs once and prints its seconds as JSON; its result of the first time is in ``result.npz``.
Nothing of the package is imported here, and each library in the task that it is for.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], Mapping[str, Any]]
"""A task: returns its result, arrays by name."""

Input = Mapping[str, Any]
"""Arrays and JSON values by name."""


def monai_preprocessing(given: Input) -> Run:
    """Mask, crop, shrink, pad and scale all modalities, then augment them, by dictionaries."""
    import torch
    from monai import transforms as t

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    files = {name: Path(path) for name, path in given["files"].items()}
    everything, scans = [*files], [name for name in files if name != "mask"]
    starts, ends = zip(*reversed(given["window"]), strict=True)  # nibabel's axes are x, y, z
    shape = given["shape"][::-1]
    small = [(end - start) // given["shrink"] for start, end in zip(starts, ends, strict=True)]
    modes = ["nearest" if name == "mask" else "bilinear" for name in everything]
    tight = [t.CropForegroundd(everything, "mask", margin=given["shrink"])]
    window = [t.SpatialCropd(everything, roi_start=starts, roi_end=ends)]
    areas = ["nearest" if mode == "nearest" else "area" for mode in modes]
    resized = t.Resized(everything, small, mode=areas)
    zoomed = t.Zoomd(everything, 1 / given["shrink"], mode=areas, keep_size=False)
    prepare = t.Compose(
        [
            t.LoadImaged(everything),
            t.EnsureChannelFirstd(everything),
            t.MaskIntensityd(scans, mask_key="mask"),
            *([*tight, zoomed] if given["tight"] else [*window, resized]),
            *([] if given["tight"] else [t.SpatialPadd(everything, shape)]),
            t.ScaleIntensityd(scans),
        ]
    )
    augment = [
        t.Flipd(everything, spatial_axis=0),
        t.RandRotated(everything, range_z=np.pi, prob=1, mode=modes, keep_size=True),
        t.RandGaussianNoised(scans, prob=1, std=0.1),
        t.Rand3DElasticd(
            everything, sigma_range=(5, 7), magnitude_range=(50, 150), prob=1, mode=modes
        ),
    ]
    pad = t.SpatialPadd(everything, shape) if given["tight"] else t.Identity()
    remask = t.MaskIntensityd(scans, mask_key="mask")

    def run() -> Mapping[str, Any]:
        if given["tight"]:  # all versions from one original
            original = prepare(files)
            versions = [original, *(remask(change(dict(original))) for change in augment)]
        else:  # each by its own transforms from the files, as in a data set of MONAI
            versions = [prepare(files), *(remask(change(prepare(files))) for change in augment)]
        padded = [pad(version) for version in versions]
        return {
            name: np.stack([v[name][0].numpy().astype(np.float16).T for v in padded])
            for name in scans
        }

    return run


def torchio_preprocessing(given: Input) -> Run:
    """The same with a subject of TorchIO."""
    import torch
    import torchio as tio

    torch.set_num_threads(1)
    starts, ends = zip(*reversed(given["window"]), strict=True)
    shape = given["shape"][::-1]
    small = [(end - start) // given["shrink"] for start, end in zip(starts, ends, strict=True)]
    files = given["files"]
    scans = [name for name in files if name != "mask"]

    def crop(subject: tio.Subject) -> tio.Subject:
        after = [size - end for size, end in zip(subject.spatial_shape, ends, strict=True)]
        amounts = [amount for pair in zip(starts, after, strict=True) for amount in pair]
        return tio.Crop(tuple(amounts))(subject)

    mask = tio.Mask(masking_method="mask")
    finish = tio.Compose([tio.Resize(small), tio.CropOrPad(shape), tio.RescaleIntensity((0, 1))])
    augment = [
        tio.Flip(axes=(0,)),
        tio.RandomAffine(scales=0, degrees=(0, 0, 0, 0, -180, 180), translation=0),
        tio.RandomNoise(mean=0, std=(0.1, 0.1)),
        tio.RandomElasticDeformation(),
    ]

    def run() -> Mapping[str, Any]:
        images = {name: tio.ScalarImage(files[name]) for name in scans}
        subject = tio.Subject(**images, mask=tio.LabelMap(files["mask"]))
        original = finish(crop(mask(subject)))
        versions = [original, *(mask(change(original)) for change in augment)]
        return {
            name: np.stack([v[name].data[0].numpy().astype(np.float16).T for v in versions])
            for name in scans
        }

    return run


def monai_training(given: Input) -> Run:
    """A training step as in MONAI's tutorial of 3-D classification: cache, loader, Adam."""
    import torch
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import Compose, EnsureTyped, ToTensord
    from torch import nn

    from benchmarks.plain_step import PlainStem, plain_blocks

    torch.set_num_threads(1)
    torch.manual_seed(0)
    width = int(given["width"])
    network = nn.Sequential(
        PlainStem(width),
        *plain_blocks(50, width),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(32 * width, 1),
    ).train()
    rows = [
        {"image": image.astype(np.float32), "label": np.float32([label])}
        for image, label in zip(given["volumes"], given["labels"], strict=True)
    ]
    transform = Compose([EnsureTyped(["image", "label"]), ToTensord(["image", "label"])])
    data = CacheDataset(rows, transform, progress=False)
    loader = DataLoader(data, batch_size=int(given["batch"]), shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(network.parameters(), 1e-5)
    loss_function = nn.BCEWithLogitsLoss()

    def batches() -> Iterator[Mapping[str, Any]]:
        while True:
            yield from loader

    batch = batches()

    def run() -> Mapping[str, Any]:
        part = next(batch)
        optimizer.zero_grad()
        loss = loss_function(network(part["image"]), part["label"])
        loss.backward()
        optimizer.step()
        loss.item()
        return {"num_parameters": sum(p.numel() for p in network.parameters())}

    return run


def sklearn_bootstrap(given: Input) -> Run:
    """AUC of stratified resamples, one by one, and their percentiles."""
    from sklearn.metrics import roc_auc_score
    from sklearn.utils import resample

    labels, probability = given["labels"], given["probability"]

    def run() -> Mapping[str, Any]:
        areas = []
        for number in range(int(given["resamples"])):
            rows = resample(np.arange(len(labels)), stratify=labels, random_state=number)
            areas.append(roc_auc_score(labels[rows], probability[rows]))
        return {"interval": np.percentile(areas, [2.5, 97.5])}

    return run


def scipy_bootstrap(given: Input) -> Run:
    """SciPy's bootstrap of scikit-learn's AUC."""
    from scipy.stats import bootstrap
    from sklearn.metrics import roc_auc_score

    def run() -> Mapping[str, Any]:
        found = bootstrap(
            (given["labels"], given["probability"]),
            roc_auc_score,
            paired=True,
            n_resamples=int(given["resamples"]),
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        return {"interval": np.array(found.confidence_interval)}

    return run


def monai_overlap(given: Input) -> Run:
    """Dice and the 95th percentile of the Hausdorff distance of two masks."""
    import torch
    from monai.metrics import DiceMetric, HausdorffDistanceMetric

    torch.set_num_threads(1)
    masks = [torch.from_numpy(given[name])[None, None] for name in ("predicted", "truth")]
    spacing = given["spacing_mm"]

    def run() -> Mapping[str, Any]:
        dice, distance = DiceMetric(), HausdorffDistanceMetric(percentile=95)
        dice(*masks)
        distance(*masks, spacing=spacing)
        return {"overlap": np.array([dice.aggregate().item(), distance.aggregate().item()])}

    return run


def pyradiomics_features(given: Input) -> Run:
    """The six features of the baseline, each by the class that has it."""
    import logging

    import SimpleITK
    from radiomics import firstorder, glcm, glszm, ngtdm

    logging.disable(logging.WARNING)
    kinds = {
        "firstorder": firstorder.RadiomicsFirstOrder,
        "glcm": glcm.RadiomicsGLCM,
        "glszm": glszm.RadiomicsGLSZM,
        "ngtdm": ngtdm.RadiomicsNGTDM,
    }

    def run() -> Mapping[str, Any]:
        values = []
        for kind, feature, modality, labels in given["features"]:
            image = SimpleITK.GetImageFromArray(given[modality])
            mask = SimpleITK.GetImageFromArray(np.isin(given["mask"], labels).astype(np.uint8))
            extractor = kinds[kind](image, mask, label=1, binWidth=25)
            extractor.enableFeatureByName(feature)
            values.append(float(extractor.execute()[feature]))
        return {"values": np.array(values)}

    return run


TASKS: Mapping[str, Callable[[Input], Run]] = {
    task.__name__: task
    for task in (
        monai_preprocessing,
        torchio_preprocessing,
        monai_training,
        sklearn_bootstrap,
        scipy_bootstrap,
        monai_overlap,
        pyradiomics_features,
    )
}


def main(task: str, folder: Path) -> None:
    with np.load(folder / "input.npz") as arrays:
        given = {**arrays, **json.loads((folder / "input.json").read_text())}
    screen, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    run = TASKS[task](given)
    np.savez(folder / "result.npz", **run())  # not timed: the first time has its set-up
    print(json.dumps("ready"), file=screen, flush=True)
    for _ in sys.stdin:
        wall, process = time.perf_counter(), time.process_time()
        run()
        seconds = [time.perf_counter() - wall, time.process_time() - process]
        print(json.dumps(seconds), file=screen, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
