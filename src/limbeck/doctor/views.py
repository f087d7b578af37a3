"""Findings about the views that a student sees again and again, because the teacher's outputs for them are stored."""

from __future__ import annotations

from limbeck.doctor.finding import Finding

FEW, OFTEN = 4, 10  # fewer views of a sample, each seen more often than this, are told


def few_views(views: int, epochs: int, *, changing: bool) -> list[Finding]:
    """A store that takes from the augmentation what it is for: ``store_few_views``.

    A warning where a sample has a single view, so that the student sees the same picture in every epoch though it has
    augmentation; an info for 2 or 3. Both from more than 10 epochs a view on. The more views a student and its teacher
    see together, the better the student follows its teacher where no training sample lies (function matching: Beyer et
    al., 2022, arXiv:2106.05237).

    Args:
        views: that are stored of each sample.
        epochs: of the student.
        changing: whether the student's views change a sample at all.

    Example:
        >>> found = few_views(1, 40, changing=True)[0]
        >>> found.severity, found.message
        ('warning', 'the store has 1 view of each sample, which is seen 40 times: augmentation shows nothing new')
        >>> few_views(1, 40, changing=False), few_views(16, 300, changing=True)
        ([], [])
    """
    times = epochs / views
    if not changing or views >= FEW or times <= OFTEN:
        return []
    seen = f"{times:.0f} times"
    text = f"the store has {views} views of each sample, each of which is seen {seen} in {epochs} epochs"
    if views == 1:
        text = f"the store has 1 view of each sample, which is seen {seen}: augmentation shows nothing new"
    evidence = {"views": views, "epochs": epochs, "times_a_view": times}
    cause = "fewer views make a smaller store; the student learns these pictures by heart, its control too"
    cure = (
        "store more views, such as store: {views: 16}, or ask the teacher at every step (limbeck plan tells the cost)"
    )
    return [Finding("store_few_views", "warning" if views == 1 else "info", text, evidence, cause, cure)]


__all__ = ["few_views"]
