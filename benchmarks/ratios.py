"""How benchmarks write the ratios of their rounds."""

import statistics


def spread(ratios: list[float]) -> str:
    """Writes ratios as "median (least to most)"."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
