"""What a shell would do with a text, and which of its commands went well.

shlex is not enough: it does not tell a quoted `;` from one that ends a command, and knows nothing
of `$(…)` or of documents (`<<EOF`), in which agents write their commit messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Union

from agent_acts import unwrapped

REDIRECTS = ("&>>", "<<<", "<<-", "&>", ">&", "<&", ">>", ">|", "<>", "<<", "<", ">")
SEPARATORS = ("&&", "||", "|&", ";;", "|", "&", ";", "(", ")")
KEYWORDS = ("if", "for", "while", "until", "case", "select", "function")
QUIET = ("cd", "pushd", "popd", "export", "set", "source", ".", "echo", "printf", "true", ":")
"""Commands that go well unless they complain."""
SHELLS = ("bash", "sh", "zsh", "dash")


class Token(NamedTuple):
    """A word without its quotes, or an operator."""

    text: str
    is_operator: bool = False


class Run(NamedTuple):
    """A single command."""

    words: list[str]


class Joined(NamedTuple):
    """Commands joined by one operator.

    `;` stands for a new line, too; `&` for what runs on in the background; `!` for its opposite.
    """

    operator: str
    parts: list[Node]


Node = Union[Run, Joined]  # noqa: UP007 - Python 3.9


class Finding(NamedTuple):
    """A command that ran, or may have, and whether it went well; None where that is not known."""

    words: list[str]
    went_well: bool | None


def read(command: str) -> Node:
    """Return what a shell would make of a text.

    Raises:
        ValueError: something stays open, or is not read here: a loop, a condition, a function.
    """
    return Parser(tokens(command)[0]).sequence()


def tokens(text: str, at: int = 0, *, inner: bool = False) -> tuple[list[Token], int]:
    """Return the tokens from `at` on, and where they end.

    Args:
        inner: read up to the parenthesis that closes one before `at`.

    Raises:
        ValueError: a quote or parenthesis stays open.
    """
    out: list[Token] = []
    word: str | None = None
    awaited: list[str] = []  # ends of the documents that begin with the next line
    depth = 0
    while at < len(text):
        part, end, operator = _piece(text, at, begins=word is None)
        if part is not None:
            word = (word or "") + part
            at = end
            continue
        if word is not None and not (operator in REDIRECTS and word.isdigit()):
            if out and out[-1] in (Token("<<", True), Token("<<-", True)):
                awaited.append(word)
            out.append(Token(word))
        word = None
        depth += (operator == "(") - (operator == ")")
        if inner and depth < 0:
            return out, at
        if operator:
            out.append(Token(operator, True))
        at = _after_documents(text, end, awaited) if operator == "\n" else end
        awaited = [] if operator == "\n" else awaited
    if inner:
        raise ValueError("a parenthesis stays open")
    return (out if word is None else [*out, Token(word)]), at


def _piece(text: str, at: int, *, begins: bool) -> tuple[str | None, int, str]:
    """Return what is added to a word (None: it has ended), where that ends, and an operator.

    Args:
        begins: no word was begun before.
    """
    char = text[at]
    if char == "\\":
        escaped = text[at + 1 : at + 2]
        return (None if begins and escaped == "\n" else escaped.strip("\n")), at + 2, ""
    if char in "'`":
        end = text.index(char, at + 1)
        return text[at + 1 : end], end + 1, ""
    if char == '"':
        end = _closing_quote(text, at + 1)
        return text[at + 1 : end], end + 1, ""
    if text.startswith(("$(", "<(", ">("), at):
        end = tokens(text, at + 2, inner=True)[1] + 1
        return text[at:end], end, ""
    if char == "#" and begins:
        end = text.find("\n", at)
        return None, len(text) if end < 0 else end, ""
    if char in " \t\r":
        return None, at + 1, ""
    if char == "\n":
        return None, at + 1, "\n"
    for operator in (*REDIRECTS, *SEPARATORS):
        if text.startswith(operator, at):
            return None, at + len(operator), operator
    return char, at + 1, ""


def _closing_quote(text: str, at: int) -> int:
    while text[at : at + 1] != '"':
        if at >= len(text):
            raise ValueError("a quote stays open")
        if text.startswith("$(", at):
            at = tokens(text, at + 2, inner=True)[1] + 1
        else:
            at += 2 if text[at] == "\\" else 1
    return at


def _after_documents(text: str, at: int, awaited: list[str]) -> int:
    """Return where a text goes on after the documents that are written into it."""
    for last in awaited:
        line = None
        while at < len(text) and line != last:
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            line = text[at:end].strip("\t")
            at = end + 1
    return at


class Parser:
    """Reads tokens into nodes.

    Raises:
        ValueError: they hold what is not read here.
    """

    def __init__(self, found: list[Token]) -> None:
        self.left = found[::-1]

    def next_is(self, *operators: str) -> bool:
        """Whether one of these operators comes next."""
        return bool(self.left) and self.left[-1].is_operator and self.left[-1].text in operators

    def takes(self, *operators: str) -> str:
        """Return the operator of these that comes next, and go on after it; else an empty text."""
        return self.left.pop().text if self.next_is(*operators) else ""

    def sequence(self, closing: Token | None = None) -> Node:
        """Return commands up to the end, or to what closes a group of them."""
        parts: list[Node] = []
        while self.left and self.left[-1] != closing:
            if self.takes(";", "\n"):
                continue
            part = self.chain()
            parts.append(Joined("&", [part]) if self.takes("&") else part)
        if closing:
            if not self.left:
                raise ValueError("a group stays open")
            self.left.pop()
        return parts[0] if len(parts) == 1 else Joined(";", parts)

    def chain(self) -> Node:
        """Return commands joined by `&&` and `||`."""
        node = self.pipeline()
        while operator := self.takes("&&", "||"):
            right = self.pipeline()
            if isinstance(node, Joined) and node.operator == operator == "&&":
                node.parts.append(right)
            else:
                node = Joined(operator, [node, right])
        return node

    def pipeline(self) -> Node:
        """Return commands joined by `|`."""
        while self.takes("\n"):
            pass
        is_negated = bool(self.left) and self.left[-1] == Token("!")
        if is_negated:
            self.left.pop()
        parts = [self.command()]
        while self.takes("|", "|&"):
            while self.takes("\n"):
                pass
            parts.append(self.command())
        node = parts[0] if len(parts) == 1 else Joined("|", parts)
        return Joined("!", [node]) if is_negated else node

    def command(self) -> Node:
        """Return a command, or a group of them."""
        group: Node | None = None
        if self.takes("("):
            group = self.sequence(Token(")", True))
        elif self.left and self.left[-1] == Token("{"):
            self.left.pop()
            group = self.sequence(Token("}"))
        words = []
        while self.left and (self.next_is(*REDIRECTS) or not self.left[-1].is_operator):
            token = self.left.pop()
            if not token.is_operator:
                words.append(token.text)
            elif self.left:
                self.left.pop()
        if (not words and not group) or words[:1] in ([k] for k in KEYWORDS) or self.next_is("("):
            raise ValueError("not read here")
        return group or Run(words)


def findings(node: Node, went_well: bool | None, output: str) -> Iterator[Finding]:
    """Yield what is sure of each command of a text, given how the whole of it went.

    What runs on in the background has not come to its end, and is left out.
    """
    if isinstance(node, Joined):
        if node.operator != "&":
            verdicts = _verdicts(node, went_well, output)
            for part, verdict in zip(node.parts, verdicts):  # noqa: B905 - Python 3.9
                yield from findings(part, verdict, output)
        return
    words = unwrapped(node.words)
    if words and words[0] in SHELLS:
        for i, word in enumerate(words[:-1]):
            if word.startswith("-") and word.endswith("c"):
                yield from findings(read(words[i + 1]), went_well, output)
                return
    if words:
        yield Finding(words, went_well)


def _verdicts(node: Joined, went_well: bool | None, output: str) -> list[bool | None]:
    """Return how each part of commands went, as far as it follows from how all of them went."""
    parts, n = node.parts, len(node.parts)
    unknown: list[bool | None] = [None] * n
    if went_well is None or not parts:
        return unknown
    if node.operator == "!":
        return [not went_well]
    if node.operator == "&&":
        if went_well:
            return [True] * n
        loud = [i for i, part in enumerate(parts) if not _is_quiet(part, output)]
        return [False if loud == [i] else None for i in range(n)]
    if node.operator == "||":
        return unknown if went_well else [False] * n
    if node.operator == ";" and went_well and _stops_at_errors(parts[0]):
        return [True] * n
    return [*unknown[1:], went_well]


def _is_quiet(node: Node, output: str) -> bool:
    if not isinstance(node, Run) or node.words[0] not in QUIET:
        return False
    return not any(f"{word}: " in output for word in node.words)


def _stops_at_errors(node: Node) -> bool:
    if not isinstance(node, Run) or node.words[0] != "set":
        return False
    return any(word.startswith("-") and "e" in word for word in node.words)
