"""A Mixer on CIFAR-10, from a folder of JPEG or PNG images.

    python train.py --config=configs/cifar10.py --workdir=runs/cifar10 \\
        --config.data.source=folder:PATH
    python train.py --config=configs/cifar10.py:nano --workdir=runs/cifar10_nano \\
        --config.data.source=folder:PATH
    mlp-mixer plan --config=configs/cifar10.py --topology=v5e:1x1

The argument is `small`, 0.17 M parameters and under 25 minutes on two CPU cores, or `nano`, 1.13 M
parameters and some hours of them: the recipe of the weights cifar10/Mixer-nano, which come with the
package (docs/results/mixer_nano.md). A GPU waits for images unless many CPUs read them:
--config.data.in_memory=False --config.data.workers=15. nano has the widths of the Mixer-nano of
github.com/omihub777/MLP-Mixer-CIFAR, which reaches 90.83 % there in 300 epochs with CutMix,
AutoAugment and Adam.
"""

import ml_collections

from configs import common


def get_config(size: str = "small") -> ml_collections.ConfigDict:
    if size not in ("small", "nano"):
        raise ValueError(f"configs/cifar10.py:{size}: write small or nano")
    config = common.base()

    # The images: 32 x 32 RGB, 50,000 to train on and 10,000 to test on. "tfds:cifar10" works too.
    config.data.source = "folder:cifar10"  # with train/ and test/, a folder for each class
    config.data.in_memory = True
    config.image_size = (32, 32)
    config.augment.pad_crop = 4  # pixels
    config.augment.flip = True

    config.model.patch_size = (4, 4)
    config.model.num_blocks = 4
    config.model.hidden_dim = 64
    config.model.tokens_mlp_dim = 64
    config.model.channels_mlp_dim = 256

    config.batch_size = 128
    config.total_epochs = 11.0
    config.lr = 0.003
    config.warmup_epochs = 1.0
    config.weight_decay = 0.1

    config.eval_every_epochs = 1.0
    config.checkpoint_every_epochs = 5.0
    if size == "nano":
        _make_nano(config)
    return config


def _make_nano(config: ml_collections.ConfigDict) -> None:
    config.model.num_blocks = 8
    config.model.hidden_dim = 128
    config.model.channels_mlp_dim = 512

    # Augmentation and smoothing are those of the model's origin, see above. Nothing else was
    # searched for; three epochs gave 57.7 % with Muon, and 48.7 % with Adam at a rate of 0.0015.
    config.augment.autoaugment = "cifar10"
    config.cutmix = 1.0
    config.label_smoothing = 0.1
    config.optimizer = "muon"
    config.lr = 0.003
    config.decay_end = 0.001
    config.weight_decay = 0.05
    config.ema = 0.999  # an average over about five epochs

    config.batch_size = 256
    config.total_epochs = 120.0
    config.warmup_epochs = 2.0
    config.eval_every_epochs = 5.0
