"""The results of the paper: Table 3 of "MLP-Mixer" (arXiv 2105.01601 v4)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row of Table 3: a model that was pretrained on `data`, then fine-tuned.

    Mixer and ViT are means of three fine-tuning runs (deviation under 0.15). The evaluation crop
    was "resmall", except for BiT on ImageNet; see docs/reference/evaluation.md.

    Attributes:
        model: such as "Mixer-B/16".
        data: pretraining data: "ImageNet", "ImageNet-21k" or "JFT-300M".
        px: side of the images in pixels, for fine-tuning and evaluation.
        epochs: epochs of pretraining.
        imagenet: top-1 accuracy on ImageNet's validation set, in per cent.
        real: the same with the labels of ImageNet-ReaL.
        avg5: mean of `imagenet` and the accuracies on CIFAR-10, CIFAR-100, Pets and Flowers.
        throughput: images per second per TPUv3 core, at the best batch size.
        core_days: thousands of TPUv3 core-days of pretraining; those on ImageNet and ImageNet-21k
            are the paper's extrapolations.
    """

    model: str
    data: str
    px: int
    epochs: int
    imagenet: float
    real: float
    avg5: float | None
    throughput: float
    core_days: float


TABLE_3 = (
    Row("Mixer-B/16", "ImageNet", 224, 300, 76.44, 82.36, 88.33, 1384, 0.01),
    Row("ViT-B/16", "ImageNet", 224, 300, 79.67, 84.97, 90.79, 861, 0.02),
    Row("Mixer-L/16", "ImageNet", 224, 300, 71.76, 77.08, 87.25, 419, 0.04),
    Row("ViT-L/16", "ImageNet", 224, 300, 76.11, 80.93, 89.66, 280, 0.05),
    Row("Mixer-B/16", "ImageNet-21k", 224, 300, 80.64, 85.80, 92.50, 1384, 0.15),
    Row("ViT-B/16", "ImageNet-21k", 224, 300, 84.59, 88.93, 94.16, 861, 0.18),
    Row("Mixer-L/16", "ImageNet-21k", 224, 300, 82.89, 87.54, 93.63, 419, 0.41),
    Row("ViT-L/16", "ImageNet-21k", 224, 300, 84.46, 88.35, 94.49, 280, 0.55),
    Row("Mixer-L/16", "ImageNet-21k", 448, 300, 83.91, 87.75, 93.86, 105, 0.41),
    Row("Mixer-S/32", "JFT-300M", 224, 5, 68.70, 75.83, 87.13, 11489, 0.01),
    Row("Mixer-B/32", "JFT-300M", 224, 7, 75.53, 81.94, 90.99, 4208, 0.05),
    Row("Mixer-S/16", "JFT-300M", 224, 5, 73.83, 80.60, 89.50, 3994, 0.03),
    Row("BiT-R50x1", "JFT-300M", 224, 7, 73.69, 81.92, None, 2159, 0.08),
    Row("Mixer-B/16", "JFT-300M", 224, 7, 80.00, 85.56, 92.60, 1384, 0.08),
    Row("Mixer-L/32", "JFT-300M", 224, 7, 80.67, 85.62, 93.24, 1314, 0.12),
    Row("BiT-R152x1", "JFT-300M", 224, 7, 79.12, 86.12, None, 932, 0.14),
    Row("BiT-R50x2", "JFT-300M", 224, 7, 78.92, 86.06, None, 890, 0.14),
    Row("BiT-R152x2", "JFT-300M", 224, 14, 83.34, 88.90, None, 356, 0.58),
    Row("Mixer-L/16", "JFT-300M", 224, 7, 84.05, 88.14, 94.51, 419, 0.23),
    Row("Mixer-L/16", "JFT-300M", 224, 14, 84.82, 88.48, 94.77, 419, 0.45),
    Row("ViT-L/16", "JFT-300M", 224, 14, 85.63, 89.16, 95.21, 280, 0.65),
    Row("Mixer-H/14", "JFT-300M", 224, 14, 86.32, 89.14, 95.49, 194, 1.01),
    Row("BiT-R200x3", "JFT-300M", 224, 14, 84.73, 89.58, None, 141, 1.78),
    Row("Mixer-L/16", "JFT-300M", 448, 14, 86.78, 89.72, 95.13, 105, 0.45),
    Row("ViT-H/14", "JFT-300M", 224, 14, 86.65, 89.56, 95.57, 87, 2.30),
    Row("ViT-L/16", "JFT-300M", 512, 14, 87.76, 90.54, 95.63, 32, 0.65),
)

DATA = tuple(dict.fromkeys(row.data for row in TABLE_3))


def published(model: str, px: int, data: str | None = None) -> list[Row]:
    """Returns the rows of a model at an image size, for one pretraining or all."""
    return [
        row for row in TABLE_3 if (row.model, row.px) == (model, px) and data in (None, row.data)
    ]
