"""Audio files in and out (being written)."""

from samplernn.flac import decode_flac, encode_flac

__all__ = ["decode_flac", "encode_flac"]
