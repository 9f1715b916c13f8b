"""Why a model decides as it does: attributions, and figures that say how far to believe them."""
