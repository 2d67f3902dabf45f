"""baseline.py SECTION [--scale N]: what users run instead, in PyTorch and PEFT, on the matrices and shapes of `perf`; lines of JSON.

baseline.py --list names the sections, the most telling first; each is short enough for a process with a timeout. Without torch, and
for PEFT's part without PEFT, that is said and nothing is made up."""
import importlib.metadata
import json
import math
import statistics
import sys
import time

UNAVAILABLE = 78
LLAMA_7B = ((4096, 4096, 128), (11008, 4096, 64), (4096, 11008, 32))
LLAMA_8B = ((4096, 4096, 64), (1024, 4096, 64), (14336, 4096, 64), (4096, 14336, 32))
SHAPES = {"7b": LLAMA_7B, "8b": LLAMA_8B}


class Sizes:
    def __init__(self, scale):
        self.scale = scale

    def side(self, n):
        return n if self.scale == 1 else max(n // self.scale, 16)

    def number(self, n):
        return n if self.scale == 1 else max(n // self.scale, 2)

    def rank(self, r):
        return r if self.scale == 1 else max(r // self.scale, 1)


def version_of(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def say(section, case, **values):
    values = {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in values.items()}
    print(json.dumps({"section": section, "case": case, **values}), flush=True)


def once(torch, work, group=1):
    """Seconds of one of `group` calls, on the device."""
    if not torch.cuda.is_available():
        began = time.perf_counter()
        for _ in range(group):
            work()
        return (time.perf_counter() - began) / group
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    for _ in range(group):
        work()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1e3 / group


def time_of(torch, work, seconds=1.0, most=50, least=3):
    """Median and fastest of repetitions, after two that do not count; short work several times between events."""
    once(torch, work)
    group = int(min(max(1e-3 / max(once(torch, work), 1e-7), 1), 50))
    found, end = [], time.monotonic() + seconds
    while len(found) < least or (len(found) < most and time.monotonic() < end):
        found.append(once(torch, work, group))
    return {"seconds": statistics.median(found), "seconds_fastest": min(found), "runs": len(found) * group}


def cosine_matrix(torch, device, out, inner):
    """CT*diag((i+1)^-1/2)*C' with cosine transforms, as perf/spectrum.cuh makes it."""
    def cosines(rows, n):
        i = torch.arange(rows, device=device, dtype=torch.float64)[:, None]
        j = torch.arange(n, device=device, dtype=torch.float64)[None, :]
        c = torch.cos(math.pi / n * i * (j + 0.5)) * math.sqrt(2 / n)
        c[0] /= math.sqrt(2)
        return c.float()

    k = min(out, inner)
    decay = (torch.arange(k, device=device, dtype=torch.float64) + 1).rsqrt().float()
    return cosines(k, out).T @ (decay[:, None] * cosines(k, inner))


def with_random_signs(torch, g):
    def signs(n):
        return torch.randint(0, 2, (n,), device=g.device, dtype=torch.float32) * 2 - 1

    return signs(g.shape[0])[:, None] * g * signs(g.shape[1])[None, :]


def gradients_of(torch, device, sizes, model):
    """One for each linear layer; eight different ones of a shape, in turn."""
    layers = []
    for out, inner, number in SHAPES[model]:
        base = cosine_matrix(torch, device, sizes.side(out), sizes.side(inner))
        different = [with_random_signs(torch, base) for _ in range(min(8, sizes.number(number)))]
        layers += [different[i % len(different)] for i in range(sizes.number(number))]
    return layers


def svd_lowrank(torch, device, sizes, model, rank):
    """A loop over all layers of a model, with float32 products and with TF32 allowed; q = 4r, as PEFT calls it, and 2r.

    Seconds each, so all layers go through it once, after one of each shape that does not count."""
    torch.backends.cuda.matmul.allow_tf32 = False
    layers = gradients_of(torch, device, sizes, model)
    shapes = list({g.shape: g for g in layers}.values())
    for q in (4 * rank, 2 * rank):
        width = min(max(sizes.rank(rank) * q // rank, 2), *layers[0].shape)
        for tf32 in (False, True):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            once(torch, lambda: [torch.svd_lowrank(g, q=width, niter=4) for g in shapes])
            seconds = once(torch, lambda: [torch.svd_lowrank(g, q=width, niter=4) for g in layers])
            k = min(2 * sizes.rank(rank), width)
            u, _, v = torch.svd_lowrank(layers[0], q=width, niter=4)
            torch.backends.cuda.matmul.allow_tf32 = False
            core = u[:, :k].T @ layers[0] @ v[:, :k]
            loss = 1 - float((core.double() ** 2).sum()) / sum(1 / (i + 1) for i in range(k))
            gram = u[:, :k].T.double() @ u[:, :k].double() - torch.eye(k, device=device, dtype=torch.float64)
            say("svd_lowrank", f"{model} r={rank} q={q // rank}r {'tf32' if tf32 else 'fp32'}", seconds=seconds, runs=1, loss=loss,
                orthonormal=float(gram.abs().max()), layers=len(layers))


def lora_layers(torch, device, sizes, compiled):
    """The base product, and a LoRA layer forward and backward: written by hand and PEFT's, as they are or compiled."""
    tokens, rank = sizes.side(4096), sizes.rank(16)
    for out, inner in ((4096, 4096), (11008, 4096)):
        shape, rows, cols = f"{out}x{inner}", sizes.side(out), sizes.side(inner)
        x = torch.randn(tokens, cols, device=device, dtype=torch.bfloat16, requires_grad=True)
        dy = torch.randn(tokens, rows, device=device, dtype=torch.bfloat16)
        base = torch.nn.Linear(cols, rows, bias=False, device=device, dtype=torch.bfloat16).requires_grad_(False)

        def step(call):
            x.grad = None
            call(x).backward(dy)

        def line(name, make):
            try:
                call = torch.compile(make()) if compiled else make()
                step(call)
                say("lora_layers", f"{shape} {name} whole", **time_of(torch, lambda: step(call)))
                with torch.no_grad():
                    say("lora_layers", f"{shape} {name} forward", **time_of(torch, lambda: call(x)))
            except Exception as failure:  # torch.compile may not work on a machine, and PEFT may not be there
                say("lora_layers", f"{shape} {name} whole", said=f"{type(failure).__name__}: {str(failure)[:200]}")

        if not compiled:
            line("base", lambda: base)
        line("by hand, compiled" if compiled else "by hand", lambda: by_hand(torch, base, rank))
        line("peft, compiled" if compiled else "peft", lambda: by_peft(torch, base, rank))


def by_hand(torch, base, rank):
    class Lora(torch.nn.Module):
        def __init__(self):
            super().__init__()
            rows, cols = base.weight.shape
            self.a = torch.nn.Parameter(torch.randn(rank, cols, device=base.weight.device, dtype=base.weight.dtype) / cols**0.5)
            self.b = torch.nn.Parameter(torch.randn(rows, rank, device=base.weight.device, dtype=base.weight.dtype) * 0.02)

        def forward(self, x):
            return base(x) + (x @ self.a.T) @ self.b.T * 4.0

    return Lora()


def by_peft(torch, base, rank):
    import peft
    config = peft.LoraConfig(r=rank, lora_alpha=16, target_modules=["0"], lora_dropout=0.0, use_rslora=True)
    return peft.get_peft_model(torch.nn.Sequential(base), config, autocast_adapter_dtype=False)


def adamw(torch, device, sizes):
    """A step of torch.optim.AdamW, clipping and zeroing, over the adapters of 224 layers in float32."""
    for rank in (8, 64):
        r, parameters = sizes.rank(rank), []
        for out, inner, number in LLAMA_7B:
            for _ in range(sizes.number(number)):
                for shape in ((r, sizes.side(inner)), (sizes.side(out), r)):
                    parameters.append(torch.nn.Parameter(torch.randn(shape, device=device)))
                    parameters[-1].grad = torch.randn_like(parameters[-1]) * 1e-3

        def clip():
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)

        def zero():
            torch._foreach_zero_([p.grad for p in parameters])

        for kind in ("foreach", "fused"):
            try:
                optimiser = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01, **{kind: True})
                say("adamw", f"{kind} r={rank} step", **time_of(torch, optimiser.step))
                say("adamw", f"{kind} r={rank} all", **time_of(torch, lambda: (clip(), optimiser.step(), zero())))
            except Exception as failure:
                say("adamw", f"{kind} r={rank} step", said=f"{type(failure).__name__}: {str(failure)[:200]}")
        say("adamw", f"clip_grad_norm_ r={rank} clip", **time_of(torch, clip))
        say("adamw", f"foreach zero r={rank} zero", **time_of(torch, zero))
        say("adamw", f"r={rank} size", parameters=sum(p.numel() for p in parameters), layers=len(parameters) // 2)


SECTIONS = {
    "svd_lowrank_7b_r8": lambda *on: svd_lowrank(*on, "7b", 8),
    "lora_layers": lambda *on: lora_layers(*on, False),
    "adamw": adamw,
    "svd_lowrank_7b_r32": lambda *on: svd_lowrank(*on, "7b", 32),
    "lora_layers_compiled": lambda *on: lora_layers(*on, True),
    "svd_lowrank_7b_r128": lambda *on: svd_lowrank(*on, "7b", 128),
    "svd_lowrank_8b_r8": lambda *on: svd_lowrank(*on, "8b", 8),
    "svd_lowrank_8b_r32": lambda *on: svd_lowrank(*on, "8b", 32),
}


def main():
    words = sys.argv[1:]
    if words[:1] == ["--list"]:
        print("\n".join(SECTIONS))
        return 0
    if words[:1] == [] or words[0] not in SECTIONS:
        sys.exit(f"there is no section {' '.join(words[:1])}; --list names them")
    scale = int(words[words.index("--scale") + 1]) if "--scale" in words else 1
    try:
        import torch
    except Exception as failure:
        print(f"torch was not found: {type(failure).__name__}: {failure}", file=sys.stderr)
        return UNAVAILABLE
    if scale == 1 and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU", file=sys.stderr)
        return UNAVAILABLE
    torch.manual_seed(1)
    say(words[0], "versions", torch=torch.__version__, cuda=torch.version.cuda, peft=version_of("peft"))
    SECTIONS[words[0]](torch, "cuda" if torch.cuda.is_available() else "cpu", Sizes(scale))
    return 0


if __name__ == "__main__":
    sys.exit(main())
