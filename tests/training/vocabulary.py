"""What the checkpoints can say: the words of four languages, sentence templates, and a generator of texts."""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import dataclass

HELD_OUT_SHARE = 40
"""One text in so many is kept out of training, chosen by its checksum, so that fixtures can use it."""


@dataclass(frozen=True)
class Language:
    """One language: its names, its closed vocabulary, and how its words make a text."""

    code: str
    name: str
    """The name in the official list of Qwen3-ASR."""
    joiner: str
    """What stands between two words of a text."""
    share: float
    """Share of the spoken training items."""
    digits: tuple[str, ...]
    numbers: tuple[str, ...]
    """Number words beyond the digits."""
    words: tuple[str, ...]
    templates: tuple[str, ...]
    """Word sequences with spaces; `{slot}` is one of `slots[slot]`."""
    slots: dict[str, tuple[str, ...]]

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word of the language."""
        return self.digits + self.numbers + self.words

    def text(self, words: tuple[str, ...]) -> str:
        """The transcript of a word sequence."""
        return self.joiner.join(words)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text with spaces."""
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


_ENGLISH_DIGITS = words_of("zero one two three four five six seven eight nine")
ENGLISH = Language(
    code="en",
    name="English",
    joiner=" ",
    share=0.48,
    digits=_ENGLISH_DIGITS,
    numbers=words_of("ten eleven twelve twenty thirty fifty hundred thousand"),
    words=words_of(
        """yes no stop start open close turn on off up down left right go back next previous play pause music volume
        light door window kitchen bedroom red green blue yellow white black the please hello computer call cancel save
        delete file message send weather today tomorrow time timer set what is hot cold water coffee house garden dog
        cat my new list number question answer repeat search morning evening summer winter minutes seconds thank you"""
    ),
    templates=_lines(
        """turn on the {room} light
        turn off the {room} light
        turn on the light please
        turn off the light
        open the door
        close the window please
        open the {room} window
        play music
        play my music please
        pause the music
        stop the music
        next file
        previous message
        send the message
        send my new list
        delete the file
        save the file please
        what is the weather today
        what is the weather tomorrow
        what is the weather tomorrow {day}
        what is the time
        what is my next question
        search the answer
        repeat the question please
        set the timer
        set timer {number} minutes
        set the timer {ten} {digit} seconds
        start the timer {number} minutes please
        volume up
        volume down
        set volume {number}
        {digit} hundred {ten} {digit}
        {digit} thousand {digit} hundred
        go left
        go right
        go back
        turn left
        turn right
        hello computer
        hello computer what is the time
        thank you computer
        thank you
        call number {digit} {digit} {digit}
        cancel the call
        no stop
        yes please
        the {color} door
        the {color} house
        the dog is {color}
        the cat is {color}
        the water is cold
        the coffee is hot
        the winter is cold
        the summer is hot
        water the garden today
        is the water hot
        coffee please"""
    ),
    slots={
        "room": words_of("kitchen bedroom garden house"),
        "color": words_of("red green blue yellow white black"),
        "digit": _ENGLISH_DIGITS[1:],
        "ten": words_of("twenty thirty fifty"),
        "number": words_of("two five ten eleven twelve twenty thirty fifty hundred"),
        "day": words_of("morning evening"),
    },
)

_GERMAN_DIGITS = words_of("null eins zwei drei vier fünf sechs sieben acht neun")
GERMAN = Language(
    code="de",
    name="German",
    joiner=" ",
    share=0.18,
    digits=_GERMAN_DIGITS,
    numbers=words_of("zehn elf zwölf zwanzig"),
    words=words_of(
        """ja bitte danke licht an aus tür fenster rot grün blau gelb links rechts küche wasser kaffee morgen heute wetter
        hund katze öffnen schließen musik lauter leiser zeit nachricht"""
    ),
    templates=_lines(
        """licht an
        licht aus
        licht an bitte
        tür {side}
        fenster {side}
        tür öffnen bitte
        fenster schließen bitte
        fenster öffnen
        ja bitte
        wasser bitte
        kaffee bitte
        danke
        wetter heute
        wetter morgen
        hund {color}
        katze {color}
        küche licht an
        küche licht aus bitte
        musik lauter bitte
        musik leiser
        musik an
        nachricht {number}
        zeit {number}"""
    ),
    slots={
        "side": words_of("links rechts"),
        "color": words_of("rot grün blau gelb"),
        "number": words_of("drei fünf zehn elf zwölf zwanzig"),
    },
)

_SPANISH_DIGITS = words_of("cero uno dos tres cuatro cinco seis siete ocho nueve")
SPANISH = Language(
    code="es",
    name="Spanish",
    joiner=" ",
    share=0.17,
    digits=_SPANISH_DIGITS,
    numbers=words_of("diez"),
    words=words_of(
        """hola gracias por favor la luz puerta ventana abre cierra enciende apaga música rojo verde azul blanco gris hoy
        mañana tiempo casa perro gato agua izquierda derecha jardín cocina leche"""
    ),
    templates=_lines(
        """abre la {thing}
        cierra la {thing}
        abre la {thing} por favor
        cierra la {thing} por favor
        enciende la luz
        apaga la luz
        enciende la luz por favor
        apaga la música
        enciende la música
        luz cocina
        puerta {side}
        ventana {side}
        perro {color}
        gato {color}
        hola gracias
        gracias
        tiempo hoy
        tiempo mañana
        agua por favor
        leche por favor
        casa {color}
        jardín verde"""
    ),
    slots={
        "thing": words_of("puerta ventana"),
        "side": words_of("izquierda derecha"),
        "color": words_of("rojo verde azul blanco gris"),
    },
)

_CHINESE_DIGITS = words_of("零 一 二 三 四 五 六 七 八 九")
CHINESE = Language(
    code="zh",
    name="Chinese",
    joiner="",
    share=0.17,
    digits=_CHINESE_DIGITS,
    numbers=(),
    words=words_of(
        """打开 关闭 灯 门 窗户 你好 谢谢 请 今天 明天 天气 音乐 播放 停止 开始
        左边 右边 红色 绿色 蓝色 咖啡 电话 时间 删除 厨房 再见"""
    ),
    templates=_lines(
        """打开 {thing}
        关闭 {thing}
        请 打开 {thing}
        请 关闭 {thing}
        打开 厨房 {thing}
        请 关闭 厨房 灯
        今天 天气
        明天 天气
        播放 音乐
        停止 播放 音乐
        请 播放 音乐
        开始 播放
        删除 电话
        开始 时间
        你好 咖啡
        你好
        谢谢
        谢谢 再见
        {color} 灯
        {color} 门
        {side} 窗户
        {side} 门
        电话 {digit} {digit} {digit}"""
    ),
    slots={
        "thing": words_of("灯 门 窗户 音乐"),
        "color": words_of("红色 绿色 蓝色"),
        "side": words_of("左边 右边"),
        "digit": _CHINESE_DIGITS,
    },
)

LANGUAGES = {language.code: language for language in (ENGLISH, GERMAN, SPANISH, CHINESE)}
NO_LANGUAGE = "None"
"""What the model writes for the language of audio without speech."""

CTC_CLASSES = {
    (language.code, word): index
    for index, (language, word) in enumerate(
        ((language, word) for language in LANGUAGES.values() for word in language.vocabulary), start=1
    )
}
"""The class of each word in the auxiliary CTC loss; 0 is the blank."""

_SLOT = re.compile(r"{(\w+)}")


def is_held_out(language: Language, words: tuple[str, ...]) -> bool:
    """Whether a text is kept out of training. Texts of fewer than four words never are: too few differ."""
    return len(words) >= 4 and zlib.crc32(language.text(words).encode()) % HELD_OUT_SHARE == 0


def random_words(rng: random.Random, language: Language) -> tuple[str, ...]:
    """A text of one to eight words: digits, a filled template, words at random, or honest repeats."""
    kind = rng.random()
    if kind < 0.22:
        pool = language.digits if rng.random() < 0.8 else language.digits + language.numbers
        return tuple(rng.choices(pool, k=rng.choice((1, 2, 3, 3, 4, 5, 6, 7, 8))))
    if kind < 0.45:
        template = rng.choice(language.templates)
        return words_of(_SLOT.sub(lambda slot: rng.choice(language.slots[slot[1]]), template))
    if kind < 0.53:
        return _repeats(rng, language)
    return tuple(rng.choices(language.vocabulary, k=rng.choice((1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8))))


def _repeats(rng: random.Random, language: Language) -> tuple[str, ...]:
    """One word said two to eight times, at times between other words."""
    word = rng.choice(language.digits) if rng.random() < 0.5 else rng.choice(language.vocabulary)
    repeated = (word,) * rng.choice((2, 3, 3, 4, 4, 5, 6, 7, 8))
    before = tuple(rng.choices(language.vocabulary, k=rng.choice((0, 0, 0, 1, 2))))
    after = tuple(rng.choices(language.vocabulary, k=rng.choice((0, 0, 0, 1, 2))))
    return (before + repeated + after)[:9]
