"""Makes the report of an accuracy evaluation; scripts/eval-report runs it, see there.

  report.py [--no-charts] OUT DIR...

Charts need the virtual environment of bench/peers/plot.txt.
"""

import pathlib
import sys

import report_data as data
import report_page as page
import report_paper as paper
import report_places as places
import report_samples as samples
import report_sections as sections
import report_words as words
from report_page import Bullets, Heading, Text

TITLE = "What Star Attention keeps of full attention's score"


def load(folders):
    """The folders' runs, each with a name of its own for files and links."""
    runs, taken = [], set()
    for folder in folders:
        run = data.load(folder)
        stem = words.slug(f"{run.model.rsplit('.gguf', 1)[0]} {run.prompt}") or "model"
        run.name, number = stem, 2
        while run.name in taken:
            run.name, number = f"{stem}-{number}", number + 1
        taken.add(run.name)
        runs.append(run)
    return runs


def one_length(run, length):
    """All parts of one length of a run."""
    reference = run.reference_at(length)
    comparisons = {name: samples.compare(run, length, name) for name in run.settings_at(length)
                   if reference and name != reference}
    no_full = [] if reference else [Text(
        f"There is no {run.reference} at this length, so nothing says what is kept."
        if run.reference else
        "There is neither `dense` nor `llama` here, so nothing says what is kept.")]
    llama = sections.llama_line(run, length, comparisons.get("llama")) if (
        reference == "dense") else []
    return [
        Heading(3, words.length_title(length).capitalize(), sections.shared(run, length)),
        *no_full, *sections.headline(run, length), *llama, *sections.scores(run, length),
        *sections.differences(run, length), *sections.against_each_other(run, length),
        *sections.trade(run, length), *places.places(run, length),
        *places.lost(run, length, comparisons)
    ]


def one_run(run):
    n_samples = sum(len(run.samples(length, name)) for length in run.lengths
                    for name in run.settings_at(length))
    title = f"{run.model}, {run.prompt} prompts"
    parts = [
        Heading(2, title, run.name),
        Text(f"{words.counted(n_samples, 'answer', 'answers')} from `{run.folder.resolve().name}`. "
             f"Settings: {', '.join(run.settings)}. Lengths in tokens: "
             f"{', '.join(f'{length:,}' if length else 'not stated' for length in run.lengths)}.")
    ]
    for length in run.lengths:
        parts += one_length(run, length)
    return parts + places.heat(run)


def how():
    """How to read it."""
    return [
        Heading(2, "How this was computed", "how"),
        Bullets([
            "A sample's score is the share of its references that the answer holds (qa_1 and qa_2: "
            "any of them; BABILong's qa1 to qa20: whether its first sentence names the right label "
            "and no other), in whatever case. A task's score is the mean of its samples'; a domain's and "
            "overall's the mean of their tasks'.",
            "Intervals are 95 %: Agresti and Coull's for a mean, Agresti and Min's for a paired "
            "difference, as in `src/eval/statistics.h`: Wald's, after pseudo-observations were "
            "added, so that four right answers of four do not claim to be certain. What is kept is "
            "the difference over full attention's score, which its interval takes as known.",
            "Scores, intervals, differences and what is kept are those of `summary.json`, which "
            "`aster eval` wrote. What is said of single samples comes from the predictions.",
            "Differences are of the same samples under both settings.",
            "`dense`: every token sees all earlier ones. `llama`: llama.cpp's own attention. "
            "`star L/4`: a token sees the anchor and its own block, of a quarter of the length; "
            "the anchor is as long as a block where its size is not said. A window of 1 lets it "
            "see one block more, an overlap of 256 as many tokens. The query and the answer see the "
            "whole context.",
            "A seam is where one block ends and the next begins. A reference's place is its first "
            "token where it first stands in the context.",
        ])
    ]


def make(folders, out, with_charts):
    runs = load(folders)
    lead = [Text("An evaluation by `aster eval`: the same samples under full attention and under "
                 "star. Numbers in brackets are 95 % intervals."), *sections.glance(runs)]
    parts = [part for run in runs for part in one_run(run)] + paper.section(runs) + how()
    charts = [part for part in parts if isinstance(part, page.Chart)]
    images = {}
    if with_charts:
        import report_charts  # needs matplotlib
        images = {chart.name: report_charts.draw(chart) for chart in charts}
    else:
        parts = [part for part in parts if part not in charts]
    out.mkdir(parents=True, exist_ok=True)
    for name, (light, _) in images.items():
        (out / f"{name}.png").write_bytes(light)
    (out / "report.md").write_text(page.markdown_page(TITLE, lead, parts), encoding="utf-8")
    (out / "report.html").write_text(page.html_page(TITLE, lead, parts, images), encoding="utf-8")


def main():
    arguments = sys.argv[1:]
    with_charts = arguments[0] != "--no-charts"
    out, *folders = map(pathlib.Path, arguments[0 if with_charts else 1:])
    try:
        make(folders, out, with_charts)
    except (data.ReportError, OSError) as error:
        print(f"eval-report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
