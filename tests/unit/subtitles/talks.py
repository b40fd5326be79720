"""Talks in the languages whose subtitles are kept beside this module, with made-up times of an even pace."""

from __future__ import annotations

from asr_service.subtitles import SubtitleSegment, SubtitleWord

TEXTS = {
    "en": "Good morning, everyone, and welcome to the first lecture of this course. Today we are going to talk about"
    " the history of the railway, which changed the way people lived, worked and travelled. Mr. Stephenson "
    "built his first engine in 1814. Was it fast? No. It was slower than a horse, but it could pull thirty "
    "tons up a hill.",
    "de": "Guten Tag, meine Damen und Herren. Heute sprechen wir über die Donaudampfschifffahrtsgesellschaft und "
    "darüber, wie man mit ihr im Jahr 1880 von Wien nach Budapest reisen konnte. War das teuer? Ja, aber es "
    "war bequem.",
    "ko": "안녕하세요 여러분, 오늘은 한국의 역사에 대해서 이야기하겠습니다. 조선 시대에 세종대왕이 한글을 "
    "만들었습니다. 왜 만들었을까요? 백성들이 쉽게 읽고 쓸 수 있도록 하기 위해서였습니다.",
    "ar": "صباح الخير جميعا، ومرحبا بكم في الدرس الأول من هذه الدورة. اليوم سنتحدث عن تاريخ السكك الحديدية في مصر، "
    "التي غيرت حياة الناس. هل كانت سريعة؟ لا، ولكنها كانت مفيدة جدا.",
    "zh": "大家早上好，欢迎来到这门课程的第一讲。今天我们要谈谈铁路的历史，它改变了人们生活、工作和旅行的方式。第一台蒸汽机车是"
    "1814年由George Stephenson制造的。它快吗？不快，它比马还慢，但是可以拉三十吨货物上山。",
    "ja": "皆さん、おはようございます。この講座の第一回へようこそ。今日は鉄道の歴史についてお話しします。鉄道は人々の生活や仕事"
    "や旅行のしかたを大きく変えました。最初の機関車は速かったのでしょうか。いいえ、馬より遅かったのですが、三十トンの荷物"
    "を引くことができました。",
    "th": "สวัสดีตอนเช้าทุกคน ยินดีต้อนรับสู่บทเรียนแรกของหลักสูตรนี้ วันนี้เราจะพูดถึงประวัติศาสตร์ของรถไ"
    "ฟที่เปลี่ยนวิธีการใช้ชีวิตการทำงานและการเดินทางของผู้คน มันเร็วไหม ไม่เร็ว แต่สามารถลากสินค้าได"
    "้สามสิบตัน",
}
_LETTER_MS = {"zh": 180, "ja": 150, "th": 90}
_WORD_LETTER_MS = 72
_PAUSES_MS = {".": 250, "?": 250, "؟": 250, ",": 120, "،": 120}


def talk(language: str, start_ms: int = 1000) -> SubtitleSegment:
    """Languages with spaces have word times, without punctuation as aligners give them; the others have none."""
    text = TEXTS[language]
    if language in _LETTER_MS:
        return SubtitleSegment(text, start_ms, start_ms + len(text) * _LETTER_MS[language], (), language)
    words, now_ms = [], start_ms
    for written in text.split():
        end_ms = now_ms + len(written) * _WORD_LETTER_MS
        words.append(SubtitleWord(written.rstrip(".,?؟،"), now_ms, end_ms))
        now_ms = end_ms + _PAUSES_MS.get(written[-1], 20)
    return SubtitleSegment(text, start_ms, now_ms, tuple(words), language)
