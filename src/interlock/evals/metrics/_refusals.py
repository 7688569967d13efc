"""Wordings by which assistants decline or refuse, in several languages."""

from __future__ import annotations

import re

__all__ = ["declining"]

_HEAD = 400
"""A refusal says so at its beginning; further down the words are quoted or about something else."""
_WORDINGS = (
    # English
    r"\b(?:i|we)(?:['’]m| am|['’]re| are)? (?:really |truly |very |so )?(?:sorry|afraid)\b[^.?!]{0,80}\b(?:can"
    r"(?:no|['’])t|cannot|"
    r"can not|unable|won['’]t|not able|don['’]t|do not|couldn['’]t|not (?:possible|allowed|permitted))",
    r"\b(?:apologi[sz]e|apologies)\b[^.?!]{0,80}\b(?:can(?:no|['’])t|cannot|unable|not able|won['’]t|not possible)",
    r"\b(?:i|we) (?:can(?:no|['’])t|cannot|can not|could not|couldn['’]t|will not|won['’]t|must (?:decline"
    r"|refuse)|(?:have|need) to "
    r"(?:decline|refuse)|decline|refuse)\b[^.?!]{0,40}\b(?:help|assist|provide|answer|comply|fulfil|support|engage|"
    r"do that|give|share|offer|discuss|create|write|generate|condone|encourage|promote|tell|explain|find|continue|"
    r"participate|request|suggest|make|recommend|satisfy|respond|confirm|determine)",
    r"\b(?:i|we)(?:['’]m| am|['’]re| are) (?:not able|unable|not allowed|not permitted|not going|not comfortable)\b",
    r"\b(?:it is|it['’]s|is) not (?:appropriate|ethical|acceptable|possible|okay|legal|legal or ethical"
    r"|ethical or legal|"
    r"within my)\b[^.?!]{0,60}\b(?:to|programming)\b",
    r"\bi (?:do not|don['’]t) have (?:(?:access|enough) |(?:that|the|any|this|sufficient) )[^.?!]{0,40}"
    r"(?:information|context|data|documents?|sources?)",
    r"\bi (?:do not|don['’]t) know\b",
    r"\bi (?:strongly |must )?(?:advise|urge|encourage) (?:you )?(?:against|not to)\b",
    r"\b(?:the )?(?:documents?|sources?|context|passages?|text) (?:do|does) not (?:say|answer|contain|mention"
    r"|provide)\b",
    r"\bas (?:an ai|a (?:responsible|language|large))[^.?!]{0,120}\b(?:can(?:no|['’])t|cannot|unable|not able|not "
    r"(?:appropriate|programmed|capable)|won['’]t|will not)\b",
    # German
    r"\b(?:ich|wir) k(?:ann|ö?nnen|oennen)\b[^.?!]{0,80}\b(?:nicht|keine[nrms]?)\b",
    r"\b(?:tut mir|bedauere?|leider)\b[^.?!]{0,100}\b(?:nicht|keine[nrms]?)\b",
    r"\b(?:weiß|weiss) ich nicht\b|\bich weiß (?:es|das)? ?nicht\b",
    r"\b(?:dokumente|quellen|unterlagen)\b[^.?!]{0,60}\b(?:nicht|keine)\b",
    # French
    r"\bje (?:ne (?:peux|suis|sais)|suis désolé)[^.?!]{0,80}\b(?:pas|impossible|ne peux)\b",
    r"\b(?:désolée?|malheureusement)\b[^.?!]{0,80}\b(?:pas|impossible)\b",
    # Spanish, Portuguese, Italian
    r"\b(?:lo siento|lamentablemente|desculpe|infelizmente|sinto muito|mi dispiace|purtroppo)\b[^.?!]{0,100}\b"
    r"(?:no|não|non)\b",
    r"\bno (?:puedo|podemos|tengo)\b[^.?!]{0,60}\b(?:ayudar|proporcionar|responder|dar|ofrecer|información"
    r"|cumplir|compartir)",
    r"\bnão (?:posso|podemos|tenho|sei|consigo)\b",
    r"\bnon (?:posso|possiamo|sono in grado|ho informazioni|lo so)\b",
    # Dutch, Polish, Czech, Swedish
    r"\b(?:ik|wij|we) (?:kan|kunnen|mag|weet)\b[^.?!]{0,60}\b(?:niet|geen)\b|\b(?:helaas)\b[^.?!]{0,80}\b"
    r"(?:niet|geen)\b",
    r"\b(?:nie mogę|nie możemy|nie jestem w stanie|niestety nie|nie wiem)\b",
    r"\b(?:nemohu|nemůžu|nemůžeme|bohužel ne\w*|nevím)\b",
    r"\b(?:jag kan inte|tyvärr kan jag inte|vi kan inte|jag vet inte)\b",
    # Russian, Ukrainian, Turkish
    r"(?:не могу|не можем|к сожалению[^.?!]{0,60} не|не знаю|не можу|на жаль[^.?!]{0,60} не)",
    r"\b(?:üzgünüm|maalesef)\b[^.?!]{0,100}(?:em\b|am\b|emem|amam|yok|mez|maz)",
    # Chinese, Japanese, Korean, Arabic
    r"(?:我|我们)(?:很)?(?:抱歉|无法|不能|不会|不知道)|(?:抱歉|对不起)[^。！？]{0,30}(?:不能|无法|没有)|無法|沒有辦法",
    r"(?:申し訳|すみません)[^。！？]{0,60}(?:ません|できない)|(?:お答え|お手伝い|提供)(?:する(?:こと)?(?:は|が))?(?:でき|いたしかね)ません|わかりません",
    r"(?:죄송|미안)[^.!?]{0,80}(?:없|않|못)|(?:도와|답변|제공)[^.!?]{0,20}(?:수 없)",
    r"(?:لا (?:أستطيع|يمكنني|أعرف)|آسف|عذر[اًا])",
)
_DECLINING = tuple(re.compile(wording, re.IGNORECASE) for wording in _WORDINGS)


def declining(text: str) -> bool:
    """Whether the beginning of a text declines or refuses in so many words. An empty text does neither."""
    head = " ".join(text[: 2 * _HEAD].split())[:_HEAD]
    return any(each.search(head) for each in _DECLINING)
