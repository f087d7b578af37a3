"""Pairing: which layers of two models belong together, found by running both once."""

from limbeck.pairing.looking import Layer, Site, Sites, by, layers
from limbeck.pairing.pairs import Pairing, pair_layers
from limbeck.pairing.sites import sites

__all__ = ["Layer", "Pairing", "Site", "Sites", "by", "layers", "pair_layers", "sites"]
