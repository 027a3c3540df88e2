"""The table of accuracies: means over what every method has, a category once."""

from typing import Any

from tests.bench.accuracy import AT_LEVEL, SHOWN, table


def row(category: str, method: str, seed: int, value: float) -> dict[str, Any]:
    return {"category": category, "method": method, "seed": seed} | dict.fromkeys(SHOWN, value)


def test_a_mean_counts_a_category_once_and_only_where_every_method_was_measured() -> None:
    rows = [
        row("a", "ours", 0, 0.8),
        row("a", "ours", 1, 0.6),
        row("b", "ours", 0, 0.1),
        row("c", "ours", 0, 0),
    ]
    rows += [row("a", "peer", 0, 0.5), row("b", "peer", 0, 0.3)]
    means = [line for line in table(rows) if line.startswith("| mean")]
    empty = " | ".join("" for _ in AT_LEVEL)
    assert means == [
        f"| mean of 2 | {method} | | {' | '.join(['0.400'] * len(SHOWN))} | {empty} |"
        for method in ("ours", "peer")
    ]
