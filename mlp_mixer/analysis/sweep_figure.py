"""A figure of a sweep: its dev accuracies, and its test."""

from typing import Any

from matplotlib.figure import Figure

from mlp_mixer.analysis import figures


def draw(result: dict[str, Any]) -> Figure:
    """Draws accuracy against learning rate, from the result of `training.sweep.sweep`."""
    points = sorted((lr, x) for lr, x in result["dev"].items() if x is not None)
    figure, axes = figures.new(1, 1, figsize=(5, 3.5))
    ax = axes[0, 0]
    ax.plot(*zip(*points, strict=True), marker="o", label="dev")
    for name, value in result["test"].items():
        if name.endswith("/accuracy"):
            label = f"{name.removesuffix('/accuracy')}, trained on everything"
            ax.plot(result["lr"], value, "*", ms=18, mec="white", label=label)
    ax.set(xscale="log", xlabel="learning rate", ylabel="accuracy", title=result["source"])
    ax.set_xticks([lr for lr, _ in points], [f"{lr:g}" for lr, _ in points])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter("{x:.1%}")
    figures.clean(ax)
    ax.legend(frameon=False)
    return figure
