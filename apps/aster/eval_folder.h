// The folder that an evaluation writes: predictions.jsonl, and summary.json of what counts of them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "aster/status.h"
#include "eval/predictions.h"

namespace aster::cli {

// Predictions that are there, but packed, are neither shown nor gone on from.
Status CheckUnpacked(const std::string& folder);

// Prints the tables and writes summary.json. asked: the samples of this run, Prediction::Place to
// fingerprint; others count as they did before. Errors: kWorld for no predictions, for a
// summary.json of another kind and for what cannot be written.
Status ShowSummary(const std::string& folder, const std::vector<eval::Prediction>& predictions,
                   std::map<std::string, std::string> asked);

}  // namespace aster::cli
