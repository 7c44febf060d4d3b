"""The architectures that a config can name, and what each of them supports."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn

from mlp_mixer.models import bit, mixer, vit


class Architecture(NamedTuple):
    """An architecture, such as the Mixer.

    Attributes:
        module: the Flax class, whose fields are those of config.model.
        create: makes a module from its fields.
        can_remat: whether the module has a field `remat`.
        can_resize: whether weights can be adapted to another input size; see `weights.resize`.
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
