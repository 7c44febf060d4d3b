"""The arithmetic of training, which plans and the trade-off count alike."""

import ml_collections


def of_training(
    config: ml_collections.ConfigDict, forward: float, teacher_forward: float = 0.0
) -> float:
    """Returns the arithmetic of a training step for one image, from that of forward passes.

    The backward pass takes twice the forward pass. SAM takes gradients twice, of a teacher none are
    taken.

    Args:
        config: the config of the run.
        forward: operations of the model's forward pass on one image, in any unit.
        teacher_forward: likewise, of the teacher's; 0 if there is none.
    """
    gradients = 2 if config.sam.rho_max else 1
    return gradients * 3 * forward + teacher_forward
