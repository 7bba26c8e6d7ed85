"""What is written in the town: shop names, posters, street signs."""

import numpy as np

TRADES = [
    "BAKERY",
    "BOOKS",
    "CAFE",
    "PHARMACY",
    "FLORIST",
    "HOTEL",
    "ANTIQUES",
    "TAILOR",
    "BARBER",
    "CLOCKS",
    "WINE BAR",
    "OPTICIAN",
    "RECORDS",
    "SHOES",
    "CHEESE",
    "TOBACCO",
    "CERAMICS",
    "BISTRO",
    "JEWELLER",
    "TOYS",
    "TEA ROOM",
    "GALLERY",
    "HARDWARE",
    "STATIONER",
    "BUTCHER",
    "BICYCLES",
    "MUSIC",
    "FABRICS",
    "PIZZERIA",
    "BANK",
    "POST",
    "ROASTERY",
]
STARTS = [
    "Al",
    "Ber",
    "Cor",
    "Dor",
    "El",
    "Fal",
    "Gar",
    "Hol",
    "Ing",
    "Jor",
    "Kes",
    "Lan",
    "Mar",
    "Nor",
    "Ost",
    "Pel",
    "Ros",
    "Sten",
    "Tol",
    "Ul",
    "Ver",
    "Wen",
    "Zan",
    "Brun",
    "Krau",
    "Lind",
    "Schel",
    "Thal",
]
MIDDLES = ["", "", "de", "ga", "mi", "ne", "ri", "sa", "te", "vo", "ber", "len", "man"]
ENDS = [
    "berg",
    "dorf",
    "feld",
    "hof",
    "horst",
    "ker",
    "mann",
    "ner",
    "rath",
    "sen",
    "stein",
    "tal",
    "wald",
    "ler",
    "ini",
    "ard",
]
POSTER_WORDS = [
    "CONCERT",
    "MARKET",
    "OPEN AIR",
    "CIRCUS",
    "THEATRE",
    "JAZZ",
    "MUSEUM",
    "CINEMA",
    "FESTIVAL",
    "OPERA",
    "SALE",
    "LOST CAT",
    "FOR RENT",
    "DANCE",
    "LECTURE",
    "BAZAAR",
    "RUN 10 K",
    "CHOIR",
]


def surname(rng: np.random.Generator) -> str:
    return str(rng.choice(STARTS)) + str(rng.choice(MIDDLES)) + str(rng.choice(ENDS))


def shop_sign(rng: np.random.Generator) -> str:
    trade = str(rng.choice(TRADES))
    name = surname(rng)
    style = rng.integers(0, 4)
    if style == 0:
        return f"{trade} {name}"
    if style == 1:
        return f"{name} & {surname(rng)}"
    if style == 2:
        return f"{name.upper()} {trade}"
    return f"{trade} {int(rng.integers(2, 99))}" if rng.random() < 0.3 else f"{name}'s {trade}"
