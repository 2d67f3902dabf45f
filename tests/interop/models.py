"""Small models with random weights, their bases as files, and PEFT models on them."""
import json
import subprocess
import warnings

import numpy as np
import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, LlamaConfig,
                          LlamaForCausalLM)

torch.set_num_threads(1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.o_proj = nn.Linear(12, 20), nn.Linear(20, 14, bias=False), nn.Linear(14, 12)

    def forward(self, x):
        return x + torch.tanh(self.o_proj(torch.tanh(self.k_proj(torch.tanh(self.q_proj(x))))))


class Chain(nn.Module):
    """Names are chosen so that careless matching goes wrong: layer 1 beside 11, and a whole name that ends others."""

    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(12, 12)
        self.model = nn.Module()
        self.model.layers = nn.ModuleDict({n: Block() for n in ["0", "1", "11"]})
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = self.q_proj(x)
        for block in self.model.layers.values():
            x = block(x)
        return self.head(x)


class Traps(nn.Module):
    """Names that mean more than their module where they are read as the end of a name, or as an expression."""

    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(12, 12)
        self.block = nn.ModuleDict({"q_proj": nn.Linear(12, 12), "a+b": nn.Linear(12, 12)})
        self.proj, self.other = nn.ModuleDict({"in": nn.Linear(12, 12)}), nn.ModuleDict({"proj": nn.Linear(12, 12)})

    def forward(self, x):
        return self.other["proj"](self.block["a+b"](self.q_proj(self.block["q_proj"](self.proj["in"](x)))))


class Pictures(nn.Module):
    """Embeddings as channels of small images, convolutions of several shapes, a linear layer."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 4)
        self.net = nn.ModuleDict({"conv": nn.Conv2d(4, 6, 3, stride=2, padding=1), "wide": nn.Conv2d(6, 5, (1, 2)),
                                  "point": nn.Conv2d(5, 5, 1, stride=(2, 1), padding=(0, 1), bias=False)})
        self.head = nn.Linear(40, 3)

    def forward(self, x):
        x = self.words(x).transpose(1, 2).reshape(-1, 4, 5, 6)
        for layer in self.net.values():
            x = torch.tanh(layer(x))
        return self.head(x.flatten(1))


class Kind:
    """A model, which of its modules get adapters, and how its base's file names and stores them."""

    def __init__(self, make, modules, inputs, prefix="", fan_in_fan_out=False):
        self.make, self.modules, self.inputs = make, modules, inputs
        self.prefix, self.fan_in_fan_out = prefix, fan_in_fan_out

    def build(self, weights=None):
        """The model; `weights` are a base file's, else random ones that are the same every time."""
        model = self.make().eval()
        rng = np.random.default_rng(5)
        with torch.no_grad():
            for _, p in sorted(model.named_parameters()):
                p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape)).astype(np.float32) * 0.3))
            if weights is not None:
                result = model.load_state_dict({self.prefix + k: v for k, v in weights.items()}, strict=False)
                assert not result.unexpected_keys, result
        return model

    def base(self, model):
        """The state of the base model as files have it: without the prefix, and without what only the head has."""
        state = {k: v.contiguous().clone() for k, v in model.state_dict().items() if k.startswith(self.prefix)}
        if "lm_head.weight" in state and isinstance(model, LlamaForCausalLM) is False:
            del state["lm_head.weight"]  # tied
        return {k[len(self.prefix):]: v for k, v in state.items()}

    def run(self, model):
        with torch.no_grad():
            out = model(self.inputs)
        return (out if isinstance(out, torch.Tensor) else out.logits).numpy()


def ids(count):
    return torch.from_numpy(np.random.default_rng(6).integers(0, 32, (2, count)))


KINDS = {
    "chain": Kind(Chain, ["q_proj"] + [f"model.layers.{i}.{n}" for i in ["0", "1", "11"]
                                       for n in ["q_proj", "k_proj", "o_proj"]],
                  torch.from_numpy(np.random.default_rng(6).standard_normal((5, 12)).astype(np.float32))),
    "pictures": Kind(Pictures, ["words", "net.conv", "net.wide", "net.point", "head"],
                     torch.from_numpy(np.random.default_rng(6).integers(0, 11, (3, 30)))),
    "traps": Kind(Traps, ["q_proj", "block.a+b", "other.proj"],
                  torch.from_numpy(np.random.default_rng(6).standard_normal((5, 12)).astype(np.float32))),
    "container": Kind(Traps, ["other.proj"],
                      torch.from_numpy(np.random.default_rng(6).standard_normal((5, 12)).astype(np.float32))),
    # Without dropout: PEFT estimates gradients in training mode.
    "gpt2": Kind(lambda: GPT2LMHeadModel(GPT2Config(
        vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0, resid_pdrop=0,
        embd_pdrop=0, attn_pdrop=0)),
                 ["transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj", "transformer.h.0.mlp.c_fc",
                  "transformer.h.0.mlp.c_proj"], ids(9), "transformer.", True),
    "llama": Kind(lambda: LlamaForCausalLM(LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16)),
        [f"model.layers.{i}.{n}" for i in [0, 1] for n in ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]],
        ids(9)),
    "bert": Kind(lambda: BertForSequenceClassification(BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=16)),
        [f"bert.encoder.layer.0.{n}" for n in ["attention.self.query", "attention.self.value",
                                               "attention.output.dense", "output.dense"]], ids(9), "bert."),
}


def weight_shape(kind, model, name):
    """out, in"""
    shape = tuple(model.get_submodule(name).weight.shape)
    return shape[::-1] if kind.fan_in_fan_out else shape


def layer_data(kind, tokens=30):
    """Inputs x.M and targets t.M of every adapted layer; with more tokens than a layer has outputs or inputs its
    gradient has full rank."""
    rng, model, data = np.random.default_rng(7), kind.build(), {}
    for name in kind.modules:
        layer = model.get_submodule(name)
        if isinstance(layer, nn.Embedding):
            data["x." + name] = torch.from_numpy(rng.integers(0, layer.num_embeddings, tokens))
            continue
        if isinstance(layer, nn.Conv2d):
            images = rng.standard_normal((3, layer.in_channels, 6, 7)).astype(np.float32)
            data["x." + name] = torch.from_numpy(images)
            continue
        out, in_ = weight_shape(kind, model, name)
        count = max(tokens, out + 2, in_ + 2)
        data["x." + name] = torch.from_numpy(rng.standard_normal((count, in_)).astype(np.float32))
        data["t." + name] = torch.from_numpy(rng.standard_normal((count, out)).astype(np.float32))
    return data


def convolutions(kind):
    """Strides and paddings, as exchange.cpp is told them."""
    layers = {n: kind.build().get_submodule(n) for n in kind.modules}
    return {n: {"stride": l.stride, "padding": l.padding} for n, l in layers.items() if isinstance(l, nn.Conv2d)}


def lora_layers(peft_model):
    return {name: m for name, m in peft_model.base_model.model.named_modules() if isinstance(m, LoraLayer)}


def layer_outputs(peft_model, data):
    """What PEFT's layers compute, without bias."""
    outputs = {}
    with torch.no_grad():
        for name, layer in lora_layers(peft_model).items():
            if "x." + name not in data:
                continue  # open_adapter has complained
            y = layer(data["x." + name])
            bias = getattr(layer.get_base_layer(), "bias", None)
            if bias is not None:
                y = y - (bias.view(-1, 1, 1) if y.dim() == 4 else bias)
            outputs["y." + name] = y.numpy()
    return outputs


def merged_weights(kind, folder, weights):
    """The weights that PEFT itself merges the adapter into, as a base file names them."""
    model = open_adapter(kind, folder, weights)[0].merge_and_unload()
    return {n: model.get_submodule(n).weight.detach().numpy() for n in kind.modules}


def open_adapter(kind, folder, weights, trainable=False):
    """PEFT's model with the adapter (None if it cannot load it), and what went wrong."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            model = PeftModel.from_pretrained(kind.build(weights), str(folder), is_trainable=trainable)
        except (KeyError, RuntimeError, ValueError) as e:
            return None, [f"PEFT: {type(e).__name__} {e}"]
    problems = [str(w.message) for w in said if "missing" in str(w.message) or "unexpected" in str(w.message)]
    held, file = get_peft_model_state_dict(model), load_file(folder / "adapter_model.safetensors")
    problems += [f"PEFT ignores {n}" for n in file if n not in held]
    problems += [f"not given: {n}" for n in held if n not in file]
    problems += [f"changed: {n}" for n in file if n in held and not torch.equal(held[n], file[n].to(held[n].dtype))]
    return model, problems


def write(path, tensors):
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    return str(path)


class Exchange:
    """exchange.cpp with jobs."""

    def __init__(self, program, work):
        self.program, self.work = program, work

    def run(self, what, job):
        """(what it printed, what it complained about)"""
        path = self.work / "job.json"
        path.write_text(json.dumps(job, default=str))
        done = subprocess.run([self.program, what, path], capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"exchange {what} ended with {done.returncode}: {done.stderr}")
        return done.stdout, done.stderr.strip()

    def must(self, what, job):
        out, complaint = self.run(what, job)
        if complaint:
            raise RuntimeError(complaint)
        return out
