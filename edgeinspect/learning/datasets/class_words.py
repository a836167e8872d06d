"""The words that names of classes consist of, language by language.

All are in lower case and without accents, as `vocabulary.plain_letters` writes them.
"""

from __future__ import annotations

from typing import NamedTuple

from edgeinspect.learning.datasets.vocabulary import IMAGE_FOLDER_NAMES, SPLIT_NAMES, word_set


class Language(NamedTuple):
    """Words of one language."""

    nots: str
    """Before a word for good they mean defective, before a word for a defect good."""
    withouts: str
    """Before a word for a defect they mean good; before a word for good they are unclear."""
    good: str
    defects: str
    """Words that say defective, and no kind of defect."""
    kinds: str
    """Words that say defective by a kind of defect."""
    phrase_kinds: str = ""
    """Words that are a defect in a phrase alone (`no burrs`): parts may have such names."""


LANGUAGES = (
    Language(  # English, and words of all languages
        "no not non isnt arent wasnt didnt doesnt dont wont cannot cant hasnt never neither nor",
        "without zero",
        """
        ok okay good goods gd golden normal clean pass passed perfect intact healthy acceptable
        accepted accept undamaged uncracked unscratched unbroken flawless nondefective defectless
        faultless negative conforming correct approved
        """,
        """
        def defect defects defective anomaly anomalies anomalous fault faults faulty flaw flaws
        flawed abnormal bad error errors ng ko nok fail fails failed failure failures reject
        rejected rejects scrap nonconforming
        """,
        "damaged damage damages crack cracks cracked scratch scratches scratched broken",
        """
        dent dents burr burrs hole holes pit pits stain stains spot spots chip chips void voids
        pore pores porosity rust contamination
        """,
    ),
    Language(
        "nicht nie",
        "ohne kein keine keinen keiner keinerlei",
        """
        gut gute guter gutes guten fehlerfrei fehlerlos einwandfrei intakt intakte sauber bestanden
        freigabe freigegeben unbeschadigt konform
        """,
        """
        fehler fehlerhaft fehlerhafte defekt defekte mangel mangelhaft schlecht schlechte ausschuss
        """,
        "beschadigt beschadigung schaden",
        "kratzer riss risse delle dellen grat loch flecken poren",
    ),
    Language(
        "pas non jamais",
        "sans aucun aucune",
        "bon bonne bons bonnes correct correcte corrects sain saine sains conforme conformes",
        """
        mauvais mauvaise mauvaises defaut defauts defectueux defectueuse defectueuses anomalie
        anomalies erreur erreurs rebut rebuts
        """,
        "",
        "rayure rayures bosse bosses fissure fissures trou trous tache taches",
    ),
    Language(
        "no",
        "sin ningun ninguna ninguno",
        """
        bueno buena buenos buenas aceptado aceptada aceptados aceptadas correcto correcta correctos
        correctas aprobado aprobada aprobados aprobadas conforme conformes
        """,
        """
        malo mala malos malas defecto defectos defectuoso defectuosa defectuosos defectuosas fallo
        fallos falla fallas rechazado rechazada rechazados anomalia anomalias
        """,
        "",
        "grieta grietas rayon rayones rasguno rasgunos",
    ),
    Language(
        "non no",
        "senza nessun nessuna nessuno",
        "buono buona buoni buone conforme conformi",
        """
        difetto difetti difettoso difettosa difettosi difettose cattivo cattivi scarto scarti
        anomalia anomalie
        """,
        "",
        "graffio graffi crepa crepe",
    ),
    Language(
        "nao nunca",
        "sem nenhum nenhuma",
        "bom boa bons boas aprovado aprovada aprovados aprovadas conforme conformes",
        """
        defeito defeitos defeituoso defeituosa defeituosos ruim ruins falha falhas rejeitado
        rejeitada rejeitados anomalia anomalias
        """,
        "",
        "risco riscos trinca trincas",
    ),
    Language(
        "niet nooit",
        "zonder geen",
        "goed goede goedgekeurd foutloos foutvrij",
        "fout foute fouten slecht slechte defect defecte defecten afgekeurd gebrek gebreken",
        "beschadigd",
        "kras krassen deuk deuken scheur scheuren",
    ),
    Language(
        "nie",
        "bez brak zadnych zadnej zadne",
        """
        dobry dobra dobre prawidlowy prawidlowa prawidlowe zgodny zgodna zgodne poprawny poprawna
        poprawne
        """,
        """
        wadliwy wadliwe wadliwa wada wady wad defekt defekty defektow zly zle zla blad bledy bledow
        usterka usterki usterek niezgodny niezgodna niezgodne
        """,
        "uszkodzony uszkodzone uszkodzenia uszkodzen",
        "rysa rysy rys pekniecie pekniecia pekniec",
    ),
    Language(
        "neni nejsou",
        "bez zadny zadna zadne zadnych",
        "dobry dobra dobre bezvadny bezvadne",
        "vada vady vad vadny vadna vadne zmetek zmetky spatny spatne chyba chyby chyb defekt",
        "poskozeny poskozene",
        "skrabanec skrabance trhlina trhliny",
    ),
    Language(  # Danish, Norwegian, Swedish
        "ikke ikkje ej inte",
        "uden uten utan ingen inga inget intet",
        "god gode goda godt bra godkjent godkendt godkand godkanda feilfri fejlfri felfri felfria",
        """
        feil fejl fel defekt defekte defekta darlig darlige dalig daliga felaktig felaktiga
        kassert kasseret kasserad
        """,
        "skadet skadad",
        "ripe riper ridse ridser repa repor spricka sprickor",
    ),
    Language(
        "degil",
        "",
        "iyi saglam hatasiz kusursuz",
        "hata hatali kusur kusurlu kotu bozuk arizali",
        "",
        "cizik catlak",
    ),
)

GOOD_ONLY_NOTS = word_set("n ne un")
"""They make a word for good defective, and do not change one for a defect: `n_ok`, `n_defects`
(a number), `un defaut` (an article)."""
NOT_GOOD_WORDS = word_set("ng ko nok")
"""Words for `not good`: with a negation before them they are unclear: `NoNG`."""
FEATURES = word_set("hole holes chip chips spot spots loch trou trous")
"""Kinds of defects that parts may have to have: `no_hole` is unclear."""
LAX_GOOD_WORDS = word_set("gut bon bra")
"""They are not joined with a word for good: `bonbon`."""

WRITTEN_WITHOUT_BLANKS = {
    "good": word_set(
        """
        良品 良 好 好品 好的 合格 正常 正品 完好 良好 OK品 양품 정상 합격 양호
        годен годный годные годная хороший хорошие норма исправный исправные
        """
    ),
    "defect": word_set(
        """
        不良 不良品 不合格 不合格品 異常 异常 缺陷 缺陷品 欠陥 欠陥品 瑕疵 次品 坏 坏品 废品 故障
        NG品 불량 불량품 불합격 비정상 결함 결함품 이상 брак бракованный бракованные
        дефект дефекты дефектов дефектный дефектные
        """
    ),
    "kind": word_set(
        "裂纹 裂缝 划痕 划伤 凹痕 破损 傷 キズ クラック 亀裂 ひび 打痕 汚れ 크랙 스크래치 "
        "трещина царапина"
    ),
    "not": word_set("不 不是 非 未 비 불 미 не"),
    "without": word_set("无 無 没有 沒有 没 沒 무 без нет"),
    "without_behind": word_set("なし 無し 無 없음"),
    "neutral": word_set(
        """
        品 件 产品 製品 部品 零件 样品 样本 图像 图片 图 画像 写真 照片 有 的 训练 训练集 测试
        测试集 验证 学習 テスト 検証 이미지 제품 제품들 부품 사진
        """
    ),
}
"""Words of languages that are written without blanks, and of those in other letters than Latin."""

NOUNS = word_set(
    """
    part parts teil teile piece pieces pieza piezas pezzo pezzi peca pecas onderdeel onderdelen
    product products produkt produkte produkty produit produits item items sample samples
    muster specimen unit units example examples case cases image images img imgs bild bilder foto
    fotos photo photos picture pictures class classes category klasse all any alle
    """
)
"""What a class is of: they say nothing of a defect, or of a place."""
GLUED_NOUNS = word_set("part parts teil teile image images img imgs bild bilder sample samples")
"""Nouns that may follow a word for good or defective directly: `Gutteile`, `okparts`."""

ORIGIN_WORDS = word_set(
    """
    day date week month year cam camera kamera batch lot charge line shift session run part piece
    product sample series serie serial station machine coil roll sheet order customer supplier
    plant operator image img frame video scene visit tag schicht linie los teil
    jan feb mar apr may jun jul aug sep sept oct nov dec january february march april june july
    august september october november december monday tuesday wednesday thursday friday saturday
    sunday kw
    """
)
"""Words for a day, a camera, a batch or a part."""
CAMERA_WORDS = word_set("cam camera kamera")
PLACE_WORDS = word_set(
    "left right top bottom front back rear upper lower side inner outer links rechts oben unten "
    "vorne hinten view position pos"
)
NUMBERED_WORDS = word_set("line shift roll tag coil sheet may los charge run")
"""Words for an origin in names with a number alone: a line or a shift may be a defect."""

_MORE_NEUTRAL_WORDS = word_set(
    """
    dir folder set dataset subset png jpg jpeg bmp tif tiff rgb gray grey colour color raw final
    type status result quality condition verdict public private found detected seen visible mt
    days weeks months cameras batches lots
    """
)
"""`mt`: the magnetic tiles of `MT_Free`."""
NEUTRAL_WORDS = frozenset(
    NOUNS
    | ORIGIN_WORDS
    | PLACE_WORDS
    | _MORE_NEUTRAL_WORDS
    | SPLIT_NAMES.keys()
    | (IMAGE_FOLDER_NAMES - {"originals", "original"})
)
"""Words that may stand beside one for good without a doubt of it."""

FILLERS = word_set("any visible the de di da du des del le la les")
"""Words allowed between a negation and the word that it negates."""
OR_WORDS = word_set("or nor oder noch ou ni o of eller lub ani")
"""Between two defects, both are negated: `no_crack_or_scratch`."""
FREE_WORDS = word_set("free frei freie less los vrij")
"""Behind a word for a defect they mean good."""
