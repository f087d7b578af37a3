"""The page: one file that opens anywhere, offline, and runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from limbeck.evaluation.names import is_share, shown, title
from limbeck.files import write_text
from limbeck.report import cost_figures, dense, figures, numbers, scores, tables, term_figures, terms
from limbeck.report.costs import told as of_costs
from limbeck.report.read import NAMES, Found, read_run

MOST_CURVES = 10  # classes whose precision is drawn against their recall
KINDS = {
    "teacher_right": "The student is wrong, the teacher right",
    "control_right": "The student is wrong, its control right",
    "both_wrong": "Student and teacher are wrong",
    "surest_errors": "The student's surest errors",
}
METHODS = {
    "grad-cam": "Grad-CAM",
    "gradient": "the input's gradient",
    None: "no map",
}


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` from what a run folder holds.

    Raises:
        FileError: if the folder is not that of a finished run, naming the file.
    """
    found = read_run(folder)
    return write_text(Path(folder) / "report.html", page(found))


def page(found: Found) -> str:
    """The report as HTML."""
    environment = Environment(
        loader=PackageLoader("limbeck.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=numbers.percent,
        count=numbers.count,
        size=numbers.size,
        ms=numbers.milliseconds,
        points=numbers.difference,
        evidence=tables.evidence,
        unbroken=numbers.unbroken,
        shown=shown,
    )
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        found=found,
        run=found.run,
        summary=found.summary,
        models=found.summary["models"],
        roles=found.roles,
        names=NAMES,
        methods=METHODS,
        split=found.split,
        where=found.where,
        dense=found.dense,
        counted=_counted(found),
        metric=title(found.metric),
        share=is_share(found.metric),
        style=Markup(style),
        tables=_tables(found),
        slices=tables.slices(found),
        search=tables.search(found),
        figures=_figures(found),
        reliability=_reliability(found),
        curves=_precision(found),
        orderly=len(found.scored("student").get("pr") or {}),
        sampling=_sampling(found),
        trainings=_trainings(found),
        beside=_beside(found),
        costs=_costs(found),
        confusion=tables.confusion(found),
        galleries=_galleries(found),
        segments=dense.segments(found),
        findings=_findings(found),
        recipe=yaml.safe_dump(found.run["recipe"], sort_keys=False, allow_unicode=True),
    )


def _tables(found: Found) -> dict[str, Any]:
    """The tables that are shown as they are."""
    told = {name: getattr(tables, name)(found) for name in ("sizes", "epochs", "operating", "bins")}
    of_task = dense if found.dense else tables
    return {**told, "results": of_task.results(found), "per_class": dense.per_class(found) if found.dense else None}


def _counted(found: Found) -> str:
    """How much the split of comparison holds."""
    if found.dense:
        return dense.counted(found)
    return f"{numbers.count(found.summary['data']['splits'][found.split])} samples"


def _figures(found: Found) -> dict[str, Any]:
    """The drawings; matplotlib escapes the text in them."""
    drawn: dict[str, Any] = {}
    if found.curves:
        metric = found.metric if _every_epoch(found, found.metric) else "mean_iou" if found.dense else "accuracy"
        unit = ", %" if is_share(metric) else ""
        drawn["epochs"] = figures.curves(found.curves, "validation", metric, f"validation {title(metric)}{unit}")
        drawn["loss"] = figures.curves(found.curves, "train", "loss", "training loss")
    models = found.summary["models"]
    for key, text, unit in (
        ("weights_bytes", "weights on disk", "kB"),
        ("latency_ms", f"latency of one {'patch' if found.dense else 'sample'}", "ms"),
        ("macs", "multiply-accumulates", "millions"),
    ):
        scale = {"weights_bytes": 1e3, "latency_ms": 1.0, "macs": 1e6}[key]
        values = {role: models[role][key] / scale for role in found.roles if models[role][key] is not None}
        if values:
            drawn[key] = figures.bars(text, values, unit)
    change = dense.change(found) if found.dense else _recalls(found)
    if change is not None and len(found.classes) <= 2 * tables.MOST_CLASSES:
        drawn["per_class"] = figures.per_class(*change, "IoU" if found.dense else "recall")
    roc = {role: found.scored(role).get("roc") or {} for role in tables.ROLES}
    name = next((one for one in (found.positive, *roc["student"]) if one in roc["student"]), None)
    if name is not None:
        points = {role: found.scored(role).get("operating_point") or {} for role in tables.ROLES}
        drawn["roc"] = scores.roc({role: one[name] for role, one in roc.items() if name in one}, points)
    return {name: Markup(svg) for name, svg in drawn.items()}


def _every_epoch(found: Found, metric: str) -> bool:
    """Whether each epoch was judged by this metric."""
    lines = [line for seeds in found.curves.values() for one in seeds.values() for line in one]
    return all(line["validation"].get(metric) is not None for line in lines)


def _recalls(found: Found) -> tuple[list[str], list[float], list[float]] | None:
    """Names and each class's recall of control and student; None without one of them."""
    before, after = (_recall(found, role) for role in ("control", "student"))
    return (found.classes, before, after) if before and after else None


def _recall(found: Found, role: str) -> list[float]:
    """Each class's recall, mean over seeds."""
    runs = [one["selected"][found.split]["per_class"] for one in found.evaluations.get(role, [])]
    return [sum(one[at]["recall"] for one in runs) / len(runs) for at in range(len(runs[0]))] if runs else []


def _reliability(found: Found) -> list[dict[str, Any]]:
    """A diagram for each model of the seed that ships."""
    drawn = []
    for role in tables.ROLES:
        scored, one = found.scored(role), found.shipped(role)
        bins = (scored.get("reliability") or {}).get("bins")
        if one is not None and bins:
            svg = Markup(scores.reliability(role, bins, "pixels" if found.dense else "samples"))
            drawn.append({"role": role, "seed": one["seed"], "ece": scored.get("ece"), "svg": svg})
    return drawn


def _precision(found: Found) -> list[dict[str, Any]]:
    """Precision against recall: of the positive class, or of the classes that the student orders worst."""
    curves = {role: found.scored(role).get("pr") or {} for role in tables.ROLES}
    names = [found.positive] if found.positive in curves["student"] else list(curves["student"])
    names = sorted(names, key=lambda name: curves["student"][name]["average_precision"])[:MOST_CURVES]
    support = {one["class"]: one["support"] for one in found.scored("student").get("per_class", [])}
    drawn = []
    for number, name in enumerate(found.classes):
        if name in names:
            of_class = {role: one[name] for role, one in curves.items() if name in one}
            share = support[name] / sum(support.values()) if name in support else None
            drawn.append({"class": name, "svg": Markup(scores.precision_recall(number, of_class, share))})
    return drawn


def _sampling(found: Found) -> list[tuple[str, str]]:
    """By model how much the draw of the samples alone moves the metric of comparison."""
    known = {role: (found.scored(role).get("sampling") or {}).get(found.metric) for role in found.roles}
    return [(role, numbers.spread(one, found.metric)) for role, one in known.items() if one]


def _trainings(found: Found) -> list[dict[str, Any]]:
    """The terms of the objective over the epochs; figures only where there is something to compare."""
    told = []
    for one in terms.trainings(found):
        rows, declared = terms.rows(found, one), terms.declared(found, one)
        drawn = {"values": term_figures.values(one)} if len(one.names) > 1 else {}
        if len(one.names) > 1 and one.looked:
            drawn["shares"] = term_figures.shares(one, declared)
        if one.moving:
            drawn["weights"] = term_figures.weights(one)
        svgs = {name: Markup(svg) for name, svg in drawn.items()}
        part = bool(declared) and set(declared) != set(one.names)
        told.append(
            {"one": one, "rows": rows, "declared": declared, "part": part, "svg": svgs, "numbers": terms.numbers(one)}
        )
    return told


def _costs(found: Found) -> dict[str, Any] | None:
    """What the teacher cost, where the run had a store or a plan."""
    told = of_costs(found)
    if told is None:
        return None
    drawn = {}
    if told["seconds"]:
        drawn["epochs"] = cost_figures.epochs(told["seconds"], told["planned"].get("online", (None, None))[0])
    if told["planned"]:
        drawn["planned"] = cost_figures.planned(told["planned"])
    return {**told, "svg": {name: Markup(svg) for name, svg in drawn.items()}}


def _beside(found: Found) -> list[tuple[str, int]]:
    """By role how many parameters were trained beside the model that is told of."""
    told = [(role, found.beside.get((role, terms.seed_of(found, role)), {}).get("parameters")) for role in found.curves]
    return [(role, count) for role, count in told if count]


def _galleries(found: Found) -> list[dict[str, Any]]:
    """The kinds of mistakes that have pictures; folders of an older limbeck hold the first kind only."""
    items, totals = found.gallery.get("items", []), found.gallery.get("totals", {})
    kinds = []
    for kind, text in KINDS.items():
        of_kind = [one for one in items if one.get("kind", "teacher_right") == kind and one.get("data")]
        if of_kind:
            total = totals.get(kind, len(of_kind))
            kinds.append({"kind": kind, "title": text, "total": total, "items": of_kind})
    return kinds


def _findings(found: Found) -> list[tuple[str, list[dict[str, Any]]]]:
    """Findings by severity, the gravest first; fields that an older folder lacks are empty."""
    empty = {"evidence": {}, "cause": "", "cure": ""}
    every = [{**empty, **one} for one in found.summary["findings"]]
    severities = dict.fromkeys(["error", "warning", "info", *(one["severity"] for one in every)])
    groups = [(severity, [one for one in every if one["severity"] == severity]) for severity in severities]
    return [(severity, ones) for severity, ones in groups if ones]
