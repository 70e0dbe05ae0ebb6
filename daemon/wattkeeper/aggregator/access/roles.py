"""Roles, and who may ask for what."""

import enum


class Role(enum.StrEnum):
    """What a caller is. `nobody`: not even the public, where anonymous callers are told nothing.

    `shared`: who shows the `token` that all agents share.
    """

    NOBODY = "nobody"
    PUBLIC = "public"
    USER = "user"
    MANAGER = "manager"
    OPERATOR = "operator"
    SCRAPER = "scraper"
    AGENT = "agent"
    SHARED = "shared"


Audience = frozenset[Role]
"""The roles that may ask for something."""

ANYONE: Audience = frozenset(Role)
"""What tells nothing: a probe's question, the page's own files."""
PUBLIC: Audience = frozenset({Role.PUBLIC, Role.USER, Role.MANAGER, Role.OPERATOR})
USERS: Audience = frozenset({Role.USER, Role.MANAGER, Role.OPERATOR})
"""What is answered to each of them about their own jobs."""
OPERATORS: Audience = frozenset({Role.OPERATOR})
SCRAPERS: Audience = frozenset({Role.SCRAPER, Role.OPERATOR})
AGENTS: Audience = frozenset({Role.AGENT, Role.SHARED})
CLOSERS: Audience = frozenset({Role.OPERATOR, Role.SHARED})
"""Who may close a period."""
