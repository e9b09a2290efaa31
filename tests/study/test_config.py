import re
from pathlib import Path

import pytest

from mgmt_ray.base import Config, MgmtError
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.study.config import StudyConfig, SweepConfig, load_study, write_study
from mgmt_ray.training.training_config import EvaluationConfig, TrainingConfig

SHIPPED = sorted((Path(__file__).parents[2] / "jobs" / "studies").glob("*.yaml"))
MINIMAL = """
name: small
cohort: {reader: upenn, root: data, modalities: [PH]}
networks: {random: {kind: random}}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_study_loads(path: Path, tmp_path: Path) -> None:
    assert load_study(path, data=tmp_path).name == path.stem


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    shipped = next(p for p in SHIPPED if p.stem == "schmitz2024")
    study = load_study(shipped, data=tmp_path)
    content = study.model_dump(exclude={"cohort", "networks", "name"})
    plain = StudyConfig(name="x", cohort=study.cohort, networks=study.networks)
    # what only the public cohort can give
    assert content["split"].pop("left_out_with") == {"DTI": 10}
    content["split"]["left_out_with"] = {}
    # the paper's is the forest; the others are ours
    assert content.pop("comparisons")[0] == "radiomics_forest"
    content["comparisons"] = ()
    assert content == plain.model_dump(exclude={"cohort", "networks", "name"})
    assert all(n.depth == 50 and n.width == 64 for n in study.networks.values())


def test_the_resolved_study_reads_back(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, MINIMAL))
    write_study(study, tmp_path / "resolved.yaml")
    assert load_study(tmp_path / "resolved.yaml") == study
    assert study.cohort.root == tmp_path / "data"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (MINIMAL + "training: {epoch: 3}\n", "training.epoch: unknown key"),
        (MINIMAL + "training: {epochs: 0}\n", r"training.epochs: .*found 0"),
        (MINIMAL.replace("kind: random", "kind: best"), r"networks.random.kind: .*'spottune'"),
        (MINIMAL + "comparisons: [forest]\n", "comparisons.0: .*'radiomics_forest'"),
        (MINIMAL + "comparisons: [age_sex, age_sex]\n", "comparisons: one is listed twice"),
        (
            MINIMAL + "comparisons: [radiomics_forest]\n",
            "radiomics_forest takes T1, FLAIR, T1GD, T2, not in cohort.modalities. Add it there",
        ),
        (
            MINIMAL.replace("[PH]", "[T1, T2, T1GD, FLAIR], mask_labels: [1]")
            + "comparisons: [radiomics_forest]\n",
            r"masks that tell necrosis \(1\), edema \(2\)",
        ),
        (
            MINIMAL.replace("{random: {kind", "{prevalence: {kind") + "comparisons: [prevalence]\n",
            "networks: prevalence is a comparison model; rename it",
        ),
        (MINIMAL + "forest: {trees: 0}\n", "forest.trees: .*found 0"),
        (MINIMAL + "inputs: [[FA]]\n", "inputs: FA not in cohort.modalities"),
        (MINIMAL + "inputs: [[PH], [PH]]\n", "listed twice"),
        (MINIMAL + "sweep: {learning_rate: [0.1, -1]}\n", "sweep.learning_rate: .*greater than 0"),
        (MINIMAL.replace("{random: {kind: random}}", "{}"), "networks: .*at least 1 item"),
        (MINIMAL.replace("{random: {kind", "{a/b: {kind"), "networks.a/b"),
        (MINIMAL.replace("root: data, ", ""), "--data DIR"),
        (MINIMAL.replace("reader: upenn, ", ""), "cohort.reader: is missing"),
        (MINIMAL.replace("reader: upenn", "reader: mine"), "cohort.reader: is none of 'upenn'"),
        (MINIMAL.replace("root: data", "root: data, rot: 1"), "cohort.rot: unknown key"),
        ("name: [", "is not YAML"),
        ("just text", "no `cohort:` section"),
        (MINIMAL.replace("name: small", "name: ../up"), "name: "),
    ],
)
def test_a_fault_is_named_by_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(MgmtError, match=told) as caught:
        load_study(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_studies_are(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match="jobs/studies"):
        load_study(tmp_path / "absent.yaml")


@pytest.mark.parametrize("config", [NetworkConfig, TrainingConfig, EvaluationConfig, SweepConfig])
def test_the_page_of_options_has_every_key(config: type[Config]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "options.md").read_text()
    assert [name for name in config.model_fields if not re.search(rf"\b{name}\b", page)] == []


@pytest.mark.parametrize(
    ("cohort", "more", "told"),
    [
        ("mask: predicted", "", "cohort.mask: predicted, and nothing says by which networks"),
        (
            "mask: given",
            "external: {x: {reader: ucsf, root: x, mask: predicted_where_missing}}",
            r"external\.x\.mask: predicted_where_missing, and nothing says",
        ),
        (
            "mask: predicted",
            "mask_source: {study: s}\ncomparisons: [radiomics_forest]",
            "with cohort.mask: predicted they tell tumour alone",
        ),
        ("mask: guessed", "", r"cohort\.mask: .*found 'guessed'"),
    ],
)
def test_predicted_masks_need_networks_and_tell_no_regions(
    cohort: str, more: str, told: str, tmp_path: Path
) -> None:
    text = f"""
name: joined
cohort: {{reader: upenn, root: data, modalities: [T1, T2, FLAIR, T1GD], {cohort}}}
networks: {{random: {{kind: random}}}}
{more}
"""
    with pytest.raises(MgmtError, match=told) as error:
        load_study(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_networks_of_slices_learn_from_given_masks(tmp_path: Path) -> None:
    text = MINIMAL.replace("kind: random", "kind: slices")
    with pytest.raises(MgmtError, match="mask_source: is for networks of volumes"):
        load_study(write(tmp_path, text + "mask_source: {study: s}\n"))
    text = text.replace("root: data", "root: data, mask: predicted")
    with pytest.raises(MgmtError, match="networks of kind slices learn from given masks"):
        load_study(write(tmp_path, text))


def test_the_folder_of_the_segmentations_is_relative_to_the_study(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, MINIMAL + "mask_source: {study: ../slices}\n"))
    assert study.mask_source is not None
    assert study.mask_source.study == tmp_path / "../slices"
