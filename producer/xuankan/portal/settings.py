"""How a portal is set up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xuankan.candidates import FirstStage
from xuankan.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class PortalSettings:
    """How a portal is set up.

    Attributes:
        url: of the Redis/Valkey server, see `xuankan.Producer`.
        namespace: the deployment's.
        catalogue: the workers'; None for the package's.
        first_stage: of the catalogue; None for the package's, fitted to it.
        keys_file: API keys, see `keys`. None: everybody may call, without limits.
        cors_origins: web origins whose scripts may call from other sites, such as `https://journal.example`.
            None at all unless given.
        server_timeout_s: how long the server may be away before a call is answered with a problem.
    """

    url: str
    namespace: str = "xuankan"
    catalogue: Catalogue | None = None
    first_stage: FirstStage | None = None
    keys_file: Path | None = None
    cors_origins: tuple[str, ...] = ()
    server_timeout_s: float = 5.0
