"""Truncated SVDs against numpy's."""

import numpy as np
import pytest

import loraga


def spectrum(out, in_, falloff=0.8, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    k = min(out, in_)
    u, _ = np.linalg.qr(rng.standard_normal((out, k)))
    v, _ = np.linalg.qr(rng.standard_normal((in_, k)))
    return ((u * falloff ** np.arange(k)) @ v.T).astype(dtype)


METHODS = [
    ("auto", {}, 2e-3),
    ("tight", {}, 2e-4),
    ("gram", {}, 1e-6),
    ("exact", {}, 1e-6),
    ("krylov", {"block": 8, "depth": 6}, 1e-4),
    ("subspace", {"width": 24, "iterations": 4}, 1e-4),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(200, 96), (96, 200)])
@pytest.mark.parametrize(("method", "options", "loss"), METHODS)
def test_energies_and_subspaces(method, options, loss, shape, dtype):
    G, k = spectrum(*shape, dtype=dtype), 8
    U, s, V, energy, flags = found = loraga.svd(G, k, method=method, **options)
    u, sigma, vt = np.linalg.svd(G.astype(np.float64), full_matrices=False)
    assert U.dtype == s.dtype == V.dtype == dtype and flags == 0
    assert U.shape == (shape[0], k) and V.shape == (shape[1], k) and s.shape == (k,)
    assert energy == pytest.approx((sigma**2).sum(), rel=1e-5)
    best = (sigma[:k] ** 2).sum() / (sigma**2).sum()
    assert best * (1 - loss) <= found.captured <= best * (1 + 1e-5)
    for vectors in (U, V):
        assert np.abs(vectors.T.astype(np.float64) @ vectors - np.eye(k)).max() < 1e-5
    assert np.allclose(U.T @ G @ V, np.diag(s), atol=2e-5)
    if method in ("gram", "exact"):
        for mine, exact in ((U, u[:, :k]), (V, vt[:k].T)):
            assert np.abs(mine @ mine.T - exact @ exact.T).max() < 2e-5
        assert np.allclose(s, sigma[:k], rtol=1e-5)


def test_strides_are_respected():
    G = spectrum(60, 40)
    want = loraga.svd(G, 4)
    padded = np.full((60, 50), np.nan, np.float32)
    padded[:, 5:45] = G
    for view in (np.asfortranarray(G), padded[:, 5:45], np.ascontiguousarray(G.T).T):
        got = loraga.svd(view, 4)
        assert np.allclose(got.s, want.s, rtol=1e-6)
        assert np.allclose(got.U @ np.diag(got.s) @ got.V.T, want.U @ np.diag(want.s) @ want.V.T, atol=1e-6)


def test_half_precision_is_widened():
    G = spectrum(40, 30).astype(np.float16)
    assert np.array_equal(loraga.svd(G, 3).U, loraga.svd(G.astype(np.float32), 3).U)


def test_same_bits_with_any_number_of_threads():
    before, G = loraga.threads(), spectrum(700, 600, 0.97)
    results = []
    try:
        for n in (1, 2, 3):
            loraga.set_threads(n)
            assert loraga.threads() == n
            results.append(loraga.svd(G, 16))
    finally:
        loraga.set_threads(before)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0][:3], other[:3]))


def test_flags_are_refused_or_returned():
    zero, broken = np.zeros((9, 7), np.float32), np.full((9, 7), np.nan, np.float32)
    with pytest.raises(ValueError, match=r"svd: G is zero, expected finite and not zero"):
        loraga.svd(zero, 2)
    with pytest.raises(ValueError, match=r"svd: G is not finite"):
        loraga.svd(broken, 2)
    assert loraga.svd(zero, 2, check=False).flags == 2
    assert loraga.svd(broken, 2, check=False).flags == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rank": 8}, r"k is 8, expected 1\.\.7"),
        ({"rank": 0}, r"k is 0"),
        ({"rank": 2, "method": "magic"}, "svd: method is 'magic', expected auto, tight"),
        ({"rank": 2, "width": 4}, "svd: width or iterations is given with method 'auto', expected with 'subspace' alone"),
        ({"rank": 2, "depth": 4}, "svd: block or depth is given"),
    ],
)
def test_refusals(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        loraga.svd(spectrum(9, 7), **arguments)


def test_whole_numbers_and_empty_matrices():
    G = spectrum(9, 7)
    with pytest.raises(TypeError, match=r"svd: rank is 2\.0, of type float, expected a whole number"):
        loraga.svd(G, 2.0)
    with pytest.raises(ValueError, match="svd: seed is -1, expected at least 0"):
        loraga.svd(G, 2, seed=-1)
    for shape in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match=r"svd: G is empty, of shape \("):
            loraga.svd(np.zeros(shape, np.float32), 1)


def test_diagnostics():
    G = spectrum(50, 40)
    U, s, V, *_ = loraga.svd(G, 8, method="exact")
    found = loraga.alignment(G, V[:, :4].T, U[:, 4:8])
    assert found.attained == pytest.approx(1, abs=1e-4) and 0 < found.cosine <= 1
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((4, 40)).astype(np.float32), rng.standard_normal((50, 4)).astype(np.float32)
    step = G @ a.T @ a + b @ b.T @ G
    cosine = (step * G).sum() / np.linalg.norm(step) / np.linalg.norm(G)
    assert loraga.alignment(G, a, b).cosine == pytest.approx(cosine, rel=1e-5)
    assert loraga.effective_rank([1.0, 1.0, 1.0]) == pytest.approx(3)
    assert loraga.effective_rank(np.array([2.0, 0.0])) == pytest.approx(1)
    with pytest.raises(ValueError, match="alignment: A is 4x39, expected 4x40"):
        loraga.alignment(G, a[:, :39], b)
