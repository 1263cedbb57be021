"""Templates for cores without vectors: a kernel is a call of a routine in `targets/firmware/words`."""

from graphopt.targets.schedules.templates.words.depthwise import WordsDepthwise

WORDS_TEMPLATES = (WordsDepthwise,)

__all__ = ["WORDS_TEMPLATES"]
