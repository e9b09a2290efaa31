import json
import subprocess
import sys
from math import isfinite
from pathlib import Path

import pytest

from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize

REPOSITORY = Path(__file__).parents[2]

# In a process of its own: this one has imported Ray already.
SCRIPT = """
import json, sys
from pathlib import Path
from docs.train_one_fold import (
    NetworkConfig, RecipeConfig, TrainingConfig, UpennConfig, train_one_fold
)
epochs = train_one_fold(
    UpennConfig(reader="upenn", root=Path(sys.argv[1]), modalities=("PH",)),
    RecipeConfig(
        window=((2, 22), (2, 26), (2, 26)), shape=(10, 12, 12), deform_sigma_voxels=0.5
    ),
    NetworkConfig(kind="random", depth=10, width=4),
    TrainingConfig(epochs=4, learning_rate=0.005),
)
scores = [
    [e.train.loss, e.validation.loss, e.validation.auc, len(e.predictions.probability)]
    for e in epochs
]
print(json.dumps({"scores": scores, "imported": [m for m in sys.modules if "." not in m]}))
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    root = tmp_path_factory.mktemp("cohort")
    cohort = SyntheticConfig(
        subjects=24,
        grid=(24, 28, 28),
        modalities=("PH",),
        signal={"PH": 3.0},
        without_dti=0.0,
        without_dsc=0.0,
    )
    synthesize(cohort, root)
    command = [sys.executable, "-c", SCRIPT, str(root)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_one_fold_trains_and_validates(output: dict[str, list]) -> None:
    scores = output["scores"]
    assert len(scores) == 4
    for train_loss, validation_loss, auc, num_validated in scores:
        assert isfinite(train_loss) and isfinite(validation_loss)
        assert 0 <= auc <= 1
        # 24 subjects less 30 % of them that test, rounded up, in two folds
        assert num_validated == (24 - 8) // 2
    assert scores[-1][0] < scores[0][0]  # it learns the planted signal


def test_one_fold_needs_neither_ray_nor_mlflow(output: dict[str, list]) -> None:
    assert "torch" in output["imported"]
    assert not {"ray", "mlflow", "pandas", "sklearn"} & {*output["imported"]}
