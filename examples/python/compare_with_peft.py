"""One small model, fine-tuned in PEFT from several starts: PEFT's own, and loraga's through an adapter's folder.

    python examples/python/compare_with_peft.py [--steps 120] [--seeds 3] [--picture losses.png]

The model is a network that was trained on one half of a made-up task and goes over to the other half. Every run is PEFT's own
training loop; runs differ in how A and B begin. Needs loraga, torch and peft; matplotlib for the picture.
"""

import argparse
import copy
import tempfile

import torch
from peft import LoraConfig, LoraGAConfig, PeftModel, get_peft_model
from peft.tuners.lora import preprocess_loraga
from torch import nn

import loraga

RANK, ALPHA, RATE = 4, 8, 2e-3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.mid, self.down = nn.Linear(48, 96), nn.Linear(96, 96), nn.Linear(96, 40)

    def forward(self, x):
        return self.down(nn.functional.gelu(self.mid(nn.functional.gelu(self.up(x)))))


LAYERS = ["up", "mid", "down"]


class Task:
    """Regression to a network nobody knows, on inputs of two kinds."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.truth, self.base = Net(), Net()
        self.kinds = [torch.randn(48, 48) / 48**0.5 for _ in range(2)]
        optimiser = torch.optim.AdamW(self.base.parameters(), lr=3e-3)
        for _ in range(300):
            step(self.base, self.batch(0), optimiser)

    def batch(self, kind, size=256):
        x = torch.randn(size, 48) @ self.kinds[kind] + kind
        with torch.no_grad():
            return x, 3 * self.truth(x)


def loss_of(model, batch):
    x, y = batch
    return nn.functional.mse_loss(model(x), y)


def step(model, batch, optimiser):
    optimiser.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def peft_start(task, sample, init, **more):
    """PEFT's own start by its name."""
    model = copy.deepcopy(task.base)
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, use_rslora=True, target_modules=LAYERS, init_lora_weights=init, **more
    )
    if init == "lora_ga":
        preprocess_loraga(model, config, lambda: [loss_of(model, b).backward() for b in sample])
    return get_peft_model(model, config)


def loraga_start(task, sample, method, **options):
    """Ours: hooks feed estimates, the starts change the base, and PEFT loads the folder."""
    model = copy.deepcopy(task.base)
    weights = {name: getattr(model, name).weight.detach() for name in LAYERS}
    estimates = {name: loraga.Estimate(*w.shape, rank=RANK) for name, w in weights.items()}
    if method == "lora-ga":
        with watched(model, estimates):
            for b in sample:
                loss_of(model, b).backward()
        options["estimate"] = estimates
    starts = loraga.start_all(
        method, LAYERS, W=weights, rank=RANK, alpha=ALPHA, scaling="rslora", anchor="in_place", **options
    )
    with tempfile.TemporaryDirectory() as folder:
        loraga.save_peft(folder, starts, relative_to="anchored", base_name="the model in memory", rslora=True)
        return PeftModel.from_pretrained(model, folder, is_trainable=True)


class watched:
    """While it lasts, every backward pass adds its dY and X to the estimates."""

    def __init__(self, model, estimates):
        self.model, self.estimates, self.hooks = model, estimates, []

    def __enter__(self):
        for name, estimate in self.estimates.items():

            def forward(_, inputs, output, estimate=estimate):
                x = inputs[0].detach()
                output.register_hook(lambda dy: estimate.add(dy.contiguous(), x))

            self.hooks.append(getattr(self.model, name).register_forward_hook(forward))

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()
        self.model.zero_grad()


STARTS = {
    "PEFT LoRA": lambda task, sample: peft_start(task, sample, True),
    "PEFT PiSSA": lambda task, sample: peft_start(task, sample, "pissa"),
    "loraga PiSSA": lambda task, sample: loraga_start(task, sample, "pissa"),
    "PEFT LoRA-GA": lambda task, sample: peft_start(task, sample, "lora_ga", lora_ga_config=LoraGAConfig()),
    "loraga LoRA-GA": lambda task, sample: loraga_start(task, sample, "lora-ga"),
    "loraga LoRA-GA, gd": lambda task, sample: loraga_start(task, sample, "lora-ga", scale="gd"),
}


def curve(start, seed, steps):
    task = Task(seed)
    sample = [task.batch(1) for _ in range(4)]
    model = start(task, sample)
    held = task.batch(1, 2048)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
    torch.manual_seed(1000 + seed)  # the same batches for every start
    losses = []
    for i in range(steps + 1):
        if i % max(1, steps // 8) == 0:
            with torch.no_grad():
                losses.append((i, float(loss_of(model, held))))
        step(model, task.batch(1), optimiser)
    return losses


def draw(table, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name, points in table.items():
        pyplot.plot(*zip(*points), label=name, linestyle="-" if name.startswith("loraga") else "--")
    pyplot.xlabel("step")
    pyplot.ylabel("loss on held-out data, mean of seeds")
    pyplot.legend()
    pyplot.savefig(path, dpi=150, bbox_inches="tight")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=120)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--picture", metavar="FILE")
    options = arguments.parse_args()

    table = {}
    for name, start in STARTS.items():
        runs = [curve(start, seed, options.steps) for seed in range(options.seeds)]
        table[name] = [(at[0][0], sum(loss for _, loss in at) / len(at)) for at in zip(*runs)]
    steps = [i for i, _ in next(iter(table.values()))]
    print(f"{'loss after step':20}" + "".join(f"{i:>9}" for i in steps))
    for name, points in table.items():
        print(f"{name:20}" + "".join(f"{loss:9.4f}" for _, loss in points))
    if options.picture:
        draw(table, options.picture)


if __name__ == "__main__":
    main()
