"""Strings of source code folded to the text that they make, as far as they are made of constants."""

import ast


def fold(node: ast.expr) -> str | None:
    """The text that an expression of constants makes, or None if it is not text or not constant."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bytes):
            return node.value.decode("latin-1")
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [fold(node.left), fold(node.right)]
        return None if None in parts else "".join(part or "" for part in parts)
    if isinstance(node, ast.JoinedStr):
        parts = [fold(v.value if isinstance(v, ast.FormattedValue) else v) for v in node.values]
        return None if None in parts else "".join(part or "" for part in parts)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        return _fold_slice(node)
    if isinstance(node, ast.Call):
        return _fold_call(node)
    return None


def _fold_slice(node: ast.Subscript) -> str | None:
    text = fold(node.value)
    try:
        assert isinstance(node.slice, ast.Slice)
        ends = [
            None if e is None else ast.literal_eval(e)
            for e in (node.slice.lower, node.slice.upper, node.slice.step)
        ]
        return None if text is None else text[slice(*ends)]
    except (ValueError, TypeError):
        return None


def _fold_call(node: ast.Call) -> str | None:
    """`"".join([...])`, `b"...".decode()`, `bytes.fromhex("...")`, `chr(112)` and the like, of constants."""
    function, arguments = node.func, node.args
    if isinstance(function, ast.Name) and function.id == "chr" and len(arguments) == 1:
        code = arguments[0]
        return chr(code.value) if isinstance(code, ast.Constant) and isinstance(code.value, int) else None
    if not isinstance(function, ast.Attribute):
        return None
    if function.attr == "fromhex" and arguments:
        digits = fold(arguments[0])
        try:
            return None if digits is None else bytes.fromhex(digits).decode("latin-1")
        except ValueError:
            return None
    text = fold(function.value)
    if text is None:
        return None
    if function.attr in ("decode", "encode", "lower", "upper", "strip", "casefold", "swapcase"):
        plain = {"decode": str, "encode": str}.get(function.attr)
        return text if plain else getattr(text, function.attr)()
    if function.attr == "join" and len(arguments) == 1 and isinstance(arguments[0], (ast.List, ast.Tuple)):
        parts = [fold(element) for element in arguments[0].elts]
        return None if None in parts else text.join(part or "" for part in parts)
    if function.attr == "replace" and len(arguments) == 2:
        old, new = (fold(argument) for argument in arguments)
        return None if old is None or new is None else text.replace(old, new)
    return None
