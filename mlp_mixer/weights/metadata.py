"""What the arrays of a file cannot say: image size, kind of GELU, where the weights come from.

One JSON text, in the comment of the zip archive that an `.npz` file is, or in the metadata of a
`.safetensors` file under the key "mlp_mixer". Other readers of these formats ignore both.

    {"mlp_mixer": {"image_size": [448, 448], "gelu": "tanh", "history": [...]}, "crc32": 123}

`history` has one entry for each conversion, the oldest first: "source", its "sha256", "changes".
"""

import json
import zlib
from typing import Any

KEY, CHECKSUM = "mlp_mixer", "crc32"
LIMIT = 65_535  # bytes; a zip comment cannot be longer


def encode(settings: dict[str, Any]) -> str:
    """Settings as the text to put into a file.

    Raises:
        ValueError: they are too long for the comment of a zip archive.
    """
    text = json.dumps({KEY: settings, CHECKSUM: _checksum(settings)})
    if len(text) > LIMIT:
        raise ValueError(f"{len(text)} bytes of metadata are more than the {LIMIT} that fit")
    return text


def is_ours(text: str) -> bool:
    """Whether `encode` has written a text; also of one that is damaged, but not at both ends."""
    return KEY in text[: len(KEY) + 8] or CHECKSUM in text


def decode(text: str, where: str) -> dict[str, Any]:
    """Settings from the text of a file; empty for texts that `encode` has not written.

    Raises:
        ValueError: the text is damaged.
    """
    if not is_ours(text):
        return {}
    try:
        found = json.loads(text)
        settings = found[KEY]
        whole = isinstance(settings, dict) and found[CHECKSUM] == _checksum(settings)
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f"{where} is damaged: its metadata does not fit its checksum")
    return settings


def _checksum(settings: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(settings, sort_keys=True).encode())
