"""A script that loads the Keras model and predicts one image, as it would be written with Keras.

python -m bench.peers.keras_first_answer MODEL.keras IMAGE
"""

from __future__ import annotations

import sys

import keras
import numpy as np

if __name__ == "__main__":
    model = keras.models.load_model(sys.argv[1])
    image = keras.utils.load_img(sys.argv[2], target_size=(128, 128))
    print(model.predict(np.asarray(image)[None], verbose=0))
