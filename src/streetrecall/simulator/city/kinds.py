"""Numbers that stand for kinds of things: the plan chooses among them and the renderer draws them."""

from __future__ import annotations

# What a block holds. It also says what the ground beside a street is.
PERIMETER, SLABS, PARK, WATER, SQUARE = range(5)

# Kinds of wall.
FACADE, PARTY, HEDGE, QUAY = range(4)

# Facade tiles: one tile is one bay of one floor. A family of tiles is a range of numbers.
CLASSIC = list(range(0, 22))
MODERN = list(range(22, 34))
BALCONIES = list(range(34, 42))
SHOPS = list(range(42, 54))
BASEMENTS = list(range(54, 60))
DOORS = list(range(60, 66))
DORMERS = list(range(66, 70))
PLAIN = 70  # a bay without an opening

# Materials of facades and of the ground.
PLASTER, STAINED, BRICK, ASHLAR, ASPHALT, SETTS, GRASS, PAVING = range(8)

# How many kinds of tree there are.
TREES = 6
