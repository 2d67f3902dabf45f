"""docs/python.md's programs run as they stand."""

import pathlib
import re

import numpy as np
import pytest

DOCUMENT = pathlib.Path(__file__).parents[3] / "docs" / "python.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)


def test_there_are_programs():
    assert len(PROGRAMS) == 2


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program(number, tmp_path, monkeypatch):
    program = PROGRAMS[number]
    for needed in re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(program, f"{DOCUMENT.name}[{number}]", "exec"), names)
    if "started" in names and hasattr(names["started"], "coverage"):
        assert names["attained"] > 0.99
        assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    if "starts" in names:
        assert set(names["starts"]) == set(names["layers"])
        assert sum(p.requires_grad for p in names["started"].parameters()) == 2 * len(names["layers"])
        the_last_adapter_is_for_the_first_model(names, tmp_path)


def the_last_adapter_is_for_the_first_model(names, folder):
    """'final' on W as it was is the trained model; 'starts.npz' and the saved model are what the process had."""
    import torch

    import loraga

    final, kept = loraga.load_peft(folder / "final").records, loraga.load_starts(folder / "starts.npz")
    saved = torch.load(folder / "changed-base.pt")
    for n, start in names["starts"].items():
        layer = names["started"].get_submodule("base_model.model." + n)
        changed = layer.base_layer.weight.detach().double().numpy()
        assert np.array_equal(saved[n + ".weight"].numpy(), layer.base_layer.weight.detach().numpy())
        assert np.array_equal(kept[n].A, start.A) and np.array_equal(kept[n].B, start.B) and kept[n].scale == start.scale
        first = changed + start.scale * start.B.astype(np.float64) @ start.A
        trained = changed + layer.get_delta_weight("default").detach().double().numpy()
        assert final[n].rank == 2 * start.rank and np.abs(trained - first).max() > 1e-3
        assert np.allclose(first + final[n].scale * final[n].B.astype(np.float64) @ final[n].A, trained, atol=1e-6)
