"""Publishing a checkpoint: a folder to serve, its README for Hugging Face, its registry entry.

The output depends on the checkpoint alone, so that publishing again changes nothing.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omfa.pipeline.errors import DataError, DataWarning
from omfa.pipeline.writing import write_whole
from omfa.zoo.checkpoints.cards import CARD, FILES, README, Card, checked_name
from omfa.zoo.checkpoints.downloads import (
    PACKAGE,
    REGISTRY,
    Entry,
    check_source,
    described,
    enter,
    find,
    read_registry,
    registry_text,
)
from omfa.zoo.checkpoints.folder import build, locate, obtain, write_files
from omfa.zoo.estimators.settings import LOGISTIC, RANDOM, SCRATCH

if TYPE_CHECKING:
    from omfa.zoo.evaluation.results import Result

METRIC = "balanced_accuracy"
"""The metric that a card reports of each result."""

PACKAGED_AT_MOST = 16_000_000
"""Largest size in bytes of all checkpoints together that are installed with the package."""

HUB_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "cc0-1.0"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "odc-by", "odbl"),
)
"""Licences that Hugging Face has a name for; any other is given to it as ``other``."""

USE = {
    "pretrained": "A start for fine-tuning on labelled EEG, and features of single EEG channels.",
    "finetuned": "Research on the task of the recipe, on signals like those it saw.",
}
LIMITS = {
    True: "It saw simulated signals: for tests and tutorials, and for no statement about people.",
    False: "For research. Not for diagnosis, nor for decisions about people. What it says of "
    "people, devices and tasks other than those it saw has to be measured first.",
}


def publish(
    name_or_folder: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    sources: Sequence[str] = (),
    registry: str | Path | None = None,
    licence: str | None = None,
    use: str | None = None,
    limits: str | None = None,
    attributions: Mapping[str, str] | None = None,
    results: Sequence[Result] | None = None,
) -> str:
    """Write a folder that any web server, or a Hugging Face repository, can serve.

    Parameters
    ----------
    name_or_folder : str or path
        The checkpoint, or the run that made it.
    out : path
        The folder to write: the checkpoint's three files, ``README.md`` and ``checkpoints.toml``.
    name : str, optional
        The name to publish it under. By default the card's.
    sources : sequence of str
        Where others will find the folder, in the order to try: ``"https://host/NAME"``,
        ``"hf://owner/repository@revision"``. A folder in omfa's own ``zoo/weights`` is also found
        in the package, and is entered in omfa's own registry.
    registry : path, optional
        A ``checkpoints.toml`` to enter the checkpoint in; it is made if there is none. Without
        ``sources`` the entry's source is the folder itself.
    licence, use, limits : str, optional
        Text that replaces the card's. A checkpoint of a run has no licence yet: one must be given.
    attributions : mapping, optional
        The attribution that the data's terms ask for, by the dataset's name.
    results : sequence of Result, optional
        Results of ``evaluate`` that replace the card's: from this checkpoint, from scratch, and
        of other models to compare with. Results of one model that differ by seed are averaged.

    Returns
    -------
    str
        The entry for a ``checkpoints.toml``.

    Raises
    ------
    DataError
        If the checkpoint cannot be read, its card lacks a fact that its users need, or the folder
        holds something else, or the registry is damaged.
    """
    from omfa.zoo.checkpoints.folder import digest

    out = Path(out)
    files = obtain(name_or_folder)
    doing = f"Publishing the checkpoint {name_or_folder}"
    # Any rate: a model that is given none warns, and only the weights matter here.
    model = build(files, {"sfreq": 128.0}, doing=doing)
    card = Card.from_json(files[CARD])
    name = checked_name(name or card.name, doing)
    for dataset, text in (attributions or {}).items():
        if dataset not in [part["dataset"] for part in card.saw]:
            raise DataError(doing, f"it did not see {dataset}", f"It saw {card.datasets}")
        saw = [
            {**part, "attribution": text} if part["dataset"] == dataset else part
            for part in card.saw
        ]
        card = replace(card, saw=saw)
    weights = digest(model)
    if results and (gone := _missing_controls(results, weights)):
        warnings.warn(
            f"{doing}: beside its results there is no {' and no '.join(gone)}, so that they do not "
            "show what pre-training is worth. Evaluate these on the same folds too.",
            DataWarning,
            stacklevel=2,
        )
    card = replace(
        card,
        name=name,
        licence=licence or card.licence,
        use=use or card.use or USE[card.stage],
        limits=limits or card.limits or LIMITS[card.simulated],
        results=card.results if results is None else _rows(results, name, weights),
    )
    if not card.licence:
        raise DataError(
            doing,
            "it has no licence, and whoever trained it decides on one",
            "Name it by its SPDX identifier: --licence cc-by-4.0, bsd-3-clause, ...",
        )
    if missing := _missing(card):
        raise DataError(doing, f"its card lacks {', '.join(missing)}", "Complete its card.json")
    files = {**files, CARD: card.to_json().encode()}
    packaged = out.resolve().parent == (PACKAGE / "weights").resolve()
    places = (*(["package"] if packaged else []), *map(check_source, sources))
    if packaged and registry is None:
        registry = PACKAGE / REGISTRY
    if registry is not None and not places:
        places = (out.resolve().as_uri(),)
    entry = Entry(card, places, {file: described(files[file]) for file in FILES})
    if packaged:
        _check_size(entry, doing)
    text = registry_text({card.name: entry})
    write_files(out, {**files, README: readme(entry).encode(), REGISTRY: text.encode()})
    if registry is not None:
        # Last: an entry must not name a folder that is not there yet.
        enter(Path(registry), entry)
    return text


def _missing(card: Card) -> list[str]:
    needed = ("unit", "sfreq", "channels", "window_seconds")
    missing = [f"input.{name}" for name in needed if not card.input.get(name)]
    return (
        missing + ["saw"] * (not card.saw) + ["recipe.command"] * (not card.recipe.get("command"))
    )


def _check_size(entry: Entry, doing: str) -> None:
    others = [e for name, e in read_registry(PACKAGE / REGISTRY).items() if name != entry.card.name]
    size = entry.size + sum(other.size for other in others if "package" in other.sources)
    if size > PACKAGED_AT_MOST:
        raise DataError(
            doing,
            f"the package would hold {size / 1e6:.1f} MB of checkpoints, of at most "
            f"{PACKAGED_AT_MOST / 1e6:g}",
            "Publish it into another folder, and give its --source",
        )


def _missing_controls(results: Sequence[Result], weights: str) -> list[str]:
    """Name the controls that some results from these weights have no row of."""

    def control(result: Result) -> str:
        how = result.config["parameters"]
        fitted = how.get("freeze") != "encoder" and how.get("head") != LOGISTIC
        # Before it had a name of its own, the first control was omfa:scratch, frozen.
        return RANDOM if result.estimator == SCRATCH and not fitted else result.estimator

    places = {_place(r) for r in results if _started_from(r, weights)}
    found = [{control(r) for r in results if _place(r) == place} for place in sorted(places)]
    return [name for name in (RANDOM, SCRATCH) if not all(name in here for here in found)]


Place = tuple[str, str, str, str]
"""Data, protocol, rule and windows: what results are compared within."""


def _place(result: Result) -> Place:
    return result.data, result.label, str(result.config["rule"]), result.windows


def _started_from(result: Result, weights: str) -> bool:
    return (result.config.get("checkpoint") or {}).get("weights") == weights


def _rows(results: Sequence[Result], name: str, weights: str) -> list[dict[str, Any]]:
    """Average results over seeds: a card's row for each model under each protocol.

    The score of always choosing the most frequent class is a row too. A result that started from
    the weights with the digest ``weights`` is named after the checkpoint ``name``, even if the
    checkpoint had another name when it was evaluated.
    """
    from omfa.zoo.evaluation.results import by_subject, interval_of, per_trial, seeds_in_words

    # Only seeds are averaged: another task, window or setting is another row.
    groups: dict[Place, dict[tuple[str, str], list[Result]]] = {}
    for result in results:
        models = groups.setdefault(_place(result), {})
        how = {k: v for k, v in result.config["parameters"].items() if k != "checkpoint"}
        key = _model(result, name, weights), json.dumps(how, sort_keys=True, default=str)
        models.setdefault(key, []).append(result)
    rows = []
    for (data, protocol, *about), models in groups.items():
        task = ", ".join(filter(None, about))
        shared = {"dataset": data, "protocol": protocol, "metric": METRIC}
        for (model, _), seeds in models.items():
            subjects = by_subject(seeds)
            low, high = interval_of(seeds, METRIC)
            scores = {"score": subjects[METRIC].mean(), "low": low, "high": high}
            trials = subjects[per_trial(METRIC)].mean()
            epochs = seeds[0].config["parameters"].get("epochs")
            note = (
                f"{len(subjects)} subjects, {seeds_in_words(seeds)}, {trials:.3f} per trial, "
                f"classes by {task}" + f", {epochs} epochs" * (epochs is not None)
            )
            # Of one subject there is no interval.
            known = {key: float(value) for key, value in scores.items() if math.isfinite(value)}
            rounded = {key: round(value, 4) for key, value in known.items()}
            rows.append({**shared, "model": model, **rounded, "note": note})
        majority = round(float(subjects[f"majority_{METRIC}"].mean()), 4)
        note = f"classes by {task}"
        rows.append({**shared, "model": "majority", "score": majority, "note": note})
    return rows


def _model(result: Result, name: str, weights: str) -> str:
    checkpoint, parameters = result.config.get("checkpoint"), result.config["parameters"]
    if parameters.get("head") == LOGISTIC:
        model = f"linear probe of {result.estimator}"
    else:
        frozen = "frozen " * (parameters.get("freeze") == "encoder")
        bare = " without connectivity" * (parameters.get("connectivity") is False)
        head = f" with head {parameters['head']}" if "head" in parameters else ""
        model = f"{frozen}{result.estimator}{head}{bare}"
    if checkpoint is None:
        return model
    start = name if _started_from(result, weights) else checkpoint["name"]
    return f"{model} from {start} ({result.config['pretraining']['kind']})"


def entry_of(name_or_folder: str | Path) -> Entry:
    """Return the registry's entry for a name, or an entry without sources for a folder."""
    if locate(name_or_folder) is None:
        return find(str(name_or_folder))
    files = obtain(name_or_folder)
    card = Card.from_json(files[CARD])
    return Entry(card, (), {file: described(files[file]) for file in FILES})


# ---------------------------------------------------------------------- the pages made from cards


def readme(entry: Entry) -> str:
    """Return the README of a published folder: Hugging Face's metadata, then the card."""
    return f"---\n{_metadata(entry.card)}\n---\n\n{describe(entry)}"


def _metadata(card: Card) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    known = card.licence.lower() in HUB_LICENCES
    data = ModelCardData(
        license=card.licence.lower() if known else "other",
        license_name=None if known else card.licence.lower(),
        library_name="omfa",
        tags=[
            *("eeg", "emotion-recognition", "braindecode", "foundation-model", card.stage),
            *(["simulated-data"] if card.simulated else []),
        ],
        model_name=card.name,
        eval_results=[
            EvalResult(
                task_type="eeg-classification",
                task_name=f"{row.get('model', 'omfa')}, {row.get('protocol', '')}".rstrip(", "),
                dataset_type=str(row.get("dataset", "unknown")),
                dataset_name=str(row.get("dataset", "unknown")),
                metric_type=str(row.get("metric", "score")),
                metric_value=row["score"],
            )
            for row in card.results
        ]
        or None,
    )
    text: str = data.to_yaml()
    return text


def _usage(card: Card, at: str) -> str:
    """Return how a checkpoint is used: one that decides answers, another is a start."""
    loaded = json.dumps(at, ensure_ascii=False)
    if not (classes := card.decision.get("classes")):
        return f"""\
```python
from omfa.zoo import load

model = load({loaded}, n_outputs=3, chs_info=raw.info["chs"], sfreq=raw.info["sfreq"])
```

From a folder, or a Hugging Face repository that it was uploaded to:
`omfa.models.OMFA.from_pretrained("FOLDER or OWNER/NAME")`.
"""
    outputs = "\n".join(f"| {i} | {name} |" for i, name in enumerate(classes))
    return f"""\
```python
from omfa.zoo import Predictor

answers = Predictor.from_checkpoint({loaded}).predict(raw)   # or the folder
answers.table                                    # a row per window, a probability per class
```

Or `omfa-zoo predict {shlex.quote(at)} RECORDING --out DIR`. To fine-tune it for other classes:
`omfa.zoo.load({loaded}, n_outputs=N)`, whose classifier is a new one.

{len(classes)} outputs, made so: {card.decision["rule"]}. Each answer is of a \
{card.decision["decision_unit"]}; logits are divided by {card.decision["temperature"]:g}.

| output | class |
|---|---|
{outputs}
"""


def describe(entry: Entry, at: str | None = None) -> str:
    """Return a checkpoint's card as a page for people, in Markdown.

    Parameters
    ----------
    entry : Entry
    at : str, optional
        The folder that loads it; by default its name does, as that of a published one.
    """
    card, signal = entry.card, entry.card.input
    simulated = (
        "**Trained on simulated signals.** It says nothing about people.\n\n"
        if card.simulated
        else ""
    )
    settings = card.recipe.get("settings") or {}
    resampled = "no other" if settings.get("resampling") == "off" else "others are resampled"
    stage = (
        "The encoder is pre-trained without labels; the classifier is not trained."
        if card.stage == "pretrained"
        else "Encoder and classifier are trained on labels."
    )
    band = _bands(signal) or "as in the source"
    saw = "\n".join(
        f"| {'simulated ' * card.simulated}{part['dataset']} | {len(part['subjects'])} | "
        f"{part.get('hours', '')} | {len(part.get('recordings', ())) or 'none'} | "
        f"{' '.join(part['subjects'])} | {part.get('attribution', '')} |"
        for part in card.saw
    )
    known = (
        "Of some subjects the card has no digests: with other data only names can be compared."
        if card.undigested
        else "By the digests in its card, the same recordings are found under any name."
    )
    results = _results([card]) if card.results else "Nothing has been measured.\n"
    files = "\n".join(
        f"| `{name}` | {size} | `{sha256}` |" for name, (sha256, size) in entry.files.items()
    )
    command = card.recipe.get("command", "")
    recipe = json.dumps({k: v for k, v in card.recipe.items() if k != "command"}, sort_keys=True)
    return f"""\
# {card.name}

{simulated}OMFA, size {card.preset}, for EEG of any channels. {stage}
Licence: {card.licence or "none yet; it is chosen when it is published"}.

## Use

{card.use or "Nobody has written what it is for yet; `omfa-zoo publish --use TEXT` does."}

{_usage(card, at or card.name)}
## Limits

{card.limits or "Not written yet; `omfa-zoo publish --limits TEXT` does."}

## Input

| | |
|---|---|
| unit | {signal.get("unit", "not stated")}, times {signal.get("scale", 1.0):g} |
| rate | {signal.get("sfreq", float("nan")):g} Hz; {resampled} |
| band | {band} |
| reference | {signal.get("reference") or "not stated"}{
        ", each recording whitened over its channels" if signal.get("whiten") else ""
    } |
| windows | {signal.get("window_seconds", float("nan")):g} s |
| channels | {" ".join(signal.get("channels", []))} |
| channel names | UCS version {card.ucs_version} |

## What it saw

| dataset | subjects | hours | recordings with digests | which | attribution |
|---|---|---|---|---|---|
{saw}

{known}

## Results

{results}
## Recipe

```
{command}
```

`{recipe}`

## Files

| file | bytes | SHA-256 |
|---|---|---|
{files}
"""


MARKS = (
    "<!-- the table: omfa-zoo list --markdown docs/checkpoints.md -->\n",
    "<!-- end of the table -->\n",
)


def write_table(path: str | Path, entries: Mapping[str, Entry]) -> None:
    """Replace what is between the marks of a Markdown file by the tables of checkpoints.

    Parameters
    ----------
    path : str or path
        The file, which must have each of ``MARKS`` once.
    entries : mapping of str to Entry
        The checkpoints by name.

    Raises
    ------
    DataError
        If the file cannot be read, or has no marks.
    """
    doing = f"Writing the table of checkpoints into {path}"
    try:
        before, rest = Path(path).read_text(encoding="utf-8").split(MARKS[0])
        after = rest.split(MARKS[1])[1]
    except (OSError, ValueError, IndexError) as error:
        found = str(error) if isinstance(error, OSError) else "its marks are not there once"
        raise DataError(doing, found, f"Put these lines in: {' '.join(MARKS)}") from error
    text = before + MARKS[0] + table(entries) + MARKS[1] + after
    write_whole(path, text)


_ASKED = re.compile(r"(classes by .*?(?:, windows of [\d.]+ s)?)(?=, \d+ epochs|$)")
"""The part of a result's note that says which classes were told apart, in which windows."""


def table(entries: Mapping[str, Entry]) -> str:
    """Return the tables of ``docs/checkpoints.md``: the checkpoints, and their results."""
    if not entries:
        return "There are none yet.\n"
    rows = "".join(
        f"| `{name}` | {entry.card.preset}, {entry.card.stage} | {entry.size / 1e6:.1f} "
        f"| {entry.card.datasets} | {_input(entry.card)} | {entry.card.licence} |\n"
        for name, entry in entries.items()
    )
    head = "| name | model | MB | saw | input it saw | licence |\n|---|---|---|---|---|---|\n"
    measured = [entry.card for entry in entries.values() if entry.card.results]
    return head + rows + ("\n" + _results(measured) if measured else "")


def _input(card: Card) -> str:
    signal = card.input
    parts = [signal.get("unit"), f"{signal['sfreq']:g} Hz" if signal.get("sfreq") else None]
    parts += [_bands(signal) or "band as in the source"]
    parts += [f"{len(signal.get('channels', []))} channels"]
    return ", ".join(part for part in parts if part)


def _bands(signal: Mapping[str, Any]) -> str:
    """Return the bands of the signals that a model learned from; nothing where they had none."""
    bands = signal.get("bands") or [signal.get("band")]
    return " and ".join(_dash(band, "Hz") for band in bands if band)


def _dash(edges: Sequence[float | None], unit: str) -> str:
    return "-".join("" if edge is None else f"{edge:g}" for edge in edges) + f" {unit}"


def _results(cards: Sequence[Card]) -> str:
    """Return a table for each checkpoint and question; what its rows share stands above it."""
    tables: dict[str, list[str]] = {}
    for card in cards:
        for row in card.results:
            note = str(row.get("note", ""))
            asked = _ASKED.search(note)
            shared = [row.get("protocol", ""), str(row.get("metric", "")).replace("_", " ")]
            shared += [asked[1]] if asked else []
            title = f"`{card.name}` on {row.get('dataset', '')}: {'; '.join(filter(None, shared))}."
            parts = (note[: asked.start()], note[asked.end() :]) if asked else (note,)
            rest = ", ".join(filter(None, (part.strip(", ") for part in parts)))
            tables.setdefault(title, []).append(
                f"| {row.get('model', '')} | {row['score']:.3f} | {_interval(row)} | {rest} |\n"
            )
    head = "| model | score | 95 % | |\n|---|---|---|---|\n"
    return "\n".join(f"{title}\n\n{head}{''.join(rows)}" for title, rows in tables.items())


def _interval(row: Mapping[str, Any]) -> str:
    if row.get("low") is None or row.get("high") is None:
        return ""
    return f"{row['low']:.3f}-{row['high']:.3f}"
