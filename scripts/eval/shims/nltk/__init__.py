"""What RULER's generator asks of NLTK: sentences, by the same trained model, without a download."""
