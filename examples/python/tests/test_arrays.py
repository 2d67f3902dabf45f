"""What is taken for an array, what is not, and that nothing is copied."""

import os
import select
import signal
import threading
import time

import numpy as np
import pytest

import loraga

RNG = np.random.default_rng(0)


def numbers(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def peak_memory(work):
    """Bytes by which the process's peak of resident memory grows in `work`, run in a child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open("/proc/self/clear_refs", "w") as f:
                f.write("5")
            status = dict(line.split(":", 1) for line in open("/proc/self/status"))
            before = int(status["VmRSS"].split()[0])
            work()
            status = dict(line.split(":", 1) for line in open("/proc/self/status"))
            os.write(write, str(int(status["VmHWM"].split()[0]) - before).encode())
        finally:
            os._exit(0)
    os.close(write)
    text = os.read(read, 100).decode()
    os.close(read)
    os.waitpid(child, 0)
    return int(text) * 1024


def test_inputs_are_read_where_they_lie():
    tokens, out, in_ = 40000, 256, 256
    dy, x = numbers(tokens, out), numbers(tokens, in_)
    estimate = loraga.Estimate(out, in_, rank=4)
    warm = loraga.Estimate(out, in_, rank=4)
    warm.add(dy[:64], x[:64])
    grown = peak_memory(lambda: estimate.add(dy, x))
    thin = 3 * tokens * (estimate_width(4) + 16) * 4  # blocks of a few columns are the update's own
    assert grown < thin < dy.nbytes, (grown, dy.nbytes)


def estimate_width(rank):
    return 4 * rank


def test_in_place_changes_the_array_itself():
    W = numbers(40, 30)
    before, address = W.copy(), W.__array_interface__["data"]
    estimate = loraga.Estimate(40, 30, rank=3)
    estimate.add(numbers(64, 40), numbers(64, 30))
    started = loraga.start(W=W, estimate=estimate, rank=3, anchor="in_place")
    assert W.__array_interface__["data"] == address
    assert np.allclose(before - started.scale * started.B @ started.A, W, atol=1e-5)
    assert np.abs(before - W).max() > 0.01


def test_records_show_their_own_memory():
    record = loraga.Record("layer", numbers(2, 5), numbers(6, 2), 1.0)
    assert record.A.__array_interface__["data"] == record.A.__array_interface__["data"]
    assert not record.A.flags.writeable
    kept = record.A
    expected = kept.copy()
    del record
    assert np.array_equal(kept, expected)


def test_read_only_inputs_are_taken_and_refused_where_written():
    W, G = numbers(20, 10), numbers(20, 10)
    W.flags.writeable = G.flags.writeable = False
    estimate = loraga.Estimate(20, 10, rank=2)
    estimate.add_gradient(G)
    assert loraga.start(W=W, estimate=estimate, rank=2, anchor="pair").A.shape == (2, 10)
    with pytest.raises(ValueError, match=r"start\(q_proj\): W is read-only, expected an array that may be written"):
        loraga.start(W=W, estimate=estimate, rank=2, anchor="in_place", module="q_proj")
    with pytest.raises(ValueError, match="merge: W is read-only"):
        loraga.merge(W, numbers(2, 10), numbers(20, 2), 1.0)


@pytest.mark.parametrize(
    ("G", "refusal", "sentence"),
    [
        ([[1.0, 2.0]], TypeError, "G is of type list, expected an array in the CPU's memory"),
        (None, TypeError, "G is of type NoneType"),
        (np.zeros((4, 3), np.int32), TypeError, "G is an array of int32, expected float32, float64, float16 or bfloat16"),
        (np.zeros((4, 3), complex), TypeError, "G is an array of complex128"),
        (np.zeros(3, np.float32), ValueError, r"G is of shape \(3\), expected two dimensions"),
        (np.zeros((2, 4, 3), np.float32), ValueError, r"G is of shape \(2, 4, 3\)"),
        (np.zeros((8, 6), np.float32)[::2, ::2], ValueError, "G is a view with strides 12, 2, expected a unit stride"),
        (np.zeros((8, 6), np.float32)[:, ::-1], ValueError, "G is a view with strides 6, -1"),
        (np.broadcast_to(np.float32(1), (8, 6)), ValueError, "G is a view with strides 0, 0"),
    ],
)
def test_what_is_no_matrix_is_refused_by_name(G, refusal, sentence):
    with pytest.raises(refusal, match="svd: " + sentence):
        loraga.svd(G, 2)


def test_another_device_is_refused():
    class Elsewhere:
        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self, **_):
            raise AssertionError("memory of another device was asked for")

    with pytest.raises(ValueError, match=r"G is not in the CPU's memory \(DLPack calls its device 2\).*\.cpu\(\) copies"):
        loraga.svd(Elsewhere(), 2)


def test_numbers_are_never_rounded_in_silence():
    estimate = loraga.Estimate(6, 5, rank=2)
    with pytest.raises(TypeError, match=r"Estimate.add: dy is float64, .*or Estimate\(\.\.\., dtype='float64'\)"):
        estimate.add(numbers(4, 6, dtype=np.float64), numbers(4, 5))
    with pytest.raises(TypeError, match=r"add_gradient: dw is float64"):
        estimate.add_gradient(numbers(6, 5, dtype=np.float64))
    with pytest.raises(TypeError, match=r"Inputs.add: x is float64, .*or Inputs\(\.\.\., dtype='float64'\)"):
        loraga.Inputs(5).add(numbers(4, 5, dtype=np.float64))
    assert estimate.count == 0
    wide = loraga.Estimate(6, 5, rank=2, dtype="float64", kind="dense")
    dy, x = numbers(4, 6), numbers(4, 5)
    wide.add(dy, x)
    assert np.allclose(wide.mean(), dy.T.astype(np.float64) @ x, atol=1e-15)


def test_calls_of_many_threads_take_turns():
    estimate = loraga.Estimate(64, 48, rank=4, kind="dense")
    parts = [(numbers(128, 64), numbers(128, 48)) for _ in range(16)]
    workers = [threading.Thread(target=estimate.add, args=part) for part in parts]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert estimate.count == 16
    mean = sum(dy.T.astype(np.float64) @ x for dy, x in parts) / 16
    assert np.allclose(estimate.mean(), mean, atol=1e-4)


def test_python_runs_while_a_call_works():
    """The GIL is released: another thread is never kept waiting for long."""
    G, gaps, done = numbers(1200, 1200), [0.0], threading.Event()

    def tick():
        last = time.perf_counter()
        while not done.is_set():
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
            time.sleep(0.001)

    ticking = threading.Thread(target=tick)
    ticking.start()
    begin = time.perf_counter()
    loraga.svd(G, 64, method="exact")
    took = time.perf_counter() - begin
    done.set()
    ticking.join()
    assert max(gaps) < took / 2


def test_a_forked_process_has_threads_of_its_own():
    G = numbers(600, 500)
    want = loraga.svd(G, 4)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"same" if np.array_equal(loraga.svd(G, 4).U, want.U) else b"other")
        os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], 60)
    if not ready:
        os.kill(child, signal.SIGKILL)
    answer = os.read(read, 10)
    os.close(read)
    os.waitpid(child, 0)
    assert answer == b"same", "the child waits for threads that stayed behind"
