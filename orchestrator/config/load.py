"""Loads a SweepConfig from YAML and ``key=value``: OmegaConf merges, pydantic checks types strictly."""

import contextlib
import dataclasses
import difflib
import functools
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from core.errors import ConfigError
from orchestrator.config.environment import guarded_environment
from orchestrator.config.own_data import found_in_data
from orchestrator.config.sweep import SweepConfig
from orchestrator.config.yaml_text import read_yaml_text, surprising_number

YAML_ERRORS = (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError)
INTERPOLATION = re.compile(r"\$\{(?!\s*oc\.env\s*:)")
MAX_INTERPOLATIONS = 20  # refer to one another in at most 3 ** 7 ways
CONTROL = re.compile(r"\\(u00[01]|[bfnrt]|u007f|ud[89a-f])")  # as JSON writes them


def load_sweep(path: Path, overrides: typing.Sequence[str] = ()) -> SweepConfig:
    """Read a sweep file and ``key=value`` settings. Raises ConfigError."""
    sweep, settings = _read_yaml(path), _dotlist(overrides)
    return build_sweep(_merged(str(path), sweep, settings), str(path))


def _merged(source: str, *parts: Any) -> Any:
    """Return the plain values of ``parts``, the last of which win. source: named in errors. Raises ConfigError."""
    _check_interpolations(source, *parts)
    with _resolving(source):
        missing = sorted(key for part in parts for key in OmegaConf.missing_keys(part))
        if missing:  # which a merge would pass over
            raise ConfigError(f"{source}: {missing[0]}: found ???, expected a value")
        return OmegaConf.to_container(OmegaConf.merge(*parts), resolve=True)


def _check_interpolations(source: str, *parts: Any) -> None:
    """Raise ConfigError for more interpolations than a sweep needs: each may refer to others, and be read again."""
    plain = (OmegaConf.to_container(part) if OmegaConf.is_config(part) else part for part in parts)
    num = sum(len(INTERPOLATION.findall(str(one))) for one in plain)
    if num > MAX_INTERPOLATIONS:
        raise ConfigError(
            f"{source}: found {num} interpolations besides those of oc.env, expected at most {MAX_INTERPOLATIONS}"
        )


@contextlib.contextmanager
def _resolving(source: str) -> Iterator[None]:
    """Allow what is resolved within to read only the environment that the user allows. Raises ConfigError."""
    try:
        with guarded_environment():
            yield
    except (OmegaConfBaseException, RecursionError) as error:
        refused = _cause(error, ConfigError)
        raise ConfigError(f"{source}: {refused or _unresolved(error)}") from error


def _unresolved(error: Exception) -> str:
    """Return, as text, which key has an interpolation that means nothing, and why."""
    reason = _reason(error).partition(" full_key:")[0]
    reason = re.sub(r"^\w+ raised while resolving interpolation: ", "its interpolation fails: ", reason)
    key = getattr(error, "full_key", None)
    return f"{key}: {reason}" if key else reason


def _cause(error: BaseException, kind: type[Exception]) -> BaseException | None:
    """Return the error of this kind that others were raised from, if any."""
    cause = error.__cause__ or error.__context__
    return cause if cause is None or isinstance(cause, kind) else _cause(cause, kind)


def change_settings(
    config: SweepConfig, overrides: typing.Sequence[str], sections: typing.Collection[str]
) -> SweepConfig:
    """Return ``config`` with ``key=value`` settings. Raises ConfigError for a key outside ``sections``."""
    settings = _dotlist(overrides)
    for key in settings:
        if key not in sections:
            raise ConfigError(
                f"{key}: cannot be changed here, because the masks are trained; expected a key of: {', '.join(sections)}"
            )
    source = "the run's sweep with these settings"
    return build_sweep(_merged(source, config_values(config), settings), source)


def config_values(config: SweepConfig) -> dict[str, Any]:
    """Return all values of the resolved sweep as plain dictionaries."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def dotted_keys(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= dotted_keys(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def full_key(name: str, known: typing.Iterable[str]) -> str:
    """Return the dotted key that a name means, its last part or all of it. Raises ConfigError if several end in it."""
    keys = list(known)
    if name in keys or "." in name:
        return name
    found = [key for key in keys if key.rpartition(".")[2] == name]
    if len(found) > 1:
        raise ConfigError(
            f"{name}: found keys {', '.join(found)} of this name; write one in full, such as {found[0]}"
        )
    return found[0] if found else name


def set_keys(config: SweepConfig, settings: typing.Mapping[str, Any], source: str) -> SweepConfig:
    """Return ``config`` with new values by dotted key. source: named in errors. Raises ConfigError."""
    values = OmegaConf.create(config_values(config))
    for key, value in settings.items():
        try:
            OmegaConf.update(values, key, value)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{source}: {key}: found {value!r}, expected a plain YAML value") from error
    return build_sweep(OmegaConf.to_container(values), source)


def build_sweep(content: Any, source: str) -> SweepConfig:
    """Build and check a SweepConfig from plain values. source: named in errors. Raises ConfigError."""
    try:
        text = json.dumps(_with_flat_space(content))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: keys must be text, and values plain YAML ({_reason(error)})") from error
    _check_characters(content, source)
    config = _validated(text, source)
    if config.benchmark.is_settled:
        return config
    benchmark = {**content["benchmark"], **found_in_data(config)}
    return _validated(json.dumps(_with_flat_space({**content, "benchmark": benchmark})), source)


def _validated(text: str, source: str) -> SweepConfig:
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        lines = dict.fromkeys(explain(error, SweepConfig))
        raise ConfigError(f"{source}: " + "\n".join(lines)) from error


def _check_characters(content: Any, source: str) -> None:
    """Raise ConfigError if a value holds a control character, such as NUL, which no path or URI can."""
    for key, value in dotted_keys(content).items() if isinstance(content, dict) else ():
        if CONTROL.search(text := json.dumps(value)):
            raise ConfigError(f"{source}: {key}: found {text}, expected no control characters")


@functools.cache
def _adapter() -> TypeAdapter[SweepConfig]:
    """Return pydantic's checker of sweeps, which takes 50 ms to make."""
    return TypeAdapter(SweepConfig)


def _with_flat_space(content: Any) -> Any:
    """Flatten nested keys of ``search.space``, as the command line gives them, to dotted ones."""
    search = content.get("search") if isinstance(content, dict) else None
    space = search.get("space") if isinstance(search, dict) else None
    if not isinstance(space, dict):
        return content
    return {**content, "search": {**content["search"], "space": dotted_keys(space)}}


def read_sweep_file(path: Path) -> dict[str, Any]:
    """Return the unchecked sweep of a file, plain or within a cluster file. Raises ConfigError."""
    return typing.cast(dict[str, Any], _merged(str(path), _read_yaml(path)))


def read_cluster_file(path: Path) -> dict[str, Any] | None:
    """Return the Ray cluster configuration around a sweep, None for a plain sweep file."""
    content = _read_mapping(path)
    values = typing.cast(dict[str, Any], OmegaConf.to_container(content))
    return values if "cluster_name" in values else None


def _read_yaml(path: Path) -> Any:
    content = _read_mapping(path)
    _check_numbers(path)
    if "cluster_name" not in content:
        return content
    _check_interpolations(str(path), content)
    with _resolving(str(path)):
        sweep = OmegaConf.select(content, "metadata.sweep")
    if not OmegaConf.is_dict(sweep):
        raise ConfigError(f"{path} is a Ray cluster configuration without a sweep under metadata.sweep")
    return sweep


def _read_mapping(path: Path) -> Any:
    text = read_yaml_text(path)
    try:
        content = OmegaConf.create(text) if isinstance(yaml.safe_load(text), dict) else None
    except YAML_ERRORS as error:
        raise ConfigError(f"sweep file {path} is not valid YAML: {_reason(error)}") from error
    if not OmegaConf.is_dict(content) or not content:
        raise ConfigError(f"sweep file {path} is empty or not a mapping of keys; see sweeps/ for examples")
    return content


def _check_numbers(path: Path) -> None:
    """Raise ConfigError for a number in the sweep of a file that YAML reads otherwise than people."""
    node = yaml.compose(read_yaml_text(path), Loader=yaml.SafeLoader)
    keys = ("metadata", "sweep") if _below(node, "cluster_name") is not None else ()
    problem = surprising_number(functools.reduce(_below, keys, node))
    if problem is not None:
        raise ConfigError(f"{path}: {problem}")


def _below(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _dotlist(overrides: typing.Sequence[str]) -> Any:
    for item in overrides:
        key, equals, _ = item.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", key):
            raise ConfigError(f"setting {item!r}: expected key=value, such as benchmark.num_tasks=20")
    try:
        settings = OmegaConf.from_dotlist(list(overrides))
        found = [(item, surprising_number(_value_node(item))) for item in overrides]
    except YAML_ERRORS as error:
        raise ConfigError(f"settings {' '.join(overrides)!r}: {_reason(error)}") from error
    for item, problem in found:
        if problem is not None:
            raise ConfigError(f"setting {item!r}: {problem}")
    return settings


def _value_node(item: str) -> yaml.Node | None:
    return yaml.compose(item.partition("=")[2], Loader=yaml.SafeLoader)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "not UTF-8"
    if "node expansion" in str(error):
        return "with its aliases (*name) written out it has more than 10,000 values"
    return "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]


def explain(error: ValidationError, root: type[Any]) -> Iterator[str]:
    """Yield one line per wrong key of the dataclass ``root``; errors of one union are joined by 'or'."""
    grouped: dict[str, tuple[Any, list[str]]] = {}
    for item in error.errors():
        cause = item.get("ctx", {}).get("error")
        path, hint = _walk(item["loc"], root)
        if isinstance(cause, ConfigError):
            yield str(cause)
        elif item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            yield _unknown_key(item["loc"], root)
        elif item["type"] in ("missing", "missing_argument"):
            yield f"{path}: missing; add it to the sweep file"
        else:
            grouped.setdefault(path, (item["input"], []))[1].append(_expected(item, hint))
    for path, (found, expected) in grouped.items():
        shown = {None: "null", True: "true", False: "false"}.get(found) if _is_word(found) else repr(found)
        yield f"{path}: found {shown}, expected {' or '.join(dict.fromkeys(expected))}"


def _is_word(value: object) -> bool:
    """Return whether YAML writes ``value`` as null, true or false."""
    return value is None or isinstance(value, bool)


def _expected(item: Any, hint: Any) -> str:
    if item["type"] == "literal_error":
        words = str(item["ctx"]["expected"])
        given = str(item["input"])
        close = difflib.get_close_matches(given, re.findall(r"'([^']*)'", words), n=1)
        return words + (f" (did you mean {close[0]!r}?)" if close else "")
    if dataclasses.is_dataclass(hint):
        return "a mapping of keys"
    known = {
        "int": "a whole number",
        "float": "a number",
        "string": "text",
        "tuple": "a list",
        "none": "null",
    }
    return known.get(item["type"].split("_")[0], str(item["msg"]))


def _walk(loc: tuple[int | str, ...], root: type[Any]) -> tuple[str, Any]:
    """Return the dotted path of ``loc`` without pydantic's union members, and its type."""
    hint: Any = root
    path: list[str] = []
    for part in loc:
        if isinstance(part, int):
            path[-1] += f"[{part}]"
            hint = next(iter(typing.get_args(hint)), hint) if typing.get_origin(hint) is tuple else hint
        elif dataclasses.is_dataclass(hint) and part in (hints := typing.get_type_hints(hint)):
            hint = _without_none(hints[part])
            path.append(part)
    return ".".join(path) or "the sweep file", hint


def _unknown_key(loc: tuple[int | str, ...], root: type[Any]) -> str:
    path, hint = _walk(loc[:-1], root)
    keys = [f.name for f in dataclasses.fields(hint)] if dataclasses.is_dataclass(hint) else []
    close = difflib.get_close_matches(str(loc[-1]), keys, n=1)
    help_text = f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(keys)}"
    where = f"{path}.{loc[-1]}" if len(loc) > 1 else str(loc[-1])
    return f"{where}: unknown key; {help_text}"


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        rest = [part for part in typing.get_args(hint) if part is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


def sweep_yaml(config: SweepConfig) -> str:
    """Return the resolved sweep as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(config_values(config)))
