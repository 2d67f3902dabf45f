"""Whole models on disk, merged by loraga_adapter and loaded by transformers, against PEFT's live models; and adapters
that loraga_init starts, loaded by PEFT.

PEFT's own merge_and_unload is not the judge where weights are tied: it changes both uses of the one tensor (0.21).
"""
import subprocess

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification,
                          BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel, GPT2Config,
                          GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM)

from to_peft import LIMIT

IDS = torch.arange(3, 19).reshape(2, 8)


def llama(tied):
    return LlamaForCausalLM(LlamaConfig(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                                        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied,
                                        bos_token_id=1, eos_token_id=2, pad_token_id=0))


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=16, bos_token_id=1,
                                      eos_token_id=2))


def bert(kind):
    return kind(BertConfig(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                           num_attention_heads=2, max_position_embeddings=16, num_labels=3))


def output(model):
    model.eval()
    with torch.no_grad():
        out = model(IDS)
    return (out.logits if "logits" in out else out.last_hidden_state).numpy()


def train(model):
    """All that is trained goes somewhere else."""
    torch.manual_seed(3)
    with torch.no_grad():
        for _, p in sorted(model.named_parameters()):
            if p.requires_grad:
                p += torch.randn_like(p) * 0.2


class Tools:
    def __init__(self, report, programs, work):
        self.report, self.programs, self.work = report, programs, work

    def run(self, program, *words):
        done = subprocess.run([self.programs / program, *map(str, words)], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def merged(self, what, base, adapter, expected, auto, *words, says="", unused=()):
        """Merged here, loaded there: the same outputs, and no weight missing or left over but for `unused`."""
        to = self.work / (what.replace(" ", "-").replace(",", "") + "-merged")
        status, said = self.run("loraga_adapter", "merge", "--adapter", adapter, "--base", base, "--out", to, *words)
        if status != 0:
            return self.report.true(what, False, said)
        model, info = auto.from_pretrained(to, output_loading_info=True)
        problems = [f"{k}: {sorted(v)[:3]}" for k, v in info.items() if v and set(v) != set(unused)]
        problems += [] if says in said else [f"did not say '{says}': {said}"]
        self.report.near(what, output(model), expected, LIMIT, problems)


def saved(tools, what, make, config, auto, resize=0):
    """Folders of a base and of an adapter that PEFT trained on it, and what that computes."""
    torch.manual_seed(1)
    base, adapter = (tools.work / f"{what.replace(' ', '-').replace(',', '')}-{part}" for part in ("base", "adapter"))
    make().save_pretrained(base)
    model = auto.from_pretrained(base)
    if resize:
        model.resize_token_embeddings(resize)
    model = get_peft_model(model, config)
    train(model)
    expected = output(model)
    model.save_pretrained(adapter)
    return base, adapter, expected


def check_whole(tools):
    def case(what, make, auto, says, resize=0, **arguments):
        base, adapter, expected = saved(tools, what, make, LoraConfig(r=2, lora_alpha=4, **arguments), auto, resize)
        tools.merged(what, base, adapter, expected, auto, says=says)

    lm, causal = AutoModelForCausalLM, dict(task_type="CAUSAL_LM")
    case("modules_to_save, a head", lambda: llama(False), lm, "replaced: lm_head.weight", **causal,
         target_modules=["q_proj", "down_proj"], modules_to_save=["lm_head"])
    case("modules_to_save, embedding and head", lambda: llama(False), lm, "replaced: model.embed_tokens.weight",
         **causal, target_modules=["v_proj"], modules_to_save=["lm_head", "embed_tokens"])
    case("modules_to_save, norms", lambda: llama(False), lm, "replaced: model.norm.weight", **causal,
         target_modules=["v_proj"], modules_to_save=["norm", "input_layernorm"])
    case("a classifier that the base lacks", lambda: bert(BertModel), AutoModelForSequenceClassification,
         "added: classifier.weight", task_type="SEQ_CLS", target_modules=["query", "value"])
    case("biases", lambda: bert(BertForSequenceClassification), AutoModelForSequenceClassification,
         "replaced: ", task_type="SEQ_CLS", target_modules=["query", "value"], bias="all")
    case("biases of adapted layers, gpt2", gpt2, lm, "replaced: ", **causal, target_modules=["c_attn", "c_proj"],
         bias="lora_only", fan_in_fan_out=True)
    case("resized embeddings", lambda: llama(False), lm, "vocab_size 40 is now 47", 47, **causal,
         target_modules=["q_proj", "embed_tokens", "lm_head"])
    case("resized embeddings, tied, factors on the embedding", lambda: llama(True), lm, "tied no more", 47, **causal,
         target_modules=["embed_tokens"])
    case("resized embeddings, tied, factors on the head", lambda: llama(True), lm, "tied no more", 47, **causal,
         target_modules=["lm_head", "q_proj"])
    case("resized embeddings, tied", lambda: llama(True), lm, "vocab_size 40 is now 47", 47, **causal,
         target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])


def check_tied(tools):
    def case(what, make, says, **arguments):
        base, adapter, expected = saved(tools, what, make, LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM",
                                                                      **arguments), AutoModelForCausalLM)
        tools.merged(what, base, adapter, expected, AutoModelForCausalLM, says=says)

    for name, make, words, linear in [("llama", lambda: llama(True), "embed_tokens", "q_proj"),
                                      ("gpt2", gpt2, "wte", "c_attn")]:
        conv = dict(fan_in_fan_out=True) if name == "gpt2" else {}
        case(f"tied {name}, the embedding", make, "tied no more", target_modules=[words], **conv)
        case(f"tied {name}, the head", make, "tied no more", target_modules=["lm_head"])
        case(f"tied {name}, both apart", make, "tied no more", target_modules=[words, "lm_head", linear], **conv)
        case(f"tied {name}, neither", make, "", target_modules=[linear], **conv)
        case(f"tied {name}, embedding saved whole", make, "tied no more", target_modules=[linear],
             modules_to_save=[words], **conv)
        case(f"tied {name}, head saved whole", make, "tied no more", target_modules=[linear],
             modules_to_save=["lm_head"], **conv)
    case("tied llama, kept by ensure_weight_tying", lambda: llama(True), "once, for both",
         target_modules=["embed_tokens"], ensure_weight_tying=True)
    case("tied llama, saved whole and kept tied", lambda: llama(True), "once, for both", target_modules=["q_proj"],
         modules_to_save=["embed_tokens"], ensure_weight_tying=True)


def check_order(tools):
    """PEFT saves the base's embedding beside its factors: the second of two merges must not bring it back."""
    config = LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM", target_modules=["embed_tokens", "q_proj"])
    base, adapter, _ = saved(tools, "one after the other", lambda: llama(False), config, AutoModelForCausalLM)
    first, both = tools.work / "order-first", tools.work / "order-both"
    tools.run("loraga_adapter", "merge", "--adapter", adapter, "--base", base, "--out", first)
    tools.run("loraga_adapter", "merge", "--adapter", f"{adapter}:2", "--base", base, "--out", both)
    tools.merged("an embedding's adapter merged twice counts twice", first, adapter,
                 output(AutoModelForCausalLM.from_pretrained(both)), AutoModelForCausalLM, says="stays the base's")


def check_refused(tools):
    """Heads whose name, or bias, nobody could get right by guessing."""
    for what, make, auto, arguments in [
            ("BERT's tied decoder", lambda: bert(BertForMaskedLM), AutoModelForMaskedLM,
             dict(target_modules=["word_embeddings"])),
            ("a module within the layers that the base calls otherwise", lambda: llama(False), AutoModelForCausalLM,
             dict(target_modules=["q_proj"], modules_to_save=["input_layernorm"]))]:
        base, adapter, _ = saved(tools, what.replace("'", ""), make, LoraConfig(r=2, lora_alpha=4, **arguments), auto)
        if "layernorm" in str(arguments):
            file = load_file(base / "model.safetensors")
            save_file({k.replace("input_layernorm", "norm_before"): t for k, t in file.items()},
                      base / "model.safetensors", metadata={"format": "pt"})
        to = tools.work / (what[:8].replace("'", "") + "-none")
        status, said = tools.run("loraga_adapter", "merge", "--adapter", adapter, "--base", base, "--out", to)
        tools.report.true(f"{what}: refused, and nothing written", status == 1 and not to.exists(), said)


def check_names(tools):
    """The same weights under the names that AutoModel, wrappers and older files give them."""
    what = "renamed"
    base, adapter, expected = saved(tools, what, lambda: llama(False), LoraConfig(
        r=2, lora_alpha=4, task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"]), AutoModelForCausalLM)

    def variant(name, change):
        to = tools.work / f"renamed-{name}"
        to.mkdir()
        file = load_file(adapter / "adapter_model.safetensors")
        save_file({change(k): t for k, t in file.items()}, to / "adapter_model.safetensors", metadata={"format": "pt"})
        (to / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
        return to

    peft = "base_model.model."
    for name, change, says, words in [
            ("compiled", lambda k: k.replace(peft, peft + "_orig_mod."), "", []),
            ("of a data parallel run", lambda k: "module." + k, "", []),
            ("with the adapter's name", lambda k: k.replace(".weight", ".default.weight"), "", []),
            ("of a model without a head", lambda k: k.replace(peft + "model.", peft), "'' in the adapter is 'model'", []),
            ("of a vision model's text", lambda k: k.replace(peft + "model.", peft + "model.language_model."),
             "'model.language_model' in the adapter is 'model'", []),
            ("by a name of one's own", lambda k: k.replace(peft + "model.", peft + "my.decoder."), "",
             ["--rename", "my.decoder=model"])]:
        tools.merged(f"adapter {name}", base, variant(name.replace(" ", "-"), change), expected, AutoModelForCausalLM,
                     *words, says=says)
    status, said = tools.run("loraga_adapter", "merge", "--adapter", tools.work / "renamed-by-a-name-of-one's-own",
                             "--base", base, "--out", tools.work / "none")
    tools.report.true("one's own name is refused without --rename", status == 1 and "--rename" in said, said)

    # the base's names instead: saved as BertModel, trained as a classifier, and the other way round
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["query", "output.dense"])
    base, adapter, expected = saved(tools, "bare adapter", lambda: bert(BertForSequenceClassification), config, AutoModel)
    tools.merged("an adapter of BertModel on a classifier's base", base, adapter, expected, AutoModel,
                 says="'' in the adapter is 'bert'", unused=["classifier.weight", "classifier.bias"])


def check_starts(tools):
    """Embeddings started here: PEFT loads them, the anchored base with them is the base, and training goes on."""
    torch.manual_seed(1)
    base, gradients = tools.work / "start-base", tools.work / "start-gradients.safetensors"
    llama(False).save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    expected = output(model)
    model.zero_grad()
    model(IDS, labels=IDS).loss.backward()
    save_file({"module." + n.removesuffix(".weight"): p.grad for n, p in model.named_parameters()}, gradients)
    to, changed = tools.work / "start", tools.work / "start-changed"
    status, said = tools.run("loraga_init", "--base", base, "--gradients", gradients, "--target-modules",
                             "embed_tokens", "q_proj", "down_proj", "--rank", 2, "--relative-to", "anchored",
                             "--anchored-base", changed, "--out", to, "--task-type", "CAUSAL_LM")
    if not tools.report.true("loraga_init with an embedding", status == 0, said):
        return
    started = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(changed), to, is_trainable=True)
    kinds = {type(m).__name__ for m in started.modules() if hasattr(m, "lora_embedding_A") and m.lora_embedding_A}
    problems = [] if kinds == {"Embedding"} else [f"embeddings: {kinds}"]
    moved = np.abs(output(AutoModelForCausalLM.from_pretrained(changed)) - expected).max()
    problems += [] if moved > 1e-3 else ["the anchored base is the base"]
    tools.report.near("the anchored base and its start, in PEFT, are the base", output(started), expected, LIMIT, problems)
    train(started)
    after = output(started)
    started.save_pretrained(tools.work / "start-trained")
    status, said = tools.run("loraga_adapter", "convert", "--adapter", tools.work / "start-trained", "--start",
                             to / "start", "--base-name", base, "--out", tools.work / "start-original")
    if not tools.report.true("converted to the original base", status == 0, said):
        return
    back = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tools.work / "start-original")
    tools.report.near("trained, and back on the original base, in PEFT", output(back), after, LIMIT)
    tools.merged("trained, and merged into the original base", base, tools.work / "start-original", after,
                 AutoModelForCausalLM)


def check(report, programs, work):
    tools = Tools(report, programs, work)
    for part in [check_whole, check_tied, check_order, check_refused, check_names, check_starts]:
        part(tools)
