"""Render templates with Jinja2, sandboxed; only a worker process imports this module.

The result says which files and which variables were used. A second rendering with the same files
and the same values of these variables has the same result: the filters and functions of Jinja2
whose results are random are removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from jinja2 import (
    BaseLoader,
    Environment,
    StrictUndefined,
    Template,
    TemplateNotFound,
    TemplateSyntaxError,
)
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from twisted_tftp.backends.filesystem.content_cache import MIN_UNCHANGED, Identity, identity
from twisted_tftp.backends.filesystem.path_walk import resolve
from twisted_tftp.errors import TFTPError

#: The largest template, in octets.
MAX_TEMPLATE = 1024 * 1024

#: The names of variables that a template may use.
VARIABLES = frozenset(("client", "mac", "uuid", "address", "network", "name", "now", "host"))

#: The filters of Jinja2 that templates may not use, because their results are random.
RANDOM_FILTERS = ("random",)

#: The functions of Jinja2 that templates may not use, because their results are random.
RANDOM_FUNCTIONS = ("lipsum",)


class Rendered(NamedTuple):
    """The result of a template.

    @ivar content: the octets of the file.
    @ivar used: the names of the variables that were used, in sort order; `client.host` and
        `client.port` for the attributes of `client`.
    @ivar files: the names of the used files, and the state of each; None if it does not exist.
    @ivar is_settled: whether the files have not changed for a while, so that unchanged
        modification times and sizes mean unchanged content.
    """

    content: bytes
    used: list[str]
    files: dict[str, Identity | None]
    is_settled: bool


class TemplateError(Exception):
    """A template has failed; the text says why.

    @ivar template: the name of the template, which may be an included one.
    @ivar line: the line; 0 if it is unknown.
    @ivar is_fatal: whether the process should not be used any more.
    """

    def __init__(self, template: str, line: int, reason: str, is_fatal: bool = False) -> None:
        super().__init__(reason)
        self.template = template
        self.line = line
        self.is_fatal = is_fatal


class NoFile(Exception):
    """A template has called `not_found`: there is no file for this machine."""


class _Loaded(NamedTuple):
    """The state of a template file, such as its size and its times, when it was loaded.

    @ivar is_settled: whether the file had not changed for a while, so that an unchanged
        modification time and size mean unchanged content.
    """

    identity: Identity
    is_settled: bool


class _Loader(BaseLoader):
    """Loads templates below a folder; no name and no link leads out of it.

    @ivar loaded: the templates in use, by name.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.loaded: dict[str, _Loaded] = {}

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        """Read a template."""
        self.loaded.pop(template, None)
        if template.startswith("/") or ".." in template.split("/"):
            raise TemplateNotFound(template, f"{template!r} leads out of the folder")
        try:
            with resolve(self._folder, template) as resolved:
                descriptor = resolved.open_regular()
            with open(descriptor, "rb") as file:
                status = _state_of(file.fileno())
                octets = file.read(MAX_TEMPLATE + 1)
        except TFTPError as error:
            reason = error.detail or error.message
            raise TemplateNotFound(template, f"{template!r}: {reason}") from None
        except OSError as error:
            raise TemplateNotFound(template, f"{template!r}: {error.strerror}") from None
        if len(octets) > MAX_TEMPLATE:
            raise TemplateSyntaxError(f"larger than {MAX_TEMPLATE >> 20} MiB", 1, template)
        try:
            source = octets.decode("utf-8")
        except UnicodeDecodeError as error:
            line = octets.count(b"\n", 0, error.start) + 1
            raise TemplateSyntaxError("not UTF-8", line, template) from None
        self.loaded[template] = status
        return source, template, lambda: self._is_current(template)

    def _is_current(self, template: str) -> bool:
        """Return whether a loaded template is as it was."""
        loaded = self.loaded.get(template)
        if loaded is None or not loaded.is_settled:
            return False
        try:
            with resolve(self._folder, template) as resolved:
                return identity(resolved.stat()) == loaded.identity
        except (TFTPError, OSError):
            return False


def _state_of(descriptor: int) -> _Loaded:
    """Return the state of an open file."""
    status = os.fstat(descriptor)
    age = time.time() - max(status.st_mtime, status.st_ctime)
    return _Loaded(identity(status), age >= MIN_UNCHANGED)


class _Recorder:
    """What the current rendering has used."""

    def __init__(self) -> None:
        self.variables: set[str] = set()
        self.files: set[str] = set()

    def clear(self) -> None:
        """Forget the last rendering."""
        self.variables.clear()
        self.files.clear()


class _Client:
    """The variable `client`; it records which of its attributes are used."""

    __slots__ = ("_host", "_port", "_recorder")

    def __init__(self, host: str, port: int, recorder: _Recorder) -> None:
        self._host = host
        self._port = port
        self._recorder = recorder

    @property
    def host(self) -> str:
        """The IP address of the client."""
        self._recorder.variables.add("client.host")
        return self._host

    @property
    def port(self) -> int:
        """The UDP port of the client."""
        self._recorder.variables.add("client.port")
        return self._port

    def __repr__(self) -> str:
        return f"Client(host={self.host!r}, port={self.port})"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class _Template(Template):
    """A template that runs again each time it is imported; by default, Jinja2 runs it only once.

    The module of that one run has the old content of the templates that it imports, and in a
    `namespace` the values of the last machine.
    """

    def _get_default_module(self, ctx: Context | None = None) -> Any:
        """Run the template as a module (called by the code of `import` and `from`)."""
        self._module = None
        return super()._get_default_module(ctx)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The environment of the templates; it records the files that they include."""

    template_class = _Template

    def __init__(self, loader: _Loader, recorder: _Recorder) -> None:
        super().__init__(
            loader=loader,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._recorder = recorder

    def join_path(self, template: str, parent: str) -> str:
        """Record the name of an included or imported template (called by Jinja2)."""
        self._recorder.files.add(template)
        return template


class Renderer:
    """Renders the templates of a folder."""

    def __init__(self, folder: str, max_output: int) -> None:
        """Set up.

        @param folder: the path of the folder.
        @param max_output: the size limit of a file, in octets.
        """
        self._max_output = max_output
        self._recorder = recorder = _Recorder()
        self._loader = _Loader(folder)
        self._environment = environment = _Sandbox(self._loader, recorder)
        for name in RANDOM_FILTERS:
            del environment.filters[name]
        for name in RANDOM_FUNCTIONS:
            del environment.globals[name]
        environment.globals["not_found"] = _not_found

        class RecordingContext(Context):
            """The variables of one template; it records those that are used."""

            def resolve_or_missing(self, key: str) -> Any:
                """Return the value of a variable."""
                if key in VARIABLES:
                    recorder.variables.add(key)
                return super().resolve_or_missing(key)

        environment.context_class = RecordingContext

    def render(self, name: str, values: Mapping[str, Any]) -> Rendered:
        """Render a template.

        @param name: the path of the template below the folder.
        @param values: the variables as JSON has them. `host_problem` says why there is no `host`.
        @raise TemplateError: the template fails.
        @raise NoFile: the template says that there is no file.
        """
        recorder = self._recorder
        recorder.clear()
        recorder.files.add(name)
        try:
            template = self._environment.get_template(name)
            context = template.new_context(self._variables(values))
            content = self._joined(template.root_render_func(context))
        except NoFile:
            raise
        except Exception as error:
            raise self._failure(error, name, values) from error
        used = recorder.variables - {"client"}
        files = {file: self._loader.loaded.get(file) for file in sorted(recorder.files)}
        return Rendered(
            content,
            sorted(used),
            {file: loaded and loaded.identity for file, loaded in files.items()},
            all(loaded is None or loaded.is_settled for loaded in files.values()),
        )

    def compile(self, name: str) -> None:
        """Compile a template to find a syntax error; do nothing if the file can't be read.

        @raise TemplateError: it has a syntax error.
        """
        try:
            self._environment.get_template(name)
        except TemplateNotFound:
            return
        except Exception as error:
            raise self._failure(error, name, {}) from error

    def _variables(self, values: Mapping[str, Any]) -> dict[str, Any]:
        variables = {name: values[name] for name in VARIABLES & values.keys()}
        client = _Client(values["client.host"], values["client.port"], self._recorder)
        variables["client"] = client
        variables["now"] = datetime.fromtimestamp(values["now"], timezone.utc)
        return variables

    def _joined(self, parts: Any) -> bytes:
        """Join the parts of a file.

        @raise ValueError: the file is too large.
        """
        size = 0
        collected = []
        for part in parts:
            size += len(part)
            if size > self._max_output:
                break
            collected.append(part)
        else:
            content = "".join(collected).encode("utf-8", "surrogateescape")
            if len(content) <= self._max_output:
                return content
        raise ValueError(f"the file is larger than {self._max_output:,} octets")

    @staticmethod
    def _failure(error: Exception, name: str, values: Mapping[str, Any]) -> TemplateError:
        """Return the exception that says where and why a template has failed."""
        line = 0
        traceback = error.__traceback__
        while traceback is not None:
            template = traceback.tb_frame.f_globals.get("__jinja_template__")
            if template is not None:
                name = template.name
                line = template.get_corresponding_lineno(traceback.tb_lineno)
            traceback = traceback.tb_next
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, TemplateSyntaxError):
            name, line, reason = error.name or name, error.lineno, str(error.message)
        elif isinstance(error, MemoryError):
            reason = "it needs more memory than it may use"
        elif isinstance(error, RecursionError):
            reason = "too many levels"
        elif reason == "'host' is undefined":
            reason = f"{reason}: {values.get('host_problem')}"
        return TemplateError(name, line, reason, is_fatal=isinstance(error, MemoryError))


def _not_found() -> None:
    """End the rendering: there is no file for this machine (called by templates)."""
    raise NoFile
