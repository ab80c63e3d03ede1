"""Principal components by random projection."""

from __future__ import annotations

import torch
from torch import Tensor


def main_loadings(matrix: Tensor, start: Tensor, rounds: int) -> Tensor:
    """Loadings of the columns on the main components: right singular vectors of the matrix in a random subspace.

    The subspace is that of the matrix times ``start``, after power iterations with an orthonormal basis in each (Halko, Martinsson
    and Tropp 2011, algorithms 4.4 and 5.1). It is that of the greatest singular values only approximately, so another start gives
    other vectors.

    Args:
        matrix: [R, N] float64, centred by the caller.
        start: [N, q] with q at most R and N.
        rounds: Power iterations.

    Returns:
        [N, q], by descending singular value; signs are arbitrary.
    """
    basis = torch.linalg.qr(matrix @ start).Q
    for _ in range(rounds):
        basis = torch.linalg.qr(matrix.T @ basis).Q
        basis = torch.linalg.qr(matrix @ basis).Q
    found: Tensor = torch.linalg.svd(basis.T @ matrix, full_matrices=False).Vh.T
    return found
