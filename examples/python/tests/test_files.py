"""Adapters' files, without PEFT."""

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import loraga

RNG = np.random.default_rng(5)


def factors(out=6, in_=5, r=2):
    return RNG.standard_normal((r, in_)).astype(np.float32), RNG.standard_normal((out, r)).astype(np.float32)


def test_there_and_back(tmp_path):
    adapter = {"layers.0.q": factors(), "layers.1.q": factors(8, 5, 3)}
    loraga.save_peft(tmp_path / "adapter", adapter, scale={"layers.0.q": 2.0, "layers.1.q": 1.5}, task_type="CAUSAL_LM")
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    back = loraga.load_peft(tmp_path / "adapter")
    assert back.config["task_type"] == "CAUSAL_LM" and set(back.records) == set(adapter)
    for module, (A, B) in adapter.items():
        assert np.array_equal(stored[f"base_model.model.{module}.lora_A.weight"], A)
        assert np.array_equal(stored[f"base_model.model.{module}.lora_B.weight"], B)
        assert np.array_equal(back.records[module].A, A) and np.array_equal(back.records[module].B, B)
    assert back.records["layers.0.q"].scale == 2.0 and back.records["layers.1.q"].scale == 1.5
    with pytest.raises(FileExistsError):
        loraga.save_peft(tmp_path / "adapter", adapter, scale=1.0)
    loraga.save_peft(tmp_path / "adapter", adapter, scale=1.0, overwrite=True)
    with pytest.raises(FileNotFoundError):
        loraga.load_peft(tmp_path / "nothing")


def anchored_start():
    estimate = loraga.Estimate(12, 10, rank=2, kind="dense")
    estimate.add_gradient(RNG.standard_normal((12, 10)).astype(np.float32))
    return loraga.start(W=np.zeros((12, 10), np.float32), estimate=estimate, rank=2, anchor="pair", module="q")


def test_anchored_starts_must_say_their_base(tmp_path):
    s = anchored_start()
    with pytest.raises(ValueError, match=r"relative_to is missing, and q is anchored, expected 'original' \(rank 2r.* or 'anchored'"):
        loraga.save_peft(tmp_path / "a", {"q": s})
    with pytest.raises(ValueError, match="base_name is missing with relative_to='anchored', expected the name of the changed base"):
        loraga.save_peft(tmp_path / "a", {"q": s}, relative_to="anchored")
    with pytest.raises(TypeError, match="adapter is a Start, expected {module: start}"):
        loraga.save_peft(tmp_path / "a", s, relative_to="original")
    A, B = s.A + 0.5, s.B - 0.25
    loraga.save_peft(tmp_path / "a", [s.record(A, B)], relative_to="original", rslora=True)
    wide = loraga.load_peft(tmp_path / "a").records["q"]
    assert wide.rank == 4 and wide.scale == pytest.approx(s.scale)
    want = s.scale * (B.astype(np.float64) @ A - s.B.astype(np.float64) @ s.A)
    assert np.allclose(wide.scale * wide.B.astype(np.float64) @ wide.A, want, atol=1e-5)
    loraga.save_peft(tmp_path / "b", {"q": s}, relative_to="anchored", base_name="changed", rslora=True)
    config = json.loads((tmp_path / "b" / "adapter_config.json").read_text())
    assert config["use_rslora"] is True and config["lora_alpha"] == 16 and config["r"] == 2


def test_factors_alone_are_not_relative_to_the_original(tmp_path):
    """A and B of a trained start, without the start: on W as it was they would be wrong."""
    adapter = {"q": factors()}
    with pytest.raises(ValueError, match=r"'original' with A and B of q alone, .* records that know it.* no relative_to"):
        loraga.save_peft(tmp_path / "a", adapter, scale=1.0, relative_to="original")
    with pytest.raises(ValueError, match="base_name is missing"):
        loraga.save_peft(tmp_path / "a", adapter, scale=1.0, relative_to="anchored")
    assert not (tmp_path / "a").exists()
    loraga.save_peft(tmp_path / "a", adapter, scale=1.0, relative_to="anchored", base_name="changed")
    loraga.save_peft(tmp_path / "b", adapter, scale=1.0)
    with pytest.raises(ValueError, match="save_peft: scale lacks q"):
        loraga.save_peft(tmp_path / "c", adapter, scale={"k": 1.0})


def test_the_changed_base_as_a_file(tmp_path):
    W = RNG.standard_normal((12, 10)).astype(np.float32)
    save_file({"q.weight": W}, tmp_path / "base.safetensors")
    s = anchored_start()
    loraga.save_peft(tmp_path / "start", {"q": s}, relative_to="anchored", base_name="changed.safetensors")
    changed = tmp_path / "changed.safetensors"
    loraga.merge_peft(tmp_path / "base.safetensors", changed, tmp_path / "start", unmerge=True)
    assert np.allclose(load_file(changed)["q.weight"], W - s.scale * s.B @ s.A, atol=1e-5)
    A, B = s.A + 0.5, s.B - 0.25
    loraga.save_peft(tmp_path / "a", [s.record(A, B)], relative_to="anchored", base_name=str(changed))
    loraga.save_peft(tmp_path / "o", [s.record(A, B)], relative_to="original", base_name="base")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loraga.merge_peft(changed, tmp_path / "one.safetensors", tmp_path / "a")
        loraga.merge_peft(tmp_path / "base.safetensors", tmp_path / "two.safetensors", tmp_path / "o")
    one, two = (load_file(tmp_path / f"{n}.safetensors")["q.weight"] for n in ("one", "two"))
    assert np.allclose(one, two, atol=1e-5) and np.abs(one - W).max() > 0.1
    with pytest.warns(UserWarning, match=r"is an adapter for '.*changed.safetensors' .* and base is '.*base.safetensors'"):
        loraga.merge_peft(tmp_path / "base.safetensors", tmp_path / "wrong.safetensors", tmp_path / "a")


def test_merging_a_folder(tmp_path):
    W = {"q.weight": RNG.standard_normal((6, 5)).astype(np.float32), "other": np.ones(3, np.float32)}
    save_file(W, tmp_path / "base.safetensors")
    A, B = factors()
    loraga.save_peft(tmp_path / "a", {"q": (A, B)}, scale=2.0, base=tmp_path / "base.safetensors")
    with pytest.raises(ValueError, match="k"):
        loraga.save_peft(tmp_path / "k", {"k": (A, B)}, scale=2.0, base=tmp_path / "base.safetensors")
    notes = loraga.merge_peft(tmp_path / "base.safetensors", tmp_path / "merged.safetensors", {str(tmp_path / "a"): 0.5})
    assert all(isinstance(n, str) for n in notes)
    merged = load_file(tmp_path / "merged.safetensors")
    assert np.allclose(merged["q.weight"], W["q.weight"] + B @ A, atol=1e-5) and np.array_equal(merged["other"], W["other"])
    loraga.merge(W["q.weight"], A, B, 1.0)
    assert np.allclose(merged["q.weight"], W["q.weight"], atol=1e-6)
    with pytest.raises(ValueError, match="merge: A is 2x4, expected 2x5"):
        loraga.merge(W["q.weight"], A[:, :4], B, 1.0)


def test_sums_of_adapters():
    one, other = factors(), factors()
    a, b = loraga.Record("q", *one, 2.0), loraga.Record("q", *other, 3.0)
    (both,) = loraga.combine([([a], 0.5), ([b], -1.0)])
    assert both.rank == 4
    assert np.allclose(both.scale * both.B @ both.A, one[1] @ one[0] - 3 * other[1] @ other[0], atol=1e-5)


def test_gguf(tmp_path):
    gguf = pytest.importorskip("gguf")
    A, B = factors()
    adapter = {"model.layers.0.mlp.up_proj": (A, B)}
    loraga.save_gguf(tmp_path / "a.gguf", adapter, architecture="qwen2", scale=2.0)
    tensors = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    assert np.array_equal(tensors["blk.0.ffn_up.weight.lora_a"], A)
    assert np.allclose(tensors["blk.0.ffn_up.weight.lora_b"], B)
    with pytest.raises(ValueError, match="dtype is 'int4', expected float32, float16 or bfloat16"):
        loraga.save_gguf(tmp_path / "b.gguf", adapter, architecture="qwen2", scale=2.0, dtype="int4")


def test_refused_records():
    A, B = factors()
    for arguments, sentence in [
        ((A, B[:, :1], 1.0), r"B is 6x1, expected 6x2"),
        ((A * np.nan, B, 1.0), "A is not finite"),
        ((A, B, float("inf")), "scale"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            loraga.Record("q", *arguments)
    with pytest.raises(ValueError, match="start_A or start_B is missing"):
        loraga.Record("q", A, B, 1.0, start_A=A)
    with pytest.raises(ValueError, match="scale is missing"):
        loraga.combine([({"q": (A, B)}, 1.0)])
    with pytest.raises(ValueError, match="scale is given beside records"):
        loraga.save_peft("x", [loraga.Record("q", A, B, 1.0)], scale=2.0)
    assert loraga.Record("q", A.astype(np.float16), B.astype(np.float16), 1.0).dtype == "float16"
