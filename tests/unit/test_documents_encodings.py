"""Legacy encodings of short files, as a bibliography of a few titles is, are told by their letters."""

from __future__ import annotations

import pytest

from xuankan.documents import Document, File, read

TITLES = {
    "gbk": ("遥感影像滑坡识别", "水稻基因组测序", "陶瓷断裂韧性", "钙钛矿太阳能电池", "王小明 and 陈建国"),
    "big5": ("遙感影像滑坡識別", "卷積神經網路", "水稻基因組測序", "鈣鈦礦太陽能電池", "臺灣農業"),
    "cp932": ("深層学習による画像認識", "山田太郎", "ペロブスカイト太陽電池", "肺がん患者"),
    "euc_jp": ("深層学習による画像認識", "日本語の構文解析"),
    "cp949": ("딥러닝 기반 영상 인식", "페로브스카이트 태양전지", "폐암 환자의 생존율 분석"),
    "cp1252": (
        "Schrödinger's cat",
        "étude des réseaux",
        "Ångström Øresund",
        "naïve café – “quoted”",
        "élève",
    ),
    "cp1251": ("Исследование сетей", "нейронные сети"),
    "koi8_r": ("Исследование сетей",),
    "cp1253": ("Μελέτη δικτύων",),
    "cp1250": ("Příliš žluťoučký kůň", "Łódź Kraków gęś"),
    "cp1254": ("İstanbul Üniversitesi öğrenci çalışması",),
    "mac_roman": ("étude des réseaux à Orléans",),
    "cp1256": ("دراسة الشبكات العصبية",),
    "cp1255": ("מחקר רשתות",),
}


@pytest.mark.parametrize(("codec", "title"), [(codec, title) for codec in TITLES for title in TITLES[codec]])
def test_one_title_is_enough(codec: str, title: str) -> None:
    entry = f"@article{{key,\n  title = {{{title}}},\n  year = 2020\n}}\n"
    (found,) = read(File("library.bib", data=entry.encode(codec)))
    assert isinstance(found, Document)
    assert found.title == title
    assert "please check accents" in found.warnings[0]
