"""Languages by their letters beyond ASCII and their commonest words: what tells eight-bit encodings apart.

A language is a line. Words are those that stand in nearly every text of it and in few of others.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Language:
    """Letters beyond ASCII that its texts have, in lower case, and its commonest words."""

    letters: frozenset[str]
    words: frozenset[str]


def _language(letters: str, words: str) -> Language:
    return Language(letters=frozenset(letters), words=frozenset(words.split()))


WESTERN = {
    "English": _language("éèêëçñöüäïâôáíóúà", "the and you is it of to that what this in for not with are have"),
    "French": _language(
        "àâçéèêëîïôœùûüÿ", "le la les de des et est un une je tu il que qui pas vous nous ce dans ça très où été déjà"
    ),
    "German": _language(
        "äöüßé", "der die das und ist ich nicht ein eine sie es wir du zu mit den für auf über können später schön"
    ),
    "Spanish": _language("áéíñóúü", "el la los las que de y es un una no por con para qué está más sí aquí señor día"),
    "Portuguese": _language("áâãàçéêíóôõúü", "o os as de que e um uma para com por não é você está são mais ele isso"),
    "Italian": _language("àèéìíîòóùú", "il lo la che di è non un una per con sono più perché così mi ti questo come"),
    "Dutch": _language("éèëïöüáóí", "de het een en van ik je niet dat is zijn wat met voor maar één hij zij ook"),
    "Swedish": _language("åäöé", "och att det är en jag du inte som på för vi har kan så till från här där går"),
    "Danish": _language("æøåéö", "og at det er en jeg du ikke som på for vi har kan så til fra her der være går"),
    "Finnish": _language("äöåé", "ja on ei se että en hän minä mitä sinä tämä niin mutta ole olen kun nyt hyvää"),
    "Catalan": _language("àçèéíïòóúü", "el la els les de que és no una per amb què està més això i jo també"),
    "Icelandic": _language("áðéíóúýþæö", "og að það er ég þú ekki sem við hann hún til þetta í á um fyrir"),
}
CENTRAL = {
    "Polish": _language("ąćęłńóśźż", "nie to się że na jest w do co jak z tak ale ja za dlaczego tylko już będzie"),
    "Czech": _language("áčďéěíňóřšťúůýž", "je to se na že v co jak ne jsem tak ale já proč jsi už když není bude"),
    "Slovak": _language("áäčďéíĺľňóôŕšťúýž", "je to sa na že v čo ako nie som tak ale ja prečo si už keď bude áno"),
    "Hungarian": _language("áéíóöőúüű", "a az és nem hogy van egy ez mi de csak ha már miért vagy még meg jó szépen"),
    "Romanian": _language("ăâîşţ", "nu de şi să că este un o ce în la cu pe am mai te ai asta sunt aţi pentru"),
    "Croatian": _language("čćđšž", "je da se ne to što na u i sam za mi si ali kako nije već zašto samo ću"),
}
TURKISH = {"Turkish": _language("çğıöşüâî", "bir ve bu ne için de da ben sen çok değil mi evet hayır şimdi artık olan")}
GREEK = {"Greek": _language("αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋΐΰ", "και το να η ο δεν είναι την που θα με για")}
BALTIC = {
    "Lithuanian": _language("ąčęėįšųūž", "ir kad tai ne į su aš yra kas bet jis taip mes iš ką ar kaip"),
    "Latvian": _language("āčēģīķļņšūž", "ir un ka tas ne es ar kas bet viņš jā mēs no par kā tu vai"),
}
#: Of Cyrillic the letters that make up most of any text.
CYRILLIC_COMMON = frozenset("оеаинтсрвлкі")
CYRILLIC_VOWELS = frozenset("аеёиоуыэюяіїєъ")
#: Signs that stand in nearly every line: of Chinese, simplified and traditional, and of Korean.
SIMPLIFIED = frozenset(
    "的一是不了在有我他这你们来到时大地为子说生国着就那和要她出也得里后会好个吗没对什么请谢经很晚门关知道"
)
TRADITIONAL = frozenset(
    "的一是不了在有我他這你們來到時大地為子說生國著就那和要她出也得裡後會好個嗎沒對什麼請謝經很晚門關知道"
)
KOREAN = frozenset("이다는을를의에가하고지은도한로서나어니습그게해요세있리아사")
