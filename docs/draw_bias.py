"""Draw bias and noise of the sampled softmax gradient against the number of negatives, for each correction.

    python docs/draw_bias.py [FILE]

Without a file it writes bias.svg beside itself.
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

NEGATIVES = [10, 30, 100, 300, 1000]


def draw(file: Path, replicates: int = 4000) -> None:
    """Write the picture."""
    rng = np.random.default_rng(0)
    scores = 2 * rng.standard_normal((4, 1000))
    target = sf.sample_scores(scores, 1, rng=1).ids[:, 0]
    zipf = sf.AliasTable(1 / np.arange(1.0, 1001))
    figure, (bias, noise) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    for colour, correction in zip(("C0", "C1", "C2"), ("all", "negatives", "none"), strict=True):
        table = sf.estimate_bias_variance(
            "sampled_softmax", scores, target, zipf, NEGATIVES, correction=correction, replicates=replicates
        )
        for axes, name in ((bias, "gradient_bias"), (noise, "gradient_std")):
            found = getattr(table, name)
            is_seen = found > 2 * table.gradient_bias_error if axes is bias else found > 0
            axes.plot(table.m[is_seen], found[is_seen], "o-", color=colour, label=correction)
            axes.plot(table.m, getattr(table, f"theory_{name}"), "--", color=colour)
    bias.set(
        xlabel="negatives",
        ylabel="of the gradient",
        title="bias, above what draws can tell",
        xscale="log",
        yscale="log",
    )
    noise.set(xlabel="negatives", title="standard deviation", xscale="log")
    for axes in (bias, noise):
        axes.grid(alpha=0.3)
        axes.legend(title="correction; dashed: theory", fontsize=8)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix("").with_name("bias.svg"))
