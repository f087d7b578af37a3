"""Whether models and metrics fit the data, seen on a few real samples before anything is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.data.batches import batches
from limbeck.data.data import Data
from limbeck.data.scenes import SceneSplit
from limbeck.data.split import Split
from limbeck.errors import DataError, LimbeckError, ModelError
from limbeck.evaluation.names import check_metric, title
from limbeck.evaluation.predict import predict
from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.teachers import check_logits


def a_few(split: Split) -> Split:
    """At most 32 samples of a split, to see what a model says; the split itself where it can not be divided.

    Of patches, whose pixels have labels, 4.
    """
    count = 4 if isinstance(split, SceneSplit) else 32
    return split.subset(torch.arange(min(count, len(split)))) if split.replayable else split


def some_inputs(split: Split) -> Tensor:
    """Inputs of a few samples, as a batch has them before any preparation."""
    return next(iter(batches(a_few(split), batch_size=32, shuffle=False))).inputs


def check_fits(module: nn.Module, candidate: Candidate, data: Data) -> None:
    """See that a module takes the data and gives one logit for each class, on 32 real samples.

    Raises:
        ModelError: if it does not, or ends in a softmax.
    """
    shape = candidate.preparation.shape(data.shape)
    try:
        logits, _ = predict(module, candidate.preparation, a_few(data.validation))
    except LimbeckError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise ModelError(
            f"model '{candidate.name}' does not take inputs of shape {shape}: {str(error).splitlines()[0]}",
            cure="choose a model for this input size and number of channels, or set its input_size",
        ) from None
    check_logits(logits, f"model '{candidate.name}'", len(data.classes))
    expected = (*shape[1:],) if isinstance(data.train, SceneSplit) else ()
    if tuple(logits.shape[2:]) != expected:
        raise ModelError(
            f"model '{candidate.name}' gives logits of shape {tuple(logits.shape[1:])} for inputs of shape {shape}, "
            f"expected {(len(data.classes), *expected)}",
            cure="for masks take a model of segmentation, whose logits have its input's height and width, and for "
            "samples with one label a classifier",
        )


def check_metrics(experiment: Experiment, selecting: list[str]) -> None:
    """See that the metrics that models are selected and compared by are defined on the splits they are needed on.

    Args:
        experiment: with its task.
        selecting: metrics that choose an epoch.

    Raises:
        RecipeError: if one needs a positive class, or there is no such metric.
        DataError: if a split lacks a class that one needs.
    """
    data, task = experiment.data, experiment.task
    if task.dense:
        for metric in selecting:
            check_metric(metric, data.classes, None, key="select", dense=True)
        return
    for metric in selecting:
        check_metric(metric, data.classes, task.positive, key="select")
    for split, metrics in ((data.validation, [task.primary, *selecting]), (data.test, [task.primary])):
        found = task.quick((torch.zeros(len(split), len(data.classes)), split.targets), metrics)
        for metric in metrics:
            if found[metric] is None:
                present = {data.classes[label] for label in split.targets[split.targets >= 0].tolist()}
                missing = [one for one in data.classes if one not in present]
                raise DataError(
                    f"{title(metric)} is not defined on split '{split.name}', which has no sample of class "
                    f"{', '.join(missing[:5])}",
                    cure="divide by class, or choose another metric",
                )


__all__ = ["a_few", "check_fits", "check_metrics", "some_inputs"]
