"""What a run does while it takes steps."""

import numpy as np
import pytest
from PIL import Image

from mlp_mixer.data.images import BrokenImage
from mlp_mixer.training import loop


@pytest.mark.slow
def test_a_broken_image_ends_training_with_the_way_out(tiny_config, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{i}.png")
    (tmp_path / "data/train/cat/3.png").write_bytes(b"no image")
    tiny_config.data.source, tiny_config.image_channels = f"folder:{tmp_path / 'data'}", 3
    with pytest.raises(BrokenImage, match=r"3\.png .*--config\.data\.skip_broken=True leaves"):
        loop.train(tiny_config, tmp_path / "run")
    tiny_config.data.skip_broken = True
    assert loop.train(tiny_config, tmp_path / "other")["test/examples"] == 16
