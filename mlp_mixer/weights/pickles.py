"""PyTorch's pickles are not read here: reading one can run code. How to convert them."""

import json
import shlex
from pathlib import Path

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")

# What training code puts its weights under: timm (averaged ones first, as timm itself reads them),
# Lightning, and scripts of many. argparse.Namespace is how timm keeps its arguments beside them.
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
    """The message for a pickle, with one command that makes a .safetensors file of it."""
    source, target = (json.dumps(str(p)) for p in (path, path.with_suffix(".safetensors")))
    program = "; ".join(_PROGRAM.format(source=source, target=target).splitlines())
    return (
        f"{path} is a PyTorch pickle. Reading one can run code, so it is not read here. Where you "
        "trust it, convert it, with torch and safetensors installed (of a checkpoint with averaged "
        f"weights it takes these, as timm does): python -c {shlex.quote(program)}"
    )
