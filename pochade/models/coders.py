"""Chooses the encode and decode functions of an autoencoder by its configuration."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pochade.models.autoencoder import decode, encode
from pochade.models.config import AnyAutoencoderConfig, TinyAutoencoderConfig
from pochade.models.tiny_autoencoder import decode_tiny, encode_tiny


class Coders(NamedTuple):
    """encode: (ops, config, w, picture) -> moments or the scaled latent, as `models.autoencoder.encode`.
    decode: (ops, config, w, latent) -> pictures."""

    encode: Callable[..., Any]
    decode: Callable[..., Any]


def coders_of(config: AnyAutoencoderConfig) -> Coders:
    """Return the functions of the KL autoencoder or of the tiny one."""
    return (
        Coders(encode_tiny, decode_tiny)
        if isinstance(config, TinyAutoencoderConfig)
        else Coders(encode, decode)
    )
