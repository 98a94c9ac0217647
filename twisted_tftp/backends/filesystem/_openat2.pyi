"""Types of the C module."""

def find_beneath(
    root: bytes, name: bytes, device: int, /
) -> tuple[int, int, int, int, int, int, int] | None: ...
