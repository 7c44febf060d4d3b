"""A small Mixer on CIFAR-10, from a folder of JPEG or PNG images, on a CPU in under 25 minutes.

    python train.py --config=configs/cifar10.py --workdir=runs/cifar10 \\
        --config.data.source=folder:PATH
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0

    # The images: 32 x 32 RGB, 50,000 to train on and 10,000 to test on. "tfds:cifar10" works too.
    config.data = ml_collections.ConfigDict()
    config.data.source = "folder:cifar10"  # with train/ and test/, a folder for each class
    config.data.train_split = "train"
    config.data.test_split = "test"
    config.data.examples_per_class = 0  # to train on; 0 for all
    config.data.in_memory = True
    config.image_size = (32, 32)  # height, width in pixels
    config.image_channels = 3
    config.augment = ml_collections.ConfigDict()  # see mlp_mixer/data/augment.py
    config.augment.pad_crop = 4  # pixels
    config.augment.flip = True
    config.eval_crop = 1.0  # share of the image that is seen, along each side

    config.model = ml_collections.ConfigDict()
    config.model.patch_size = (4, 4)
    config.model.num_blocks = 4
    config.model.hidden_dim = 64
    config.model.tokens_mlp_dim = 64
    config.model.channels_mlp_dim = 256
    config.model.stoch_depth = 0.0
    config.dtype = "auto"  # float32 on CPU, bfloat16 on TPU and GPU

    # Of each pair of durations exactly one is not 0 (of the warm-up's at most one).
    config.batch_size = 128
    config.accum_steps = 1
    config.total_epochs = 11.0
    config.total_steps = 0
    config.optimizer = "adam"
    config.lr = 0.003
    config.decay = "cosine"
    config.warmup_epochs = 1.0
    config.warmup_steps = 0
    config.weight_decay = 0.1  # AdamW's: multiplied by the rate; on kernels only
    config.grad_clip = 1.0  # global norm; 0 for none
    config.loss = "softmax"
    config.label_smoothing = 0.0

    config.log_every_steps = 100
    config.eval_every_epochs = 1.0
    config.eval_every_steps = 0
    config.checkpoint_every_epochs = 5.0
    config.checkpoint_every_steps = 0
    config.keep_checkpoints = 1
    return config
