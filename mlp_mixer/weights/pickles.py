"""How to convert PyTorch's pickles, which are not read here because reading one can run code."""

import json
import shlex
from pathlib import Path

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")

# Keys under which training code saves weights: timm's (averaged ones first, as timm itself reads
# them), Lightning's, and those of common scripts. timm saves its arguments, an argparse.Namespace.
_PROGRAM = """\
import argparse, torch; from safetensors.torch import save_file
torch.serialization.add_safe_globals([argparse.Namespace])
found = torch.load({source}, map_location="cpu", weights_only=True)
keys = ("state_dict_ema", "model_ema", "state_dict", "model", "module")
found = next((found[key] for key in keys if isinstance(found.get(key), dict)), found)
arrays = {{k: v.contiguous().clone() for k, v in found.items() if isinstance(v, torch.Tensor)}}
save_file(arrays, {target})
"""


def how_to_convert(path: Path) -> str:
    """Returns an error message with a command that converts a pickle to a .safetensors file."""
    source, target = (json.dumps(str(p)) for p in (path, path.with_suffix(".safetensors")))
    program = "; ".join(_PROGRAM.format(source=source, target=target).splitlines())
    return (
        f"{path} is a PyTorch pickle. Reading one can run code, so it is not read here. If you "
        "trust it, convert it, with torch and safetensors installed (averaged weights are taken if "
        f"it has them, as timm does): python -c {shlex.quote(program)}"
    )
