"""Templates for cores without vectors: a kernel is a call of a routine in `targets/firmware/words`."""

from graphopt.targets.schedules.templates.words.depthwise import WordsDepthwise
from graphopt.targets.schedules.templates.words.pool import WordsPool

WORDS_TEMPLATES = (WordsDepthwise, WordsPool)

__all__ = ["WORDS_TEMPLATES"]
