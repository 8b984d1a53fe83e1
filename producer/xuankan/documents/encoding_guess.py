"""Which legacy encoding bytes are in, by the letters that they would be.

charset-normalizer and chardet want more text than a table's accents are: of a short Chinese file the former
says Korean, of a French one too. Whether letters come out that are common in the languages of an encoding
tells better, because a wrong encoding gives rare characters and signs. A few titles hold few of the commonest
characters of Chinese or Japanese; so there it counts too whether all are everyday ones, which the standards
have put into rows of their own.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

_LATIN: Final = "éèàùçâêîôûëïüäößñáíóúãõåøæÉÈÀÇÄÖÜØÅÁ«»’‘“”–—…°±×µ·§©®ª\xa0"
# In the order in which they are believed where two say the same.
_COMMON: Final = {
    "cp1252": frozenset(_LATIN + "œ€™•¿¡¼½²³"),
    "gb18030": frozenset(
        "的一是在了不和有大这中为上个用法与对研究方本文提出结果表明分析基于模型数据系统可以性学关键词摘要题名能成时发生法其通过"
        "及等水度高量化式力作理技术工业质，。、；：（）“”"
    ),
    "big5": frozenset(
        "的一是在了不和有大這中為上個用法與對研究方本文提出結果表明分析基於模型數據系統可以性學關鍵詞摘要標題能成時發生其通過"
        "及等水度高量化式力作理技術工業質，。、；：（）「」"
    ),
    "cp932": frozenset(
        "のにはをたがでてとしれさいるすあこきからなっりくもまうつ、。・「」（）ーインスルトラリタシクア研究本学法的"
    ),
    "euc_jp": frozenset(
        "のにはをたがでてとしれさいるすあこきからなっりくもまうつ、。・「」（）ーインスルトラリタシクア研究本学法的"
    ),
    "cp949": frozenset("이다는의가을를에하고한로서적과은사기시지도로연구결분석인대자해위있제방법통수정성"),
    "cp1251": frozenset("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфёії«»–—№"),
    "koi8_r": frozenset("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфё"),
    "cp866": frozenset("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфё"),
    "cp1253": frozenset("αειοντσρκλπυμηωςγδθχφβξζάέίόήώύ"),
    "cp1256": frozenset("اليمونرتبةعدسفحهكجقأشصخطذضئزىءثغظإپچگیک،؛"),
    "cp1255": frozenset("אבגדהוזחטיכלמנסעפצקרשתםןץףך"),
    "cp1250": frozenset("ąćęłńóśźżáčďéěíňřšťúůýžőűăîâşţäöüßŁŚŻŠČŘŽ–—„”’«»\xa0"),
    "cp1254": frozenset("çğıöşüâîûÇĞİÖŞÜ’“”–\xa0"),
    "mac_roman": frozenset(_LATIN),
}
# First bytes of the rows of everyday characters: punctuation, syllables, the first level of ideographs.
_EVERYDAY: Final = {
    "gb18030": frozenset([*range(0xA1, 0xA4), *range(0xB0, 0xD8)]),
    "big5": frozenset(range(0xA1, 0xC7)),
    "cp932": frozenset([*range(0x81, 0x84), *range(0x88, 0x98)]),
    "euc_jp": frozenset([0xA1, 0xA4, 0xA5, *range(0xB0, 0xD0)]),
    "cp949": frozenset([0xA1, *range(0xB0, 0xC9)]),
}
_HIGH_ONLY: Final = frozenset({"gb18030", "euc_jp", "cp949"})
"""Of these the second byte is high too; behind a Western accent mostly a letter of ASCII stands."""
_WESTERN: Final = frozenset({"cp1252", "cp1250", "cp1254", "mac_roman"})
_RUN: Final = re.compile(r"[^\W\d_A-Za-z]{3,}")
_HALF_LATIN: Final = re.compile(r"[A-Za-z][^\W\d_A-Za-z]|[^\W\d_A-Za-z][A-Za-z]")
_ENOUGH: Final = 0.2
_EVERYDAY_WEIGHT: Final = 0.8


def guess_encoding(sample: bytes) -> str:
    """The codec's name; windows-1252 if nothing tells."""
    best, best_score = "cp1252", _ENOUGH
    for name, letters in _COMMON.items():
        try:
            text = codecs.getincrementaldecoder(name)().decode(sample)  # it may end within a character
        except UnicodeDecodeError:
            continue
        score = _score(text, letters, is_western=name in _WESTERN)
        if name in _EVERYDAY:
            score += _EVERYDAY_WEIGHT * _everyday(text, name)
        elif name not in _WESTERN:  # no word is half in Greek, say, and half in Latin letters
            score -= len(_HALF_LATIN.findall(text)) / max(1, sum(character > "\x7f" for character in text))
        if score > best_score:
            best, best_score = name, score
    return best


def _everyday(text: str, name: str) -> float:
    """The share of everyday ones among characters that are not ASCII."""
    foreign = [character.encode(name, "replace") for character in text if character > "\x7f"]
    lowest = 0xA1 if name in _HIGH_ONLY else 0x40
    usual = sum(len(two) == 2 and two[0] in _EVERYDAY[name] and two[1] >= lowest for two in foreign)
    return usual / len(foreign) if foreign else 0.0


def _score(text: str, letters: frozenset[str], *, is_western: bool) -> float:
    """The share of common ones among letters that are not ASCII, less what no language writes."""
    foreign = [character for character in text if character > "\x7f"]
    if not foreign:
        return 0.0
    score = sum(character in letters for character in foreign) / len(foreign)
    if is_western:  # their accents do not follow each other
        score -= sum(map(len, _RUN.findall(text))) / len(foreign)
    # Capitals within words, which a wrong encoding gives.
    inner = [character for character in foreign if character.isupper() and not is_western]
    return score - max(0, len(inner) - 0.2 * len(foreign)) / len(foreign)
