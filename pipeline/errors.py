"""The one exception that means: the user can mend this.

Everything a user can cause (a wrong parameter, a missing file, a damaged table) is raised as
`UserError` with one sentence that names the file, row or key, the value found, and what to do.
The command line prints that sentence and exits with 2; any other exception is a bug and keeps its
traceback.
"""


class UserError(Exception):
    """A mistake in the inputs, described in one sentence for the person who made them."""
