"""What may be left of a file that was being changed when its mount died."""

from __future__ import annotations

PIECE_BYTES = 4096


def is_mixture(found: bytes, versions: list[bytes]) -> bool:
    """Whether each byte is one of those a version had there, or that of a hole."""
    if found in versions:
        return True
    if not min(map(len, versions)) <= len(found) <= max(map(len, versions)):
        return False
    return all(
        is_mixed_piece(found[at : at + PIECE_BYTES], [v[at : at + PIECE_BYTES] for v in versions])
        for at in range(0, len(found), PIECE_BYTES)
    )


def is_mixed_piece(found: bytes, versions: list[bytes]) -> bool:
    """Mostly one version has it as a whole, and nobody looks at each byte of a large file."""
    if not any(found) or any(version.startswith(found) for version in versions):
        return True
    return all(
        byte == 0 or any(at < len(version) and version[at] == byte for version in versions)
        for at, byte in enumerate(found)
    )
