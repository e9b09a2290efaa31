from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from mgmt_ray.base import Config, MgmtError
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.splits.split import Split
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.search_config import SearchConfig
from mgmt_ray.study.study_config import StudyConfig, load_study, write_study
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
    assert content.pop("baselines")[0] == "radiomics_forest"
    content["baselines"] = ()
    # a machine without a GPU gives the defaults
    assert {content["training"].pop(name) for name in ("precision", "compile")} == {"auto"}
    content["training"] |= {"precision": "fp32", "compile": False}
    assert content == plain.model_dump(exclude={"cohort", "networks", "name"})
    assert all(n.depth == 50 and n.width == 64 for n in study.networks.values())


def test_the_resolved_study_reads_back(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, MINIMAL))
    write_study(study, tmp_path / "resolved.yaml")
    assert load_study(tmp_path / "resolved.yaml") == study
    assert study.cohort.root == tmp_path / "data"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MINIMAL + "training: {epoch: 3}\n",
            r"training\.epoch: unknown key; did you mean epochs\?",
        ),
        (MINIMAL + "Split: {folds: 3}\n", r"Split: unknown key; did you mean split\?"),
        (MINIMAL + "spilt: {folds: 3}\nbaseline: [age_sex]\n", r"mean split\?; .* baselines\?"),
        (MINIMAL.replace("{kind:", "{deph: 10, kind:"), r"random\.deph: .*mean depth\?"),
        (
            MINIMAL + "external: {x: {reader: table, modalites: [PH], root: x}}\n",
            r"external\.x\.modalites: unknown key; did you mean modalities\?",
        ),
        (
            MINIMAL.replace("random}}", "slices, segmentation: {epoch: 3}}}"),
            r"networks\.random\.segmentation\.epoch: unknown key; did you mean epochs\?",
        ),
        (MINIMAL + "split: {folds: 3}\nsplit: {folds: 5}\n", "split: is there twice, in lines 5"),
        (MINIMAL.replace("cohort:", "chort:"), r"chort: unknown key; did you mean cohort\?"),
        (MINIMAL + "training: {epochs: 0}\n", r"training.epochs: .*found 0"),
        (MINIMAL.replace("kind: random", "kind: best"), r"networks.random.kind: .*'spottune'"),
        (MINIMAL + "comparisons: [age_sex]\n", "`comparisons` is an earlier version's key"),
        (MINIMAL + "baselines: [forest]\n", "baselines.0: .*'radiomics_forest'"),
        (MINIMAL + "baselines: [age_sex, age_sex]\n", "baselines: a model is listed twice"),
        (
            MINIMAL.replace("kind: random", "kind: slices") + "baselines: [first_order]\n",
            "baselines: first_order measures the volumes .* Remove it",
        ),
        (
            MINIMAL + "baselines: [radiomics_forest]\n",
            "radiomics_forest needs T1, FLAIR, T1GD, T2, not in cohort.modalities. Add it there",
        ),
        (
            MINIMAL.replace("[PH]", "[T1, T2, T1GD, FLAIR], mask_labels: [1]")
            + "baselines: [radiomics_forest]\n",
            r"needs to know which label .*Write cohort.mask_labels: brats2021 \(1, 2, 4\)",
        ),
        (
            MINIMAL.replace("{random: {kind", "{prevalence: {kind") + "baselines: [prevalence]\n",
            "networks: prevalence is a baseline model; rename it",
        ),
        (MINIMAL + "forest: {trees: 0}\n", "forest.trees: .*found 0"),
        (MINIMAL + "inputs: [[FA]]\n", "inputs: FA not in cohort.modalities"),
        (MINIMAL + "inputs: [[PH], [PH]]\n", "listed twice"),
        (
            MINIMAL + "sweep: {learning_rate: [0.1]}\n",
            r"`sweep` is an earlier .* space: \{learning_rate: \{values: \[0.1\]\}\}\}` and run",
        ),
        *(
            (MINIMAL + f"search: {{{search}}}\n", message)
            for search, message in [
                ("configurations: 3, space: {}", "search.space: .*at least 1 item"),
                ("space: {epochs: {values: [3]}}", "method random: say how many"),
                (
                    "method: grid, space: {epochs: {log: [3, 9]}}",
                    r"list {values: \[...\]} of epochs",
                ),
                ("method: grid, space: {epoch: {values: [3]}}", r"epoch: .*mean epochs\?"),
                ("method: grid, space: {epochs: {values: [0]}}", "space.epochs: .*or equal to 1"),
                ("method: grid, space: {epochs: {values: [3, 3]}}", "a value is listed twice"),
                ("method: grid, space: {epochs: {}}", r"give one of {values: \[...\]}"),
                ("configurations: 2, space: {epochs: {range: [3.5, 9]}}", "epochs: .*integer"),
                ("configurations: 2, space: {learning_rate: {log: [0, 1]}}", "must be above 0"),
                ("configurations: 2, space: {schedule: {range: [0, 1]}}", "schedule: is no number"),
                ("method: grid, space: {criterion: {values: [m]}}", "are compared by"),
                (
                    "method: grid, space: {temperature: {values: [1]}}",
                    "temperature: has no effect on any network",
                ),
                (
                    "method: grid, space: {networks.rando.dropout: {values: [0]}}",
                    r"dropout: is not networks.NAME.KEY .*mean random\?",
                ),
                (
                    "method: grid, space: {networks.random.drop: {values: [0]}}",
                    r"drop: is not a key of networks.random; did you mean dropout\?",
                ),
                (
                    "method: grid, space: {schedule: {values: [cosine]}}, stop_early: true",
                    "stop_early: with schedule cosine",
                ),
                (
                    "method: grid, space: {epochs: {values: [3]}}, start: [{epoch: 3}]",
                    "start: each configuration has a value of epochs, no others",
                ),
            ]
        ),
        (MINIMAL.replace("{random: {kind: random}}", "{}"), "networks: .*at least 1 item"),
        (MINIMAL.replace("{random: {kind", "{a/b: {kind"), "networks.a/b"),
        (MINIMAL.replace("root: data, ", ""), "--data DIR"),
        (MINIMAL.replace("reader: upenn, ", ""), "cohort.reader: is missing"),
        (MINIMAL.replace("reader: upenn", "reader: mine"), "cohort.reader: is not one of 'upenn'"),
        (MINIMAL.replace("root: data", "root: data, rot: 1"), "cohort.rot: unknown key"),
        ("name: [", "is not YAML"),
        ("just text", "no `cohort:` section"),
        (MINIMAL.replace("name: small", "name: ../up"), "name: "),
    ],
)
def test_a_fault_is_named_by_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(MgmtError, match=message) as caught:
        load_study(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_folder_given_apart_is_that_of_the_cohort_alone(tmp_path: Path) -> None:
    text = MINIMAL.replace("{reader", "&c {reader") + "external: {x: *c}\n"
    study = load_study(write(tmp_path, text), data=tmp_path / "other")
    assert study.cohort.root == tmp_path / "other"
    assert study.external["x"].root == tmp_path / "data"


def test_a_missing_file_says_where_studies_are(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match="jobs/studies"):
        load_study(tmp_path / "absent.yaml")


@pytest.mark.parametrize("config", [NetworkConfig, TrainingConfig, EvaluationConfig, SearchConfig])
def test_the_page_of_options_has_every_key(config: type[Config]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "options.md").read_text()
    assert [name for name in config.model_fields if not re.search(rf"\b{name}\b", page)] == []


@pytest.mark.parametrize(
    ("cohort", "more", "message"),
    [
        ("mask: predicted", "", "cohort.mask: predicted, but mask_source is missing"),
        (
            "mask: given",
            "external: {x: {reader: ucsf, root: x, mask: predicted_where_missing}}",
            r"external\.x\.mask: predicted_where_missing, but mask_source",
        ),
        (
            "mask: predicted",
            "mask_source: {study: s}\nbaselines: [radiomics_forest]",
            "with cohort.mask: predicted they mark only tumour",
        ),
        ("mask: guessed", "", r"cohort\.mask: .*found 'guessed'"),
    ],
)
def test_predicted_masks_need_networks_and_have_no_regions(
    cohort: str, more: str, message: str, tmp_path: Path
) -> None:
    text = f"""
name: joined
cohort: {{reader: upenn, root: data, modalities: [T1, T2, FLAIR, T1GD], {cohort}}}
networks: {{random: {{kind: random}}}}
{more}
"""
    with pytest.raises(MgmtError, match=message) as error:
        load_study(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_networks_of_slices_learn_from_given_masks(tmp_path: Path) -> None:
    text = MINIMAL.replace("kind: random", "kind: slices")
    with pytest.raises(MgmtError, match="mask_source: is for networks of volumes"):
        load_study(write(tmp_path, text + "mask_source: {study: s}\n"))
    text = text.replace("root: data", "root: data, mask: predicted")
    with pytest.raises(MgmtError, match="networks of kind slices train on given masks"):
        load_study(write(tmp_path, text))


def test_the_folder_of_the_segmentations_is_relative_to_the_study(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, MINIMAL + "mask_source: {study: ../slices}\n"))
    assert study.mask_source is not None
    assert study.mask_source.study == tmp_path / "../slices"


SPLIT = Split(test=("a",), folds=(("b",), ("c",)), left_out=(), seed=0, cohort="x")
STUDIES = Path(__file__).parents[2] / "jobs" / "studies"


def make_study(chen: dict[str, object] | None = None, **changes: object) -> StudyConfig:
    content = {
        "name": "small",
        "cohort": {"reader": "tcga", "root": "data", "modalities": ["FLAIR", "T1GD"]},
        "networks": {"chen": {"kind": "slices", **(chen or {})}},
    }
    return StudyConfig.model_validate(content | changes)


def test_the_paper_has_a_segmentation_and_a_classifier_for_each_modality_and_fold() -> None:
    study = load_study(STUDIES / "chen2020.yaml", data=Path("data"))
    folds = tuple((name,) for name in "bcdefghijk")
    plan = make_plan(study, (replace(SPLIT, folds=folds),))
    classifiers = [trial for trial in plan if trial.is_classifier]
    assert len(classifiers) == 2 * 10
    assert len(plan) == len({trial.id for trial in plan}) == 20 * (1 + 3 + 1)
    for trial in classifiers:
        config = trial.training_config
        assert (config.learning_rate, config.batch_size, config.epochs) == (2e-4, 32, 50)
        first = trial.needs[0].training_config
        assert (first.learning_rate, first.batch_size, first.epochs) == (1e-4, 8, 50)
        assert (first.patience, first.rate_factor, config.stable_epochs) == (5, 0.5, 10)
        assert trial.needs[0].network_config.width == 32


def test_a_classifier_needs_the_segmentations_of_its_fold_and_modality() -> None:
    plan = make_plan(make_study(), (SPLIT,))
    for trial in plan:
        if trial.is_classifier:
            assert trial.dependency_level == 1
            assert [need.inner_fold for need in trial.needs] == [None, 0, 1, 2]
            place = (trial.modality, trial.fold, trial.outer_fold, trial.repeat)
            assert {(n.modality, n.fold, n.outer_fold, n.repeat) for n in trial.needs} == {place}
            assert {need.inner_folds for need in trial.needs} == {trial.inner_folds}
            assert {need.id for need in trial.needs} <= {other.id for other in plan}
        else:
            assert (trial.dependency_level, trial.needs) == (0, ())
    assert len({trial.seed for trial in plan}) == len(plan)


def test_without_cross_fitting_there_is_one_segmentation() -> None:
    plan = make_plan(make_study({"cross_fitted": False}), (SPLIT,))
    assert len(plan) == 2 * 2 * 2
    assert all(trial.inner_folds is None for trial in plan)
    # the fold's own network is the same one
    segmentations = {t.id for t in plan if not t.is_classifier}
    assert segmentations <= {t.id for t in make_plan(make_study(), (SPLIT,))}


@pytest.mark.parametrize(
    "chen",
    [{"width": 8}, {"segmentation": {"epochs": 3}}, {"cross_fitted": False}, {"parts": 4}],
)
def test_a_classifiers_id_holds_those_of_its_segmentations(chen: dict[str, object]) -> None:
    *_, base = make_plan(make_study(), (SPLIT,))
    *_, changed = make_plan(make_study(chen), (SPLIT,))
    assert base.name == changed.name
    assert base.id != changed.id


def test_a_classifiers_own_settings_leave_its_segmentations_as_they_are() -> None:
    base = make_plan(make_study(), (SPLIT,))
    changed = make_plan(make_study({"classification": {"epochs": 3}}), (SPLIT,))
    for mine, theirs in zip(base, changed, strict=True):
        assert (mine.id == theirs.id) == (not mine.is_classifier)


def test_slices_and_volumes_stand_side_by_side_and_change_each_other_not() -> None:
    random = {"random": {"kind": "random"}}
    both = make_study(networks={**random, "chen": {"kind": "slices"}})
    assert both.pipelines == ("volumes", "slices")
    alone = make_plan(make_study(), (SPLIT,)) + make_plan(make_study(networks=random), (SPLIT,))
    assert {t.id for t in make_plan(both, (SPLIT,))} == {t.id for t in alone}
    recipe = make_plan(make_study(slices={"shrink": 1}), (SPLIT,))
    assert not {t.id for t in recipe} & {t.id for t in alone}


def test_slices_of_several_modalities_are_a_model_of_their_own() -> None:
    inputs = [["FLAIR"], ["FLAIR", "T1GD"]]
    plan = make_plan(make_study(inputs=inputs), (SPLIT,))
    assert {t.modality for t in plan} == {"FLAIR", "FLAIR+T1GD"}
    assert all({need.channels for need in t.needs} <= {t.channels} for t in plan)
    alone = {t.id for t in make_plan(make_study(), (SPLIT,)) if t.modality == "FLAIR"}
    assert alone == {t.id for t in plan if t.modality == "FLAIR"} != set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slices": {"shape": [100, 128]}}, "multiples of 16"),
        ({"slices": {"shape": [128, 144]}}, r"crops 128 × 128 around .* Raise slices\.shrink"),
        ({"networks": {"chen": {"kind": "slices", "depth": 10}}}, "depth"),
        ({"networks": {"chen": {"kind": "slice"}}}, "kind"),
    ],
)
def test_what_slices_do_not_support_is_rejected(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make_study(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": {"epochs": 3}}, r"training: .* has none .*networks\.NAME\.segmentation"),
        ({"recipe": {"rounds": 0}}, r"recipe: .* has none \(.* use the section slices\)"),
        ({"evaluation": {"draws": 8}}, "evaluation: .* has none .* Remove it"),
        (
            {"networks": {"random": {"kind": "random"}}, "slices": {"shrink": 1}},
            "slices: is for networks of kind slices, and this study has none. Remove it",
        ),
        (
            {"networks": {"chen": {"kind": "slices", "cross_fitted": False, "parts": 2}}},
            "parts: has no effect with cross_fitted: false",
        ),
    ],
)
def test_settings_without_effect_in_a_study_are_errors(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        make_study(**changes)


@pytest.mark.parametrize("kind", ["slices", "random"])
def test_what_is_written_beside_the_results_loads_again(kind: str, tmp_path: Path) -> None:
    chen = {"kind": kind, **({"cross_fitted": False} if kind == "slices" else {})}
    study = make_study(networks={"chen": chen})
    write_study(study, tmp_path / "study.yaml")
    again = load_study(tmp_path / "study.yaml", study.cohort.root)
    assert again.networks == study.networks
    assert again.training == study.training and again.slices == study.slices


def test_either_kind_of_network_takes_its_sections() -> None:
    both = {"chen": {"kind": "slices"}, "random": {"kind": "random"}}
    study = make_study(networks=both, slices={"shrink": 1}, training={"epochs": 3})
    assert (study.slices.shrink, study.training.epochs) == (1, 3)
