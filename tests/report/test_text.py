from decimal import Decimal

import pytest

from runmgr.report import text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.count(12345), "12,345"),
        (text.count(12_345_678), "12.35M"),
        (text.plural(1, "run"), "1 run"),
        (text.plural(2000, "run"), "2,000 runs"),
        (text.dollars(Decimal("0.0123")), "$0.0123"),
        (text.dollars(1234.5), "$1,234.50"),
        (text.dollars(None), "unknown"),
        (text.duration(0.0801), "80.1 ms"),
        (text.duration(1.52), "1.5 s"),
        (text.duration(59.4), "59 s"),
        (text.duration(185), "3:05"),
        (text.duration(3723), "1:02:03"),
        (text.duration(None), "-"),
        (text.score(0.5625, 0.0137), "0.5625 ± 0.0137"),
        (text.score(1, None), "1.0000"),
        (text.score(None, None), "-"),
        (text.percent(0.5625), "56.25 %"),
        (text.tokens({"input_tokens": 1200, "output_tokens": 3}), "1,200 in, 3 out"),
        (text.printable("a\tb\nc\x1b[2J\x9b\u202e"), "a\tb\nc\\x1b[2J\\x9b\\x202e"),
    ],
)
def test_figures_as_people_read_them(shown, expected):
    assert shown == expected
