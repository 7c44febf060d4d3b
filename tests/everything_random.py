"""A config for the tests: a short run in which all is random that can depend on the row."""

import ml_collections

from configs import digits


def get_config(group_size: int = 0, teacher: str = "") -> ml_collections.ConfigDict:
    """With GSAM in groups of so many images, or without. With a teacher, or without.

    Both have programs that take long to compile, so with them the model has one block, and no
    average.
    """
    config = digits.get_config()
    config.image_channels = 3  # for RandAugment
    config.augment.randaugment_layers = 2
    config.augment.randaugment_magnitude = 3.0
    config.mixup = 0.5
    config.cutmix = 1.0
    config.mixup_per_example = True
    config.ema = 0.5
    config.model.update(
        num_blocks=2, hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=32, stoch_depth=0.5
    )
    config.batch_size, config.accum_steps = 32, 2
    # Small: where the true gradient is zero (the second bias of token mixing, which the LayerNorm
    # after it takes out again) Adam makes steps of up to this size out of rounding errors.
    config.lr = 0.0003
    for name, steps in (("total", 4), ("warmup", 1), ("eval_every", 4), ("checkpoint_every", 2)):
        config[f"{name}_steps"], config[f"{name}_epochs"] = steps, 0.0
    config.log_every_steps, config.sheet_examples = 1, 0
    if teacher or group_size:
        config.model.num_blocks, config.ema = 1, 0.0
    if teacher:
        config.teacher, config.label_smoothing = teacher, 0.0
    if group_size:
        config.sam.update(rho_max=0.2, rho_min=0.05, alpha=0.4, group_size=group_size)
    return config
