"""Estimates and starts against numpy's arithmetic."""

import os
import signal
import threading
import warnings

import numpy as np
import pytest

import loraga

OUT, IN, RANK = 48, 40, 4
RNG = np.random.default_rng(3)
W0 = (0.2 * RNG.standard_normal((OUT, IN))).astype(np.float32)
BATCHES = [
    (
        (RNG.standard_normal((96, OUT)) * 0.7 ** np.arange(OUT)).astype(np.float32),
        (RNG.standard_normal((96, IN)) * 0.8 ** np.arange(IN)).astype(np.float32),
    )
    for _ in range(3)
]
MEAN = sum(dy.T.astype(np.float64) @ x for dy, x in BATCHES) / len(BATCHES)


def estimate(kind="dense", **options):
    e = loraga.Estimate(OUT, IN, rank=RANK, kind=kind, **options)
    for dy, x in BATCHES:
        e.add(dy, x)
    return e


def inputs(**options):
    s = loraga.Inputs(IN, **options)
    for _, x in BATCHES:
        s.add(x)
    return s


def projector(basis):
    q, _ = np.linalg.qr(basis.astype(np.float64))
    return q @ q.T


def test_the_mean_gradient():
    e = estimate()
    assert e.count == 3 and e.weight == 3 and e.out_features == OUT and e.in_features == IN
    assert np.allclose(e.mean(), MEAN, atol=1e-5)
    whole = loraga.Estimate(OUT, IN, kind="dense")
    for dy, x in BATCHES:
        whole.add_gradient(dy.T @ x, weight=2)
    assert whole.weight == 6 and np.allclose(whole.mean(), MEAN, atol=1e-5)
    first, second = loraga.Estimate(OUT, IN, kind="dense"), loraga.Estimate(OUT, IN, kind="dense")
    first.add(*BATCHES[0])
    for batch in BATCHES[1:]:
        second.add(*batch)
    first.merge(second)
    assert np.allclose(first.mean(), MEAN, atol=1e-5)
    first.reset()
    with pytest.raises(ValueError, match="accumulator is empty, expected at least one micro-batch added"):
        first.mean()


def test_leading_dimensions_are_tokens():
    e = loraga.Estimate(OUT, IN, kind="dense")
    for dy, x in BATCHES:
        e.add(dy.reshape(4, 24, OUT), x.reshape(4, 24, IN))
    assert np.array_equal(e.mean(), estimate().mean())
    with pytest.raises(ValueError, match=r"whose tokens do not lie one behind the other"):
        e.add(np.ones((4, 30, OUT), np.float32)[:, :24], BATCHES[0][1].reshape(4, 24, IN))


def test_an_incremental_estimate_follows_the_mean():
    e = estimate("incremental", power_steps=1)
    found = loraga.top(e, 2 * RANK)
    sigma = np.linalg.svd(MEAN, compute_uv=False)
    assert np.allclose(found.s, sigma[: 2 * RANK], rtol=5e-3)
    assert np.isnan(found.energy) and 0 <= e.turn < 1
    with pytest.raises(ValueError, match=r"k is 17, expected 1\.\.16, the width it was built with"):
        loraga.top(e, 17)


def test_many_layers_at_once():
    one, other = estimate(), loraga.Estimate(OUT, IN, kind="dense")
    alone = loraga.Estimate(OUT, IN, kind="dense")
    for dy, x in BATCHES:
        loraga.add_batches([(other, dy, x), (alone, dy[:, ::1], x)])
    assert np.array_equal(one.mean(), other.mean()) and np.array_equal(one.mean(), alone.mean())
    broken = BATCHES[0][1].copy()
    broken[3, 5] = np.inf
    with pytest.raises(ValueError, match=r"add_batches\(layer 1\): x is not finite"):
        loraga.add_batches([(other, *BATCHES[0]), (alone, BATCHES[0][0], broken)])
    assert other.count == alone.count == 3, "a micro-batch was added before all were looked at"
    with pytest.raises(ValueError, match=r"add_batches\(layer 1\): estimate is there twice"):
        loraga.add_batches([(other, *BATCHES[0]), (other, *BATCHES[0])])


@pytest.mark.parametrize("kind", ["dense", "incremental"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lora_ga(kind, dtype):
    s = loraga.start("lora-ga", estimate=estimate(kind, dtype=dtype, power_steps=1), rank=RANK, alpha=8, gamma=64, anchor="pair")
    u, _, vt = np.linalg.svd(MEAN)
    c = OUT**0.25 / 8
    assert s.A.dtype == s.B.dtype == dtype and s.A.shape == (RANK, IN) and s.B.shape == (OUT, RANK)
    assert s.scale == pytest.approx(8 / 2) and s.anchor == "pair" and s.rank == RANK
    close = 1e-4 if kind == "dense" else 3e-2
    assert np.abs(s.A.T @ s.A / c**2 - projector(vt[:RANK].T)).max() < close
    assert np.abs(s.B @ s.B.T / c**2 - projector(u[:, RANK : 2 * RANK])).max() < close
    if kind == "dense":
        sigma = np.linalg.svd(MEAN, compute_uv=False)
        assert s.coverage == pytest.approx((sigma[: 2 * RANK] ** 2).sum() / (sigma**2).sum(), abs=1e-4)


def best(matrix, r):
    u, s, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return (u[:, :r] * s[:r]) @ vt[:r]




def arguments(method, W=W0):
    given = {"rank": RANK}
    if method in ("pissa", "milora", "olora", "corda"):
        given["W"] = W
    if method in ("lora-ga", "lora-one", "gora", "lora-sb"):
        given["estimate"] = estimate()
    if method in ("corda", "eva"):
        given["inputs"] = inputs(by_peak=method == "corda")
    if not given.keys() & {"W", "estimate"}:
        given["shape"] = (OUT, IN)
    return given


ANCHORED = {"gaussian-pair", "pissa", "milora", "olora", "corda", "lora-ga"}
AHEAD = {"lora-one", "gora", "lora-sb"}


def test_all_starts_are_here():
    assert set(loraga.methods()) == {"lora", "gaussian", "orthogonal", "eva"} | ANCHORED | AHEAD


@pytest.mark.parametrize("method", loraga.methods())
def test_every_start(method):
    anchor = {"anchor": "pair"} if method in ANCHORED else {}
    s = loraga.start(method, **arguments(method), **anchor)
    change = s.scale * s.B.astype(np.float64) @ s.A
    assert s.A.shape == (RANK, IN) and s.B.shape == (OUT, RANK) and np.isfinite(change).all()
    assert s.scale == pytest.approx(16 / RANK if method not in ("lora-ga", "lora-one", "gora") else 16 / RANK**0.5)
    if method in ANCHORED | AHEAD:
        assert np.abs(change).max() > 0
    elif method != "orthogonal":
        assert np.abs(change).max() == 0
    if method == "pissa":
        assert np.allclose(change, best(W0, RANK), atol=1e-5)
    if method == "milora":
        assert np.allclose(change, W0 - best(W0, min(OUT, IN) - RANK), atol=1e-5)
    if method == "lora-sb":
        assert np.allclose(change, -1e-4 * best(np.sign(MEAN), RANK), atol=1e-8)
    if method == "gora":
        P = projector(s.A.T)
        assert np.allclose(change, -0.05 * (IN / RANK) ** 0.5 * MEAN @ P, rtol=1e-3, atol=1e-4 * np.abs(change).max())
    if method == "eva":
        x = np.concatenate([x for _, x in BATCHES]).astype(np.float64)
        _, _, vt = np.linalg.svd(x - x.mean(0), full_matrices=False)
        assert np.abs(s.A.T @ s.A - projector(vt[:RANK].T)).max() < 1e-3


@pytest.mark.parametrize("method", sorted(ANCHORED))
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_in_place_starts_leave_the_model_as_it_was(method, dtype):
    W = W0.astype(dtype)
    before = W.astype(np.float64)
    given = arguments(method, W)
    given["W"] = W
    if dtype == np.float64 and "estimate" in given:
        given["estimate"] = estimate(dtype="float64")
    if dtype == np.float64 and "inputs" in given:
        given["inputs"] = inputs(by_peak=True, dtype="float64")
    s = loraga.start(method, **given, anchor="in_place")
    now = W + s.scale * s.B.astype(np.float64) @ s.A
    rounding = {np.float32: 2e-6, np.float64: 1e-14, np.float16: 4e-3}[dtype]
    assert np.abs(now - before).max() < rounding * max(1, np.abs(before - W).max())
    assert np.abs(W - before).max() > 1e-3


def test_many_starts_at_once():
    names = ["a", "b", "c"]
    W = {n: W0.copy() for n in names}
    e = {n: estimate() for n in names}
    found = loraga.start_all("lora-ga", names, W=W, estimate=e, rank={"a": 2, "b": 4, "c": 4}, anchor="in_place")
    assert list(found) == names and [found[n].rank for n in names] == [2, 4, 4]
    assert np.array_equal(found["b"].A, found["c"].A)
    random = loraga.start_all("lora", names, shape=dict.fromkeys(names, (OUT, IN)), rank=4)
    assert not np.array_equal(random["a"].A, random["b"].A)
    same = loraga.start_all("lora", names, shape=dict.fromkeys(names, (OUT, IN)), rank=4)
    assert np.array_equal(random["b"].A, same["b"].A)


def test_nothing_changes_where_one_layer_is_refused():
    W = {"a": W0.copy(), "b": W0.copy()}
    empty = loraga.Estimate(OUT, IN, rank=RANK)
    with pytest.raises(ValueError, match=r"initialise\(b\): gradient is an empty accumulator"):
        loraga.start_all("lora-ga", ["a", "b"], W=W, estimate={"a": estimate(), "b": empty}, rank=RANK, anchor="in_place")
    assert np.array_equal(W["a"], W0) and np.array_equal(W["b"], W0)
    with pytest.raises(ValueError, match=r"start\(b\): W is overlapping that of a"):
        shared = {"a": W["a"], "b": W["a"]}
        loraga.start_all("pissa", ["a", "b"], W=shared, rank=RANK, anchor="in_place")
    W["b"][3, 4] = np.nan
    with pytest.raises(ValueError, match=r"start\(b\): W is not finite"):
        loraga.start_all("gaussian-pair", ["a", "b"], W=W, rank=RANK, anchor="in_place")
    assert np.array_equal(W["a"], W0)


@pytest.mark.parametrize(
    ("method", "more", "sentence"),
    [
        ("magic", {}, "start: method is 'magic', expected lora, gaussian,"),
        ("lora_ga", {}, r"start: method is 'lora_ga', .* or lora-sb \(did you mean lora-ga\?\)"),
        ("pissa", {"anchor": "pair"}, r"start\(the layer\): W is missing, expected the layer's weight, which pissa reads"),
        ("lora", {"shape": (OUT, IN), "rank": 41}, "rank is 41, expected at most 40 for 48x40"),
        ("lora", {"shape": (OUT, IN), "rank": 0}, "rank is 0, expected at least 1"),
        ("lora", {"shape": (OUT, IN), "seed": -1}, "start: seed is -1, expected at least 0"),
        ("lora", {"shape": (10**30, IN)}, "shape is 1000000000000000000000000000000, expected at most 2147483647"),
        ("lora-ga", {"estimate": True}, "start: anchor is missing with method lora-ga, expected 'in_place'"),
        ("lora", {"anchor": "pair", "shape": (OUT, IN)}, "start: anchor is given with method lora, expected nothing"),
        ("lora", {}, r"shape is not known, expected W, an estimate or shape="),
        ("lora", {"shape": (OUT, IN), "gamma": 3.0}, "gamma is given with method lora, expected with lora-ga, lora-one or"),
        ("lora", {"shape": (OUT, IN), "estimate": True}, "estimate is given with method lora, expected nothing"),
        ("lora-ga", {"anchor": "pair"}, "estimate is missing with method lora-ga, expected an Estimate"),
        ("pissa", {"anchor": "pair", "shape": (OUT, IN)}, "W is missing, expected the layer's weight, which pissa reads"),
        ("eva", {"shape": (OUT, IN)}, "inputs is missing with method eva"),
        ("lora-ga", {"estimate": True, "anchor": "pair", "rank": 21}, "rank is 21, expected at most 20 for 48x40"),
        ("lora-ga", {"estimate": True, "anchor": "pair", "gamma": -1.0}, "gamma is -1"),
        ("lora-ga", {"estimate": True, "anchor": "somewhere"}, "anchor is 'somewhere', expected in_place or pair"),
        ("lora-ga", {"estimate": True, "anchor": "in_place"}, "W is missing with anchor 'in_place'"),
        ("lora", {"shape": (OUT, IN), "scaling": "big"}, "scaling is 'big', expected rslora or lora"),
        ("orthogonal", {"shape": (OUT, IN), "rank": 3}, "rank is 3"),
    ],
)
def test_refusals(method, more, sentence):
    given = {"rank": RANK, **more}
    if given.get("estimate"):
        given["estimate"] = estimate()
    with pytest.raises(ValueError, match=sentence):
        loraga.start(method, **given)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"gama": 1.0}, r"start: gama is unknown, expected gamma, step, .* or clip \(did you mean gamma\?\)"),
        ({"rank": 4.0}, r"rank is 4\.0, of type float, expected a whole number"),
        ({"rank": True}, "rank is True, of type bool, expected a whole number"),
        ({"alpha": "16"}, "alpha is '16', of type str, expected a number"),
        ({"estimate": MEAN}, "estimate is of type ndarray, expected an Estimate"),
    ],
)
def test_arguments_of_other_types(more, sentence):
    with pytest.raises(TypeError, match=sentence):
        loraga.start("lora", **{"shape": (OUT, IN), **more})
    assert loraga.start("lora", shape=(OUT, IN), rank=np.int64(3)).rank == 3


@pytest.mark.parametrize(
    ("arguments", "refusal", "sentence"),
    [
        ({"rank": 4.0}, TypeError, r"Estimate: rank is 4\.0, of type float, expected a whole number"),
        ({"rank": 41}, ValueError, "Estimate: rank is 41, expected 1 to 40"),
        ({"rank": 0}, ValueError, "Estimate: rank is 0, expected 1 to 40"),
        ({"seed": -1}, ValueError, "Estimate: seed is -1, expected 0 to"),
        ({"out_features": 0}, ValueError, "Estimate: out_features is 0, expected 1 to"),
        ({"out_features": 10**30}, ValueError, "Estimate: out_features is 10{30}, expected 1 to"),
        (
            {"out_features": 2**31 - 1, "in_features": 2**31 - 1, "kind": "dense"},
            MemoryError,
            r"Estimate: it takes 17179869168\.0* GiB, expected a size that fits",
        ),
    ],
)
def test_estimates_that_cannot_be(arguments, refusal, sentence):
    with pytest.raises(refusal, match=sentence):
        loraga.Estimate(**{"out_features": OUT, "in_features": IN, **arguments})


def test_starts_that_do_not_fit_into_memory():
    with pytest.raises(MemoryError, match=r"start: out of memory.* A and B of the shapes given take 288230376017494016 bytes"):
        loraga.start("lora", shape=(2**31 - 1, 2**31 - 1), rank=2**24)


def test_a_rank_above_the_estimates():
    e = estimate("incremental")
    assert e.width == 16 and estimate().width == IN
    sentence = r"rank is 9, and the estimate keeps 16 triplets, expected an Estimate\(\.\.\., rank=9\) or Estimate\(\.\.\., width=18\)"
    with pytest.raises(ValueError, match=sentence):
        loraga.start(estimate=e, rank=9, anchor="pair")


@pytest.mark.parametrize("kind", ["dense", "incremental"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_of_few_directions_warns(kind, dtype):
    def of_tokens(n):
        e = loraga.Estimate(OUT, IN, rank=RANK, kind=kind, dtype=dtype)
        e.add(*(np.ascontiguousarray(part[:n]) for part in BATCHES[0]))
        return e

    with pytest.warns(UserWarning, match=r"start\(q\): the gradient has 7 directions, and rank 4 of lora-ga takes 8: .*most 3"):
        s = loraga.start(estimate=of_tokens(7), rank=RANK, anchor="pair", module="q")
    assert np.isnan(s.coverage) == (kind == "incremental")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loraga.start(estimate=of_tokens(8), rank=RANK, anchor="pair")


def test_mappings_that_lack_a_module():
    with pytest.raises(ValueError, match=r"start_all: estimate lacks layer\.1, .*\(did you mean layer\.0\?\)"):
        loraga.start_all("lora-ga", ["layer.1"], estimate={"layer.0": estimate()}, anchor="pair")
    with pytest.raises(TypeError, match="start_all: W is of type ndarray, expected a mapping"):
        loraga.start_all("pissa", ["a"], W=W0, anchor="pair")


def test_start_all_takes_starts_keywords():
    e = estimate()
    one = loraga.start(estimate=e, rank=RANK, anchor="pair", gamma=64.0, directions="A2rBr")
    many = loraga.start_all("lora-ga", ["a"], estimate={"a": e}, rank=RANK, anchor="pair", gamma=64.0, directions="A2rBr")
    assert np.array_equal(one.A, many["a"].A) and not np.array_equal(one.A, loraga.start(estimate=e, rank=RANK, anchor="pair").A)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_starts_are_kept(tmp_path, dtype):
    kept_in = "float64" if dtype == np.float64 else "float32"
    W, e = W0.astype(dtype), estimate(dtype=kept_in)
    starts = loraga.start_all("lora-ga", ["q"], W={"q": W}, estimate={"q": e}, rank=RANK, anchor="in_place")
    starts["k"] = loraga.start("lora", shape=(OUT, IN), rank=3, module="k")
    loraga.save_starts(tmp_path / "starts.npz", starts)
    assert [f.name for f in tmp_path.iterdir()] == ["starts.npz"]
    back = loraga.load_starts(tmp_path / "starts.npz")
    assert list(back) == ["q", "k"]
    for name, s in starts.items():
        b = back[name]
        assert np.array_equal(b.A, s.A) and np.array_equal(b.B, s.B) and b.A.dtype == s.A.dtype == (kept_in if name == "q" else "float32")
        assert (b.module, b.method, b.scale, b.anchor) == (s.module, s.method, s.scale, s.anchor)
        assert b.coverage == s.coverage or np.isnan(b.coverage) and np.isnan(s.coverage)
    anew = W0.astype(dtype)
    loraga.merge(anew, back["q"].A, back["q"].B, -back["q"].scale)
    assert np.array_equal(anew, W), "the original base, changed anew"
    assert np.array_equal(back["q"].record(back["q"].A, back["q"].B).start_A, starts["q"].record().start_A)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        loraga.save_starts(tmp_path / "starts.npz", starts)
    loraga.save_starts(tmp_path / "starts.npz", [starts["q"]], overwrite=True)
    assert list(loraga.load_starts(tmp_path / "starts.npz")) == ["q"]


def test_what_holds_no_starts(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    (tmp_path / "text").write_text("starts")
    with pytest.raises(ValueError, match="it holds no starts, expected a file of save_starts"):
        loraga.load_starts(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="it holds no starts"):
        loraga.load_starts(tmp_path / "text")
    np.savez(tmp_path / "later.npz", starts=np.array('{"format": "loraga starts 2", "starts": []}'))
    with pytest.raises(ValueError, match="format is 'loraga starts 2', expected 'loraga starts 1'"):
        loraga.load_starts(tmp_path / "later.npz")
    with pytest.raises(FileNotFoundError):
        loraga.load_starts(tmp_path / "nothing.npz")
    with pytest.raises(TypeError, match="a start is of type tuple, expected Start"):
        loraga.save_starts(tmp_path / "s.npz", [(1, 2)])


def test_lora_sb_wants_every_entry():
    with pytest.raises(ValueError, match="estimate is incremental with method lora-sb, expected Estimate"):
        loraga.start("lora-sb", estimate=estimate("incremental"), rank=RANK)


def test_refused_micro_batches_change_nothing():
    e = estimate("incremental")
    before = e.mean()
    dy, x = BATCHES[0]
    bad = dy.copy()
    bad[7, 7] = np.nan
    for call, sentence in [
        (lambda: e.add(bad, x), "Estimate.add: dy is not finite"),
        (lambda: e.add(dy[:, 1:], x), r"dy \(tokens x features\) is 96x47, expected 96x48"),
        (lambda: e.add(dy, x[1:]), r"dy \(tokens x features\) is 96x48, expected 95x48"),
        (lambda: e.add(dy[:0], x[:0]), r"dy \(tokens x features\) is 0x48, expected at least one token"),
        (lambda: loraga.add_batches([(e, dy[:0], x[:0])]), r"add_batches\(layer 0\): dy .* is 0x48"),
        (lambda: loraga.Inputs(IN).add(x[:0]), "expected 40 x tokens"),
        (lambda: e.add(dy, x, weight=0), "weight is 0"),
        (lambda: e.add_gradient(np.full((OUT, IN), np.nan, np.float32)), "dw is not finite"),
        (lambda: e.merge(estimate("dense")), "of another kind or dtype"),
        (lambda: e.merge(e), "this estimate itself"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            call()
    assert e.count == 3 and np.array_equal(e.mean(), before)


def test_ctrl_c_is_heard_between_layers():
    names = [str(i) for i in range(200)]
    W = {n: RNG.standard_normal((160, 160)).astype(np.float32) for n in names}
    before = {n: w.copy() for n, w in W.items()}
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        loraga.start_all("milora", names, W=W, rank=4, anchor="in_place")
    assert all(np.array_equal(W[n], before[n]) for n in names), "it was heard when all was done"
