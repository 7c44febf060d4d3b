"""The models that a config's `architecture` names, and what can be done with each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn

from mlp_mixer.models import bit, mixer, vit


class Architecture(NamedTuple):
    """A kind of model.

    Attributes:
        module: its class, the fields of which are those of config.model.
        create: makes the module of its fields.
        can_remat: whether its module has a field `remat`.
        can_resize: whether weights of one input size can be made to fit another; see
            `weights.resize`.
    """

    module: type[nn.Module]
    create: Callable[..., Any]
    can_remat: bool = False
    can_resize: bool = False


ARCHITECTURES = {
    "mixer": Architecture(mixer.MlpMixer, mixer.create, can_remat=True, can_resize=True),
    "vit": Architecture(vit.VisionTransformer, vit.create),
    "bit": Architecture(bit.BiT, bit.create),
}
