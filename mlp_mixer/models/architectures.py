"""The models that a config's `architecture` names; each module has a `create`."""

from mlp_mixer.models import bit, mixer, vit

ARCHITECTURES = {"mixer": mixer, "vit": vit, "bit": bit}
