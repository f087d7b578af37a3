"""The channel of each random quantity of a view: turning one on leaves the numbers of the others as they were.

Channels are never renumbered: pictures of a stored seed would change.
"""

from __future__ import annotations

SHIFT_X, SHIFT_Y, FLIP, ROTATE, SCALE, ERASE, ERASE_AREA, ERASE_RATIO, ERASE_X, ERASE_Y = range(10)
VERTICAL_FLIP, SHEAR, CROP_AREA, CROP_RATIO, CROP_X, CROP_Y = range(10, 16)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(16, 20)
MIX, PARTNER_GROUP, PARTNER, SHARE, BOX_X, BOX_Y = range(20, 26)
QUARTER = 26
RANDAUGMENT = 64  # and on: two for each operation
