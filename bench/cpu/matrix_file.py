"""Files of matrices, as matrix_file.hpp has them: rows, cols as int32, then float32 column-major; one after another."""
import numpy as np


def read_matrices(path):
    matrices = []
    with open(path, "rb") as file:
        raw = file.read()
    while raw:
        rows, cols = np.frombuffer(raw, np.int32, 2)
        end = 8 + 4 * int(rows) * int(cols)
        matrices.append(np.frombuffer(raw[8:end], np.float32).reshape(cols, rows).T)
        raw = raw[end:]
    return matrices


def write_matrices(path, *matrices):
    with open(path, "wb") as out:
        for g in matrices:
            np.array(g.shape, dtype=np.int32).tofile(out)
            out.write(np.asfortranarray(g.astype(np.float32)).tobytes("F"))
