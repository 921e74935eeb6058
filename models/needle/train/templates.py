"""The wording of the tasks: RULER's templates (arXiv:2404.06654) and the demo's own question."""

from dataclasses import dataclass

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

NIAH_INTRO = (
    "Some special magic {types} are hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {types} afterwards.\n"
)
NIAH_INTRO_ONE = (
    "A special magic {type} is hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {type} afterwards.\n"
)

@dataclass(frozen=True)
class Wording:
    """A question and the first words of its answer."""

    question: str
    prefix: str


ASK_ALL = Wording(
    "What are all the special magic {types} for {keys} mentioned in the provided text?",
    " The special magic {types} for {keys} mentioned in the provided text are",
)
ASK_ONE = Wording(
    "What is the special magic {type} for {keys} mentioned in the provided text?",
    " The special magic {type} for {keys} mentioned in the provided text is",
)
ASK_ONE_ABOVE = Wording(
    "What is the special magic {type} for {keys} mentioned in the text above?",
    " The special magic {type} for {keys} mentioned in the text above is",
)

VT_INTRO = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
ASK_VARIABLES = Wording(
    "Question: Find all variables that are assigned the value {value} in the text above.",
    " Answer: According to the chain(s) of variable assignment in the text above, {count} variables "
    "are assigned the value {value}, they are: ",
)

CWE_INTRO = (
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n"
)
ASK_COMMON = Wording(
    "Question: What are the 10 most common words in the above list?",
    " Answer: The top 10 words that appear most often in the list are:",
)

FWE_INTRO = (
    "Read the following coded text and track the frequency of each coded word. Find the three most "
    "frequently appeared coded words. "
)
ASK_FREQUENT = Wording(
    "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three "
    "most frequently appeared words in the above coded text?",
    " Answer: According to the coded text above, the three most frequently appeared words are:",
)
