"""Training a Mixer in float64 from formulas, as a second opinion on `mlp_mixer`.

It is NumPy alone, with every gradient written out, and takes nothing from the package it judges.
A layer is a function that returns its result and `backward`: the gradient by its result -> the
gradient by its input, and by its parameters in a dict of their form.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how; the names are those of a config, the durations steps."""

    steps: int
    warmup: int
    num_classes: int
    optimizer: str
    lr: float
    decay: str
    decay_end: float
    weight_decay: float
    grad_clip: float
    loss: str
    label_smoothing: float
    rho_max: float
    rho_min: float
    alpha: float
    group_size: int
    teacher: dict | None = None  # parameters of a Mixer, whose answers take the place of labels


def train(recipe: Recipe, params: dict, batches: list[dict]) -> tuple[dict, list[dict]]:
    """Updates parameters once for each batch.

    Args:
        recipe: see above.
        params: nested dict by the published names.
        batches: of `image` uint8 [n, h, w, c], `label` int [n], and where images are mixed the
            `share` [n] that each keeps of its own; the rest is of the image before it.

    Returns:
        The parameters at the end, and of each step its loss, accuracy, grad_norm and lr, and for
        SAM its rho, surrogate_gap and clean_grad_norm.
    """
    params = each(lambda x: np.asarray(x, np.float64), params)
    first, second = each(np.zeros_like, params), each(np.zeros_like, params)
    history = []
    for t, batch in enumerate(batches):
        found, grads = (sam if recipe.rho_max else plain)(
            recipe, params, *examples(recipe, batch), t
        )
        norm = np.sqrt(sum((g**2).sum() for g in leaves(grads)))
        if recipe.grad_clip:
            grads = scaled(min(1, recipe.grad_clip / norm), grads)
        if recipe.optimizer == "adam":
            first = each(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
            second = each(lambda v, g: 0.999 * v + 0.001 * g**2, second, grads)
            mean = scaled(1 / (1 - 0.9 ** (t + 1)), first)
            mean_square = scaled(1 / (1 - 0.999 ** (t + 1)), second)
            update = each(lambda m, v: m / (np.sqrt(v) + 1e-8), mean, mean_square)
        else:
            update = first = each(lambda m, g: 0.9 * m + g, first, grads)
        lr = rate(recipe, t)
        params = descend(params, update, lr, recipe.weight_decay)
        history.append(found | dict(grad_norm=norm, lr=lr))
    return params, history


def rate(recipe: Recipe, t: int) -> float:
    """The learning rate of the update after `t` others."""
    progress = max(0, t - recipe.warmup) / (recipe.steps - recipe.warmup)
    left = 1 - progress if recipe.decay == "linear" else (1 + np.cos(np.pi * progress)) / 2
    warmup = min(1, t / recipe.warmup) if recipe.warmup else 1
    return recipe.lr * warmup * (recipe.decay_end + (1 - recipe.decay_end) * left)


def descend(params: dict, update: dict, lr: float, weight_decay: float) -> dict:
    """A step against `update`; kernels also shrink by lr * weight_decay of themselves."""
    return {
        name: descend(x, update[name], lr, weight_decay)
        if isinstance(x, dict)
        else x - lr * (update[name] + (weight_decay * x if name == "kernel" else 0))
        for name, x in params.items()
    }


# --- the gradient ---


def plain(recipe: Recipe, params: dict, images: np.ndarray, targets: np.ndarray, t: int):
    loss, accuracy, grads = gradients(recipe, params, images, targets)
    return dict(loss=loss, accuracy=accuracy), grads


def sam(recipe: Recipe, params: dict, images: np.ndarray, targets: np.ndarray, t: int):
    """SAM or GSAM, group by group: the mean of the groups, which are as large as each other."""
    last = recipe.lr * recipe.decay_end
    share = (rate(recipe, t) - last) / (recipe.lr - last)
    rho = recipe.rho_min + (recipe.rho_max - recipe.rho_min) * share
    count = len(images) // recipe.group_size
    means = dict.fromkeys(("loss", "accuracy", "surrogate_gap", "clean_grad_norm"), 0.0)
    mean = each(np.zeros_like, params)
    for group in zip(np.split(images, count), np.split(targets, count), strict=True):
        loss, accuracy, g = gradients(recipe, params, *group)
        norm = np.sqrt(dot(g, g))
        perturbed = each(lambda w, g, s=rho / (norm + 1e-12): w + s * g, params, g)
        loss_there, _, g_there = gradients(recipe, perturbed, *group)
        unit = scaled(1 / np.sqrt(dot(g_there, g_there)), g_there)
        along = dot(g, unit)
        orthogonal = each(lambda g, u, along=along: g - along * u, g, unit)
        gsam = each(lambda g, o: g - recipe.alpha * o, g_there, orthogonal)
        mean = each(lambda m, g: m + g / count, mean, gsam)
        for name, x in zip(means, (loss, accuracy, loss_there - loss, norm), strict=True):
            means[name] += x / count
    return means | dict(rho=rho), mean


def examples(recipe: Recipe, batch: dict) -> tuple[np.ndarray, np.ndarray]:
    """Images and targets of a batch, mixed if it says so."""
    images = batch["image"].astype(np.float64) / 127.5 - 1
    targets = np.eye(recipe.num_classes)[batch["label"]]
    targets = (1 - recipe.label_smoothing) * targets + recipe.label_smoothing / recipe.num_classes
    if "share" in batch:
        images, targets = mix(images, batch["share"]), mix(targets, batch["share"])
    return images, targets


def gradients(
    recipe: Recipe, params: dict, images: np.ndarray, targets: np.ndarray
) -> tuple[float, float, dict]:
    """Mean loss and accuracy of examples, and the gradient of that loss."""
    logits, backward = mixer(params, images)
    if recipe.teacher:
        log_p, log_q = log_softmax(logits), log_softmax(mixer(recipe.teacher, images)[0])
        losses, slope = (np.exp(log_q) * (log_q - log_p)).sum(-1), np.exp(log_p) - np.exp(log_q)
    elif recipe.loss == "softmax":
        log_p = log_softmax(logits)
        losses, slope = -(targets * log_p).sum(-1), np.exp(log_p) - targets
    else:
        p = 1 / (1 + np.exp(-logits))
        losses = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(-1)
        slope = p - targets
    accuracy = (logits.argmax(-1) == targets.argmax(-1)).mean()
    return losses.mean(), accuracy, backward(slope / len(losses))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def mix(x: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = share.reshape(-1, *[1] * (x.ndim - 1))
    return share * x + (1 - share) * np.roll(x, 1, axis=0)


# --- the model ---


def mixer(params: dict, images: np.ndarray):
    """Logits [n, classes] of images [n, h, w, c]; `backward` gives the parameters' gradients."""
    kernel = params["stem"]["kernel"]  # [patch height, patch width, c, hidden]
    patches = cut(images, *kernel.shape[:2])
    stem = {"kernel": kernel.reshape(-1, kernel.shape[-1]), "bias": params["stem"]["bias"]}
    x, stem_backward = dense(stem, patches)
    blocks = sorted(name for name in params if name.startswith("MixerBlock_"))
    backwards = []
    for name in blocks:
        x, backward = block(params[name], x)
        backwards.append((name, backward))
    x, norm_backward = layer_norm(params["pre_head_layer_norm"], x)
    logits, head_backward = dense(params["head"], x.mean(1))

    def backward(d):
        grads = {}
        d, grads["head"] = head_backward(d)
        d = np.repeat(d[:, None] / x.shape[1], x.shape[1], axis=1)
        d, grads["pre_head_layer_norm"] = norm_backward(d)
        for name, block_backward in reversed(backwards):
            d, grads[name] = block_backward(d)
        _, grads["stem"] = stem_backward(d)
        grads["stem"]["kernel"] = grads["stem"]["kernel"].reshape(kernel.shape)
        return grads

    return logits, backward


def cut(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Images as their patches row by row [n, patches, pixels of a patch]."""
    rows, columns = images.shape[1] // height, images.shape[2] // width
    return np.stack(
        [
            images[:, i * height : (i + 1) * height, j * width : (j + 1) * width].reshape(
                len(images), -1
            )
            for i in range(rows)
            for j in range(columns)
        ],
        axis=1,
    )


def block(params: dict, x: np.ndarray):
    y, norm_0 = layer_norm(params["LayerNorm_0"], x)
    y, tokens = mlp(params["token_mixing"], y.swapaxes(1, 2))
    x = x + y.swapaxes(1, 2)
    y, norm_1 = layer_norm(params["LayerNorm_1"], x)
    y, channels = mlp(params["channel_mixing"], y)

    def backward(d):
        grads = {}
        inner, grads["channel_mixing"] = channels(d)
        inner, grads["LayerNorm_1"] = norm_1(inner)
        d = d + inner
        inner, grads["token_mixing"] = tokens(d.swapaxes(1, 2))
        inner, grads["LayerNorm_0"] = norm_0(inner.swapaxes(1, 2))
        return d + inner, grads

    return x + y, backward


def mlp(params: dict, x: np.ndarray):
    y, first = dense(params["Dense_0"], x)
    y, curve = gelu(y)
    y, second = dense(params["Dense_1"], y)

    def backward(d):
        grads = {}
        d, grads["Dense_1"] = second(d)
        d, grads["Dense_0"] = first(curve(d))
        return d, grads

    return y, backward


def dense(params: dict, x: np.ndarray):
    def backward(d):
        flat = d.reshape(-1, d.shape[-1])
        grads = {"kernel": x.reshape(-1, x.shape[-1]).T @ flat, "bias": flat.sum(0)}
        return d @ params["kernel"].T, grads

    return x @ params["kernel"] + params["bias"], backward


def gelu(x: np.ndarray):
    a = np.sqrt(2 / np.pi)
    t = np.tanh(a * (x + 0.044715 * x**3))

    def backward(d):
        return d * ((1 + t) / 2 + x / 2 * (1 - t**2) * a * (1 + 3 * 0.044715 * x**2))

    return x / 2 * (1 + t), backward


def layer_norm(params: dict, x: np.ndarray):
    mean = x.mean(-1, keepdims=True)
    deviation = np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-6)
    z = (x - mean) / deviation

    def backward(d):
        axes = tuple(range(x.ndim - 1))
        grads = {"scale": (d * z).sum(axes), "bias": d.sum(axes)}
        d = d * params["scale"]
        d = d - d.mean(-1, keepdims=True) - z * (d * z).mean(-1, keepdims=True)
        return d / deviation, grads

    return z * params["scale"] + params["bias"], backward


# --- nested dicts ---


def each(function, tree: dict, *others: dict) -> dict:
    """The function of every array of a tree, and of those in its place in other trees."""
    return {
        name: each(function, x, *(other[name] for other in others))
        if isinstance(x, dict)
        else function(x, *(other[name] for other in others))
        for name, x in tree.items()
    }


def scaled(factor: float, tree: dict) -> dict:
    return each(lambda x: factor * x, tree)


def leaves(tree: dict) -> list[np.ndarray]:
    return [y for x in tree.values() for y in (leaves(x) if isinstance(x, dict) else [x])]


def dot(a: dict, b: dict) -> float:
    """The scalar product of two trees as single vectors."""
    return sum((x * y).sum() for x, y in zip(leaves(a), leaves(b), strict=True))
