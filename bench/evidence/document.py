"""docs/evidence.md from evidence.json: every figure and every verdict in it is computed here."""
import json
import math
import os
import statistics

import plan
import verdicts
from markdown import cell, grid, listing, number, pick, rate, sets_of, wrapped

MAIN_JOB = ("vision", "finetune")  # what its folder of results is called, the first that is there
PROTOCOLS = {"common": "one common rate", "best": "each method's own best rate"}
INTRO = """# Evidence

LoRA-GA against full fine-tuning and its peers: first on a real pre-trained transformer and real text, run through the
public headers by `examples/sentiment`, then on a small vision transformer. `bash bench/run.sh evidence` made this page and
its pictures from the records in `bench/results`; no figure in it is written by hand, but for those of the next paragraph.
Losses and accuracies are of the test part, mean ± standard deviation (n − 1) over seeds {seeds}. Every method, set, seed and
failure of the plan appears.
"""
# Measured with a changed copy of examples/sentiment; the next record will replace it.
HEADS = ("**The comparison at each method's own best rate is confounded**: in both examples the fresh classification head trains in the "
         "adapters' group, at the adapters' rate, so that here LoRA-GA's head, at {ours}, learns {times:.0f} times slower than LoRA's, at "
         "{lora}. In a first repetition with every head at 0.003 (movie and tweets, adapters' rates not chosen anew, no record kept yet) "
         "LoRA-GA's mean loss falls from 0.364 to 0.329, with γ = 64 from 0.340 to 0.332, rsLoRA's from 0.334 to 0.326 and LoRA-One's from "
         "0.324 to 0.320: the head explains most of LoRA-GA's deficit, and it does not make it win.")


class Document:
    def __init__(self, evidence, pictures, folder, main=None):
        self.main, self.main_record = main or (None, None)
        self.e, self.setup, self.parts = evidence, evidence["setup"], []
        self.pictures = {name: os.path.relpath(path, folder) for name, path in pictures.items()}

    def say(self, *lines):
        self.parts.append("\n".join(map(wrapped, lines)).rstrip() + "\n")

    def picture(self, name, words):
        if name in self.pictures:
            self.say(f"![{words}]({self.pictures[name]})")

    def verdict(self, c):
        if c is None:
            return "not comparable"
        unit = f"{c['gain']:+.4f}"
        spread = max(c["pooled_sd"], c["paired_sd"])
        if c["verdict"] == "within the spread":
            return f"{unit}, within the spread ({spread:.4f})"
        return f"**{c['verdict']}** by {abs(c['gain']):.4f}, " + (f"{abs(c['gain']) / spread:.1f} times the spread" if spread else "no spread")

    def how(self):
        s, chosen = self.setup, self.setup["chosen"]
        machine = s["machine"] or {}
        hardware = machine.get("gpu") or f"{machine.get('cpu', 'unknown')}, {machine.get('cores')} cores"
        self.say("## What was run", "",
                 f"* {hardware}; {machine.get('compiler')}; {s['date']}; sources at {listing(s['commits'])}; "
                 f"{s['threads']} runs side by side on {s['device']}.",
                 f"* Each run: {chosen['steps']} steps of {s['batch']} snippets, AdamW without weight decay, cosine with 3 % warm-up, "
                 f"r = {s['rank']}, α = {s['alpha']}, γ = {s['gammas']['lora-ga']} ({s['gammas']['lora-one']} for LoRA-One, as its paper has "
                 f"it; {s['gammas']['lora-ga-64']} for lora-ga-64, the value of LoRA-GA's paper for its larger models), LoRA+ ratio {s['lora_plus_ratio']}; evaluated every {chosen['evaluate_every']} steps. Initialisers that read data "
                 f"see {s['sample']} snippets.",
                 f"* EVA and GoRA share out ranks of their own, {s['rank']} on average (GoRA from half to four times that, near the same "
                 "cost). GoRA starts with a step of 0.05; LoRA-SB's start is as far as full fine-tuning's first step at 0.0001, whatever "
                 "its own rate.",
                 "* **Two protocols.** " + (f"*Common*: every method at {rate(s['common_lr'])}, full fine-tuning's best rate in the sweep. "
                 if s["common_lr"] else "The sweep has not given a common rate yet. ") +
                 "*Best*: each method at its own best rate in the sweep. The paper's tables use a common rate; how methods differ there "
                 "says as much about what the rate suits as about the method, which is why both are here.",
                 f"* Chosen for a budget of {s['asked']['budget_hours']:g} hours by a fixed rule. {s['rule']}",
                 "* Hours spent: " + listing(f"{n} {v / 3600:.2f}" for n, v in s["seconds_per_stage"].items()) + ".")
        self.say("The model is all-MiniLM-L6-v2 with adapters on all linear layers of its encoder and a fresh linear head on the mean of "
                 "its tokens. The data are VADER's four sets of snippets with twenty human ratings each: the label is the sign of the mean "
                 "rating, snippets with |mean| < 0.5 are dropped, text is cut at 64 tokens. Amazon and NYT are split by document, so that "
                 "no review or editorial is in two parts; movie and tweets, whose ids name no document, by text (snippets of equal tokens "
                 "stay together).")
        if s["data"]:
            self.say(grid(["set", "snippets", "dropped", "cut", "positive", "training", "validation", "test"],
                          [[n, p["snippets"], p["dropped"], p["cut"], f"{100 * p['positive'] / (p['snippets'] - p['dropped']):.0f} %",
                            p["train"], p["validate"], p["test"]] for n, p in s["data"].items()]),
                     "The larger of the two labels' shares is what answering always the same would score.")

    def of(self, protocol, metric):
        return [c for c in self.e["comparisons"] if (c["protocol"], c["metric"]) == (protocol, metric)]

    def summary(self):
        if not self.e["comparisons"]:
            return
        self.say("## Where LoRA-GA wins, and where it does not", "",
                 "Its gain over each other method is the difference of means over the same seeds, positive where LoRA-GA is better. \"Within "
                 "the spread\": not larger than both the pooled standard deviation of the two methods and the standard deviation of the "
                 "differences seed by seed. With three seeds this is a description, not a test.")
        lines = []
        for protocol, words in PROTOCOLS.items():
            for metric in ("loss", "accuracy"):
                rows = self.of(protocol, metric)
                single = [c for c in rows if c["set"] != "all"]
                if not single:
                    continue
                count = {v: sum(c["verdict"] == v for c in single) for v in ("better", "worse", "within the spread")}
                groups = {v: listing(f"{c['against']} ({c['gain']:+.4f})" for c in rows if c["set"] == "all" and c["verdict"] == v)
                          for v in count}
                apart = [m for m in plan.METHODS if m != "lora-ga" and not pick(rows, against=m, set="all")]
                lines.append(f"* **{metric.capitalize()} at {words}**: of {len(single)} comparisons, method by set, LoRA-GA is better in "
                             f"{count['better']}, worse in {count['worse']}, within the spread in {count['within the spread']}."
                             + (f" Over all sets together better than: {groups['better']}; worse than: {groups['worse']}; within the spread "
                                f"of: {groups['within the spread']}." if len(single) < len(rows) else "")
                             + (f" No verdict over all sets for: {listing(apart)}." if apart else ""))
        for protocol, words in PROTOCOLS.items():
            text = self.fewer_steps(protocol)
            if text:
                lines.append(f"* **Steps at {words}**: {text}.")
            found = [f"{metric} {self.verdict(c)}" for metric in ("loss", "accuracy")
                     if (c := pick(self.of(protocol, metric), against="ga-random", set="all"))]
            if found:
                lines.append(f"* **Directions at {words}**: over random directions of the same scale, all sets together: {'; '.join(found)}.")
        self.say(*lines)

    def fewer_steps(self, protocol):
        rows = [c for c in self.e["curves"] if c["protocol"] == protocol and c["method"] == "lora-ga"]
        held = [c["ratio"] for c in rows if c.get("ratio") is not None]
        if not held:
            return "LoRA-GA never reaches the loss LoRA ends with" if rows else ""
        return (f"to the loss LoRA ends with, LoRA takes {min(held):.2f} to {max(held):.2f} times the steps of LoRA-GA, over {len(held)} of "
                f"{len(rows)} sets")

    def gains(self):
        for protocol, words in PROTOCOLS.items():
            for metric in ("loss", "accuracy"):
                rows = self.of(protocol, metric)
                if rows:
                    sets = sets_of(rows) + (["all"] if any(c["set"] == "all" for c in rows) else [])
                    methods = [m for m in plan.METHODS if any(c["against"] == m for c in rows)]
                    self.say(f"LoRA-GA's gain in {metric} at {words}:", "",
                             grid(["against", *sets], [[m, *(self.verdict(pick(rows, against=m, set=s)) for s in sets)] for m in methods]))

    def table(self):
        if not self.e["table"]:
            return
        self.say("## The table")
        self.picture("table", "loss and accuracy of every method and set")
        rows = self.e["table"] + self.e["averages"]
        for protocol, words in PROTOCOLS.items():
            for metric in ("loss", "accuracy"):
                some = [r for r in rows if (r["protocol"], r["metric"]) == (protocol, metric)]
                methods = [m for m in plan.METHODS if any(r["method"] == m for r in some)]
                self.say(f"Test {metric} at {words}:", "", grid(
                    ["method", "rate", *plan.SETS, "all sets"],
                    [[m, rate(pick(some, method=m)["lr"]), *(cell(pick(some, method=m, set=s)) for s in plan.SETS),
                      cell(pick(some, method=m, set="all")) if pick(some, method=m, set="all") else "–"] for m in methods]))

    def sweep(self):
        if not self.e["sweep"]:
            return
        s = self.setup
        self.say("## The sweep", "",
                 f"Validation loss after the full number of steps on {listing(s['sweep_sets'])}, seed {s['sweep_seed']} (no seed of the tables); "
                 "a method's best rate has the lowest mean over these sets. A best rate at the end of the grid had the grid extended by one "
                 "step there. –: diverged, failed or not tried.")
        rates = sorted({r for row in self.e["sweep"] for r in row["rates"]})
        self.say(grid(["method", *map(rate, rates), "best"],
                      [[row["method"], *(number(dict(zip(row["rates"], row["mean"])).get(r)) for r in rates), rate(row["best"])]
                       for row in self.e["sweep"]]))
        extended = [r["method"] for r in self.e["sweep"] if r["extended"]]
        edge = [r["method"] for r in self.e["sweep"] if r["best_at_edge"]]
        self.say(f"Extended for: {listing(extended)}. Still best at the last rate tried, so perhaps better beyond it: {listing(edge)}.")
        self.picture("sweep", "validation loss against learning rate")

    def curves(self):
        if not any(c["protocol"] in PROTOCOLS for c in self.e["curves"]):
            return
        self.say("## Loss curves, and steps to LoRA's final loss", "",
                 "How many times fewer steps than LoRA a method needs for the loss LoRA ends with, seed by seed, then mean ± sd (linear "
                 "between evaluations; LoRA itself is 1; below 1 is slower, and runs that never get there have no ratio). ≥: it was there at "
                 "the first evaluation after the start, so the true ratio may be larger. On the way to the end only the first snippets of the "
                 "test part are evaluated, always the same. The start's own cost is not counted here; see below.")

        def ratio(c):
            if c is None or "ratio" not in c:
                return "not run"
            if c["ratio"] is None:
                return "not reached"
            text = ("≥ " if c["ratio_is_lower_bound"] else "") + f"{c['ratio']:.2f}"
            text += f" ± {c['ratio_sd']:.2f}" if c["ratio_sd"] is not None else ""
            return text + (f" ({c['reached']} of {len(c['steps_to_lora'])} seeds)" if c["reached"] < len(c["steps_to_lora"]) else "")

        for protocol, words in PROTOCOLS.items():
            rows = [c for c in self.e["curves"] if c["protocol"] == protocol]
            methods = [m for m in plan.METHODS if any(c["method"] == m for c in rows)]
            self.say(f"At {words}: {self.fewer_steps(protocol)}.", "",
                     grid(["method", *plan.SETS], [[m, *(ratio(pick(rows, method=m, set=s)) for s in plan.SETS)] for m in methods]))
            self.picture("curves-" + protocol, f"loss curves at {words}")

    def cases(self, rows, title, label, names, metrics=("loss", "accuracy")):
        sets = sets_of(rows)
        for metric in metrics:
            some = [r for r in rows if r["metric"] == metric]
            shown = [n for n in names if any(label(r) == n for r in some)]
            if shown:
                self.say(f"{title.format(metric=metric)}:", "", grid(
                    ["", *sets], [[n, *(cell(next((r for r in some if label(r) == n and r["set"] == s), None)) for s in sets)] for n in shown]))

    def against(self, rows, key, ours, other, metric, words):
        """One sentence on two cases of an array, per set; in a list."""
        found = []
        for s in sets_of(rows):
            a, b = (pick(rows, **{key: k, "set": s, "metric": metric}) for k in (ours, other))
            if a and b:
                found.append(f"{s} {self.verdict(verdicts.compare(a, b))}")
        return [f"* {words}, {metric}: " + "; ".join(found) + "."] if found else []

    def ablation(self):
        rows = self.e["ablation"]
        if rows:
            self.say("## Direction and scale told apart", "",
                     "Between LoRA and LoRA-GA at the common rate: `gaussian` starts both factors at random with the offset subtracted, `+so` "
                     "adds LoRA-GA's scale, `+ga` its directions alone; `ga-random` is LoRA-GA with random directions of its own scale.")
            self.cases(rows, "Test {metric}", lambda r: r["arm"], ["lora", *plan.ARMS, "ga-random", "lora-ga"])
            self.say("What each step is worth (the gain of the first over the second):")
            steps = (("lora-ga", "lora", "everything, LoRA-GA over LoRA"), ("ga-random", "lora", "scale alone, ga-random over LoRA"),
                     ("lora-ga", "ga-random", "direction at the same scale, LoRA-GA over ga-random"),
                     ("+so", "gaussian", "scale on random factors, +so over gaussian"),
                     ("+ga", "gaussian", "direction without the scale, +ga over gaussian"))
            self.say(*(line for metric in ("loss", "accuracy") for ours, other, words in steps
                       for line in self.against(rows, "arm", ours, other, metric, words)))
            shares = []
            for s in sets_of(rows):
                losses = [pick(rows, arm=a, set=s, metric="loss") for a in ("lora", "ga-random", "lora-ga")]
                if all(r and r["mean"] is not None for r in losses):
                    lora, scale, ours = (r["mean"] for r in losses)
                    if lora > ours:
                        shares.append(f"{s} {100 * (lora - scale) / (lora - ours):.0f} % and {100 * (scale - ours) / (lora - ours):.0f} %")
                    else:
                        shares.append(f"{s} none, LoRA-GA ends no lower than LoRA")
            if shares:
                self.say("Of LoRA-GA's gain in loss over LoRA, scale alone and then direction make: " + "; ".join(shares) + ".")
            self.picture("ablation", "ablation arms")
        rows = self.e["directions"]
        if rows:
            self.say("## Which directions", "", "LoRA-GA with each way of dealing the 2r leading triplets to A and B, at the common rate.")
            self.cases(rows, "Test {metric}", lambda r: r["directions"], plan.DIRECTIONS)
            self.say(*(line for other in plan.DIRECTIONS[1:] for metric in ("loss", "accuracy")
                       for line in self.against(rows, "directions", plan.DIRECTIONS[0], other, metric, f"{plan.DIRECTIONS[0]} over {other}")))
            self.picture("directions", "directions")

    def batch(self):
        rows = self.e["batch"]
        if not rows:
            return
        self.say("## How much data the gradient needs", "",
                 f"Similarity of the gradient of a sample to that of {plan.REFERENCE_SAMPLE} snippets: the share of entries of equal sign, and "
                 "the share within a factor of ten of each other, mean over layers; then LoRA-GA started from that sample."
                 + "".join(f" The {plan.REFERENCE_SAMPLE} are {100 * plan.REFERENCE_SAMPLE / d['train']:.0f} % of {n}'s training part."
                           for n, d in self.setup["data"].items() if n in sets_of(rows)))
        names = [str(n) for n in plan.SAMPLES]
        for metric, words in (("sign_similarity", "Equal sign"), ("magnitude_similarity", "Within a factor of ten"),
                              ("loss", "Test loss of LoRA-GA"), ("accuracy", "Test accuracy of LoRA-GA")):
            self.cases(rows, words + " by snippets sampled", lambda r: str(r["snippets"]), names, [metric])
        self.say(*(line for metric in ("loss", "accuracy")
                   for line in self.against(rows, "snippets", plan.SAMPLES[-1], plan.SAMPLES[0], metric,
                                            f"from {plan.SAMPLES[-1]} snippets over from {plan.SAMPLES[0]}")))
        self.picture("batch", "similarity and score against sample size")

    def coverage(self):
        rows = self.e["coverage"]
        if not rows:
            return
        self.say("## Coverage", "", f"Share of the squared singular values of a layer's gradient ({plan.SAMPLE} snippets) in its 2r leading "
                 "triplets: mean over layers, averaged over seeds, and the lowest of any layer and seed.")
        self.say(grid(["set", *(f"r = {r}: mean (minimum)" for r in plan.RANKS), "lowest layer at r = " + str(plan.RANKS[0])],
                      [[s, *(f"{number(pick(rows, set=s, rank=r)['mean'])} ({number(pick(rows, set=s, rank=r)['minimum'])})" for r in plan.RANKS),
                        "`" + lowest(pick(rows, set=s, rank=plan.RANKS[0])) + "`"] for s in sets_of(rows)]))
        self.picture("coverage", "coverage of each layer")

    def ranks(self):
        rows = self.e["ranks"]
        if rows:
            self.say("## Ranks", "", "At the common rate, α unchanged.")
            self.cases(rows, "Test {metric}", lambda r: f"{r['method']}, r = {r['rank']}",
                       [f"{m}, r = {r}" for m in plan.RANK_METHODS for r in plan.RANKS])
            self.say(*(line for r in plan.RANKS for metric in ("loss", "accuracy") for other in plan.RANK_METHODS[:-1]
                       for line in self.against([x for x in rows if x["rank"] == r], "method", "lora-ga", other, metric,
                                                f"r = {r}, LoRA-GA over {other}")))
            self.picture("ranks", "ranks")
        rows = self.e["epochs"]
        if rows:
            ends = listing(sorted({str(r["steps"]) for r in rows if r["steps"]}))
            self.say("## Several epochs", "", f"{plan.EPOCHS} epochs ({ends} steps) at the common rate.")
            self.cases(rows, "Test {metric}", lambda r: r["method"], plan.EPOCHS_METHODS)
            self.say(*(line for other in plan.EPOCHS_METHODS if other != "lora-ga" for metric in ("loss", "accuracy")
                       for line in self.against(rows, "method", "lora-ga", other, metric, f"LoRA-GA over {other}")))

    def init_cost(self):
        rows = self.e["init_cost"]
        if rows:
            self.say("## What a start costs", "",
                     "Median over the runs of the table: seconds; the steps of training that the same time would have bought; and the most memory "
                     "that start and training took beyond the model, its adapters and the optimiser's state, both with the activations of the "
                     "batches they ran" + (" (host memory only, not the GPU's)" if self.setup["device"] == "cuda" else "") + ".",
                     "", grid(["method", "seconds", "peak MiB", "training's", "in steps", "trainable", "seconds per step"],
                              [[r["method"], f"{r['seconds']:.2f}", f"{r['peak_bytes'] / 2**20:.1f}",
                                f"{r['training_peak_bytes'] / 2**20:.1f}", number(r["in_steps"], 1), r["trainable"],
                                f"{r['step_seconds']:.3f}"] for r in rows]))

    def presets(self):
        rows = self.e["svd_presets"]["rows"]
        if not rows:
            return
        balanced, tight = ([r for r in rows if r["name"].endswith(q)] for q in ("-balanced", "-tight"))
        missed = [r["name"] for r in rows if r["gate"] != "held"]
        self.say("## The SVD presets on these gradients", "",
                 "Singular values of the real gradients are in `bench/results/spectra.json`. Matrices with them, and random singular vectors, "
                 "went through the presets and through `torch.svd_lowrank(q=4r, niter=4)` in one run, a batch of equal shape at a time; loss "
                 "and ratio as in [performance.md](performance.md).", "",
                 f"{len(rows) - len(missed)} of {len(rows)} cases hold their bound on captured energy"
                 + (f"; missed: {listing(missed)}" if missed else "") + f". Median ratio of times: balanced "
                 f"{statistics.median(r['ratio'] for r in balanced):.2f}, tight {statistics.median(r['ratio'] for r in tight):.2f}; the lowest "
                 f"{min(r['ratio'] for r in balanced):.2f} and {min(r['ratio'] for r in tight):.2f}.", "",
                 grid(["set", "matrices", "r", "balanced: ratio", "loss", "tight: ratio", "loss", "peer's loss"],
                      [[b["set"], f"{b['count']} of {b['m']}×{b['n']}", b["rank"], f"{b['ratio']:.2f}", f"{b['ours_loss']:.1e}",
                        f"{t['ratio']:.2f}", f"{t['ours_loss']:.1e}", f"{b['peer_loss']:.1e}"] for b, t in zip(balanced, tight)]))

    def main_job(self):
        """The other example, from its summary.json."""
        if not self.main:
            return
        s, panels, cover = self.main["settings"], self.main["panels"], self.main["coverage"]
        best = {r["name"]: r for r in panels["best"]}
        self.say("## The main job: images", "",
                 f"`bash examples/run.sh` pre-trains a small vision transformer on five classes of Fashion-MNIST and fine-tunes it to the five "
                 f"others: {s['steps']} steps of {s['batch']} images, r = {s['rank']} on every linear layer, seeds {listing(map(str, s['seeds']))}, "
                 f"losses on {s['held_out_images']:,} held-out images, mean ± standard deviation. Left one common rate, as in the paper; right "
                 "each method at its own best of five rates, chosen on validation images. \"minus LoRA's\" is the difference seed by seed. "
                 "`ga-random` is LoRA-GA's form with a random matrix in the gradient's place: the scale without the direction. Its record is "
                 f"`{self.main_record}`, written with `--out {self.main_record}`.")
        self.picture("main job", "loss curves of the main job")

        def values(row, key, digits=3):
            return f"{row[key]['mean']:.{digits}f} ± {row[key]['sd']:.{digits}f}"

        self.say(grid(["method", "steps to LoRA's loss", "loss", "minus LoRA's", "accuracy", "own best rate", "loss", "minus LoRA's"],
                      [[r["name"], values(r, "steps_to_lora_loss", 0), values(r, "final_loss"), values(r, "loss_minus_lora"),
                        values(r, "test_accuracy"), rate(best[r["name"]]["lr"]), values(best[r["name"]], "final_loss"),
                        values(best[r["name"]], "loss_minus_lora")] for r in panels["common"]]))
        apart = [n for n, r in best.items() if n != "lora" and abs(r["loss_minus_lora"]["mean"]) > r["loss_minus_lora"]["sd"]]
        cosine = {r["name"]: r["sgd"]["mean"] for r in cover["first_update_cosine"]}
        self.say("* At a common rate LoRA-GA with γ = 64 takes a third of LoRA's steps, as many as full fine-tuning. Direction does part of that, "
                 "scale the rest: the random control and rsLoRA are not far. With γ = 16 scale does almost all of it. LoRA+ ends at the same loss.",
                 f"* At own best rates the methods whose difference from LoRA is larger than its spread are: {listing(apart)}. A ten times "
                 "larger rate does for LoRA what LoRA-GA's start does.",
                 f"* The sampled gradient's 2r leading directions hold more than {math.floor(1000 * cover['min']) / 10:g} % of its energy in every layer. The first SGD "
                 "step's cosine with full fine-tuning's is " + listing(f"{cosine[n]:.2f} ({n})" for n in
                 ("lora-ga-64", "lora", "pissa", "ga-random-64") if n in cosine) + ".")

    def missing(self):
        self.say("## Not run, and failed")
        rows = self.e["not_run"]
        self.say(grid(["stage", "runs", "why"], [[r["stage"], r["count"] or "–", r["why"]] for r in rows]) if rows
                 else "Everything planned was run.")
        rows = [r for r in self.e["failed"] if not r["diverged"]]
        self.say(grid(["stage", "method", "set", "seed", "rate", "error"],
                      [[r["stage"], r.get("method", "gradient"), r["set"], r["seed"], rate(r.get("lr")), r["error"].replace("|", "\\|")]
                       for r in rows]) if rows else "No run ended with an error other than divergence.")
        rows = [r for r in self.e["failed"] if r["diverged"]]
        for stage in dict.fromkeys(r["stage"] for r in rows):
            some = [f"{r['method']} at {rate(r['lr'])} on {r['set']}" + (f" (seed {r['seed']})" if stage != "sweep" else "")
                    for r in rows if r["stage"] == stage]
            self.say(f"Diverged in {stage} ({len(some)}): {'; '.join(some)}.")
        if not rows:
            self.say("No run diverged.")

    def text(self):
        self.say(INTRO.format(seeds=listing(map(str, self.setup["seeds"]))))
        best = self.setup["best_lr"] or {}
        if "lora" in best and "lora-ga" in best:
            self.say(HEADS.format(ours=rate(best["lora-ga"]), lora=rate(best["lora"]), times=best["lora"] / best["lora-ga"]))
        for part in (self.summary, self.how, self.table, self.gains, self.curves, self.sweep, self.ablation, self.batch,
                     self.coverage, self.ranks, self.init_cost, self.presets, self.main_job, self.missing):
            part()
        return "\n".join(self.parts)


def lowest(row):
    at = min((v, name) for v, name in zip(row["minima"], row["minimum_layers"]) if v is not None)
    return at[1]


def text(evidence, pictures, folder, main=None):
    return Document(evidence, pictures, folder, main).text()


def main_job_of(results):
    """The main job's summary with the name of its folder, and its picture; nothing where there is none."""
    for name in MAIN_JOB:
        path = os.path.join(results, name, "summary.json")
        if os.path.exists(path):
            return (json.load(open(path)), "bench/results/" + name), {"main job": os.path.join(results, name, "curves.png")}
    return None, {}


def main():
    """docs/evidence.md anew from the records and the pictures as they are: after a change of words."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    results, folder = os.path.join(root, "bench/results"), os.path.join(root, "docs")
    evidence = json.load(open(os.path.join(results, "evidence.json")))
    pictures = {os.path.splitext(name)[0]: os.path.join(results, "evidence", name)
                for name in os.listdir(os.path.join(results, "evidence")) if name.endswith(".png")}
    main_job, picture = main_job_of(results)
    with open(os.path.join(folder, "evidence.md"), "w") as out:
        out.write(text(evidence, {**pictures, **picture}, folder, main_job))


if __name__ == "__main__":
    main()
