"""Against torch and PEFT: tensors, folders, whole models. Skipped where they are not installed."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import loraga  # noqa: E402

torch.manual_seed(0)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(24, 32), torch.nn.Linear(32, 20)

    def forward(self, x):
        return self.second(torch.nn.functional.gelu(self.first(x)))


def net():
    torch.manual_seed(1)
    return Net()


X, Y = torch.randn(256, 24), torch.randn(256, 20)


def estimates(model, rank, X=X, **options):
    """What hooks see of one micro-batch."""
    found, handles = {}, []
    for name, layer in model.named_children():
        found[name] = loraga.Estimate(layer.out_features, layer.in_features, rank=rank, **options)

        def forward(_, inputs, output, name=name):
            x = inputs[0].detach()
            if output.requires_grad:
                output.register_hook(lambda dy: found[name].add(dy, x))

        handles.append(layer.register_forward_hook(forward))
    loss = torch.nn.functional.mse_loss(model(X), Y)
    if loss.requires_grad:
        loss.backward()
    for h in handles:
        h.remove()
    return found


def test_estimates_from_hooks_are_the_gradients():
    model = net()
    found = estimates(model, 4, kind="dense")
    for name, layer in model.named_children():
        assert np.allclose(found[name].mean(), layer.weight.grad, rtol=1e-4, atol=1e-7)


def test_a_frozen_base_needs_an_input_with_gradients():
    want, frozen = estimates(net(), 4, kind="dense"), net().requires_grad_(False)
    assert all(e.count == 0 for e in estimates(frozen, 4).values())
    found = estimates(frozen, 4, X.clone().requires_grad_(), kind="dense")
    assert all(np.array_equal(found[n].mean(), want[n].mean()) for n in want)
    assert all(p.grad is None for p in frozen.parameters())


def test_pefts_own_file_is_for_the_changed_base(tmp_path):
    """And says so by the name that we gave; record's is for the original."""
    model, original = net(), net()
    found = estimates(model, 4)
    model.zero_grad()
    weights = {n: layer.weight.detach() for n, layer in model.named_children()}
    starts = loraga.start_all("lora-ga", list(weights), W=weights, estimate=found, rank=4, anchor="in_place")
    loraga.save_peft(tmp_path / "start", starts, relative_to="anchored", base_name="changed", rslora=True)
    started = loaded(model, tmp_path / "start")
    started.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)  # which it would ask the network for
    assert json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())["base_model_name_or_path"] == "changed"
    layers = {n: started.get_submodule("base_model.model." + n) for n in starts}
    for layer in layers.values():
        torch.nn.init.normal_(layer.lora_B["default"].weight)
    trained = [starts[n].record(a.lora_A["default"].weight, a.lora_B["default"].weight) for n, a in layers.items()]
    loraga.save_peft(tmp_path / "ours", trained, relative_to="original", rslora=True)
    want = started(X).detach()
    assert (loaded(original, tmp_path / "ours")(X) - want).abs().max() < 1e-4 * want.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_tensors_of_all_types(dtype):
    dy, x = torch.randn(64, 12).to(dtype), torch.randn(64, 10).to(dtype)
    e = loraga.Estimate(12, 10, rank=2, kind="dense", dtype="float64" if dtype == torch.float64 else "float32")
    e.add(dy, x)
    assert np.allclose(e.mean(), dy.double().T @ x.double(), rtol=1e-4, atol=1e-4)
    W = torch.randn(12, 10).to(dtype)
    before, address = W.double().clone(), W.data_ptr()
    s = loraga.start(W=W, estimate=e, rank=2, anchor="in_place")
    now = W.double() + s.scale * torch.from_numpy(s.B).double() @ torch.from_numpy(s.A).double()
    assert W.data_ptr() == address
    rounding = torch.finfo(dtype).eps if dtype in (torch.bfloat16, torch.float16) else 1e-5
    assert (now - before).abs().max() < rounding * max(1.0, float(W.double().abs().max()))


def test_tensors_that_are_refused():
    G = torch.randn(8, 6)
    with pytest.raises(ValueError, match=r"G is not in the CPU's memory \(its device is meta\), expected an array with numbers"):
        loraga.svd(torch.empty(8, 6, device="meta"), 2)
    with pytest.raises(TypeError, match="G is an array of int64"):
        loraga.svd(torch.ones(8, 6, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="strides 0, 0"):
        loraga.svd(torch.ones(1, 1).expand(8, 6), 2)
    assert loraga.svd(G.T, 2).U.shape == (6, 2)


def test_parameters_are_taken_as_they_are():
    layer = torch.nn.Linear(6, 5)
    before, version = layer.weight.detach().clone(), layer.weight._version
    assert loraga.svd(layer.weight, 2).U.shape == (5, 2)
    loraga.merge(layer.weight, np.ones((1, 6), np.float32), np.ones((5, 1), np.float32), 1.0)
    assert torch.allclose(layer.weight, before + 1) and layer.weight._version > version


def test_torch_is_told_of_changed_weights():
    layer = torch.nn.Linear(6, 5)
    y = layer(torch.randn(3, 6, requires_grad=True)).sum()
    loraga.merge(layer.weight.detach(), np.ones((1, 6), np.float32), np.ones((5, 1), np.float32), 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def loaded(base, folder):
    return peft.PeftModel.from_pretrained(base, folder, is_trainable=True)


def deltas(model):
    return {
        name.removeprefix("base_model.model."): layer.get_delta_weight("default").detach().double()
        for name, layer in model.named_modules()
        if isinstance(layer, peft.tuners.lora.Linear)
    }


def test_peft_loads_our_adapters(tmp_path):
    adapter = {"first": (torch.randn(3, 24), torch.randn(32, 3)), "second": (torch.randn(5, 32), torch.randn(20, 5))}
    loraga.save_peft(tmp_path, adapter, scale={"first": 0.7, "second": 2.5}, rslora=True)
    found = deltas(loaded(net(), tmp_path))
    for (module, (A, B)), s in zip(adapter.items(), (0.7, 2.5)):
        want = s * B.double() @ A.double()
        assert (found[module] - want).abs().max() < 1e-6 * want.abs().max()


def test_we_load_pefts_adapters(tmp_path):
    model = peft.get_peft_model(net(), peft.LoraConfig(r=4, lora_alpha=8, target_modules=["first", "second"], use_rslora=True))
    for layer in model.modules():
        if isinstance(layer, peft.tuners.lora.Linear):
            torch.nn.init.normal_(layer.lora_B["default"].weight)
    model.save_pretrained(tmp_path)
    records = loraga.load_peft(tmp_path).records
    for module, want in deltas(model).items():
        r = records[module]
        got = r.scale * r.B.astype(np.float64) @ r.A
        assert np.abs(got - want.numpy()).max() < 1e-6 * float(want.abs().max())


@pytest.mark.parametrize("relative_to", ["original", "anchored"])
def test_a_lora_ga_start_in_peft(tmp_path, relative_to):
    """The model as PEFT has it with our adapter is the model before, and learns."""
    model = net()
    want = model(X).detach()
    found = estimates(model, 4)
    model.zero_grad()
    weights = {n: layer.weight.detach() for n, layer in model.named_children()}
    anchor = "in_place" if relative_to == "anchored" else "pair"
    starts = loraga.start_all("lora-ga", list(weights), W=weights, estimate=found, rank=4, anchor=anchor)
    loraga.save_peft(tmp_path, starts, relative_to=relative_to, base_name="changed", rslora=True)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True and config["r"] == (8 if relative_to == "original" else 4)
    started = loaded(model, tmp_path)
    assert (started(X) - want).abs().max() < 1e-4
    optimiser = torch.optim.AdamW([p for p in started.parameters() if p.requires_grad], lr=5e-3)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.mse_loss(started(X), Y)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.98 * losses[0]


def test_pissa_is_pefts(tmp_path):
    model = net()
    W = model.first.weight.detach().clone()
    theirs = peft.get_peft_model(
        model, peft.LoraConfig(r=4, lora_alpha=4, init_lora_weights="pissa", target_modules=["first"])
    )
    s = loraga.start("pissa", W=W, rank=4, alpha=4, scaling="lora", anchor="in_place", quality="tight")
    (want,) = deltas(theirs).values()
    got = torch.from_numpy(s.scale * s.B.astype(np.float64) @ s.A)
    assert (got - want).abs().max() < 1e-5 and (W - theirs.base_model.model.first.base_layer.weight).abs().max() < 1e-5
