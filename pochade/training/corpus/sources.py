"""The pinned packages that hold the pictures and their words: versions, licences, checksums.

Everything the starter model learns from is named here. A version is never "the newest": the checksum of
each archive stands next to it, so that the same training set comes out on any machine and on any day.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Package:
    """One version of a package on the npm registry.

    sha512: of the archive (.tgz), in hexadecimal.
    members: which files to unpack, as beginnings of their paths; empty means all of them.
    """

    name: str
    version: str
    licence: str
    sha512: str
    credit: str
    members: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def slug(self) -> str:
        """A name that may stand in a path: "@scope/name" 1.2 -> "scope-name-1.2"."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A set of pictures in one style.

    name:  short, stands in file names.
    style: the words that captions use for it.
    kind:  "files" = one picture file per code point in `assets/`; "iconify" = SVG bodies in `icons.json`
           and code points in `chars.json`, the layout of all @iconify-json packages.
    """

    name: str
    style: str
    kind: Literal["files", "iconify"]
    package: Package


EMOJIBASE = Package(
    name="emojibase-data",
    version="17.0.0",
    licence="MIT",
    credit="Emojibase by Miles Johnson, https://github.com/milesj/emojibase",
    members=("en/data.json", "meta/groups.json"),
    sha512="62f81be405a81d588757f82ad6aaf96406ab7018a9f81dbbfd92d1b142646e00"
    "0468b959fdfa1ff60f3cd8b4e9984a728413440b49b6484988b658c7b13ca08c",
)
"""English labels, tags and groups."""

FLUENT_3D = Source(
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

FLUENT_FLAT = Source(
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

NOTO = Source(
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

SOURCES = (FLUENT_3D, FLUENT_FLAT, NOTO)
