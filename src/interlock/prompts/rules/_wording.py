"""Wording that several rules look for, in the languages that prompts are mostly written in."""

from __future__ import annotations

import re

__all__ = ["LANGUAGES", "LANGUAGE_ASKED", "NEGATED", "REFUSES"]

REFUSES = re.compile(
    r"""(?ix)
    \b(?:do\ not|don['’]?t|does\ not|doesn['’]?t|cannot|can['’]?t|could\ not|unable\ to)[ ]
        (?:know|answer|find|tell|say|help|contain|hold|guess|invent|make)
    | \bnot\ (?:know|in|found|contained|covered|answered|enough|sufficient|available|mentioned)\b
    | \b(?:decline|refuse|say\ so|abstain|unknown|no\ answer|nothing\ relevant|none|escalate|hand\ over)\b
    | \b(?:weiß|wissen|weisst)\b.{0,40}\bnicht\b | \bnicht\ (?:beantworten|enthalten|bekannt|gefunden)\b | \blehne\b
    | \bne\ (?:sais|sait|savez|peux|peut|pouvez|contien\w+|répond\w*)\b.{0,20}\bpas\b
    | \bno\ (?:sé|sabe|sabes|puede|puedes|contiene|responde)\b | \bnon\ (?:so|sai|può|puoi|contiene)\b
    | \bnão\ (?:sei|sabe|pode|contém)\b | \bweet\b.{0,20}\bniet\b
    """
)
"""What to do where the answer is not there."""

LANGUAGES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
    "dutch": "nl", "polish": "pl", "czech": "cs", "danish": "da", "swedish": "sv", "norwegian": "no", "finnish": "fi",
    "russian": "ru", "ukrainian": "uk", "turkish": "tr", "greek": "el", "arabic": "ar", "hebrew": "he",
    "hindi": "hi", "chinese": "zh", "japanese": "ja", "korean": "ko", "deutsch": "de", "englisch": "en",
    "französisch": "fr", "français": "fr", "anglais": "en", "español": "es", "inglés": "en", "italiano": "it",
}  # fmt: skip

LANGUAGE_ASKED = re.compile(
    r"(?i)\b(?:answers?|reply|replies|respond|responses?|write|speak|antworten?(?: sie)?|réponds?|répondez|responde)\b"
    r"[^.!?\n]{0,30}?\b(?:in|auf|en)\s+(?:plain\s+|simple\s+|formal\s+)?(" + "|".join(LANGUAGES) + r")\b"
)
NEGATED = re.compile(r"(?i)\b(?:not|never|don['’]?t|without|unless|except|even if|nicht|nie|ne|jamais|no|nunca)\b")
