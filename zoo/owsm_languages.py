"""OWSM writes languages as ISO 639-3 tokens (`<hin>`), boli as BCP-47 tags (`hi`)."""

import re
from collections.abc import Sequence

# ISO 639-3 codes that have a two-letter code, which is then the BCP-47 tag (RFC 5646, 2.2.1: the shortest).
_PAIRS = """
aar aa abk ab afr af aka ak amh am ara ar arg an asm as ava av aym ay aze az bak ba bam bm bel be ben bn bis bi bod bo
bos bs bre br bul bg cat ca ces cs cha ch che ce chu cu chv cv cor kw cos co cre cr cym cy dan da deu de div dv dzo dz
ell el eng en epo eo est et eus eu ewe ee fao fo fas fa fij fj fin fi fra fr fry fy ful ff gla gd gle ga glg gl glv gv
grn gn guj gu hat ht hau ha heb he her hz hin hi hmo ho hrv hr hun hu hye hy ibo ig ido io iii ii iku iu ile ie ina ia
ind id ipk ik isl is ita it jav jv jpn ja kal kl kan kn kas ks kat ka kau kr kaz kk khm km kik ki kin rw kir ky kom kv
kon kg kor ko kua kj kur ku lao lo lat la lav lv lim li lin ln lit lt ltz lb lub lu lug lg mah mh mal ml mar mr mkd mk
mlg mg mlt mt mon mn mri mi msa ms mya my nau na nav nv nbl nr nde nd ndo ng nep ne nld nl nno nn nob nb nor no nya ny
oci oc oji oj ori or orm om oss os pan pa pli pi pol pl por pt pus ps que qu roh rm ron ro run rn rus ru sag sg san sa
sin si slk sk slv sl sme se smo sm sna sn snd sd som so sot st spa es sqi sq srd sc srp sr ssw ss sun su swa sw swe sv
tah ty tam ta tat tt tel te tgk tg tgl tl tha th tir ti ton to tsn tn tso ts tuk tk tur tr twi tw uig ug ukr uk urd ur
uzb uz ven ve vie vi vol vo wln wa wol wo xho xh yid yi yor yo zha za zho zh zul zu
"""
_codes = iter(_PAIRS.split())
TAGS = dict(zip(_codes, _codes, strict=True))
"""Code -> tag."""
# Codes that other models use for the same language.
ALIASES = {"no": "nb", "jw": "jv", "iw": "he", "in": "id", "cmn": "zh", "zh": "cmn", "fil": "tl", "swh": "sw"}
_NOT_LANGUAGES = {"<unk>", "<asr>", "<sos>", "<eos>", "<sop>"}


def language_tokens(tokens: Sequence[str]) -> dict[str, int]:
    """BCP-47 tag -> token id, in the order of the list: the three-letter tokens before `<asr>`."""
    last = tokens.index("<asr>") if "<asr>" in tokens else len(tokens)
    found: dict[str, int] = {}
    for i, token in enumerate(tokens[:last]):
        if re.fullmatch(r"<[a-z]{3}>", token) and token not in _NOT_LANGUAGES:
            code = token[1:-1]
            found.setdefault(TAGS.get(code, code), i)
    return found


def candidates(language: str) -> list[str]:
    """Tags under which a model may know `language`: itself, without region, its short form, its alias."""
    plain = language.split("-")[0].lower()
    short = TAGS.get(plain, plain)
    return list(dict.fromkeys([language, plain, short, ALIASES.get(short, short)]))
