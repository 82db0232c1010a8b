"""Fig. 3, Fig. 5 and Table 3: the toy trade-off between robustness and perceptual quality."""

from stochrestore.experiments._toy_gans import ToySettings as Settings
