"""What a product type is in any language: its category, trade, price, sizes and neighbours.

Words stand in `english.toml` and `russian.toml`, under the same keys.
"""

from dataclasses import dataclass

# How strongly price follows size: 1 is proportional, 0 is one price for all sizes.
PRICE_EXPONENT = {
    "kg": 0.75, "g": 0.6, "l": 0.75, "ml": 0.6, "m": 0.8, "m2": 0.9, "cm": 1.2, "pcs": 0.75, "seeds": 0.5,
    "no": 0.0, "w": 0.7, "v": 0.5,
}  # fmt: skip

# How many product families a type of the category has, relative to the others.
CATEGORY_WEIGHT = {
    "feeding": 1.0, "soil": 0.8, "seeds": 2.0, "pots": 1.4, "tools": 1.2, "machines": 0.7, "water": 1.0,
    "protection": 0.9, "shelter": 0.8, "helpers": 0.8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """The part of a product type that does not depend on language; `price` is in EUR at the middle size."""

    category: str
    trade: str
    price: float
    measure: str
    unit: str
    sizes: tuple[float, ...]
    substitutes: tuple[str, ...] = ()
    traps: tuple[str, ...] = ()


SHAPES = {
    "manure": Shape("feeding", "feed", 9, "weight", "kg", (2, 5, 10, 20), ("compost",), ("green_manure",)),
    "compost": Shape("feeding", "feed", 8, "volume", "l", (20, 40, 50, 60), ("manure",), ("compost_bin",)),
    "fertiliser": Shape(
        "feeding", "feed", 11, "weight", "kg", (0.5, 1, 2.5, 5, 10), ("vegetable_feed", "flower_feed"), ()
    ),
    "vegetable_feed": Shape(
        "feeding", "feed", 9, "weight", "kg", (0.5, 1, 2, 5), ("fertiliser",), ("vegetable_seeds",)
    ),
    "flower_feed": Shape(
        "feeding", "feed", 8, "volume", "ml", (250, 500, 750, 1000), ("fertiliser",), ("flower_seeds",)
    ),
    "lawn_feed": Shape(
        "feeding", "feed", 19, "weight", "kg", (2.5, 5, 10, 20), ("fertiliser",), ("lawn_seed",)
    ),
    "bone_meal": Shape("feeding", "feed", 8, "weight", "kg", (1, 2, 5), ("fertiliser",)),
    "lime": Shape("feeding", "feed", 7, "weight", "kg", (3, 5, 10, 20)),
    "potting_soil": Shape(
        "soil", "feed", 8, "volume", "l", (5, 10, 20, 50), ("seedling_soil",), ("flower_pot",)
    ),
    "seedling_soil": Shape("soil", "feed", 7, "volume", "l", (5, 10, 20), ("potting_soil",), ("seed_tray",)),
    "peat": Shape("soil", "feed", 10, "volume", "l", (50, 100, 150, 250), ("coir",)),
    "coir": Shape("soil", "feed", 6, "volume", "l", (7, 10, 35, 70), ("peat",)),
    "mulch": Shape("soil", "feed", 9, "volume", "l", (40, 60, 70, 80)),
    "perlite": Shape("soil", "feed", 7, "volume", "l", (2, 5, 10, 100)),
    "vegetable_seeds": Shape(
        "seeds", "seed", 2.4, "pack", "seeds", (10, 20, 50, 100, 200), (), ("vegetable_feed",)
    ),
    "flower_seeds": Shape(
        "seeds", "seed", 2.2, "pack", "seeds", (20, 50, 100, 250), ("bulbs",), ("flower_feed",)
    ),
    "herb_seeds": Shape("seeds", "seed", 2.0, "pack", "seeds", (50, 100, 300, 500), (), ("flower_seeds",)),
    "lawn_seed": Shape("seeds", "seed", 16, "weight", "kg", (1, 2.5, 5, 10), (), ("lawn_feed", "lawn_mower")),
    "green_manure": Shape("seeds", "seed", 6, "weight", "kg", (0.25, 0.5, 1, 5), (), ("manure",)),
    "bulbs": Shape("seeds", "seed", 7, "count", "pcs", (5, 10, 25, 50), ("flower_seeds",)),
    "seed_potatoes": Shape("seeds", "seed", 8, "weight", "kg", (1, 2, 2.5, 5), (), ("vegetable_seeds",)),
    "flower_pot": Shape(
        "pots", "pot", 9, "diameter", "cm", (12, 16, 20, 25, 30, 40), ("planter",), ("pot_saucer",)
    ),
    "planter": Shape("pots", "pot", 19, "length", "cm", (40, 60, 80, 100), ("flower_pot",), ("raised_bed",)),
    "hanging_basket": Shape("pots", "pot", 12, "diameter", "cm", (25, 30, 35, 40), ("flower_pot",)),
    "pot_saucer": Shape("pots", "pot", 3, "diameter", "cm", (12, 16, 20, 25, 30), (), ("flower_pot",)),
    "seed_tray": Shape("pots", "pot", 5, "cells", "pcs", (6, 12, 24, 40, 84), (), ("seedling_soil",)),
    "pruner": Shape("tools", "tool", 18, "length", "cm", (18, 20, 21, 23), ("lopper",), ("hedge_shears",)),
    "lopper": Shape("tools", "tool", 32, "length", "cm", (45, 60, 70, 80), ("pruner", "pruning_saw")),
    "hedge_shears": Shape("tools", "tool", 27, "length", "cm", (48, 55, 60), ("hedge_trimmer",), ("pruner",)),
    "pruning_saw": Shape("tools", "tool", 20, "length", "cm", (18, 24, 30, 33), ("lopper",), ("chainsaw",)),
    "spade": Shape("tools", "tool", 24, "length", "cm", (80, 100, 110, 120), ("garden_fork",), ("trowel",)),
    "garden_fork": Shape("tools", "tool", 26, "length", "cm", (90, 100, 115, 120), ("spade",), ("rake",)),
    "rake": Shape("tools", "tool", 17, "width", "cm", (30, 40, 50, 60), (), ("garden_fork",)),
    "hoe": Shape("tools", "tool", 16, "width", "cm", (10, 12, 16, 18), (), ("rake",)),
    "trowel": Shape("tools", "tool", 8, "length", "cm", (25, 30, 32), (), ("spade",)),
    "lawn_mower": Shape("machines", "power", 260, "width", "cm", (32, 38, 42, 46, 53), (), ("lawn_feed",)),
    "grass_trimmer": Shape("machines", "power", 95, "width", "cm", (23, 25, 30, 38), ("lawn_mower",)),
    "hedge_trimmer": Shape(
        "machines", "power", 110, "length", "cm", (45, 52, 60, 65), ("hedge_shears",), ("grass_trimmer",)
    ),
    "chainsaw": Shape("machines", "power", 180, "length", "cm", (25, 30, 35, 40, 45), (), ("pruning_saw",)),
    "leaf_blower": Shape("machines", "power", 90, "power", "w", (1800, 2400, 2600, 3000)),
    "hose": Shape("water", "water", 30, "length", "m", (10, 15, 20, 25, 50), (), ("hose_reel", "connector")),
    "hose_reel": Shape("water", "water", 55, "capacity", "m", (20, 30, 45, 60), (), ("hose",)),
    "sprinkler": Shape("water", "water", 22, "area", "m2", (80, 150, 220, 320), ("drip_kit",), ("sprayer",)),
    "drip_kit": Shape("water", "water", 38, "count", "pcs", (10, 20, 40, 60), ("sprinkler",), ("hose",)),
    "watering_can": Shape("water", "pot", 13, "volume", "l", (1.5, 5, 8, 10, 12), (), ("rain_barrel",)),
    "spray_gun": Shape("water", "water", 14, "modes", "no", (5, 7, 8, 10), (), ("sprayer",)),
    "connector": Shape("water", "water", 5, "count", "pcs", (1, 2, 4, 5), (), ("hose",)),
    "rain_barrel": Shape("water", "shelter", 70, "volume", "l", (100, 200, 300, 500), (), ("watering_can",)),
    "slug_pellets": Shape("protection", "pest", 8, "weight", "g", (250, 500, 750, 1000), (), ("fertiliser",)),
    "insecticide": Shape("protection", "pest", 10, "volume", "ml", (50, 100, 250, 500), (), ("fungicide",)),
    "fungicide": Shape("protection", "pest", 11, "weight", "g", (25, 50, 100, 250), (), ("insecticide",)),
    "weedkiller": Shape(
        "protection", "pest", 15, "volume", "ml", (250, 500, 1000, 2500), ("hoe",), ("lawn_feed",)
    ),
    "rodent_trap": Shape("protection", "pest", 9, "count", "pcs", (1, 2, 4, 6), (), ("insecticide",)),
    "sprayer": Shape("protection", "pest", 28, "volume", "l", (1.5, 5, 8, 12, 16), (), ("spray_gun",)),
    "greenhouse": Shape(
        "shelter", "shelter", 520, "length", "m", (2, 3, 4, 6, 8), ("cold_frame",), ("film",)
    ),
    "cold_frame": Shape("shelter", "shelter", 60, "length", "cm", (80, 100, 120, 150), ("greenhouse",)),
    "film": Shape("shelter", "shelter", 32, "length", "m", (5, 10, 25, 50), ("fleece",), ("greenhouse",)),
    "fleece": Shape("shelter", "shelter", 12, "length", "m", (5, 10, 20, 50), ("film",)),
    "raised_bed": Shape("shelter", "shelter", 75, "length", "cm", (80, 100, 120, 180), (), ("planter",)),
    "compost_bin": Shape("shelter", "shelter", 65, "volume", "l", (200, 300, 400, 600), (), ("compost",)),
    "gloves": Shape("helpers", "tool", 8, "fit", "no", (7, 8, 9, 10, 11)),
    "wheelbarrow": Shape("helpers", "tool", 85, "volume", "l", (65, 80, 90, 110)),
    "plant_stake": Shape("helpers", "shelter", 9, "length", "cm", (60, 90, 120, 150, 180), ("trellis",)),
    "trellis": Shape("helpers", "shelter", 24, "height", "cm", (120, 150, 180, 200), ("plant_stake",)),
    "twine": Shape("helpers", "tool", 4, "length", "m", (25, 50, 100, 200), (), ("plant_stake",)),
}
