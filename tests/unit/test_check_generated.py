"""Files made from code are as the code says."""

from local import check_generated


def test_what_is_kept_is_what_the_code_says() -> None:
    made = dict(check_generated.generated())
    assert "domain/deposit/states.md" in [str(path.relative_to(check_generated.ROOT)) for path in made]
    assert check_generated.main([]) == 0
