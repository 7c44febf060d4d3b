"""A small Mixer on scikit-learn's handwritten digits: a first result in about a minute, offline.

python train.py --config=configs/digits.py --workdir=runs/digits
mlp-mixer plan --config=configs/digits.py --topology=v5e:1x1
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    config = common.base()

    # The images: 8 x 8 grey, 1,437 to train on and 360 to test on.
    config.data.source = "digits"
    config.data.in_memory = True
    config.image_size = (8, 8)
    config.image_channels = 1
    config.augment.rotate = 10.0  # degrees
    config.augment.zoom = 0.1
    config.augment.shift = 1.0  # pixels

    config.model.patch_size = (2, 2)
    config.model.num_blocks = 3
    config.model.hidden_dim = 64
    config.model.tokens_mlp_dim = 64
    config.model.channels_mlp_dim = 256

    config.batch_size = 128
    config.total_epochs = 110.0
    config.lr = 0.005
    config.warmup_steps = 100
    config.weight_decay = 0.1
    config.label_smoothing = 0.1

    config.eval_every_epochs = 20.0
    config.checkpoint_every_epochs = 20.0
    return config
