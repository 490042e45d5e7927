"""Numbers as words, in the eight languages the embedded model reads and writes numbers in.

Hindi and Punjabi have a word of its own for each number below a hundred; all four Indian systems count in hundreds,
thousands, lakhs (10^5) and crores (10^7), whereas the European ones count in thousands.
"""

from zoo.errors import DataError


def _words(text: str) -> tuple[str, ...]:
    """Words in the order of the numbers they stand for."""
    return tuple(text.split())


_HI = _words(
    """
    शून्य एक दो तीन चार पाँच छह सात आठ नौ
    दस ग्यारह बारह तेरह चौदह पंद्रह सोलह सत्रह अठारह उन्नीस
    बीस इक्कीस बाईस तेईस चौबीस पच्चीस छब्बीस सत्ताईस अट्ठाईस उनतीस
    तीस इकतीस बत्तीस तैंतीस चौंतीस पैंतीस छत्तीस सैंतीस अड़तीस उनतालीस
    चालीस इकतालीस बयालीस तैंतालीस चवालीस पैंतालीस छियालीस सैंतालीस अड़तालीस उनचास
    पचास इक्यावन बावन तिरपन चौवन पचपन छप्पन सत्तावन अट्ठावन उनसठ
    साठ इकसठ बासठ तिरसठ चौंसठ पैंसठ छियासठ सड़सठ अड़सठ उनहत्तर
    सत्तर इकहत्तर बहत्तर तिहत्तर चौहत्तर पचहत्तर छिहत्तर सतहत्तर अठहत्तर उन्यासी
    अस्सी इक्यासी बयासी तिरासी चौरासी पचासी छियासी सत्तासी अट्ठासी नवासी
    नब्बे इक्यानवे बानवे तिरानवे चौरानवे पचानवे छियानवे सत्तानवे अट्ठानवे निन्यानवे
    """
)
_PA = _words(
    """
    ਸਿਫ਼ਰ ਇੱਕ ਦੋ ਤਿੰਨ ਚਾਰ ਪੰਜ ਛੇ ਸੱਤ ਅੱਠ ਨੌਂ
    ਦਸ ਗਿਆਰਾਂ ਬਾਰਾਂ ਤੇਰਾਂ ਚੌਦਾਂ ਪੰਦਰਾਂ ਸੋਲਾਂ ਸਤਾਰਾਂ ਅਠਾਰਾਂ ਉੱਨੀ
    ਵੀਹ ਇੱਕੀ ਬਾਈ ਤੇਈ ਚੌਵੀ ਪੱਚੀ ਛੱਬੀ ਸਤਾਈ ਅਠਾਈ ਉਨੱਤੀ
    ਤੀਹ ਇਕੱਤੀ ਬੱਤੀ ਤੇਤੀ ਚੌਂਤੀ ਪੈਂਤੀ ਛੱਤੀ ਸੈਂਤੀ ਅਠੱਤੀ ਉਨਤਾਲੀ
    ਚਾਲੀ ਇਕਤਾਲੀ ਬਿਆਲੀ ਤਰਤਾਲੀ ਚੁਤਾਲੀ ਪੰਤਾਲੀ ਛਿਆਲੀ ਸੰਤਾਲੀ ਅਠਤਾਲੀ ਉਨੰਜਾ
    ਪੰਜਾਹ ਇਕਵੰਜਾ ਬਵੰਜਾ ਤਰਵੰਜਾ ਚੁਰੰਜਾ ਪਚਵੰਜਾ ਛਪੰਜਾ ਸਤਵੰਜਾ ਅਠਵੰਜਾ ਉਨਾਹਠ
    ਸੱਠ ਇਕਾਹਠ ਬਾਹਠ ਤਰੇਹਠ ਚੌਂਹਠ ਪੈਂਹਠ ਛਿਆਹਠ ਸਤਾਹਠ ਅਠਾਹਠ ਉਨੱਤਰ
    ਸੱਤਰ ਇਕਹੱਤਰ ਬਹੱਤਰ ਤਿਹੱਤਰ ਚੁਹੱਤਰ ਪੰਝੱਤਰ ਛਿਹੱਤਰ ਸਤੱਤਰ ਅਠੱਤਰ ਉਨਾਸੀ
    ਅੱਸੀ ਇਕਾਸੀ ਬਿਆਸੀ ਤਰਾਸੀ ਚੁਰਾਸੀ ਪਚਾਸੀ ਛਿਆਸੀ ਸਤਾਸੀ ਅਠਾਸੀ ਉਨਾਨਵੇਂ
    ਨੱਬੇ ਇਕਾਨਵੇਂ ਬਾਨਵੇਂ ਤਰਾਨਵੇਂ ਚੁਰਾਨਵੇਂ ਪਚਾਨਵੇਂ ਛਿਆਨਵੇਂ ਸਤਾਨਵੇਂ ਅਠਾਨਵੇਂ ਨੜਿੰਨਵੇਂ
    """
)
_TE_UNITS = _words(
    """
    సున్నా ఒకటి రెండు మూడు నాలుగు ఐదు ఆరు ఏడు ఎనిమిది తొమ్మిది పది పదకొండు పన్నెండు పదమూడు పద్నాలుగు
    పదిహేను పదహారు పదిహేడు పద్దెనిమిది పంతొమ్మిది
    """
)
_TE_TENS = _words("x x ఇరవై ముప్పై నలభై యాభై అరవై డెబ్బై ఎనభై తొంభై")
_EN_UNITS = _words(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
    """
)
_EN_TENS = _words("x x twenty thirty forty fifty sixty seventy eighty ninety")
_IT_UNITS = _words(
    """
    zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici
    sedici diciassette diciotto diciannove
    """
)
_IT_TENS = _words("x x venti trenta quaranta cinquanta sessanta settanta ottanta novanta")
_DE_UNITS = _words(
    """
    null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn
    sechzehn siebzehn achtzehn neunzehn
    """
)
_DE_TENS = _words("x x zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_FR_UNITS = _words(
    """
    zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize
    dix-sept dix-huit dix-neuf
    """
)
_FR_TENS = _words("x x vingt trente quarante cinquante soixante")
_ES_UNITS = _words(
    """
    cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis
    diecisiete dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco
    veintiséis veintisiete veintiocho veintinueve
    """
)
_ES_TENS = _words("x x x treinta cuarenta cincuenta sesenta setenta ochenta noventa")
_ES_HUNDREDS = _words(
    """
    x ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos
    novecientos
    """
)

DIGITS = {
    "en": _EN_UNITS[:10],
    "hi": _HI[:10],
    "it": _IT_UNITS[:10],
    "pa": _PA[:10],
    "te": _TE_UNITS[:10],
    "de": _DE_UNITS[:10],
    "fr": _FR_UNITS[:10],
    "es": _ES_UNITS[:10],
    "mr": _words("शून्य एक दोन तीन चार पाच सहा सात आठ नऊ"),
    "ta": _words("பூஜ்யம் ஒன்று இரண்டு மூன்று நான்கு ஐந்து ஆறு ஏழு எட்டு ஒன்பது"),
    "ur": _words("صفر ایک دو تین چار پانچ چھ سات آٹھ نو"),
    "ru": _words("ноль один два три четыре пять шесть семь восемь девять"),
    "bn": _words("শূন্য এক দুই তিন চার পাঁচ ছয় সাত আট নয়"),
    "kn": _words("ಸೊನ್ನೆ ಒಂದು ಎರಡು ಮೂರು ನಾಲ್ಕು ಐದು ಆರು ಏಳು ಎಂಟು ಒಂಬತ್ತು"),
    "ml": _words("പൂജ്യം ഒന്ന് രണ്ട് മൂന്ന് നാല് അഞ്ച് ആറ് ഏഴ് എട്ട് ഒമ്പത്"),
    "gu": _words("શૂન્ય એક બે ત્રણ ચાર પાંચ છ સાત આઠ નવ"),
    "pt": _words("zero um dois três quatro cinco seis sete oito nove"),
    "nl": _words("nul een twee drie vier vijf zes zeven acht negen"),
    "pl": _words("zero jeden dwa trzy cztery pięć sześć siedem osiem dziewięć"),
    "tr": _words("sıfır bir iki üç dört beş altı yedi sekiz dokuz"),
}
# How people also say some digits when they read out a string.
DIGIT_VARIANTS = {
    "en": {"zero": "oh"},
    "hi": {"शून्य": "ज़ीरो", "छह": "छः"},
    "pa": {"ਸਿਫ਼ਰ": "ਜ਼ੀਰੋ"},
    "te": {"సున్నా": "సున్న"},
}


def number_words(number: int, language: str) -> str:
    """The cardinal, 0 to 999,999,999, in the language's usual spelling (normal form, spaces between words)."""
    if language not in _WRITERS or not 0 <= number < 10**9:
        raise DataError(
            f"no words for number {number} in {language!r}", valid=f"0 to 999999999 in {', '.join(sorted(_WRITERS))}"
        )
    return _WRITERS[language](number).replace("-", " ")


def _english(n: int) -> str:
    if n < 20:
        return _EN_UNITS[n]
    if n < 100:
        return _EN_TENS[n // 10] + (f" {_EN_UNITS[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{_EN_UNITS[n // 100]} hundred" + (f" and {_english(n % 100)}" if n % 100 else "")
    scale, word = (10**6, "million") if n >= 10**6 else (1000, "thousand")
    rest = n % scale
    return f"{_english(n // scale)} {word}" + (f"{' and' if rest < 100 else ''} {_english(rest)}" if rest else "")


def _italian(n: int) -> str:
    """Italian writes a number below a million as one word; with elision (ventuno, ventotto) and accent (ventitré)."""
    if n < 20:
        return _IT_UNITS[n]
    if n < 100:
        stem, unit = _IT_TENS[n // 10], n % 10
        return (stem[:-1] if unit in (1, 8) else stem) + ("tré" if unit == 3 else _IT_UNITS[unit] if unit else "")
    if n < 1000:
        hundreds, rest = ("" if n < 200 else _IT_UNITS[n // 100]) + "cento", n % 100
        return hundreds + (("tré" if rest == 3 else _italian(rest)) if rest else "")
    if n < 10**6:
        head, rest = n // 1000, n % 1000
        return ("mille" if head == 1 else _italian(head).replace("tré", "tre") + "mila") + (
            _italian(rest) if rest else ""
        )
    head, rest = n // 10**6, n % 10**6
    return ("un milione" if head == 1 else f"{_italian(head)} milioni") + (f" {_italian(rest)}" if rest else "")


def _indian(below_hundred, *, hundred, hundred_more, thousand, lakh, crore):
    """A writer for the Indian system. Each scale has its words for many and for one; `hundred_more` and the second
    pair of the others are used when something follows."""

    def write(n: int) -> str:
        parts = []
        for scale, words in ((10**7, crore), (10**5, lakh), (1000, thousand), (100, (hundred, hundred_more))):
            count, n = divmod(n, scale)
            if count:
                name = words[1] if n else words[0]
                parts.append(name[1] if count == 1 else f"{write(count)} {name[0]}")
        if n or not parts:
            parts.append(below_hundred(n))
        return " ".join(parts)

    return write


def _telugu_small(n: int) -> str:
    return _TE_UNITS[n] if n < 20 else _TE_TENS[n // 10] + (f" {_TE_UNITS[n % 10]}" if n % 10 else "")


def _german(n: int) -> str:
    if n < 20:
        return _DE_UNITS[n]
    if n < 100:
        unit = n % 10
        return (f"{'ein' if unit == 1 else _DE_UNITS[unit]}und" if unit else "") + _DE_TENS[n // 10]
    if n < 1000:
        return ("ein" if n < 200 else _DE_UNITS[n // 100]) + "hundert" + (_german(n % 100) if n % 100 else "")
    if n < 10**6:
        head = n // 1000
        return ("ein" if head == 1 else _german(head)) + "tausend" + (_german(n % 1000) if n % 1000 else "")
    head, rest = n // 10**6, n % 10**6
    return ("eine million" if head == 1 else f"{_german(head)} millionen") + (f" {_german(rest)}" if rest else "")


def _french(n: int) -> str:
    if n < 20:
        return _FR_UNITS[n]
    if n < 70:
        unit = n % 10
        return _FR_TENS[n // 10] + (" et un" if unit == 1 else f" {_FR_UNITS[unit]}" if unit else "")
    if n < 80:
        return "soixante" + (" et onze" if n == 71 else f" {_FR_UNITS[n - 60]}")
    if n < 100:
        return "quatre vingts" if n == 80 else f"quatre vingt {_FR_UNITS[n - 80]}"
    if n < 1000:
        head, rest = n // 100, n % 100
        return ("cent" if head == 1 else f"{_FR_UNITS[head]} cent{'' if rest else 's'}") + (
            f" {_french(rest)}" if rest else ""
        )
    if n < 10**6:
        head, rest = n // 1000, n % 1000
        return ("mille" if head == 1 else f"{_french(head)} mille") + (f" {_french(rest)}" if rest else "")
    head, rest = n // 10**6, n % 10**6
    return ("un million" if head == 1 else f"{_french(head)} millions") + (f" {_french(rest)}" if rest else "")


def _spanish(n: int) -> str:
    if n < 30:
        return _ES_UNITS[n]
    if n < 100:
        return _ES_TENS[n // 10] + (f" y {_ES_UNITS[n % 10]}" if n % 10 else "")
    if n < 1000:
        return "cien" if n == 100 else _ES_HUNDREDS[n // 100] + (f" {_spanish(n % 100)}" if n % 100 else "")
    if n < 10**6:
        head, rest = n // 1000, n % 1000
        head_words = _spanish(head).replace("veintiuno", "veintiún").replace("uno", "un")
        return ("mil" if head == 1 else f"{head_words} mil") + (f" {_spanish(rest)}" if rest else "")
    head, rest = n // 10**6, n % 10**6
    return ("un millón" if head == 1 else f"{_spanish(head)} millones") + (f" {_spanish(rest)}" if rest else "")


_WRITERS = {
    "en": _english,
    "it": _italian,
    "de": _german,
    "fr": _french,
    "es": _spanish,
    "hi": _indian(
        _HI.__getitem__,
        hundred=("सौ", "एक सौ"),
        hundred_more=("सौ", "एक सौ"),
        thousand=(("हज़ार", "एक हज़ार"),) * 2,
        lakh=(("लाख", "एक लाख"),) * 2,
        crore=(("करोड़", "एक करोड़"),) * 2,
    ),
    "pa": _indian(
        _PA.__getitem__,
        hundred=("ਸੌ", "ਇੱਕ ਸੌ"),
        hundred_more=("ਸੌ", "ਇੱਕ ਸੌ"),
        thousand=(("ਹਜ਼ਾਰ", "ਇੱਕ ਹਜ਼ਾਰ"),) * 2,
        lakh=(("ਲੱਖ", "ਇੱਕ ਲੱਖ"),) * 2,
        crore=(("ਕਰੋੜ", "ਇੱਕ ਕਰੋੜ"),) * 2,
    ),
    "te": _indian(
        _telugu_small,
        hundred=("వందలు", "వంద"),
        hundred_more=("వందల", "నూట"),
        thousand=(("వేలు", "వెయ్యి"), ("వేల", "వెయ్యి")),
        lakh=(("లక్షలు", "లక్ష"), ("లక్షల", "లక్ష")),
        crore=(("కోట్లు", "కోటి"), ("కోట్ల", "కోటి")),
    ),
}
NUMBER_LANGUAGES = frozenset(_WRITERS)
