"""Reads config.pbtxt, Triton's model configuration in protobuf's text format, without protobuf.

The format: https://protobuf.dev/reference/protobuf/textformat-spec/. What it does not say, which fields
repeat and which are maps, is model_config.proto's, and stands in two tables here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

_REPEATED = frozenset(
    {
        "input",
        "output",
        "batch_input",
        "batch_output",
        "instance_group",
        "model_warmup",
        "dims",
        "shape",
        "gpus",
        "profile",
        "secondary_devices",
        "host_policy_names",
        "versions",
        "preferred_batch_size",
        "step",
        "control_input",
        "control",
        "state",
        "initial_state",
        "int32_false_true",
        "fp32_false_true",
        "bool_false_true",
        "source_input",
        "target_name",
        "gpu_execution_accelerator",
        "cpu_execution_accelerator",
        "graph_spec",
        "op_library_filename",
        "agents",
        "resources",
    }
)
_MAPS = frozenset(
    {
        "parameters",
        "cc_model_filenames",
        "metric_tags",
        "input_map",
        "output_map",
        "inputs",
        "priority_queue_policy",
    }
)
_TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
    |(?P<float>[-+]?(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?|[-+]?\d+[eE][-+]?\d+[fF]?|[-+]?\d+[fF])
    |(?P<integer>[-+]?(?:0[xX][0-9a-fA-F]+|\d+))
    |(?P<word>-?[A-Za-z_][A-Za-z0-9_]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_ESCAPED = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_CLOSING = {"{": "}", "<": ">"}
_MAX_DEPTH = 100


class ConfigSyntaxError(ValueError):
    """A config.pbtxt that is not in protobuf's text format; the message names the line."""


def read_model_config(path: Path) -> dict[str, Any]:
    """Return the configuration in the file `path`; raises ConfigSyntaxError and OSError.

    Messages are dicts, enums their names as strings, repeated fields lists even where they stand once. What
    the file leaves out is left out here.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigSyntaxError(f"{path}: not UTF-8: {error}") from error
    try:
        return parse_model_config(text)
    except ConfigSyntaxError as error:
        raise ConfigSyntaxError(f"{path}: {error}") from None


def parse_model_config(text: str) -> dict[str, Any]:
    """Return the configuration in `text`, as `read_model_config` does."""
    return _Parser(text).message(end=None, depth=0)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text), _Token("end", "the end", text.count("\n") + 1)]
        self._position = 0

    def message(self, *, end: str | None, depth: int) -> dict[str, Any]:
        """Read fields up to the mark `end`, or to the end of the text."""
        if depth > _MAX_DEPTH:
            self._fail(f"nested more than {_MAX_DEPTH} deep")
        fields: dict[str, Any] = {}
        while not self._ends(end):
            name = self._next()
            if name.kind != "word":
                self._fail("expected the name of a field", name)
            if name.text in _MAPS:
                fields.setdefault(name.text, {}).update(self._entries(depth))
            elif name.text in _REPEATED:
                fields.setdefault(name.text, []).extend(self._values(depth))
            elif name.text in fields:
                self._fail(f"{name.text} stands twice", name)
            else:
                fields[name.text] = self._only(self._values(depth), name)
            if self._peek().text in (",", ";"):
                self._next()
        return fields

    def _entries(self, depth: int) -> dict[str, Any]:
        """Read what follows the name of a map: one entry { key, value } or a list of them."""
        name = self._tokens[self._position - 1]
        entries = self._values(depth)
        if not all(isinstance(entry, dict) and "key" in entry for entry in entries):
            self._fail(f"{name.text} wants {{ key: …, value: … }}", name)
        return {str(entry["key"]): entry.get("value", {}) for entry in entries}

    def _values(self, depth: int) -> list[Any]:
        """Read what follows the name of a field: a scalar, a message, or a list of either."""
        has_colon = self._peek().text == ":"
        if has_colon:
            self._next()
        token = self._peek()
        if token.text == "[" and token.kind == "mark":
            return self._list(depth)
        if not has_colon and token.text not in _CLOSING:
            self._fail("expected ':'", token)
        return [self._value(depth)]

    def _list(self, depth: int) -> list[Any]:
        self._next()
        values: list[Any] = []
        while self._peek().text != "]":
            if values and self._next().text != ",":
                self._fail("expected ',' or ']'", self._tokens[self._position - 1])
            values.append(self._value(depth))
        self._next()
        return values

    def _value(self, depth: int) -> Any:
        token = self._next()
        if token.kind == "mark" and token.text in _CLOSING:
            return self.message(end=_CLOSING[token.text], depth=depth + 1)
        if token.kind == "string":
            parts = [_unescaped(token)]
            while self._peek().kind == "string":  # adjacent strings are one
                parts.append(_unescaped(self._next()))
            return b"".join(parts).decode("utf-8", "replace")
        if token.kind == "integer":
            return _integer(token)
        if token.kind == "float":
            return float(token.text.rstrip("fF"))
        if token.kind != "word":
            self._fail("expected a value", token)
        return _word(token)

    def _only(self, values: list[Any], name: _Token) -> Any:
        if len(values) != 1:
            self._fail(f"{name.text} wants one value and has {len(values)}", name)
        return values[0]

    def _ends(self, end: str | None) -> bool:
        token = self._peek()
        if token.kind == "end" and end is not None:
            self._fail(f"expected {end!r}", token)
        if token.kind == "end":
            return True
        if token.kind == "mark" and token.text == end:
            self._next()
            return True
        return False

    def _peek(self) -> _Token:
        return self._tokens[self._position]

    def _next(self) -> _Token:
        token = self._tokens[self._position]
        if token.kind == "end":
            self._fail("something is missing", token)
        self._position += 1
        return token

    def _fail(self, what: str, token: _Token | None = None) -> NoReturn:
        token = token or self._peek()
        raise ConfigSyntaxError(f"line {token.line}: {what}, found {token.text!r}")


def _tokens(text: str) -> Iterator[_Token]:
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ConfigSyntaxError(f"line {line}: cannot be read from {text[position : position + 20]!r} on")
        if found.lastgroup != "space":
            yield _Token(found.lastgroup or "", found[0], line)
        line += found[0].count("\n")
        position = found.end()


def _integer(token: _Token) -> int:
    sign = -1 if token.text.startswith("-") else 1
    digits = token.text.lstrip("+-")
    is_octal = len(digits) > 1 and digits.isdecimal() and digits[0] == "0"
    try:
        return sign * int(digits, 8 if is_octal else 0)
    except ValueError:
        raise ConfigSyntaxError(f"line {token.line}: {token.text!r} is no number") from None


def _word(token: _Token) -> Any:
    if token.text.lower().lstrip("-") in ("inf", "infinity", "nan"):
        return float(token.text)
    if token.text.startswith("-"):
        raise ConfigSyntaxError(f"line {token.line}: {token.text!r} is no value")
    return {"true": True, "True": True, "false": False, "False": False}.get(token.text, token.text)


def _unescaped(token: _Token) -> bytes:
    def plain(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        if code[0] in "xX" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "uU" and len(code) > 1:
            return chr(int(code[1:], 16)).encode().decode("latin-1")
        if code in _ESCAPED:
            return chr(_ESCAPED[code])
        if code in "\\'\"?":
            return code
        raise ConfigSyntaxError(f"line {token.line}: unknown escape {found[0]!r}")

    # Escapes are bytes and other characters UTF-8: put together as one character for each byte.
    as_bytes = token.text[1:-1].encode().decode("latin-1")
    return _ESCAPE.sub(plain, as_bytes).encode("latin-1")
