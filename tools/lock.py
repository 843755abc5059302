"""Print the installed packages as a lock: names and versions, no addresses."""

from importlib.metadata import distributions

# torch's CUDA libraries exist for Linux alone; elsewhere the same lock must install without them.
LINUX_ONLY = ("nvidia-", "cuda-", "triton")
LEFT_OUT = {"pip", "vec2age"}


def lines() -> list[str]:
    """One requirement a line, sorted, with a marker where a package exists for Linux alone."""
    pins = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    return [
        f"{name}=={version}" + ('; sys_platform == "linux"' if name.startswith(LINUX_ONLY) else "")
        for name, version in sorted(pins.items())
        if name not in LEFT_OUT
    ]


if __name__ == "__main__":
    print("# Made by `make lock`. Names and versions only.")
    print("\n".join(lines()))
