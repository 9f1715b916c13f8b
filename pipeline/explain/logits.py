"""The margin between the two logits of a trained classifier: what is explained, instead of a probability.

The softmax is flat where a model is sure: its gradients vanish there, and what is left of them says little. The margin
has no such ends, and it is the log-odds of the probabilities: margin = log(P(with_mask) / P(without_mask)).
"""

from __future__ import annotations

import json

import keras
import tensorflow as tf

OUTPUT = "probabilities"  # the name of the output layer in both models


def logits_model(model: keras.Model) -> keras.Model:
    """A copy of `model` whose layer "probabilities" is linear: (n, s, s, 3) raw pixels to (n, 2) logits.

    The layer may stand inside a nested model. ValueError where there is not exactly one such layer with a softmax.
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
    """All mappings in a nest of mappings and lists, the outermost first."""
    below = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return ([part] if isinstance(part, dict) else []) + [one for inner in below for one in nested(inner)]


def margin(logits: tf.Tensor) -> tf.Tensor:
    """(n, 2) logits of (without_mask, with_mask) to (n,): how much more speaks for with_mask."""
    return logits[:, 1] - logits[:, 0]
