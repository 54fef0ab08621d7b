"""Made-up evaluations in folders, as `aster eval` leaves them."""

import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "eval"))
import report_data  # noqa: E402

LENGTH, BLOCK = 1024, 256


def prediction(setting="dense", task="niah_single_1", index=0, **fields):
    """As `aster eval` writes it: found in full, unless fields say something else."""
    star = setting.startswith("star")
    one = {
        "model": "tiny.gguf", "prompt": "chat", "task": task, "index": index, "sample": f"s{index}",
        "length": LENGTH, "setting": setting, "attention": setting.split()[0],
        "block_size": BLOCK if star else 1000, "anchor_size": BLOCK if star else 0, "window": 0, "overlap": 0,
        "n_context": 1000, "n_query": 9, "reference_at": [300], "outputs": ["Blue"], "question": "",
        "pred": " It is blue.", "finish": "end_of_text", "encode_s": 1.0, "query_s": 0.1,
        "decode_s": 0.1, "score": 1.0
    }
    return {**one, **fields}


def row(predictions, length, setting, group, is_task):
    own = [one for one in predictions if one["length"] == length and one["setting"] == setting and
           (not is_task or one["task"] == group)]
    names = {one["setting"] for one in predictions}
    star = setting != "dense" and names & {"dense", "llama"} - {setting}
    return {
        "length": length, "setting": setting, "group": group, "is_task": is_task,
        "n_tasks": len({one["task"] for one in own}), "n_samples": len(own),
        "score": [61.5, 40.25, 80.75], "n_pairs": len(own) if star else 0,
        "difference": [-3.5, -20.0, 13.0] if star else None,
        "retention": [94.6, 69.2, 120.0] if star else None, "ttft_s": 1.1,
        "ttft_ratio": 0.75 if star else None
    }


def summary(predictions):
    """Figures of no meaning, so that a report which has them took them from here."""
    settings = dict.fromkeys((one["length"], one["setting"]) for one in predictions)
    tasks = dict.fromkeys((one["length"], one["setting"], one["task"]) for one in predictions)
    rows = [row(predictions, *task, True) for task in tasks]
    for setting in settings:
        rows += [row(predictions, *setting, group, False)
                 for group in (report_data.OVERALL, report_data.ABOVE)]
    return {"model": "tiny.gguf", "prompt": "chat", "rows": rows}


def pair_of(setting, other, **fields):
    return {"length": LENGTH, "setting": setting, "other": other,
            "group": report_data.ABOVE, "n_tasks": 1, "n_pairs": 1,
            "difference": [2.5, -1.0, 6.0], "ttft_ratio": None, **fields}


def lines(predictions):
    return "".join(json.dumps(one) + "\n" for one in predictions)


def both(**star_fields):
    return [prediction(), prediction("star L/4", **star_fields)]


class Folders(unittest.TestCase):

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.temporary = pathlib.Path(temporary.name)
        self.folder, self.out = self.temporary / "results", self.temporary / "report"
        self.folder.mkdir()

    def write(self, predictions, own_summary=None):
        (self.folder / "predictions.jsonl").write_text(lines(predictions))
        (self.folder / "summary.json").write_text(json.dumps(own_summary or summary(predictions)))
        return self.folder

    def run_of(self, predictions):
        run = report_data.load(self.write(predictions))
        run.name = "tiny-chat"
        return run
