"""LoRA-GA as PEFT initialises it, from the gradients that PEFT estimated.

Singular vectors have no sign of their own, so A's rows and B's columns are compared up to one sign each. PEFT factors
gradients with torch.svd_lowrank(q = min(4r, m, n), niter = 4), which is randomised: ranks are chosen here so that q is
min(m, n), where it is exact. For "weight_svd" it takes sigma_1(W) from svd_lowrank(q = r), so the weights are given a
spectrum that falls by 0.6 per triplet, and what is lost is below (0.6^r)^9 of it.
In float32 both sides still differ: a singular vector turns by eps*sigma_1/gap, where gap is the distance to the next
singular value. The limit is that, with the smallest gap of the gradients; it is printed with each row.
"""
import numpy as np
import torch
from peft import LoraConfig, LoraGAConfig, get_peft_model
from safetensors.numpy import load_file as load_numpy

from from_peft import TARGETS, estimate
from models import KINDS, layer_data, lora_layers, write

DIRECTIONS, SCALES = ["ArB2r", "A2rBr", "ArBr"], ["stable", "weight_svd", "gd_scale", "unit"]


def steep_weights(kind, base):
    """The same shapes with singular values 3*0.6^i."""
    rng = np.random.default_rng(10)
    for name in kind.modules:
        key = name[len(kind.prefix):] + ".weight"
        u, _, v = np.linalg.svd(rng.standard_normal(tuple(base[key].shape)), full_matrices=False)
        base[key] = torch.from_numpy(((u * 3 * 0.6 ** np.arange(u.shape[1])) @ v).astype(np.float32))
    return base


def arguments(direction, scale, rank):
    return dict(r=rank, lora_alpha=8, use_rslora=direction == "ArBr",
                lora_ga_config=LoraGAConfig(direction=direction, scale=scale, stable_gamma=16))


def peft_factors(kind, kind_name, base, its_arguments):
    """(gradients, A by module, B by module, scales)"""
    config = LoraConfig(target_modules=TARGETS[kind_name], fan_in_fan_out=kind.fan_in_fan_out,
                        init_lora_weights="lora_ga", **its_arguments)
    model = kind.build(base)
    estimate(kind)(model, config)
    gradients = {n: model.get_submodule(n)._peft_loraga_grad.clone() for n in kind.modules}
    torch.manual_seed(11)
    layers = lora_layers(get_peft_model(model, config))
    a = {n: l.lora_A["default"].weight.detach().numpy() for n, l in layers.items()}
    b = {n: l.lora_B["default"].weight.detach().numpy() for n, l in layers.items()}
    return gradients, a, b, {n: l.scaling["default"] for n, l in layers.items()}


def sensitivity(gradient, triplets):
    """eps*sigma_1/gap over the leading triplets, gap to the next one."""
    s = np.linalg.svd(gradient.numpy().astype(np.float64), compute_uv=False)
    return np.finfo(np.float32).eps * s[0] / (s[:triplets] - np.append(s, 0)[1:triplets + 1]).min()


def aligned(ours, theirs, axis):
    """`ours` with each row (axis 1) or column (axis 0) turned to the side of theirs."""
    return ours * np.where((ours * theirs).sum(axis=axis, keepdims=True) < 0, -1, 1)


def check(report, exchange, work):
    for kind_name, rank in [("chain", 4), ("gpt2", 5)]:  # 4r >= min(m, n) and 2r below it
        kind = KINDS[kind_name]
        base = steep_weights(kind, kind.base(kind.build()))
        cases, theirs = [], {}
        for direction in DIRECTIONS:
            for scale in SCALES:
                name = f"{direction} {scale}"
                gradients, a, b, s = peft_factors(kind, kind_name, base, arguments(direction, scale, rank))
                cases.append({"name": name, "direction": direction, "initial_scale": scale, "rank": rank,
                              "scale": s[kind.modules[0]]})
                theirs[name] = a, b
        job = {"base": write(work / f"{kind_name}-base.safetensors", base), "cases": cases, "modules": kind.modules,
               "data": write(work / f"{kind_name}-data.safetensors", layer_data(kind)),
               "gradients": write(work / f"{kind_name}-gradients.safetensors", gradients),
               "module_prefix": kind.prefix, "fan_in_fan_out": kind.fan_in_fan_out,
               "out": work / f"{kind_name}-factors.safetensors"}
        exchange.must("ga", job)
        ours = load_numpy(job["out"])
        limit = max(sensitivity(g, 2 * rank) for g in gradients.values())
        for case in cases:
            compare(report, f"{kind_name} {case['name']}", kind, gradients, ours, case, theirs[case["name"]], limit)


def compare(report, what, kind, gradients, ours, case, theirs, limit):
    a, b, problems = [], [], []
    for n in kind.modules:
        our_a, our_b = ours[f"{case['name']}.A.{n}"], ours[f"{case['name']}.B.{n}"]
        grad = gradients[n].numpy().astype(np.float64)
        if case["initial_scale"] in ("gd_scale", "unit"):
            # PEFT multiplies B by the gradient's singular values here too; the paper and we do not.
            our_b = our_b * singular_values(grad, case)
        if kind.fan_in_fan_out and case["initial_scale"] == "stable":
            # PEFT takes weight.shape[0] for out, which is `in` where weights are stored in x out.
            our_b = our_b * (grad.shape[0] / grad.shape[1]) ** 0.25
        a.append(aligned(our_a, theirs[0][n], 1))
        b.append(aligned(our_b, theirs[1][n], 0))
        same_sides = np.sign((our_a * theirs[0][n]).sum(1)), np.sign((our_b * theirs[1][n]).sum(0))
        if 0 in same_sides[0] or 0 in same_sides[1]:
            problems.append(f"{n}: orthogonal")
    report.near(f"parity, {what}: A", a, [theirs[0][n] for n in kind.modules], limit, problems)
    report.near(f"parity, {what}: B", b, [theirs[1][n] for n in kind.modules], limit)


def singular_values(gradient, case):
    """Of B's triplets."""
    s, r = np.linalg.svd(gradient, compute_uv=False), case["rank"]
    return {"ArB2r": s[r:2 * r], "A2rBr": s[:r], "ArBr": s[0:2 * r:2]}[case["direction"]]
