"""Refusals: replies in which a model says that it can't, won't or sees nothing, in the languages it may say so in.

A caption that speaks of somebody who can't, or cites him, is none: a refusal begins the reply, and nobody says it.
"""

from __future__ import annotations

import re

_CANT = (
    r"(?:can'?t|can ?not|cannot|am unable to|'m unable to|unable to|am not able to|'m not able to|not able to"
    r"|won't|will not"
    r"|couldn't|could not|don't have the (?:ability|capability)(?: to)?|do not have the (?:ability"
    r"|capability)(?: to)?"
    r"|lack the ability to|must decline|have to decline|am not (?:allowed|permitted|comfortable)|'m not (?:allowed"
    r"|permitted"
    r"|comfortable|going to))"
)
_WITH = (
    r"(?:help|assist|descri|provide|see|view|watch|access|process|analy[sz]|generate|create|identif|comply|fulfil"
    r"|answer"
    r"|continue|engage|discuss|determine|hear|listen|interpret|open|play|produce|write|give|offer|recogni[sz]"
    r"|complete|make|caption"
    r"|support|share|do (?:that|this|it|so)|tell|perform|respond|respon|transcribe|summari[sz]|directly|actually"
    r"|currently"
    r"|fully|accurately|confidently|reliably|with|decline|to\b)"
)
_LET = (
    r"(?:(?:unfortunately|sadly|regrettably|however|at this time|currently|as of now|well|oh|hmm|okay|sure)[,.!]? )*"
    r"(?:it (?:seems|appears|looks like)(?: that)? )?"
)
_MEDIUM = r"(?:videos?|clips?|images?|frames|footage|files?|content|attachments?)"
_GIVEN = (
    r"(?:attached|provided|uploaded|included|shared|load(?:ed)?|accessible|available"
    r"|to (?:describe|analy[sz]e|caption)|come through)\b"
)
_ENGLISH = (
    rf"{_LET}(?:(?:i'?m|i am|we are|we're|my)? ?(?:so |very |really |truly |deeply |sincerest )?(?:sorry|apologies"
    rf"|afraid|apologize)"
    rf"\b.{{0,60}}?\b)?(?:i|we)[ ']?{_CANT} (?:\w+ ){{0,2}}?{_WITH}",
    rf"{_LET}(?:(?:i'?m|i am|we are|we're) )?(?:so |very |really |truly )?(?:sorry"
    rf"|afraid)\b.{{0,60}}\b(?:{_CANT} (?:\w+ ){{0,2}}?{_WITH}"
    r"|no (?:video|image|clip|content|audio|file)|not possible|against|guidelines|policy|policies)",
    r"\W*(?:i'?m |i am )?(?:so |very )?(?:sorry|apologies)\W*\Z",
    rf"(?:(?:i'?m |i am )?(?:so |very )?(?:sorry|afraid|apologies)\W+)?(?:but )?(?:that )?i[ ']?{_CANT}\W*\Z",
    r"(?:i|we) (?:must )?(?:apologi[sz]e|regret)\b.{0,80}\b(?:can'?t|can ?not|unable|not able|no video|don't|do not)",
    r"my apologies\b.{0,80}\b(?:can'?t|can ?not|unable|not able|no video|don't|do not)",
    r"(?:as|being) (?:just |only |merely )?(?:an? )?(?:\w+[- ]){0,3}(?:ai|a\.i\.|artificial intelligence"
    r"|language model|llm|chatbot)\b",
    r"(?:i'?m|i am) (?:just |only |merely )?an? (?:\w+[- ]){0,3}(?:ai|artificial intelligence|language model|llm"
    r"|chatbot)\b",
    rf"{_LET}(?:there (?:is|was|are|were) no|you (?:have ?n[o']t|haven't"
    rf"|did ?n[o']t|didn't))\b.{{0,30}}\b{_MEDIUM}\b.{{0,40}}\b{_GIVEN}",
    rf"{_LET}(?:no {_MEDIUM}\b.{{0,30}}|(?:the|your) {_MEDIUM}\b.{{0,30}}"
    rf"(?:\bnot\b|n't\b|\bfailed to\b)).{{0,20}}\b{_GIVEN}",
    r"(?:please|could you(?: please)?|can you(?: please)?) (?:provide|upload|share|attach|send"
    r"|give)\b.{0,40}\b(?:video|clip|image|frames|footage|file|link|details)",
    r"(?:i )?(?:do not|don't|did not|didn't) (?:see|have|receive|detect|find)\b.{0,30}\b(?:video|clip|image|frames"
    r"|footage|access|file|attachment)s?\b",
    r"(?:this|the|your) (?:request|content|video|prompt)\b.{0,40}\b(?:violat|against (?:my|our|the)|policy"
    r"|policies|guidelines|not permitted|not allowed)",
)
_OTHERS = (
    # Spanish, Portuguese, Italian, French
    r"(?:lo siento|lamento|disculp\w+|perd[oó]n\w*|mis disculpas)\b.{0,50}\bno\b.{0,12}\b(?:pued|tengo|es posible"
    r"|soy capaz|dispongo)",
    r"(?:lamentablemente|desafortunadamente|por desgracia)?,? ?no (?:me es posible|puedo|tengo (?:la capacidad"
    r"|acceso)|soy capaz)\b"
    r".{0,20}(?:descri|ver|ayudar|acceder|analizar|procesar|proporcionar|generar|identificar|visualizar|responder"
    r"|cumplir|hacer|a\b|de\b)",
    r"como (?:un |una )?(?:modelo|ia\b|inteligencia artificial|asistente)",
    r"(?:desculp\w+|sinto muito|lamento|infelizmente|perdão)\b.{0,50}\bnão\b",
    r"não (?:consigo|posso|sou capaz|tenho acesso)\b.{0,20}(?:descrever|ver|ajudar|acessar|analisar|processar"
    r"|fornecer|gerar|assistir)",
    r"como (?:um |uma )?(?:modelo de linguagem|assistente de ia|inteligência artificial)",
    r"(?:mi dispiace|mi scuso|scus\w+|spiacente|purtroppo)\b.{0,50}\bnon\b.{0,20}\b(?:poss|riesc|sono in grado|ho)",
    r"non (?:posso|riesco a|sono in grado di|ho accesso)\b.{0,20}(?:descriver|veder|aiutar|accedere|analizzar"
    r"|fornire|generar|elaborar|a\b|al\b)",
    r"(?:in quanto|come) (?:un )?(?:modello|ia\b|intelligenza artificiale|assistente)",
    r"(?:je suis )?(?:vraiment |sincèrement )?(?:désolée?|navrée?|excuse[sz]?-moi|pardon)\b.{0,50}\b(?:je"
    r"|il)\b.{0,6}\b(?:ne|n')",
    r"(?:malheureusement|hélas),? (?:je|il) (?:ne|n')",
    r"je (?:ne (?:peux|puis|suis|parviens|vois)|n'ai) pas\b.{0,20}(?:décri|voir|aider|accé|analy|trait|fournir"
    r"|génér|capable|mesure|accès|vidéo|répondre|visionner|identifier)",
    r"en tant (?:qu'|que )(?:une? )?(?:ia\b|intelligence artificielle|modèle|assistant)",
    # German, Dutch
    r"(?:es )?(?:tut mir|bedaure|entschuldig\w+|verzeih\w+|sorry)\b.{0,60}\b(?:ich )?(?:kann|bin nicht|habe kein"
    r"|darf)",
    r"leider (?:kann|bin|habe|ist es|darf) (?:ich|mir)\b.{0,80}\b(?:nicht|kein\w*)",
    r"ich (?:kann|darf|bin)\b.{0,60}\b(?:nicht|kein\w*)\b.{0,30}(?:beschreib|seh|helf|anseh|zugreif|analysier"
    r"|bereitstell|erstell|in der lage|verarbeit|beantwort)",
    r"als (?:ki\b|eine ki\b|künstliche intelligenz|sprachmodell|ein sprachmodell|ai\b)",
    r"(?:het spijt me|sorry|helaas)\b.{0,50}\b(?:ik )?(?:kan|ben)\b.{0,30}\b(?:niet|geen)",
    r"als (?:een )?(?:ai\b|taalmodel)",
    # Russian, Ukrainian, Polish, Turkish
    r"(?:извините|простите|прошу прощения|к сожалению|сожалею)\b.{0,50}\b(?:не (?:могу|имею|в состоянии|вижу"
    r"|способ)|у меня нет)",
    r"я не (?:могу|в состоянии|имею возможности|способ\w+|вижу)\b.{0,25}(?:опис|помо|видеть|просм|получить|анализ"
    r"|обраб|предостав|созда|видео|выполн|ответ)",
    r"(?:как|будучи) (?:языков\w+ модел|ии\b|искусственн\w+ интеллект|нейросет)",
    r"(?:вибачте|перепрошую|на жаль)\b.{0,50}\bне (?:можу|маю|бачу)",
    r"(?:przepraszam|przykro mi|niestety)\b.{0,50}\bnie (?:mogę|jestem|mam|potrafię)",
    r"jako (?:model językowy|ai\b|sztuczna inteligencja)",
    r"(?:üzgünüm|maalesef|özür dilerim)\b.{0,80}(?:mıyorum|miyorum|muyorum|müyorum|amam|emem)",
    r"bir (?:yapay zeka|dil modeli)",
    # Chinese, Japanese, Korean
    r"(?:非常|很|十分)?(?:抱歉|对不起|對不起|不好意思|遗憾|遺憾).{0,20}(?:无法|無法|不能|没有|沒有|没办法|不可以|不支持)",
    r"(?:作为|作為|我是)(?:一个|一個|一名|一款)?.{0,6}(?:ai|人工智能|人工智慧|语言模型|語言模型|助手)",
    r"我(?:目前|暂时|现在)?(?:无法|無法|不能|没有办法|没办法|沒辦法)(?:直接)?.{0,6}(?:描述|查看|观看|觀看|看到|访问|處理|处理|提供|回答|帮|協助|协助|识别|分析|生成|完成)",
    r"(?:申し訳|すみません|ごめんなさい|恐れ入り).{0,50}(?:できません|できない|ありません|いただけません|おりません|かねます)",
    r"(?:私は)?(?:ai|人工知能|言語モデル).{0,6}(?:として|なので|であり|です)",
    r"(?:この|その)?(?:動画|映像|ビデオ|画像).{0,12}(?:見る|説明|確認|視聴|分析|閲覧)(?:する)?(?:こと)?(?:は|が)?できません",
    r"(?:죄송|미안|유감).{0,50}(?:없습니다|못합니다|어렵습니다|않습니다|수 없)",
    r"(?:저는 )?(?:ai|인공지능|언어 모델).{0,6}(?:로서|이므로|이기 때문)",
    # Arabic, Hindi, Indonesian, Vietnamese, Thai
    r"(?:عذر|آسف|أعتذر|للأسف).{0,50}(?:لا|لست|ليس)",
    r"(?:لا (?:أستطيع|يمكنني)|لست قادر).{0,20}(?:وصف|رؤية|مشاهدة|مساعد|الوصول|تحليل|تقديم)",
    r"(?:كنموذج|بصفتي نموذج|بصفتي ذكاء)",
    r"(?:क्षमा|माफ़|माफ|खेद).{0,60}(?:नहीं|असमर्थ)",
    r"(?:maaf|mohon maaf)\b.{0,50}\b(?:tidak|belum)",
    r"saya tidak (?:bisa|dapat|mampu)\b.{0,20}(?:melihat|membantu|menjelaskan|mendeskripsikan|mengakses|memberikan)",
    r"(?:rất )?(?:xin lỗi|tiếc)\b.{0,50}\bkhông",
    r"tôi không thể\b.{0,20}(?:mô tả|xem|giúp|truy cập|cung cấp|phân tích)",
    r"(?:ขออภัย|ขอโทษ|เสียใจ).{0,60}(?:ไม่|มิ)",
    r"(?:ฉัน|ผม|ดิฉัน)ไม่สามารถ",
)
_REFUSAL = re.compile(rf"[\s*_#>.!\-–—:]*(?:{'|'.join((*_ENGLISH, *_OTHERS))})", re.I | re.S)
#: Words that somebody in the clip says: quotes closed before the end, or who says them.
_QUOTED = re.compile(r"\s*[\"“«「『„'‘].{1,400}?[\"”»」』“'’][\s,.]*\w", re.S)
_SAID = re.compile(
    r"[,.!?\"”»」』，。！？]\s*(?:(?:the|a|an|his|her|one|el|la|un|una|le|une|der|die|das|ein|eine)\s+)?(?:[\w-]+\s+){0,3}?"
    r"(?:says|said|saying|asks|shouts|yells|replies|whispers|cries|sings|tells|explains|exclaims|dice|dit|sagt"
    r"|ruft|говорит|сказал\w*"
    r"|diz|mówi)\b|[,.!?\"”»」』，。！？].{0,12}(?:说|說|喊|と言|と話|と叫|라고)",
    re.I,
)
_NEAR = 240


def refuses(text: str) -> bool:
    """True where a reply refuses to answer, by how it begins."""
    head = " ".join(text[: 2 * _NEAR].replace("’", "'").split())[:_NEAR]
    return bool(_REFUSAL.match(head)) and not _QUOTED.match(head) and not _SAID.search(head)
