"""A small Mixer on scikit-learn's handwritten digits: a first result in about a minute, offline.

python train.py --config=configs/digits.py --workdir=runs/digits
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0

    # The images: 8 x 8 grey, 1,437 to train on and 360 to test on.
    config.data = ml_collections.ConfigDict()
    config.data.source = "digits"
    config.data.train_split = "train"
    config.data.test_split = "test"
    config.data.examples_per_class = 0  # to train on; 0 for all
    config.data.in_memory = True
    config.image_size = (8, 8)  # height, width in pixels
    config.image_channels = 1
    config.augment = ml_collections.ConfigDict()  # see mlp_mixer/data/augment.py
    config.augment.rotate = 10.0  # degrees
    config.augment.zoom = 0.1
    config.augment.shift = 1.0  # pixels
    config.eval_crop = 1.0  # share of the image that is seen, along each side

    config.model = ml_collections.ConfigDict()
    config.model.patch_size = (2, 2)
    config.model.num_blocks = 3
    config.model.hidden_dim = 64
    config.model.tokens_mlp_dim = 64
    config.model.channels_mlp_dim = 256
    config.model.stoch_depth = 0.0
    config.dtype = "auto"  # float32 on CPU, bfloat16 on TPU and GPU

    # Of each pair of durations exactly one is not 0 (of the warm-up's at most one).
    config.batch_size = 128
    config.accum_steps = 1
    config.total_epochs = 110.0
    config.total_steps = 0
    config.optimizer = "adam"
    config.lr = 0.005
    config.decay = "cosine"
    config.warmup_steps = 100
    config.warmup_epochs = 0.0
    config.weight_decay = 0.1  # AdamW's: multiplied by the rate; on kernels only
    config.grad_clip = 1.0  # global norm; 0 for none
    config.loss = "softmax"
    config.label_smoothing = 0.1

    config.log_every_steps = 100
    config.eval_every_epochs = 20.0
    config.eval_every_steps = 0
    config.checkpoint_every_epochs = 20.0
    config.checkpoint_every_steps = 0
    config.keep_checkpoints = 1
    return config
