"""Draws plans: memory by use, beside what the device has, and throughput."""

import numpy as np
from matplotlib.figure import Figure

from mlp_mixer.analysis import figures
from mlp_mixer.planning.chips import GIB
from mlp_mixer.planning.estimate import Estimate, percent

COLORS = {
    "parameters": "#1d3557", "optimizer": "#457b9d", "batch": "#a8dadc", "padding": "#d9d9d9",
    "teacher": "#e9c46a", "outputs": "#b5838d", "activations": "#f4a261", "code": "#8d99ae",
    "needed": figures.WRONG,
}  # fmt: skip


def draw(plans: dict[str, Estimate]) -> Figure:
    """Draws a row for each plan: stacked bars of memory on the left, throughput on the right."""
    names = list(plans)
    height = 1.3 + 0.36 * len(names)
    figure, axes = figures.new(1, 2, figsize=(11, height), sharey=True, width_ratios=(3, 2))
    left, right = axes[0]
    positions = range(len(names))
    ends = [0.0] * len(names)
    for part, color in COLORS.items():
        sizes = [plan.program.memory.get(part, 0.0) / GIB for plan in plans.values()]
        if max(sizes) > 0.01 * max(plan.memory for plan in plans.values()) / GIB:
            left.barh(positions, sizes, left=ends, color=color, label=part, height=0.62)
        ends = [end + size for end, size in zip(ends, sizes, strict=True)]
    most = max(ends)
    capacities = [plan.capacity / GIB for plan in plans.values()]
    for position, (plan, capacity) in enumerate(zip(plans.values(), capacities, strict=True)):
        share = f"{percent(plan.memory / plan.capacity)} of {capacity:.4g}"
        left.text(ends[position] + 0.01 * most, position, share, va="center", fontsize=8)
    near = [(i, c) for i, c in enumerate(capacities) if c <= 1.2 * most]  # others are off the axis
    if near:
        rows, edges = np.array(near).T
        left.vlines(edges, rows - 0.4, rows + 0.4, color="black", lw=2, label="all there is")
    left.set(yticks=positions, yticklabels=names, xlabel="memory, GiB a device")
    left.set_xlim(0, 1.22 * most)
    left.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    rates = [plan.rate if plan.program.fits else 0 for plan in plans.values()]
    right.barh(positions, rates, color="#2a9d8f", height=0.62)
    right.set(xlabel="images/s a chip, estimated", xlim=(0, 1.35 * max(rates) or 1))
    if (fitting := [rate for rate in rates if rate]) and max(fitting) > 10 * min(fitting):
        right.set(xscale="log", xlim=(min(fitting) / 3, 100 * max(fitting)))
    for position, (plan, rate) in enumerate(zip(plans.values(), rates, strict=True)):
        text = f" {rate:,.0f}, MFU {percent(plan.mfu)}" if rate else " does not fit"
        right.text(rate or right.get_xlim()[0], position, text, va="center", fontsize=8)
    left.invert_yaxis()
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    return figure
