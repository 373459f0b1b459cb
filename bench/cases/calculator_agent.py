"""An agent with a calculator, for `runmgr batch --agent`: the model is given with `--model`."""

from __future__ import annotations

import ast
import operator

from runmgr import Agent

OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Mod: operator.mod, ast.FloorDiv: operator.floordiv,
}  # fmt: skip

agent = Agent(instructions="Solve the problem step by step. Use the calculator for every sum.")


@agent.tool_plain(idempotent=True)
async def calculator(expression: str) -> str:
    """Work out an arithmetic expression.

    Args:
        expression: numbers, + - * / and brackets.
    """
    try:
        return f"{evaluate(ast.parse(expression.replace('%', '/100').lstrip(), mode='eval').body):g}"
    except (SyntaxError, ValueError, ZeroDivisionError) as error:
        return f"cannot work that out: {error}"


def evaluate(node: ast.expr) -> float:
    """The value of an expression of numbers."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](evaluate(left), evaluate(right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](evaluate(operand))
    raise ValueError(f"{ast.unparse(node)} is not arithmetic")
