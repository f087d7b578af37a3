"""Losses between features, sample by sample; PKD's statistics are the batch's."""

from collections.abc import Callable
from typing import Any

from limbeck.losses.features.attention import attention_transfer
from limbeck.losses.features.fitnet import fitnet
from limbeck.losses.features.ickd import ickd
from limbeck.losses.features.nst import nst
from limbeck.losses.features.pkd import pkd
from limbeck.losses.features.review import ReviewKD
from limbeck.losses.features.simkd import simkd
from limbeck.losses.features.vid import VID

review, vid = ReviewKD, VID  # a recipe's names, beside the classes'

TABLE: dict[str, Callable[..., Any]] = {
    "attention_transfer": attention_transfer,
    "fitnet": fitnet,
    "ickd": ickd,
    "nst": nst,
    "pkd": pkd,
    "review": ReviewKD,
    "simkd": simkd,
    "vid": VID,
}

__all__ = ["VID", "ReviewKD", "attention_transfer", "fitnet", "ickd", "nst", "pkd", "review", "simkd", "vid"]
