"""Whether two spellings are one holder's name: the one that was given, and the one that a bank tells.

Both are brought to a list of words:
1. compatibility characters and accents are resolved (Unicode NFKD, combining marks dropped), case is folded;
2. apostrophes and full stops vanish (`O'Neil` is `oneil`, `J.` is `j`), all other punctuation parts words;
3. forms of address are dropped (`mr`, `alhaji`, `smt`), and a company's usual short forms written out (`ltd`).

They match if the letters of all words, run together, are the same (`Mary Ann`, `Maryann`), or if each word of the
shorter list has one of its own in the other: the same word, or one that the other's single letter begins. The shorter
list must have at least two words, and at least one of them, of two letters or more, must be the same in full. So order
doesn't matter, nor do further names that only one side has.

What this doesn't see: transliteration (`Mohammed`, `Muhammad`), nicknames, misspellings, names that a bank cut off,
maiden names. All these are refused, and a person looks. What it takes for the same: two people of whom one has all the
names of the other and more (`Ada Obi`, `Ada Chioma Obi`).
"""

import re
import unicodedata
from collections import Counter

_VANISHING = re.compile(r"['`.\u2018\u2019\u02bc]")
_WORD = re.compile(r"[^\W_]+")
_ADDRESSES = frozenset({
    "mr", "mrs", "ms", "miss", "mx", "dr", "prof", "sir", "madam", "rev", "pastor", "engr", "barr",
    "chief", "alhaji", "alh", "alhaja", "hajia", "shri", "sri", "smt", "kumari",
})  # fmt: skip
_WRITTEN_OUT = {
    "ltd": "limited", "pvt": "private", "co": "company", "corp": "corporation", "inc": "incorporated",
    "ent": "enterprises", "intl": "international", "nig": "nigeria",
}  # fmt: skip
_WORDS_MIN = 2


def words(name: str) -> list[str]:
    """The words of a name as they are compared."""
    plain = "".join(each for each in unicodedata.normalize("NFKD", name) if not unicodedata.combining(each))
    # Folding may make letters with marks anew, such as that of the Turkish capital I.
    folded = "".join(
        each for each in unicodedata.normalize("NFKD", plain.casefold()) if not unicodedata.combining(each)
    )
    found = _WORD.findall(_VANISHING.sub("", folded))
    kept = [_WRITTEN_OUT.get(word, word) for word in found if word not in _ADDRESSES]
    return kept or found


def matches(given: str, told: str) -> bool:
    """Whether both name one holder. Which of the two is which makes no difference."""
    first, second = words(given), words(told)
    if not first or not second:
        return False
    if "".join(first) == "".join(second):
        return True
    shorter, longer = sorted((first, second), key=len)
    same = Counter(shorter) & Counter(longer)
    if len(shorter) < _WORDS_MIN or not any(len(word) > 1 for word in same):
        return False
    return _begin(Counter(shorter) - same, Counter(longer) - same)


def _begin(left: Counter[str], others: Counter[str]) -> bool:
    """Whether each of these words has one of its own among the others that it begins, or that begins it."""
    for letter in {word[0] for word in left}:
        initials, whole = left[letter], _beginning(left, letter)
        if initials > _beginning(others, letter) or whole > others[letter]:
            return False
    return True


def _beginning(words_: Counter[str], letter: str) -> int:
    return sum(count for word, count in words_.items() if len(word) > 1 and word[0] == letter)
