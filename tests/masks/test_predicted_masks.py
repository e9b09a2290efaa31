"""Masks that finished segmentations predict for a 3-D study."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import SimpleITK
from safetensors.torch import load_file, save_file

from mgmt_ray.base import MgmtError, file_checksum
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.datasets import read_data_set
from mgmt_ray.cohort.persons import PersonRef
from mgmt_ray.cohort.plain_table import TableConfig
from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.data.scanned_cohort import list_subjects
from mgmt_ray.masks.contamination import segmenter_exposure
from mgmt_ray.masks.mask_files import MaskRequest, segment_scans
from mgmt_ray.masks.mask_files import PredictedMask as Mask
from mgmt_ray.masks.segmentation_study import Segmentations, load_segmentations
from mgmt_ray.pipeline.stages import plan_study, prepare, select
from mgmt_ray.preprocess.axial_slices import SliceSource, cut_slices
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.study.folder import StudyFolder, read_trial_file, write_trial_file
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.synthetic.table_layout import write_table_copy
from mgmt_ray.trials.context import StudyContext
from mgmt_ray.trials.segmenter import load_segmenter, segment_scan

if TYPE_CHECKING:
    from tests.studies import Outlined

MakeJob = Callable[..., StudyContext]


@pytest.fixture
def copied_slices(outlined: Outlined, tmp_path: Path) -> Path:
    shutil.copytree(outlined.slices, tmp_path / "slices")
    return tmp_path / "slices"


@pytest.fixture
def bare_root(outlined: Outlined, tmp_path: Path) -> Path:
    """The cohort without given masks."""
    shutil.copytree(outlined.root, tmp_path / "bare")
    for folder in ("automated_segm", "images_segm"):
        shutil.rmtree(tmp_path / "bare" / "NIfTI-files" / folder)
    return tmp_path / "bare"


def segmentations_of(context: StudyContext) -> Segmentations:
    assert context.study.mask_source is not None
    return load_segmentations(context.study.mask_source, context.study.modalities)


def exposed_persons(slices: Path, *roles: str) -> dict[str, set[str]]:
    """Persons that each segmentation was trained or chosen on, by its own record."""
    records = {
        path.parent.name: json.loads(path.read_text())["persons"]
        for path in slices.glob("*/chen-segmentation*/trial.json")
    }
    roles = roles or ("trained", "chosen")
    return {name: {p for role in roles for p in persons[role]} for name, persons in records.items()}


def change_bias(slices: Path, trial: str, by: float) -> None:
    """Change the last bias of a segmentation, and its recorded checksum."""
    folder = slices / "trials" / trial
    weights = load_file(folder / "weights.safetensors")
    weights["decoder.last.bias"] += by
    save_file(weights, folder / "weights.safetensors")
    checksum = file_checksum(folder / "weights.safetensors")
    write_trial_file(folder, read_trial_file(folder) | {"weights_sha256": checksum})


def test_a_network_never_predicts_the_mask_of_a_person_it_was_trained_or_chosen_on(
    outlined: Outlined, make_joined_job: MakeJob
) -> None:
    context = make_joined_job()
    cohort = select(context).cohort
    known = exposed_persons(outlined.slices)
    source = segmentations_of(context)
    networks = {n: load_segmenter(t, source.folder, "cpu") for n, t in source.trials.items()}
    numbers = set()
    for subject in cohort.subjects:
        scan = read_scan(subject.scans["FLAIR"])
        request = SliceSource(subject.id, (subject.scans["FLAIR"],), None)
        slices = cut_slices(request, [scan.voxels], None, scan.grid.spacing_mm, source.recipe)
        eligible_networks = [networks[n] for n in networks if subject.person not in known[n]]
        numbers.add(len(eligible_networks))
        assert (
            read_scan(subject.required_mask).voxels == segment_scan(eligible_networks, slices)
        ).all()
        exposed = [networks[n] for n in networks if subject.person in known[n]]
        if exposed:
            other = segment_scan([*eligible_networks, *exposed], slices)
            assert (read_scan(subject.required_mask).voxels != other).any()
    # one where the person was a validation subject of the other fold; all six for test subjects
    assert numbers == {1, 6}
    chosen, trained = (
        exposed_persons(outlined.slices, "chosen"),
        exposed_persons(outlined.slices, "trained"),
    )
    assert any(chosen[n] - trained[n] for n in chosen)


def test_copies_under_other_names_are_the_same_persons(
    outlined: Outlined, make_joined_job: MakeJob, tmp_path: Path
) -> None:
    context = make_joined_job()
    source = segmentations_of(context)
    subjects = read_data_set(context.study.cohort).subjects
    new = write_table_copy(subjects, tmp_path / "copy", seed=0)
    config = TableConfig(
        reader="table", root=tmp_path / "copy", modalities=("FLAIR",), mask="predicted"
    )
    scanned = list_subjects("", config, context.study, context.folder, context.resources)
    exposure = segmenter_exposure(source, scanned.persons, scanned.scan_hashes)
    known = exposed_persons(outlined.slices)
    for subject in subjects:
        eligible_networks = {n for n, persons in known.items() if subject.person not in persons}
        assert {*exposure["", new[subject.id]].eligible} == eligible_networks


@pytest.mark.parametrize("role", ["trained", "chosen"])
@pytest.mark.parametrize("how", ["id", "person", "crosswalk", "nothing"])
def test_names_and_crosswalks_identify_persons_without_shared_voxels(
    how: str, role: str, make_joined_job: MakeJob
) -> None:
    source = segmentations_of(make_joined_job())
    name, metadata = next(iter(source.metadata.items()))
    person = metadata["persons"][role][0]
    known = PersonRef("", person if how == "id" else "X1", person if how == "person" else "X1")
    rows = (("X1", person),) if how == "crosswalk" else ()
    eligible = segmenter_exposure(source, [known], {}, rows)[known.key].eligible
    assert (name in eligible) == (how == "nothing")


@pytest.mark.parametrize("role", ["trained", "chosen"])
def test_a_person_that_all_networks_were_trained_or_chosen_on_is_an_error(
    role: str, copied_slices: Path, make_joined_job: MakeJob
) -> None:
    person = sorted(exposed_persons(copied_slices).popitem()[1])[0]
    for trial in copied_slices.glob("*/chen-segmentation*"):
        metadata = read_trial_file(trial)
        metadata["persons"][role] = sorted({*metadata["persons"][role], person})
        write_trial_file(trial, metadata)
    message = f"was trained or chosen on {person}_11, so none may predict their masks. Exclude them"
    with pytest.raises(MgmtError, match=message):
        select(make_joined_job(slices=copied_slices))


def test_without_cross_fitted_networks_only_test_subjects_of_the_same_cohort_can_be_segmented(
    copied_slices: Path, make_joined_job: MakeJob
) -> None:
    path = copied_slices / "study.yaml"
    text = path.read_text()
    assert "cross_fitted: true" in text
    text = text.replace("cross_fitted: true", "cross_fitted: false").replace("parts: 2", "parts: 3")
    path.write_text(text)
    known = set().union(*exposed_persons(copied_slices).values())
    with pytest.raises(
        MgmtError, match=r"Or run that study with networks\.chen\.cross_fitted: true"
    ) as e:
        select(make_joined_job(slices=copied_slices))
    assert f"and {len(known) - 5} more, so none may" in str(e.value)


def test_the_training_persons_of_the_networks_are_written_with_the_masks(
    outlined: Outlined, make_joined_job: MakeJob
) -> None:
    context = make_joined_job()
    cohort = select(context).cohort
    written = json.loads((context.folder.masks / "trained.json").read_text())
    trained = exposed_persons(outlined.slices, "trained")
    assert {s: {*names} for s, names in written.items()} == {
        s.id: {n for n in trained if s.person in trained[n]} for s in cohort.subjects
    }
    index = json.loads((context.folder.masks / "masks.json").read_text())["subjects"]
    assert not any({*index[s]["networks"]} & {*written[s]} for s in written)


def test_given_masks_change_nothing_in_a_study_of_predicted_ones(
    bare_root: Path, make_joined_job: MakeJob
) -> None:
    stores, splits = [], []
    for root, out in ((None, "with"), (bare_root, "without")):
        context = make_joined_job(root=root, out=out)
        selected = select(context)
        assert {s.mask_kind for s in selected.cohort.subjects} == {"predicted"}
        splits.append(plan_study(context, selected)[0].splits)
        prepare(context, selected)
        stores.append(VolumeStore(context.folder.volumes, "FLAIR").checksum)
    assert stores[0] == stores[1]
    assert splits[0] == splits[1]


def test_the_kind_of_mask_does_not_change_the_splits(make_joined_job: MakeJob) -> None:
    made = {}
    for mask in ("given", "predicted"):
        context = make_joined_job(out=mask, mask=mask)
        selected = select(context)
        made[mask] = (selected.cohort.hash, plan_study(context, selected)[0].splits)
    assert made["given"][1] == made["predicted"][1]
    assert made["given"][0] != made["predicted"][0]


def test_valid_masks_are_kept_and_the_others_are_predicted(make_joined_job: MakeJob) -> None:
    context = make_joined_job()
    select(context)
    files = sorted(context.folder.masks.glob("masks/*.nii.gz"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    select(context)
    assert {path: path.stat().st_mtime_ns for path in files} == {
        p: t for p, (_, t) in before.items()
    }
    damaged, lost, *others = files
    damaged.write_bytes(damaged.read_bytes()[:-9])
    lost.unlink()
    (context.folder.masks / "masks.json").unlink()  # as an interruption leaves it
    select(context)
    assert {path: path.read_bytes() for path in files} == {p: c for p, (c, _) in before.items()}
    assert all(path.stat().st_mtime_ns == before[path][1] for path in others)
    assert all(path.stat().st_mtime_ns != before[path][1] for path in (damaged, lost))


def test_only_missing_masks_are_predicted_on_request(
    outlined: Outlined, tmp_path: Path, make_joined_job: MakeJob
) -> None:
    root = tmp_path / "some"
    shutil.copytree(outlined.root, root)
    name = read_data_set(make_joined_job(out="x", mask="given").study.cohort).subjects[3].id
    for path in root.glob(f"NIfTI-files/*/{name}*segm.nii.gz"):
        path.unlink()
    context = make_joined_job(root=root, mask="predicted_where_missing")
    kinds = {s.id: s.mask_kind for s in select(context).cohort.subjects}
    assert [s for s, kind in kinds.items() if kind == "predicted"] == [name]
    (path,) = context.folder.masks.rglob("*.nii.gz")
    assert path.name.startswith(f"{name}-")


def test_an_empty_predicted_mask_is_a_problem_that_a_rule_covers(
    copied_slices: Path, make_joined_job: MakeJob
) -> None:
    """The network of one fold finds nothing: subjects only it may segment have no tumour."""
    known = exposed_persons(copied_slices)
    eligible = {
        person: [n for n, persons in known.items() if person not in persons]
        for person in set().union(*known.values())
    }
    blind = next(names[0] for names in eligible.values() if len(names) == 1)
    change_bias(copied_slices, blind, -1000)
    alone = sorted(f"{person}_11" for person, names in eligible.items() if names == [blind])
    context = make_joined_job(slices=copied_slices)
    with pytest.raises(MgmtError, match="empty_predicted_mask") as error:
        select(context)
    assert all(f"{name}: " in str(error.value) for name in alone)
    listed = context.folder.problems.read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in listed] == [[n, "empty_predicted_mask"] for n in alone]
    rules = {"empty_predicted_mask": "exclude_subject"}
    cohort = select(make_joined_job(slices=copied_slices, rules=rules)).cohort
    assert not {*alone} & {s.id for s in cohort.subjects}
    assert {e.subject for e in cohort.exclusions} == {*alone}


def test_a_predicted_tumour_outside_the_window_is_a_problem(
    copied_slices: Path, make_joined_job: MakeJob
) -> None:
    for trial in exposed_persons(copied_slices):
        change_bias(copied_slices, trial, 1000)
    context = make_joined_job(slices=copied_slices)
    narrow = context.study.recipe.model_copy(update={"window": ((0, 24), (12, 36), (12, 36))})
    study = context.study.model_copy(update={"recipe": narrow})
    with pytest.raises(MgmtError, match=r"tumour voxels outside the window .*\(clipped\)"):
        select(StudyContext(study, context.folder, context.resources))


def test_changed_weights_are_refused(copied_slices: Path, make_joined_job: MakeJob) -> None:
    first, other, *_ = sorted(copied_slices.glob("*/chen-segmentation*/weights.safetensors"))
    first.write_bytes(other.read_bytes())
    with pytest.raises(MgmtError, match=r"its checksum is not the one in trial\.json"):
        select(make_joined_job(slices=copied_slices))


def test_a_scan_that_cannot_be_segmented_does_not_stop_the_others(
    outlined: Outlined, tmp_path: Path, make_joined_job: MakeJob
) -> None:
    """One scan has voxels half as large as in training, one has brain beyond the slices."""
    context = make_joined_job()
    source = segmentations_of(context)
    subjects = read_data_set(context.study.cohort).subjects
    sound, fine, wide = (s.scans["FLAIR"] for s in subjects[:3])
    image = SimpleITK.ReadImage(str(fine))
    image.SetSpacing((0.5, 1.0, 1.0))
    fine = tmp_path / "fine.nii.gz"
    SimpleITK.WriteImage(image, str(fine))
    beyond = SimpleITK.Tile([SimpleITK.ReadImage(str(wide))] * 2, [2, 1, 1])
    beyond.SetSpacing((1.0, 1.0, 1.0))
    wide = tmp_path / "wide.nii.gz"
    SimpleITK.WriteImage(beyond, str(wide))
    network = tuple(source.trials)[:1]
    paths = {"fine": fine, "wide": wide, "sound": sound}
    requests = [MaskRequest(name, (path,), network) for name, path in paths.items()]
    masks = segment_scans(
        requests, source, tmp_path / "masks", context.resources, lambda done, total: None
    )
    assert isinstance(masks["sound"], Mask)
    assert "0.5 mm in plane, and the segmentations were trained on 1 mm" in str(masks["fine"])
    assert "Resample it to 1 mm." in str(masks["fine"])
    assert "that are not 0 outside its slices of 32×32 voxels" in str(masks["wide"])
    assert [*(tmp_path / "masks").rglob("*.nii.gz")] == [masks["sound"].path]


def test_a_study_that_cannot_segment_is_refused_in_one_line(
    copied_slices: Path, tmp_path: Path, make_joined_job: MakeJob
) -> None:
    def message_of(**changed: object) -> str:
        context = make_joined_job(slices=copied_slices)
        source = context.study.mask_source.model_copy(update=changed)
        study = context.study.model_copy(update={"mask_source": source})
        with pytest.raises(MgmtError) as error:
            select(StudyContext(study, StudyFolder(tmp_path / "refused"), context.resources))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "is not a study folder" in message_of(study=tmp_path / "nothing")
    assert "is not a network of kind slices" in message_of(network="resnet")
    assert "segments FLAIR, not T1" in message_of(modality="T1")
    trial = sorted(copied_slices.glob("*/chen-segmentation*"))[0]
    shutil.rmtree(trial)
    message = message_of()
    for part in ("1 of 6 segmentations", trial.name, "mgmt-ray run"):
        assert part in message


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_ray_predicts_the_same_masks(make_joined_job: MakeJob) -> None:
    local = make_joined_job(out="local")
    on_ray = replace(make_joined_job(out="ray"), resources=Resources(backend="ray"))
    for context in (local, on_ray):
        select(context)
    names = sorted(path.name for path in local.folder.masks.glob("masks/*.nii.gz"))
    assert len(names) == 14
    for name in names:
        masks = [
            (context.folder.masks / "masks" / name).read_bytes() for context in (local, on_ray)
        ]
        assert masks[0] == masks[1]


def test_an_external_cohort_gets_masks_of_its_own(make_joined_job: MakeJob, tmp_path: Path) -> None:
    labelled_only = {"indeterminate": 0, "not_available": 0, "without_scans": 0}
    others = SyntheticConfig(
        subjects=4, grid=(24, 48, 48), modalities=("FLAIR",), seed=5, **labelled_only
    )
    synthesize(others, tmp_path / "others")
    config = UpennConfig(reader="upenn", root=tmp_path / "others", modalities=("FLAIR",))
    new = write_table_copy(read_upenn(config).subjects, tmp_path / "table", seed=0)
    external = TableConfig(
        reader="table", root=tmp_path / "table", modalities=("FLAIR",), mask="predicted"
    )
    context = make_joined_job(mask="given")
    study = context.study.model_copy(update={"external": {"there": external}})
    selected = select(replace(context, study=study))
    assert {s.mask_kind for s in selected.cohort.subjects} == {"given"}
    subjects = selected.external["there"].subjects
    assert [s.id for s in subjects] == sorted(new.values())
    for subject in subjects:
        assert subject.mask in [*context.folder.external("there").masks.glob("masks/*")]
        assert subject.given_mask is not None
        assert read_scan(subject.mask).voxels.any()
