"""The eight tasks: what each asks of a picture, what it keeps of the answer, and how that is judged.

What is kept (the evidence) is small and plain: counts and boxes, not maps. Figures, thresholds and balances are
computed from it afterwards, and from the evidence of several processes together.
"""

from collections.abc import Mapping
from functools import partial

from .objectwise import (
    ask_counted,
    ask_described,
    judge_counting,
    judge_detection,
    judge_grounding,
    weigh_counting,
    weigh_detection,
    weigh_grounding,
)
from .pixelwise import (
    ask_expressions,
    judge_referring,
    judge_semantic,
    weigh_referring,
    weigh_semantic,
)
from .task_steps import Task, ask_classes
from .wordwise import (
    judge_captions,
    judge_multi_label,
    judge_single_label,
    weigh_caption,
    weigh_labels,
)

__all__ = ["TASKS"]

OF_OBJECTS = frozenset({"classes", "thresholds", "contours", "cases"})
OF_LABELS = frozenset({"classes", "thresholds", "balances", "cases"})

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(name="referring", figure="oIoU", ask=ask_expressions, weigh=weigh_referring,
             judge=judge_referring, square=True, reads=frozenset({"classes", "cases"}), by_class=False),
        Task(name="semantic", figure="mIoU", ask=ask_classes, weigh=weigh_semantic,
             judge=judge_semantic, square=True, reads=frozenset({"classes", "cases"})),
        Task(name="detection", figure="AP50", ask=ask_classes, weigh=weigh_detection, judge=judge_detection,
             reads=OF_OBJECTS),
        Task(name="oriented", figure="AP50", ask=ask_classes, weigh=partial(weigh_detection, oriented=True),
             judge=partial(judge_detection, oriented=True), reads=OF_OBJECTS),
        Task(name="grounding", figure="AP50", ask=ask_described, weigh=weigh_grounding,
             judge=judge_grounding, reads=frozenset({"thresholds", "cases"}), by_class=False),
        Task(name="multi-label", figure="accuracy", ask=ask_classes, weigh=weigh_labels,
             judge=judge_multi_label, reads=OF_LABELS),
        Task(name="single-label", figure="accuracy", ask=ask_classes, weigh=weigh_labels,
             judge=judge_single_label, reads=OF_LABELS),
        Task(name="counting", figure="accuracy", ask=ask_counted, weigh=weigh_counting, judge=judge_counting,
             reads=OF_OBJECTS),
        Task(name="captioning", figure="CIDEr-D", ask=ask_classes, weigh=weigh_caption, judge=judge_captions,
             reads=frozenset({"classes"})),
    )
}  # fmt: skip
"""The tasks by name; detection is there twice, with upright and with turned boxes."""
