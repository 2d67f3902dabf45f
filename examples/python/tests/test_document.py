"""docs/python.md's programs run as they stand."""

import pathlib
import re

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
