from mmpanoptic.evaluation.tables import render_table


def test_a_table_looks_as_mmdet_users_know_it():
    rows = [["road", 45.126, 1000], ["a b", float("nan"), None]]
    assert render_table("A title that is wider than the table", ["class", "PQ", "n"], rows) == (
        "A title that is wider than the table\n"
        "+-------+-------+-------+\n"
        "| class |    PQ |     n |\n"
        "+-------+-------+-------+\n"
        "| road  | 45.13 | 1,000 |\n"
        "| a b   |     - |     - |\n"
        "+-------+-------+-------+"
    )


def test_wide_tables_are_not_cut():
    names = [f"a long name of column {k}" for k in range(30)]
    lines = render_table("", names, [range(30)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert all(name in lines[1] for name in names)
