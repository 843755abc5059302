"""Seeds derived by name, so that order of work and number of workers change nothing."""

import hashlib


def derive_seed(root: int, *names: object) -> int:
    """A seed for one named piece of work, from the run's root seed.

    Parameters
    ----------
    root
        The run's root seed (`seed` in params.yaml).
    names
        What the seed is for, outermost first, such as a stage, a face_id and an operation. Each is
        taken as text.

    Returns
    -------
    int
        Between 0 and 2**32 - 1: accepted by NumPy, torch and `random` alike.

    Examples
    --------
    >>> derive_seed(7, "split") == derive_seed(7, "split")
    True
    >>> derive_seed(7, "split") == derive_seed(7, "crop")
    False
    """
    # A separator that cannot occur in a name keeps ("ab", "c") and ("a", "bc") apart.
    text = "\0".join([str(root), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
