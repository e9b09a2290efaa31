from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mgmt_ray.base import parse
from mgmt_ray.cli import main
from mgmt_ray.cluster.progress import log
from mgmt_ray.cohort.plain_table import TableConfig, read_table_cohort

VERBS = [
    "doctor",
    "synthesize",
    "cohort",
    "prepare",
    "plan",
    "run",
    "ensemble",
    "explain",
    "predict",
    "report",
    "audit",
    "demo",
]

STUDY = Path(__file__).parents[1] / "jobs" / "studies" / "schmitz2024.yaml"


def leave(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    code = left.value.code
    return code if isinstance(code, int) else 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave([verb, "--help"]) == 0
    assert verb in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["cohort", str(STUDY), "--data", "nowhere"], ["run", "nowhere.yaml"]],
)
def test_help_and_missing_folders_come_without_loading_anything_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys\nfrom mgmt_ray.cli import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'pandas', 'SimpleITK'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--help" in arguments or "nowhere" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "absent.yaml"], "absent.yaml: no such study file"),
        (["synthesize", "x", "--signal", "FLAIR"], "--signal FLAIR: is not MODALITY:AMPLITUDE"),
        (["synthesize", "x", "--signal", "FOO:1"], "synthesize: signal in FOO"),
        (["synthesize", "x", "--without-dti", "0.5", "--without-dsc", "0.1"], "without_dsc"),
        (["synthesize", "x", "--grid", "4", "4", "4"], "at least 16 voxels per axis"),
    ],
)
def test_a_wrong_input_gives_one_line_and_exit_code_2(
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert leave(arguments) == 2
    printed = capsys.readouterr().err
    assert told in printed
    assert printed.startswith("mgmt-ray: ") and printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_address_without_an_answer_is_reported_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: x\ncohort: {reader: upenn, modalities: [PH]}\nnetworks: {random: {kind: random}}\n"
    )
    where = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert leave(["run", str(study), *where, "--address", "127.0.0.1:9"]) == 2
    assert "--address 127.0.0.1:9: no answer" in capsys.readouterr().err


def test_an_out_folder_that_is_a_file_is_told_and_one_without_data_is_not_left_empty(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: x\ncohort: {reader: upenn, modalities: [PH]}\nnetworks: {random: {kind: random}}\n"
    )
    where = ["--data", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    assert leave(["plan", str(study), *where, "--backend", "in-process"]) == 2
    assert "absent" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]
    assert leave(["plan", str(study), "--data", str(tmp_path), "--out", str(study)]) == 2
    assert "cannot be created or written" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize("verb", ["cohort", "plan", "run"])
def test_gpus_that_are_not_there_are_told_before_anything_is_read(
    verb: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: x\ncohort: {reader: upenn, modalities: [PH]}\nnetworks: {random: {kind: random}}\n"
    )
    where = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert leave([verb, str(study), *where, "--backend", "in-process", "--gpus", "1"]) == 2
    assert "--gpus 1: torch finds 0 GPUs here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["fly"],
        ["plan", "x.yaml", "--colour", "red"],
        ["synthesize", "x", "--layout", "ucsf"],
    ],
)
def test_a_wrong_command_leaves_with_exit_code_2(arguments: list[str]) -> None:
    assert leave(arguments) == 2


def test_a_synthetic_cohort_is_written_as_a_table_that_its_reader_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (
        f"synthesize {tmp_path} --layout table --subjects 4 --grid 16 16 16 --modalities FLAIR "
        "--checkpoint-width 4 --checkpoint-steps 0"
    ).split()
    main(command)
    content = {"reader": "table", "root": tmp_path, "modalities": ["FLAIR"]}
    reading = read_table_cohort(parse(TableConfig, content, "test"))
    assert len(reading.subjects) == 4 and reading.problems == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cohort.csv",
        "images",
        "planted.json",
        "resnet_10_width_4_synthetic.pth",
        "synthesis.json",
    ]
    capsys.readouterr()
    main(command)
    assert "is up to date" in capsys.readouterr().out
    assert leave([*command, "--layout", "upenn"]) == 2
    assert "cohort with other settings" in capsys.readouterr().err


def test_a_cohort_is_selected_and_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, study, out = tmp_path / "data", tmp_path / "study.yaml", tmp_path / "out"
    main(
        f"synthesize {data} --subjects 24 --grid 24 28 28 --modalities PH --modalities FLAIR "
        "--checkpoint-width 4 --checkpoint-steps 2".split()
    )
    study.write_text(
        "name: small\ncohort: {reader: upenn, modalities: [PH, FLAIR]}\n"
        "recipe: {window: [[2, 22], [2, 26], [2, 26]], shape: [10, 12, 12]}\nsplit: {folds: 2}\n"
        "networks: {random: {kind: random}, transfer: {kind: transfer}}\n"
    )
    where = [str(study), "--data", str(data), "--out", str(out)]
    capsys.readouterr()
    for verb in ("plan", "run"):  # before anything is read
        assert leave([verb, *where, "--backend", "in-process"]) == 2
        assert "transfer start from pretrained weights, and none" in capsys.readouterr().err
    assert not (out / "cohort.csv").exists()
    main(["cohort", *where])
    printed = capsys.readouterr().out
    assert "in the cohort" in printed and "excluded: follow-up scan" in printed
    assert (out / "cohort.csv").exists() and (out / "exclusions.csv").exists()
    where += ["--checkpoint", str(data / "resnet_10_width_4_synthetic.pth")]
    assert leave(["plan", *where]) == 2
    assert "does not fit the network" in capsys.readouterr().err
    study.write_text(study.read_text().replace("{kind:", "{depth: 10, width: 4, kind:"))
    main(["plan", *where])
    assert "8 trials, 0 finished" in capsys.readouterr().out
    assert (out / "splits.json").exists()
    assert leave(["ensemble", *where, "--backend", "in-process"]) == 2
    assert "8 of 8 trials are not finished" in capsys.readouterr().err
    assert leave(["report", *where]) == 2
    assert "mgmt-ray" in capsys.readouterr().err


def test_text_that_the_output_cannot_encode_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("ascii", "latin-1"):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        assert leave(["plan", "no_such_study.yaml"]) == 2
        log("Dice … 3 mm³ α")
        assert written.getvalue().decode(encoding).startswith("Dice ? 3 mm")
