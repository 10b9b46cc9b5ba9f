"""The corpora of emotion EEG that omfa reads: who gives each, on which terms, and the command.

Terms change: what stands here was read in 2026 and binds nobody; the giver's own page does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

EGI = (
    "--names-by-position --alias E22=Fp1 E9=Fp2 E33=F7 E24=F3 E11=Fz E124=F4 E122=F8 E45=T7 E36=C3 "
    "E104=C4 E108=T8 E58=P7 E52=P3 E62=Pz E92=P4 E96=P8 E70=O1 E75=Oz E83=O2"
)
"""How the channels of EGI's nets of 128 and 129 get names: 10-20 equivalents, the rest by place."""


USUAL_TARGETS = {
    "seed": "emotion",
    "seed-iv": "emotion",
    "seed-v": "emotion",
    "seed-vii": "emotion",
    "faced": "emotion",
    "thu-ep": "emotion",
    "eav": "emotion",
    "deap": "valence>5",
    "dreamer": "valence>3",
    "amigos": "valence>5",
    "mahnob-hci": "valence>5",
}
"""The target of each dataset where none is given. Where a corpus comes with classes, these; of a
rating the middle of the scale itself counts as low, which is our choice.
"""


@dataclass(frozen=True)
class Corpus:
    """A corpus.

    Attributes
    ----------
    name : str
        What a store of it is called, and what ``omfa-ingest corpora NAME`` finds.
    people : int or None
        None where we have not read it.
    holds : str
        Channels, what was shown, labels.
    giver, licence : str
        Who gives it, and its terms in a few words.
    form : bool
        Whether a form has to be signed or an account be given.
    address : str
        Its page.
    arguments : tuple of str
        What stands behind ``omfa-ingest``, a command each; RAW is the folder that it was unpacked
        to.
    note : str
        What is to be known before.
    """

    name: str
    people: int | None
    holds: str
    giver: str
    licence: str
    form: bool
    address: str
    arguments: tuple[str, ...]
    note: str = ""

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that read it."""
        return tuple(f"omfa-ingest {each}" for each in self.arguments)


def _openneuro(
    number: str,
    people: int | None,
    holds: str,
    options: str,
    *,
    note: str = "",
    licence: str = "CC0",
) -> Corpus:
    """Return an open BIDS set of OpenNeuro."""
    return Corpus(
        number,
        people,
        holds,
        "OpenNeuro",
        licence,
        form=False,
        address=f"https://openneuro.org/datasets/{number}",
        arguments=(f"bids RAW {number}.zarr --name {number} {options}".rstrip(),),
        note=note,
    )


_BCMI = "https://bcmi.sjtu.edu.cn/home/seed/"
_BCMI_TERMS = "academic, not to be passed on"

CORPORA: tuple[Corpus, ...] = (
    Corpus(
        "seed",
        15,
        "62 channels, 15 films, 3 sessions; positive, neutral, negative",
        "BCMI, Shanghai Jiao Tong University",
        _BCMI_TERMS,
        True,
        _BCMI,
        ("seed RAW seed.zarr", "seed RAW seed.zarr --variant raw"),
    ),
    Corpus(
        "seed-iv",
        15,
        "62 channels, 72 films in 3 sessions; neutral, sad, fear, happy",
        "BCMI, Shanghai Jiao Tong University",
        _BCMI_TERMS,
        True,
        _BCMI,
        ("seed-iv RAW seed-iv.zarr",),
    ),
    Corpus(
        "seed-v",
        16,
        "62 channels, 45 films in 3 sessions; disgust, fear, sad, neutral, happy",
        "BCMI, Shanghai Jiao Tong University",
        _BCMI_TERMS,
        True,
        _BCMI,
        ("seed-v RAW seed-v.zarr",),
    ),
    Corpus(
        "seed-vii",
        20,
        "62 channels, 80 films in 4 sessions; seven emotions, also continuous",
        "BCMI, Shanghai Jiao Tong University",
        _BCMI_TERMS,
        True,
        _BCMI,
        ("seed-vii RAW seed-vii.zarr", "seed-vii RAW seed-vii.zarr --variant raw"),
    ),
    Corpus(
        "deap",
        32,
        "32 channels, 40 music videos; ratings of valence, arousal, dominance",
        "Queen Mary University of London",
        "academic, not to be passed on",
        True,
        "https://www.eecs.qmul.ac.uk/mmv/datasets/deap/",
        ("deap RAW deap.zarr", "deap RAW deap.zarr --variant raw --reference average"),
    ),
    Corpus(
        "dreamer",
        23,
        "14 channels, 18 films; ratings of valence, arousal, dominance",
        "Zenodo",
        "research, on request",
        True,
        "https://zenodo.org/records/546113",
        ("dreamer RAW dreamer.zarr",),
    ),
    Corpus(
        "faced",
        123,
        "32 channels, 28 films; nine emotions, and twelve ratings",
        "Synapse",
        "an account; see its terms",
        True,
        "https://www.synapse.org/Synapse:syn50614194",
        ("faced RAW faced.zarr",),
        "The same recordings are open as nm000112.",
    ),
    Corpus(
        "mahnob-hci",
        27,
        "32 channels, 20 films; felt emotion, valence, arousal, control",
        "Imperial College London",
        "academic, an agreement",
        True,
        "https://mahnob-db.eu/",
        ("mahnob-hci RAW mahnob-hci.zarr --reference average",),
    ),
    Corpus(
        "amigos",
        40,
        "14 channels, 16 short and 4 long films; ratings of 12 kinds",
        "Queen Mary University of London",
        "academic, an agreement",
        True,
        "https://www.eecs.qmul.ac.uk/mmv/datasets/amigos/",
        ("amigos RAW amigos.zarr",),
    ),
    Corpus(
        "thu-ep",
        80,
        "32 channels, 28 films; nine emotions, and twelve ratings",
        "Tsinghua University",
        "on request",
        True,
        "https://arxiv.org/abs/2109.09559",
        ("thu-ep RAW thu-ep.zarr",),
    ),
    Corpus(
        "eav",
        42,
        "30 channels, conversation, heard or spoken; five emotions",
        "Zenodo",
        "see its page",
        False,
        "https://doi.org/10.5281/zenodo.10205702",
        ("eav RAW eav.zarr",),
        "Its files do not name the channels: the order is that which two of its users have, and "
        "--channels takes another.",
    ),
    Corpus(
        "nm000112",
        123,
        "FACED as BIDS: 32 channels, 28 films; nine emotions, ratings",
        "NEMAR",
        "CC BY 4.0",
        False,
        "https://nemar.org/dataexplorer/detail?dataset_id=nm000112",
        ("bids RAW nm000112.zarr --name nm000112 --events-by emotion_label",),
        "31 GB.",
    ),
    _openneuro(
        "ds005540",
        59,
        "EmoEEG-MC: 64 channels, films and imagination; seven emotions",
        "--events-from annotations",
        note="47 GB. What a trigger stands for differs between people: its README lists it. For "
        "emotions make a table of that list and give it to `files`, --labels-from trials.tsv.",
    ),
    _openneuro(
        "ds002721",
        31,
        "19 channels, 40 pieces of music; ratings of affect",
        '--task "run[2-5]" --events 788=music',
        licence="CC0, by its README CC BY 4.0",
    ),
    *(
        _openneuro(
            number,
            people,
            "19 channels, music made for a targeted affect; nine classes of valence and arousal",
            "--duration 20 --events 1=LVLA 2=NVLA 3=HVLA 4=LVNA 5=NVNA 6=HVNA 7=LVHA 8=NVHA 9=HVHA",
            licence="CC0, by its README CC BY 4.0",
        )
        for number, people in (("ds002722", 19), ("ds002723", 8), ("ds002724", 10))
    ),
    _openneuro(
        "ds002725",
        None,
        "EEG in a scanner, music; reported affect",
        '--task "genMusic*" --events-from none',
    ),
    _openneuro(
        "ds003751",
        38,
        "DENS: 128 channels, films; the moment at which an emotion is felt",
        "--events stm=film --events-unit ms --duration 15 --montage GSN-HydroCel-128 " + EGI,
        note="4.7 GB. Ratings are in beh/, which BIDS does not join.",
    ),
    _openneuro(
        "ds003774",
        None,
        "MUSIN-G: 128 channels, 12 songs of several cultures; familiarity, enjoyment",
        f"--events-from none --montage GSN-HydroCel-129 {EGI} E129=Cz",
    ),
)
"""All of them, those with a reader of their own first."""


def table(corpora: Sequence[Corpus]) -> str:
    """Return a line per corpus under a head, in columns."""
    rows = [("name", "people", "form", "terms", "what it holds")]
    rows += [
        (c.name, str(c.people or ""), "form" if c.form else "open", c.licence, c.holds)
        for c in corpora
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def markdown() -> str:
    """Return the tables and commands of ``docs/corpora.md``."""
    parts = []
    for title, form in (("Without a form", False), ("With a form or an account", True)):
        chosen = [corpus for corpus in CORPORA if corpus.form is form]
        lines = [
            f"## {title}",
            "",
            "| name | people | holds | given by | terms |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| [{c.name}]({c.address}) | {c.people or ''} | {c.holds} | {c.giver} | {c.licence} |"
            for c in chosen
        ]
        for corpus in chosen:
            lines += ["", f"**{corpus.name}.** {corpus.note}".rstrip(), "", "```bash"]
            lines += [_folded(command) for command in corpus.commands]
            lines += ["```"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _folded(command: str) -> str:
    """Break a long command into lines that a shell reads as one."""
    if len(command) <= 110:
        return command
    options = re.split(r" (?=--)", command)
    lines, line = [], options[0]
    for option in options[1:]:
        if len(line) + len(option) > 105:
            lines.append(line)
            line = f"   {option}"
        else:
            line = f"{line} {option}"
    return " \\\n".join([*lines, line])
