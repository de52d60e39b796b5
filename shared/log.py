"""Logs: one JSON line per event on stderr, with the service's name, and where its thread was (`shared.trail`).

Log ids, types, counts, times and error classes; never a receipt, a token, a key or a payload. What of them gets into a
line all the same, in somebody's exception say, is blotted out here: by what it looks like, so this is the second net.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from shared import trail

BLOT: Final = "[…]"
LENGTH_MAX: Final = 20_000
"""Characters of one value; a traceback has some thousands."""
FRAMES_MAX: Final = 40
"""Of one exception's traceback, from its end."""

_SECRET: Final = re.compile(
    r"""
      (?<=://) [^\s/@:]* : [^\s/@]* (?=@)             # login and password of a URL
    | \beyJ [\w-]{8,} (?: \. [\w-]* ){0,4}            # JSON in base64url: a JWS, a token, or a part of one
    | \bMI [IGH] [A-Za-z0-9+/=_-]{24,}                # DER in base64: a receipt, a certificate, a key
    | \bwhsec_ [A-Za-z0-9+/=_-]+                      # a webhook's secret
    | (?: (?<= [Bb]earer[ ]) | (?<= [Bb]asic[ ]) ) [^\s"'\])}]{8,}
    | [A-Za-z0-9+/=_-]{120,}                          # whatever else does not end
    """,
    re.VERBOSE,
)
_QUOTING: Final = frozenset({"psycopg2", "sqlalchemy", "pydantic", "pydantic_core", "requests", "urllib3"})
"""Whose exceptions quote what they were given: of them the class is told, and PostgreSQL's code."""


def configure_logging(*, service: str, level: str) -> None:
    """Sets up structlog and the standard library's logging to write the same JSON lines, also of what nobody caught."""
    beginning: list[Processor] = [
        add_trail,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _service_name(service),
    ]
    end: list[Processor] = [
        structlog.processors.ExceptionRenderer(lambda exc_info: traceback_of(exc_info[1])),
        blot_out,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*beginning, *end],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*beginning, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *end],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # at debug it names paths, which hold the ids of users
    _log_what_nobody_caught()


def get_logger(name: str) -> Any:
    """A logger; `name` is the module's."""
    return structlog.get_logger(module=name)


# ---- what is put into a line -------------------------------------------------------------------------------------


def add_trail(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The trace that the line belongs to, and the event or request, unless it says so itself."""
    for name, value in trail.names(about=event.get("event_id")).items():
        event.setdefault(name, value)
    return event


def _service_name(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


# ---- and what is not ---------------------------------------------------------------------------------------------


def blot_out(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leaves no text in the line that looks like a secret, or does not end."""
    return {name: blotted(value) if isinstance(value, str) else value for name, value in event.items()}


def blotted(text: str) -> str:
    """The text without what looks like a secret, and cut where it is too long."""
    return _SECRET.sub(BLOT, text[:LENGTH_MAX])


def sentence_of(error: BaseException) -> str:
    """`ValueError: this is wrong`, without what it quotes."""
    kind = type(error)
    if kind.__module__.partition(".")[0] not in _QUOTING:
        return blotted(f"{kind.__name__}: {error}")
    code = getattr(getattr(error, "orig", error), "pgcode", None)
    return f"{kind.__module__}.{kind.__name__}" + (f": {code}" if code else "")


def traceback_of(error: BaseException) -> str:
    """The exceptions that it came from, the first one first, and the error itself: as Python writes them, without what
    they quote.
    """
    return "\n".join(_one_traceback(each) for each in reversed(list(_causes(error))))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _one_traceback(error: BaseException) -> str:
    frames = traceback.format_tb(error.__traceback__, limit=-FRAMES_MAX)
    return "".join(["Traceback (most recent call last):\n", *frames, sentence_of(error)])


def _log_what_nobody_caught() -> None:
    """What ends the process, or a thread, becomes a line too, rather than many."""
    log = get_logger(__name__)
    sys.excepthook = lambda _kind, error, _traceback: log.critical("crashed", exc_info=error)
    threading.excepthook = lambda args: (
        None
        if args.exc_value is None or args.exc_type is SystemExit
        else log.critical("a thread crashed", thread=args.thread and args.thread.name, exc_info=args.exc_value)
    )
    sys.unraisablehook = lambda args: log.error("an error was ignored", exc_info=args.exc_value)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = (
        False  # a line that cannot be formatted is left out: what it would show instead is not JSON
    )
