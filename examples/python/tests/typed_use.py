"""What a type checker sees: compiled by mypy --strict alone, never run. Lines that are wrong say so."""

import numpy as np
import numpy.typing as npt

import loraga

G: npt.NDArray[np.float32] = np.zeros((6, 5), np.float32)
U, s, V, energy, flags = loraga.svd(G, 2)
captured: float = loraga.svd(G, 2, method="exact").captured
estimate = loraga.Estimate(6, 5, rank=2, kind="dense")
estimate.add(G, G)
loraga.add_batches([(estimate, G, G)], weight=2.0)
start: loraga.Start = loraga.start("lora-ga", estimate=estimate, rank=2, anchor="pair", gamma=64.0)
many: dict[str, loraga.Start] = loraga.start_all("pissa", ["q"], W={"q": G}, rank=2, anchor="in_place", clip=False)
loraga.save_peft("adapter", many, relative_to="original")
loraga.save_starts("starts.npz", many)
kept: dict[str, loraga.Start] = loraga.load_starts("starts.npz")
loraga.save_peft("adapter", {"q": (start.A, start.B)}, scale=start.scale)
A: npt.NDArray[np.float32] = loraga.load_peft("adapter").records["q"].A
names: list[str] = loraga.methods()

loraga.svd(G, "2")  # type: ignore[arg-type]
loraga.svd([[1.0]], 2)  # type: ignore[arg-type]
loraga.start("lora", shape=(6, 5), anchor="somewhere")  # type: ignore[arg-type]
loraga.start_all("lora", ["q"], gama=1.0)  # type: ignore[call-arg]
