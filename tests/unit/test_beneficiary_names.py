"""Whether two spellings are one holder's name."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.beneficiary.names import matches, words


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ("Ada Obi", "ADA OBI"),
        ("Ada Obi", "OBI, ADA CHIOMA"),
        ("Mr. Ada Obi", "Obi Ada"),
        ("A. Obi", "ADA OBI"),
        ("Ada C Obi", "OBI ADA CHIOMA"),
        ("A C Obi", "OBI CHIOMA ADA"),
        ("Mary-Ann O'Neil", "ONEIL MARY ANN"),
        ("Mary Ann", "MARYANN"),
        ("José Núñez", "JOSE NUNEZ"),
        ("Zo\u00eb de la Cruz", "DE LA CRUZ ZOE\u0308"),
        ("Müller-Lüdenscheidt, Karl", "KARL MULLER LUDENSCHEIDT"),
        ("Acme Foods Ltd.", "ACME FOODS LIMITED"),
        ("Cher", "CHER"),
        ("Ada\u00a0Obi", "\uff21\uff24\uff21 \uff2f\uff22\uff29"),
    ],
)
def test_one_holder(given_: str, told: str) -> None:
    assert matches(given_, told) and matches(told, given_)


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ("Ada Obi", "ADA OKAFOR"),
        ("Ada Obi", "BOLA OBI"),
        ("Obi", "ADA OBI"),  # a surname alone names many
        ("A O", "ADA OBI"),  # initials alone do, too
        ("A B C", "ADA BOLA CHI OBI"),
        ("Ada Obi Eze", "ADA OBI"[:6]),
        ("Ada Ada", "ADA OBI"),  # a word stands for one word
        ("A A Obi", "ADA BOLA OBI"),
        ("Ad Obi", "ADA OBI"),  # no initial
        ("", ""),
        ("", "ADA OBI"),
        ("...", "---"),
        ("Mohammed Bello", "MUHAMMAD BELLO"),  # a person looks
        ("John Doe J", "JO DOE J"),
    ],
)
def test_another_holder(given_: str, told: str) -> None:
    assert not matches(given_, told) and not matches(told, given_)


WORD = st.text(string.ascii_lowercase, min_size=2, max_size=8)
NAME = st.lists(WORD, min_size=2, max_size=5)
ALIKE = st.lists(st.sampled_from(["a", "b", "ab", "ba", "abc"]), max_size=5)
ANY = st.text(alphabet=st.one_of(st.sampled_from("ab .-'"), st.characters()), max_size=20)


@given(ANY, ANY)
def test_it_has_no_sides(one: str, other: str) -> None:
    assert matches(one, other) is matches(other, one)


@given(ALIKE, ALIKE)
def test_it_has_no_sides_where_words_are_few_and_alike(one: list[str], other: list[str]) -> None:
    assert matches(" ".join(one), " ".join(other)) is matches(" ".join(other), " ".join(one))


@given(NAME, st.data())
def test_order_case_punctuation_initials_and_more_names_make_no_difference(
    name: list[str], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(name))
    told = " ".join([*shuffled, *data.draw(st.lists(WORD, max_size=2))]).upper()
    whole = data.draw(st.integers(0, len(name) - 1))  # one is written out, each of the others maybe not
    written = [word if at == whole or data.draw(st.booleans()) else f"{word[0]}." for at, word in enumerate(name)]
    if len(words(" ".join(name))) == len(name) and words(name[whole]) == [name[whole]]:
        assert matches(data.draw(st.sampled_from([", ", " ", "-", "  "])).join(written), told)


@given(NAME, NAME)
def test_people_without_a_word_in_common_are_never_one(one: list[str], other: list[str]) -> None:
    if not set(words(" ".join(one))) & set(words(" ".join(other))) and "".join(one) != "".join(other):
        assert not matches(" ".join(one), " ".join(other))


@given(ANY)
def test_the_words_of_words_are_the_same(name: str) -> None:
    assert words(" ".join(words(name))) == words(name)
