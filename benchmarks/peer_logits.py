"""ViT and BiT against other implementations: the same weights and images, the logits of both.

    python -m benchmarks.peer_logits --vision-transformer ../vision_transformer

Prints what vision_transformer (Flax) and timm (PyTorch) compute for the small models of
tests/models/test_vit_and_bit.py, which holds these numbers, how far ours are from them, and the
parameter counts of timm's BiT models. Needs timm and pytest; the argument is a checkout of
google-research/vision_transformer.
"""

import argparse
import re
import sys
from functools import partial

import jax
import numpy as np
import torch

from benchmarks.timm_logits import import_timm
from mlp_mixer.models import bit
from tests.models import test_vit_and_bit as tests

timm = import_timm()
from timm.layers import GroupNormAct, StdConv2d  # noqa: E402
from timm.models.resnetv2 import ResNetV2  # noqa: E402

# Names of BiT's arrays, ours to timm's.
NAMES = (
    (r"conv_root", "stem.conv"),
    (r"stage(\d+)_unit(\d+)", lambda m: f"stages.{int(m[1]) - 1}.blocks.{int(m[2]) - 1}"),
    (r"conv_proj", "downsample.conv"),
    (r"gn(\d)", r"norm\1"),
    (r"head", "head.fc"),
    (r"kernel|scale", "weight"),
    (r"/", "."),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vision-transformer", required=True, metavar="CHECKOUT")
    sys.path.insert(0, parser.parse_args().vision_transformer)
    jax.config.update("jax_default_matmul_precision", "highest")
    for small, peer in ((tests.small_vit, flax_vit), (tests.small_bit, timm_bit)):
        module = small()
        named, images = tests.seeded(module)
        theirs = peer(module, named, images)
        ours = module.apply({"params": tests.nested(named)}, images)
        print(small.__name__, np.array2string(theirs, separator=", ", precision=8))
        print(f"largest difference to ours: {np.abs(ours - theirs).max():.1e}")
    for variant in bit.VARIANTS:
        layers, factor = variant[1:].split("x")
        with torch.device("meta"):
            model = ResNetV2(bit.STAGES[int(layers)], width_factor=int(factor), **_bit_layers(32))
        print(variant, f"{sum(p.numel() for p in model.parameters()):,}")
    print(f"timm {timm.__version__}, torch {torch.__version__}, jax {jax.__version__}")


def flax_vit(module, named: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    from vit_jax import models_vit

    (patch, _), transformer = module.patch_size, dict(
        num_layers=module.num_blocks, mlp_dim=module.mlp_dim, num_heads=module.num_heads
    )  # fmt: skip
    theirs = models_vit.VisionTransformer(
        module.num_classes, argparse.Namespace(size=(patch, patch)), transformer, module.hidden_dim
    )
    return np.asarray(theirs.apply({"params": tests.nested(named)}, images, train=False))


def timm_bit(module, named: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    theirs = ResNetV2(
        module.stages,
        [4 * module.width * 2**i for i in range(len(module.stages))],
        stem_chs=module.width,
        num_classes=module.num_classes,
        **_bit_layers(module.groups),
    )
    state = {}
    for ours, array in named.items():
        name, kernel = ours, array[None, None] if array.ndim == 2 else array  # the head is a 1x1
        for pattern, new in NAMES:
            name = re.sub(pattern, new, name)
        state[name] = torch.tensor(kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel)
    theirs.load_state_dict(state)
    with torch.no_grad():
        return theirs.eval()(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()


def _bit_layers(groups: int) -> dict:
    """What timm's resnetv2_*_bit models are made with."""
    return dict(
        stem_type="fixed",
        conv_layer=partial(StdConv2d, eps=1e-8),
        norm_layer=partial(GroupNormAct, num_groups=groups),
    )


if __name__ == "__main__":
    main()
