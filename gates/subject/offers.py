"""What a subject hands over, and what remains unproved without the rest. Nothing of it is imported to find out."""

from collections.abc import Mapping

from gates.subject import source
from honestloop.description import Description, Level

UNPROVED: Mapping[str, str] = {
    "resume": "that a run that was interrupted goes on as if it had not been",
    "{stop_after}": "that it stops where it is told to, and goes on from there",
    "resume with {stop_after}": "the updates of its run after the first ones: none can be made again",
    "adapter": "its functions, case by case",
    "checkpoints with parameters and moments": "the optimizer, the rate, the decay and the clipping of its updates",
    "logits and loss": "its perplexity, causality and padding, and that its gradients are those of its loss",
    "masks": "its updates with dropout: those that are replayed are trained without",
    "rows": "that the loss and the gradient are those of the rows it names, unless its log names them",
    "the model, corpus and files of phase 18": "every number of the run, by the oracles",
}


def not_offered(description: Description, adapter: str | None) -> dict[str, str]:
    """What is not offered -> what that leaves unproved."""
    level = description.level
    missing = {
        "resume": level < Level.PHASE_18 and not description.offers("resume"),
        "{stop_after}": level < Level.PHASE_18 and not _stops(description),
        "resume with {stop_after}": not _made_again(description),
        "adapter": adapter is None,
        "checkpoints with parameters and moments": level < Level.RECORD,
        "logits and loss": level < Level.MODEL,
        "masks": level == Level.PHASE_18
        and description.conventions.generator == "own"
        and not description.offers("masks"),
        "rows": level == Level.MODEL and not description.offers("rows"),
        "the model, corpus and files of phase 18": level < Level.PHASE_18,
    }
    return {name: UNPROVED[name] for name, is_missing in missing.items() if is_missing}


def left_out(description: Description) -> frozenset[str]:
    """The checks, "gate/check", that cannot be made without what is not offered."""
    resumes = description.offers("resume")
    missing = {
        "stop": not resumes or not _stops(description),
        **dict.fromkeys(("terminate", "kill", "events"), not resumes),
    }
    unasked = {f"interruption/{check}" for check, is_missing in missing.items() if is_missing}
    if not _made_again(description):
        unasked |= {"record/own_line", "record/late"}
    return frozenset(unasked)


def can_be_made_again(description: Description) -> bool:
    """Whether updates of a run can be made again: it can be resumed, and both commands stop where they are told to."""
    return all(
        description.offers(verb) and "stop_after" in description.placeholders(verb)
        for verb in ("train", "resume")
    )


def _made_again(description: Description) -> bool:
    """Whether updates of its run can be made again, wherever its level asks for it."""
    return description.level not in (Level.RECORD, Level.MODEL) or can_be_made_again(description)


def _stops(description: Description) -> bool:
    return description.offers("train") and "stop_after" in description.placeholders("train")


def adapter_of(description: Description) -> str | None:
    """The module that the properties grade: the one that is declared, or NAME.adapter; None if there is none."""
    if description.adapter is not None:
        return description.adapter
    if description.module is None:
        return None
    name = f"{description.module}.adapter"
    file, folders = source.find(name, source.search_path(description.folder))
    return name if file or folders else None
