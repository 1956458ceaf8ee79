"""Select pixel art: the tiles of Dungeon Crawl that show a whole object and have a clear licence."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pochade.training.corpus.concepts import Concept, name_slug, word_set
from pochade.training.corpus.rendering import PackagedPicture, from_tile

TILES = "source/rltiles"

FOLDERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "dngn": ("{}", ("dungeon",)),
    "dngn/shops": ("{}", ("shop", "building")),
    "dngn/statues": ("{}", ("statue", "stone")),
    "dngn/vaults": ("{}", ("dungeon",)),
    "item/amulet": ("{} amulet", ("jewellery",)),
    "item/armour": ("{}", ("armour",)),
    "item/armour/headgear": ("{}", ("headgear", "armour")),
    "item/armour/shields": ("{}", ("shield", "armour")),
    "item/book": ("{} book", ("book",)),
    "item/food": ("{}", ("food",)),
    "item/gold": ("gold coins", ("money", "treasure")),
    "item/misc": ("{}", ("treasure",)),
    "item/potion": ("{} potion", ("bottle", "potion")),
    "item/ring": ("{} ring", ("jewellery",)),
    "item/rod": ("rod", ("magic",)),
    "item/scroll": ("{}", ("paper", "magic")),
    "item/staff": ("{}", ("magic", "stick")),
    "item/wand": ("{} wand", ("magic", "stick")),
    "item/weapon": ("{}", ("weapon",)),
    "item/weapon/ranged": ("{}", ("weapon",)),
    "mon/aberrations": ("{}", ("monster",)),
    "mon/amorphous": ("{}", ("monster", "slime")),
    "mon/animals": ("{}", ("animal",)),
    "mon/aquatic": ("{}", ("animal", "water")),
    "mon/demihumanoids": ("{}", ("monster",)),
    "mon/demihumanoids/merfolk": ("{}", ("monster", "water")),
    "mon/demihumanoids/naga": ("{}", ("monster", "snake")),
    "mon/demihumanoids/taurs": ("{}", ("monster",)),
    "mon/demons": ("{}", ("demon", "monster")),
    "mon/dragons": ("{}", ("dragon", "monster")),
    "mon/eyes": ("{}", ("eye", "monster")),
    "mon/fungi_plants": ("{}", ("plant",)),
    "mon/holy": ("{}", ("monster",)),
    "mon/humanoids": ("{}", ("monster", "humanoid")),
    "mon/humanoids/elves": ("{}", ("elf", "fantasy")),
    "mon/humanoids/giants": ("{}", ("giant", "monster")),
    "mon/humanoids/humans": ("{}", ("human", "fantasy")),
    "mon/humanoids/orcs": ("{}", ("orc", "monster")),
    "mon/humanoids/spriggans": ("{}", ("fantasy",)),
    "mon/nonliving": ("{}", ("monster",)),
    "mon/statues": ("{}", ("statue",)),
    "mon/undead": ("{}", ("undead", "monster")),
    "mon/undead/simulacra": ("{}", ("undead", "ice", "monster")),
    "mon/undead/skeletons": ("{}", ("undead", "bones", "monster")),
    "mon/undead/spectrals": ("{}", ("undead", "ghost", "monster")),
}
"""The folders, the templates of labels from file names, and the tags of each folder."""

PARTS = re.compile(
    r"^\.|^i-|^brick|overlay|uncollected|unseen|unknown|unidentified|test_|_base$|_water$|label"
)
"""Names of tiles that do not show one whole object: corner icons, halves, placeholders."""

NO_WORDS = re.compile(
    r"\b(?:\d+|misc|gem|inert|art|ego|rolling|swordless|weaponless|staveless|melee|left|right|lbl|sbl)\b"
)

UNCLEAR = word_set("""
    abandoned_shop acid_blob agate alligator ancient_champion arrow ballistomycete bardiche battle_axe bennu
    blessed_blade bone bone_humanoid boulder_beetle_rolling brass brick_dark_leak broad_axe bronze bush
    bush_burning butterfly cacodemon centaur centaur-melee centaur_warrior centaur_warrior-melee chain_mail
    clay cloud_mage copper coral crossbow_bolt crystal_plate curse_skull curse_toe dagger dark dart dart-p
    death_drake death_scarab deep_elf_elementalist demigod demon_blade demon_trident demon_whip diamond
    emerald enter_shop executioner_axe fire_dragon freezing_wraith fungus gargoyle ghost_crab glaive glass
    gold gold_blue gold_green gold_red goliath_beetle granite grate gravestone_blank gravestone_writing
    greatsword green_rat guardian_mummy halberd ice_fiend ice_statue iron iron_dragon ivory jade javelin
    komodo_dragon lajatang leather_armour lemure lightning_spire lindwurm long_sword minotaur misc_bottle
    misc_sack molten_gargoyle moonstone mummy mummy_priest needle obsidian_statue octopode oklob_plant
    oklob_sapling opal orange_rat orb_of_destruction orc_warlord pearl pearl_dragon pink plain_black
    plain_red plain_yellow plant plate quickblade rat sacred_scourge scarf scimitar shadow_demon shard_shrike
    shop_armour shop_books shop_food shop_general shop_jewellery shop_potions shop_scrolls shop_wands
    shop_weapon silver silver_arrow silver_crossbow_bolt silver_javelin silver_sling_bullet skeleton_drake
    skeleton_lizard skeleton_quadruped_winged skeleton_turtle sky_beast slave slime_creature spriggan staff
    steam_dragon steel steel_arrow steel_crossbow_bolt steel_javelin steel_sling_bullet swamp_drake
    tentacled_monstrosity tiger_eye toadstool_left toadstool_right torpor_snail trident triple_crossbow
    trishula troll troll_leather_armour ugly_thing vampire_bat very_ugly_thing war_axe war_gargoyle warg
    wind_drake wizard wooden wraith
""")
"""Names, without numbers, of tiles whose artists could not be reached when the others were put under CC0.

From the list TILES_UNDER_UNKNOWN_LICENSE of https://github.com/crawl/tiles; later tiles are CC0 by the
game's LICENSE. A name that is listed for one folder is excluded from all.
"""

SIDE = 32


def read_tiles(folder: Path) -> Iterator[PackagedPicture]:
    """Yield the usable tiles of an unpacked source package; several may have the same concept."""
    for place, (template, tags) in FOLDERS.items():
        for path in sorted(Path(folder, TILES, place).glob("*.png")):
            label = tile_label(path.stem, template)
            if label:
                name = f"{place}/{path.name}"
                yield PackagedPicture(name, _concept(label, tags, place), partial(from_tile, path, SIDE))


def tile_label(stem: str, template: str = "{}") -> str:
    """Return the label: "long_sword1" -> "long sword", "statue_cat" -> "cat statue"; empty if excluded."""
    if PARTS.search(stem) or re.sub(r"[\d_]+$", "", re.sub(r"\d+", "", stem)).strip("_") in UNCLEAR:
        return ""
    words = " ".join(NO_WORDS.sub(" ", re.sub(r"[_-]|(?<=\D)(?=\d)", " ", stem)).split())
    for kind in ("statue", "shop", "hat", "scroll", "skeleton", "spectral", "simulacrum", "cloak", "mace"):
        if words.startswith(kind + " ") and not words.startswith(f"{kind} of"):
            words = f"{words.removeprefix(kind + ' ')} {kind}"
    label = template.format(words)
    thing = template.removeprefix("{} ")
    if thing != template and words.endswith(thing):
        label = words
    return label if words or "{}" not in template else ""


def _concept(label: str, tags: tuple[str, ...], place: str) -> Concept:
    group, _, subgroup = place.partition("/")
    return Concept(
        code=name_slug(label),
        emoji="",
        label=label,
        tags=tuple(tag for tag in tags if tag not in label.split()),
        group={"dngn": "dungeon", "item": "objects", "mon": "monsters"}[group],
        subgroup=subgroup,
        mirrorable=True,
    )
