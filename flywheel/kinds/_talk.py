"""What models say around an answer, in many languages: "Sure! Here is a caption:", "Final answer:", "Let me know"."""

from __future__ import annotations

import re

_REST = r"[^.!?:\n。！？：]"
_NOUN = (
    r"(?:captions?|descriptions?|summary|summaries|transcripts?|transcriptions?|answers?|responses?|outputs?|json"
    r"|lists?|tags|narrations?|breakdown|overview|analysis|versions?|sentences?|paragraphs?|rewrite|rendition"
    r"|account)"
)
_LABEL = (
    r"(?:(?:final|video|image|clip|scene|detailed|short|brief|concise|suggested|possible|proposed|the|my)\s+){0,3}"
    r"(?:caption|description|summary|answer|response|output|reply|transcript|transcription|assistant|alt text)"
)

#: Each begins a reply and is followed by the answer. What ends in a colon may also end its line.
_END = r"(?:\s*[:：]\s*|[.!]?[ \t]*\n\s*)"
_HERE = (
    rf"(?:(?:as requested|based on|from|given|looking at|according to|after watching){_REST}{{0,80}}, ?)?"
    rf"(?:here(?:['’]s| is| are)|below (?:is|are)|(?:the )?following (?:is|are)|i(?:['’]ve| have) (?:written|made"
    rf"|prepared))\b"
    rf"{_REST}{{0,80}}?\b{_NOUN}\b{_REST}{{0,120}}{_END}",
    rf"(?:the|a|an|my|one)(?: [\w-]+){{0,4}}? (?:caption|description|summary|answer|response)"
    rf"(?: (?:for|of|to) {_REST}{{0,60}}?(?:video|clip|footage|scene|frames|question|it|image))?"
    rf"(?: (?:is|would be|could be|reads?))?(?: as follows)?\s*[:：]\s+",
    r"(?:the|this) (?:video|clip) (?:can|could|may|might) be (?:described|summari[sz]ed"
    r"|captioned) as(?: follows)?\s*[:：]\s*",
    rf"(?:let me|i['’]ll|i will|i['’]m going to|allow me to) (?:describe|caption|summari[sz]e|analy[sz]e|explain"
    rf"|provide){_REST}{{0,100}}{_END}",
    rf"(?:以下是|下面是|以下為|以下为|这是|這是|这里是){_REST}{{0,40}}?(?:描述|说明|說明|字幕|标题|標題|总结|總結|回答|答案|内容|內容|文案)"
    rf"{_REST}{{0,12}}[：:]\s*",
    rf"(?:以下|こちら|次)(?:は|が|に|の){_REST}{{0,40}}(?:説明|キャプション|字幕|要約|回答|描写){_REST}{{0,12}}[：:。]\s*",
    rf"(?:다음은|아래는|여기){_REST}{{0,40}}(?:설명|캡션|자막|요약|답변){_REST}{{0,12}}[:：]\s*",
    rf"(?:aquí (?:tienes|está|te dejo)|a continuación|esta es){_REST}{{0,80}}?(?:descripci[oó]n|subt[ií]tulo"
    rf"|leyenda|resumen|respuesta)"
    rf"{_REST}{{0,80}}[:：]\s*",
    rf"(?:voici|voilà|ci-dessous){_REST}{{0,80}}?(?:description|légende|résumé|réponse"
    rf"|sous-titre){_REST}{{0,80}}[:：]\s*",
    rf"(?:hier (?:ist|sind|kommt|folgt)|nachfolgend){_REST}{{0,80}}?(?:beschreibung|bildunterschrift|untertitel"
    rf"|zusammenfassung|antwort)"
    rf"{_REST}{{0,80}}[:：]\s*",
    rf"(?:ecco|di seguito){_REST}{{0,80}}?(?:descrizione|didascalia|riassunto|risposta){_REST}{{0,80}}[:：]\s*",
    rf"(?:aqui está|aqui vai|segue){_REST}{{0,80}}?(?:descrição|legenda|resumo|resposta){_REST}{{0,80}}[:：]\s*",
    rf"(?:вот|ниже|представляю){_REST}{{0,60}}?(?:описание|подпись|ответ|субтитр|резюме){_REST}{{0,60}}[:：]\s*",
    rf"(?:oto|poniżej){_REST}{{0,60}}?(?:opis|podpis|odpowiedź){_REST}{{0,60}}[:：]\s*",
    rf"(?:hier is|hieronder){_REST}{{0,60}}?(?:beschrijving|bijschrift|samenvatting|antwoord){_REST}{{0,60}}[:：]\s*",
)
_LABELS = (
    rf"{_LABEL}(?:\s*\([^()\n]{{0,40}}\))?(?:\s*#?\d{{1,2}})?\s*[*_]*\s*[:：]\s*[*_]*\s*",
    r"(?:视频|視頻|影片|画面)?(?:描述|说明|說明|字幕|标题|標題|答案|回答|最终答案|最終答案|总结|總結|摘要)\s*[：:]\s*",
    r"(?:動画の)?(?:キャプション|説明|回答|要約|最終回答)\s*[：:]\s*",
    r"(?:캡션|설명|답변|요약|자막)\s*[:：]\s*",
    r"(?:descripci[oó]n|leyenda|respuesta(?: final)?|resumen|légende|réponse(?: finale)?|résumé|beschreibung"
    r"|bildunterschrift|antwort|zusammenfassung|descrizione|didascalia|risposta|descrição|legenda|resposta|resumo"
    r"|описание|подпись|ответ|opis|odpowiedź|beschrijving|antwoord)\s*[:：]\s*",
)
_FRIENDLY = (
    r"(?:sure(?: thing)?|certainly|of course|absolutely|definitely|okay|ok|alright|all right|great|got it|no problem"
    r"|understood|gladly|¡?claro(?: que sí)?|por supuesto|bien sûr|certainement|avec plaisir|natürlich|gerne"
    r"|selbstverständlich"
    r"|certo|certamente|com certeza|конечно|oczywiście|natuurlijk)"
)
#: The answer begins with a capital, a quote, a mark or a script without capitals.
_ANSWER = r"(?=[A-ZÀ-ÞА-ЯĀ-Ž¿¡\"“«*#`\[{]|\d|[^\W\d_a-zß-ÿа-я])"
_INTERJECTION = (
    rf"(?i:{_FRIENDLY})\s*[!.！。]+\s*(?:[😊🙂👍😀]\s*)?{_ANSWER}",
    rf"(?i:{_FRIENDLY})\s*[,!]\s*(?=(?i:here|below|voici|hier |aquí|ecco|вот|aqui|let me|i['’]ll|i will))",
    r"(?:好的|当然可以|当然|當然|没问题|沒問題|もちろんです|もちろん|承知しました|承知いたしました|わかりました|물론입니다|물론이죠|알겠습니다)[，,、。！!]\s*",
)
#: A mark of emphasis or a heading may stand before any of these.
_BEFORE = r"\A[\s*_#>]{0,40}"
LEADING = re.compile(
    rf"{_BEFORE}(?:(?i:{'|'.join((*_HERE, *_LABELS))})|{'|'.join(_INTERJECTION)})(?=\s*\S)",
)
#: A heading that is a label, on a line of its own.
HEADING = re.compile(rf"\A\s*(?:#{{1,6}}\s*[*_]*\s*{_LABEL}|\*\*\s*{_LABEL}\s*)\s*[*_]*\s*[:：]?\s*\n\s*(?=\S)", re.I)
#: Before a final answer stands how it was found.
FINAL = re.compile(
    r"\A.*(?:^|(?<=[.!?\s]))[*_#\s]{0,12}(?:(?:my )?final (?:answer|caption|description|response|output)"
    r"|最终答案|最終答案"
    r"|最終回答|respuesta final"
    r"|réponse finale|endgültige antwort|окончательный ответ)(?: is)?[*_\s]*[:：][*_\s]*(?=\S)",
    re.I | re.S | re.M,
)
_FOUND_BY = (
    r"(?:question|reasoning|thoughts?|thinking|analysis|explanation|rationale|observations?|let'?s think|step \d+)"
)
REASONED = re.compile(
    rf"\A[\s*_#]{{0,12}}{_FOUND_BY}\b[^\n]{{0,200}}[:.].*?^[ \t*_#]{{0,12}}(?:{_LABEL})[*_\s]*[:：][*_\s]*(?=\S)",
    re.I | re.S | re.M,
)

_OFFER = (
    r"(?:please )?let me know (?:if|whether|how|what)|feel free to (?:ask|reach|let|contact|request|adjust|modify"
    r"|use|edit)"
    r"|(?:i )?hope (?:this|that|it) (?:helps|meets|is helpful|works|captures)|would you like me to|do you want me to"
    r"|is there anything else (?:i|you)|if you (?:need|have|want|would like|'d like|require)\b[^.\n]{0,80}"
    r"(?:let me know|feel free|just ask|happy to|ask)|i(?:'m| am) happy to help"
)
_REMARK = r"\(?\**(?:note|explanation|disclaimer|reasoning|rationale|word count|confidence)\**\s*[:：]"
_FOREIGN_OFFER = (
    r"希望这|希望這|如果(?:您|你)(?:有|还有|需要|想)[^\n]{0,40}(?:告诉我|告訴我|随时|隨時)|(?:他に|何か)[^\n]{0,30}(?:お知らせ|お気軽)"
    r"|espero que (?:esto|te|le)|j'espère que|n'hésitez pas|ich hoffe,|lass(?:en sie)? mich wissen"
    r"|дайте (?:мне )?знать|надеюсь,"
)
#: What follows the answer: an offer of more help after a sentence, a remark after a line.
TRAILING = re.compile(
    rf"(?:(?<=[.!?…。！？*)\]}}`])[ \t]*|\s*\n\s*)(?:{_OFFER}|{_FOREIGN_OFFER})[^\n]{{0,250}}\s*\Z"
    rf"|\s*\n\s*(?:---+\s*\n\s*)?(?:{_REMARK}).*\Z",
    re.I | re.S,
)
