"""The margin between the two logits of a trained classifier, which is explained instead of a probability.

The softmax saturates where a model is confident, so its gradients vanish there. The margin does not saturate, and it is
the log-odds of the probabilities: margin = log(P(with_mask) / P(without_mask)).
"""

from __future__ import annotations

import json

import keras
import tensorflow as tf

OUTPUT = "probabilities"  # the name of the output layer in both models


def logits_model(model: keras.Model) -> keras.Model:
    """Copy `model` with a linear layer "probabilities": (n, s, s, 3) raw pixels to (n, 2) logits.

    The layer may be inside a nested model. Raises ValueError unless there is exactly one such layer with a softmax.
    """
    architecture = json.loads(model.to_json())
    architecture.pop("compile_config", None)
    outputs = [layer["config"] for layer in nested(architecture) if is_output(layer)]
    if len(outputs) != 1:
        raise ValueError(f'{model.name} has {len(outputs)} softmax layers named "{OUTPUT}", not 1')
    outputs[0]["activation"] = "linear"
    copy = keras.models.model_from_json(json.dumps(architecture))
    copy.set_weights(model.get_weights())
    return copy


def is_output(layer: dict) -> bool:
    config = layer.get("config")
    return isinstance(config, dict) and config.get("name") == OUTPUT and config.get("activation") == "softmax"


def nested(part) -> list[dict]:
    """Return all mappings in nested mappings and lists, the outermost first."""
    below = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return ([part] if isinstance(part, dict) else []) + [one for inner in below for one in nested(inner)]


def margin(logits: tf.Tensor) -> tf.Tensor:
    """Convert (n, 2) logits of (without_mask, with_mask) to their difference (n,), positive for with_mask."""
    return logits[:, 1] - logits[:, 0]
