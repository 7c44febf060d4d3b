"""MLP-Mixer (arXiv 2105.01601) on JAX: pretrain, transfer, and use the published weights.

module = mlp_mixer.create("B/16", num_classes=1000, image_size=224)
module, params = mlp_mixer.load("imagenet21k/Mixer-B_16")  # or a file; see docs/weights.md
logits = module.apply({"params": params}, images)  # float [n, 224, 224, 3] in [-1, 1]
"""

try:
    import fcntl  # noqa: F401
except ImportError:
    raise ImportError("mlp_mixer runs on Linux and macOS; on Windows use WSL") from None

from mlp_mixer.models.mixer import MlpMixer, create
from mlp_mixer.weights.load import load
from mlp_mixer.weights.save import save

__all__ = ["MlpMixer", "create", "load", "save"]
