from pathlib import Path

import pytest
import torch

from mgmt_ray.base import CannotWrite, MgmtError
from mgmt_ray.training.checkpoint import (
    DamagedState,
    StateWriter,
    load_state,
    load_weights,
    save_state,
    save_weights,
    trained_weights,
)


@pytest.mark.parametrize("kind", ["spottune", "random", "transfer"])
def test_saved_weights_and_the_checkpoint_give_the_network_back(
    kind: str, make_network, tmp_path: Path
) -> None:
    network = make_network(kind).train()
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape))
        network(torch.rand(2, 1, 12, 12, 12), torch.zeros(2, network.num_routed_blocks, 2))
    save_weights(trained_weights(network), tmp_path / "weights.safetensors")
    again = make_network(kind)
    load_weights(again, tmp_path / "weights.safetensors")
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_frozen_weights_are_not_kept_a_second_time(make_network) -> None:
    assert set(trained_weights(make_network("transfer"))) == {"resnet.fc.weight", "resnet.fc.bias"}
    names = set(trained_weights(make_network("spottune")))
    assert not any(".frozen." in name or name.startswith(("conv1", "bn1")) for name in names)
    assert "routed.0.tuned.bn1.running_mean" in names
    assert "agent.bn1.running_var" in names


def test_weights_of_another_network_are_refused(make_network, tmp_path: Path) -> None:
    save_weights(trained_weights(make_network("transfer")), tmp_path / "weights.safetensors")
    with pytest.raises(MgmtError, match="another network"):
        load_weights(make_network("random"), tmp_path / "weights.safetensors")


def test_a_cut_file_is_refused(make_network, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(trained_weights(make_network("random")), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MgmtError, match="unreadable weights"):
        load_weights(make_network("random"), path)


def test_no_change_of_a_training_state_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state({"epoch": 3, "weights": torch.arange(500.0)}, path)
    assert torch.equal(load_state(path)["weights"], torch.arange(500.0))
    whole = path.read_bytes()
    for place in (0, 100, len(whole) // 2, len(whole) - 65, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(DamagedState, match="checksum"):
            load_state(path)
    for length in (0, 10, 64, len(whole) - 64, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedState, match="checksum"):
            load_state(path)


def test_a_state_is_written_as_it_was_when_it_was_saved(tmp_path: Path) -> None:
    weight, path = torch.zeros(300_000), tmp_path / "state.pt"
    state = {"weight": weight, "rows": [{"epoch": 1}], "twice": (weight,)}
    with StateWriter() as writer:
        writer.save(state, path)
        weight.fill_(1.0)
        state["rows"].append({"epoch": 2})
    saved = load_state(path)
    assert not saved["weight"].any()
    assert saved["rows"] == [{"epoch": 1}]
    assert path.stat().st_size < 1.1 * weight.nbytes  # the tensor that occurs twice once
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_that_cannot_be_written_ends_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "state.pt"
    with pytest.raises(CannotWrite, match="cannot be written"), StateWriter() as writer:
        writer.save({"epoch": 1}, path)
    with StateWriter() as writer:
        writer.save({"epoch": 1}, path)
        with pytest.raises(CannotWrite, match="cannot be written"):
            writer.save({"epoch": 2}, tmp_path / "state.pt")
    assert not (tmp_path / "state.pt").exists()
