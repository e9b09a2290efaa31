"""Ray: the connection, resources of trials, a parallel map, and progress of long work."""

import os
import secrets
import sys
from pathlib import Path

# A head without a token runs anyone's job. Ray reads these variables once, when it is imported. A
# user's own setting or token file is kept; otherwise a token is made that ends with this process.
if "ray" not in sys.modules:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if not given and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
