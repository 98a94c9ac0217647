"""Hide passwords and access tokens in URLs that are shown to an operator."""

from __future__ import annotations

import re

#: The part of a URL after its scheme, in the text of a backend. Its groups: user and password;
#: host and path; query and fragment. A comma without a backslash ends the URL.
_URL = re.compile(r"://((?:\\.|[^\\,/?#])*@)?((?:\\.|[^\\,?#])*)(\?(?:\\.|[^\\,])*)?", re.DOTALL)


def without_url_secrets(text: str) -> str:
    """Return a text with `...` in place of the users, passwords and queries of its URLs.

    @param text: the text of a backend, as
        L{BackendSpec<twisted_tftp.backends.plugin.BackendSpec>} formats it; or a URL.
    """
    return _URL.sub(_shown, text)


def _shown(url: re.Match[str]) -> str:
    user = "...@" if url[1] else ""
    query = "?..." if url[3] else ""
    return f"://{user}{url[2]}{query}"
