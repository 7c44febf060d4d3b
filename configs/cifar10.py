"""A small Mixer on CIFAR-10, from a folder of JPEG or PNG images, on a CPU in under 25 minutes.

    python train.py --config=configs/cifar10.py --workdir=runs/cifar10 \\
        --config.data.source=folder:PATH
    python -m mlp_mixer plan --config=configs/cifar10.py --topology=v5e:1x1
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
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
    return config
