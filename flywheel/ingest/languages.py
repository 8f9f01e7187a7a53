"""Words in names of subtitles: languages as BCP 47 and ISO 639 have them, and whom a text is for."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: ISO 639-1.
_TWO = _words(
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz "
    "ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik "
    "io is it iu iw ja ji jv jw ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh "
    "mi mk ml mn mo mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru "
    "rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug "
    "uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
#: ISO 639-2, those that subtitles come in.
_THREE = _words(
    "eng spa fre fra ger deu ita por rus chi zho jpn kor ara hin ben urd tur pol dut nld swe dan nor nob nno "
    "fin ice isl cze ces slo slk hun rum ron bul hrv srp slv mac mkd alb sqi gre ell heb per fas tha vie ind "
    "may msa fil tgl ukr bel lit lav est geo kat arm hye aze kaz uzb mon tam tel mal kan mar guj pan sin nep "
    "bur mya khm lao swa amh som hau yor ibo zul xho afr cat eus baq glg cym wel gle yue cmn und mul zxx"
)
_NAMES = _words(
    "english spanish french german italian portuguese russian chinese japanese korean arabic hindi turkish "
    "polish dutch swedish danish norwegian finnish czech hungarian romanian bulgarian croatian serbian greek "
    "hebrew persian thai vietnamese indonesian ukrainian español castellano français deutsch italiano português "
    "русский 中文 日本語 한국어 chs cht chseng latino brazilian simplified traditional"
)
#: What stands beside a language, by how much less of what is said it holds: 0 is no such word.
_FLAGS = {
    **dict.fromkeys(("default", "full", "orig", "original", "subs", "sub", "subtitles", "captions", "transcript"), 1),
    **dict.fromkeys(("sdh", "cc", "hi", "auto", "asr", "automatic", "generated"), 2),
    **dict.fromkeys(("forced", "foreign", "signs", "songs"), 9),
}


def is_language(token: str) -> bool:
    """Whether a word is a language's code, with or without region and script, or its name."""
    first, *_ = re.split(r"[-_]", token.lower(), maxsplit=1)
    return len(token) <= 40 and (first in _TWO or first in _THREE or first in _NAMES)


def rank_of_flag(token: str) -> int:
    """How much less of what is said a text holds that is marked so; 0 for no mark."""
    return _FLAGS.get(token.lower(), 0)
