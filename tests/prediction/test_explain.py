from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mgmt_ray.base import MgmtError
from mgmt_ray.cli import main
from mgmt_ray.prediction.evaluation import select_members
from mgmt_ray.prediction.explain import (
    confident_subjects,
    explain_modality,
    explain_subjects,
)
from mgmt_ray.prediction.predict_volumes import load_member
from mgmt_ray.prediction.saliency import saliency_map
from mgmt_ray.prediction.test_set import run_ensemble
from mgmt_ray.trials.volumes_pipeline import load_volumes
from tests.prediction.conftest import Trained

SMALL = {"depth": 10, "width": 4, "agent_width": 2}
NETWORKS = {
    "spottune": {"kind": "spottune", **SMALL},
    "random": {"kind": "random", **SMALL},
}


def no_progress(done: int, total: int) -> None:
    pass


@pytest.fixture
def make_evaluated(make_trained: Callable[..., Trained]) -> Callable[..., Trained]:
    """A study that was evaluated on its test set."""

    def make(**sections: object) -> Trained:
        training = {"epochs": 1, "learning_rate": 0.005, "validation_draws": 2}
        trained = make_trained(**({"networks": NETWORKS, "training": training} | sections))
        _, inputs, trials = trained
        run_ensemble(trials, inputs, no_progress)
        return trained

    return make


def explain(
    trained: Trained, subjects: Sequence[str] = (), modalities: Sequence[str] = ()
) -> list[Path]:
    _, inputs, trials = trained
    return explain_subjects(subjects, modalities, "grad-cam", trials, inputs, no_progress)


def access_log(trained: Trained) -> list[dict[str, object]]:
    text = trained[0].folder.test_openings.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_policies_are_the_agents_probabilities_for_each_test_subject(
    make_evaluated: Callable[..., Trained],
) -> None:
    context, inputs, trials = make_evaluated(inputs=[["PH"]])
    policies = pd.read_csv(context.folder.ensembles / "policies.csv")
    blocks = [f"block_{n}" for n in range(1, 5)]
    keys = ["trial", "network", "modality", "outer_fold", "fold", "repeat", "subject", "label"]
    assert list(policies.columns) == [*keys, *blocks]
    agents = [trial for trial in trials if trial.network == "spottune"]
    assert list(dict.fromkeys(policies["trial"])) == [trial.id for trial in agents]
    test = inputs.splits[0].test
    label = {s.id: s.label for s in inputs.cohort.subjects}
    for trial in agents:
        of_trial = policies[policies["trial"] == trial.id]
        assert tuple(of_trial["subject"]) == test
        assert of_trial["label"].tolist() == [label[s] for s in test]
        data = load_volumes(inputs.folder.volumes, trial.channels, label, test, "cpu")
        with torch.no_grad():
            tuned = load_member(trial, inputs).eval().tuned_probability(data.volumes.float())
        # the batches differ, and a convolution of another batch size may round differently
        np.testing.assert_allclose(of_trial[blocks], tuned, atol=1e-5)


def test_a_study_without_agents_has_no_policies_and_keeps_no_old_ones(
    make_evaluated: Callable[..., Trained],
) -> None:
    context, inputs, trials = make_evaluated(
        networks={"random": NETWORKS["random"]}, inputs=[["PH"]]
    )
    path = context.folder.ensembles / "policies.csv"
    assert not path.exists()
    path.write_text("of,another,study\n", encoding="utf-8")
    arguments = (trials, inputs, no_progress)
    assert run_ensemble(*arguments)  # a table that does not belong is noticed
    assert not path.exists()
    assert not run_ensemble(*arguments)


def test_chosen_subjects_are_drawn_and_the_access_is_logged_with_its_purpose(
    make_evaluated: Callable[..., Trained],
) -> None:
    trained = make_evaluated(networks={"random": NETWORKS["random"]})
    context, inputs, trials = trained
    figures = context.folder.root / "figures"
    first, second, *_ = inputs.splits[0].test
    before = {p.name: p.read_bytes() for p in context.folder.ensembles.glob("*.csv")}
    drawn = explain(trained, [first, second])
    assert [path.name for path in drawn] == [
        f"explain_{subject}_{modality}.png"
        for modality in ("PH", "FLAIR")
        for subject in (first, second)
    ]
    assert all(path.stat().st_size > 10_000 for path in drawn)
    results, access = access_log(trained)
    assert (results["purpose"], access["purpose"]) == ("ensembles", "explain")
    assert access["subjects"] == [first, second] and access["num_subjects"] == 2
    assert access["members"] == results["members"]
    after = {p.name: p.read_bytes() for p in context.folder.ensembles.glob("*.csv")}
    assert after == before
    assert not run_ensemble(trials, inputs, no_progress)  # pictures do not make results out of date
    kept = figures / f"explain_{first}_PH.png"
    whole = kept.read_bytes()
    assert explain(trained, [first], ["PH"]) == [kept]
    assert kept.read_bytes() == whole
    assert list(figures.glob("explain_*.png")) == [kept]


def test_a_subject_outside_the_test_set_is_an_error_before_any_access(
    make_evaluated: Callable[..., Trained],
) -> None:
    trained = make_evaluated(networks={"random": NETWORKS["random"]}, inputs=[["PH"]])
    inputs = trained[1]
    learner = inputs.splits[0].training[0]
    with pytest.raises(MgmtError, match=f"--subjects {learner}, nobody: no test subject .*among"):
        explain(trained, [inputs.splits[0].test[0], learner, "nobody"])
    with pytest.raises(MgmtError, match=r"--modalities T2: no modality of a model .*among PH"):
        explain(trained, [inputs.splits[0].test[0]], ["T2"])
    assert len(access_log(trained)) == 1


def test_the_command_names_a_wrong_subject_in_one_line(
    make_evaluated: Callable[..., Trained],
    data: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    context, inputs, _ = make_evaluated(networks={"random": NETWORKS["random"]}, inputs=[["PH"]])
    command = ["explain", str(tmp_path / "study.yaml"), "--out", str(context.folder.root)]
    command += ["--data", str(data.root), "--checkpoint", str(data.checkpoint)]
    command += ["--backend", "in-process"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*command, "--subjects", "nobody"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("mgmt-ray: --subjects nobody: no test subject")
    assert error.count("\n") == 1
    subject = inputs.splits[0].test[0]
    main([*command, "--subjects", subject, "--subjects", inputs.splits[0].test[1]])
    assert (context.folder.root / "figures" / f"explain_{subject}_PH.png").is_file()
    assert capsys.readouterr().out.count("explain_") == 2


def test_models_whose_results_are_not_there_are_not_explained(
    make_evaluated: Callable[..., Trained],
) -> None:
    trained = make_evaluated(networks={"random": NETWORKS["random"]}, inputs=[["PH"]])
    context, inputs, _ = trained
    path = context.folder.ensembles / "member_predictions.csv"
    table = pd.read_csv(path, dtype={"weights_sha256": str})
    table.assign(weights_sha256="0" * 64).to_csv(path, index=False)
    with pytest.raises(MgmtError, match=r"belongs to other models\. Run `mgmt-ray ensemble STUDY`"):
        explain(trained, [inputs.splits[0].test[0]])
    shutil.rmtree(context.folder.ensembles)
    with pytest.raises(MgmtError, match=r"not there yet\. Run `mgmt-ray ensemble STUDY`"):
        explain(trained, [inputs.splits[0].test[0]])


def test_a_subject_tested_in_several_splits_is_explained_by_those_members_only(
    make_evaluated: Callable[..., Trained],
) -> None:
    context, inputs, trials = make_evaluated(
        networks={"random": NETWORKS["random"]},
        inputs=[["PH"]],
        split={"folds": 2, "outer_folds": 2},
    )
    predictions = pd.read_csv(context.folder.ensembles / "predictions.csv")
    members = select_members(trials, inputs)
    ids = (inputs.splits[1].test[0], inputs.splits[0].test[0])
    explanations = explain_modality("PH", "grad-cam", ids, members, inputs, predictions)
    assert [explained.subject for explained in explanations] == list(ids)
    of_input = predictions[predictions["ensemble"] == "PH"].set_index("subject")
    for explained, outer in zip(explanations, (1, 0), strict=True):
        own = [trial for trial in trials if trial.outer_fold == outer]
        subject = explained.subject
        label = {subject: int(of_input["label"][subject])}
        data = load_volumes(inputs.folder.volumes, ("PH",), label, (subject,), "cpu")
        maps = [
            saliency_map(load_member(trial, inputs).eval(), data.volumes, "grad-cam")
            for trial in own
        ]
        saliency = explained.saliency["random"]
        np.testing.assert_array_equal(saliency.volume, np.mean(maps, axis=0))
        assert saliency.num_models == len(own) == 2
        assert saliency.probability == of_input["probability"][subject]
        assert explained.label == label[subject]
        np.testing.assert_array_equal(explained.channels["PH"], data.volumes[0, 0].float())


def test_the_most_confident_predictions_of_the_network_best_on_validation_are_explained() -> None:
    best = pd.DataFrame(
        [
            ("random", 0, "DSC", 0.9, 0.9, 0.9, 0),
            # the highest M, but it calls everyone methylated
            ("random", 0, "DTI", 0.6, 1.0, 0.0, 1),
            ("spottune", 0, "DSC", 0.55, 0.55, 0.55, 1),
            ("transfer", 0, "DSC", 0.54, 0.54, 0.54, 1),
            ("first_order", 0, "DSC", 0.8, 0.8, 0.8, 1),  # a baseline is no network
        ],
        columns=[
            *("network", "outer_fold", "ensemble"),
            *("validation_m", "validation_sen", "validation_spe", "chosen"),
        ],
    )
    probability = {"A": 0.95, "B": 0.1, "C": 0.55, "D": 0.9, "E": 0.3, "F": 0.49}
    label = {"A": 1, "B": 0, "C": 1, "D": 0, "E": 0, "F": 1}
    rows = [
        (network, ensemble, s, label[s], p if network == "spottune" else 1 - p)
        for network in ("random", "spottune")
        for ensemble in ("DSC", "best overall")
        for s, p in probability.items()
    ]
    columns = ["network", "ensemble", "subject", "label", "probability"]
    predictions = pd.DataFrame(rows, columns=columns)
    assert confident_subjects(predictions, best) == ("A", "B", "D", "F")
