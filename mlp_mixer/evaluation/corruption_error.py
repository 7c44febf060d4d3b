"""From accuracies on corrupted images to ImageNet-C's numbers: CE, mCE, relative mCE.

Source: Hendrycks and Dietterich, arXiv 1903.12261, section 4; AlexNet's errors as their code and
google-research/robustness_metrics have them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlp_mixer.data.corruptions import COUNTED, SEVERITIES

# AlexNet's error on each corruption of ImageNet-C, the mean of five severities, and on ImageNet.
ALEXNET = {
    "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640,
    "defocus_blur": 0.819880, "glass_blur": 0.826268, "motion_blur": 0.785948,
    "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572, "fog": 0.819324,
    "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056,
    "pixelate": 0.717840, "jpeg_compression": 0.606500,
}  # fmt: skip
ALEXNET_CLEAN = 0.4348


@dataclass(frozen=True)
class Corrupted:
    """A model's accuracies on corrupted images, and what follows from them. All are shares.

    Attributes:
        accuracy: by corruption and by severity, 1 to 5.
        of_imagenet: whether these are ImageNet's classes. For others there is no baseline, and so
            no corruption error.
    """

    accuracy: Mapping[str, Mapping[int, float]]
    of_imagenet: bool = True

    @property
    def missing(self) -> list[str]:
        """The corruptions that count and lack severities, such as "fog" or "fog 2, 3"."""
        found = []
        for name in COUNTED:
            lacking = [str(s) for s in SEVERITIES if s not in self.accuracy.get(name, {})]
            if lacking:
                all_of_it = len(lacking) == len(SEVERITIES)
                found.append(name if all_of_it else f"{name} {', '.join(lacking)}")
        return found

    def means(self) -> dict[str, float]:
        """Returns the mean accuracy of each corruption that has all five severities."""
        return {
            name: float(np.mean([of[severity] for severity in SEVERITIES]))
            for name, of in self.accuracy.items()
            if set(of) == set(SEVERITIES)
        }

    def mean(self) -> float | None:
        """Returns the mean accuracy over the 15 corruptions that count; None if one is missing."""
        return self._mean_of(self.means())

    def ce(self) -> dict[str, float]:
        """Returns the corruption error of each that counts: its mean error over AlexNet's."""
        counted = {name: mean for name, mean in self.means().items() if name in COUNTED}
        return {
            name: (1 - mean) / ALEXNET[name] for name, mean in counted.items() if self.of_imagenet
        }

    def mce(self) -> float | None:
        """Returns the mean corruption error over the 15; None if one is missing."""
        return self._mean_of(self.ce())

    def relative_mce(self, clean_accuracy: float) -> float | None:
        """Returns the mean over the 15 of the rise of the error, over the rise of AlexNet's.

        Args:
            clean_accuracy: that on ImageNet's validation images, as a share.
        """
        rise = {
            name: (clean_accuracy - self.means()[name]) / (ALEXNET[name] - ALEXNET_CLEAN)
            for name in self.ce()
        }
        return self._mean_of(rise)

    def _mean_of(self, by_corruption: Mapping[str, float]) -> float | None:
        if not set(COUNTED) <= set(by_corruption):
            return None
        return float(np.mean([by_corruption[name] for name in COUNTED]))
