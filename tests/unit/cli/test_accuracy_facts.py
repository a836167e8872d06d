"""The accuracy of a manifest on the screen: each name said once, in the words of other output."""

from __future__ import annotations

from edgeinspect.cli._accuracy_facts import accuracy_facts


def test_a_table_with_the_name_of_its_figure_is_named_once() -> None:
    shown = dict(
        accuracy_facts(
            {
                "pictures": 30,
                "auc": 0.96,
                "auc_interval": [0.8, 0.99],
                "recall_at_1_percent_false_rejects": {"recall": 0.9, "interval": [0.6, 1.0]},
                "line": {"pictures": 30, "escape": None},
            }
        )
    )
    assert shown == {
        "images": "30",
        "auc": "0.96",
        "auc interval": "0.8 to 0.99",
        "recall at 1 percent false rejects": "0.9",
        "recall at 1 percent false rejects interval": "0.6 to 1.0",
        "line images": "30",
        "line escape": "undefined",
    }
