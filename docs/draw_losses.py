"""Draw each loss and each map of the softmax family for two classes, by the functions themselves.

    python docs/draw_losses.py [FILE]

Without a file it writes losses.svg beside itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

import softmaxfam_rs as sf

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "softmaxfam"  # the same file from the same functions
from matplotlib import pyplot as plt  # noqa: E402

LOSSES = {
    "cross_entropy": sf.cross_entropy,
    "entmax_loss, alpha 0.5": lambda x, y, **o: sf.entmax_loss(x, y, 0.5, **o),
    "entmax_loss, alpha 1.5": sf.entmax_loss,
    "sparsemax_loss": sf.sparsemax_loss,
    "entmax_loss, alpha 4": lambda x, y, **o: sf.entmax_loss(x, y, 4.0, **o),
    "perceptron_loss": sf.perceptron_loss,
    "normmax_loss, alpha 2": sf.normmax_loss,
    "rankmax_loss": sf.rankmax_loss,
}
MAPS = {
    "softmax": sf.softmax,
    "entmax, alpha 0.5": lambda x: sf.entmax(x, 0.5),
    "entmax, alpha 1.5": sf.entmax,
    "sparsemax": sf.sparsemax,
    "entmax, alpha 4": lambda x: sf.entmax(x, 4.0),
    "entmax, alpha inf": lambda x: sf.entmax(x, np.inf),
    "normmax, alpha 2": sf.normmax,
}


def draw(file: Path) -> None:
    """Write the picture."""
    lead = np.linspace(-3, 3, 601)
    scores = np.stack([lead, np.zeros_like(lead)], axis=1)
    labels = np.zeros(len(lead), dtype=int)
    figure, (losses, maps) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, loss in LOSSES.items():
        losses.plot(lead, loss(scores, labels, reduction="none"), label=name)
    losses.set(xlabel="score of the target above that of the other class", ylabel="loss", ylim=(-0.05, 3.2))
    for name, of_scores in MAPS.items():
        maps.plot(lead, of_scores(scores)[:, 0], label=name)
    maps.set(xlabel="score of the class above that of the other", ylabel="probability of the class")
    for axes in (losses, maps):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix("").with_name("losses.svg"))
