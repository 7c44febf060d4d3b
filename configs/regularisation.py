"""What the paper's extra regularisation does for a small Mixer on few images (its Table 4).

    python train.py --config=configs/regularisation.py:mixup --workdir=runs/mixup \\
        --config.data.source=folder:PATH
    mlp-mixer plan --config=configs/regularisation.py:all --topology=v5e:1x1

The argument is one of plain, mixup, randaugment, stoch_depth, all. Trains for many epochs on 2,000
images of CIFAR-10, where a Mixer overfits as the paper's do on ImageNet; everything else is that of
configs/permutation.py. What came out: docs/results/paper.md.

Strengths are Table 4's for B/16 on ImageNet but for RandAugment's magnitude: its shifts and cutouts
are in pixels, and made for 224 of them. 15 would push an image of 16 pixels out of the picture.
"""

import ml_collections

from configs import permutation

PARTS = ("mixup", "randaugment", "stoch_depth")


def get_config(argument: str = "all") -> ml_collections.ConfigDict:
    if argument not in ("plain", *PARTS, "all"):
        raise ValueError(
            f"configs/regularisation.py:{argument}: write plain, {', '.join(PARTS)} or all"
        )
    used = {"plain": (), "all": PARTS}.get(argument, (argument,))
    config = permutation.get_config("cifar10,mixer,original")
    if "mixup" in used:
        config.mixup = 0.5
    if "randaugment" in used:
        config.augment.randaugment_layers = 2
        config.augment.randaugment_magnitude = 1.0
    if "stoch_depth" in used:
        config.model.stoch_depth = 0.1

    config.data.examples_per_class = 200
    config.total_epochs = 120.0
    config.warmup_epochs = 2.0
    config.eval_every_epochs = 20.0
    config.checkpoint_every_epochs = 40.0
    return config
