"""Words that lean on their neighbour, so that nothing should be cut between the two.

Only languages whose words we know are listed; the others go without. Articles, prepositions, conjunctions and the like lean on
what follows; particles of languages without spaces lean on what comes before. Conjunctions also tell where a clause begins,
which recognisers without punctuation do not.
"""

from __future__ import annotations

from collections.abc import Mapping

_FORWARD = {
    "en": "a an the of to in on at by for from with without into onto over under about between through and or but nor "
    "so if that than as because while when my your his her its our their this these those is are was were be "
    "am will would can could should may might must shall have has had do does did not no very i we he she they "
    "who which what how mr mrs ms dr it you",
    "de": "der die das den dem des ein eine einen einem einer eines kein keine keinen in im an am auf aus bei mit nach "
    "von vom zu zum zur für über unter zwischen durch gegen ohne um und oder aber denn weil dass wenn als ob wie "
    "mein meine dein deine sein seine ihr ihre unser unsere dieser diese dieses nicht sehr ich wir er es man",
    "fr": "le la les l un une des du de d à au aux en dans sur sous par pour avec sans chez entre vers et ou mais donc "
    "car ni que qu qui dont si comme quand mon ma mes ton ta tes son sa ses notre nos votre vos leur leurs ce cet "
    "cette ces ne je tu il elle on nous ils elles se s très est sont",
    "es": "el la los las un una unos unas de del a al en con sin por para sobre entre hasta desde y e o u pero ni que "
    "si como cuando porque mi mis tu tus su sus nuestro nuestra este esta estos estas ese esa no se me te le lo "
    "muy es son",
    "it": "il lo la i gli le un uno una di del dello della dei degli delle a al allo alla ai agli alle da dal dalla in "
    "nel nella con su sul sulla per tra fra e ed o ma che se come quando perché mio mia tuo tua suo sua nostro "
    "nostra questo questa non si mi ti ci molto è sono",
    "pt": "o a os as um uma uns umas de do da dos das em no na nos nas por pelo pela para com sem sobre entre e ou mas "
    "nem que se como quando porque meu minha teu tua seu sua nosso nossa este esta esse essa não muito é são",
    "nl": "de het een van in op aan bij met voor door over onder tussen naar uit te om en of maar want dat als dan "
    "omdat wanneer mijn jouw zijn haar ons onze hun deze dit die niet geen zeer ik wij we hij zij ze is",
    "sv": "en ett den det de av i på till från med utan för om under över mellan genom och eller men att som när min "
    "mitt mina din ditt dina sin sitt sina vår vårt våra inte mycket jag vi han hon är",
    "da": "en et den det de af i på til fra med uden for om under over mellem gennem og eller men at som når min mit "
    "mine din dit dine sin sit sine vores ikke meget jeg vi han hun er",
    "pl": "w we z ze na do od po o u za przez przy bez dla nad pod między i a oraz lub albo ale że żeby gdy jeśli jak "
    "mój moja twój twoja swój swoja nie jest są",
    "cs": "v ve z ze s se na do od po o u za přes při bez pro nad pod mezi i a nebo ale že aby když jestli jak můj moje "
    "tvůj ne je jsou",
    "ru": "в во на с со к ко у о об от до из за по под над при без для через между и а но или что чтобы если когда как "
    "мой моя твой твоя свой своя наш наша не ни очень",
    "ar": "في من إلى على عن مع بين حتى منذ و أو ثم لكن أن إن لا لم لن ما هل قد هذا هذه ذلك تلك الذي التي كل",
    "id": "yang di ke dari pada untuk dengan dan atau tetapi karena jika bahwa tidak sangat ini",
    "tr": "ve veya ama fakat çünkü eğer bir bu şu her çok",
    "hi": "और या लेकिन कि अगर यह वह इस उस एक बहुत",
    "th": "ที่ ใน ของ และ หรือ แต่ ว่า จะ ไม่ กับ จาก เพื่อ โดย การ ความ เป็น",
    "zh": "在 把 被 和 与 跟 对 从 向 给 为 不 没 很 最 更 这 那 一 是 我的 你的 他的",
    "yue": "喺 將 俾 同 對 由 向 唔 冇 好 最 呢 嗰 一 係",
}
_BACKWARD = {
    "zh": "的 了 着 过 吗 呢 吧 啊 呀 们 地 得",
    "yue": "嘅 咗 緊 過 嗎 呢 啦 喎 囉 哋",
    "th": "ครับ ค่ะ คะ นะ แล้ว",
    "hi": "का की के को में से पर ने है हैं",
}

_OPENING = {
    "en": "and but or because although though while when where which who how that if so than after before until "
    "unless since as",
    "de": "und aber oder sondern denn weil dass obwohl während wenn als ob damit nachdem bevor bis wo welche welcher welches",
    "fr": "et mais ou donc car parce puisque quand lorsque comme si que qui dont où afin pendant",
    "es": "y e pero o u sino porque aunque cuando mientras donde que quien si como para",
    "it": "e ed ma o perché anche quando mentre dove che cui se come affinché",
    "pt": "e mas ou porque embora quando enquanto onde que quem se como para",
    "nl": "en maar of want omdat hoewel terwijl wanneer waar die dat als zodat nadat voordat totdat",
    "sv": "och men eller för eftersom fast medan när där som att om så",
    "da": "og men eller for fordi selvom mens når hvor som at hvis så",
    "pl": "i a ale lub albo bo ponieważ chociaż kiedy gdy gdzie który która które że żeby jeśli",
    "cs": "a ale nebo protože ačkoli když zatímco kde který která které že aby jestli",
    "ru": "и а но или потому хотя когда пока где который которая которые что чтобы если",
    "tr": "ve ama fakat veya çünkü",
    "id": "dan tetapi atau karena meskipun ketika yang bahwa jika",
    "ar": "ثم لكن ولكن لأن عندما حيث الذي التي أن إذا",
    "ko": "그리고 그러나 하지만 그래서 왜냐하면",
    "hi": "और या लेकिन क्योंकि जब जो कि अगर",
    "th": "และ หรือ แต่ เพราะ เมื่อ ที่ ซึ่ง ถ้า",
}

FORWARD: Mapping[str, frozenset[str]] = {language: frozenset(words.split()) for language, words in _FORWARD.items()}
"""By language code: words that should not end a line."""

BACKWARD: Mapping[str, frozenset[str]] = {language: frozenset(words.split()) for language, words in _BACKWARD.items()}
"""By language code: words that should not begin a line."""

OPENING: Mapping[str, frozenset[str]] = {language: frozenset(words.split()) for language, words in _OPENING.items()}
"""By language code: words that often open a clause, before which a cut reads better than between others."""
