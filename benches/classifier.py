"""Compare the classifier of the softmax family with logistic regression, on sets that need no download.

    python benches/classifier.py [--quick] [--json FILE]

digits: scikit-learn's 1797 images of 10 classes. topics: paragraphs of the help texts that ship with Python, by words,
of which topic each is: all topics with 15 paragraphs and more. Half of the rows are for the test. C is 1 for the
images, 30 for the words. The log-loss of exact zeros is infinite: they count as the smallest positive float64, and how
often the class that was right had one is told.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from softmaxfam_rs.sklearn import SoftmaxFamilyClassifier

console = Console(width=130)


def digits() -> tuple[Any, Any]:
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def paragraphs() -> tuple[Any, Any]:
    found = [
        (paragraph, topic)
        for topic, text in sorted(topics.items())
        for paragraph in re.split(r"\n\s*\n", text)
        if len(paragraph.split()) > 8
    ]
    counts = Counter(topic for _, topic in found)
    found = [pair for pair in found if counts[pair[1]] >= 15]
    texts, labels = zip(*found, strict=True)
    return TfidfVectorizer(sublinear_tf=True).fit_transform(texts), np.array(labels)


def classifiers(C: float, most: int) -> dict[str, Any]:
    options = {"C": C, "max_iter": most}
    return {
        "LogisticRegression": LogisticRegression(**options),
        "cross_entropy": SoftmaxFamilyClassifier("cross_entropy", **options),
        "entmax, alpha 1.25": SoftmaxFamilyClassifier(alpha=1.25, **options),
        "entmax, alpha 1.5": SoftmaxFamilyClassifier(**options),
        "sparsemax": SoftmaxFamilyClassifier("sparsemax", **options),
        "normmax, alpha 2": SoftmaxFamilyClassifier("normmax", alpha=2.0, **options),
    }


def measured(classifier: Any, X: Any, y: Any, X_test: Any, y_test: Any) -> dict[str, float]:
    start = time.perf_counter()
    classifier.fit(X, y)
    seconds = time.perf_counter() - start
    p = classifier.predict_proba(X_test)
    ids = np.searchsorted(classifier.classes_, y_test)
    own = p[np.arange(len(ids)), ids]
    target = np.eye(p.shape[1])[ids]
    return {
        "accuracy": float((p.argmax(axis=1) == ids).mean()),
        "log-loss": float(-np.log(np.maximum(own, np.finfo(float).tiny)).mean()),
        "zero for the right class": float((own == 0).mean()),
        "Brier": float(((p - target) ** 2).sum(axis=1).mean()),
        "classes > 0": float((p > 0).sum(axis=1).mean()),
        "seconds to fit": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few iterations: a test of the bench itself")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    record = {}
    for name, (rows, labels), C in (("digits", digits(), 1.0), ("topics", paragraphs(), 30.0)):
        X, X_test, y, y_test = train_test_split(rows, labels, test_size=0.5, random_state=0, stratify=labels)
        title = f"{name}: {X.shape[0]} rows, {X.shape[1]} features, {len(set(y))} classes"
        table = Table(title=title)
        found = {
            kind: measured(classifier, X, y, X_test, y_test)
            for kind, classifier in classifiers(C, 3 if options.quick else 1000).items()
        }
        for column in ("", *next(iter(found.values()))):
            table.add_column(column, justify="right" if column else "left")
        for kind, figures in found.items():
            table.add_row(kind, *(f"{figure:.3f}" for figure in figures.values()))
        console.print(table)
        record[title] = found
    if options.json:
        options.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore", message=".*converge")
    main()
