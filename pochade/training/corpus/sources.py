"""The pinned packages with the pictures and their labels: versions, licences, checksums.

They are all the training data of the starter model. Versions and checksums are pinned, so that the training
set is reproducible.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Package:
    """One version of a package.

    registry: "npm", or "debian" for a file of Debian's archive.
    sha512: of the archive, in hexadecimal.
    members: prefixes of the paths to unpack; empty means all.
    path: of the file below the root of Debian's archive; empty for npm.
    """

    name: str
    version: str
    licence: str
    sha512: str
    credit: str
    members: tuple[str, ...] = ()
    registry: Literal["npm", "debian"] = "npm"
    path: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def slug(self) -> str:
        """A name for paths, which depends on the unpacked members too."""
        name = f"{self.name.lstrip('@').replace('/', '-')}-{self.version.replace(':', '-')}"
        return f"{name}-{sha256(' '.join(self.members).encode()).hexdigest()[:8]}"


@dataclass(frozen=True, kw_only=True)
class CorpusSource:
    """A set of pictures in one style.

    name:  short; used in file names.
    style: its name in captions.
    kind:  the layout of the package, see `source_readers.READERS`.
    use:   "starter" for training the model; "scorer" for training only the picture-text model that evaluates
           it: older or too similar drawings of the same things.
    """

    name: str
    style: str
    kind: Literal["files", "iconify", "slugs", "tiles", "clip art"]
    package: Package
    use: Literal["starter", "scorer"] = "starter"


EMOJIBASE = Package(
    name="emojibase-data",
    version="17.0.0",
    licence="MIT",
    credit="Emojibase by Miles Johnson, https://github.com/milesj/emojibase",
    members=(
        "en/data.json",
        "en/shortcodes/",
        "meta/groups.json",
        "fr/data.json",
        "de/data.json",
        "es/data.json",
    ),
    sha512="62f81be405a81d588757f82ad6aaf96406ab7018a9f81dbbfd92d1b142646e00"
    "0468b959fdfa1ff60f3cd8b4e9984a728413440b49b6484988b658c7b13ca08c",
)
"""English labels, tags, short names and groups; labels in other languages."""

FLUENT_3D = CorpusSource(
    name="fluent-3d",
    style="3d style",
    kind="files",
    package=Package(
        name="@lobehub/fluent-emoji-3d",
        version="1.1.0",
        licence="MIT",
        credit="Fluent Emoji by Microsoft Corporation, https://github.com/microsoft/fluentui-emoji; "
        "packaged by LobeHub, https://github.com/lobehub/fluent-emoji",
        sha512="5a5ab69554ad4e7afc043a48274a449d328ee0bb83c71a931214ef46d0f50cb4"
        "45d267bba207914232a87a10c75ee549d9069e720979c1106feb4954006de1ee",
    ),
)

FLUENT_FLAT = CorpusSource(
    name="fluent-flat",
    style="flat style",
    kind="iconify",
    package=Package(
        name="@iconify-json/fluent-emoji-flat",
        version="1.2.6",
        licence="MIT",
        credit="Fluent Emoji by Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
        members=("icons.json", "chars.json"),
        sha512="458e3b4603dbe3b7d8522cab03ae2c20e2f4f94534dacdbdb17a4d05b2104415"
        "253e57cd1532949990c4446bb10ecffbc8d196a9062fb9a4983353387d15e553",
    ),
)

NOTO = CorpusSource(
    name="noto",
    style="noto style",
    kind="iconify",
    package=Package(
        name="@iconify-json/noto",
        version="1.2.9",
        licence="Apache-2.0",
        credit="Noto Emoji by Google Inc, https://github.com/googlefonts/noto-emoji",
        members=("icons.json", "chars.json"),
        sha512="0d08ae5c435bba7e35721f973d2579e47f456962a91d3cb3e3a6082ad49a2980"
        "f87c80c3ccbd6d47a1f89e9fd3dfc8dfad301e237adc285d26a8761e65502e6b",
    ),
)

TWEMOJI = CorpusSource(
    name="twemoji",
    style="twemoji style",
    kind="iconify",
    package=Package(
        name="@iconify-json/twemoji",
        version="1.2.5",
        licence="CC-BY-4.0",
        credit="Twemoji by Twitter, Inc and other contributors, https://github.com/jdecked/twemoji",
        members=("icons.json", "chars.json"),
        sha512="b8aa6e204574bfa2b9056dcc8ddca5f972855406db70fc408227cabc432d6685"
        "19079f98898e7368c9b6b8d342c725f301653dc8d2e58f8d5653afe6be000bb3",
    ),
)

STREAMLINE = CorpusSource(
    name="streamline",
    style="outline style",
    kind="slugs",
    package=Package(
        name="@iconify-json/streamline-emojis",
        version="1.2.4",
        licence="CC-BY-4.0",
        credit="Streamline Emojis by Streamline, https://github.com/webalys-hq/streamline-vectors",
        members=("icons.json",),
        sha512="88dafd4fd5ee6554f240f24ef1994bc41ccf9298bba8c97ecf59740b7d6fa443"
        "2a84f31e96d8779fb09e59062d8b175eb433dd23cd72786e113aa8d6a58244e8",
    ),
)

FLUENT_GLOSSY = CorpusSource(
    name="fluent-glossy",
    style="glossy style",
    kind="slugs",
    use="scorer",
    package=Package(
        name="@iconify-json/fluent-emoji",
        version="1.2.7",
        licence="MIT",
        credit="Fluent Emoji by Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
        members=("icons.json",),
        sha512="0fc1ba6ca03222ccb13f5af366d216aff820fdf3b8460d7e0f209695fa8a2b88"
        "7c5bee049bf6343fa4188095104e551c6a0cc9bd2ca0fbd381bf8873e0773f40",
    ),
)

NOTO_V1 = CorpusSource(
    name="noto-v1",
    style="old noto style",
    kind="slugs",
    use="scorer",
    package=Package(
        name="@iconify-json/noto-v1",
        version="1.2.5",
        licence="Apache-2.0",
        credit="Noto Emoji by Google Inc, https://github.com/googlefonts/noto-emoji",
        members=("icons.json",),
        sha512="fc3b15322bacebd4347d14b9df3ed02b54d1392b9aafad3a8e2231fa5697b5db"
        "1818c5e97fa2ed1c1c7a0867e8a375071dbfd7a41b30fb52f5c777b23ea32e54",
    ),
)

EMOJIONE = CorpusSource(
    name="emojione",
    style="emojione style",
    kind="slugs",
    use="scorer",
    package=Package(
        name="@iconify-json/emojione",
        version="1.2.3",
        licence="CC-BY-4.0",
        credit="EmojiOne and EmojiTwo, https://github.com/EmojiTwo/emojitwo",
        members=("icons.json",),
        sha512="4fdf93dc721b24d2ca2ac9b160a95a621be71d8933fc73584d5ed21c25d564f7"
        "de522e05aac918ef461e37cc980194fc702bfbc39bc9c52e10d66f336fd08c32",
    ),
)

PIXEL_ART = CorpusSource(
    name="pixel-art",
    style="pixel art",
    kind="tiles",
    package=Package(
        registry="debian",
        name="crawl",
        version="0.28.0",
        path="pool/main/c/crawl/crawl_0.28.0.orig.tar.xz",
        licence="CC0-1.0",
        credit="Dungeon Crawl Stone Soup and RLTiles, https://github.com/crawl/tiles, http://rltiles.sf.net",
        members=("source/rltiles/",),
        sha512="84ab9893c87c1af213dfe6fdf0e0d2249b72f7e3deb557cfd80f79f7f77d03ef"
        "919d4dfee5a36a159937fc60dcad11d383239e82798017e10e0ff7c3430ad98a",
    ),
)

CLIP_ART = CorpusSource(
    name="clip-art",
    style="clip art style",
    kind="clip art",
    package=Package(
        registry="debian",
        name="openclipart-svg",
        version="1:0.18+dfsg-19",
        path="pool/main/o/openclipart/openclipart-svg_0.18+dfsg-19_all.deb",
        licence="public domain",
        credit="Open Clip Art Library and its artists, https://openclipart.org",
        members=("share/openclipart/svg/",),
        sha512="37d173f3cf73c999cc92a694e02a99c124f177f891ea1621583b2df9f99b00d0"
        "ccc8517a8d1ec2fdee301d8fbe872aae9945490c2c6a4ac5f90320d473b67709",
    ),
)

SOURCES = (
    FLUENT_3D, FLUENT_FLAT, NOTO, TWEMOJI, STREAMLINE, PIXEL_ART, CLIP_ART, FLUENT_GLOSSY, NOTO_V1, EMOJIONE,
)  # fmt: skip
